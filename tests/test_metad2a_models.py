"""The networks of MetaD2A against the recorded outputs of the reference modules."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

pytest.importorskip("flax", reason="flax is in the extra models")

from jaxnas.io import npz  # noqa: E402
from jaxnas.models import attention, predictor, state_dicts  # noqa: E402
from jaxnas.models.generator import gaussian_kl, generator_losses, total_loss  # noqa: E402
from jaxnas.models.graph_decoder import Uniforms, graph_nll  # noqa: E402
from jaxnas.models.graph_encoder import GraphEncoder  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation", "exact_products")
DTYPES = {"float32": np.float32, "float64": np.float64}
# Below this margin a uniform number may fall on the other side of its threshold.
MARGIN = 1e-5


@pytest.fixture(params=DTYPES)
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield DTYPES[request.param]


def in_precisions(*cases):
    """Parameters of tests: a file, more, and the precision."""
    return [(*case, name) for case in cases for name in DTYPES]


def of_files(*files):
    """Runs a test on files of recorded arrays; see `in_precisions`."""
    cases = in_precisions(*((file,) for file in files))
    return pytest.mark.parametrize(("file", "dtype"), cases, indirect=["dtype"])


class Recorded:
    """A file of recorded arrays, in one precision."""

    def __init__(self, arrays, dtype):
        self.arrays, self.dtype = arrays, dtype
        self.model = state_dicts.from_state_dict(self.group("sd/"))
        self.variables = self.cast(self.model.variables)
        self.network = self.model.network

    def group(self, prefix):
        return {
            k.removeprefix(prefix): v
            for k, v in self.arrays.items()
            if k.startswith(prefix)
        }

    def cast(self, tree):
        def one(x):
            kept = np.issubdtype(x.dtype, np.floating)
            return jnp.asarray(x, self.dtype if kept else np.int32)

        return jax.tree.map(one, tree)

    def given(self, name):
        return self.cast(self.arrays[f"in/{name}"])

    def wanted(self, name):
        return self.arrays[f"out/{name}"]

    def tasks(self):
        """Features (t, C, 20, 512) and masks (t, C, 20) of all tasks.

        Classes that a task lacks, where others have more, are padding.
        """
        if "in/x" in self.arrays:
            given = list(self.arrays["in/x"])
        else:
            given = [self.arrays[f"in/x{i}"] for i in range(3)]
        sets = [x.reshape(-1, 20, x.shape[-1]) for x in given]
        shape = len(sets), max(map(len, sets)), *sets[0].shape[1:]
        features, mask = np.full(shape, np.nan), np.zeros(shape[:3], bool)
        for i, x in enumerate(sets):
            features[i, : len(x)], mask[i, : len(x)] = x, True
        return features.astype(self.dtype), mask

    def gradients(self, grads):
        """The gradients under their names, without those that are zero but for noise."""
        names = [e for e in state_dicts.entries(self.network)]
        full = state_dicts.to_state_dict(self.model._replace(variables=grads))
        assert len(full) == len(names)
        return {k: full[k] for k in self.group("grad/")}


@pytest.fixture(scope="module")
def arrays(shared):
    return functools.cache(
        lambda name: npz.read_npz(shared / f"oracles/metad2a_{name}.npz")
    )


def close(actual, wanted, tolerance=1e-4):
    actual, wanted = np.asarray(actual), np.asarray(wanted)
    assert actual.shape == wanted.shape and np.isfinite(actual).all()
    assert np.abs(actual - wanted).max() <= tolerance * np.abs(wanted).max()


def block_variables(tensors):
    """Parameters of any attention block, from the names of the published code."""
    params = {}
    for name, value in tensors.items():
        *modules, leaf = name.split(".")
        path = ".".join(modules).replace("enc.", "enc_").replace("dec.", "dec_")
        node = params
        for module in filter(None, path.split(".")):
            node = node.setdefault(module, {})
        if leaf == "weight":
            leaf, value = ("scale", value) if value.ndim == 1 else ("kernel", value.T)
        node[leaf] = value[0] if leaf in "SI" else value
    return {"params": params}


BLOCKS = {
    "mab": lambda apply, x, y: apply(attention.Mab(16), y, x),
    "mab_ln": lambda apply, x, y: apply(attention.Mab(16, layer_norm=True), y, x),
    "sab": lambda apply, x, y: apply(attention.Sab(16), x),
    "isab": lambda apply, x, y: apply(attention.Isab(16, 6), x),
    "isab_ln": lambda apply, x, y: apply(attention.Isab(16, 6, layer_norm=True), x),
    "pma": lambda apply, x, y: apply(attention.Pma(24, 2), x),
    "pool_sabPF": lambda apply, x, y: apply(attention.SetPool(16, 12), x)[:, None],
    "pool_sabP": lambda apply, x, y: apply(attention.SetPool(16, None), x)[:, None],
    "pool_isab_full": lambda apply, x, y: apply(
        attention.SetPool(16, 12, layer_norm=True, num_inducing=6, num_after=2), x
    )[:, None],
}


@pytest.mark.parametrize("name", BLOCKS)
def test_attention_blocks(arrays, dtype, name):
    d = arrays("misc")
    prefix = f"{name}/sd/"
    tensors = {
        k[len(prefix) :]: v.astype(dtype) for k, v in d.items() if k.startswith(prefix)
    }
    variables = block_variables(tensors)
    x, y = (d[f"in/{n}"].astype(dtype) for n in "XY")

    @jax.jit
    def run(variables, x, y):
        return BLOCKS[name](lambda block, *sets: block.apply(variables, *sets), x, y)

    out = run(variables, x, y)
    assert out.dtype == dtype
    close(out, d[f"{name}/out"])


STAGES = (
    ("enc_0", attention.Sab(56), "sab0"),
    ("enc_1", attention.Sab(56), "sab1"),
    ("dec_0", attention.Pma(56), "pma"),
    ("dec_1", attention.Linear(56), "lin"),
)


@of_files("nb201_predictor", "published_nb201_generator")
def test_the_set_encoder_stage_by_stage(arrays, dtype, file):
    r = Recorded(arrays(file), dtype)

    @jax.jit
    def run(variables, tasks):
        encoder = r.network.bind(variables).set
        x, stages = tasks[0, 0], {}
        for part, block, stage in STAGES:
            params = variables["params"]["set"]["intra"][part]
            stages[f"set_blk_{stage}"] = x = block.apply({"params": params}, x)
        mask = jnp.ones(tasks.shape[1:3], bool)
        encode = jax.vmap(
            lambda task: (encoder.prototypes(task, mask), encoder(task, mask))
        )
        stages["set_proto"], stages["set_v"] = encode(tasks)
        return stages

    x = r.given("x")
    stages = run(r.variables, x.reshape(4, -1, 20, x.shape[-1]))
    assert len(stages) == 6
    for stage, value in stages.items():
        assert value.dtype == dtype
        close(value, r.wanted(stage))


def graphs(r, name, suffix=""):
    """Types (n, N) and adjacencies (n, N, N)."""
    types = r.given(f"{name}types")
    adj = r.given(f"{name}adj{suffix}")
    return types, jnp.broadcast_to(adj, (len(types), *adj.shape[-2:]))


def encoded(r, params, given):
    """Embeddings and both sweeps' states of sets of graphs, in one program."""
    encoder = GraphEncoder(r.network.config)

    @jax.jit
    @jax.vmap
    def run(types, adj):
        kept = {"capture_intermediates": lambda _, name: name == "states"}
        hg, aux = encoder.apply({"params": params}, types, adj, **kept)
        return hg, *aux["intermediates"]["states"][0]

    sizes = np.cumsum([len(types) for types, _ in given])[:-1]
    out = run(*(np.concatenate(x) for x in zip(*given, strict=True)))
    return list(zip(*(np.split(x, sizes) for x in out), strict=True))


