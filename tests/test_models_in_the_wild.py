"""Models as people write them: their kernels and tangent models are right, or refused in words."""

import pytest
import torch
from models_in_the_wild import CASES, RIGHT
from torch import nn
from torch.testing import assert_close

from regimes.models.doubling import Doubled
from regimes.models.scaling import Centred
from regimes.tangent.kernel import ntk, ntk_vector_product
from regimes.tangent.linearize import linearize

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of torch, about old ways


def trained(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def real(values):
    return torch.view_as_real(values) if values.is_complex() else values


def called(model, x):
    value = model(x.clone())
    return value["logits"] if isinstance(value, dict) else value


def gradient(output, parameters):
    """Of one number, by each real entry of the parameters."""
    if not output.requires_grad:
        return torch.cat([torch.zeros_like(real(each)).reshape(-1) for each in parameters])
    found = torch.autograd.grad(output, parameters, retain_graph=True, allow_unused=True)
    dense = [
        torch.zeros_like(each) if part is None else part.to_dense()
        for each, part in zip(parameters, found, strict=True)
    ]
    return torch.cat([real(each).reshape(-1) for each in dense])


def slow_jacobian(model, x):
    """(n·k, p): one backward pass for each output of each sample by itself."""
    return torch.stack(
        [
            gradient(output, trained(model))
            for sample in x.split(1)
            for output in real(called(model, sample)).reshape(-1)
        ]
    )


def tolerances(kernel):
    return {"rtol": 1e-4, "atol": 1e-5 * float(kernel.abs().max() + 1e-20), "check_dtype": False}


@pytest.mark.parametrize("name", CASES)
def test_the_kernel_is_right_or_refused(name):
    case = CASES[name]
    model, x = case.build()
    before = x.clone()
    if case.kernel != RIGHT:
        with pytest.raises(ValueError, match=f"(?s){case.kernel}") as error:
            ntk(model, x)
        assert "\n" not in str(error.value)
        return
    kernel, trace = ntk(model, x), ntk(model, x[:2], x[2:], outputs="trace")
    assert torch.equal(x, before)
    assert all(parameter.grad is None for parameter in model.parameters())
    rows = slow_jacobian(model, x)
    slow = (rows @ rows.T).view(len(x), -1, len(x), len(rows) // len(x)).transpose(1, 2)
    assert_close(kernel, slow, **tolerances(slow))
    assert_close(trace, slow.diagonal(dim1=2, dim2=3).sum(-1)[:2, 2:], **tolerances(slow))
    vector = torch.randn(len(x), kernel.shape[2]).to(kernel.dtype)
    product = torch.einsum("ijab,jb->ia", kernel, vector)
    assert_close(ntk_vector_product(model, x, vector), product, **tolerances(slow))


@pytest.mark.parametrize("name", CASES)
def test_the_tangent_model_is_right_or_refused(name):
    case = CASES[name]
    model, x = case.build()
    if case.tangent != RIGHT:
        with pytest.raises(ValueError, match=f"(?s){case.tangent}") as error:
            linearize(model)(x)
        assert "\n" not in str(error.value)
        return
    tangent, start = linearize(model), called(model, x).detach()
    assert_close(tangent(x.clone()), start)
    step = [0.1 * torch.randn_like(each) for each in tangent.displacement]
    with torch.no_grad():
        for each, part in zip(tangent.displacement, step, strict=True):
            each.copy_(part)
    rows = slow_jacobian(model, x)
    moved = rows @ torch.cat([real(each).reshape(-1) for each in step])
    assert_close(real(tangent(x).detach()).reshape(-1), real(start).reshape(-1) + moved, **tolerances(start))
    pulled = gradient(real(tangent(x)).sum(), list(tangent.displacement))
    assert_close(pulled, rows.sum(0), rtol=1e-4, atol=1e-5)
    assert_close(tangent(x[:1]), tangent(x)[:1], rtol=1e-4, atol=1e-5)


def refused_or(call):
    try:
        return call()
    except ValueError:
        return None


def centred(model):
    return Centred(model, 2.0)


@pytest.mark.parametrize("wrap", [centred, Doubled])
@pytest.mark.parametrize("name", CASES)
def test_differences_from_a_copy_are_zero_and_train_the_model_or_are_refused(name, wrap):
    model, x = CASES[name].build()
    value = refused_or(lambda: wrap(model)(x.clone()))
    if value is None:
        return
    small = 1e-2 if value.dtype == torch.float16 else 1e-5
    assert_close(value, torch.zeros_like(value), atol=small, rtol=0)
    scale = 2.0 if wrap is centred else 2**-0.5
    expected = scale * gradient(real(called(model, x.clone())).sum(), trained(model))
    assert_close(gradient(real(value).sum(), trained(model)), expected, rtol=10 * small, atol=small)


REFUSALS = {
    "an unregistered tensor in a list": r"shape \(4,\) that is kept in kept\[0\]",
    "a registered parameter in a list": r"'inner\.weight' as it is kept elsewhere",
    "layers in a list": r"kept in more\[0\]\.weight",
    "a closure": r"'inner\.weight' as it is kept elsewhere",
    "no_grad inside": r"requires_grad=False on its parameters",
    "detach inside": r"moves with the parameter 'inner\.weight', whose gradient is 0",
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_refusal_names_the_tensor_and_the_cure(name):
    model, x = CASES[name].build()
    with pytest.raises(ValueError, match=REFUSALS[name]):
        ntk(model, x)


@pytest.mark.parametrize("name", ["old weight norm", "pruned", "a hypernetwork after a call", "old custom function"])
def test_a_model_holds_its_own_tensors_after_a_look_at_it(name):
    model, x = CASES[name].build()
    before = [
        (module, {k: v for k, v in vars(module).items() if isinstance(v, torch.Tensor)}) for module in model.modules()
    ]
    ntk(model, x)
    for module, held in before:
        now = {k: v for k, v in vars(module).items() if isinstance(v, torch.Tensor)}
        assert now.keys() == held.keys()
        assert all(now[key] is held[key] for key in held)


def test_a_copy_of_a_derived_weight_follows_the_copy():
    model = nn.Sequential(nn.utils.weight_norm(nn.Linear(3, 2)))
    lazy, x = Centred(model, 1.0), torch.randn(4, 3)
    start = model(x).detach()
    with torch.no_grad():
        model[0].weight_g.mul_(2)
    assert_close(lazy(x), model(x) - start)
    tangent = linearize(model)
    with torch.no_grad():
        tangent.displacements()["0.weight_g"].copy_(model[0].weight_g)  # the layer is linear in its sizes
    assert_close(tangent(x), 2 * model(x) - model[0].bias)
