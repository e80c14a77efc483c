import pytest
import torch
from torch import nn
from torch.testing import assert_close

from regimes.tangent.functional import flatten, functional, push_forward, unflatten


def test_the_functional_form_is_the_model():
    model, x = nn.Linear(3, 2).double(), torch.randn(4, 3, dtype=torch.float64)
    f, params = functional(model)
    assert_close(f(params, x), model(x).detach())
    doubled = {name: 2 * value for name, value in params.items()}
    assert_close(f(doubled, x), 2 * model(x).detach())


def test_frozen_parameters_are_no_arguments():
    model = nn.Linear(3, 2)
    model.bias.requires_grad_(False)
    assert list(functional(model)[1]) == ["weight"]


def test_flatten_and_unflatten_are_inverse():
    params = {"a": torch.randn(2, 3), "b": torch.randn(4)}
    vector = flatten(params)
    assert_close(vector, torch.cat([params["a"].reshape(-1), params["b"]]))
    again = unflatten(vector, params)
    assert list(again) == ["a", "b"]
    for name, value in params.items():
        assert torch.equal(again[name], value)


def test_a_vector_of_the_wrong_length_is_refused():
    with pytest.raises(ValueError, match=r"needs vector \(4,\); got vector \(3,\).* the 4 entries of `like`"):
        unflatten(torch.zeros(3), {"a": torch.zeros(2, 2)})


def test_a_model_without_trainable_parameters_is_refused():
    with pytest.raises(ValueError, match="ReLU has no trainable parameter"):
        functional(nn.ReLU())


def test_the_names_of_a_tangent_come_in_any_order():
    at, tangent = ({name: torch.randn(2, 2) for name in order} for order in ("ab", "ba"))
    value, change = push_forward(lambda values: values["a"] @ values["b"], at, tangent)
    assert_close(value, at["a"] @ at["b"])
    assert_close(change, tangent["a"] @ at["b"] + at["a"] @ tangent["b"])


def test_both_routes_of_the_push_forward_agree():
    class NoForwardMode(torch.autograd.Function):
        generate_vmap_rule = False

        @staticmethod
        def forward(x):
            return x.exp()

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(output)

        @staticmethod
        def backward(ctx, *grads):
            return grads[0] * ctx.saved_tensors[0]

        @staticmethod
        def jvp(ctx, *tangents):
            raise NotImplementedError

    params = {"a": torch.randn(5, dtype=torch.float64)}
    direction = {"a": torch.randn(5, dtype=torch.float64)}
    fast = push_forward(lambda p: p["a"].exp().cumsum(0), params, direction)
    slow = push_forward(lambda p: NoForwardMode.apply(p["a"]).cumsum(0), params, direction)
    expected = (params["a"].exp() * direction["a"]).cumsum(0)
    for value, change in (fast, slow):
        assert_close(value, params["a"].exp().cumsum(0))
        assert_close(change, expected)
