"""The second step of a training needs no more memory than the first: nothing of a step is held through the next."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from launch import environment
from step_memory import CASES

pytestmark = pytest.mark.slow

PROGRAM = Path(__file__).parent / "step_memory.py"
# Of the memory of the first step: momentum is made at its end. What is held of a step is nearly all of it.
ALLOWED = 0.25


@pytest.fixture(scope="module")
def growth():
    """For each case how much the peak grows from the first step to the third, over what the first has taken."""
    # Memory of each tensor goes back to the system at once, so that the peak is that of what is alive.
    exactly = environment(MALLOC_MMAP_THRESHOLD_="65536", OMP_NUM_THREADS="1")
    ended = subprocess.run([sys.executable, str(PROGRAM)], env=exactly, capture_output=True, text=True, check=True)
    measured = dict(json.loads(line) for line in ended.stdout.splitlines())
    return {case: (last - first) / (first - before) for case, (before, first, last) in measured.items()}


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is asked by glibc's variable")
@pytest.mark.parametrize("case", [case for case in CASES if case != "held"])
def test_the_peak_does_not_grow_after_the_first_step(growth, case):
    assert growth[case] < ALLOWED


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is asked by glibc's variable")
def test_what_is_held_through_a_step_would_be_seen(growth):
    assert growth["held"] > 3 * ALLOWED
