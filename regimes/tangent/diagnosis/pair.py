"""Two states of one network: what they have to be so that their difference is a training, and the network between."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from regimes.checks import finite, kind
from regimes.conventions import Params
from regimes.errors import one_line, out_of_memory
from regimes.modules import (
    called,
    copied,
    push_forward,
    require_deterministic,
    require_python,
    require_values,
    unwrapped,
)
from regimes.modules.modes import with_running_statistics
from regimes.tangent.functional import evaluator
from regimes.tangent.model import require_precise, require_samples, tangent_model
from regimes.tangent.operator import TangentOperator
from regimes.tangent.precision import full_precision

CHUNK = 250  # points of one call where samples do not depend on each other
SAME = 1e-3  # relative difference of outputs by which two networks count as one function
CALLER = "diagnose"
Layers = dict[str, list[str]]


class Pair(NamedTuple):
    """A network that takes any weights, and its weights before and after; in float64 where the network allows it.

    start, end: the network in these states. Batch norms: `start` and `end` hold the statistics of the points, and
    outputs and their derivatives by the weights are those of the points as one batch, as in training. dtype: of the
    outputs, as the network came.
    """

    start: nn.Module
    end: nn.Module
    w_0: Params
    w_T: Params
    x: Tensor
    normed: bool
    layers: Layers
    dtype: torch.dtype

    @property
    def moved(self) -> Params:
        """w_T − w_0."""
        return {name: value - self.w_0[name] for name, value in self.w_T.items()}

    def outputs(self, weights: Params, *, end: bool = False) -> Float[Tensor, "n k"]:
        """Outputs on the points with these weights, and the buffers of the start (or of the end)."""
        module = self.end if end else self.start
        with put(module, weights), torch.no_grad():
            if self.normed:
                with by_batch(module):
                    return called(module, self.x.clone(), CALLER).reshape(len(self.x), -1)
            return evaluated(module, self.x)

    def step(self, weights: Params, directions: Sequence[Params]) -> list[Float[Tensor, "n k"]]:
        """The derivative by the weights at `weights`, along each direction."""
        with put(self.start, weights):
            if self.normed:
                with by_batch(self.start):
                    f = evaluator(self.start, CALLER)
                    of = lambda values: f(values, self.x).reshape(len(self.x), -1)  # noqa: E731
                    return [push_forward(of, weights, direction)[1].detach() for direction in directions]
            operator = TangentOperator(self.start, self.x[:CHUNK], caller=CALLER)
            return [torch.cat([operator.jvp(one, x) for x in self.x.split(CHUNK)]) for one in directions]


def make_pair(model_0: nn.Module, model_T: nn.Module, x: Shaped[Tensor, "n *sample"]) -> Pair:
    """The two states, checked: one function of its weights, which maps each sample by itself, with finite numbers.

    ValueError: modules in train mode that draw random numbers or take batch statistics, samples that mix, weights of 16
    bits, NaN or infinite weights, buffers or outputs, two architectures, frozen weights that differ.
    """
    start, end = _checked("model_0", model_0), _checked("model_T", model_T)
    require_samples(x, CALLER, "x")
    names = _trained(start, end)
    network, before = copied(end), {name: tensor.detach().clone() for name, tensor in start.state_dict().items()
                                    if isinstance(tensor, Tensor)}  # fmt: skip
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in names)
    beginning = copied(network)
    try:
        beginning.load_state_dict(start.state_dict())
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise _other(f"their tensors differ: {one_line(error, 200)}") from None
    x = x.detach().to(next(start.parameters()).device)
    tangent_model(beginning, x, CALLER)
    dtype = _require_one_function(start, beginning, x)
    if not any(tensor.is_complex() for tensor in before.values()):
        network, beginning, x = _doubled(network, beginning, x)
    normed = any(isinstance(module, _BatchNorm) for module in network.modules())
    if normed:
        for module in (beginning, network):
            take_statistics(module, x)
    tangent_model(network, x, CALLER)
    w_0, w_T = (
        {name: value.detach().clone() for name, value in module.named_parameters() if name in names}
        for module in (beginning, network)
    )
    return Pair(beginning.eval(), network.eval(), w_0, w_T, x, normed, layers_of(network, names), dtype)


def _checked(name: str, model: Any) -> nn.Module:
    kind(CALLER, name, model, nn.Module, "a torch module")
    require_deterministic(model, CALLER)
    model = unwrapped(model)
    require_python(model, CALLER)
    require_values(model, CALLER)
    parameters = dict(model.named_parameters())
    if not parameters:
        raise ValueError(f"{CALLER} needs {name} with parameters; {type(model).__name__} has none.")
    require_precise({key: value.detach() for key, value in parameters.items()}, CALLER)
    given = {f"parameter {key!r} of {name}": value for key, value in parameters.items()}
    finite(CALLER, **given)
    finite(CALLER, **{f"buffer {key!r} of {name}": value.masked_fill(value == -math.inf, 0.0)  # masks may hold it
                      for key, value in model.named_buffers() if value.is_floating_point()})  # fmt: skip
    return model


def _trained(start: nn.Module, end: nn.Module) -> set[str]:
    """Names of the weights that are trained: those that one of the two has as trainable."""
    one, other = dict(start.named_parameters()), dict(end.named_parameters())
    if {name: tuple(value.shape) for name, value in one.items()} != {
        name: tuple(value.shape) for name, value in other.items()
    }:
        odd = sorted(set(one) ^ set(other)) or [name for name in one if one[name].shape != other[name].shape]
        raise _other(f"parameter {odd[0]!r} is not in both, or has another shape")
    for name in one:
        if one[name].dtype != other[name].dtype:
            raise _other(f"parameter {name!r} is in {one[name].dtype} and in {other[name].dtype}")
    names = {name for name in one if one[name].requires_grad or other[name].requires_grad}
    for name in set(one) - names:
        if not torch.equal(one[name], other[name].to(one[name])):
            raise ValueError(
                f"{CALLER} needs frozen weights that stay; {name!r} has requires_grad=False in both models, and "
                "differs. Set requires_grad=True where it was trained."
            )
    if not names:
        raise ValueError(f"{CALLER} needs trained weights; none has requires_grad=True. Set it on those trained.")
    return names


def _other(reason: str) -> ValueError:
    return ValueError(f"{CALLER} needs one network before and after training; {reason}. Pass two states of one model.")


def _require_one_function(model_0: nn.Module, beginning: nn.Module, x: Tensor) -> torch.dtype:
    """Refuse two networks that differ in what is not among their tensors, as in activations; dtype of the outputs."""
    few = x[:8]
    with torch.no_grad():
        given, made = (called(module, few.clone(), CALLER) for module in (model_0, beginning))
    if given.shape != made.shape or not bool((given - made).norm() <= SAME * given.norm()):
        raise _other(
            "with the weights of model_0 in it, model_T gives other outputs than model_0: their code or settings differ"
        )
    return given.dtype


def _doubled(end: nn.Module, start: nn.Module, x: Tensor) -> tuple[nn.Module, nn.Module, Tensor]:
    """All in float64, where the network works in it and stays the same; a lazy net moves by few digits of float32."""
    few = x[:8]
    fine = few.double() if x.is_floating_point() else few
    wide = copied(end).double()
    try:
        with torch.no_grad():
            before, after = called(end, few.clone(), CALLER), called(wide, fine.clone(), CALLER)
        same = after.dtype == torch.float64 and bool((after - before).norm() <= 0.01 * before.norm())
    except (RuntimeError, ValueError, TypeError) as error:
        if out_of_memory(error):
            raise
        same = False
    if not same:
        return end, start, x
    return wide, copied(start).double(), x.double() if x.is_floating_point() else x


def take_statistics(model: nn.Module, x: Tensor) -> None:
    """Give the batch norms the statistics of these points, as one batch."""
    norms = [module for module in with_running_statistics(model) if isinstance(module, _BatchNorm)]
    momenta = [module.momentum for module in norms]
    model.eval()
    with torch.no_grad():
        for module in norms:
            module.train()
            module.momentum = 1.0
        called(model, x.clone(), CALLER)
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    model.eval()


@contextmanager
def by_batch(model: nn.Module) -> Iterator[None]:
    """Batch norms take the statistics of the batch and keep none."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    kept = [(module.running_mean, module.running_var) for module in norms]
    try:
        for module in norms:
            module.running_mean = module.running_var = None
        yield
    finally:
        for module, (mean, variance) in zip(norms, kept, strict=True):
            module.running_mean, module.running_var = mean, variance


