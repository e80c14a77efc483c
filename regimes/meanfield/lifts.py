"""Features of two-layer nets on samples, how they scale, and the measure on the unit sphere or at |w| = 1 that counts.

Of degree 2: φ(rθ) = r²φ(θ), r > 0. Then ∫φ dμ depends on the projection of μ alone, the measure ∫|θ|²dμ on the unit
sphere, and the Wasserstein flow of μ is the flow of `conic()` of the projection. Global convergence asks for a support
at the start that separates a small sphere from a large one, and for φ that is smooth enough off 0 ([ChizatBach2018]
Theorem 3.3): w·relu(θ·x) has a kink where θ·x = 0; its mean over inputs with a density has one
at θ = 0 only, which `signed_square_relu` has not.
Of degree 1 in w: φ(w, θ) = w φ(θ). Then it depends on the projection Σ mass·|w| δ(sign w, θ), and the start has to
separate {−r} × Θ from {r} × Θ, as {0} × Θ does ([ChizatBach2018] Theorem 3.5), with a condition at the boundary of Θ:
sigmoid and erf are bounded, and converge along every ray to a limit that no finite θ has.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.activations import Activation, require_activation
from regimes.checks import alike, count, finite, real, shapes
from regimes.checks import generator as require_generator
from regimes.meanfield.measures import Measure, require_measure
from regimes.meanfield.positions import each, require_position, square_norms


class Neuron(NamedTuple):
    """Output weight w and input weights θ of each particle."""

    weight: Float[Tensor, "runs m"]
    direction: Float[Tensor, "runs m d"]


def neurons(x: Float[Tensor, "n d"], activation: Activation) -> Callable[[Neuron], Tensor]:
    """φ(w, θ) = (w σ(θ·x_i))_i, (runs, m, n): of degree 2 for ReLU, of degree 1 in w for all σ."""
    _require_samples("neurons", x)
    require_activation(activation, "neurons")

    def features(position: Neuron) -> Tensor:
        _require_neurons("neurons", position, x)
        return position.weight[..., None] * activation.value(position.direction @ x.mT)

    return features


def signed_square_relu(x: Float[Tensor, "n d"]) -> Callable[[Tensor], Tensor]:
    """φ(u) = (relu(Σ_k u_k|u_k| x_ik))_i, (runs, m, n): of degree 2, and differentiable at u = 0.

    Signs of output weights are those of the masses. Source: [ChizatBach2018].
    """
    _require_samples("signed_square_relu", x)

    def features(position: Tensor) -> Tensor:
        if not isinstance(position, Tensor) or position.ndim != 3 or position.shape[2] != x.shape[1]:
            raise ValueError(f"signed_square_relu needs positions (runs, m, {x.shape[1]}), as its samples; got others.")
        alike("signed_square_relu", x=x, position=position)
        return torch.relu((position * position.abs()) @ x.mT)

    return features


def on_sphere(measure: Measure) -> Measure:
    """The projection for features of degree 2: positions θ/|θ|, |θ| over all entries together, masses mass·|θ|².

    Particles at 0 count for nothing, and stay there with mass 0.
    """
    require_measure("on_sphere", measure)
    squares = square_norms(measure.position)
    lengths = squares.sqrt().masked_fill(squares == 0, 1)
    position = each(lambda part: part / lengths.reshape(*lengths.shape, *[1] * (part.ndim - 2)), measure.position)
    return Measure(position, measure.mass * squares)


def at_unit_weight(measure: Measure) -> Measure:
    """The projection for features of degree 1 in w: positions (1, θ), masses mass·w, which may have either sign."""
    require_measure("at_unit_weight", measure)
    if not isinstance(measure.position, Neuron):
        raise ValueError(f"at_unit_weight needs positions as a Neuron; got {type(measure.position).__name__}.")
    weight, direction = measure.position
    return Measure(Neuron(torch.ones_like(weight), direction), measure.mass * weight)


def _require_samples(caller: str, x: Any) -> None:
    shapes(caller, x=(x, "n d"), cure="Samples are (n, d)")
    real(caller, x=x)
    finite(caller, x=x)


def _require_neurons(caller: str, position: Any, x: Tensor) -> None:
    if not isinstance(position, Neuron):
        raise ValueError(f"{caller} needs positions as Neuron(weight, direction); got {type(position).__name__}.")
    shapes(caller, weight=(position.weight, "runs m"), direction=(position.direction, f"runs m {x.shape[1]}"))
    real(caller, **position._asdict())
    alike(caller, x=x, **position._asdict())


def drawn(runs: int, m: int, d: int, generator: torch.Generator, *, weight: float = 0.0) -> Neuron:
    """m neurons a run of one output weight and θ ~ N(0, I): with weight 0 on {0} × Θ, which separates."""
    for name, value in {"runs": runs, "m": m, "d": d}.items():
        count("drawn", name, value)
    generator = require_generator("drawn", generator)
    direction = torch.randn(runs, m, d, generator=generator, dtype=torch.float64, device=generator.device)
    position = Neuron(torch.full_like(direction[..., 0], weight), direction)
    require_position("drawn", "position", position)
    return position
