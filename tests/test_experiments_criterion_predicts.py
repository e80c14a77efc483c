import math

import numpy as np
import pandas as pd
import pytest
import torch
from command import command
from scipy.stats import spearmanr
from torch.testing import assert_close

from regimes.conventions import square_risk
from regimes.errors import RunFailed
from regimes.experiments.lazy import criterion_predicts
from regimes.experiments.lazy.criterion_predicts import (
    ESTIMATE,
    LOW,
    OVER_ALPHA,
    OVER_MOTION,
    SECOND,
    WITHIN,
    Config,
    draw,
    judge,
    nets,
    ranks,
    table,
)
from regimes.experiments.lazy.criterion_predicts.models import draw_task, recipe, task
from regimes.experiments.lazy.criterion_predicts.ranks import number
from regimes.experiments.lazy.criterion_predicts.runs import flow, measure
from regimes.lab.grid import grid_points
from regimes.models.scaling import Centred
from regimes.tangent.kernel import ntk
from regimes.tangent.linearize import linearize

ALPHA = (0.5, 2.0, 8.0)


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(ranks, "RESAMPLES", 400)


def made_up(kappa=0.1, low=0.1, motion=3.0, second=0.1, alpha_alone=False, nets=60):
    """Distances c/α, c varies with the net; each predictor is the distance times exp(noise) of the given size."""
    draw, rows = np.random.default_rng(1), []
    for seed in range(nets):
        size = 0.0 if alpha_alone else draw.normal()
        noise = {name: draw.normal() for name in ("kappa", "low", "motion", "second")}
        for alpha in ALPHA:
            distance = math.exp(size + 0.01 * draw.normal()) / alpha
            rows.append({
                "seed": seed, "alpha": alpha, "distance": distance, "distance_coarse": distance * 1.001,
                "kappa": distance * math.exp(kappa * noise["kappa"]),
                "kappa_low": distance * math.exp(low * noise["low"]),
                "kappa_high": 2 * distance * math.exp(max(kappa, low) * 4), "inverse_alpha": 1 / alpha,
                "motion": distance * math.exp(motion * noise["motion"]),
                "second_order": distance * math.exp(second * noise["second"]), "stretch": 3.0, "trained": 1.0,
            })  # fmt: skip
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


def test_a_criterion_that_follows_the_distance_supports_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(("broken", "quantities"), [
    ({"motion": 0.0}, {OVER_MOTION}),
    ({"second": 20.0}, {SECOND}),
    ({"kappa": 20.0}, {ESTIMATE, WITHIN, OVER_ALPHA}),
])  # fmt: skip
def test_a_predictor_that_is_noise_refutes_what_is_said_of_it(broken, quantities):
    found = verdicts(made_up(**broken, nets=120))
    assert {quantity for quantity, verdict in found.items() if verdict == "refuted"} >= quantities
    if "kappa" not in broken:
        assert {quantity for quantity, verdict in found.items() if verdict != "supported"} == quantities


def test_the_lower_bound_is_shown_and_not_judged():
    judged = judge(made_up(low=20.0))
    assert judged.verdict == "supported"
    assert judged.merits[LOW] < 0.5


def test_a_correlation_that_is_of_alpha_alone_is_seen_within_an_alpha():
    found = verdicts(made_up(alpha_alone=True, kappa=0.3))
    assert found[ESTIMATE] == "supported"
    assert found[WITHIN] == "refuted"


def test_rank_correlations_are_those_of_scipy_over_all_and_the_mean_within():
    rows = made_up(kappa=2.0).sample(frac=1, random_state=0)
    rows["kappa"] = rows.kappa.round(1)  # ties
    found = nets(rows)
    assert_close(found.over_all("kappa")[0], spearmanr(rows.kappa, rows.distance)[0])
    within = [spearmanr(some.kappa, some.distance)[0] for _, some in rows.groupby("alpha")]
    assert_close(found.within("kappa")[0], np.mean(within))
    assert_close(found.at(2.0, "kappa")[0], within[1])
    assert math.isnan(found.within("inverse_alpha")[0])


