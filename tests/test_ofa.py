"""Once-for-all subnets: predicted and measured accuracies, fitted latencies, tables."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import spearmanr

from jaxnas.batching import in_chunks
from jaxnas.benchmarks import devices, latency, named, ofa, sources, table_files
from jaxnas.benchmarks.table_files import BenchmarkTable
from jaxnas.io import npz
from jaxnas.spaces import mobilenetv3, mobilenetv3_formats
from jaxnas.types import Query

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def predictor(shared):
    return ofa.accuracy_predictor()


@pytest.fixture(scope="module")
def subnets(shared):
    return named.open_table("ofa")


@pytest.fixture(scope="module")
def latencies(shared):
    """Of 600 networks, so that fits are quick."""
    table = named.open_table("ofa-latency")
    columns = {name: column[:600] for name, column in table.columns.items()}
    return dataclasses.replace(table, arch=table.arch[:600], columns=columns)


def random_vectors(num, length=45, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3, (num, length)).astype(np.int32)


def float64_prediction(arrays, bits):
    """The published network in NumPy, in double precision."""
    for layer in (0, 2, 4, 6):
        weight, bias = (
            arrays[f"{layer}.{w}"].astype(float) for w in ("weight", "bias")
        )
        bits = bits @ weight.T + bias
        bits = np.maximum(bits, 0) if layer < 6 else bits
    return bits[:, 0]


def test_predictions_are_those_in_double_precision(shared, predictor):
    arrays = npz.read_npz(shared / "data/ofa_mbv3_acc_predictor.npz")
    archs = random_vectors(500)
    predict = jax.jit(jax.vmap(ofa.predicted_accuracy, (None, 0, None)))
    encode = jax.jit(jax.vmap(mobilenetv3_formats.ofa_encoding, (0, None)))
    for resolution in ofa.RESOLUTIONS:
        bits = np.asarray(encode(archs, resolution), float)
        assert (bits[:, 120:].argmax(1) == (resolution - 112) // 16).all()
        wanted = float64_prediction(arrays, bits)
        np.testing.assert_allclose(
            predict(predictor, archs, resolution), wanted, atol=1e-5
        )


def test_predictions_rank_measured_subnets(predictor, subnets):
    archs = subnets.arch.astype(np.int32)
    predicted = in_chunks(lambda a: ofa.predicted_accuracy(predictor, a), archs)
    accuracy = subnets.columns["imagenet/valid/1"]
    assert spearmanr(predicted, accuracy)[0] > 0.981
    # The monotone map, by the definition of isotonic regression.
    fitted = ofa.calibration(predictor, subnets)
    percent = ofa.calibrated(fitted, predicted)
    order = np.argsort(predicted)
    np.testing.assert_allclose(percent[order], pooled(accuracy[order]), rtol=1e-5)
    assert ofa.calibrated(fitted, np.array([0.0])) == percent.min()


def pooled(values):
    """Pool-adjacent-violators: the closest sequence that does not descend."""
    blocks = []
    for value in values.astype(float):
        blocks.append([value, 1])
        while len(blocks) > 1 and blocks[-2][0] >= blocks[-1][0]:
            (a, n), (b, m) = blocks[-2:]
            blocks[-2:] = [[(a * n + b * m) / (n + m), n + m]]
    return np.concatenate([np.full(n, value) for value, n in blocks])


def test_each_measured_subnet_is_one_row(shared, subnets):
    stored = npz.read_npz(shared / "data/ofa_mbv3_dynast.npz")
    by_network = {}
    for ks, e, d, top1 in zip(
        *(stored[n] for n in ("ks", "e", "d", "top1")), strict=True
    ):
        used = np.tile(np.arange(4), 5) < np.repeat(d, 4)
        name = (*np.where(used, ks, 0), *np.where(used, e, 0), *d)
        by_network.setdefault(name, []).append(top1)
    assert len(subnets.arch) == len(by_network) == 2162
    accuracy = subnets.columns["imagenet/valid/1"]
    for arch, value in zip(subnets.arch[::100], accuracy[::100], strict=True):
        one = mobilenetv3_formats.to_ofa(arch)
        used = np.tile(np.arange(4), 5) < np.repeat(one["d"], 4)
        name = (*np.where(used, one["ks"], 0), *np.where(used, one["e"], 0), *one["d"])
        np.testing.assert_allclose(value, np.mean(by_network[name]), rtol=1e-6)
    benchmark = named.open_benchmark("ofa", dataset="imagenet", split="valid", epochs=1)
    assert benchmark.optimum == accuracy.max() and benchmark.space.size == 2162


def test_the_benchmark_predicts_what_it_is_asked(predictor):
    benchmark = ofa.predicted_accuracy_benchmark(predictor)
    archs = random_vectors(4)
    archs[1] = mobilenetv3.canonical(jnp.asarray(archs[0]))
    archs[2, 0] = 3  # not of the space
    query = Query(jnp.asarray(archs), jnp.array([1, 1, 1, 0]), jnp.zeros(4, jnp.int32))
    result = jax.jit(benchmark)(jax.random.key(0), query)
    assert result.score[0] == result.score[1] == benchmark.truth(query.arch[0])
    np.testing.assert_array_equal(np.isnan(result.score), [0, 0, 1, 1])
    np.testing.assert_array_equal(result.cost, [1, 1, 0, 0])
    assert (
        result.curve.shape == (4, 1) and benchmark.target.name == "predicted accuracy"
    )


def test_resolutions_the_predictor_was_not_trained_for(predictor):
    with pytest.raises(ValueError, match="trained for resolutions 160, .*224, not 128"):
        ofa.predicted_accuracy_benchmark(predictor, resolution=128)
    benchmark = ofa.predicted_accuracy_benchmark(predictor, resolution=None)
    one = np.append(random_vectors(1)[0], 0)
    archs = np.stack([np.append(one[:45], i) for i in range(25)]).astype(np.int32)
    query = Query(jnp.asarray(archs), jnp.ones(25, jnp.int32), jnp.zeros(25, jnp.int32))
    score = benchmark(jax.random.key(0), query).score
    assert np.flatnonzero(np.isfinite(score)).tolist() == [8, 12, 16, 20, 24]
    wanted = ofa.predicted_accuracy(predictor, jnp.asarray(one[:45]), 192)
    np.testing.assert_allclose(score[16], wanted, rtol=1e-6)


def test_a_predictor_of_another_shape(tmp_path, shared):
    arrays = npz.read_npz(shared / "data/ofa_mbv3_acc_predictor.npz")
    arrays["2.bias"] = arrays["2.bias"][:-1]
    np.savez(tmp_path / "p.npz", **arrays)
    with pytest.raises(
        ValueError, match=r"p.npz: wanted 2.bias \(400,\), not \(399,\)"
    ):
        ofa.accuracy_predictor(tmp_path / "p.npz")


# Fitted latencies.


def test_a_fitted_latency_ranks_and_says_how_well(latencies):
    fitted = latency.latency_function(latencies, "titan_xp_64")
    assert fitted.spearman > 0.99 and "held-out Spearman 0.99" in fitted.description
    archs = latencies.arch.astype(np.int32)
    milliseconds = in_chunks(fitted.predict, archs)
    measured = latencies.columns["device/latency/titan_xp_64"]
    assert np.median(np.abs(milliseconds / measured - 1)) < 0.02
    # The resolution of a function counts, and not what is at position 45.
    small = latency.fit_latency(latencies, "titan_xp_64", resolution=160)
    ratio = small.predict(archs[0, :45]) / fitted.predict(archs[0, :45])
    assert 0.4 < ratio < 0.62  # (160 / 224)^2 = 0.51


def test_the_correlation_is_of_networks_that_were_held_out(latencies):
    """A function of 383 features fits noise, and must not say that it ranks it."""
    name = "device/latency/titan_xp_64"
    shuffled = np.random.default_rng(0).permutation(latencies.columns[name])
    noise = dataclasses.replace(latencies, columns={name: shuffled})
    assert latency.fit_latency(noise, "titan_xp_64").spearman < 0.1


def test_a_function_that_ranks_badly_is_no_objective(latencies):
    words = "titan_xp_1, held-out Spearman 0.7.*: an objective needs 0.9"
    with pytest.raises(ValueError, match=words):
        latency.latency_function(latencies, "titan_xp_1")
    forced = latency.latency_function(latencies, "titan_xp_1", force=True)
    assert forced.spearman < 0.9
    with pytest.raises(ValueError, match="no latency of 'tpu': choose from 2080ti_1, "):
        latency.latency_function(latencies, "tpu")


# Tables of devices.


def test_columns_of_devices_are_those_of_the_files(shared):
    stored = npz.read_npz(shared / "data/nb201_hardware.npz")
    table = named.open_table("nb201-devices")
    by_device = table_files.devices(table, "latency")
    assert len(by_device) == 29
    for device, column in zip(
        stored["help_devices"], stored["help_latency"].T, strict=True
    ):
        np.testing.assert_array_equal(by_device[device], column)
    edgetpu = stored["hwnasbench_cifar10"][:, 3]
    np.testing.assert_array_equal(
        by_device["edgetpu"], np.where(edgetpu == -1, np.nan, edgetpu)
    )
    assert np.isnan(by_device["edgetpu"]).sum() == 4699
    energy = table_files.device_column(table, "energy", "fpga")
    np.testing.assert_array_equal(energy, stored["hwnasbench_cifar10"][:, 9])
    assert table_files.target(table, "energy").direction == "minimise"
    with pytest.raises(
        ValueError, match="has no 'speed' of devices: it has energy, lat"
    ):
        table_files.device_column(table, "speed", "fpga")


def test_networks_with_latencies_are_those_of_the_file(shared):
    stored = npz.read_npz(shared / "data/help_ofa_fbnet_latency.npz")
    table = named.open_table("ofa-latency")
    for row in (0, 2500, 4999):
        one = mobilenetv3_formats.to_ofa(table.arch[row])
        assert one == {n: stored[f"ofa_{n}"][row].tolist() for n in ("ks", "e", "d")}
        pixels = mobilenetv3.resolution(jnp.asarray(table.arch[row]))
        assert pixels == stored["ofa_r"][row]
    fbnet = named.open_table("fbnet-latency")
    np.testing.assert_array_equal(fbnet.arch, stored["fbnet_op_idx"])
    column = table_files.device_column(fbnet, "latency", "raspi4")
    index = stored["fbnet_devices"].tolist().index("raspi4")
    np.testing.assert_array_equal(column, stored["fbnet_latency"][:, index])


def test_mnasnet_has_throughputs_to_maximise_and_missing_values(shared):
    stored = npz.read_npz(shared / "data/accel_nasbench_5k.npz")
    table = named.open_table("mnasnet")
    assert table.arch.shape == (5125, 28)
    target = table_files.target(table, "throughput")
    assert target.direction == "maximise"
    missing = np.isnan(table_files.device_column(table, "throughput", "tpuv3")).sum()
    assert missing == np.isnan(stored["perf"][:, 5]).sum() == 44
    assert table_files.target(table, "latency").direction == "minimise"
    # Row by row: expansion 6 of stage 0 is choice 2, two layers are choice 1.
    given = stored["arch"].astype(int).reshape(-1, 7, 4)
    choices = np.stack(
        [
            np.searchsorted((1, 4, 6), given[..., 0]),
            (given[..., 1] == 5).astype(int),
            given[..., 2] - 1,
            given[..., 3],
        ],
        -1,
    ).reshape(-1, 28)
    rows = {tuple(arch): i for i, arch in enumerate(table.arch.tolist())}
    index = np.array([rows[tuple(one)] for one in choices.tolist()])
    accuracy = table.columns["imagenet/valid/1"]
    assert (accuracy[index] == stored["val_top1"]).sum() > 5100
    np.testing.assert_allclose(accuracy[index], stored["val_top1"], atol=1)
    benchmark = named.open_benchmark(
        "mnasnet", dataset="imagenet", split="valid", epochs=1
    )
    assert benchmark.cost_unit == "seconds"


def test_means_leave_out_what_is_missing():
    rows, values = np.array([0, 1, 0, 2, 1]), np.array([1, np.nan, 3, np.nan, 5.0])
    np.testing.assert_array_equal(devices.mean_by(rows, values), [2, 5, np.nan])


def small_table(column):
    name = "device/latency/phone"
    manifest = {
        "source": "here",
        "sha256": "",
        "part": True,
        "columns": {name: "milliseconds"},
        "targets": {
            "latency": {"name": "latency", "unit": "ms", "direction": "minimise"}
        },
    }
    arch = np.zeros((len(column), 22), np.int8)
    columns = {name: np.asarray(column, np.float32)}
    return BenchmarkTable("mine", "fbnet", arch, columns, manifest)


def test_a_table_of_devices_alone_can_be_saved(tmp_path):
    table = small_table([1, np.nan, 2])
    table_files.save(tmp_path / "t.npz", table)
    again = named.open_table(tmp_path / "t.npz")
    column = table_files.device_column(again, "latency", "phone")
    np.testing.assert_array_equal(column, [1, np.nan, 2])
    assert table_files.target(again, "latency").unit == "ms"
    with pytest.raises(ValueError, match="no 'energy' of devices: it has latency"):
        table_files.device_column(again, "energy", "phone")


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ([1, -1, 2], "holds -1.0..2.0, wanted numbers of at least 0, and NaN where"),
        ([1, np.inf, 2], "holds 1.0..inf"),
        ([np.nan] * 3, "NaN for all of 3 rows"),
    ],
)
def test_columns_of_devices_that_break_a_rule(column, words):
    with pytest.raises(ValueError, match=words):
        table_files.validate_table(small_table(column))


def test_missing_files_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(sources, "shared_folder", lambda: tmp_path)
    for name in ("ofa", "ofa-latency", "fbnet-latency", "mnasnet", "nb201-devices"):
        with pytest.raises(ValueError, match="no such file: .*npz; set JAXNAS_SHARED"):
            named.open_table(name)
    with pytest.raises(ValueError, match="no such file: .*ofa_mbv3_acc_predictor"):
        ofa.accuracy_predictor()