def linear(params, x):
    return x @ params["kernel"] + params["bias"]


@of_files("nb201_generator", "mbv3_generator")
def test_the_graph_encoder_that_generators_do_not_use(arrays, dtype, file):
    r = Recorded(arrays(file), dtype)
    names, given = ["enc"], [graphs(r, "")] if file[0] == "m" else []
    if not given:
        names = ["enc15", "enc11", "enc10", "rd"]
        given = [graphs(r, "", a) for a in ("15", "11", "10")] + [graphs(r, "rd_")]
    unused = r.variables["unused"]
    for name, (hg, *states) in zip(
        names, encoded(r, unused["encoder"], given), strict=True
    ):
        close(hg, r.wanted(f"{name}_Hg"))
        close(linear(unused["encoder_mu"], hg), r.wanted(f"{name}_mu"))
        close(linear(unused["encoder_logvar"], hg), r.wanted(f"{name}_logvar"))
        for state, end in zip(states, ("hf", "hb"), strict=True):
            if f"out/{name}_{end}" in r.arrays:
                wanted = r.wanted(f"{name}_{end}")
                close(state[: len(wanted)], wanted)


DECODED = [
    ("nb201_generator", "dec15", "", "15"),
    ("nb201_generator", "dec11", "", "11"),
    ("nb201_generator", "decrd", "rd_", ""),
    ("published_nb201_generator", "dec15", "", "15"),
    ("mbv3_generator", "dec", "", ""),
]


