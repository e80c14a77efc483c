"""Optimal transport between point clouds, solved exactly with a proof, and tests of whether a map is an optimal one.

A map is a callable on batches of points; of torch modules it is asked only that they treat each sample by itself. What
is exported here is loaded on first use.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "gap": ("ot_gap", "Assessment"),
    "pairing": ("Gap", "exact_gap"),
    "discrete": ("Transport", "exact_transport"),
    "duality": ("Certificate", "c_transform", "certify", "feasible"),
    "brenier": ("BrenierTest", "NoJacobianTest", "brenier_test"),
    "power": ("Power",),
    "verdict": ("Verdict", "judge"),
    "monotone": ("Cycle", "cycle_gain", "rearrangement_cycles", "shortest_gaining_cycle", "worst_swap", "worst_walks"),
    "regularity": ("Regularity",),  # the function has the name of its module
    "gaussian": ("AffineMap", "bures_cost", "bures_map"),
}
_MODULE = {name: module for module, names in _HOMES.items() for name in names}
__all__ = sorted(_MODULE)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _MODULE:
        return getattr(import_module(f"regimes.transport.{_MODULE[name]}"), name)
    raise AttributeError(f"module 'regimes.transport' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return __all__
