import math

import numpy as np
import pandas as pd
import pytest
from scipy.integrate import solve_ivp
from torch.testing import assert_close

from regimes.conventions import generator
from regimes.data.synthetic import gaussian_inputs, sphere
from regimes.experiments.lazy import lazy_rate
from regimes.experiments.lazy.lazy_rate import Config, draw, judge, measure, table
from regimes.experiments.lazy.starts import net
from regimes.lab.grid import grid_points

OBEYED = {
    "doubled": {"weights": -1.0, "departure": -2.0, "outputs": -2.0},
    "centred": {"weights": -1.0, "departure": -2.0, "outputs": -1.0},
    "plain": {"weights": 0.0, "departure": 0.0, "outputs": 1.0},
}


def made_up(exponents=OBEYED, share=1e-6):
    """Power laws with given exponents and relative errors; factor and exponent vary a little with the seed."""
    rows = []
    for start, powers in exponents.items():
        for alpha in (100.0, 1000.0, 10000.0):
            for seed in range(5):
                values = {name: (1 + seed) * alpha ** (power + 0.002 * seed) for name, power in powers.items()}
                errors = {f"{name}_error": share * value for name, value in values.items()}
                first = alpha if start == "plain" else 0.0
                rows.append({"start": start, "alpha": alpha, "seed": seed, "initial_output": first, **values, **errors})
    return pd.DataFrame(rows)


def changed(start, **exponents):
    return OBEYED | {start: OBEYED[start] | exponents}


def test_the_powers_of_the_theory_support_the_statement():
    assert judge(made_up()).verdict == "supported"


def test_the_largest_relative_error_is_told():
    rows = made_up()
    rows.loc[rows.index[7], "outputs_error"] = 0.25 * rows.outputs.iloc[7]
    assert judge(rows).merits["largest error / outputs"] == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("start", "exponents"),
    [
        ("centred", {"weights": -0.8}),
        ("centred", {"outputs": -0.8}),
        ("centred", {"departure": -1.7}),
        ("doubled", {"weights": -1.2}),
        ("doubled", {"departure": -1.8}),
        ("doubled", {"outputs": -1.0}),  # what the theorem alone would give: the mirror symmetry would be missing
        ("plain", {"weights": -1.0}),
        ("plain", {"outputs": 0.0}),
    ],
)
def test_another_power_refutes_it(start, exponents):
    assert judge(made_up(changed(start, **exponents))).verdict == "refuted"


def test_each_exponent_counts_once():
    judged = judge(made_up(changed("doubled", outputs=-0.5)))
    assert [one.quantity for one in judged.findings if one.verdict == "refuted"] == [lazy_rate.PARITY]


def test_nothing_is_said_of_effects_below_ten_times_the_integration_error():
    judgement = judge(made_up(share=0.3))
    assert judgement.verdict == "inconclusive"
    assert {finding.reason for finding in judgement.findings} == {"below 10 × the integration error"}


@pytest.mark.slow
def test_the_measured_suprema_are_those_of_an_independent_solver():
    config = Config(width=4, inputs=2, samples=2, horizon=0.5, times=2, tolerance=1e-10)
    for start in ("doubled", "centred", "plain"):
        (row,) = measure(config, [{"start": start, "alpha": 5.0, "seed": 1}])
        for name, expected in independent(config, start, 5.0, 1).items():
            # both are solved to about 1e-10; the smallest quantity is about 1e-4
            assert_close(row[name], expected, rtol=1e-4, atol=0.0)


def independent(config, start, alpha, seed):
    """The suprema by scipy, in the weights themselves: net and tangent model as two plain ODEs."""
    x = sphere(config.samples, config.inputs, generator=generator(seed, 2)).numpy()
    y = gaussian_inputs(config.samples, 1, generator=generator(seed, 3)).numpy()[:, 0]
    drawn = net(start, config.width, config.inputs, seed)
    first = np.concatenate([drawn.output[0].flatten().numpy(), drawn.input[0].flatten().numpy()])
    m, n = config.width, config.samples

    def output(w):
        return np.tanh(x @ w[m:].reshape(m, -1).T) @ w[:m] / m

    def jacobian(w):
        hidden = x @ w[m:].reshape(m, -1).T
        slopes = (1 - np.tanh(hidden) ** 2) * w[:m]
        return np.hstack([np.tanh(hidden), (slopes[:, :, None] * x[:, None, :]).reshape(n, -1)]) / m

    centre = output(first) if start == "centred" else 0.0
    j = jacobian(first)

    def flow(_, w):  # −m ∇F_α
        return -m / alpha * jacobian(w).T @ (alpha * (output(w) - centre) - y) / n

    def linear_output(w):
        return alpha * (output(first) - centre + j @ (w - first))

    def linear_flow(_, w):
        return -m / alpha * j.T @ (linear_output(w) - y) / n

    times = np.linspace(0, config.horizon, config.times + 1)
    paths = [
        solve_ivp(f, (0, config.horizon), first, method="DOP853", rtol=1e-12, atol=1e-14, t_eval=times).y.T
        for f in (flow, linear_flow)
    ]
    pairs = list(zip(*paths, strict=True))
    return {
        "weights": max(np.linalg.norm(w - first) for w, _ in pairs) / math.sqrt(m),
        "departure": max(np.linalg.norm(w - bar) for w, bar in pairs) / math.sqrt(m),
        "outputs": max(np.linalg.norm(alpha * (output(w) - centre) - linear_output(bar)) for w, bar in pairs)
        / math.sqrt(n),
    }


@pytest.mark.slow
def test_a_run_is_the_same_alone_and_in_the_ensemble():
    config = Config(seeds=2, alpha=(10.0,), horizon=0.3, times=2, tolerance=1e-8)
    points = grid_points(lazy_rate, config)
    together = measure(config, points)
    for index in (0, len(points) - 1):
        (alone,) = measure(config, [points[index]])
        for name, value in alone.items():
            assert_close(together[index][name], value, rtol=1e-6, atol=1e-12)  # the largest relative rounding: w − w̄


def test_only_the_plain_net_starts_away_from_zero():
    config = Config(seeds=1, alpha=(10.0,), horizon=0.1, times=1, tolerance=1e-6)
    doubled, centred, plain = measure(config, grid_points(lazy_rate, config))
    assert doubled["initial_output"] < 1e-14 > centred["initial_output"]
    assert plain["initial_output"] > 0.1


def test_the_exponents_of_table_and_figure_are_those_that_are_judged():
    rows = made_up(changed("plain", weights=-0.0041))
    (weights, *_), shown = table(rows).filter(like="exponent").to_numpy().T, draw(rows).axes[0].get_legend().get_texts()
    assert_close(weights.tolist(), [-0.996, -0.996, -0.0001])
    assert [text.get_text() for text in shown] == ["doubled: −1.00", "centred: −1.00", "plain: 0.00"]


def test_each_curve_goes_through_the_geometric_means_over_the_seeds():
    curves = {line.get_label().split(":")[0]: line.get_ydata() for line in draw(made_up()).axes[2].lines}
    middle = 120**0.2 * 0.001**0.996  # of 1..5 at α = 1000, the exponent being 0.002 · 2 above −1 in the mean
    assert_close(float(curves["centred"][1]), middle)


def test_a_start_that_was_not_run_is_left_out_of_the_verdict():
    rows = made_up({"centred": OBEYED["centred"]})
    assert set(lazy_rate.exponents(rows, "weights")) == {"centred"}
    assert list(table(rows).start) == ["centred"]
    draw(rows)