@pytest.mark.parametrize(
    ("file", "name", "graph", "suffix", "dtype"),
    in_precisions(*DECODED),
    indirect=["dtype"],
)
def test_the_decoder_with_given_graphs(arrays, dtype, file, name, graph, suffix):
    r = Recorded(arrays(file), dtype)
    types, adj = graphs(r, graph, suffix)
    z, logvar = (r.given(n)[: len(types)] for n in ("z", "logvar"))

    @jax.jit
    @jax.vmap
    def run(z, logvar, types, adj):
        logits = r.network.apply(r.variables, z, types, adj, method="logits")
        return logits, *graph_nll(logits, types, adj), gaussian_kl(z, logvar)

    logits, of_types, of_edges, kl = run(z, logvar, types, adj)
    assert logits.types.dtype == logits.edges.dtype == of_edges.dtype == dtype
    wanted = r.wanted(f"{name}_type_logits")
    close(logits.types[: len(wanted)], wanted)
    close(logits.edges[: len(wanted)], r.wanted(f"{name}_edge_logits"))
    close(of_types, r.wanted(f"{name}_type_nll"))
    close(of_edges, r.wanted(f"{name}_edge_nll"))
    nll = (of_types + of_edges).sum()
    close(nll, r.wanted(f"{name}_nll"))
    close(nll + r.network.config.kl_weight * kl.sum(), r.wanted(f"{name}_loss"))
    if f"out/{name}_kld" in r.arrays:
        close(kl.sum(), r.wanted(f"{name}_kld"))
    if f"out/{name}_nll_per_graph" in r.arrays:
        close(of_types + of_edges, r.wanted(f"{name}_nll_per_graph"))


@of_files("nb201_generator", "published_nb201_generator", "mbv3_generator")
def test_sampled_graphs(arrays, dtype, file):
    r = Recorded(arrays(file), dtype)

    def sample(z, uniforms):
        return r.network.apply(r.variables, z, uniforms, method="sample")

    greedy = jax.jit(jax.vmap(lambda z: sample(z, None)))(r.given("z"))
    np.testing.assert_array_equal(greedy[0], r.wanted("greedy_types"))
    np.testing.assert_array_equal(greedy[1], r.wanted("greedy_adj"))
    uniforms = Uniforms(
        jnp.moveaxis(r.given("samp_u_type"), -1, 0),
        jnp.moveaxis(r.given("samp_u_edge"), -1, 0),
    )
    types, adj = jax.jit(jax.vmap(sample))(r.given("samp_z"), uniforms)
    sure = r.wanted("samp_margin") >= MARGIN
    assert sure.mean() > 0.9
    np.testing.assert_array_equal(types[sure], r.wanted("samp_types")[sure])
    np.testing.assert_array_equal(adj[sure], r.wanted("samp_adj")[sure])


def generator_examples(r):
    """Features, masks, types and adjacencies of the end-to-end losses."""
    types, adj = graphs(r, "", "15" if "in/adj15" in r.arrays else "")
    features, mask = r.tasks()
    return list(zip(features, mask, types, adj, strict=False))


def compare_gradients(r, grads):
    wanted = r.group("grad/")
    found = r.gradients(grads)
    assert sorted(found) == sorted(wanted) and len(wanted) > 60
    assert not any("fc_k.bias" in name for name in wanted)
    for name, value in found.items():
        close(value, wanted[name])


