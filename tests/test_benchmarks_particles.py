import pytest

from benchmarks import particles

pytestmark = [pytest.mark.slow, pytest.mark.infinite]


@pytest.mark.parametrize("unit", particles.OVERLAPS)
def test_all_ways_take_the_same_steps_to_rounding(unit):
    pytest.importorskip("jax")
    assert particles.compare(unit, 5) < 1e-12
