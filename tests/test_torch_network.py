"""The network that the bench of scores runs in PyTorch is the one that ours is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is in the extra torch")

from experiments.bench import proxies, torch_network  # noqa: E402
from experiments.bench.config import Config  # noqa: E402
from jaxnas.networks import apply, initialise, runs  # noqa: E402
from jaxnas.networks import train as training  # noqa: E402
from jaxnas.networks.data import Data  # noqa: E402
from jaxnas.networks.nasbench201 import NetworkConfig  # noqa: E402
from jaxnas.networks.recipes import Recipe  # noqa: E402
from jaxnas.proxies import gradient, jacobian  # noqa: E402
from jaxnas.spaces.nasbench201 import CONV1, CONV3, POOL, SKIP  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation", "exact_products")

NETWORK = NetworkConfig(stem_channels=3, cells_per_stage=2, num_classes=4, image_size=8)
ARCH = np.array([CONV3, 0, CONV1, SKIP, POOL, CONV3])


def convolutions(params):
    """Those of the architecture, in the order in which they are run."""
    yield params.stem
    for stage in range(NETWORK.num_stages):
        for n in range(NETWORK.cells_per_stage):
            for edge in np.flatnonzero((ARCH == CONV1) | (ARCH == CONV3)):
                conv = params.cells[stage][0 if ARCH[edge] == CONV1 else 1]
                yield jax.tree.map(lambda leaf: leaf[n, edge], conv)  # noqa: B023
        if stage < NETWORK.num_stages - 1:
            reduction = params.reductions[stage]
            yield from (reduction.shortcut, reduction.first, reduction.second)


def in_torch(params):
    """The network in PyTorch with these parameters."""
    model = torch_network.network(NETWORK, ARCH)
    convs = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    # A reduction's main path is registered before its shortcut.
    ours = list(convolutions(params))
    for module in model.modules():
        if isinstance(module, torch_network.Reduction):
            first = convs.index(module.main[0][1])
            convs[first : first + 3] = [module.shortcut[1], *convs[first : first + 2]]
    assert len(convs) == len(ours)
    with torch.no_grad():
        for conv, given in zip(convs, ours, strict=True):
            shape = conv.weight.shape
            matrix = np.asarray(given.weight).reshape(*shape[2:], shape[1], shape[0])
            conv.weight.copy_(torch.from_numpy(matrix.transpose(3, 2, 0, 1).copy()))
        model[-1].weight.copy_(torch.from_numpy(np.array(params.head.weight.T)))
        model[-1].bias.copy_(torch.from_numpy(np.array(params.head.bias)))
    return model


def test_it_computes_what_ours_computes():
    params = initialise.initialise(jax.random.key(0), NETWORK)
    model = in_torch(params)
    x = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
    y = np.arange(6) % 4
    images, labels = (
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(y),
    )
    single = apply.single(NETWORK, jnp.asarray(ARCH))

    @jax.jit
    def run(params, x, y):
        logits = apply.run(single, params, x).logits
        flow = gradient.snip(single, params, x, y)
        return logits, flow, jacobian.correlations(single, params, x)

    logits, flow, correlations = run(params, jnp.asarray(x), jnp.asarray(y))
    np.testing.assert_allclose(torch_network.forward(model, images), logits, atol=1e-4)
    np.testing.assert_allclose(
        torch_network.snip(model, images, labels), flow, rtol=1e-3
    )
    values = np.linalg.eigvalsh(np.asarray(correlations, np.float64)) + 1e-5
    np.testing.assert_allclose(
        torch_network.jacob_cov(model, images),
        -np.sum(np.log(values) + 1 / values),
        rtol=1e-2,
    )


def test_it_trains_as_ours_does():
    # All images are in one step, so that their order does not matter.
    rng = np.random.default_rng(0)
    y = np.arange(24, dtype=np.int32) % 4
    x = rng.normal(y[:, None, None, None] - 1.5, 2.0, (24, 8, 8, 3)).astype(np.float32)
    data = Data(x, y, x[:8], y[:8], x[8:20], y[8:20], np.zeros(3, np.float32))
    recipe = Recipe(epochs=4, batch=24, lr=0.1, label_smoothing=0.1)
    key = jax.random.key(3)
    found = runs.train(key, NETWORK, recipe, ARCH[None], data)

    start = training.initial_state(key, NETWORK, 1).params
    model = in_torch(jax.tree.map(lambda leaf: leaf[0], start)).requires_grad_(True)
    settings = dict(lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    rule = torch.optim.SGD(model.parameters(), **settings)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(rule, 4)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    images, labels = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()), y.astype(int)
    losses = []
    for _ in range(4):
        rule.zero_grad()
        losses.append(loss(model(images), torch.from_numpy(labels)))
        losses[-1].backward()
        rule.step()
        schedule.step()
    losses = [float(one.detach()) for one in losses]
    np.testing.assert_allclose(found.curves["loss"][0], losses, 1e-4)

    theirs = torch_network.forward(model.eval(), images)
    own = jax.tree.map(lambda leaf: leaf[0], found.params)
    mode = training.TRAINING._replace(norm="running", reduction_norm="running")
    single = apply.single(NETWORK, jnp.asarray(ARCH))
    ours = jax.jit(lambda p, x: apply.run(single, p, x, mode).logits)(own, x)
    np.testing.assert_allclose(ours, theirs, 1e-2, 1e-3)
    right = 100 * (theirs.argmax(1) == y)
    np.testing.assert_allclose(found.curves["valid"][0, -1], right[:8].mean(), 1e-5)
    np.testing.assert_allclose(found.curves["test"][0, -1], right[8:20].mean(), 1e-5)


def test_both_are_timed():
    config = Config(networks=2, cells_per_stage=(1,), images=4, repeats=1)
    rows = proxies.proxies(config)
    assert [row.what for row in rows] == [
        "jaxnas, all cells in one program",
        "PyTorch, eager",
    ] * 3
    assert all(row.median > 0 and row.ratio > 0 for row in rows)
