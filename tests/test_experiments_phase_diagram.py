import math
from typing import Any, cast

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.activations import IDENTITY
from regimes.experiments.lazy.phase_diagram import FLAT, OF_REGION, TILTED, Config, draw, judge, measure, table
from regimes.experiments.lazy.phase_diagram.theory import (
    REGIONS,
    boundary,
    exponent,
    one_sample_exponent,
    one_sample_motion,
    region,
)
from regimes.experiments.lazy.planes import crossing
from regimes.experiments.lazy.scaled_nets import samples, start, train
from regimes.meanfield.particles import Particles

GAMMAS, PRIMES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75), (-0.5, 0.0, 0.5)


def made_up(law=exponent, coarse=1.0):
    """Power laws over the plane whose factor and exponent vary a little with the seed."""
    return pd.DataFrame([
        {"width": width, "gamma": gamma, "gamma_prime": prime, "seed": seed, "motion": motion, "stopped": 1.0,
         "motion_coarse": motion * width ** (coarse - 1), "share": 0.01,
         "output_motion": width ** exponent(gamma, -prime)}
        for gamma in GAMMAS
        for prime in PRIMES
        for seed in range(4)
        for width in (256, 4096)
        for motion in [(1 + seed) * width ** (law(gamma, prime) + 0.002 * (seed - 1.5))]
    ])  # fmt: skip


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


def test_the_derived_exponents_support_the_statement():
    judged = judge(made_up())
    assert judged.verdict == "supported"
    assert judged.merits["measured − derived, largest"] == pytest.approx(0, abs=1e-9)
    assert judged.merits["share of points off the boundary with the right sign"] == 1.0


@pytest.mark.slow
@pytest.mark.parametrize("broken", REGIONS, ids=lambda one: one.name.split(":")[0])
def test_another_exponent_in_one_region_refutes_its_prediction_alone(broken):
    found = verdicts(made_up(lambda gamma, prime: exponent(gamma, prime) - 0.2 * (region(gamma, prime) is broken)))
    assert found.pop(OF_REGION[broken.name]) == "refuted"
    assert {found[OF_REGION[one.name]] for one in REGIONS if one is not broken} == {"supported"}


@pytest.mark.parametrize(("side", "other"), [(FLAT, TILTED), (TILTED, FLAT)])
def test_a_moved_boundary_is_refuted_on_its_side_of_the_plane_alone(side, other):
    found = verdicts(made_up(lambda gamma, prime: exponent(gamma - 0.2 * ((prime > 0) == (side == TILTED)), prime)))
    assert found[side] == "refuted"
    assert found[other] == "supported"


def test_nothing_is_said_of_exponents_that_the_coarser_integration_moves():
    assert set(verdicts(made_up(coarse=1.05)).values()) == {"inconclusive"}


def test_nothing_is_said_of_trainings_that_did_not_come_down_to_their_risk():
    assert set(verdicts(made_up().assign(stopped=0.0)).values()) == {"inconclusive"}


def test_a_plane_without_a_zero_has_no_boundary():
    found = verdicts(made_up(lambda gamma, prime: -1.0))
    assert {found[FLAT], found[TILTED]} == {"inconclusive"}


def test_the_zero_is_where_the_last_line_from_below_meets_it():
    gammas = torch.tensor([0.0, 1.0, 2.0, 3.0]).numpy()
    assert crossing(gammas, torch.tensor([-1.0, 0.5, -1.0, 3.0]).numpy()) == pytest.approx(2.25)
    assert math.isnan(crossing(gammas, torch.tensor([1.0, 2.0, 3.0, 4.0]).numpy()))
    assert math.isnan(crossing(gammas, torch.tensor([-4.0, -3.0, -2.0, -1.0]).numpy()))


def test_the_exponents_are_those_of_the_one_sample_formula_at_huge_widths():
    for gamma in GAMMAS:
        for prime in PRIMES:
            assert one_sample_exponent([10**12, 10**16], gamma, prime, 1.0) == pytest.approx(
                exponent(gamma, prime), abs=0.02
            )


def test_the_exponent_is_zero_on_the_boundary_and_changes_its_sign_there():
    for prime in PRIMES:
        place = boundary(prime)
        assert exponent(place, prime) == pytest.approx(0)
        assert exponent(place - 0.1, prime) < 0 < exponent(place + 0.1, prime)


@pytest.mark.slow
@pytest.mark.parametrize(("gamma", "prime"), [(0.75, -0.5), (0.75, 0.5), (1.25, 0.5), (1.25, -0.5), (1.5, 0.0)])
def test_linear_nets_of_one_sample_move_as_the_formula_says(gamma, prime):
    """One point of each region, and weights of mean square 1 as the formula has them."""
    width = 16
    scale, ratio = (torch.tensor([float(width)]).double() ** -power for power in (gamma, prime))
    drawn = start(width, 1, torch.ones(1).double(), [3])
    a, b = (weights / weights.square().mean().sqrt() for weights in drawn)
    data = (torch.ones(1, 1, 1).double(), torch.ones(1, 1, 1).double())
    found = train(Particles(ratio * a, b), data, scale, ratio, IDENTITY, left=1e-4, tolerance=1e-5)
    reached = 1 - float(found.share) ** 0.5  # of the target 1
    assert_close(float(found.input_motion), one_sample_motion(width, gamma, prime, reached), rtol=1e-3, atol=0)
    assert_close(float(found.output_motion), one_sample_motion(width, gamma, -prime, reached), rtol=1e-3, atol=0)


@pytest.mark.slow
def test_the_motion_is_that_of_a_torch_net_in_the_notation_of_the_paper():
    """f = (1/α) Σ a σ(w·x) with a ~ N(0, β₁²), w ~ N(0, β₂²), trained by small steps of plain gradient descent."""
    config, width, gamma, prime, beta = Config.model_validate({"left": 0.1}), 16, 1.25, 0.25, 1.7
    (row,) = measure(config, [{"width": width, "gamma": gamma, "gamma_prime": prime, "seed": 1}])
    (x,), (y,) = samples(config.samples, config.inputs, [1])
    drawn = start(width, config.inputs, torch.ones(1).double(), [1])
    first = drawn.input[0] * beta
    a, w = (drawn.output[0] * beta * width**-prime).requires_grad_(), first.clone().requires_grad_()
    alpha = beta**2 * width**-prime / width**-gamma
    share = 1.0
    while share > config.left:
        risk = (torch.relu(x @ w.T) @ a / alpha - y).square().mean() / 2
        share = float(risk.detach() / y.square().mean() * 2)
        for weights, slope in zip((a, w), torch.autograd.grad(risk, (a, w)), strict=True):
            weights.data -= 1.0 * slope
    assert_close(row["motion"], float((w.detach() - first).norm() / first.norm()), rtol=0.02, atol=0)


def test_table_and_figure_show_the_whole_plane():
    rows = made_up()
    shown = table(rows)
    assert len(shown) == len(GAMMAS) * len(PRIMES)
    assert set(shown.region) == {"edge", *(one.name.split(":")[0] for one in REGIONS)}
    plane, cuts = (cast(Any, ax) for ax in draw(rows).axes[:2])
    assert plane.collections[0].get_array().shape == (len(PRIMES), len(GAMMAS))
    assert len(cuts.get_legend().get_texts()) == 3


def test_rows_of_one_width_are_drawn_and_judged_as_not_measured():
    rows = made_up().query("width == 256")
    assert judge(rows).verdict == "not measured"
    draw(rows)
    assert table(rows).empty
