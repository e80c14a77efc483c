"""The statements on Hamiltonian networks: judges on made-up rows; what they measure, by modules and autograd."""

import math

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from regimes.activations import TANH
from regimes.control.tableau import EULER, STORMER_VERLET, SYMPLECTIC_EULER
from regimes.errors import UserError
from regimes.experiments.control import hamiltonian_symplectic, non_autonomous_energy
from regimes.experiments.control.halves import area_defect, drawn, jacobian, known, omega, potential, stepped
from regimes.experiments.control.hamiltonian_symplectic import COLUMNS, OTHERS
from regimes.experiments.control.hamiltonian_symplectic.runs import networks
from regimes.experiments.control.non_autonomous_energy import DRIFT, ORDER
from regimes.experiments.control.non_autonomous_energy.runs import depths, followed, starts, swinging
from regimes.models.hamiltonian_blocks import hamiltonian_dense

pytestmark = pytest.mark.slow
F64 = torch.float64


def noise(seed):
    return 1 + 0.02 * math.sin(3.0 * seed)


def layers(broken=None, **worse):
    rows = []
    for nets in ("random", "trained"):
        for method in ("Störmer-Verlet", "symplectic Euler", *OTHERS):
            for halvings in range(3):
                for seed in range(5):
                    h = 0.1 / 2**halvings
                    power = OTHERS.get(method, 0) - (f"{method}, {nets}" == broken)
                    size = noise(seed) * h**power if method in OTHERS else 1e-15
                    row = {"nets": nets, "method": method, "halvings": halvings, "seed": seed, "h": h, "area": size}
                    row |= dict.fromkeys(COLUMNS.values(), size) | {"volume": size, "accuracy": 1.0}
                    rows.append(row | (worse if method == "Störmer-Verlet" else {}))
    return pd.DataFrame(rows)


@pytest.mark.parametrize("column", COLUMNS.values())
def test_each_defect_of_a_symplectic_method_refutes_the_layers(column):
    assert hamiltonian_symplectic.judge(layers()).verdict == "supported"
    assert hamiltonian_symplectic.judge(layers(**{column: 1e-9})).verdict == "refuted"


@pytest.mark.parametrize("method", OTHERS)
@pytest.mark.parametrize("nets", ["random", "trained"])
def test_each_other_order_refutes_the_layers(method, nets):
    assert hamiltonian_symplectic.judge(layers(f"{method}, {nets}")).verdict == "refuted"


def energies(broken=None, changes=1.0, power=0):
    rows = []
    for method in (*ORDER, *DRIFT):
        for halvings in range(3):
            for seed in range(5):
                h, less = 0.1 / 2**halvings, (method == broken)
                row = {"method": method, "halvings": halvings, "seed": seed, "h": h, "rounding": 1e-15}
                row |= {"spread": noise(seed) * h ** (ORDER.get(method, 1) - less)}
                row |= {"drift": noise(seed) * h ** (DRIFT.get(method, 1) - less), "energy": noise(seed) * h**power}
                for depth in (333, 1000, 3333, 10000):
                    grown = (depth / 333) ** ((method in DRIFT) ^ (f"{method}, depth" == broken))
                    row[f"K_{depth}"] = 1e-3 * noise(seed) * grown if halvings == 0 else math.nan
                    row[f"H_{depth}"] = changes if halvings == 0 else math.nan
                rows.append(row)
    return pd.DataFrame(rows)


@pytest.mark.parametrize("method", [*ORDER, *DRIFT])
def test_each_other_order_or_growth_refutes_the_energy(method):
    assert non_autonomous_energy.judge(energies()).verdict == "supported"
    assert non_autonomous_energy.judge(energies(method)).verdict == "refuted"
    assert non_autonomous_energy.judge(energies(f"{method}, depth")).verdict == "refuted"


def test_an_energy_that_is_kept_or_falls_with_the_step_refutes_its_change():
    assert non_autonomous_energy.judge(energies(changes=1e-3)).verdict == "refuted"
    assert non_autonomous_energy.judge(energies(power=1)).verdict == "refuted"


