"""Measured latencies: the drift cancels, and a cell measured twice has one latency."""

import time

import numpy as np
import pytest

from jaxnas.networks import latency
from jaxnas.networks.nasbench201 import NetworkConfig
from jaxnas.spaces import nasbench201

NETWORK = NetworkConfig(16, 1, 4, image_size=32, in_channels=3, num_stages=1)
LIGHT = np.full(6, nasbench201.SKIP, np.int32)


class Machine:
    """A machine whose clock is advanced by programs, and whose speed drifts."""

    def __init__(self):
        self.now, self.calls = 0.0, 0

    def clock(self):
        return self.now

    def program(self, seconds):
        def run():
            self.calls += 1
            # It becomes three times slower, and every tenth call is interrupted.
            self.now += seconds * (1 + 2 * (self.calls > 100))
            self.now += 10.0 * (self.calls % 11 == 0)

        return run


def test_the_drift_of_the_machine_cancels():
    machine = Machine()
    reference = latency.Reference(machine.program(4e-3), 4.0)
    run = machine.program(1e-3)
    assert latency.milliseconds(run, reference, machine.clock) == pytest.approx(1.0)
    before = machine.calls
    assert latency.milliseconds(run, reference, machine.clock) == pytest.approx(1.0)
    assert machine.calls - before == 2 * (latency.CALLS + latency.WARM_UP)
    assert latency.CALLS >= 30


def test_a_cell_measured_twice_has_one_latency_within_a_tenth():
    clock = time.process_time
    reference = latency.measure_reference(NETWORK, clock)
    run = latency.compile_cell(NETWORK, latency.REFERENCE)
    light = latency.compile_cell(NETWORK, LIGHT)

    def repeated():
        first, second = (latency.milliseconds(run, reference, clock) for _ in range(2))
        return abs(first / second - 1) < 0.1

    # Another program can disturb one attempt, not all.
    assert any(repeated() for _ in range(3))
    value = latency.milliseconds(light, reference, clock)
    assert 0 < value < 0.9 * reference.milliseconds
    probabilities = np.asarray(light())
    assert probabilities.shape == (1, NETWORK.num_classes)
    np.testing.assert_allclose(probabilities.sum(), 1, 1e-5)
