import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.activations import SOFTPLUS, TANH
from regimes.conventions import generator
from regimes.experiments.lazy.finite_horizon_bound import SHARP, TIGHT, WEIGHTS, Config, draw, judge, measure, table
from regimes.experiments.lazy.finite_horizon_bound import problems as maps
from regimes.meanfield.displacement import unflatten_particles
from regimes.meanfield.two_layer import TwoLayerRisk

FAMILIES = ("scalar", "rotated", "sine", "tanh", "softplus")
EXACT = ("scalar", "rotated")


def drawn(family, count=6, radius=0.2):
    return maps.random_problems(family, generators(count), torch.full((count,), radius, dtype=torch.float64))


def generators(count=6):
    return [generator(seed) for seed in range(count)]


def made_up(**columns):
    row = {
        "output_ratio": 0.5,
        "output_error": 1e-6,
        "weight_ratio": 0.1,
        "weight_error": 1e-6,
        "condition": 2.0,
        "quotient": 1.0,
        "reach": 0.5,
        "horizon": 0.1,
    }
    lines = [
        row | {"family": "scalar", "output_ratio": 0.95},
        row | {"family": "sine"},
        row | {"family": "sine"} | columns,
    ]
    return pd.DataFrame(lines)


def test_ratios_up_to_one_support_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(
    "columns",
    [{"output_ratio": 1.01}, {"weight_ratio": 0.26}, {"condition": 0.9}, {"quotient": 1.1}],
)
def test_one_violation_refutes_it(columns):
    assert judge(made_up(**columns)).verdict == "refuted"


def test_the_worst_of_all_problems_counts_and_violations_are_counted():
    rows = made_up(output_ratio=1.5, weight_ratio=1.2, reach=0.8)
    rows = pd.concat([rows, rows[:1].assign(output_ratio=0.5)])
    judged = judge(rows)
    found = {finding.quantity: finding.value for finding in judged.findings}
    assert (judged.merits[WEIGHTS], found[SHARP], found[TIGHT]) == (1.2, 4.8, 0.95)
    assert judged.merits["violations of the bound on outputs"] == 1
    assert judged.merits["violations of the bound on weights"] == 1
    assert judged.merits["median of measured / bound, outputs"] == pytest.approx((0.5 + 0.95) / 2)
    assert judged.merits["largest ‖w(T) − w_0‖ / r"] == 0.8


def test_a_violation_smaller_than_ten_times_its_error_says_nothing():
    assert judge(made_up(output_ratio=1.01, output_error=0.01)).verdict == "inconclusive"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_constants_hold_on_random_pairs_of_the_ball(family):
    assert (maps.sampled_quotient(drawn(family), generators()) <= 1 + 1e-9).all()  # rounding of difference quotients


@pytest.mark.parametrize("family", EXACT)
def test_exact_constants_are_attained(family):
    family = drawn(family, radius=1e-3)
    assert (maps.sampled_quotient(family, generators()) > 0.99).all()  # Lip(h) is attained at the rim: (1 + r) of it


@pytest.mark.parametrize("family", EXACT)
@pytest.mark.parametrize("constant", ["lipschitz", "lipschitz_derivative"])
def test_constants_that_are_too_small_are_noticed(family, constant):
    family = drawn(family)
    too_small = family._replace(**{constant: 0.5 * getattr(family, constant)})
    assert (maps.sampled_quotient(too_small, generators()) > 1).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_jacobians_are_those_of_automatic_differentiation(family):
    family = drawn(family, count=3)
    start = family.start + 0.1
    full = torch.autograd.functional.jacobian(family.map, start)
    assert_close(maps.jacobian(family.map, start), torch.stack([full[one, :, one] for one in range(3)]))


