"""What the numbers mean, by the packages that made the files. Needs the extra torch."""

import copy
import io

import numpy as np
import official_samples as samples
import pytest

from jaxnas.benchmarks.importers import official
from jaxnas.io import torch_files

WHY = "pip install 'jaxnas[torch]' for this test"
TRAINED = ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120")


@pytest.fixture(scope="module")
def whole(records):
    return samples.nb201_dict(records)


def compare(api, table, uids):
    """Every dataset, schedule and seed, at some epochs, and the means over the seeds."""
    seen = 0
    for row, uid in enumerate(uids):
        for hp, epochs in (("12", 12), ("200", 200)):
            for dataset in TRAINED:
                seeds = table.manifest["seeds"][f"{dataset}/{epochs}"]
                for slot, seed in [*enumerate(seeds), (None, False)]:
                    for epoch in (0, epochs // 2, epochs - 1):
                        try:
                            info = api.get_more_info(uid, dataset, epoch, hp, seed)
                        except KeyError:
                            continue  # Evaluated at the last epoch only.
                        seen += compare_one(info, table, row, dataset, hp, slot, epoch)
                cost = api.get_cost_info(uid, dataset, hp)
                for theirs, ours in {"flops": "flops", "params": "params"}.items():
                    found = table.columns[f"{ours}/{dataset}"][row]
                    np.testing.assert_allclose(found, cost[theirs], rtol=1e-12)
                latency = table.columns[f"latency/{dataset}/{epochs}"][row]
                np.testing.assert_allclose(np.nanmean(latency), cost["latency"], 1e-6)
    assert seen > 1000


def compare_one(info, table, row, dataset, hp, slot, epoch):
    seen = 0
    for split in ("train", "valid", "test", "valtest"):
        name = f"{dataset}/{split}/{hp}"
        if f"{split}-accuracy" not in info:
            continue
        if f"curve/{name}" not in table.columns:
            assert split in ("valid", "valtest") and info[f"{split}-accuracy"] is None
            continue
        for what, theirs in (("curve", "accuracy"), ("loss", "loss")):
            found = table.columns[f"{what}/{name}"][row, :, epoch]
            found = np.mean(found, dtype=float) if slot is None else found[slot]
            np.testing.assert_allclose(found, info[f"{split}-{theirs}"], rtol=1e-6)
            seen += 1
        time = table.columns[f"time/{name}"][row].astype(float)
        if time.shape[-1] == 1:
            time = time * np.ones(int(hp))
        time = time.mean(0) if slot is None else time[slot]
        total = time[: epoch + 1].sum()
        np.testing.assert_allclose(total, info[f"{split}-all-time"], rtol=1e-6)
    return seen


@pytest.mark.parametrize("new", [False, True])
def test_numbers_are_those_of_nas_bench_201(tmp_path, whole, new):
    torch = pytest.importorskip("torch", reason=WHY)
    api = pytest.importorskip("nas_201_api", reason=WHY)
    path = tmp_path / "file.pth"
    torch.save(whole, path, _use_new_zipfile_serialization=new)
    table = official.read(path, partial=True)
    oracle = api.NASBench201API(copy.deepcopy(whole), verbose=False)
    compare(oracle, table, (0, 11, 284))


def test_numbers_are_those_of_nats_bench(tmp_path, whole):
    api = pytest.importorskip("nats_bench", reason=WHY)
    folder = samples.write_nats(tmp_path / "NATS-tss-v1_0-3ffb9-simple", whole)
    table = official.read(folder, partial=True)
    oracle = api.create(str(folder), "tss", fast_mode=True, verbose=False)
    compare(oracle, table, (0, 11, 284))


@pytest.mark.parametrize("new", [False, True])
def test_tensors_are_those_of_torch(tmp_path, new):
    torch = pytest.importorskip("torch", reason=WHY)
    path = tmp_path / "file.pt"
    base = torch.arange(24, dtype=torch.float64).reshape(2, 3, 4)
    value = {
        "base": base,
        "view": base[:, 1:, ::2].transpose(0, 1),
        "half": torch.linspace(0, 1, 7, dtype=torch.float16),
        "long": torch.tensor([1, -(2**40)]),
        "bool": torch.tensor([[True], [False]]),
        "scalar": torch.tensor(2.5),
        "none": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(torch.ones(3)),
        "weights": torch.nn.Linear(3, 2).state_dict(),
        "text": "x",
    }
    torch.save(value, path, _use_new_zipfile_serialization=new)
    found = torch_files.load(path).value
    found |= {f"weights/{k}": v for k, v in found.pop("weights").items()}
    value |= {f"weights/{k}": v for k, v in value.pop("weights").items()}
    assert found.keys() == value.keys() and found.pop("text") == value.pop("text")
    for name, tensor in value.items():
        wanted = tensor.detach().numpy()
        np.testing.assert_array_equal(found[name].numpy(), wanted, strict=True)


def test_our_own_writers_write_what_torch_reads(tmp_path):
    torch = pytest.importorskip("torch", reason=WHY)
    value = {"x": samples.FakeTensor("0", np.arange(6.0).reshape(2, 3)), "y": 3}
    for write in (samples.torch_zip, samples.torch_legacy):
        found = torch.load(io.BytesIO(write(value)), weights_only=True)
        assert found["x"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["y"] == 3