def test_a_resample_has_the_correlation_of_the_rows_drawn_with_their_copies():
    rows = made_up(kappa=2.0, nets=9)
    rows["kappa"] = rows.kappa.round(1)  # ties
    found = nets(rows)
    copies = pd.concat([rows[rows.seed == seed] for seed in range(9) for _ in range(found._counts[3, seed])])
    assert len(copies) == len(rows)
    assert_close(found.over_all("kappa")[3], spearmanr(copies.kappa, copies.distance)[0])


def test_an_end_of_the_interval_is_outside_of_what_other_draws_would_give():
    draws = np.random.default_rng(0).uniform(size=(2, 400))
    found = number(np.array([0.5, *draws[0]]), 9)
    assert found.interval.low < np.quantile(draws[0], 0.025) - 0.005
    assert found.interval.high > np.quantile(draws[0], 0.975) + 0.005
    many = number(np.array([0.5, *np.linspace(0, 1, 400_001)]), 9)
    assert many.interval.low == pytest.approx(0.025 - 2 * (0.025 * 0.975 / 400_001) ** 0.5, abs=1e-5)


def test_resampled_correlations_cover_the_true_one_about_as_often_as_they_say():
    """Gaussian pairs of correlation 0.5 have Spearman's ρ = 6/π asin(0.25)."""
    draw, truth, hits = np.random.default_rng(0), 6 / np.pi * np.arcsin(0.25), 0
    for _ in range(60):
        x = draw.normal(size=40)
        rows = pd.DataFrame({
            "seed": range(40), "alpha": 1.0, "kappa": x, "trained": 1.0, "stretch": 1.0,
            "distance": 0.5 * x + 0.75**0.5 * draw.normal(size=40),
        })  # fmt: skip
        found = number(nets(rows).over_all("kappa"), 40)
        hits += found.interval.low <= truth <= found.interval.high
    assert hits >= 50  # 57 expected, 50 is 4 standard errors below


def test_all_alphas_of_a_net_are_drawn_together():
    """Copies of one row for every α add no information: the interval is that of one α."""
    one = made_up(kappa=2.0)
    one = one[one.alpha == 2.0]
    copies = pd.concat([one.assign(alpha=alpha) for alpha in ALPHA])
    assert number(nets(copies).over_all("kappa"), 60).interval == pytest.approx(
        number(nets(one).over_all("kappa"), 60).interval
    )


def test_a_net_that_did_not_arrive_at_one_alpha_is_left_out_and_counted():
    rows = made_up()
    rows.loc[4, ["trained", "distance"]] = 0.0, 1e9
    assert nets(rows).count == 59
    assert judge(rows).merits["models left out"] == 3
    assert judge(rows.assign(trained=0.0)).verdict == "not measured"
    assert table(rows.assign(trained=0.0)) is not None


@pytest.mark.parametrize("column", ["kappa", "motion", "second_order", "distance"])
def test_a_correlation_of_numbers_of_which_one_is_not_known_is_not_known(column):
    rows = made_up()
    rows.loc[4, column] = math.nan
    judged = judge(rows)
    lost = [finding for finding in judged.findings if math.isnan(finding.value)]
    assert lost
    assert {(finding.verdict, finding.reason) for finding in lost} == {("inconclusive", "the number is not known")}
    if column == "distance":
        assert len(lost) == len(judged.findings)
        assert math.isnan(judged.merits["share of models with distance <= K² κ"])
    assert table(rows) is not None


def test_few_nets_have_no_interval():
    assert number(np.array([0.5, 0.4, 0.6]), 2).bounded is False
    assert number(np.array([math.nan, 0.4]), 9) is None


def test_table_and_figure_show_every_predictor():
    rows = made_up()
    shown = table(rows)
    assert set(shown.predictor) == set(criterion_predicts.PREDICTORS.values())
    assert len(draw(rows).axes) == 3


@pytest.mark.slow
def test_models_differ_by_seed_and_not_by_alpha():
    config = Config(
        width=(8, 16, 32), depth=(1, 2, 3), activation=("tanh", "gelu", "erf", "softplus"), scale=(1.0, 2.0)
    )
    drawn = [recipe(config, seed) for seed in range(40)]
    assert len(set(drawn)) > 30
    assert {one.width for one in drawn} == {8, 16, 32}
    assert {one.standard for one in drawn} == {False, True}
    made = task(config, 5)
    assert_close(made.y.square().mean(), torch.tensor(1.0).double())
    assert_close(made.x.square().sum(1), torch.full((8,), float(made.x.shape[1])).double())


