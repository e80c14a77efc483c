import math

import pytest
import torch
from refusing import given_or_refused
from torch.testing import assert_close

from regimes.control.layers import Layers
from regimes.control.reversible import Copies, backward, coupling_of, forward, off_start, path, reversible
from regimes.control.tableau import EULER, GAUSS2, HEUN, KUTTA4, TABLEAUS
from regimes.errors import RunFailed

F64 = torch.float64
EXPLICIT = [pytest.param(each, id=each.name) for each in TABLEAUS if each.explicit]


def field(time, z, params):
    return torch.tanh(z @ params["K"].T + params["b"] * (1 + time))


def problem(method, layers=3, substeps=4):
    draw = torch.Generator().manual_seed(1)
    options = {"generator": draw, "dtype": F64}
    params = [
        {"K": torch.randn(2, 2, **options).requires_grad_(), "b": torch.randn(2, **options).requires_grad_()}
        for _ in range(layers)
    ]
    return Layers(field, params, method, 1.0, substeps), torch.randn(4, 2, **options).requires_grad_()


@pytest.mark.parametrize("method", EXPLICIT)
def test_rebuilding_gives_the_gradient_of_stored_states(method):
    layers, z = problem(method)
    leaves = [z, *(each for params in layers.params for each in params.values())]
    found = []
    for rebuild in (True, False):
        end = reversible(layers, z, rebuild=rebuild)
        found.append((end, *torch.autograd.grad(end.square().sum(), leaves)))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", EXPLICIT)
def test_the_way_back_undoes_the_way_forward(method):
    layers, z = problem(method)
    with torch.no_grad():
        back = backward(layers, forward(layers, Copies(z, z + 0.1), 0.9), 0.9)
    assert_close(back.y, z)
    assert_close(back.z, z + 0.1)


@pytest.mark.parametrize("method", [EULER, HEUN, KUTTA4])
def test_the_reversible_pair_has_the_order_of_its_method(method):
    errors = []
    for substeps in (8, 16):
        layers, z = problem(method, 1, substeps)
        exact = layers._replace(tableau=KUTTA4, substeps=512).end(z)
        errors.append((reversible(layers, z, coupling=0.99) - exact).norm().item())
    assert abs(math.log2(errors[0] / errors[1]) - method.order) < 0.4  # corrections of order h


def test_only_the_end_is_kept():
    kept = []
    for substeps in (5, 50):
        layers, z = problem(KUTTA4, 1, substeps)
        saved = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda each, saved=saved: saved.append(each) or each, lambda x: x
        ):
            reversible(layers, z)
        kept.append(sum(each.numel() for each in saved))
    assert kept[0] == kept[1]


def test_a_parameter_that_is_not_used_has_no_gradient_and_no_error():
    layers, z = problem(EULER, 1)
    extra = torch.ones(1, dtype=F64, requires_grad=True)
    end = reversible(layers._replace(params=[{**layers.params[0], "extra": extra}]), z)
    assert torch.autograd.grad(end.sum(), extra)[0].item() == 0


def test_weights_of_a_field_that_are_no_parameters_of_its_layers_are_refused():
    layers, z = problem(EULER)
    own = torch.ones(2, dtype=F64, requires_grad=True)
    other = layers._replace(field=lambda time, z, params: own * field(time, z, params))
    reversible(other, z, rebuild=False).sum().backward()
    assert own.grad is not None
    with pytest.raises(ValueError, match="among the parameters of its layers"):
        reversible(other, z)
    with torch.no_grad():
        assert_close(reversible(other, z), reversible(layers, z))


def test_what_cannot_be_reversed_is_refused():
    layers, z = problem(EULER)
    with pytest.raises(ValueError, match="explicit method"):
        reversible(layers._replace(tableau=GAUSS2), z)
    for coupling, message in ((0.0, "coupling"), (1.5, "at most 1"), (float("nan"), "coupling")):
        with pytest.raises(ValueError, match=message):
            reversible(layers, z, coupling=coupling)


