"""Values of another kind than is asked for: lists, words, numbers, None, classes, arrays in place of tensors."""

import pytest
import test_doors_flows
import test_doors_tangent
import torch
from doors import Door, crashes
from torch import nn

from regimes.activations import RELU, TANH, activation
from regimes.control.adaptive import integrate
from regimes.conventions import function_norm, generator, square_risk
from regimes.meanfield.displacement import displaced, displacement_flow, tangent_features
from regimes.meanfield.flow import descend, gradient_flow
from regimes.meanfield.kernel import tangent_kernel
from regimes.meanfield.particles import double, gaussian
from regimes.meanfield.population import PopulationRisk, relu_sphere
from regimes.meanfield.two_layer import TwoLayerRisk
from regimes.models.blocks import basic, dense
from regimes.models.build import build
from regimes.models.cifar_nets import preact_resnet, resnext29, wide_resnet
from regimes.models.doubling import Doubled
from regimes.models.image_nets import dense_net, resnet9
from regimes.models.initialise import initialise, kaiming
from regimes.models.mlp import MLP
from regimes.models.scaling import Centred
from regimes.models.state_map import state_map
from regimes.models.timed import draw_times, timed
from regimes.models.two_layer import TwoLayer
from regimes.models.vgg import vgg11
from regimes.tangent.criterion import lazy_criterion
from regimes.tangent.functional import flatten, functional
from regimes.tangent.kernel import ntk
from regimes.tangent.laziness import kernel_drift, weight_motion
from regimes.tangent.linearize import linearize
from regimes.tangent.trained import laziness
from regimes.tangent.verdict import Thresholds, judge_laziness


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def net():
    return nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2)).double()


def images():
    return dense_net((1, 4, 4), 3, blocks=1, width=4)


def trained():
    model = net()
    tangent = linearize(model)
    with torch.no_grad():
        for parameter in (*tangent.displacement, *model.parameters()):
            parameter.add_(0.01)
    return {"model": model, "tangent": tangent, "x": randn(4, 3), "kernel_samples": 3, "thresholds": None}


