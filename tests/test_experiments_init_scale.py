import math
import re

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.synthetic import sphere, teacher_student
from regimes.data.teacher import random_teacher
from regimes.errors import UserError
from regimes.experiments.lazy import init_scale
from regimes.experiments.lazy.init_scale import runs
from regimes.experiments.lazy.init_scale.numbers import losses
from regimes.lab.config import load
from regimes.lab.grid import grid_points
from regimes.meanfield.particles import double, gaussian

TINY = init_scale.Config(
    inputs=5, neurons=4, samples=12, test_samples=7, iterations=12, batch=6, population_iterations=5, averaged=3,
    tau=[0.05, 2.0], tau_population=[0.05, 2.0], precision="float64",
)  # fmt: skip


def table(lazy_end=3.7, lazy_best=2.06, small=0.1, population=1.36, population_small=0.01):
    """A made-up table of three trials around the given losses × 1000, d = 100."""
    rows = []
    for seed in range(3):
        wobble = 1 + 0.01 * (seed - 1)
        for tau, end, best, there in ((0.01, small, small, population_small), (2.0, lazy_end, lazy_best, population)):
            common = {"seed": seed, "tau": tau, "weight_motion": 0.1, "unit": 0.0075}
            losses = {"test_end": end * wobble / 1000, "test_best": best * wobble / 1000}
            rows.append({"setting": "full_batch", **common, **losses})
            rows.append({"setting": "population", **common, "test_end": there * wobble / 1000})
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in init_scale.judge(rows).findings}


def test_the_published_curves_support_the_statement():
    judgement = init_scale.judge(table())
    assert judgement.verdict == "supported"
    assert judgement.merits["the best τ, full batch"] == 0.01
    assert judgement.merits["test loss, τ ≥ 2 over the best τ"] == pytest.approx(37)


@pytest.mark.parametrize(("change", "quantity"), [
    ({"lazy_end": 1.8}, init_scale.END),
    ({"lazy_best": 3.6}, init_scale.BEST),
    ({"small": 2.0}, init_scale.GAIN),
    ({"population": 4.0}, init_scale.PLATEAU),
    ({"population_small": 0.5}, init_scale.POPULATION_GAIN),
])  # fmt: skip
def test_a_table_that_breaks_one_prediction_refutes_it_alone(change, quantity):
    found = verdicts(table(**change))
    assert found.pop(quantity) == "refuted"
    assert set(found.values()) == {"supported"}


def test_ratios_are_geometric_means_and_the_best_scale_has_the_least_mean():
    rows = table()
    more = rows[(rows.tau == 0.01)].assign(tau=0.1)  # of three trials two are better there, but not their mean
    more.test_end = [value * change for value, change in zip(more.test_end, (0.5, 0.5, 0.5, 0.5, 9, 9), strict=True)]
    rows = pd.concat([rows, more])
    lazy = (rows.setting == "full_batch") & (rows.tau == 2.0)
    rows.loc[lazy, "test_end"] = [0.0037, 0.0074, 0.0148]
    few = rows[(rows.setting == "full_batch") | (rows.seed < 2)]
    judged = init_scale.judge(few)
    ends = rows[(rows.setting == "full_batch") & (rows.tau == 0.01)].test_end.to_numpy()
    ratio = float(((rows[lazy].test_end.to_numpy() / ends).prod()) ** (1 / 3))
    assert judged.merits["test loss, τ ≥ 2 over the best τ"] == pytest.approx(ratio)
    assert judged.merits["the best τ, full batch"] == 0.01
    assert judged.merits["trials"] == 3


@pytest.mark.parametrize(("end", "best", "noted"), [(3.1, 2.06, 0), (3.7, 2.06, 1), (3.7, 2.6, 2)])
def test_a_published_plateau_outside_the_interval_is_noted(end, best, noted):
    rows = table(lazy_end=end, lazy_best=best)
    said = [note for note in init_scale.judge(rows).notes if "published plateau" in note]
    assert len(said) == noted


def test_a_column_that_some_rows_lack_is_drawn_where_it_is():
    rows = table()
    rows.loc[(rows.setting == "full_batch") & (rows.tau == 0.01), "test_best"] = math.nan
    assert 2.0 in losses(rows, "full_batch", "test_best")
    assert losses(rows, "population", "test_best") == {}


