"""The form of an activation: closed, by series, or by quadrature."""

import math
from functools import lru_cache

from torch import Tensor

from regimes.activations import Activation
from regimes.tangent.infinite.closed_forms import Form, Roots, closed_form
from regimes.tangent.infinite.quadrature import quadrature_form
from regimes.tangent.infinite.series import Missed, series_form
from regimes.tangent.infinite.state import Pairs


@lru_cache(maxsize=64)
def form_of(activation: Activation, tolerance: float) -> Form:
    """In closed form where there is one, else by Hermite series where σ' is continuous and the series ends, else by
    quadrature. ValueError: an activation that jumps.
    """
    if activation.lipschitz == math.inf:
        raise ValueError(
            f"infinite-width kernels need an activation without jumps; got {activation.name!r}, whose tangent kernel "
            "is infinite. Use a steep but continuous one."
        )
    form = closed_form(activation)
    if form is not None:
        return form
    sectors = quadrature_form(activation, tolerance)
    if activation.lipschitz_derivative == math.inf:
        return sectors
    series = series_form(activation, tolerance)

    def after(roots: Tensor) -> Tensor:
        try:
            return series.root(roots)
        except Missed:
            return sectors.root(roots)

    def pairs(given: Pairs, before: Roots, ends: Roots) -> Pairs:
        try:
            return series.pairs(given, before, ends)
        except Missed:
            return sectors.pairs(given, before, ends)

    return Form(after, pairs)
