"""What every package asks of a torch module: to act on one sample, to have one derivative, to give a frozen copy."""

from regimes.modules.attention import one_path
from regimes.modules.buffers import untouched_attributes, untouched_buffers
from regimes.modules.chance import Generators, chance_restored, drawn, generators
from regimes.modules.copies import copied, frozen_copy, require_python
from regimes.modules.derivative import NO_GRAD, adjoint, push_forward, random_like, require_gradients
from regimes.modules.fitting import misfit
from regimes.modules.leaves import require_own_tensors, require_registered
from regimes.modules.modes import in_modes, modes_of
from regimes.modules.outputs import called, described, sole_tensor, tensor_of, unwrapped
from regimes.modules.samples import (
    PLACES,
    FirstBatch,
    draws_chance,
    readable,
    require_batch,
    require_deterministic,
    require_separate_samples,
    require_values,
)

__all__ = [
    "NO_GRAD",
    "PLACES",
    "FirstBatch",
    "Generators",
    "adjoint",
    "called",
    "chance_restored",
    "copied",
    "described",
    "drawn",
    "draws_chance",
    "frozen_copy",
    "generators",
    "in_modes",
    "misfit",
    "modes_of",
    "one_path",
    "push_forward",
    "random_like",
    "readable",
    "require_batch",
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
]