class Pulled:
    """The field with its pull-back by hand."""

    def __call__(self, time, z, params):
        return field(time, z, params)

    def pull(self, time, z, value, params, adjoint, sums):
        inner = adjoint * (1 - value**2)
        sums["K"] += inner.T @ z
        sums["b"] += (1 + time) * inner.sum(0)
        return inner @ params["K"]


@pytest.mark.parametrize("method", EXPLICIT)
def test_a_pull_back_by_hand_gives_the_same_gradient(method):
    layers, z = problem(method)
    leaves = [z, *(each for params in layers.params for each in params.values())]
    found = []
    for one in (layers, layers._replace(field=Pulled())):
        found.append(torch.autograd.grad(reversible(one, z).square().sum(), leaves))
    for one, other in zip(*found, strict=True):
        assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", [EULER, KUTTA4])
def test_a_layer_that_comes_twice_has_one_gradient(method):
    layers, z = problem(method, 1)
    shared = layers._replace(params=[*layers.params, *layers.params])
    leaves = [z, *layers.params[0].values()]
    found = [torch.autograd.grad(reversible(shared, z, rebuild=each).sum(), leaves) for each in (True, False)]
    for one, other in zip(*found, strict=True):
        assert_close(one, other)


def test_parameters_that_take_no_gradient_get_none_and_cost_no_error():
    layers, z = problem(KUTTA4, 1)
    frozen = {"K": layers.params[0]["K"], "b": layers.params[0]["b"].detach()}
    end = reversible(layers._replace(params=[frozen]), z)
    stored = reversible(layers._replace(params=[frozen]), z, rebuild=False)
    for one, other in zip(*(torch.autograd.grad(each.sum(), [z, frozen["K"]]) for each in (end, stored)), strict=True):
        assert_close(one, other)


def test_parameters_changed_before_the_way_back_are_refused():
    layers, z = problem(EULER, 1)
    end = reversible(layers, z)
    with torch.no_grad():
        layers.params[0]["K"].mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        end.sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "depth", "bound"),
    [
        *(pytest.param(*each.values, 100, 1e-12, id=f"{each.id}, 100") for each in EXPLICIT),
        *(pytest.param(each, 10_000, 1e-9, id=f"{each.name}, 10,000") for each in (EULER, KUTTA4)),
    ],
)
def test_the_gradient_at_great_depth_is_that_of_stored_states(method, depth, bound):
    layers, z = problem(method, 1, depth)
    leaves = [z, *layers.params[0].values()]
    found = [torch.autograd.grad(reversible(layers, z, rebuild=each).square().sum(), leaves) for each in (True, False)]
    for one, other in zip(*found, strict=True):
        assert float((one - other).abs().max()) <= bound * float(other.abs().max())


def test_the_default_coupling_multiplies_rounding_by_the_same_factor_at_any_depth():
    for steps in (1, 100, 10_000):
        assert math.isclose(coupling_of(steps) ** -steps, math.e)
        assert math.isclose(coupling_of(steps, 3.0) ** -steps, math.e**3)
    with pytest.raises(ValueError, match="steps"):
        coupling_of(0)
    with pytest.raises(ValueError, match="damping"):
        coupling_of(10, 0.0)


@pytest.mark.parametrize(("damping", "grows"), [(1.0, True), (8.0, False)])
def test_copies_drift_apart_where_the_field_contracts_faster_than_the_coupling_damps(damping, grows):
    """z' = −μz with μT = 8: what separates the copies grows like e^(8 − c)."""
    layers = Layers(lambda time, z, params: -8 * z, [{}], HEUN, 1.0, 400)
    start = Copies(torch.zeros(1, 1, dtype=F64), torch.full((1, 1), 1e-9, dtype=F64))
    end = forward(layers, start, coupling_of(400, damping))
    assert (float((end.y - end.z).abs()) > 1e-8) == grows