RISK, PARTICLES = test_doors_flows.risk, test_doors_flows.net
SHAPED = {"shape": (1, 8, 8), "classes": 3}
DOORS = {
    **test_doors_tangent.DOORS,
    **{f"{name} of a flow": door for name, door in test_doors_flows.DOORS.items()},
    "weight_motion of lists": Door(weight_motion, lambda: {"weights": [randn(3, 2)], "start": [randn(3, 2)]}),
    "kernel_drift of runs": Door(kernel_drift, lambda: {"kernel": randn(3, 4, 4), "start": randn(3, 4, 4), "runs": 1}),
    "ntk of outputs": Door(ntk, lambda: {"model": net(), "x1": randn(4, 3), "outputs": "trace"}),
    "lazy_criterion": Door(
        lazy_criterion,
        lambda: {
            "model": net(), "x": randn(4, 3), "y": randn(4, 2), "generator": generator(0), "starts": 1,
            "iterations": 3, "tolerance": 1e-2,
        },
    ),
    "linearize": Door(linearize, lambda: {"model": net()}),
    "Linearized": Door(linearize(net()), lambda: {"x": randn(4, 3)}),
    "Centred": Door(Centred, lambda: {"model": net(), "alpha": 2.0}),
    "Centred on inputs": Door(Centred(net(), 2.0), lambda: {"x": randn(4, 3)}),
    "Doubled": Door(Doubled, lambda: {"model": net()}),
    "Doubled on inputs": Door(Doubled(net()), lambda: {"x": randn(4, 3)}),
    "laziness": Door(laziness, trained),
    "judge_laziness": Door(
        judge_laziness, lambda: {"numbers": {"tangent_distance": 0.01}, "thresholds": Thresholds()}
    ),
    "functional": Door(functional, lambda: {"model": net()}),
    "flatten": Door(flatten, lambda: {"params": {"a": randn(3)}}),
    "generator": Door(generator, lambda: {"seed": 0, "device": "cpu"}),
    "square_risk": Door(square_risk, lambda: {"outputs": randn(4, 2), "targets": randn(4, 2)}),
    "function_norm": Door(function_norm, lambda: {"values": randn(4, 2)}),
    "activation": Door(activation, lambda: {"name": "relu"}),
    "MLP": Door(MLP, lambda: {"widths": [3, 4, 2], "activation": RELU, "generator": generator(0)}),
    "TwoLayer": Door(
        TwoLayer, lambda: {"inputs": 3, "width": 4, "activation": RELU, "generator": generator(0), "scale": 1.0}
    ),
    "gaussian of generators": Door(gaussian, lambda: {"generators": [generator(0)], "width": 3, "inputs": 2}),
    "build": Door(build, lambda: {"name": "dense", **SHAPED}),
    **{
        each.__name__: Door(each, lambda: dict(SHAPED))
        for each in (dense_net, resnet9, vgg11, resnext29)
    },
    "preact_resnet": Door(preact_resnet, lambda: {**SHAPED, "depth": 8}),
    "wide_resnet": Door(wide_resnet, lambda: {**SHAPED, "depth": 10}),
    "dense": Door(dense, lambda: {"width": 4, "hidden": 3, "batch_norm": False}),
    "basic": Door(basic, lambda: {"channels": 4, "channels_in": 2}),
    "initialise": Door(
        initialise, lambda: {"model": net(), "law": kaiming, "gain": 1.0, "generator": generator(0)}
    ),
    "state_map": Door(state_map, lambda: {"model": images(), "x": torch.randn(4, 1, 4, 4), "segment": 0}),
    "timed": Door(timed, lambda: {"model": images(), "first_gap": True, "sorting": "forward"}),
    "draw_times": Door(draw_times, lambda: {"model": timed(images()), "generator": generator(0)}),
    "integrate": Door(
        lambda **given: next(integrate(**given)),
        lambda: {"velocity": test_doors_flows.decay, "state": (randn(3, 2),), "times": [1.0]},
    ),
    "TwoLayerRisk": Door(TwoLayerRisk, lambda: {"x": randn(2, 8, 3), "y": randn(2, 8, 2), "activation": TANH}),
    "PopulationRisk": Door(PopulationRisk, lambda: {"teacher": PARTICLES(1), "overlap": relu_sphere}),
    "gradient_flow": Door(
        lambda **given: next(gradient_flow(**given)),
        lambda: {"risk": RISK(), "particles": PARTICLES(), "times": [1e-3]},
    ),
    "descend": Door(
        lambda **given: list(descend(iterations=2, **given)),
        lambda: {"risk": RISK(), "particles": PARTICLES(), "step": 0.1, "record": [1]},
    ),
    "displacement_flow": Door(
        lambda **given: next(displacement_flow(**given)),
        lambda: {"risk": RISK(), "start": PARTICLES(), "times": [1e-3]},
    ),
    "displaced": Door(displaced, lambda: {"start": PARTICLES(), "moved": PARTICLES(), "alpha": 2.0}),
    "double": Door(double, lambda: {"particles": PARTICLES()}),
    "tangent_features": Door(
        tangent_features, lambda: {"particles": PARTICLES(k=1), "x": randn(2, 8, 3), "activation": RELU}
    ),
    "tangent_kernel": Door(
        tangent_kernel,
        lambda: {"particles": PARTICLES(), "x1": randn(2, 8, 3), "x2": randn(2, 6, 3), "activation": RELU},
    ),
}  # fmt: skip
ALLOWED = {  # what the caller's own function or module does with it is its own affair
    "x: no entries",
    "law: a module",
    "law: a function",
    "velocity: a module",
    "risk: a module",
    "max_steps: a number",
}


@pytest.mark.parametrize("name", DOORS)
def test_another_kind_is_taken_or_refused_in_words(name):
    assert crashes(DOORS[name], ALLOWED) == []


@pytest.mark.parametrize("wrong", [3, 0, None, "cpu", [generator(0)], torch.zeros(2)])
def test_a_seed_is_no_generator(wrong):
    with pytest.raises(ValueError, match="lazy_criterion needs generator as"):
        lazy_criterion(net(), randn(4, 3), randn(4, 2), generator=wrong)
    with pytest.raises(ValueError, match="MLP needs generator as"):
        MLP([3, 4, 2], activation=RELU, generator=wrong)


@pytest.mark.parametrize("wrong", ["gpu", "cuda:99", "", 2.5, None, ["cpu"]])
def test_a_device_that_is_not_there_is_refused_by_name(wrong):
    with pytest.raises(ValueError, match="generator needs device as the name of one that is there"):
        generator(0, device=wrong)
