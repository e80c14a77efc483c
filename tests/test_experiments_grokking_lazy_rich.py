import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.experiments.lazy import grokking_lazy_rich
from regimes.experiments.lazy.grokking_lazy_rich import Config, draw, judge, moments, runs, table
from regimes.tangent.regression import GradientFlow

OBEYED = {"delay": (2.0, 0.35), "delay_other": (2.0, 0.3), "test_end": (0.02, 0.6)}  # at α = 1, exponent in α
TINY = Config(inputs=4, samples=7, width=6)


ALPHA = (0.0625, 1.0, 4.0, 32.0, 10_000.0)


def made_up(lazy=0.61, tangent=0.6, least=0.3, met=1.0, alphas=ALPHA, **changed):
    laws = OBEYED | changed
    rows = []
    for alpha in alphas:
        for seed in range(5):
            row = {name: factor * alpha**power * (1 + 0.01 * seed) for name, (factor, power) in laws.items()}
            row |= {"alpha": alpha, "seed": seed, "delay_error": 1e-6, "delay_other_error": 1e-6, "least": least}
            row |= {"t_train": 10.0, "t_test": 10 * row["delay"], "train_end": 1e-4, "tangent_end": tangent}
            row |= {"met": met, "met_other": met}
            if alpha >= 1000:
                row |= {"test_end": lazy + 1e-3 * seed, "met": 0.0, "met_other": 0.0}
            rows.append(row)
    return pd.DataFrame(rows)


def test_rows_that_obey_support_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(("changed", "broken"), [
    ({"delay": (2.0, -0.1)}, {"DELAY", "SMALL", "LARGE"}),
    ({"delay_other": (2.0, -0.1)}, {"OTHER"}),
    ({"delay": (3.0, 0.1)}, {"SMALL"}),
    ({"delay": (1.8, 0.05)}, {"LARGE"}),
    ({"test_end": (0.1, -0.2)}, {"LEFT"}),
    ({"lazy": 0.5}, {"TANGENT"}),
    ({"least": 0.7}, {"BOUND"}),
])  # fmt: skip
def test_each_broken_claim_is_refuted_alone(changed, broken):
    found = {finding.quantity: finding.verdict for finding in judge(made_up(**changed)).findings}
    assert {name for name in found if found[name] == "refuted"} == {
        getattr(grokking_lazy_rich, name) for name in broken
    }


def test_runs_that_never_generalise_are_counted():
    name = "runs below α = 1,000 whose test loss does not pass the level"
    assert judge(made_up()).merits[name] == 0
    assert judge(made_up(met=0.0)).merits[name] == 20


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


@pytest.mark.parametrize(("column", "alpha", "open"), [
    ("met", 0.0625, {"DELAY", "SMALL"}), ("met", 4.0, {"DELAY"}), ("met", 32.0, {"DELAY", "LARGE"}),
    ("met_other", 4.0, {"OTHER"}),
])  # fmt: skip
def test_a_run_that_ends_before_its_test_loss_passes_the_level_has_no_delay(column, alpha, open):
    rows = made_up()
    rows.loc[(rows.alpha == alpha) & (rows.seed == 2), column] = 0.0
    found = verdicts(rows)
    undecided = {getattr(grokking_lazy_rich, name) for name in open}
    assert {name for name in found if found[name] == "inconclusive"} == undecided
    assert {name for name in found if found[name] == "supported"} == set(found) - undecided


def test_nothing_is_said_of_delays_where_no_test_loss_passes_the_level():
    rows = made_up(met=0.0)
    found = verdicts(rows)
    for name in ("DELAY", "OTHER", "SMALL", "LARGE"):
        assert found[getattr(grokking_lazy_rich, name)] == "inconclusive"
    rows["t_train"] *= rows.alpha**0.1
    assert [len(line.get_xdata()) for line in draw(rows).axes[1].lines] == [0, 0]


@pytest.mark.parametrize(("alphas", "absent"), [
    ((8.0, 10_000.0), {"DELAY", "OTHER", "SMALL", "LARGE", "LEFT"}),
    ((0.0625, 0.25), {"LARGE", "TANGENT", "BOUND"}),
    ((16.0, 64.0, 1000.0), {"SMALL"}),
])  # fmt: skip
def test_delays_at_both_ends_are_judged_only_on_grids_as_wide_as_the_pilots(alphas, absent):
    found = verdicts(made_up(alphas=alphas))
    missing = {getattr(grokking_lazy_rich, name) for name in absent}
    assert {name for name in found if found[name] == "not measured"} == missing


def test_two_lazy_scales_of_one_seed_are_one_repetition():
    rows = made_up(alphas=(*ALPHA, 20_000.0))
    found = {finding.quantity: finding.repetitions for finding in judge(rows).findings}
    assert found[grokking_lazy_rich.TANGENT] == found[grokking_lazy_rich.BOUND] == 5


@pytest.mark.parametrize("setting", ["level", "other_level"])
def test_the_levels_are_those_that_the_predictions_name(setting):
    with pytest.raises(ValueError, match=setting):
        Config.model_validate({setting: 0.3})


