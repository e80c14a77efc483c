"""no_vanishing_gradients: the judge on made-up rows, and its variations against autograd."""

import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.control.tableau import SYMPLECTIC_EULER
from regimes.experiments.control import no_vanishing_gradients as statement
from regimes.experiments.control.halves import Halves, path, spirals
from regimes.experiments.control.no_vanishing_gradients.nets import initial, products, through, unit
from regimes.experiments.control.no_vanishing_gradients.runs import measure, shrunk

pytestmark = pytest.mark.slow
NETS = ("Hamiltonian", "ResNet", "plain")


def rows(falls=-0.3, hostile=1e-3, **worse):
    made = []
    for net in NETS:
        for weights in ("initial", "trained", "hostile"):
            for depth in (8, 32, 128):
                for seed in range(5):
                    sent = 1.2 if net == "Hamiltonian" else hostile if weights == "hostile" else 1.0
                    if net == "plain":
                        sent = math.exp(falls * depth * (1 + 0.02 * seed))
                    row = {"net": net, "weights": weights, "depth": depth, "seed": seed, "norm": 1.1, "sent": sent}
                    row |= {"sent_least": 1.0 + 1e-12, "grown": 3.0, "own": 0.9, "area": 1e-15, "accuracy": 1.0}
                    made.append(row | (worse if net == "Hamiltonian" and seed == 2 and depth == 32 else {}))
    return pd.DataFrame(made)


@pytest.mark.parametrize(
    "broken", [{"norm": 0.99}, {"sent_least": 0.99}, {"area": 1e-9}, {"falls": 0.1}, {"hostile": 0.9}]
)
def test_each_claim_on_gradients_over_depth_can_be_refuted(broken):
    assert statement.judge(rows()).verdict == "supported"
    assert statement.judge(rows(**broken)).verdict == "refuted"


@pytest.mark.parametrize("net", NETS)
def test_rows_of_one_net_are_judged_tabled_and_drawn(net):
    some = rows()
    some = some[(some.net == net) & (some.weights == "initial") & (some.depth == 8)]
    assert statement.judge(some).verdict != "refuted"
    assert len(statement.table(some)) == 1
    statement.draw(some)


def test_a_norm_below_the_least_that_is_counted_is_told_as_a_bound():
    made = statement.table(rows(hostile=0.0))
    told = made[(made.net == "ResNet") & (made.weights == "hostile")]
    assert set(told["‖M_0‖_F/√width"]) == {"< 1e-100"}
    assert set(told["‖M_0‖_F/√width, 95 %"]) == {""}
    assert 0 < statement.table(rows())["‖M_0‖_F/√width"].min() < 1.0
    merits = statement.judge(rows(hostile=0.0)).merits
    assert "ResNet, hostile, deepest: ‖∂z_N/∂z_0‖_F/√width, at most" in merits


@pytest.mark.parametrize("net", NETS)
def test_products_of_layers_are_the_derivatives_of_the_end(net):
    weights, x = initial(net, (0, 1), 4, 2), spirals((0, 1), 3, 4)[0]
    matrices = products(net, weights, x, 0.3)
    assert matrices.shape == (4, 2, 3, 4, 4)
    for first in (0, 2):
        state = through(net, [each[:first] for each in weights], x, unit(x), 0.3)[0]

        def end(state, first=first):
            return through(net, [each[first:] for each in weights], state, unit(state), 0.3)[0]

        whole = torch.autograd.functional.jacobian(end, state)
        for run, sample in ((0, 0), (1, 2)):
            assert_close(matrices[first, run, sample], whole[run, sample, :, run, sample])
    assert_close(through(net, weights, x, unit(x), 0.3)[1], matrices[0])


def test_the_hamiltonian_layers_are_those_of_symplectic_euler():
    weights, x = initial("Hamiltonian", (0, 1), 4, 2), spirals((0, 1), 3, 4)[0]
    *_, end = path(Halves(*weights), SYMPLECTIC_EULER, x, 0.3)
    assert_close(through("Hamiltonian", weights, x, unit(x), 0.3)[0], end)


def test_a_hostile_search_shrinks_resnets_and_leaves_hamiltonian_nets_above_one():
    x = spirals((0,), 4, 4)[0]
    shares = {}
    for net in ("ResNet", "Hamiltonian"):
        start = initial(net, (0,), 8, 2)
        found = [
            products(net, w, x, 0.3)[0].square().sum((-1, -2)) / 4
            for w in (start, shrunk(net, start, x, 0.3, 60, 0.03))
        ]
        shares[net] = [float(each.mean()) for each in found]
        assert shares[net][1] < shares[net][0]
    assert shares["ResNet"][1] < 0.5
    assert shares["Hamiltonian"][1] >= 1 - 1e-12


def test_the_numbers_of_a_row_are_those_of_its_matrices():
    config = statement.Config(depth=(3,), half=2, samples=3, size=0.4)
    (row,) = measure(config, [{"net": "ResNet", "weights": "initial", "depth": 3, "seed": 4}])
    x = spirals((4,), 3, 4)[0]
    matrices = products("ResNet", initial("ResNet", (4,), 3, 2), x, 0.4)[:, 0]
    values = torch.linalg.svdvals(matrices)
    assert row["norm"] == pytest.approx(float(values[..., 0].min()))
    assert row["grown"] == pytest.approx(float(values[..., 0].max()))
    assert row["sent"] == pytest.approx(float((values[0].square().sum(-1) / 4).mean().sqrt()))
    ones = torch.ones(4, dtype=torch.float64)
    assert row["own"] == pytest.approx(min(float((each.T @ ones).norm() / 2) for each in matrices[0]))
    assert math.isnan(row["area"])