def test_losses_and_gradients_of_the_generator_of_nasbench201(arrays, dtype):
    r = Recorded(arrays("nb201_generator"), dtype)
    examples = jax.tree.map(lambda *x: jnp.stack(x), *generator_examples(r))

    def loss(params):
        def one(*example):
            return generator_losses(r.network, {"params": params}, None, *example)

        losses = jax.tree.map(jnp.sum, jax.vmap(one)(*examples))
        return total_loss(r.network.config, losses), losses

    @jax.jit
    def step(params, state):
        (total, losses), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grads, state)
        return optax.apply_updates(params, updates), state, total, losses, grads

    optimizer = optax.adam(1e-4)
    params = r.variables["params"]
    state, trace = optimizer.init(params), []
    for i in range(6):
        params, state, total, losses, grads = step(params, state)
        trace.append(total)
        if not i:
            close(losses.types + losses.edges, r.wanted("e2e_nll"))
            close(losses.kl, r.wanted("e2e_kld"))
            close(total, r.wanted("e2e_loss"))
            compare_gradients(r, {"params": grads})
    close(jnp.stack(trace), r.wanted("adam6_loss"))


def test_losses_and_gradients_of_the_generator_of_mobilenetv3(arrays, dtype):
    r = Recorded(arrays("mbv3_generator"), dtype)

    @jax.jit
    def run(params, *example):
        def loss(params):
            losses = generator_losses(r.network, {"params": params}, None, *example)
            return total_loss(r.network.config, losses), losses

        return jax.value_and_grad(loss, has_aux=True)(params)

    for i, example in enumerate(generator_examples(r)):
        (total, losses), grads = run(r.variables["params"], *example)
        nll = losses.types + losses.edges
        close(jnp.stack([total, nll, losses.kl]), r.wanted("e2e_loss_nll_kld")[i])
        if not i:
            compare_gradients(r, {"params": grads})


def test_the_posterior_of_the_generator(arrays, dtype):
    r = Recorded(arrays("mbv3_generator"), dtype)
    encode = jax.jit(jax.vmap(r.network.bind(r.variables).encode))
    mu, logvar = encode(*r.tasks())
    close(mu, r.wanted("set_mu"))
    close(logvar, r.wanted("set_logvar"))


@of_files("nb201_predictor", "mbv3_predictor")
def test_the_predictor(arrays, dtype, file):
    r = Recorded(arrays(file), dtype)
    small = "in/x" in r.arrays
    features, masks = r.tasks()
    of_task, y = r.given("task_of_pair"), r.given("y")
    of_graph = r.given("arch_of_pair") if small else jnp.arange(16)

    def run(params, types, adj):
        model = r.network.bind({"params": params})
        d, g = (
            jax.vmap(model.dataset)(features, masks),
            jax.vmap(model.graph)(types, adj),
        )
        out = model.score(d[of_task], g[of_graph])
        return ((out - y) ** 2).sum(), (d, g, out)

    run = jax.jit(jax.value_and_grad(run, has_aux=True))
    suffixes = ("15", "11", "10") if small else ("",)
    for suffix in suffixes:
        types, adj = graphs(r, "", suffix)
        (loss, (d, g, out)), grads = run(r.variables["params"], types, adj)
        close(d, r.wanted("D"))
        close(g, r.wanted(f"G{suffix}"))
        close(out, r.wanted(f"y_pred{suffix}"))
        close(loss, r.wanted(f"sum_sq{suffix}"))
        if suffix in ("15", ""):
            compare_gradients(r, {"params": grads})
    given = [graphs(r, "", a) for a in suffixes]
    given += [graphs(r, "rd_")] if small else []
    states = encoded(r, r.variables["params"]["encoder"], given)
    for suffix, (hg, forward, backward) in zip(suffixes, states, strict=False):
        close(hg, r.wanted(f"Hg{suffix}"))
        if suffix in ("15", ""):
            shown = len(r.wanted(f"hf{suffix}"))
            close(forward[:shown], r.wanted(f"hf{suffix}"))
            close(backward[:shown], r.wanted(f"hb{suffix}"))
    if small:
        hg = states[-1][0]
        close(hg, r.wanted("rd_Hg"))
        close(linear(r.variables["params"]["project"], hg), r.wanted("rd_G"))


def test_accuracies_are_normalised_as_recorded(arrays):
    d = arrays("misc")
    mean, std = d["norm/acc"].mean(dtype=float), d["norm/acc"].std(dtype=float, ddof=1)
    close([mean, std], d["norm/mean_std"], 1e-6)
    y = predictor.normalise_accuracy(d["norm/acc"], mean, std)
    close(y, d["norm/y"])
    close(predictor.denormalise_accuracy(y, mean, std), d["norm/acc"], 1e-6)
