"""The lazy criterion κ: does the derivative of a network change before its output arrives at the targets?"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.func import jvp, vjp, vmap

from regimes import checks
from regimes.checks import count, finite, positive, real, shapes
from regimes.errors import out_of_memory
from regimes.tangent.functional import flatten, unflatten
from regimes.tangent.look import first_line
from regimes.tangent.model import tangent_model
from regimes.tangent.precision import full_precision


class Norm(NamedTuple):
    """A norm found by iteration: it lies in [low, high] if the iterations arrived at the top (`settled`)."""

    low: float
    high: float
    settled: bool


class LazyCriterion(NamedTuple):
    """κ = ‖h − y‖ ‖D²h‖ / ‖Dh‖² with its bracket [low, high]; distance = ‖h − y‖; κ ≪ 1 announces lazy training."""

    low: float
    high: float
    distance: float
    derivative: Norm
    second_derivative: Norm

    @property
    def settled(self) -> bool:
        """Whether both norms were iterated to their tolerance; otherwise the bracket may be too low."""
        return self.derivative.settled and self.second_derivative.settled


Vector = Float[Tensor, "size"]


def _top(apply: Callable[[Tensor], Tensor], start: Tensor, iterations: int, tolerance: float) -> Norm:
    """Largest eigenvalue of a symmetric positive operator by power steps: θ <= λ and θ + ‖Av − θv‖, θ = ⟨v, Av⟩."""
    v = start / start.norm()
    value, residual = 0.0, float("inf")
    for _ in range(iterations):
        image = apply(v)
        value = float(v @ image)
        residual = float((image - value * v).norm())
        if value <= 0 or residual <= tolerance * value:
            return Norm(value, value + residual, True)
        v = image / image.norm()
    return Norm(value, value + residual, False)


def _alternate(
    second: Callable[[Tensor, Tensor], Tensor],
    pulled: Callable[[Tensor, Tensor], Tensor],
    u: Tensor,
    v: Tensor,
    iterations: int,
    tolerance: float,
) -> tuple[float, bool]:
    """‖D²h[u, v]‖ raised by improving u and v in turn; it never falls. Whether it came to a standstill."""
    here = 0.0
    for _ in range(iterations):
        image = second(u, v)
        before, here = here, float(image.norm())
        if here == 0 or here - before <= tolerance**2 * here:
            return here, True
        u = pulled(image, v)
        u = u / u.norm()
        v = pulled(image, u)
        v = v / v.norm()
    return here, False


def _unbent(reason: str) -> ValueError:
    return ValueError(
        f"lazy_criterion needs a model with second derivatives in forward mode; here: {reason}. "
        "Write that layer with plain operations."
    )


def _require_bent(*probes: Callable[[], Tensor]) -> None:
    """ValueError if a derivative cannot be formed; it is asked for once, before those that are measured."""
    try:
        for probe in probes:
            probe()
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise _unbent(first_line(error)) from error


def lazy_criterion(
    model: nn.Module,
    x: Shaped[Tensor, "n *sample"],
    y: Float[Tensor, "rows k"],
    *,
    generator: torch.Generator,
    starts: int = 4,
    iterations: int = 200,
    tolerance: float = 1e-3,
) -> LazyCriterion:
    """κ_h(w_0) = ‖h(w_0) − y‖ ‖D²h(w_0)‖ / ‖Dh(w_0)‖² of a model on inputs x, without forming a derivative.

    Function norms are those of L² of the n inputs, sums over outputs; Dh and D²h have operator norms over the trainable
    parameters with their Euclidean norm. ‖Dh‖² by power iteration. ‖D²h‖ from below by alternating maximisation of ⟨φ,
    D²h[u, v]⟩ over unit u, v, φ, the best of several random starts; from above by the norm of D²h as a map from one
    direction to (outputs, other direction), equal for one output of one sample. For the α-scaled model pass
    Centred(model, alpha): κ falls as 1/α. A ReLU has the second derivative that exists almost everywhere. n·p numbers
    are held for the upper bound. Source: [ChizatOyallonBach2019].
    """
    count("lazy_criterion", "starts", starts)
    count("lazy_criterion", "iterations", iterations)
    positive("lazy_criterion", "tolerance", tolerance, single=True)
    checks.generator("lazy_criterion", generator)
    tangent = tangent_model(model, x, "lazy_criterion")
    if tangent.recurrent or not (tangent.found.transforms and tangent.found.forward):
        raise _unbent("recurrent layers have none" if tangent.recurrent else tangent.found.reason)
    if any(value.is_complex() for value in tangent.params.values()):
        raise ValueError("lazy_criterion needs real parameters. Keep real and imaginary parts side by side.")
    cure = f"A row for each of the {len(x)} inputs, a column for each output of the model"
    shapes("lazy_criterion", targets=(y, f"{len(x)} {tangent.outputs}"), cure=cure)
    real("lazy_criterion", targets=y)
    finite("lazy_criterion", targets=y)
    f, params, x, y = tangent.f, tangent.params, x.detach(), y.to(tangent.device, tangent.dtype)
    w_0, root = flatten(params), len(x) ** 0.5

    def h(w: Tensor) -> Tensor:
        return f(unflatten(w, params), x).reshape(-1) / root

    def second(u: Tensor, v: Tensor) -> Tensor:
        """D²h[u, v]."""
        return jvp(lambda point: jvp(h, (point,), (u,))[1], (w_0,), (v,))[1]

    def pulled(cotangent: Tensor, u: Tensor) -> Tensor:
        """D²h[u, ·] pulled back along the cotangent: the Hessian of ⟨cotangent, h⟩ times u."""
        return jvp(lambda point: vjp(h, point)[1](cotangent)[0], (w_0,), (u,))[1]

    def random(size: int) -> Tensor:
        values = torch.randn(size, generator=generator, device=generator.device, dtype=w_0.dtype).to(w_0.device)
        return values / values.norm()

    def unfolded(u: Tensor) -> Tensor:
        """AᵀA u of A: u ↦ D²h[u, ·], a map to (outputs, parameters)."""
        rows = vmap(lambda unit: pulled(unit, u))(units)
        return vmap(pulled)(units, rows).sum(0)

    with torch.no_grad(), full_precision(tangent.device):
        value, pull = vjp(h, w_0)[:2]
        distance = float((value - y.reshape(-1) / root).norm())
        if not distance < float("inf"):
            raise ValueError("lazy_criterion needs finite outputs; the model gives NaN or inf on these inputs.")
        units, ones = torch.eye(len(value), dtype=w_0.dtype, device=w_0.device), torch.ones_like(w_0)
        _require_bent(lambda: second(ones, ones), lambda: pulled(value, ones), lambda: unfolded(ones))
        slope = _top(lambda v: pull(jvp(h, (w_0,), (v,))[1])[0], random(len(w_0)), iterations, tolerance)
        if not slope.low > 0:
            raise ValueError("lazy_criterion needs a model whose output depends on its parameters; Dh is zero here.")
        found, settled = 0.0, True
        for _ in range(starts):
            u, v = random(len(w_0)), random(len(w_0))
            here, arrived = _alternate(second, pulled, u, v, iterations, tolerance)
            if not here < float("inf"):
                raise ValueError("lazy_criterion needs a finite second derivative; D²h has NaN or inf on these inputs.")
            found, settled = max(found, here), settled and arrived
        above = _top(unfolded, random(len(w_0)), iterations, tolerance)
    bend = Norm(found, max(found, above.high**0.5), settled and above.settled)
    return LazyCriterion(distance * bend.low / slope.high, distance * bend.high / slope.low, distance, slope, bend)
