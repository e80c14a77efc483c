"""Nets of layers beside neural-tangents, entry by entry, and beside finite nets of growing width."""

import pytest
import torch
from torch.testing import assert_close

from regimes.activations import ABSOLUTE, ERF, GELU, RELU, piecewise_linear
from regimes.tangent import neural_tangents
from regimes.tangent.infinite import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    LayerNorm,
    Nonlinearity,
    Parallel,
    Residual,
    Serial,
    infinite_kernels,
)

pytest.importorskip("jax")
pytest.importorskip("frozendict")
try:
    stax = neural_tangents.library().stax
except ModuleNotFoundError:
    pytest.skip("neural-tangents is not installed", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.infinite]

ACT = Nonlinearity(RELU)
OURS, THEIRS = {"sigma_w": 1.3, "sigma_b": 0.2}, {"W_std": 1.3, "b_std": 0.2}


def convolutions(padding, stride, pools, ends):
    ours = Conv(3, stride, padding, **OURS), ACT, *pools[0], Conv((3, 2), 1, padding, **OURS), ACT, ends[0], Dense(1.2)
    theirs = (
        *(stax.Conv(1, (3, 3), (stride, stride), padding, **THEIRS), stax.Relu(), *pools[1]),
        *(stax.Conv(1, (3, 2), None, padding, **THEIRS), stax.Relu(), ends[1], stax.Dense(1, 1.2)),
    )
    return Serial(*ours), stax.serial(*theirs)


def residual():
    branch = stax.serial(stax.Relu(), stax.Conv(1, (3, 3), padding="SAME", **THEIRS))
    shortcut = stax.serial(stax.Conv(1, (1, 1), (2, 2), padding="SAME", W_std=0.7))
    longer = stax.serial(stax.LayerNorm(), stax.Relu(), stax.Conv(1, (3, 3), (2, 2), padding="SAME", **THEIRS))
    ours = Serial(
        *(Conv(3, **OURS), Residual(ACT, Conv(3, **OURS))),
        Parallel(Conv(1, 2, sigma_w=0.7), Serial(LayerNorm(), ACT, Conv(3, 2, **OURS)), Conv(2, 2)),
        *(ACT, GlobalAvgPool(), Dense(1.2, 0.3)),
    )
    theirs = stax.serial(
        *(stax.Conv(1, (3, 3), padding="SAME", **THEIRS), stax.FanOut(2), stax.parallel(stax.Identity(), branch)),
        *(stax.FanInSum(), stax.FanOut(3)),
        stax.parallel(shortcut, longer, stax.Conv(1, (2, 2), (2, 2), padding="SAME", W_std=1.0)),
        *(stax.FanInSum(), stax.Relu(), stax.GlobalAvgPool(), stax.Dense(1, 1.2, 0.3)),
    )
    return ours, theirs


def standard():
    """Fan-ins of 2·9, 7·2·3 and 5·positions count."""
    options = {"parametrisation": "standard"}, {"parameterization": "standard"}
    ours = (
        *(Conv(3, width=7, **OURS, **options[0]), ACT, Conv((2, 3), width=5, **OURS, **options[0]), ACT),
        *(Flatten(), Dense(0.9, width=4, **options[0]), ACT, Dense(1.1, 0.4, **options[0])),
    )
    theirs = (
        *(stax.Conv(7, (3, 3), padding="SAME", **THEIRS, **options[1]), stax.Relu()),
        *(stax.Conv(5, (2, 3), padding="SAME", **THEIRS, **options[1]), stax.Relu(), stax.Flatten()),
        *(stax.Dense(4, 0.9, **options[1]), stax.Relu(), stax.Dense(1, 1.1, 0.4, **options[1])),
    )
    return Serial(*ours), stax.serial(*theirs)


def norms(axis, over_positions):
    ours = Serial(
        *(Conv(3, **OURS), LayerNorm(1e-3, over_positions), ACT, Flatten(), Dense(**OURS), LayerNorm(), ACT, Dense())
    )
    theirs = stax.serial(
        *(stax.Conv(1, (3, 3), padding="SAME", **THEIRS), stax.LayerNorm(axis, 1e-3), stax.Relu(), stax.Flatten()),
        *(stax.Dense(1, **THEIRS), stax.LayerNorm(), stax.Relu(), stax.Dense(1, 1.0)),
    )
    return ours, theirs


def activations():
    units = (ERF, stax.Erf()), (GELU, stax.Gelu()), (piecewise_linear(0.1), stax.LeakyRelu(0.1)), (ABSOLUTE, stax.Abs())
    ours = [layer for unit, _ in units for layer in (Conv(2, **OURS), Nonlinearity(unit))]
    theirs = [layer for _, unit in units for layer in (stax.Conv(1, (2, 2), padding="SAME", **THEIRS), unit)]
    return Serial(*ours, GlobalAvgPool(), Dense()), stax.serial(*theirs, stax.GlobalAvgPool(), stax.Dense(1, 1.0))


NONE, SMOOTHED = ((), ()), ((AvgPool(3, 1, "SAME"),), (stax.AvgPool((3, 3), (1, 1), "SAME"),))
HALVED = ((AvgPool(2),), (stax.AvgPool((2, 2), (2, 2)),))
FLAT, POOLED = (Flatten(), stax.Flatten()), (GlobalAvgPool(), stax.GlobalAvgPool())
NETS = {
    "VALID, flattened": lambda: convolutions("VALID", 1, NONE, FLAT),
    "CIRCULAR, strides, flattened": lambda: convolutions("CIRCULAR", 2, NONE, FLAT),
    "SAME, strides, pooled": lambda: convolutions("SAME", 2, NONE, POOLED),
    "CIRCULAR, halved, flattened": lambda: convolutions("CIRCULAR", 1, HALVED, FLAT),
    "SAME, smoothed, pooled": lambda: convolutions("SAME", 1, SMOOTHED, POOLED),
    "residual": residual,
    "standard parametrisation": standard,
    "layer norm": lambda: norms(-1, False),
    "layer norm over positions": lambda: norms((1, 2, 3), True),
    "other activations": activations,
}


def theirs(net, x1, x2):
    import jax

    with jax.enable_x64(True):
        kernels = jax.jit(lambda a, b: net[2](a, b, ("nngp", "ntk")))
        found = kernels(*(x.movedim(1, -1).numpy() for x in (x1, x2)))
        return [torch.from_numpy(each.__array__().copy()) for each in found]


@pytest.mark.filterwarnings("ignore::UserWarning")  # of neural-tangents, on branches that it does not check
@pytest.mark.parametrize("name", NETS)
def test_every_net_has_the_kernels_of_neural_tangents(name):
    ours, other = NETS[name]()
    x1, x2 = (torch.randn(n, 2, 5, 4, dtype=torch.float64) for n in (3, 2))
    for mine, expected in zip(infinite_kernels(ours, x1, x2), theirs(other, x1, x2), strict=True):
        assert_close(mine, expected, rtol=1e-10, atol=1e-10 * float(expected.abs().max()))  # both are closed forms
