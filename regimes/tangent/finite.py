"""Derivatives have to be finite: what is said where they are not, as of a root at 0."""

from collections.abc import Mapping

from torch import Tensor

from regimes.checks import not_finite

CURE = (
    "Look for a root, a norm, a logarithm or a division at 0, and add a small number there; where derivatives are only "
    "large, use model.double()."
)


def require_finite(caller: str, derivatives: Mapping[str, Tensor]) -> None:
    """Refuse NaN and infinite entries, by the name of what they are derivatives of or by."""
    for name, value in derivatives.items():
        if not_finite(value.coalesce().values() if value.is_sparse else value):
            raise ValueError(f"{caller} needs finite derivatives; {name} has NaN or infinite ones. {CURE}")
