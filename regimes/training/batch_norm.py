"""Batch normalisation over the samples of all processes, on any device: torch's own one exists on CUDA only."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import batch_norm
from torch.nn.modules.batchnorm import _BatchNorm


class _Normalise(torch.autograd.Function):
    """(x − mean) / √(variance + ε) · weight + bias by torch's own kernels, differentiable in mean and variance too.

    With x̂ the normalised x, g the gradient of y and σ the root: the kernel's backward gives Σ g and Σ g x̂, which are
    the gradients of bias and weight; those of mean and variance are −weight/σ Σ g and −weight/(2σ²) Σ g x̂.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, mean, variance, weight)
        ctx.eps = eps
        return batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, mean, variance, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
        )
        scale = (variance + ctx.eps).rsqrt()
        of_mean, of_variance = -weight * scale * of_bias, -weight * scale.square() / 2 * of_weight
        return of_x, of_mean, of_variance, of_weight, of_bias, None


class JoinedBatchNorm(_BatchNorm):
    """A batch norm that in training mode takes mean and variance over the samples of all processes.

    `gather` gives the vectors of all processes in rows, differentiably. The parts may differ in size. Weights, buffers
    and their names are those of the norm it stands for; in eval mode it is that norm.
    """

    def __init__(self, norm: _BatchNorm, gather: Callable[[Tensor], Tensor]) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self._parameters, self._buffers = norm._parameters, norm._buffers
        self.gather = gather

    def forward(self, input: Tensor) -> Tensor:
        """(x − mean) / √(variance + ε) · weight + bias; running figures as in torch, the variance unbiased."""
        if not self.training:
            return super().forward(input)
        mean, variance, count = self._joined(input)
        if self.running_mean is not None and self.running_var is not None:
            self._track(mean.detach(), variance.detach() * count / (count - 1))
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        return _Normalise.apply(input, mean, variance, weight, bias, self.eps)

    def _joined(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, biased variance and number of values of each channel: the variance within parts plus that between."""
        x = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        variance, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
        rows = self.gather(torch.cat([mean, variance, mean.new_full((1,), x.numel() // x.shape[1])]))
        means, variances, counts = rows.split([len(mean), len(mean), 1], dim=1)
        counts = counts.detach()
        shares = counts / counts.sum()
        mean = (shares * means).sum(0)
        return mean, (shares * (variances + (means - mean).square())).sum(0), counts.sum()

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        weight = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        self.running_mean += weight * (mean - self.running_mean)
        self.running_var += weight * (variance - self.running_var)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes."""


def join_batch_norms(model: nn.Module, gather: Callable[[Tensor], Tensor]) -> None:
    """Put a JoinedBatchNorm in the place of every batch norm of the model; weights and buffers stay what they are."""
    replaced: dict[_BatchNorm, JoinedBatchNorm] = {}
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):
            if isinstance(child, _BatchNorm) and not isinstance(child, JoinedBatchNorm):
                module._modules[name] = replaced.setdefault(child, JoinedBatchNorm(child, gather))
