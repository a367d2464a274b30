"""Files of torch without torch: tensors by hand, and the weights that torch wrote."""

import numpy as np
import official_samples as samples
import pytest

from jaxnas.io import torch_files
from jaxnas.io.torch_tensors import Tensor

ARRAYS = {
    "0": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "1": np.array([1.5, -2.5]),
    "2": np.array([[3, -(2**40)]]),
}
WRITERS = [samples.torch_zip, samples.torch_legacy]


@pytest.mark.parametrize("write", WRITERS)
def test_tensors_are_read_when_they_are_asked_for(tmp_path, write):
    path = tmp_path / "file.pt"
    value = {key: samples.FakeTensor(key, array) for key, array in ARRAYS.items()}
    path.write_bytes(write({"weights": value, "epoch": 3}))
    found = torch_files.load(path).value
    assert found["epoch"] == 3
    for key, array in ARRAYS.items():
        tensor = found["weights"][key]
        assert type(tensor) is Tensor and tensor.shape == array.shape
        np.testing.assert_array_equal(tensor.numpy(), array, strict=True)
    path.unlink()
    with pytest.raises((ValueError, OSError)):
        tensor.numpy()


@pytest.mark.parametrize("write", WRITERS)
def test_a_tensor_is_not_larger_than_its_storage(tmp_path, write):
    path = tmp_path / "file.pt"
    path.write_bytes(write([samples.FakeTensor("1", ARRAYS["1"])]))
    (tensor,) = torch_files.load(path).value
    storage = tensor.storage
    for offset, shape, stride in (
        (1, (2,), (1,)),
        (0, (3,), (1,)),
        (0, (10**9,), (0,)),
        (0, (2, 2), (0, 1)),
    ):
        with pytest.raises(ValueError, match="larger than its storage"):
            Tensor(storage, offset, shape, stride).numpy()
    # Less in the file than in the pickle.
    data = path.read_bytes()
    path.write_bytes(data.replace(ARRAYS["1"].tobytes(), b"12345678"))
    with pytest.raises(ValueError) as caught:
        torch_files.load(path).value[0].numpy()
    assert "\n" not in str(caught.value)


def test_published_weights(shared):
    path = shared / "data/metad2a_nb201_generator_ckpt_400.pt"
    contents = torch_files.load(path)
    assert contents.integrity == "CRC-32 of the archive"
    assert len(contents.value) == 99
    arrays = {name: tensor.numpy() for name, tensor in contents.value.items()}
    assert arrays["grue_forward.weight_ih"].shape == (168, 7)
    assert all(np.isfinite(array).all() for array in arrays.values())
