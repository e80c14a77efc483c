"""The statements on stability: judges on made-up rows, and what they measure against independent computations."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.control.stepper import step
from regimes.control.tableau import EULER, GAUSS2, IMPLICIT_EULER, IMPLICIT_MIDPOINT, KUTTA3, KUTTA4
from regimes.errors import UserError
from regimes.experiments.control import contraction_bound, euler_step_limit, frozen_eigenvalues_mislead
from regimes.experiments.control.contraction_bound.exact import in_the_disc
from regimes.experiments.control.euler_step_limit.runs import half_step, zone
from regimes.experiments.control.euler_step_limit.steps import stepped
from regimes.experiments.control.frozen_eigenvalues_mislead.runs import PUBLISHED, Turning, drawn, normal, run
from regimes.experiments.control.gradient_nets import UNITS
from regimes.experiments.control.gradient_nets import drawn as nets_drawn
from regimes.lab.grid import grid_points

pytestmark = pytest.mark.slow


def verdicts(judgement):
    return {finding.quantity: finding.verdict for finding in judgement.findings}


def only_refuted(experiment, rows, quantity):
    found = verdicts(experiment.judge(rows))
    assert found.pop(quantity) == "refuted"
    assert set(found.values()) == {"supported"}


def contractions(**changed):
    found, known = {"identity": -0.5}, {"identity": -0.5}
    rows = pd.DataFrame([
        {"activation": name, "width": width, "hidden": 2, "seed": seed, "least": 0.5, "largest": 4.0,
         "nu": found.get(name, -0.2), "exact": math.nan if width > 2 else known.get(name, -0.195),
         "nu_states": -0.2, "nu_pairs": -0.21, "rate": -0.6, "rate_error": 1e-9,
         "adjoint_rate": -0.7, "adjoint_error": 1e-9, "plain": 1.0, "plain_adjoint": 3.0, "horizon": 4.0}
        | {f"{kind}_{number}": 0.5 ** (number if kind == "gradient" else -number)
           for kind in ("gradient", "plain") for number in range(1, 9)}
        for name in UNITS for width in (2, 8) for seed in range(4)
    ])  # fmt: skip
    for column, value in changed.items():
        rows.loc[rows.index[1], column] = value
    return rows


def test_constants_within_their_bounds_support_the_contraction_and_each_fault_refutes_its_prediction():
    module = contraction_bound
    assert module.judge(contractions()).verdict == "supported"
    rows = contractions()
    rows.loc[(rows.activation == "tanh") & (rows.width == 8), "nu"] = 0.3
    rows.loc[(rows.activation == "tanh") & (rows.width == 2), ["nu", "exact"]] = 0.3
    only_refuted(module, rows, "tanh: how far ν lies outside [−μ*², 0], over ‖A‖²")
    rows = contractions()
    rows.loc[rows.activation == "identity", ["nu", "exact"]] = -0.4
    only_refuted(module, rows, module.LINEAR)
    rows = contractions()
    rows.loc[rows.width == 2, "exact"] += 0.1
    only_refuted(module, rows, module.EXACT)
    only_refuted(module, contractions(rate=0.1), module.FORWARD)
    only_refuted(module, contractions(adjoint_rate=0.1), module.BACKWARD)
    rows = contractions()
    rows["plain"] = -0.1
    only_refuted(module, rows, module.COUNTER)


@pytest.mark.parametrize(("excess", "verdict"), [(3e-12, "supported"), (3e-10, "refuted")])
def test_rounding_is_allowed_in_units_of_the_norm_on_both_sides(excess, verdict):
    """Whatever μ* is: here μ*² is a millionth of ‖A‖²."""
    for side in (excess * 4.0, -4e-6 - excess * 4.0):
        rows = contractions()
        nearly_singular = (rows.activation == "tanh") & (rows.width == 8)
        rows.loc[nearly_singular, "least"] = 4e-6
        rows.loc[nearly_singular, "nu"] = side
        found = verdicts(contraction_bound.judge(rows))
        assert found["tanh: how far ν lies outside [−μ*², 0], over ‖A‖²"] == verdict


def test_other_seeds_are_other_nets():
    sizes = {"activation": ("relu",), "width": (2,), "hidden": (1,), "seeds": 2, "search": 0, "hops": 0, "substeps": 2}
    rows = []
    for first in (0, 1):
        config = contraction_bound.Config(**sizes, first_seed=first)
        rows.append(contraction_bound.measure(config, grid_points(contraction_bound, config)))
    assert rows[0][1]["least"] == rows[1][0]["least"] != rows[0][0]["least"]


def test_a_rate_above_the_constant_by_less_than_its_integration_error_refutes_nothing():
    rows = contractions(rate=-0.2 + 1e-4, rate_error=1e-4)
    assert verdicts(contraction_bound.judge(rows))[contraction_bound.FORWARD] == "inconclusive"


@pytest.mark.parametrize("name", ["relu", "softplus"])
def test_the_exact_constant_in_the_plane_is_the_largest_eigenvalue_over_many_states(name):
    fields = nets_drawn(name, [5], 1, 2, 6).flat()
    exact = in_the_disc(fields, torch.tensor([3.0]).double(), 40)
    z = 6 * torch.rand(1, 40_000, 2, dtype=torch.float64) - 3
    slopes = fields.unit.derivative(fields.inner(z[:, z[0].norm(dim=1) <= 3]))
    a = fields.weight[0]
    sampled = -torch.linalg.eigvalsh(torch.einsum("hw,nh,hv->nwv", a, slopes[0], a))[:, 0].min()
    assert float(sampled) <= float(exact) + 1e-12
    assert_close(float(exact), float(sampled), rtol=0.0, atol=2e-3)  # 31,000 states in a disc of radius 3


def test_measured_constants_flows_and_adjoints_are_those_of_a_linear_net_in_closed_form():
    config = contraction_bound.Config(activation=("identity",), width=(2,), hidden=(2,), seeds=2, substeps=64)
    points = grid_points(contraction_bound, config)
    rows = contraction_bound.measure(config, points)
    nets = nets_drawn("identity", [0, 1], 2, 2, 4)
    for number, row in enumerate(rows):
        matrices = -nets.weight[number].mT @ nets.weight[number]
        assert_close(row["nu"], float(torch.linalg.eigvalsh(matrices)[:, -1].max()))
        flow = torch.linalg.matrix_exp(matrices[1]) @ torch.linalg.matrix_exp(matrices[0])
        assert_close(row["gradient_adjoint"], float(torch.linalg.matrix_norm(flow, 2)), rtol=1e-4, atol=0.0)
        assert row["gradient_8"] <= float(torch.linalg.matrix_norm(flow, 2)) * 1.001
    assert_close(math.log(rows[0]["gradient_adjoint"]) / 2, rows[0]["adjoint_rate"])


def limits(**changed):
    rows = []
    for method, half, area in (("Euler", 0.9, "within"), ("Euler", 1.1, "beyond"), ("Kutta 3", 0.4, "within"),
                              ("Kutta 3", 0.9, "open"), ("Kutta 3", 1.5, "beyond")):  # fmt: skip
        growth = 2 * half - 1 if area == "beyond" else 1.0
        for seed in range(4):
            row = {"method": method, "activation": "tanh", "place": half, "seed": seed, "half": half, "zone": area}
            plain = 1.5 if method == "Euler" else math.nan
            rows.append(row | {"growth": growth, "linear": growth, "plain": plain})
    table = pd.DataFrame(rows)
    for (method, area), growth in changed.pop("growth", {}).items():
        table.loc[(table.method == method) & (table.zone == area), "growth"] = growth
    for column, value in changed.items():
        table.loc[0, column] = value
    return table


def test_growths_as_derived_support_the_step_limit_and_each_fault_refutes_its_prediction():
    module = euler_step_limit
    rows = limits()
    rows = rows[~rows.plain.isna() | (rows.method != "Euler")]
    assert module.judge(rows).verdict == "supported"
    only_refuted(module, limits(growth={("Euler", "within"): 1.01}), module.EULER_WITHIN)
    only_refuted(module, limits(growth={("Euler", "beyond"): 1.3}), module.EULER_FACTOR)
    only_refuted(module, limits(growth={("Kutta 3", "within"): 1.01}), module.OTHERS_WITHIN)
    only_refuted(module, limits(growth={("Kutta 3", "beyond"): 1.0}), module.OTHERS_BEYOND)
    only_refuted(module, limits(plain=0.99), module.COUNTER)
    found = verdicts(module.judge(limits(growth={("Euler", "beyond"): 1.0})))
    assert found[module.EULER_BEYOND] == found[module.EULER_FACTOR] == "refuted"
    assert not any("open" in name for name in found)


def test_beyond_the_real_interval_nothing_is_predicted_of_sigma_without_a_state_at_rest():
    rows = limits(growth={("Kutta 3", "beyond"): 1.0})
    rows = pd.concat([limits(), rows.assign(activation="relu")])
    found = euler_step_limit.judge(rows)
    assert found.verdict == "supported"
    assert found.merits[next(name for name in found.merits if "other σ" in name)] == 0


def test_what_is_found_in_the_open_zone_is_a_merit():
    merits = euler_step_limit.judge(limits(growth={("Kutta 3", "open"): 1.2})).merits
    assert merits["Kutta 3: shortest expanding step found, h‖A‖²"] == pytest.approx(1.8)
    assert "Kutta 3: shortest expanding step found, h‖A‖²" not in euler_step_limit.judge(limits()).merits


def test_places_are_shares_of_the_radius_and_of_the_real_interval():
    assert half_step(EULER, 0.5) == 0.5
    assert half_step(EULER, 2.1) == pytest.approx(1.1)
    assert half_step(KUTTA3, 1.0) == pytest.approx(0.5)
    assert half_step(KUTTA3, 2.0) == pytest.approx(2.5127453 / 2)
    assert half_step(GAUSS2, 1.0) == 100
    assert [zone(KUTTA3, half) for half in (0.5, 0.51, 1.3)] == ["within", "open", "beyond"]
    assert zone(KUTTA4, half_step(KUTTA4, 1.0)) == "within"


@pytest.mark.parametrize("tableau", [KUTTA4, IMPLICIT_EULER, IMPLICIT_MIDPOINT, GAUSS2], ids=lambda one: one.name)
def test_a_step_is_that_of_the_stepper_and_has_its_derivative(tableau):
    nets = nets_drawn("tanh", [0, 1], 1, 3, 3).layer(0)
    size = torch.tensor([0.05, 0.1], dtype=torch.float64)
    z = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)

    def scaled(time, parts):
        return (size[:, None, None] * nets.gradient(parts[0]),)

    ends = stepped(nets, tableau, size, z), step(scaled, tableau, 0.0, (z,), 1.0).end[0]
    assert_close(*ends)
    one, other = (torch.autograd.grad(end.square().sum(), z)[0] for end in ends)
    assert_close(one, other)


def test_implicit_steps_of_any_length_solve_their_equations():
    for name in UNITS:
        nets = nets_drawn(name, [0, 1], 1, 4, 4).layer(0)
        size, z = torch.tensor([50.0, 500.0], dtype=torch.float64), 4 * torch.randn(2, 30, 4, dtype=torch.float64)
        end = stepped(nets, IMPLICIT_EULER, size, z)
        assert float((end - z - size[:, None, None] * nets.gradient(end)).abs().max()) < 1e-8


def test_unknown_methods_are_named_with_the_known_ones():
    point = {"method": "Kutta", "activation": "relu", "place": 1.0, "seed": 0}
    with pytest.raises(UserError, match="Known methods: Euler"):
        euler_step_limit.measure(euler_step_limit.Config(), [point])


def turned(**changed):
    rows = pd.DataFrame([
        {"net": net, "speed": speed, "seed": seed, "time": 2.0, "closed": flow, "frozen": -0.5, "radius": 0.99,
         "net_growth": 1.01 * flow, "flow": flow, "bound": 20.0, "normal": 0.3, "negative": 0.8}
        for net in ("Vinograd", "triangular, tanh") for speed, flow in ((0.5, 3.0), (1.0, 20.0)) for seed in range(4)
    ])  # fmt: skip
    for column, value in changed.items():
        rows.loc[rows.index[4], column] = value
    return rows


@pytest.mark.parametrize(("quantity", "changed"), [
    ("FROZEN", {"frozen": 0.1}), ("RADIUS", {"radius": 1.1}), ("CLOSED", {"closed": 19.0}),
    ("NORMAL", {"normal": 1.1}), ("NEGATIVE", {"negative": 1.1}),
])  # fmt: skip
def test_each_claim_on_frozen_eigenvalues_can_be_refuted(quantity, changed):
    module = frozen_eigenvalues_mislead
    assert module.judge(turned()).verdict == "supported"
    found = verdicts(module.judge(turned(**changed)))
    assert found.pop(getattr(module, quantity)) in ("refuted", "inconclusive")
    assert set(found.values()) == {"supported"}


def test_an_amplification_beyond_the_logarithmic_norm_refutes_the_bound():
    found = verdicts(frozen_eigenvalues_mislead.judge(turned(bound=10.0)))
    assert found[frozen_eigenvalues_mislead.BOUNDED] == "refuted"


def test_what_the_choice_of_the_time_decides_is_shown_and_not_judged():
    judgement = frozen_eigenvalues_mislead.judge(turned(net_growth=9.0))
    assert judgement.verdict == "supported"
    assert judgement.merits[frozen_eigenvalues_mislead.AMPLIFIED] == 9.0
    assert judgement.merits[frozen_eigenvalues_mislead.ATTAINED] == pytest.approx(1.0)


def test_the_published_matrices_grow_at_the_published_rates():
    """Vinograd: A(t) with cos² 6t and e^{2t}; Markus and Yamabe: e^{t/2}; both matrices written out at other times."""
    for name, turns, growth in (("Vinograd", 6.0, 2.0), ("Markus-Yamabe", 1.0, 0.5)):
        a = torch.tensor([PUBLISHED[name]], dtype=torch.float64)
        turning = Turning(a, (a - a.mT) / 2, torch.eye(2, dtype=torch.float64)[None])
        time = torch.tensor([0.37], dtype=torch.float64)
        c, s = math.cos(turns * 0.37), math.sin(turns * 0.37)
        if name == "Vinograd":
            exact = [
                [-1 - 9 * c * c + 12 * s * c, 12 * c * c + 9 * s * c],
                [-12 * s * s + 9 * s * c, -1 - 9 * s * s - 12 * s * c],
            ]
        else:
            exact = [[-1 + 1.5 * c * c, 1 - 1.5 * s * c], [-1 - 1.5 * s * c, -1 + 1.5 * s * s]]
        assert_close(turning.at(time)[0], torch.tensor(exact, dtype=torch.float64))
        *_, end = run(turning, torch.eye(2, dtype=torch.float64)[None], 3 * time, KUTTA4, 400, None)
        assert_close(float(torch.linalg.matrix_norm(end, 2)), math.exp(growth * 3 * 0.37), rtol=1e-6, atol=0.0)


def test_normal_matrices_have_the_same_eigenvalues():
    for name in ("Vinograd", "Markus-Yamabe", "triangular"):
        matrices, _ = drawn(name, [0, 1], 5)
        made = normal(matrices)
        assert_close(made @ made.mT, made.mT @ made)
        for one, other in zip(torch.linalg.eigvals(matrices), torch.linalg.eigvals(made), strict=True):
            ordered = (np.sort_complex(each.numpy().round(9)) for each in (one, other))
            assert_close(*(torch.from_numpy(each) for each in ordered))


def test_figures_and_tables_show_what_is_judged():
    for module, rows in ((contraction_bound, contractions()), (euler_step_limit, limits())):
        assert len(module.table(rows)) > 1
        assert module.draw(rows).axes
    config = frozen_eigenvalues_mislead.Config(net=("Vinograd",), seeds=1, layers=50)
    points = grid_points(frozen_eigenvalues_mislead, config)
    rows = pd.DataFrame(points).join(pd.DataFrame(frozen_eigenvalues_mislead.measure(config, points)))
    assert len(frozen_eigenvalues_mislead.table(rows)) == 2
    assert frozen_eigenvalues_mislead.draw(rows).axes
