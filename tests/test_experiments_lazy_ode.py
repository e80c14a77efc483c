"""The statement on the lazy ODE: its judge, and its three models against plain torch."""

import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.experiments.mean_field import lazy_ode
from regimes.experiments.mean_field.lazy_ode import DEPTHS, STATEMENT, Config
from regimes.experiments.mean_field.lazy_ode.nets import Weights, block_kernel, lazy, scaled, start, states, tangent
from regimes.experiments.mean_field.lazy_ode.runs import measure
from regimes.experiments.mean_field.paths import problem

CLAIMED = {
    "correlated": {"weights": -1.0, "to_ode": -1.0, "kernel": -1.0, "to_tangent": 0.0},
    "mirrored": {"weights": -1.0, "to_ode": -2.0, "kernel": -2.0, "to_tangent": 0.0},
}


def made_up(law="", column="", power=0.0, control=0.8):
    """Power laws from α = 30 on whose factor varies with the seed; other values at α = 1."""
    rows = []
    for own, powers in CLAIMED.items():
        for layers in DEPTHS:
            for alpha in (1.0, 30.0, 100.0, 300.0):
                for seed in range(5):
                    noise = 1 + 0.02 * math.sin(3.0 * seed + alpha)
                    some = powers | ({column: power} if own == law else {})
                    row = {name: noise * alpha**exponent for name, exponent in some.items()}
                    if alpha == 1:
                        row = dict.fromkeys(row, 5.0) | {"kernel": control * noise}
                    row |= {"moved": 2.0, "risk_0": 1.0, "risk": 0.1}
                    rows.append({"law": own, "layers": layers, "alpha": alpha, "seed": seed} | row)
    return pd.DataFrame(rows)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_derived_exponents_support_the_statement():
    judged = lazy_ode.judge(made_up())
    assert judged.verdict == "supported"
    assert judged.merits["mirrored, α = 1: share of the risk left"] == pytest.approx(0.1)
    assert judged.merits["mirrored, α = 1: distance to the ODE / motion of the output"] == pytest.approx(2.5)


@pytest.mark.slow
@pytest.mark.parametrize("law", CLAIMED)
@pytest.mark.parametrize(("column", "power", "count"), [
    ("weights", -0.5, 1), ("to_ode", -1.5, len(DEPTHS)), ("kernel", -1.5, 1), ("to_tangent", -1.0, 1),
])  # fmt: skip
def test_another_exponent_refutes_the_predictions_of_its_law_alone(law, column, power, count):
    findings = lazy_ode.judge(made_up(law, column, power)).findings
    refuted = [finding.quantity for finding in findings if finding.verdict == "refuted"]
    assert len(refuted) == count
    assert all(quantity.startswith(law) for quantity in refuted)
    assert sum(finding.verdict == "supported" for finding in findings) == len(STATEMENT.predictions) - count


@pytest.mark.slow
def test_kernels_that_stand_still_at_scale_one_refute_the_control():
    verdicts = [finding.verdict for finding in lazy_ode.judge(made_up(control=0.1)).findings]
    assert verdicts.count("refuted") == 2


@pytest.mark.slow
def test_rows_of_a_part_of_the_axes_are_judged_tabled_and_drawn():
    rows = made_up()
    for some in (rows[rows.law == "mirrored"], rows[rows.layers == DEPTHS[0]]):
        assert lazy_ode.judge(some).verdict == "inconclusive"
        assert len(lazy_ode.table(some)) == some.groupby(["law", "layers", "alpha"]).ngroups
        assert lazy_ode.draw(some).axes


@pytest.mark.slow
@pytest.mark.parametrize("law", CLAIMED)
def test_the_lazy_ode_is_the_net_at_an_infinite_scale_and_the_tangent_model_its_derivative(law):
    x, first = random(2, 3, 4), start(law, 5, 6, 4, [1, 2])
    moved = Weights(*(random(*part.shape, seed=number) for number, part in enumerate(first)))
    limit = states(x, lazy(first, moved), 5, 6)
    assert_close(states(x, scaled(first, moved, torch.tensor([1e7, 1e7]).double()), 5, 6), limit, rtol=1e-6, atol=1e-6)

    def along(share):
        by = Weights(*(share * part for part in moved))
        return states(x, scaled(first, by, torch.ones(2).double()), 5, 6)

    zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    _, derivative = torch.func.jvp(along, (zero,), (one,))
    assert_close(tangent(x, lazy(first, moved), 5, 6), x + derivative)
    assert (tangent(x, lazy(first, moved), 5, 6) - limit).abs().max() > 0.01


@pytest.mark.parametrize("law", CLAIMED)
def test_an_untrained_net_does_nothing_and_a_mirrored_one_needs_no_correction_for_that(law):
    x, first = random(2, 3, 4), start(law, 5, 6, 4, [1, 2])
    still = Weights(*(torch.zeros_like(part) for part in first))
    assert_close(states(x, scaled(first, still, torch.ones(2).double()), 5, 6), x)
    field = torch.tanh(x @ first.input[:, 0].mT) @ first.output[:, 0]
    assert bool(field.abs().max() < 1e-12) == (law == "mirrored")


@pytest.mark.slow
def test_the_kernel_of_a_block_is_that_of_its_jacobian():
    x, first = random(1, 3, 2), start("correlated", 2, 4, 2, [3])

    def field(output, inner):
        return torch.tanh(x[0] @ inner.T) @ output

    jacobian = torch.func.jacrev(field, argnums=(0, 1))(first.output[0, 1], first.input[0, 1])
    flat = torch.cat([part.flatten(2) for part in jacobian], 2)
    assert_close(block_kernel(first, x)[0, 1], torch.einsum("ndp,kep->nkde", flat, flat) / 4)


@pytest.mark.slow
def test_a_row_is_gradient_descent_on_the_weights_of_the_net_itself():
    """Step rate·L M/α² on θ by autograd, for one of two nets at once."""
    config = Config(width=4, steps=5, rate=0.3)
    grid = [{"law": "correlated", "layers": 3, "alpha": alpha, "seed": 1} for alpha in (1.0, 2.0)]
    row = measure(config, grid)[1]
    risk, first = problem(config.samples, config.inputs, [1]), start("correlated", 3, 4, config.inputs, [1])
    kept = [part[0] for part in first]
    theta = [part.clone().requires_grad_() for part in kept]

    def outputs():
        x = risk.x[0]
        for cell in range(3):
            now, before = (torch.tanh(x @ v[cell].T) @ u[cell] for u, v in (theta, kept))
            x = x + 2.0 / (3 * 4) * (now - before)
        return x @ risk.readout[0]

    begun = outputs().detach()
    for _ in range(5):
        loss = (outputs() - risk.y[0]).square().mean() / 2
        for weight, slope in zip(theta, torch.autograd.grad(loss, theta), strict=True):
            weight.data -= 0.3 * 3 * 4 / 2.0**2 * slope
    motion = sum((a - b).square().sum(2).mean() for a, b in zip(theta, kept, strict=True)) ** 0.5
    assert row["weights"] == pytest.approx(float(motion.detach()))
    assert row["risk"] == pytest.approx(float((outputs() - risk.y[0]).square().mean().detach()) / 2)
    assert row["moved"] >= float((outputs() - begun).square().mean().sqrt().detach()) - 1e-12
