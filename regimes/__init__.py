"""regimes: which theory of neural-network training holds where, decided by measurement.

Names are loaded on first use, so that `import regimes` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from regimes.meanfield.measures import Measure
    from regimes.meanfield.particle_flow import ParticleFlow
    from regimes.models.doubling import Doubled
    from regimes.models.lipschitz import certified_radius, lipschitz_bound
    from regimes.models.residual import ResidualNet
    from regimes.models.scaling import Centred
    from regimes.models.state_map import StateMap, state_map
    from regimes.models.tracing import trace_residuals
    from regimes.tangent.criterion import lazy_criterion
    from regimes.tangent.diagnosis.diagnose import diagnose
    from regimes.tangent.diagnosis.tracker import Tracker
    from regimes.tangent.kernel import ntk
    from regimes.tangent.laziness import kernel_drift, tangent_distance, weight_motion
    from regimes.tangent.linearize import linearize
    from regimes.tangent.operator import tangent_operator
    from regimes.tangent.trained import laziness
    from regimes.tangent.verdict import judge_laziness
    from regimes.training.fitting import Fitted, fit
    from regimes.training.loading import Loaded, load
    from regimes.training.objectives import LeastAction, Plain
    from regimes.transport.gap import ot_gap

_HOMES = {
    "Centred": "regimes.models.scaling",
    "Doubled": "regimes.models.doubling",
    "Fitted": "regimes.training.fitting",
    "LeastAction": "regimes.training.objectives",
    "Loaded": "regimes.training.loading",
    "Measure": "regimes.meanfield.measures",
    "ParticleFlow": "regimes.meanfield.particle_flow",
    "Plain": "regimes.training.objectives",
    "ResidualNet": "regimes.models.residual",
    "StateMap": "regimes.models.state_map",
    "Tracker": "regimes.tangent.diagnosis.tracker",
    "certified_radius": "regimes.models.lipschitz",
    "diagnose": "regimes.tangent.diagnosis.diagnose",
    "fit": "regimes.training.fitting",
    "judge_laziness": "regimes.tangent.verdict",
    "kernel_drift": "regimes.tangent.laziness",
    "laziness": "regimes.tangent.trained",
    "lazy_criterion": "regimes.tangent.criterion",
    "linearize": "regimes.tangent.linearize",
    "lipschitz_bound": "regimes.models.lipschitz",
    "load": "regimes.training.loading",
    "ntk": "regimes.tangent.kernel",
    "ot_gap": "regimes.transport.gap",
    "state_map": "regimes.models.state_map",
    "tangent_distance": "regimes.tangent.laziness",
    "tangent_operator": "regimes.tangent.operator",
    "trace_residuals": "regimes.models.tracing",
    "weight_motion": "regimes.tangent.laziness",
}
__all__ = [
    "Centred",
    "Doubled",
    "Fitted",
    "LeastAction",
    "Loaded",
    "Measure",
    "ParticleFlow",
    "Plain",
    "ResidualNet",
    "StateMap",
    "Tracker",
    "__version__",
    "certified_radius",
    "diagnose",
    "fit",
    "judge_laziness",
    "kernel_drift",
    "laziness",
    "lazy_criterion",
    "linearize",
    "lipschitz_bound",
    "load",
    "ntk",
    "ot_gap",
    "state_map",
    "tangent_distance",
    "tangent_operator",
    "trace_residuals",
    "weight_motion",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'regimes' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
