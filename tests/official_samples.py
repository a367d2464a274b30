"""Writes small files in the formats of the official benchmark files.

They hold complete records of three cells of NAS-Bench-201. torch and TensorFlow are not
needed: their formats are written by hand.
"""

import base64
import bz2
import collections
import io
import itertools
import json
import pickle
import struct
import sys
import types
import zipfile
from unittest import mock

import numpy as np
import pytest

from jaxnas.io import tfrecord
from jaxnas.spaces import nasbench101, nasbench201

META = "meta.pickle.pbz2"
EVALUATED = ("x-valid", "x-test", "ori-test")


def refused(function, *args, **kwargs):
    """The message, of one line, with which it is refused."""
    with pytest.raises(ValueError) as caught:
        function(*args, **kwargs)
    message = str(caught.value)
    assert message and "\n" not in message and message.isprintable()
    return message


# --- NAS-Bench-201 --------------------------------------------------------------------


def run_state(records, uid, epochs, dataset, seed):
    """A run as `ResultsCount.state_dict()` of nas-bench-201 gives it."""
    prefix = f"tss/{uid}/{epochs}/{dataset}/{seed}"
    there = {n.rsplit("/", 1)[1] for n in records if n.startswith(prefix + "/")}

    def series(name):
        return records[f"{prefix}/{name}"].tolist()

    def by_epoch(name):
        return collections.OrderedDict(enumerate(series(name)))

    names = [name for name in EVALUATED if f"{name}_acc" in there]

    def evaluated(what):
        return {
            f"{name}@{i}": value
            for name in names
            for i, value in enumerate(series(f"{name}_{what}"))
            if value == value  # The first runs were evaluated once on some images.
        }

    flop, params = records[f"{prefix}/flop_params"]
    return {
        "name": dataset,
        "net_state_dict": None,
        "train_acc1es": by_epoch("train_acc"),
        "train_acc5es": by_epoch("train_acc"),
        "train_losses": by_epoch("train_loss"),
        "train_times": by_epoch("train_time"),
        "arch_config": {"channel": 16, "num_cells": 5, "arch_str": "", "class_num": 10},
        "params": np.float64(params),
        "flop": float(flop),
        "seed": seed,
        "epochs": epochs,
        "latency": [0.01, 0.02 + seed * 1e-6],
        "eval_names": names,
        "eval_acc1es": evaluated("acc"),
        "eval_times": evaluated("time"),
        "eval_losses": evaluated("loss"),
    }


def arch_state(records, uid, epochs, datasets, seeds=None, index=None):
    """A cell as `ArchResults.state_dict()` of nas-bench-201 gives it."""
    runs, own = {}, collections.defaultdict(list)
    for name in records:
        parts = name.split("/")
        if name.endswith("train_acc") and parts[:3] == ["tss", f"{uid}", f"{epochs}"]:
            key = parts[3], int(parts[4])
            if key[0] in datasets and (seeds is None or key[1] in seeds):
                runs[key] = run_state(records, uid, epochs, *key)
                own[key[0]].append(key[1])
    return {
        "arch_index": uid if index is None else index,
        "arch_str": str(records[f"tss/{uid}/arch"]),
        "all_results": runs,
        "dataset_seed": {dataset: sorted(seeds) for dataset, seeds in own.items()},
        "clear_net_done": True,
    }


ALL = ("cifar10-valid", "cifar10", "cifar100", "ImageNet16-120")


def nb201_dict(records, uids=(0, 11, 284), datasets=ALL, seeds=None):
    """What `torch.load` of the official file gives, with fewer cells."""
    mine = {uid: str(records[f"tss/{uid}/arch"]) for uid in uids}
    # Other cells; the official file lists all 15,625.
    some = map(nasbench201.to_string, itertools.product(range(5), repeat=6))
    others = (string for string in some if string not in mine.values())
    strings = [mine[i] if i in mine else next(others) for i in range(285)]
    infos = {
        uid: {
            "full": arch_state(records, uid, 200, datasets, seeds),
            "less": arch_state(records, uid, 12, datasets, seeds),
        }
        for uid in uids
    }
    return {
        "meta_archs": strings,
        "total_archs": 15625,
        "arch2infos": infos,
        "evaluated_indexes": {*uids},
    }


def write_nats(folder, whole, protocol=4):
    """The folder of NATS-Bench that holds the same as a dict of NAS-Bench-201."""
    folder.mkdir(parents=True)
    meta = {"meta_archs": whole["meta_archs"], "total_archs": 15625}
    parts = {META: meta}
    for index, infos in whole["arch2infos"].items():
        parts[f"{index:06d}.pickle.pbz2"] = {"12": infos["less"], "200": infos["full"]}
    for name, value in parts.items():
        (folder / name).write_bytes(bz2.compress(pickle.dumps(value, protocol)))
    return folder


