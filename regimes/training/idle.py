"""Settings that do nothing, because what they belong to is switched off."""

from collections.abc import Mapping

from regimes.training.config import StepSettings

LEAST_ACTION = ("multiplier", "growth", "every", "form", "level", "memory")
PARTICLES = ("tau_start", "tau_first_gap", "tau_sort", "tau_lr_factor", "tau_weight_decay", "tau_clip")
SWITCHES = ("dataset", "arch", "model", "risk", "optimiser", "schedule", "lap", "mean_field")


def idle(config: StepSettings) -> str:
    """A further sentence that names the settings that were changed and have no effect; "" where there are none."""
    names = type(config).model_fields
    switches = {name: getattr(config, name) for name in SWITCHES if name in names}
    usual = type(config)(**switches)
    changed = {name for name in names if getattr(config, name) != getattr(usual, name)}
    found = [
        f"{', '.join(some)} ({why})"
        for why, members in _without_effect(config).items()
        if (some := [name for name in members if name in changed])
    ]
    return f" Settings without effect here: {'; '.join(found)}." if found else ""


def _without_effect(config: StepSettings) -> Mapping[str, tuple[str, ...]]:
    """Names of settings by the switch that they would need."""
    found: dict[str, tuple[str, ...]] = {}
    if not config.lap:
        found["of least action: lap"] = LEAST_ACTION
    elif config.level != "running":
        found["of level=running"] = ("memory",)
    if not getattr(config, "mean_field", True):  # `fit` finds times in the network itself
        found["of blocks as particles: mean_field"] = PARTICLES
    if config.optimiser == "sgd":
        found["of adam and adamw"] = ("betas",)
    else:
        found["of sgd"] = ("momentum", "nesterov")
    if config.schedule != "multistep":
        found["of schedule=multistep"] = ("milestones", "gamma")
    return found