def test_table_and_figure_show_what_is_judged():
    shown = table(made_up())
    assert shown["α"].tolist() == list(ALPHA)
    assert shown["share that passes"].tolist() == [1.0, 1.0, 1.0, 1.0, 0.0]
    assert [str(delay).startswith("≥ ") for delay in shown.delay] == [False, False, False, False, True]
    assert str(shown["t of test loss 0.2"].iloc[-1]).startswith("≥ ")
    assert shown["delay, 95 %"].iloc[-1] == ""
    legend = draw(made_up()).axes[1].get_legend()
    assert legend is not None
    assert "0.35" in legend.get_texts()[0].get_text()


def tiny_net():
    """The problem of seed 3 and its neurons, and the same net by autograd: w, inputs -> h."""
    of = runs.drawn(TINY, 3)
    w_0 = torch.randn(6, 4, generator=runs.generator(3, runs.LazyNet.WEIGHTS), dtype=torch.float64)

    def net(w, z):
        pre = z @ w.T
        return (pre + of.epsilon / 2 * pre**2).mean(1)

    return of, w_0, net


@pytest.mark.slow
def test_the_moments_move_as_the_neurons_do_in_small_steps_of_gradient_descent():
    of, w_0, net = tiny_net()
    for alpha in (0.5, 20.0):
        w, first, time, steps = w_0.clone().requires_grad_(), net(w_0, of.z), 3.0, 600
        for _ in range(steps):
            loss = (alpha * (net(w, of.z) - first) - of.y).square().mean() / alpha**2
            (slope,) = torch.autograd.grad(loss, w)
            with torch.no_grad():
                w -= time / steps * 6 * slope
        f = alpha * (net(w, of.z) - first).detach()
        scale, times = torch.tensor([alpha]).double(), torch.tensor([time]).double()
        found = moments.course(of, scale, times, final=1e-12, tolerance=1e-6)
        expected = (f - of.y).square().mean() / of.y.square().mean()
        assert_close(found.train[0, 0], expected, rtol=1e-2, atol=0.0)  # Euler steps of 1/200
        assert found.train[0, 0] < 0.9


def test_the_test_loss_is_the_mean_over_normal_inputs():
    of, _, _ = tiny_net()
    drawn = torch.randn(1, 4, 4, dtype=torch.float64)
    at = moments.Moments(torch.randn(1, 4, dtype=torch.float64), drawn + drawn.mT)
    z = torch.randn(200_000, 4, dtype=torch.float64) / 2
    some = of._replace(z=z, y=(z @ of.beta).square())
    squares = (moments.outputs(some, at)[0] - some.y).square()
    assert abs(float(squares.mean() / 3 - moments.test_loss(of, at))) < 5 * float(squares.std() / 3 / 200_000**0.5)


def test_the_tangent_model_is_the_kernel_regression_of_the_jacobian():
    of, w_0, net = tiny_net()
    z = torch.randn(5000, 4, dtype=torch.float64) / 2
    slopes = torch.func.vmap(torch.func.grad(lambda w, one: net(w, one[None])[0]), (None, 0))
    train, test = (slopes(w_0, each).flatten(1) for each in (of.z, z))
    flow = GradientFlow(6 * train @ train.T, of.y[:, None])
    time = flow.time_to(0.3 * float(of.y.square().mean()) / 2)
    squares = (flow.test(float(time), 6 * test @ train.T)[:, 0] - (z @ of.beta).square()).square()
    found = moments.tangent_test_loss(of, 0.3)
    assert abs(float(squares.mean() / 3) - found) < 5 * float(squares.std() / 3 / 5000**0.5)


@pytest.mark.slow
def test_a_net_of_large_scale_is_its_tangent_model():
    of, _, _ = tiny_net()
    scale, times = torch.tensor([1e6]).double(), torch.tensor([1e5]).double()
    found = moments.course(of, scale, times, final=0.05, tolerance=1e-6)
    assert found.time[0, 0] < 1e5
    assert_close(float(found.test[0, 0]), moments.tangent_test_loss(of, float(found.train[0, 0])), rtol=1e-3, atol=0.0)


def test_a_power_law_passes_a_level_at_its_time_and_a_constant_never_does():
    time = torch.logspace(0, 2, 9, dtype=torch.float64)[:, None].expand(9, 2)
    loss = torch.stack([time[:, 0] ** -1, torch.full((9,), 0.9).double()], 1)
    assert_close(runs.passed(time, loss, 0.13), torch.tensor([1 / 0.13, math.inf]).double())
    course = moments.Course(time, loss**2, loss)
    t_train, t_test, delay, met = runs.delays(course, 0.25)
    assert_close(t_train, torch.tensor([2.0, math.inf]).double())
    assert_close(t_test, torch.tensor([4.0, 100.0]).double())
    assert_close(delay[0], torch.tensor(2.0).double())
    assert met.tolist() == [True, False]


def test_the_losses_of_one_scale_do_not_depend_on_the_others():
    of, _, _ = tiny_net()
    times = torch.tensor([1.0, 10.0]).double()
    both = moments.course(of, torch.tensor([0.5, 8.0]).double(), times, final=1e-2, tolerance=1e-6)
    alone = moments.course(of, torch.tensor([8.0]).double(), times, final=1e-2, tolerance=1e-6)
    assert_close(both.test[:, 1:], alone.test)
