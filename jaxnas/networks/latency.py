"""Latency of networks on this machine: one image, one thread, the compiled program.

    reference = measure_reference(network)
    latency = milliseconds(compile_cell(network, arch), reference)

The speed of a machine drifts: clocks change and other programs come and go. So calls of a
candidate alternate with calls of a reference cell, and the median of their ratios, from
which the drift cancels, times the latency of the reference once measured, is the latency.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.networks import apply
from jaxnas.networks import train as training
from jaxnas.networks.initialise import initialise
from jaxnas.networks.nasbench201 import NetworkConfig, Params
from jaxnas.spaces import nasbench201
from jaxnas.types import Array

CALLS, WARM_UP = 61, 3  # measured calls of a program, and calls before them
REFERENCE = np.full(6, nasbench201.CONV3, np.int32)
Clock = Callable[[], float]  # seconds since a fixed moment

# A compiled network with its input: runs once, and returns when it has finished.
Program = Callable[[], Any]


class Reference(NamedTuple):
    """The cell of 3 x 3 convolutions, with which candidates alternate."""

    run: Program
    milliseconds: float  # of a call, when it was measured


def compile_cell(network: NetworkConfig, arch: np.ndarray) -> Program:
    """Compiles the prediction of one image by a network with random weights.

    The architecture is a constant of the program, as in the functions of
    `model_files.load`, so that operations that change nothing are left out.

    Args:
      network: the sizes.
      arch: (6,) integers.
    """

    def parameters() -> Params:
        params = initialise(jax.random.key(0), network)
        running = training.initial_running_stats(params)
        return training.with_running_stats(params, running)

    def predict(params: Params, x: Array) -> Array:
        model = apply.single(network, jnp.asarray(arch, jnp.int32))
        return jax.nn.softmax(apply.run(model, params, x, training.TRAINED).logits)

    size = network.image_size
    arguments = jax.jit(parameters)(), jnp.ones((1, size, size, network.in_channels))
    return compile_call(predict, *arguments)


def compile_call(function: Callable[..., Array], *arguments: Any) -> Program:
    """Compiles a function for its arguments, on a CPU for one thread.

    Args:
      function: of arrays.
      arguments: with which the program calls it.
    """
    options: dict[str, str | bool] = {"xla_cpu_multi_thread_eigen": False}
    on_cpu = jax.default_backend() == "cpu"
    lowered = jax.jit(function).lower(*arguments)
    compiled = lowered.compile(compiler_options=options if on_cpu else None)
    return lambda: jax.block_until_ready(compiled(*arguments))


def measure_reference(
    network: NetworkConfig, clock: Clock = time.perf_counter
) -> Reference:
    """Compiles the reference cell, and measures its latency.

    Args:
      network: the sizes.
      clock: of the latency. `time.process_time` counts the CPU seconds of this process,
        whatever else the machine does.
    """
    run = compile_cell(network, REFERENCE)
    seconds = alternate([run], clock)[:, 0]
    return Reference(run, 1e3 * float(np.median(seconds)))


def milliseconds(
    run: Program, reference: Reference, clock: Clock = time.perf_counter
) -> float:
    """Measures the latency of a program without the drift of the machine's speed.

    Args:
      run: the program.
      reference: of the same clock.
      clock: as for `measure_reference`.

    Returns: milliseconds of a call.
    """
    seconds = alternate([run, reference.run], clock)
    return float(np.median(seconds[:, 0] / seconds[:, 1])) * reference.milliseconds


def alternate(programs: list[Program], clock: Clock) -> np.ndarray:
    """Calls programs in turn, after calls that warm up.

    Args:
      programs: of p networks.
      clock: seconds since a fixed moment.

    Returns: seconds (`CALLS`, p) of each call.
    """
    seconds = np.zeros((WARM_UP + CALLS, len(programs)))
    for row in seconds:
        for i, program in enumerate(programs):
            begin = clock()
            program()
            row[i] = clock() - begin
    # A clock of processor time may stand still during a very short call.
    return np.maximum(seconds[WARM_UP:], 1e-9)
