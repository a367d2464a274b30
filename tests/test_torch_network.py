"""The network that the bench of scores runs in PyTorch is the one that ours is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is in the extra torch")

from experiments import bench, bench_proxies, torch_network  # noqa: E402
from jaxnas.networks import initialise, models  # noqa: E402
from jaxnas.networks.nasbench201 import STAGES, Network  # noqa: E402
from jaxnas.proxies import gradient, jacobian  # noqa: E402
from jaxnas.spaces.nasbench201 import CONV1, CONV3, POOL, SKIP  # noqa: E402

pytestmark = pytest.mark.usefixtures("quick_compilation")

NETWORK = Network(channels=3, cells=2, classes=4, size=8)
ARCH = np.array([CONV3, 0, CONV1, SKIP, POOL, CONV3])


def convolutions(params):
    """Those of the architecture, in the order in which they are run."""
    yield params.stem
    for stage in range(STAGES):
        for n in range(NETWORK.cells):
            for edge in np.flatnonzero((ARCH == CONV1) | (ARCH == CONV3)):
                conv = params.cells[stage][0 if ARCH[edge] == CONV1 else 1]
                yield jax.tree.map(lambda leaf: leaf[n, edge], conv)  # noqa: B023
        if stage < STAGES - 1:
            reduction = params.reductions[stage]
            yield from (reduction.shortcut, reduction.first, reduction.second)


def test_it_computes_what_ours_computes():
    params = initialise.initialise(jax.random.key(0), NETWORK)
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
    x = np.random.default_rng(0).normal(size=(6, 8, 8, 3)).astype(np.float32)
    y = np.arange(6) % 4
    images, labels = (
        torch.from_numpy(x.transpose(0, 3, 1, 2).copy()),
        torch.from_numpy(y),
    )
    single = models.single(NETWORK, jnp.asarray(ARCH))

    @jax.jit
    def run(params, x, y):
        logits = models.run(single, params, x).logits
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


def test_both_are_timed():
    config = bench.Config(networks=2, depths=(1,), images=4, repeats=1)
    rows = bench_proxies.proxies(config)
    assert [row.what for row in rows] == [
        "jaxnas, all cells in one program",
        "PyTorch, eager",
    ] * 3
    assert all(row.median > 0 and row.ratio > 0 for row in rows)
