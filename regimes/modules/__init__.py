"""What every package asks of a torch module: to act on one sample at a time, and to give a frozen copy of itself."""

from regimes.modules.buffers import untouched_buffers
from regimes.modules.copies import frozen_copy
from regimes.modules.fitting import misfit
from regimes.modules.samples import FirstBatch, require_deterministic, require_separate_samples

__all__ = [
    "FirstBatch",
    "frozen_copy",
    "misfit",
    "require_deterministic",
    "require_separate_samples",
    "untouched_buffers",
]
