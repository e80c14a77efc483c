"""The ways to one gradient that benchmarks.adjoints times: all on the pair agree, and all on plain steps."""

import importlib.util

import pytest
from torch.testing import assert_close

from benchmarks.adjoint_ways import WAYS, Problem
from benchmarks.adjoints import gradients
from regimes.control.tableau import EULER, KUTTA4

pytestmark = pytest.mark.slow
PLAIN = [name for name in WAYS if name.startswith("plain")]
OTHER = [name for name in WAYS if name not in PLAIN and "torchdiffeq" not in name]


@pytest.mark.parametrize("method", [EULER, KUTTA4])
@pytest.mark.parametrize("depth", [1, 7, 30])
def test_all_ways_have_the_gradient_of_kept_states(method, depth):
    problem = Problem(depth, 5, 3, method)
    for exact, names in (("pair, all kept", OTHER), ("plain steps, all kept", PLAIN)):
        for name in names:
            assert_close(gradients(problem, name), gradients(problem, exact), msg=name)


@pytest.mark.skipif(importlib.util.find_spec("torchdiffeq") is None, reason="needs torchdiffeq")
def test_the_adjoint_of_torchdiffeq_comes_near_it():
    problem = Problem(100, 5, 3, KUTTA4)
    found, exact = (gradients(problem, name) for name in ("torchdiffeq's adjoint", "plain steps, all kept"))
    assert_close(found, exact, rtol=1e-6, atol=1e-6)  # of order 4 at h = 0.01