def test_what_a_linear_function_and_a_constant_leave_is_the_closed_form():
    # One neuron: relu(z) = z/2 + |z|/2, z² has mean 1/d, |z| leaves (1 − 2/π)/d, on the sphere up to order 1/d².
    d, n = 100, 50_000
    z = sphere(n, d, generator=generator(0))[:, 0]
    design = torch.stack([torch.ones(n).double(), z], 1)
    target = z.relu()[:, None]
    residual = (target - design @ torch.linalg.lstsq(design, target).solution).square()[:, 0]
    expected = 2 * init_scale.LINEAR_SHARE * (1 / (4 * d))  # one of the three neurons; the risk has a factor ½
    assert abs(residual.mean() - expected) < 5 * residual.std() / math.sqrt(n) + expected / d  # the correction


def trial(setting, seed):
    return [point for point in grid_points(init_scale, TINY) if (point["setting"], point["seed"]) == (setting, seed)]


def start(seed, tau):
    drawn = double(gaussian(TINY.neurons // 2, TINY.inputs, generators=[generator(seed, 1)], std=tau))
    return drawn.output[0, :, 0].clone().requires_grad_(), drawn.input[0].clone().requires_grad_()


@pytest.mark.parametrize("tau", [0.05, 2.0])
def test_full_batch_is_plain_gradient_descent_of_the_published_size(tau):
    points = trial("full_batch", 1)
    rows = init_scale.measure(TINY, points)
    row = rows[[point["tau"] for point in points].index(tau)]
    data = teacher_student(TINY.samples, TINY.test_samples, inputs=TINY.inputs, generator=generator(1, 0))
    a, b = start(1, tau)
    norm = torch.cat([a.detach()[:, None], b.detach()], 1)
    tests = []
    for iteration in range(TINY.iterations + 1):
        risk = ((data.x_train @ b.T).relu() @ a - data.y_train[:, 0]).square().mean() / 2
        tests.append(((data.x_test @ b.T).relu() @ a - data.y_test[:, 0]).square().mean().item() / 2)
        if iteration == TINY.iterations:
            break
        steps = torch.autograd.grad(risk, (a, b))
        with torch.no_grad():
            for weights, gradient in zip((a, b), steps, strict=True):
                weights -= min(10, 0.1 / tau**2) * gradient
    assert row["test_end"] == pytest.approx(tests[-1], rel=1e-9)
    assert row["train_end"] == pytest.approx(risk.item(), rel=1e-9)
    assert row["test_best"] == pytest.approx(min(tests[0], tests[10], tests[-1]), rel=1e-9)
    moved = torch.cat([a.detach()[:, None], b.detach()], 1) - norm
    assert row["weight_motion"] == pytest.approx((moved.norm() / norm.norm()).item(), rel=1e-9)


@pytest.mark.parametrize("tau", [0.05, 2.0])
def test_population_setting_is_the_published_update_on_fresh_batches(tau):
    points = trial("population", 0)
    rows = init_scale.measure(TINY, points)
    row = rows[[point["tau"] for point in points].index(tau)]
    teacher = random_teacher(TINY.inputs, generator=generator(0, 0))
    stream = generator(0, 2)
    sphere(TINY.batch, TINY.inputs, generator=stream)  # a first batch is drawn to set up the risk
    a, b = (weights.detach().clone() for weights in start(0, tau))
    step, losses = min(0.25 / tau**2, 25), []
    for _ in range(TINY.population_iterations):
        x = sphere(TINY.batch, TINY.inputs, generator=stream)
        features = (x @ b.T).relu()
        residual = features @ a / TINY.neurons - teacher(x)[:, 0] / 200
        losses.append(residual.square().mean().item() / 2)
        pulled = (residual[:, None] * (features > 0)).T @ x / TINY.batch * a[:, None]
        a, b = a - step * features.T @ residual / TINY.batch, b - step * TINY.inputs * pulled
    assert row["test_end"] == pytest.approx(200**2 * sum(losses[-TINY.averaged :]) / TINY.averaged, rel=1e-9)


def test_the_net_starts_at_zero_and_all_scales_of_a_trial_start_from_the_same_numbers():
    both = runs.initial(TINY, 3, torch.tensor([0.1, 2.0], dtype=torch.float64))
    assert_close(both.input[0] * 20, both.input[1])
    assert_close(both.output[0] * 20, both.output[1])
    assert_close(both.output[:, :2], -both.output[:, 2:])
    assert torch.equal(both.input[:, :2], both.input[:, 2:])


def test_the_configuration_file_is_the_published_size():
    config = load(init_scale.Config, "configs/init_scale.yaml")
    assert_close(torch.tensor(config.tau), 10 ** torch.linspace(-2.2, 1, 33), rtol=1e-5, atol=0)  # float32 grid
    assert config.tau_population[:4] == [0.01, 0.02, 0.04, 0.1]
    assert len(config.tau_population) == 17
    assert (config.inputs, config.neurons, config.samples, config.test_samples) == (100, 50, 1000, 1000)
    assert (config.iterations, config.population_iterations, config.batch, config.seeds) == (10_000, 20_000, 200, 10)
    assert len(grid_points(init_scale, config)) == 10 * (33 + 17)


@pytest.mark.parametrize(("scale", "limit"), [(1e-300, "or equal to 1e-30;"), (1e300, "or equal to 1e+30;")])
def test_scales_at_which_weights_or_their_squares_vanish_or_overflow_are_refused(scale, limit):
    with pytest.raises(UserError, match=re.escape(limit)):
        load(init_scale.Config, overrides=[f"tau=[{scale}]"])


def test_table_and_figure_show_the_losses_that_are_judged():
    rows = table()
    shown = init_scale.table(rows).set_index(["setting", "τ"])
    assert shown.loc[("full batch", 2.0), "1000 × loss"] == pytest.approx(3.7)
    assert shown.loc[("full batch", 2.0), "1000 × best loss"] == pytest.approx(2.06)
    assert shown.loc[("population", 0.01), "1000 × best loss"] == ""
    left, right = init_scale.draw(rows).axes
    assert_close(left.lines[0].get_ydata()[-1], 3.7, rtol=1e-6, atol=0)  # 1000 × the mean loss
    assert_close(right.lines[0].get_ydata()[-1], 1.36, rtol=1e-6, atol=0)


def test_a_published_plateau_outside_the_interval_is_told():
    assert not any("published" in note for note in init_scale.judge(table(lazy_end=3.1)).notes)
    (note,) = (note for note in init_scale.judge(table()).notes if "published" in note)
    assert "3.1 (end of training), lies outside" in note


def test_a_best_scale_at_the_end_of_the_grid_is_told():
    rows = table(small=0.1, population_small=0.01)
    smaller = rows[(rows.tau == 0.01) & (rows.setting == "population")].assign(tau=0.001, test_end=1.0)
    (note,) = (note for note in init_scale.judge(pd.concat([rows, smaller])).notes if "best τ" in note)
    assert "full batch, is the smallest measured, 0.01" in note


def test_without_a_small_initialisation_the_large_one_is_compared_with_none():
    rows = table()
    large = rows[rows.tau == 2.0]
    both = pd.concat([large, large.assign(tau=8.0), large.assign(tau=1.0)])
    found = verdicts(both)
    gains = {init_scale.GAIN, init_scale.POPULATION_GAIN}
    assert {name for name, verdict in found.items() if verdict == "not measured"} == gains


def test_scales_and_settings_that_were_not_run_leave_out_their_predictions():
    rows = table()
    found = verdicts(rows[(rows.tau < 1) | (rows.setting == "population")])
    assert found[init_scale.PLATEAU] == found[init_scale.POPULATION_GAIN] == "supported"
    assert {found[name] for name in (init_scale.END, init_scale.BEST, init_scale.GAIN)} == {"not measured"}
    only_full = rows[rows.setting == "full_batch"]
    assert verdicts(only_full)[init_scale.PLATEAU] == "not measured"
    assert len(init_scale.table(only_full)) == 2
    init_scale.draw(only_full)
