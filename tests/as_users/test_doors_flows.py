"""What the integration of flows and the particle nets refuse, as a user calls them."""

import math

import pytest
import torch
from doors import Door, cases, loses, not_taken

from regimes.activations import RELU, TANH
from regimes.control.adaptive import integrate, measured_error
from regimes.conventions import generator
from regimes.meanfield import population
from regimes.meanfield.displacement import (
    displaced,
    displacement_flow,
    flatten_particles,
    motion,
    tangent_features,
    unflatten_particles,
)
from regimes.meanfield.flow import descend, gradient_flow
from regimes.meanfield.kernel import tangent_kernel, tangent_kernel_trace
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.meanfield.population import PopulationRisk
from regimes.meanfield.two_layer import TwoLayerRisk

NAN = math.nan


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def net(runs=4, m=5, k=2, d=3):
    return Particles(randn(runs, m, k), randn(runs, m, d))


def decay(state):
    return (-state[0],)


def risk(**given):
    return TwoLayerRisk(randn(2, 8, 3), randn(2, 8, 2), TANH, **given)


NUMBERS = ("half", "integer", "an axis less")  # right for numbers that are given run by run
PIECES = {"output": (0, 1, 2), "input": (0, 1, 2)}
INPUTS = lambda: {"x": randn(2, 8, 3), "y": randn(2, 8, 2)}  # noqa: E731
OVERLAPS = ("relu_gaussian", "relu_sphere", "erf_gaussian", "logistic_gaussian")
DOORS = {
    "integrate": Door(
        lambda z, times, rtol, atol, smallest, max_steps: next(
            integrate(decay, (z,), times, rtol=rtol, atol=atol, smallest=smallest, max_steps=max_steps)
        ).state[0],
        lambda: {
            "z": randn(4, 2), "times": torch.tensor([1.0, 2.0]), "rtol": 1e-3, "atol": 1e-3, "smallest": 1e-6,
            "max_steps": 1000,
        },
        free={"z: an axis less", "z: an axis more", "times: half", "times: integer", "times: a list", "times: complex"},
        name="integrate",
    ),
    "gaussian": Door(
        lambda **given: gaussian(generators=[generator(0), generator(1)], **given),
        lambda: {"width": 3, "inputs": 2, "outputs": 1, "std": torch.tensor([1.0, 2.0])},
        sized={"std": (0,)},
        free={"std: half", "std: integer", "std: an axis less"},
        name="gaussian",
    ),
    "double": Door(
        lambda output, input: double(Particles(output, input)), lambda: net()._asdict(),
        sized={"output": (0, 1), "input": (0, 1)}, name="double",
    ),
    "TwoLayerRisk": Door(
        lambda x, y, alpha, offset: TwoLayerRisk(x, y, TANH, alpha=alpha, offset=offset).risk(net()),
        lambda: {**INPUTS(), "alpha": torch.tensor([1.0, 2.0, 3.0, 4.0]), "offset": randn(4, 8, 2)},
        sized={"x": (0, 1, 2), "y": (0, 1, 2), "alpha": (0,), "offset": (0, 1, 2)},
        free={"x: axis 0 of one", "x: axis 0 shorter", *(f"alpha: {how}" for how in NUMBERS)},  # one group serves all
        name=("TwoLayerRisk", "an ensemble"),
    ),
    "TwoLayerRisk of one output": Door(
        lambda x, y: TwoLayerRisk(x, y, TANH).risk(net(k=1)),
        lambda: {"x": randn(2, 8, 3), "y": randn(2, 8, 1)},
        sized={"y": (1,)},
        name=("TwoLayerRisk", "an ensemble"),
    ),
    "TwoLayerRisk.risk": Door(
        lambda output, input: risk().risk(Particles(output, input)), lambda: net()._asdict(),
        sized=PIECES, free={"input: inf"}, name=("TwoLayerRisk", "an ensemble"),  # weights are not read in each step
    ),
    "TwoLayerRisk.gradient": Door(
        lambda output, input: risk().gradient(Particles(output, input)), lambda: net()._asdict(),
        sized=PIECES, free={"input: inf"}, name=("TwoLayerRisk", "an ensemble"),  # weights are not read in each step
    ),
    "TwoLayerRisk.outputs": Door(
        lambda x: risk().outputs(net(), x), lambda: {"x": randn(2, 5, 3)},
        sized={"x": (0, 2)}, name="TwoLayerRisk.outputs",
    ),
    "PopulationRisk": Door(
        lambda output, input, alpha: PopulationRisk(
            Particles(output, input), population.erf_gaussian, alpha=alpha
        ).risk(net()),
        lambda: {**net(1)._asdict(), "alpha": torch.tensor([1.0, 2.0, 3.0, 4.0])},
        sized={"output": (1, 2), "input": (1, 2), "alpha": (0,)},
        free={"alpha: half", "alpha: integer", "alpha: an axis less"},
        name="PopulationRisk",
    ),
    "PopulationRisk.risk": Door(
        lambda output, input: PopulationRisk(net(1), population.relu_sphere).risk(Particles(output, input)),
        lambda: net()._asdict(), sized={"output": (0, 1, 2), "input": (0, 1, 2)}, name="PopulationRisk",
    ),
    "gradient_flow": Door(
        lambda risk_below, rtol, atol: next(
            gradient_flow(risk(), net(), [1e-3], risk_below=risk_below, rtol=rtol, atol=atol)
        ).time,
        lambda: {"risk_below": torch.tensor([0.1] * 4), "rtol": 1e-3, "atol": 1e-3},
        sized={"risk_below": (0,)},
        free={"risk_below: half", "risk_below: integer", "risk_below: an axis less"},
        name="gradient_flow",
    ),
    "descend": Door(
        lambda **given: list(descend(risk(), net(), record=[1], **given)),
        lambda: {"step": torch.tensor([0.1] * 4), "iterations": 2},
        sized={"step": (0,)},
        free={f"step: {how}" for how in NUMBERS},
        name="descend",
    ),
    "displaced": Door(
        lambda output, input: displaced(net(), Particles(output, input), 2.0), lambda: net()._asdict(),
        sized=PIECES, free={f"{part}: {how}" for part in PIECES for how in ("complex", "integer", "half", "a list")},
        name="displaced",
    ),
    "displacement_flow": Door(
        lambda **given: next(displacement_flow(risk(), net(), [1e-3], **given)).time,
        lambda: {"risk_below": torch.tensor([0.1] * 4), "unit": torch.tensor([1.0] * 4)},
        sized={"risk_below": (0,), "unit": (0,)},
        free={f"{name}: {how}" for name in ("risk_below", "unit") for how in (*NUMBERS, "a list")},
        name="displacement_flow",
    ),
    "tangent_features": Door(
        lambda x: tangent_features(net(k=1), x, RELU), lambda: {"x": randn(2, 8, 3)},
        sized={"x": (2,)}, name="tangent_features",
    ),
    "flatten_particles": Door(
        lambda output, input: flatten_particles(Particles(output, input)), lambda: net()._asdict(),
        sized={"output": (0, 1), "input": (0, 1)}, name="flatten_particles",
    ),
    "unflatten_particles": Door(
        unflatten_particles, lambda: {"weights": randn(4, 20), "width": 5},
        free={f"weights: {how}" for how in ("complex", "integer", "half")}, sized={"weights": (1,)},
    ),
    "motion": Door(
        motion, lambda: {"moved": randn(4, 20), "width": 5}, free=set()
    ),
    "tangent_kernel": Door(
        lambda x1, x2: tangent_kernel(net(), x1, x2, RELU), lambda: {"x1": randn(2, 8, 3), "x2": randn(2, 6, 3)},
        sized={"x1": (0, 2), "x2": (0, 2)}, name="tangent_kernel",
    ),
    "tangent_kernel_trace": Door(
        lambda x1, x2: tangent_kernel_trace(net(), x1, x2, RELU),
        lambda: {"x1": randn(2, 8, 3), "x2": randn(2, 6, 3)},
        sized={"x1": (0, 2), "x2": (0, 2)}, name="tangent_kernel_trace",
    ),
    **{
        name: Door(getattr(population, name), lambda: {"u": randn(4, 5, 3), "v": randn(4, 6, 3)},
                   sized={"u": (0, 2), "v": (0, 2)})
        for name in OVERLAPS
    },
    **{
        f"{name}.field": Door(
            getattr(population, name).field,
            lambda: {"u": randn(4, 5, 3), "v": randn(4, 6, 3), "charges": randn(4, 6)},
            sized={"u": (0, 2), "v": (0, 1, 2), "charges": (0, 1)},
            name=f"{getattr(population, name).__name__}.field",
        )
        for name in OVERLAPS
    },
}  # fmt: skip


