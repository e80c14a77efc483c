import json
import math

import pandas as pd
import pytest
import torch

from regimes.control.layers import Layers
from regimes.control.tableau import KUTTA4
from regimes.data.plane import PLANE
from regimes.experiments.control.benning_runge_kutta import GAP, HIGHER, METHODS, draw, judge, runs, table
from regimes.experiments.control.benning_runge_kutta.config import Config
from regimes.experiments.control.plane_nets import unpack

pytestmark = pytest.mark.slow
SMALL = Config(samples=15, fresh=40, layers=3, iterations=6)


def made_up(changed=None, datasets=tuple(PLANE), seeds=5, gap=1e-15):
    """Methods that do equally well; `changed` are numbers by (data set, method)."""
    rows = []
    for dataset in datasets:
        for method in METHODS:
            for seed in range(seeds):
                noise = math.sin(3.0 * seed + len(method))
                usual = {"loss": 0.03 * (1 + 0.02 * noise), "fresh_accuracy": 0.93 + 0.003 * noise}
                usual["moved_by_flow"] = 0.05 + 0.01 * noise if method == "Euler" else 0.0002
                row = usual | (changed or {}).get((dataset, method), {})
                for iteration in (0, 10):
                    both = {"dataset": dataset, "method": method, "seed": seed, "iteration": iteration, "trials": 15}
                    both |= row | {"accuracy": 0.9, "fresh_loss": 0.1, "last": iteration > 0, "gradient_gap": gap}
                    rows.append(both | {"net_at_end": str([0.5] * (7 * 4 + 3))})
    return pd.DataFrame(rows)


def verdicts(rows):
    return {finding.quantity: finding.verdict for finding in judge(rows).findings}


def test_methods_that_do_equally_well_support_the_statement():
    assert judge(made_up()).verdict == "supported"


@pytest.mark.parametrize(("where", "what", "refuted"), [
    (("donut2d", "Heun"), {"fresh_accuracy": 0.88}, "donut2d: fresh accuracy, Heun − Euler"),
    (("spiral2d", "Kutta 4"), {"fresh_accuracy": 0.99}, "spiral2d: fresh accuracy, Kutta 4 − Euler"),
    (("squares2d", "Kutta 3"), {"loss": 0.01}, "squares2d: loss, Kutta 3 over Euler"),
    (("donut1d", "Kutta 4"), {"loss": 0.06}, "donut1d: loss, Kutta 4 over Euler"),
    (("donut1d", "Euler"), {"moved_by_flow": 0.0},
     "donut1d: share of points that the exact flow puts elsewhere, Euler − Kutta 4"),
    (("donut2d", "Kutta 4"), {"moved_by_flow": 0.03},
     "donut2d: share of points that the exact flow puts elsewhere, Kutta 4"),
])  # fmt: skip
def test_each_number_can_be_refuted_alone(where, what, refuted):
    found = verdicts(made_up({where: what}))
    assert found.pop(refuted) == "refuted"
    assert set(found.values()) == {"supported"}


def test_a_gradient_that_is_not_that_of_back_propagation_refutes_the_statement():
    assert verdicts(made_up(gap=1e-8))[GAP] == "refuted"


def test_a_part_of_the_data_sets_is_judged_and_drawn_and_the_rest_is_not_measured():
    rows = made_up(datasets=("spiral2d",))
    found = verdicts(rows)
    assert found.pop(GAP) == "supported"
    assert {each for name, each in found.items() if name.startswith("spiral2d")} == {"supported"}
    assert {each for name, each in found.items() if not name.startswith("spiral2d")} == {"not measured"}
    assert len(table(rows)) == 4
    assert len(draw(rows[rows.method == HIGHER[0]]).axes) == 6


def points(method):
    return [{"dataset": "donut2d", "method": method, "seed": seed} for seed in range(2)]


def test_all_methods_start_alike_with_the_published_laws():
    theta = runs.start(SMALL, points("Euler"))
    assert torch.equal(theta, runs.start(SMALL, points("Kutta 4")))
    many = unpack(runs.start(Config(layers=15), [{"seed": seed} for seed in range(400)]))
    for part in (many.kernel, many.shift, many.weights):
        squares = part.square().flatten()
        assert abs(squares.mean() - 1) < 5 * squares.std() / math.sqrt(len(squares))
    assert 0 <= float(many.bias.min()) < 0.1
    assert 0.9 < float(many.bias.max()) <= 1
    assert bool((many.steps == 0.1).all())


@pytest.mark.parametrize("method", METHODS)
def test_rows_end_with_the_risk_of_the_layers_of_the_library_and_the_gradient_of_back_propagation(method):
    rows = runs.measure(SMALL, points(method))
    nets = runs.ensemble(SMALL, points(method))
    for run, own in enumerate(rows):
        assert own[-1]["iteration"] == 6
        assert own[-1]["loss"] < own[0]["loss"]
        net = unpack(torch.tensor([json.loads(own[-1]["net_at_end"])], dtype=torch.float64))
        params = [{"K": K, "b": b} for K, b in zip(net.kernel[0], net.shift[0], strict=True)]
        layers = Layers(runs.field, params, METHODS[method], horizon=0.3)
        output = torch.sigmoid(layers.end(nets.x[run].T) @ net.weights[0] + net.bias[0])
        assert own[-1]["loss"] == pytest.approx(float((output - nets.labels[run]).square().mean() / 2), rel=1e-12)
        assert own[-1]["gradient_gap"] < 1e-13


def test_the_exact_flow_is_that_of_many_steps_and_moves_no_point_of_a_net_that_takes_them():
    where = points("Kutta 4")
    nets, theta = runs.ensemble(SMALL, where), runs.start(SMALL, where)
    assert runs.by_the_flow(SMALL, nets, theta, nets.x).tolist() == [0.0, 0.0]  # h ‖K‖ is 0.2
    rough = unpack(theta)
    rough = rough._replace(kernel=20 * rough.kernel)
    loud = torch.cat([part.reshape(2, -1) for part in rough], 1)
    euler = runs.ensemble(SMALL, points("Euler"))
    net = unpack(loud)
    for run, share in enumerate(runs.by_the_flow(SMALL, euler, loud, euler.x).tolist()):
        params = [{"K": K, "b": b} for K, b in zip(net.kernel[run], net.shift[run], strict=True)]
        ends = [
            Layers(runs.field, params, tableau, horizon=0.3, substeps=substeps).end(euler.x[run].T)
            for tableau, substeps in ((METHODS["Euler"], 1), (KUTTA4, 20))
        ]
        sides = [(end @ net.weights[run] + net.bias[run]) >= 0 for end in ends]
        assert share == pytest.approx(float((sides[0] != sides[1]).double().mean()))


def test_the_gap_of_gradients_sees_one_that_is_wrong():
    where = points("Heun")
    nets, theta = runs.ensemble(SMALL, where), runs.start(SMALL, where)
    right = runs.gradient_gaps(SMALL, nets, theta, theta)
    wrong = runs.gradient_gaps(Config(layers=3, step=0.1 + 1e-6), nets, theta, theta)
    assert max(right) < 1e-14
    assert min(wrong) > 1e-9
