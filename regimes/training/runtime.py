"""The machine around a run, by the name that scripts know: see `regimes.machine`."""

from regimes.machine import autocast, keep_memory, prepared, stoppable

__all__ = ["autocast", "keep_memory", "prepared", "stoppable"]