# --- torch ----------------------------------------------------------------------------


class FakeTensor:
    """Is pickled as torch pickles a tensor."""

    def __init__(self, key, array):
        self.key, self.array = key, np.ascontiguousarray(array)

    def __reduce__(self):
        utils, strides = sys.modules["torch._utils"], []
        for axis in range(self.array.ndim):
            strides.append(int(np.prod(self.array.shape[axis + 1 :], dtype=int)))
        arguments = self, 0, self.array.shape, tuple(strides), False
        return utils._rebuild_tensor_v2, (*arguments, collections.OrderedDict())


class _Pickler(pickle.Pickler):
    def __init__(self, file, protocol, legacy):
        super().__init__(file, protocol)
        self.legacy, self.storages = legacy, {}

    def persistent_id(self, value):
        if not isinstance(value, FakeTensor):
            return None
        # The first time a tensor is met it is the tensor, and inside it its storage.
        if value.key not in self.storages:
            self.storages[value.key] = value.array
            return None
        kinds = {"f4": "FloatStorage", "f8": "DoubleStorage", "i8": "LongStorage"}
        kind = getattr(sys.modules["torch"], kinds[value.array.dtype.str[1:]])
        identity = "storage", kind, value.key, "cpu", value.array.size
        return (*identity, None) if self.legacy else identity


def _fake_torch():
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "DoubleStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2():
        """A name to write into pickles; nobody calls it."""

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    return mock.patch.dict(sys.modules, {"torch": torch, "torch._utils": utils})


def _pickled(value, protocol, legacy):
    with _fake_torch():
        file = io.BytesIO()
        pickler = _Pickler(file, protocol, legacy)
        pickler.dump(value)
        return file.getvalue(), pickler.storages


def torch_zip(value, protocol=2, compression=zipfile.ZIP_STORED, raw=None):
    """The bytes of a file as torch writes it since 1.6."""
    data, storages = _pickled(value, protocol, False)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", data if raw is None else raw)
        archive.writestr("archive/byteorder", "little")
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())
        archive.writestr("archive/version", "3\n")
    return file.getvalue()


def torch_legacy(value, protocol=2, raw=None):
    """The bytes of a file as torch wrote it before 1.6."""
    data, storages = _pickled(value, protocol, True)
    sizes = {"short": 2, "int": 4, "long": 4}
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": sizes}
    head = [pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, system)]
    tail = [pickle.dumps(sorted(storages), 2)]
    for key in sorted(storages):
        tail += [struct.pack("<q", storages[key].size), storages[key].tobytes()]
    return b"".join([*head, data if raw is None else raw, *tail])


# --- NAS-Bench-101 --------------------------------------------------------------------


def _field(number, kind, data):
    head = bytes([number << 3 | kind])
    return head + (_varint(len(data)) if kind == 2 else b"") + data


def _varint(value):
    data = b""
    while value > 127:
        data, value = data + bytes([value & 127 | 128]), value >> 7
    return data + bytes([value])


def metrics(points, params, total, checkpoint=b""):
    """A ModelMetrics message: points of epoch, time and three accuracies."""
    message = b""
    for numbers in points:
        parts = [_field(i, 1, struct.pack("<d", x)) for i, x in enumerate(numbers, 1)]
        parts += [_field(6, 2, checkpoint)] if checkpoint else []
        message += _field(1, 2, b"".join(parts))
    return message + b"\x10" + _varint(params) + _field(3, 1, struct.pack("<d", total))


def cell_texts(nv, adj_code, ops):
    """Matrix and operations of a cell of the reference table, as the records have them."""
    places = [(i, j) for i in range(nv) for j in range(nv)]
    bits = "".join(str(int(adj_code) >> (7 * i + j) & 1) for i, j in places)
    names = [nasbench101.OPERATIONS[op] for op in ops[: nv - 2]]
    return bits, ",".join(["input", *names, "output"])


def cell_record(digest, epochs, texts, message):
    """A record of NAS-Bench-101."""
    text = base64.b64encode(message).decode()
    return json.dumps([digest, epochs, *texts, text]).encode()


def tfrecords(records):
    """The bytes of a TFRecord file."""
    data = b""
    for record in records:
        size = struct.pack("<Q", len(record))
        for part in (size, record):
            data += part + struct.pack("<I", tfrecord.mask_crc(tfrecord.crc32c(part)))
    return data


class Call:
    """Unpickling it calls a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call