@pytest.mark.slow
def test_a_net_whose_tangent_model_is_too_slow_is_drawn_again():
    config = Config(depth=(1, 2, 3), scale=(0.7, 2.0), inputs=(2, 8))
    drawn = [draw_task(config, 2, attempt).stretch for attempt in range(6)]
    limit = sorted(drawn)[2]
    strict = Config(depth=(1, 2, 3), scale=(0.7, 2.0), inputs=(2, 8), stiffest=limit)
    assert task(strict, 2).stretch == next(one for one in drawn if one <= limit)
    with pytest.raises(RunFailed, match="raise stiffest"):
        task(Config(stiffest=1 + 1e-9), 2)


@pytest.mark.slow
def test_a_scale_with_which_no_net_is_smooth_is_a_mistake_of_the_user(tmp_path):
    ended = command(
        "verify", "criterion_predicts", "--set", "scale=[1e29]", "--set", "seeds=1", "--out", str(tmp_path / "run")
    )
    assert ended.code == 2
    assert "Take smaller weights" in ended.err


@pytest.mark.slow
def test_distance_and_tangent_model_are_those_of_small_steps_of_two_torch_modules():
    """Gradient descent of Centred and of its linearisation, stopped at the same loss of the net."""
    config = Config(alpha=(1.0,), seeds=1, tolerance=1e-6, loss_ratio=0.5, test_samples=20)
    (row,) = measure(config, grid_points(criterion_predicts, config))
    made = task(config, 0)
    net = Centred(made.net, 1.0)
    tangent, step, first = linearize(net), 0.005, float(square_risk(torch.zeros_like(made.y), made.y))
    size = sum(float(value.detach().square().sum()) for value in made.net.parameters()) ** 0.5
    loss = first
    while loss > config.loss_ratio * first:
        for model in (net, tangent):
            model.zero_grad()
            risk = square_risk(model(made.x), made.y)
            risk.backward()
            loss = float(risk.detach()) if model is net else loss
            for weight in model.parameters():
                weight.data -= step * weight.grad
    distance = float((net(made.x_test) - tangent(made.x_test)).detach().square().mean().sqrt())
    assert_close(row["distance"], distance, rtol=5e-2, atol=0.0)  # Euler steps, and the step at which training ends
    moved = sum(float(value.detach().square().sum()) for value in tangent.parameters()) ** 0.5
    assert_close(row["motion"], moved / size, rtol=0.2, atol=0.0)  # the tangent model's own time differs from the net's
    assert row["trained"] == 1.0
    assert row["ratio"] <= config.loss_ratio


@pytest.mark.slow
def test_the_distance_falls_as_one_over_alpha_and_a_flow_without_time_does_not_arrive():
    config = Config(alpha=(20.0, 40.0), seeds=1, tolerance=1e-6)
    rows = measure(config, grid_points(criterion_predicts, config))
    assert_close(rows[0]["distance"] / rows[1]["distance"], 2.0, rtol=0.1, atol=0.0)  # relative O(1/α)
    assert_close(rows[0]["kappa"] / rows[1]["kappa"], 2.0)
    made = task(config, 0)
    kernel = ntk(made.net, made.x).reshape(8, 8) / 8
    top = float(torch.linalg.eigvalsh(kernel)[-1])
    left = torch.linalg.matrix_exp(-kernel * rows[0]["stretch"] / top) @ made.y  # of the tangent model at T = K/‖Dh‖²
    assert_close(float(left.square().mean()), config.loss_ratio)  # of ‖y‖² = 1
    size = sum(float(value.detach().square().sum()) for value in made.net.parameters()) ** 0.5
    bend = 20 * rows[0]["kappa"] * top  # κ = ‖y‖ ‖D²h‖/(α ‖Dh‖²)
    assert_close(rows[0]["second_order"], bend * (20 * size * rows[0]["motion"]) ** 2 / 2 / 20, rtol=1e-4, atol=0.0)
    late = flow(made, torch.tensor([1.0]).double(), 0.1, 1e-3, 1e-6)
    assert not late.arrived.any()
    assert late.ratio > 0.9