@contextmanager
def put(model: nn.Module, weights: Params) -> Iterator[None]:
    """Other weights in the model, for a while."""
    parameters = {name: value for name, value in model.named_parameters() if name in weights}
    before = {name: value.detach().clone() for name, value in parameters.items()}
    with torch.no_grad(), full_precision(next(model.parameters()).device):
        try:
            for name, value in parameters.items():
                value.copy_(weights[name])
            yield
        finally:
            for name, value in parameters.items():
                value.copy_(before[name])


def evaluated(model: nn.Module, x: Tensor) -> Float[Tensor, "n k"]:
    """Outputs of each sample, flattened to k."""
    with torch.no_grad():
        return torch.cat([called(model, part.clone(), CALLER).reshape(len(part), -1) for part in x.split(CHUNK)])


def layers_of(model: nn.Module, names: set[str]) -> Layers:
    """Trained parameters by layer: those of one module, or each by itself where a module holds several matrices."""
    found: Layers = {}
    for name, value in model.named_parameters():
        if name in names:
            home = name.rpartition(".")[0]
            module = model.get_submodule(home)
            matrices = sum(each.ndim > 1 for each in module._parameters.values() if each is not None)
            alone = isinstance(module, nn.ParameterList | nn.ParameterDict) or matrices > 1 or not home
            found.setdefault(name if alone and value.ndim > 0 else home, []).append(name)
    return found
