"""A root at 0 has an infinite derivative: it is told as one, wherever its sample stands, and no NaN is returned."""

import pytest
import torch
from torch import nn

import regimes
from regimes import tangent_operator
from regimes.conventions import generator
from regimes.tangent.estimates import probe
from regimes.tangent.kernel import jacobian


class Root(nn.Module):
    """Infinite derivative at the sample 0, and a finite output there."""

    def __init__(self):
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 4, bias=False), nn.Linear(4, 2)

    def forward(self, x):
        return self.outer(self.inner(x).abs().sqrt())


def samples(place):
    x = torch.randn(9, 3)
    x[place] = 0
    return x


@pytest.mark.parametrize("place", [0, 1, 7])
@pytest.mark.parametrize(
    "call",
    [
        lambda x: regimes.ntk(Root(), x),
        lambda x: regimes.ntk(Root(), x, outputs="trace", block=2),
        lambda x: regimes.ntk(Root(), x[:3], x),
        lambda x: tangent_operator(Root(), x).layers(),
        lambda x: tangent_operator(Root(), x).matvec(torch.ones(9, 2)),
        lambda x: tangent_operator(Root(), x).vjp(torch.ones(9, 2)),
        lambda x: tangent_operator(Root(), x).jvp({k: torch.ones_like(v) for k, v in Root().named_parameters()}),
        lambda x: probe([tangent_operator(Root(), x)], generator=generator(0)),
        lambda x: jacobian(Root(), x),
    ],
)
def test_an_infinite_derivative_is_told_as_one(call, place):
    with pytest.raises(ValueError, match=r"needs finite derivatives; .* NaN or infinite"):
        call(samples(place))


def test_the_samples_of_an_entry_that_is_not_finite_are_named(tmp_path):
    with pytest.raises(ValueError, match="kernel of samples 0 and 7 is"):
        regimes.ntk(Root(), samples(7), block=3, out=tmp_path / "kernel.npy")


def test_products_beyond_the_range_of_a_dtype_are_told_too():
    model = nn.Linear(3, 1)
    with pytest.raises(ValueError, match=r"only large, use model.double\(\)"):
        regimes.ntk(model, torch.full((2, 3), 1e30))
    assert regimes.ntk(model.double(), torch.full((2, 3), 1e30).double()).isfinite().all()
