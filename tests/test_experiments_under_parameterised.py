import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.activations import TANH
from regimes.conventions import function_norm, generator
from regimes.experiments.lazy.under_parameterised import (
    HESSIAN_RATE,
    KERNEL_RATE,
    RATE_EXPONENT,
    TANGENT_EXPONENT,
    Config,
    draw,
    judge,
    measure,
    table,
)
from regimes.experiments.lazy.under_parameterised.fits import fit, fits
from regimes.experiments.lazy.under_parameterised.flow import limit, problem, rank
from regimes.meanfield.displacement import flatten_particles, tangent_features
from regimes.meanfield.particles import Particles, double, gaussian

POINTS = [{"alpha": alpha, "seed": seed} for alpha in (300.0, 1000.0) for seed in range(2)]
TIME = np.linspace(0.5, 25.0, 50)


def made_up(path=lambda t, alpha: np.exp(-t), **changes):
    rows = []
    for alpha in (100.0, 1000.0, 10000.0):
        for seed in range(4):
            limits = {
                "smallest": 1e-3,
                "curvature": 1 + (1 + seed) * 0.1 / alpha,
                "gradient": 1e-13,
                "polish": 1e-11,
                "risk": 0.7,
                "tangent_risk": 0.7,
                "tangent_distance": (1 + seed) * alpha**-1.0 * (1 + 0.01 * seed / alpha),
                "rank_start": 1.0,
                "rank_end": 1.0,
            }
            limits |= {name: change(alpha, limits[name]) for name, change in changes.items()}
            distance = path(TIME, alpha)
            rows += [
                {"alpha": alpha, "seed": seed, "time": t, "distance": d, "distance_coarse": d} | limits
                for t, d in zip(TIME, distance, strict=True)
            ]
    return pd.DataFrame(rows)


def test_an_exponential_approach_to_a_minimum_supports_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(
    "path",
    [
        lambda t, alpha: np.exp(-0.9 * t),  # another rate
        lambda t, alpha: np.exp(-1.1 * t),
        lambda t, alpha: np.exp(-30 * np.sqrt(t / 25)),  # slower than every geometric rate
        lambda t, alpha: 1 / (1 + t),
    ],
)
def test_another_approach_refutes_it(path):
    assert judge(made_up(path)).verdict == "refuted"


def test_exponents_and_rates_are_the_right_way_round():
    changes = {
        "tangent_distance": lambda alpha, _: alpha**-0.92,
        "curvature": lambda alpha, _: 1 - alpha**-0.9,
        "risk": lambda alpha, _: 0.7 * (1 + 1 / alpha),
        "polish": lambda alpha, _: 1e-11 / alpha,
    }
    judged = judge(made_up(lambda t, alpha: np.exp(-(1 + 1 / alpha) * t), **changes))
    found = {finding.quantity: finding for finding in judged.findings}
    assert found[TANGENT_EXPONENT].value == pytest.approx(-0.92)
    assert found[RATE_EXPONENT].value == pytest.approx(-0.9)
    assert found[KERNEL_RATE].value == pytest.approx(1 + 1e-4)
    assert found[HESSIAN_RATE].measured.high == pytest.approx(1.01 / (1 - 100**-0.9))
    assert judged.merits["largest R(f_∞) / R(tangent model's limit) − 1"] == pytest.approx(0.01)
    assert judged.merits["smallest R(f_∞) / R(tangent model's limit) − 1"] == pytest.approx(1e-4)
    assert judged.merits["largest ‖f(T) − f_∞‖ / ‖f(0) − f_∞‖ removed by Newton's method"] == pytest.approx(1e-13)


def test_the_error_of_a_rate_is_how_far_a_coarser_tolerance_moves_it():
    rows = made_up()
    rows.distance_coarse = np.exp(-1.01 * rows.time)
    assert fits(rows).error.to_numpy() == pytest.approx(0.01)


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient": lambda alpha, _: 1e-6},  # no critical point
        {"curvature": lambda alpha, _: -1.0},  # a saddle
        {"risk": lambda alpha, _: 1e-12},  # the labels are fitted
        {"tangent_distance": lambda alpha, _: alpha**-0.5},
        {"tangent_distance": lambda alpha, _: alpha**-1.5},
        {"curvature": lambda alpha, _: 1 - alpha**-0.5},  # an eigenvalue that comes to the kernel's too slowly
        {"rank_end": lambda alpha, _: 0.5},
    ],
)
def test_a_limit_of_another_kind_refutes_it(changes):
    assert judge(made_up(**changes)).verdict == "refuted"


