"""What every package asks of a torch module: to act on one sample, to have one derivative, to give a frozen copy."""

from regimes.modules.buffers import untouched_buffers
from regimes.modules.copies import frozen_copy
from regimes.modules.derivative import adjoint, push_forward, random_like, require_gradients, require_one_derivative
from regimes.modules.fitting import misfit
from regimes.modules.samples import FirstBatch, require_deterministic, require_separate_samples

__all__ = [
    "FirstBatch",
    "adjoint",
    "frozen_copy",
    "misfit",
    "push_forward",
    "random_like",
    "require_deterministic",
    "require_gradients",
    "require_one_derivative",
    "require_separate_samples",
    "untouched_buffers",
]