@pytest.mark.parametrize("dtype", [F64, torch.float32])
@pytest.mark.parametrize("rate", [2.0, 8.0, 15.0, 30.0, 60.0])
@pytest.mark.parametrize("size", [1.0, 1e-30])
def test_a_gradient_is_right_or_refused_where_the_field_contracts(rate, dtype, size):
    """Right up to what the same steps lose with stored states, whose adjoints grow as well."""

    def gradient(dtype, rebuild):
        weight = torch.full((), rate, dtype=dtype, requires_grad=True)
        layers = Layers(lambda time, z, params: -params["rate"] * z, [{"rate": weight}], KUTTA4, 1.0, 100)
        start = size * torch.linspace(1, 2, 5, dtype=dtype)[:, None]
        end = reversible(layers, start, rebuild=rebuild).sum()
        return torch.autograd.grad(end, weight)[0].double()

    right, stored = gradient(F64, False), gradient(dtype, False)
    found, refusal = given_or_refused(lambda: gradient(dtype, True), RunFailed)
    if found is None:
        assert rate > 8
        assert "rebuild=False" in refusal
    else:
        assert rate < 60
        lost = float((stored - right).abs() / right.abs())
        assert_close(found, right, rtol=30 * torch.finfo(dtype).eps ** 0.5 + 3 * lost, atol=0)


def test_states_without_entries_are_no_distance_apart():
    nothing = torch.zeros(0, 2)
    assert off_start(nothing, nothing, [nothing]) == 0


def test_a_field_that_draws_random_numbers_is_refused():
    z = torch.randn(8, 3, dtype=F64, requires_grad=True)
    layers = Layers(lambda time, z, params: torch.nn.functional.dropout(z, 0.5), [{}], HEUN, 1.0, 4)
    with pytest.raises(RunFailed, match="random numbers"):
        reversible(layers, z).sum().backward()


EACH = [
    pytest.param(lambda layers, z, coupling=None: reversible(layers, z, coupling=coupling), id="reversible"),
    pytest.param(lambda layers, z, coupling=None: forward(layers, Copies(z, z), coupling), id="forward"),
    pytest.param(lambda layers, z, coupling=None: backward(layers, Copies(z, z), coupling), id="backward"),
    pytest.param(lambda layers, z, coupling=None: path(layers, Copies(z, z), coupling), id="path"),
]


@pytest.mark.parametrize("way", EACH)
def test_every_way_refuses_what_cannot_be_stepped(way):
    layers, z = problem(EULER)
    for method in TABLEAUS:
        if not method.explicit:
            with pytest.raises(ValueError, match="explicit method"):
                way(layers._replace(tableau=method), z)
    for coupling in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="coupling"):
            way(layers, z, coupling)
    for bad, message in (
        ({"params": []}, "at least one layer"),
        ({"params": [[1]]}, r"params\[0\] as a dict"),
        ({"params": 3}, "params as a list"),
        ({"params": [{"K": 1.0}]}, "as a tensor"),
        ({"params": [{"K": torch.ones(2, 2)}]}, "one precision"),
        ({"params": [{"K": torch.ones(2, 2, dtype=torch.int64)}]}, "no fractions"),
        ({"horizon": 0.0}, "horizon"),
        ({"substeps": 0}, "substeps"),
        ({"field": lambda time, z, params: z[:, :1]}, "shape and dtype of the state"),
        ({"field": lambda time, z, params: None}, "got NoneType"),
    ):
        with pytest.raises(ValueError, match=message):
            way(layers._replace(**bad), z)
    with pytest.raises(ValueError, match="one precision"):
        way(layers, z.float())


@pytest.mark.parametrize("way", [forward, backward, path])
def test_copies_that_differ_in_form_are_refused(way):
    layers, z = problem(EULER)
    for copies in (Copies(z, z[:1]), Copies(z.float(), z)):
        with pytest.raises(ValueError, match="needs"):
            way(layers, copies)