def test_the_right_input_is_taken():
    assert not_taken(DOORS) == []


@pytest.mark.parametrize(("door", "argument", "how"), cases(DOORS))
def test_wrong_input_is_refused_or_stays_in_sight(door, argument, how):
    assert loses(DOORS[door], argument, how) is None


def test_an_ensemble_of_no_runs_ends_at_once():
    with pytest.raises(ValueError, match=r"integrate needs .* is empty. The first axis"):
        integrate(decay, (randn(0, 2),), [1.0])


@pytest.mark.parametrize("smallest", [NAN, -1.0, math.inf])
def test_an_impossible_smallest_step_ends_at_once(smallest):
    with pytest.raises(ValueError, match="integrate needs smallest as a finite number of at least 0"):
        integrate(decay, (randn(3, 2),), [1.0], smallest=smallest)


@pytest.mark.parametrize("wrong", [lambda z: (z[0][:, :1],), lambda z: (z[0].float(),), lambda z: (z[0], z[0])])
def test_a_velocity_of_another_shape_or_dtype_is_refused(wrong):
    with pytest.raises(ValueError, match="a velocity of the shapes and dtypes of the state"):
        next(integrate(wrong, (randn(3, 2),), [1.0]))


def test_events_and_tolerances_are_one_a_run():
    with pytest.raises(ValueError, match="one true or false for each run"):
        next(integrate(decay, (randn(3, 2),), [1.0], until=lambda z: z[0] > 0))
    with pytest.raises(ValueError, match="for each of the 3 runs"):
        integrate(decay, (randn(3, 2),), [1.0], rtol=torch.tensor([1e-3]))
    with pytest.raises(ValueError, match="factor above 1; got nan"):
        next(measured_error(lambda r, a: iter(()), lambda s: s, coarser=NAN))
    with pytest.raises(ValueError, match="the state as a tuple of tensors; got Tensor"):
        integrate(decay, randn(3, 2), [1.0])


@pytest.mark.parametrize("members", [[1, 3, 0], [4], [-1, 5], [1.0, 3.0], [4, 0]])
def test_impossible_members_are_refused(members):
    with pytest.raises(ValueError, match="members"):
        risk(members=members)


@pytest.mark.parametrize("scale", [NAN, 0.0, -1.0])
def test_an_impossible_scale_of_a_net_is_refused(scale):
    with pytest.raises(ValueError, match="TwoLayerRisk needs scale as a finite number above 0"):
        risk(scale=scale)


def test_two_dimensional_data_are_told_how_to_become_a_group():
    with pytest.raises(ValueError, match=r"TwoLayerRisk needs x \(groups, n, d\).*x\[None\]"):
        TwoLayerRisk(randn(8, 3), randn(8, 1), TANH)


def test_flows_of_what_is_no_risk_are_refused():
    with pytest.raises(ValueError, match="gradient_flow needs a risk such as TwoLayerRisk; got function"):
        next(gradient_flow(lambda p: p, net(), [1.0]))
    with pytest.raises(ValueError, match="gradient_flow needs Particles; got tuple"):
        next(gradient_flow(risk(), tuple(net()), [1.0]))