def test_the_fit_finds_rate_straightness_and_decades():
    rate, r2, decades = fit(TIME, 3 * np.exp(-0.7 * TIME))
    assert_close(rate, 0.7)
    assert_close(r2, 1.0)
    assert 4 < decades <= 6
    assert np.isnan(fit(TIME, 1 / TIME).rate)


def test_the_net_has_fewer_weights_than_samples_and_starts_at_zero():
    config = Config(width=2)
    risk, start = problem(config, POINTS)
    assert flatten_particles(start).shape[1] == 14 < config.samples
    assert_close(risk.outputs(start), torch.zeros(len(POINTS), config.samples, 1, dtype=torch.float64))


def test_the_rank_of_a_random_net_is_full_and_that_of_a_doubled_one_jumps():
    generators = [generator(0), generator(1)]
    half, x = gaussian(2, 3, generators=generators), torch.randn(1, 30, 3, dtype=torch.float64, generator=generators[0])
    assert_close(rank(tangent_features(half, x, TANH)), torch.ones(2))
    doubled = double(half)
    assert_close(rank(tangent_features(doubled, x, TANH)), torch.full((2,), 0.5))
    nearby = Particles(doubled.output, doubled.input + 0.01 * torch.randn(doubled.input.shape, generator=generators[1]))
    assert_close(rank(tangent_features(nearby, x, TANH)), torch.ones(2))


def test_the_limit_of_a_very_lazy_net_is_least_squares():
    config = Config(width=1)
    risk, start = problem(config, [{"alpha": 1e9, "seed": 0}])
    features = tangent_features(start, risk.x, TANH)
    found = limit(risk, start, torch.zeros_like(flatten_particles(start)), config.newton_steps)
    fitted = features.mT @ torch.linalg.lstsq(features.mT, risk.y).solution
    assert_close(
        found.outputs, fitted, atol=1e-6, rtol=0.0
    )  # the difference is of order 1/α, rounding of order 1e-16 α
    smallest = torch.linalg.eigvalsh(features @ features.mT / config.samples)[:, 0]
    assert_close(found.curvature, smallest, rtol=1e-5, atol=0.0)


def test_the_limit_is_a_minimum_along_every_weight():
    config = Config(width=1)
    risk, start = problem(config, [{"alpha": 300.0, "seed": 0}])
    at_zero = torch.zeros_like(flatten_particles(start))
    found = limit(risk, start, at_zero, 8)
    assert found.gradient[0] < 1e-12
    best = function_norm(found.outputs - risk.y)
    for weight in range(at_zero.shape[1]):
        for step in (-0.01, 0.01):
            # no Newton step: limit only evaluates the outputs there
            moved = limit(risk, start, found.v + step * torch.eye(at_zero.shape[1], dtype=torch.float64)[weight], 0)
            assert function_norm(moved.outputs - risk.y) > best


@pytest.mark.slow
def test_measured_runs_end_at_the_limit_with_its_rate():
    config = Config(times=25, tolerance=1e-10)
    for rows in measure(config, POINTS[:1]):
        run = pd.DataFrame(rows)
        assert run.polish.iloc[0] < 1e-7
        rate = fit(run.time.to_numpy(), run.distance.to_numpy()).rate
        assert abs(rate / run.curvature.iloc[0] - 1) < 0.01  # the second rate still shows at the head of the window
        assert abs(run.curvature.iloc[0] - 1) < 0.05  # the Hessian is the kernel's up to O(1/α)
        assert run.risk.iloc[0] > 0.1


def test_table_and_figure_show_the_numbers_that_are_judged():
    rows = made_up(lambda t, alpha: np.exp(-(1 + 1 / alpha) * t))
    lines = table(rows).set_index("alpha")
    assert_close(lines.rate.tolist(), [1.01, 1.001, 1.0001])
    approach, distances = draw(rows).axes
    assert_close(approach.lines[0].get_ydata().tolist(), np.exp(-1.01 * TIME).tolist())
    means = {line.get_label(): line.get_ydata() for line in distances.lines}
    assert [label.split(": ")[1] for label in means] == ["−1.00", "−1.00"]
    assert_close(float(list(means.values())[1][0]), 24**0.25 * 1e-3)  # |μ/λ − 1| at α = 100, geometric mean over seeds


def test_a_single_scale_has_no_exponents_and_everything_else():
    rows = made_up()
    rows = rows[rows.alpha == 1000.0]
    draw(rows)
    assert len(table(rows)) == 1
