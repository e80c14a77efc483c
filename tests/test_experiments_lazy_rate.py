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
from regimes.lab.sweep import grid_points

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


def test_nothing_is_said_of_effects_below_ten_times_the_integration_error():
    judgement = judge(made_up(share=0.3))
    assert judgement.verdict == "inconclusive"
    assert all(finding.blurred for finding in judgement.findings)


def test_the_measured_suprema_are_those_of_an_independent_solver():
    config = Config(width=6, inputs=2, samples=3, horizon=2.0, times=8, tolerance=1e-10)
    for start in ("doubled", "centred", "plain"):
        (row,) = measure(config, [{"start": start, "alpha": 20.0, "seed": 1}])
        for name, expected in independent(config, start, 20.0, 1).items():
            # both are solved to about 1e-9; the smallest quantity is about 1e-4
            assert_close(row[name], expected, rtol=1e-4, atol=0.0)


def independent(config, start, alpha, seed):
    """The suprema by scipy, in the weights themselves: net and tangent model as two plain ODEs."""
    x = sphere(config.samples, config.inputs, generator=generator(seed, 2)).numpy()
    y = gaussian_inputs(config.samples, 1, generator=generator(seed, 3)).numpy()[:, 0]
    net = lazy_rate.initial(start, config.width, config.inputs, seed)
    first = np.concatenate([net.output[0].flatten().numpy(), net.input[0].flatten().numpy()])
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


def test_a_run_is_the_same_alone_and_in_the_ensemble():
    config = Config(seeds=2, alpha=(10.0, 30.0), horizon=1.0, times=4, tolerance=1e-8)
    points = grid_points(lazy_rate, config)
    together = measure(config, points)
    for index in (0, 5, len(points) - 1):
        (alone,) = measure(config, [points[index]])
        for name, value in alone.items():
            assert_close(together[index][name], value, rtol=1e-6, atol=1e-12)  # the largest relative rounding: w − w̄


def test_only_the_plain_net_starts_away_from_zero():
    config = Config(seeds=1, alpha=(10.0,), horizon=0.1, times=1, tolerance=1e-6)
    doubled, centred, plain = measure(config, grid_points(lazy_rate, config))
    assert doubled["initial_output"] < 1e-14 > centred["initial_output"]
    assert plain["initial_output"] > 0.1


def test_the_figure_has_a_panel_a_quantity_and_the_table_a_line_a_start():
    rows = made_up()
    assert len(draw(rows).axes) == 3
    assert list(table(rows).start) == ["doubled", "centred", "plain"]
