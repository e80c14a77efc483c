"""Derivatives by plain autograd, one sample at a time: for models that torch.func and vmap cannot follow."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from regimes.conventions import Params
from regimes.errors import out_of_memory
from regimes.modules import by_backward, called
from regimes.tangent.functional import derivable, trainable, within

T = TypeVar("T")


class Plain:
    """The derivatives of a model at its own trainable parameters, or at values put in for some of its tensors.

    The backward passes run while the values are in: a checkpoint calls parts of the model again there.
    """

    def __init__(self, model: nn.Module, values: Params | None = None) -> None:
        self.model, self.values = model, values
        self.within = within(model) if values is not None else None

    def run(self, work: Callable[[Params], T]) -> T:
        """work(leaves) with gradients on, the leaves being those that the model reads."""
        with torch.inference_mode(False), torch.enable_grad():
            if self.within is None or self.values is None:
                leaves: Params = dict(trainable(self.model))
                with derivable(self.model):
                    return work(leaves)
            leaves = {name: value.detach().requires_grad_() for name, value in self.values.items()}
            return self.within(leaves, lambda: work(leaves))

    def value(self, x: Tensor) -> Tensor:
        """The output on a copy of x."""
        return called(self.model, x.clone(), "the tangent model")

    def rows(self, x: Tensor, outputs: slice | Tensor, names: Sequence[str]) -> Params:
        """Derivatives of the chosen outputs at each sample: name -> (n, chosen, *shape of the parameter)."""

        def one(sample: Tensor) -> Params:
            def work(leaves: Params) -> Params:
                value = self.value(sample).reshape(-1)[outputs]
                return _jacobian(value, {name: leaves[name] for name in names})

            return self.run(work)

        each = [one(sample) for sample in x.split(1)]
        return {name: torch.stack([row[name] for row in each]) for name in each[0]}

    def pull(self, x: Tensor, cotangent: Callable[[Tensor, Params], Tensor]) -> tuple[Tensor, Params]:
        """The cotangent of the output of all samples together, and Jᵀ·cotangent."""

        def work(leaves: Params) -> tuple[Tensor, Params]:
            value = self.value(x)
            u = cotangent(value, leaves)
            return u, _filled(_gradients(value, leaves, u), leaves)

        return self.run(work)

    def push(self, x: Tensor, tangent: Params) -> tuple[Tensor, Tensor]:
        """(model(x), J·tangent), by differentiating the backward pass."""

        def work(leaves: Params) -> tuple[Tensor, Tensor]:
            value = self.value(x)
            push = by_backward(value, list(leaves.values()))
            return value.detach(), push([tangent[name] for name in leaves])

        return self.run(work)


class PlainStep(torch.autograd.Function):
    """model(x) + J·δ as a differentiable function of the displacements δ alone."""

    @staticmethod
    def forward(ctx: Any, plain: Plain, x: Tensor, names: list[str], *displacement: Tensor) -> Tensor:
        ctx.plain, ctx.x = plain, x
        value, pushed = plain.push(x, dict(zip(names, (each.detach() for each in displacement), strict=True)))
        return value + pushed

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, None, *ctx.plain.pull(ctx.x, lambda *_: grads[0])[1].values()


def _gradients(
    output: Tensor, leaves: Params, cotangent: Tensor, *, batched: bool = False
) -> tuple[Tensor | None, ...]:
    if not output.requires_grad:
        return (None,) * len(leaves)
    return torch.autograd.grad(
        output,
        list(leaves.values()),
        cotangent,
        retain_graph=True,  # parts of it may have been formed before this call
        allow_unused=True,
        is_grads_batched=batched,
    )


def _filled(gradients: tuple[Tensor | None, ...], leaves: Params, *batch: int) -> Params:
    """Zeros for what the output does not depend on; dense, detached."""
    return {
        name: leaf.detach().new_zeros((*batch, *leaf.shape)) if each is None else _dense(each)
        for (name, leaf), each in zip(leaves.items(), gradients, strict=True)
    }


def _dense(gradient: Tensor) -> Tensor:
    return (gradient.detach().to_dense() if gradient.layout != torch.strided else gradient.detach()).clone()


def _jacobian(output: Tensor, leaves: Params) -> Params:
    """The derivative of each entry of a vector: all backward passes at once where vmap can follow them."""
    units = torch.eye(len(output), dtype=output.dtype, device=output.device)
    try:
        return _filled(_gradients(output, leaves, units, batched=True), leaves, len(output))
    except Exception as error:
        if out_of_memory(error):
            raise
        rows = [_filled(_gradients(output, leaves, unit), leaves) for unit in units]
        return {name: torch.stack([row[name] for row in rows]) for name in leaves}