def test_the_energy_of_some_methods_is_judged_tabled_and_drawn():
    rows = energies()
    some = rows[rows.method.isin(["Heun", "Yoshida 4"])]
    assert len(non_autonomous_energy.table(some)) == 2
    non_autonomous_energy.draw(some)
    assert non_autonomous_energy.judge(some[some.halvings > 0]).verdict != "refuted"


@pytest.mark.parametrize("method", [SYMPLECTIC_EULER, STORMER_VERLET, EULER])
def test_layers_of_many_runs_are_those_of_the_block(method):
    weights = drawn([0, 1], 1, 3, 5)
    state = torch.randn(2, 4, 6, dtype=F64)
    together = stepped(weights.layer(0), method, state, 0.2)
    for run in range(2):
        block = hamiltonian_dense(6, 5, activation=TANH, method=method, size=0.2).double()
        with torch.no_grad():
            for potential_, (a, b) in zip(
                (block.residual.kinetic, block.residual.potential),
                ((weights.A1, weights.b1), (weights.A2, weights.b2)),
                strict=True,
            ):
                potential_.linear.weight.copy_(a[0, run])
                potential_.linear.bias.copy_(b[0, run])
        assert_close(together[run], block(state[run]))
    found = jacobian(lambda z: stepped(weights.layer(0), method, z, 0.2), state)
    alone = torch.autograd.functional.jacobian(
        lambda z: stepped(weights.layer(0), method, z.view(2, 1, 6), 0.2), state[:, 1]
    )
    assert_close(found[1, 1], alone[1, 0, :, 1])


def test_the_defect_of_the_area_is_zero_for_rotations_of_pairs_alone():
    turn = torch.matrix_exp(0.7 * omega(4))
    assert float(area_defect(turn)) < 1e-15
    assert float(area_defect(2 * turn)) == pytest.approx(3.0)


def test_trained_nets_have_learned_and_random_ones_have_no_accuracy():
    config = hamiltonian_symplectic.Config(iterations=150, layers=6, half=3, hidden=6, samples=40)
    assert float(networks(config, "trained", (0, 1))[2].min()) > 0.75  # tiny nets
    assert networks(config, "random", (0, 1))[2].isnan().all()


def test_energy_and_its_change_in_time_are_those_of_autograd():
    config = non_autonomous_energy.Config(half=3, hidden=5)
    system, (z, p) = swinging(config, [0, 1]), starts(config, [0, 1])
    time, step = 0.7, 1e-5
    around = [system.energy(time + shift, z, p) for shift in (-step, step)]
    assert_close(system.change_of_energy(time, z, p), (around[1] - around[0]) / (2 * step), rtol=1e-7, atol=1e-8)
    leaf = z.clone().requires_grad_()
    assert_close(system.force(time, z), -torch.autograd.grad(system.energy(time, leaf, p).sum(), leaf)[0])
    leaf = p.clone().requires_grad_()
    assert_close(system.velocity(time, p), torch.autograd.grad(system.energy(time, z, leaf).sum(), leaf)[0])
    assert_close(potential(torch.eye(2)[None].double(), torch.zeros(1, 2).double(), torch.zeros(1, 1, 2).double()),
                 torch.zeros(1, 1, dtype=F64))  # fmt: skip


def test_the_system_is_reversible():
    config = non_autonomous_energy.Config()
    system, (z, p) = swinging(config, [0]), starts(config, [0])
    assert_close(system.velocity(-0.4, -p), -system.velocity(0.4, p))
    assert_close(system.force(-0.4, z), system.force(0.4, z))
    half = z.shape[1] // 2
    assert_close(p[:, :half], -p[:, half:])


def test_frozen_weights_keep_the_energy_itself():
    config = non_autonomous_energy.Config(swing=0.0)
    system, (z, p) = swinging(config, [0]), starts(config, [0])
    for _, extended, energy in followed(system, STORMER_VERLET, z, p, 0.1, 50):
        assert_close(extended, energy)
        assert float(energy.abs().max()) < 0.05
    assert depths(10_000) == [333, 1000, 3333, 10_000]


def test_unknown_methods_are_named_with_the_known_ones():
    with pytest.raises(UserError, match="Known methods: symplectic Euler"):
        known("Verlet")
