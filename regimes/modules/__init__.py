"""What every package asks of a torch module: to act on one sample, to have one derivative, to give a frozen copy."""

from regimes.modules.attention import one_path, plain_attention
from regimes.modules.buffers import dense_parts, untouched_attributes, untouched_buffers
from regimes.modules.chance import Generators, chance_restored, drawn, generators
from regimes.modules.copies import copied, frozen_copy, require_python
from regimes.modules.derivative import NO_GRAD, adjoint, by_backward, push_forward, random_like, require_gradients
from regimes.modules.fitting import misfit
from regimes.modules.leaves import require_own_tensors, require_registered
from regimes.modules.modes import in_modes, modes_of
from regimes.modules.outputs import called, described, sole_tensor, tensor_of, unwrapped
from regimes.modules.samples import (
    PLACES,
    FirstBatch,
    draws_chance,
    made_up,
    readable,
    require_batch,
    require_dense,
    require_deterministic,
    require_separate_samples,
    require_values,
)
from regimes.modules.settings import counted, own_kernels, present_autocast, without_autocast, without_cudnn

__all__ = [
    "NO_GRAD",
    "PLACES",
    "FirstBatch",
    "Generators",
    "adjoint",
    "by_backward",
    "called",
    "chance_restored",
    "copied",
    "counted",
    "dense_parts",
    "described",
    "drawn",
    "draws_chance",
    "frozen_copy",
    "generators",
    "in_modes",
    "made_up",
    "misfit",
    "modes_of",
    "one_path",
    "own_kernels",
    "plain_attention",
    "present_autocast",
    "push_forward",
    "random_like",
    "readable",
    "require_batch",
    "require_dense",
    "require_deterministic",
    "require_gradients",
    "require_own_tensors",
    "require_python",
    "require_registered",
    "require_separate_samples",
    "require_values",
    "sole_tensor",
    "tensor_of",
    "untouched_attributes",
    "untouched_buffers",
    "unwrapped",
    "without_autocast",
    "without_cudnn",
]
