"""Rates and flops, by the names that scripts know: see `regimes.machine` and `regimes.models.costs`."""

from regimes.machine import matrix_rate
from regimes.models.costs import training_flops

__all__ = ["matrix_rate", "training_flops"]
