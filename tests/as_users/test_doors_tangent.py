"""What the tangent package refuses, as a user calls it."""

import pytest
import torch
from doors import Door, cases, loses, not_taken

from regimes.activations import RELU
from regimes.conventions import generator
from regimes.tangent.finite_horizon import finite_horizon_bound
from regimes.tangent.functional import unflatten
from regimes.tangent.held_out import effective_dimension, empirical_modes, learning_curve, leave_one_out
from regimes.tangent.infinite import (
    AvgPool,
    Conv,
    Dense,
    Flatten,
    LayerNorm,
    Nonlinearity,
    Serial,
    dense_kernels,
    infinite_kernels,
    two_layer_nngp,
    two_layer_ntk,
)
from regimes.tangent.iterative import iterative_ridge, predict_iterative
from regimes.tangent.kernel import jacobian, ntk, ntk_vector_product
from regimes.tangent.laziness import activation_flips, alignment, kernel_drift, tangent_distance, weight_motion
from regimes.tangent.linearize import linearize
from regimes.tangent.random_nets import random_dense_kernels
from regimes.tangent.regression import GradientFlow, kernel_ridge, predict
from regimes.tangent.spectrum import merge_outputs, spectrum
from regimes.tangent.verdict import Thresholds, judge_laziness


def randn(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def kernel(n=6):
    features = randn(n, 9)
    return features @ features.T


def net():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()


TESTED = {"k_test_train: an axis more"}
INPUTS = lambda: {"x1": randn(5, 3), "x2": randn(4, 3), "activation": RELU}  # noqa: E731
DOORS = {
    "spectrum": Door(
        spectrum,
        lambda: {"kernel": kernel(), "cutoff": 0.1},
        sized={"kernel": (0, 1)},
        name="a kernel matrix",
    ),
    "merge_outputs": Door(
        merge_outputs,
        lambda: {"kernel": randn(4, 3, 2, 2)},
        sized={"kernel": (2, 3)},
        free={f"kernel: {how}" for how in ("complex", "integer", "half")},  # it only moves entries
    ),
    "kernel_ridge": Door(
        kernel_ridge,
        lambda: {"k_train_train": kernel(), "y": randn(6, 2), "ridge": 0.1},
        sized={"k_train_train": (0, 1), "y": (0,)},
        name=("kernel_ridge", "a kernel matrix"),
    ),
    "kernel_ridge of one number a sample": Door(
        kernel_ridge, lambda: {"k_train_train": kernel(), "y": randn(6, 1)}, sized={"y": (0,)},
        name=("kernel_ridge", "a kernel matrix"),
    ),
    "predict": Door(
        predict,
        lambda: {"fit": kernel_ridge(kernel(), randn(6, 2)), "k_test_train": randn(4, 6)},
        sized={"k_test_train": (1,)},
    ),
    "leave_one_out": Door(
        leave_one_out,
        lambda: {"kernel": kernel(), "y": randn(6, 2), "ridge": 0.1},
        sized={"kernel": (0, 1), "y": (0,)},
        name=("leave_one_out", "a kernel matrix"),
    ),
    "effective_dimension": Door(
        effective_dimension, lambda: {"kernel": kernel(), "ridge": 0.1}, sized={"kernel": (0, 1)},
        name=("effective_dimension", "a kernel matrix"),
    ),
    "learning_curve": Door(
        learning_curve,
        lambda: {
            "eigenvalues": randn(6).square(), "coefficients": randn(6, 2), "sizes": [2, 9], "ridge": 0.1, "noise": 0.1,
        },
        sized={"eigenvalues": (0,), "coefficients": (0,)},
    ),
    "empirical_modes": Door(
        empirical_modes, lambda: {"kernel": kernel(), "y": randn(6, 2)}, sized={"kernel": (0, 1), "y": (0,)},
        name=("empirical_modes", "a kernel matrix"),
    ),
    "iterative_ridge": Door(
        iterative_ridge,
        lambda: {"kernel": kernel(), "y": randn(6, 2), "ridge": 0.1, "generator": generator(0), "rank": 3,
                 "tolerance": 1e-3, "iterations": 50},
        sized={"kernel": (0, 1), "y": (0,)},
        free={"rank: 0"},  # no preconditioner
    ),
    "predict_iterative": Door(
        predict_iterative,
        lambda: {
            "fit": iterative_ridge(kernel(), randn(6, 2), ridge=0.1, generator=generator(0)),
            "k_test_train": randn(4, 6),
        },
        sized={"k_test_train": (1,)},
    ),
    "GradientFlow": Door(
        lambda **given: GradientFlow(**given).risk(1.0),
        lambda: {"k_train_train": kernel(), "y": randn(6, 2), "f_train_0": randn(6, 2)},
        sized={"k_train_train": (0, 1), "y": (0, 1), "f_train_0": (0, 1)},
        name=("GradientFlow", "a kernel matrix"),
    ),
    "GradientFlow of one number a sample": Door(
        lambda **given: GradientFlow(**given).risk(1.0),
        lambda: {"k_train_train": kernel(), "y": randn(6, 1), "f_train_0": randn(6, 1)},
        sized={"y": (0,), "f_train_0": (0,)},
        name=("GradientFlow", "a kernel matrix"),
    ),
    "GradientFlow.test": Door(
        GradientFlow(kernel(), randn(6, 2)).test,
        lambda: {"t": 1.0, "k_test_train": randn(4, 6), "f_test_0": randn(4, 2)},
        sized={"k_test_train": (0, 1), "f_test_0": (0, 1)},
        free={"t: inf"},
        name="GradientFlow",
    ),
    "GradientFlow.time_to": Door(
        GradientFlow(kernel(), randn(6, 2)).time_to,
        lambda: {"risk": 0.01},
        free={"risk: inf"},
        name="GradientFlow.time_to",
    ),
    "weight_motion": Door(
        lambda w, w0, runs: weight_motion([w], [w0], runs=runs),
        lambda: {"w": randn(5, 4, 3), "w0": randn(5, 4, 3), "runs": 1},
        sized={"w": (0, 1, 2), "w0": (0, 1, 2)},
        free={"runs: 0"},
        name="weight_motion",
    ),
    "kernel_drift": Door(
        kernel_drift, lambda: {"kernel": randn(5, 4), "start": randn(5, 4)}, sized={"kernel": (0, 1), "start": (0, 1)}
    ),
    "activation_flips": Door(
        activation_flips,
        lambda: {"preactivations": randn(5, 4), "start": randn(5, 4)},
        sized={"preactivations": (0, 1), "start": (0, 1)},
        free={"preactivations: half", "start: half"},  # a sign survives
    ),
    "tangent_distance": Door(
        tangent_distance,
        lambda: {"outputs": randn(5, 4), "tangent": randn(5, 4)},
        sized={"outputs": (0, 1), "tangent": (0, 1)},
    ),
    "alignment": Door(
        alignment, lambda: {"kernel": kernel(), "y": randn(6, 2)}, sized={"kernel": (0, 1), "y": (0,)}
    ),
    "finite_horizon_bound": Door(
        finite_horizon_bound,
        lambda: {
            "horizon": 1.0, "lipschitz": 1.0, "lipschitz_derivative": 1.0, "alpha": 2.0, "initial_distance": 1.0,
            "radius": 3.0,
        },
        free={"radius: inf"},
    ),
    "dense_kernels": Door(
        dense_kernels,
        lambda: {**INPUTS(), "depth": 2, "sigma_w": 1.5, "sigma_b": 0.5},
        sized={"x1": (1,), "x2": (1,)},
        free={"depth: 0"},
    ),
    "infinite_kernels": Door(
        infinite_kernels,
        lambda: {
            "net": Serial(Conv(2), Nonlinearity(RELU), AvgPool(2), Flatten(), Dense()), "x1": randn(3, 2, 4, 4),
            "x2": randn(2, 2, 4, 4), "memory": 10**6,
        },
        sized={"x1": (1, 2), "x2": (1, 2)},
    ),
    "Dense": Door(Dense, lambda: {"sigma_w": 1.0, "sigma_b": 0.5, "width": 3}, free={"sigma_b: 0"}),
    "Conv": Door(
        Conv,
        lambda: {"sizes": 3, "strides": 2, "padding": "SAME", "sigma_w": 1.0, "sigma_b": 0.5, "width": 3},
    ),
    "AvgPool": Door(AvgPool, lambda: {"sizes": 3, "strides": 2, "padding": "SAME"}),
    "LayerNorm": Door(LayerNorm, lambda: {"epsilon": 1e-5}),
    "Nonlinearity": Door(Nonlinearity, lambda: {"activation": RELU, "tolerance": 1e-9}),
    "two_layer_ntk": Door(
        two_layer_ntk, lambda: {**INPUTS(), "std_a": 1.0, "std_b": 1.0}, sized={"x1": (1,), "x2": (1,)}
    ),
    "two_layer_nngp": Door(
        two_layer_nngp, lambda: {**INPUTS(), "std_a": 1.0, "std_b": 1.0}, sized={"x1": (1,), "x2": (1,)}
    ),
    "random_dense_kernels": Door(
        random_dense_kernels,
        lambda: {
            "x": randn(5, 3), "nets": 2, "width": 4, "depth": 1, "activation": RELU, "generator": generator(0),
            "sigma_w": 1.0, "sigma_b": 0.5,
        },
    ),
    "ntk": Door(
        ntk,
        lambda: {"model": net(), "x1": randn(5, 3), "x2": randn(4, 3), "block": 2, "memory": 10**6},
        sized={"x1": (1,), "x2": (1,)},
        free={"x1: an axis more", "x2: an axis more"},
    ),
    "jacobian": Door(jacobian, lambda: {"model": net(), "x": randn(5, 3)}, sized={"x": (1,)}),
    "ntk_vector_product": Door(
        ntk_vector_product,
        lambda: {"model": net(), "x1": randn(5, 3), "vector": randn(4, 2), "x2": randn(4, 3)},
        sized={"x1": (1,), "x2": (0, 1), "vector": (0, 1)},
    ),
    "unflatten": Door(
        unflatten,
        lambda: {"vector": randn(6), "like": {"w": randn(2, 3)}},
        sized={"vector": (0,)},
        free={f"vector: {how}" for how in ("complex", "integer", "half", "an axis less")},
    ),
}  # fmt: skip


def test_the_right_input_is_taken():
    assert not_taken(DOORS) == []


@pytest.mark.parametrize(("door", "argument", "how"), cases(DOORS))
def test_wrong_input_is_refused_or_stays_in_sight(door, argument, how):
    assert loses(DOORS[door], argument, how) is None


def test_a_row_of_targets_is_told_how_to_become_a_column():
    for solve in (lambda k, y: kernel_ridge(k, y), lambda k, y: GradientFlow(k, y)):
        with pytest.raises(ValueError, match=r"y has 1 axis .* Pass y\[:, None\]"):
            solve(kernel(), randn(6))


def test_a_full_kernel_goes_in_as_it_is_and_does_not_fit_to_merged_targets():
    full, y = ntk(net(), randn(3, 3)), randn(3, 2)
    assert kernel_ridge(full, y, ridge=0.1).coefficients.shape == (3, 2)
    for solve in (kernel_ridge, GradientFlow):
        with pytest.raises(ValueError, match=r"needs k_train_train .*; got k_train_train \(3, 3, 2, 2\), y \(6, 1\)"):
            solve(full, y.reshape(6, 1))


@pytest.mark.parametrize("n", [100, 200])
def test_kernels_of_sixteen_bits_are_refused(n):
    features = torch.randn(n, 5).bfloat16()
    with pytest.raises(ValueError, match="a kernel matrix needs kernel in float32 or float64; got bfloat16"):
        kernel_ridge(features @ features.T, torch.randn(n, 1))


def test_no_activation_flips_come_out_of_nan():
    with pytest.raises(ValueError, match="activation_flips needs finite preactivations; 12 of its 12"):
        activation_flips(torch.full((3, 4), float("nan")), torch.randn(3, 4))


@pytest.mark.parametrize("weights", [([], []), ([torch.ones(2)], [torch.ones(2), torch.ones(1)])])
def test_weights_without_their_start_are_refused(weights):
    with pytest.raises(ValueError, match="weight_motion needs the same parameters twice"):
        weight_motion(*weights)


@pytest.mark.parametrize("sigma", [float("nan"), 0.0, -1.0, float("inf"), "2"])
def test_kernels_of_an_impossible_scale_are_refused(sigma):
    with pytest.raises(ValueError, match="dense_kernels needs sigma_w as a finite number above 0"):
        dense_kernels(randn(3, 2), depth=1, activation=RELU, sigma_w=sigma)


@pytest.mark.parametrize("wrong", ["relu", torch.relu, torch.nn.ReLU()])
def test_what_is_no_activation_is_refused(wrong):
    with pytest.raises(ValueError, match="dense_kernels needs an Activation; got"):
        dense_kernels(randn(3, 2), depth=1, activation=wrong)


def test_thresholds_that_are_no_numbers_judge_nothing():
    with pytest.raises(ValueError, match="the threshold of kernel_drift as a finite number above 0; got nan"):
        judge_laziness({"tangent_distance": 0.01}, Thresholds(kernel_drift=float("nan")))


def test_a_model_with_nan_weights_has_no_kernel():
    """The derivative of a linear layer does not show its weights."""
    model = torch.nn.Linear(3, 2)
    torch.nn.init.constant_(model.weight, float("nan"))
    with pytest.raises(ValueError, match="ntk needs finite outputs of the model"):
        ntk(model, torch.randn(4, 3))


@pytest.mark.parametrize("door", [ntk, lambda model, x: linearize(model)(x)], ids=["ntk", "linearize"])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (lambda: torch.eye(3).to_sparse(), r"dense tensor .* got a sparse one. Use to_dense\(\)"),
        (
            lambda: torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)]),
            "got a nested one. Use torch.nested.",
        ),
    ],
    ids=["sparse", "nested"],
)
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_sparse_and_nested_inputs_are_refused(door, x, message):
    """Here, where no check of shapes runs: it cannot read the sizes of a nested tensor."""
    with pytest.raises(ValueError, match=message):
        door(torch.nn.Linear(3, 2), x())
