"""The machine around a run, by the name that scripts know: see `regimes.machine`; and as settings ask for it."""

from contextlib import AbstractContextManager

from regimes.machine import autocast, keep_memory, prepared, stoppable
from regimes.training.config import StepSettings

__all__ = ["autocast", "keep_memory", "prepared", "prepared_for", "stoppable"]


def prepared_for(config: StepSettings, seed: int | None = None) -> AbstractContextManager[None]:
    """`machine.prepared` with seed (or another), device, precision and choice of algorithms of the settings."""
    seed = config.seed if seed is None else seed
    return prepared(seed, config.device, precision=config.precision, cudnn_benchmark=config.cudnn_benchmark)
