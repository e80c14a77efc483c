"""What mean-field ResNets refuse, as a user calls them."""

import pytest
import torch

from regimes.meanfield.depth import DepthMeasure, DepthRisk, mixture


def measure(runs=2, depth=5, width=3, d=4):
    return DepthMeasure(
        torch.randn(runs, depth, width, d), torch.randn(runs, depth, width, d), *torch.randn(2, runs, depth, width)
    )


def risk():
    return DepthRisk(torch.randn(2, 6, 4), torch.randn(2, 6), torch.randn(2, 4))


@pytest.mark.parametrize(("broken", "words"), [
    (lambda e, rho: e.risk(rho._replace(mass=rho.mass[..., None])), "mass has 4 axes"),
    (lambda e, rho: e.risk(rho._replace(bias=rho.bias * float("nan"))), "finite"),
    (lambda e, rho: e.risk(tuple(rho)), "DepthMeasure"),
    (lambda e, rho: e.risk(measure(runs=3)), "2 runs"),
    (lambda e, rho: e.risk(measure(d=3)), "dimension 4"),
    (lambda e, rho: e.risk(DepthMeasure(*(each.double() for each in rho))), "float64"),
    (lambda e, rho: e.first_variation(rho, measure(depth=4)), "4 cells and 5"),
    (lambda e, rho: mixture(rho, measure(depth=4), 0.5), "Only M may differ"),
    (lambda e, rho: mixture(rho, rho, 1.5), "share"),
    (lambda e, rho: DepthRisk(e.x, e.y[..., None], e.readout), "y has 3 axes"),
    (lambda e, rho: DepthRisk(e.x, e.y, e.readout, strength=0.0), "strength"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_in_words(broken, words):
    with pytest.raises(ValueError, match=words):
        broken(risk(), measure())
