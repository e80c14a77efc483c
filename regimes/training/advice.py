"""What to do after a training has diverged."""

from regimes.training.assemble import Setup
from regimes.training.checkpoint import FIT, LAST
from regimes.training.config import StepSettings

ORDINARY = 10.0  # a gain or a p beyond it is to blame for a divergence before the learning rate is


def advice(config: StepSettings, setup: Setup, kept: bool) -> str:
    """What to do after a divergence; kept: whether there is a state from before it."""
    kept_weights = f"; {LAST} keeps finite weights" if kept else ""
    for name in ("gain", "p") if config.lap else ("gain",):  # without a penalty p is only measured
        if (value := getattr(config, name, 0.0)) > ORDINARY:
            return f"take a smaller {name}: {value:g} is far above what steps bear{kept_weights}"
    smaller = min(config.lr / 10, setup.usual_lr)
    asked = f"lr={smaller:g}, fresh=True" if setup.origin.program == FIT else f"--set lr={smaller:g} --fresh"
    grown = " (λ multiplies the risk, so that steps grow with it: form=divided is calmer)"
    calmer = grown if config.lap and config.form != "divided" else ""
    if config.lap and config.form == "divided" and config.multiplier < 1:
        calmer = " or a larger multiplier (the penalty counts 1/λ, so that steps grow as λ falls)"
    if (getattr(config, "movement_step", None) or 1.0) < 0.5:
        calmer = " or a larger movement_step τ (transport counts 1/(2τ), so that steps grow as τ falls)"
    return f"take a smaller learning rate, for example {asked}{calmer}{kept_weights}"