@pytest.mark.parametrize(("name", "activation"), [("tanh", TANH), ("softplus", SOFTPLUS)])
def test_the_net_in_its_coordinates_is_the_two_layer_net_and_its_gradient_the_particle_flow(name, activation):
    m, d, n = 6, 3, 8
    family, (g,) = maps.net(name, generators(1), torch.ones(1, dtype=torch.float64), m, d, n), generators(1)
    x = torch.randn(1, n, d, generator=g, dtype=torch.float64)  # the first draw of the generator
    y = torch.randn(1, n, 1, generator=g, dtype=torch.float64)
    particles = unflatten_particles(m**0.5 * family.start, m)
    risk = TwoLayerRisk(x, y, activation)
    assert_close(family.map(family.start), risk.outputs(particles)[..., 0] / n**0.5)
    start = family.start.clone().requires_grad_()
    half_square = (family.map(start) - y[..., 0] / n**0.5).square().sum() / 2
    assert_close(half_square.detach(), risk.risk(particles)[0])
    (gradient,) = torch.autograd.grad(half_square, start)
    velocity = risk.velocity(particles)
    flat = torch.cat([velocity.output.flatten(1), velocity.input.flatten(1)], dim=1)
    assert_close(-(m**0.5) * gradient, flat)  # particles are √m w


def run(family, **settings):
    config = Config(seeds=6, tolerance=1e-10, **settings)
    points = [{"family": family, "seed": seed} for seed in range(config.seeds)]
    return pd.DataFrame([point | row for point, row in zip(points, measure(config, points), strict=True)])


def test_on_the_line_the_ratio_is_that_of_the_solved_equation():
    rows = run("scalar")
    for row in rows.itertuples():
        # h' = 1 + cw; in units of ρ: f = αh, flow f' = −h'(w)² f from f = ρ, so explicit small steps in w
        c = 1.0
        time, rho = row.horizon / row.lipschitz**2, row.residual
        net = [
            one_dimensional(sign * rho / row.alpha, c, time) - linear(sign * rho / row.alpha, time) for sign in (1, -1)
        ]
        bound = row.horizon**2 * row.lipschitz_derivative / row.lipschitz**2 * (rho / row.alpha) ** 2
        ratios = torch.tensor([abs(gap) / bound for gap in net], dtype=torch.float64)
        assert float((ratios - row.output_ratio).abs().min()) < 1e-3  # the sign of c·(αh(w_0) − y*) is not in the row


def one_dimensional(residual, c, time, steps=2000):
    """h(w(T)) − h(0) of w' = −(1 + cw)(w + cw²/2 + residual), classical Runge-Kutta."""

    def speed(w):
        return -(1 + c * w) * (w + c * w**2 / 2 + residual)

    w, step = 0.0, time / steps
    for _ in range(steps):
        a = speed(w)
        b = speed(w + step / 2 * a)
        d = speed(w + step / 2 * b)
        w += step / 6 * (a + 2 * b + 2 * d + speed(w + step * d))
    return w + c * w**2 / 2


def linear(residual, time):
    return residual * (float(torch.exp(torch.tensor(-time, dtype=torch.float64))) - 1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_no_problem_exceeds_the_bounds_and_all_conditions_hold(family):
    rows = run(family)
    assert (rows.output_ratio < 1).all()
    assert (rows.weight_ratio < 0.25).all()
    assert (rows.condition >= 1).all()
    assert (rows.reach <= 1).all()
    assert (rows.output_error < 1e-3 * rows.output_ratio).all()


@pytest.mark.slow
def test_with_constants_that_are_too_small_the_experiment_refutes():
    assert judge(pd.concat([run("scalar", shrink=0.5), run("rotated", shrink=0.5)])).verdict == "refuted"


def test_an_unknown_family_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"got 'cosine'. Choose one of scalar, rotated, sine, tanh, softplus"):
        drawn("cosine")


def test_the_table_counts_violations_and_the_figure_shows_them_beyond_the_bound():
    rows = made_up(weight_ratio=1.1, output_ratio=1.5)
    assert list(table(rows).violations) == [0, 1]
    histogram, ratios = draw(rows).axes
    beyond = [patch.get_height() for patch in histogram.patches if patch.get_x() >= 0]
    assert max(beyond) == 1
    assert max(float(max(line.get_ydata())) for line in ratios.lines) == 1.5


def test_families_that_were_not_run_leave_out_their_prediction():
    rows = made_up()
    found = {finding.quantity: finding.verdict for finding in judge(rows[rows.family != "scalar"]).findings}
    assert {name for name, verdict in found.items() if verdict == "not measured"} == {TIGHT}


def test_each_family_has_draws_of_its_own():
    config = Config(seeds=2, tolerance=1e-4)
    sine, tanh = (measure(config, [{"family": family, "seed": 0}])[0] for family in ("sine", "tanh"))
    assert sine["horizon"] != tanh["horizon"]
