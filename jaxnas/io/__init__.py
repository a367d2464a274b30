"""Files: atomic writes, npz arrays, checkpoints, the cache, run folders, foreign formats.

What the library writes is in `files` (bytes and CSV), `npz` (named arrays and a
manifest), `checkpoints` (pytrees, by orbax), `cache` (results by content hash) and
`run_folder` (results of one set of settings). Readers check what a file belongs to, its
format and its identity, with `records`.

Foreign formats are read as data, without the libraries that wrote them and within stated
bounds of memory: `pickles` (with `pickle_machine` and `pickle_opcodes`), `torch_files`
(with `torch_tensors`), `tfrecord`, `cifar` and `idx`, all on top of `streams`;
`torch_writer` writes what `torch_files` reads.
"""
