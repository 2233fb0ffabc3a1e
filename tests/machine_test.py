"""What a process says of itself."""

import subprocess
import sys

import numpy as np

from ood_keras import machine

NUM_BYTES = 300 * 2**20


def test_the_most_memory_stays_when_it_is_given_back():
    before = machine.peak_memory()
    array = np.ones(NUM_BYTES, np.uint8)
    del array
    after = machine.peak_memory()
    assert after >= NUM_BYTES
    assert after >= before
    # Another process begins with its own.
    line = "from ood_keras import machine; print(machine.peak_memory())"
    done = subprocess.run(
        [sys.executable, "-c", line], capture_output=True, text=True, check=True
    )
    assert 2**20 < int(done.stdout) < NUM_BYTES
