"""The lazy criterion κ: does the derivative of a network change before its output arrives at the targets?"""

from collections.abc import Callable
from math import inf
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regimes import checks
from regimes.checks import count, finite, positive, real, shapes
from regimes.errors import first_line, out_of_memory
from regimes.long_sums import norm
from regimes.tangent.bend import Bend, climb, share
from regimes.tangent.functional import flatten
from regimes.tangent.inputs import Forward, Samples
from regimes.tangent.kinks import kink
from regimes.tangent.lanczos import Step, ceiling, lanczos
from regimes.tangent.operator import TangentOperator

Said = Callable[[str], object]


class Norm(NamedTuple):
    """A norm between bounds. `settled`: the searches behind both came to their end."""

    low: float
    high: float
    settled: bool

    @property
    def ratio(self) -> float:
        """high / low, 1 where both are 0."""
        return 1.0 if self.high == 0 else self.high / self.low if self.low > 0 else inf


class Products(NamedTuple):
    """What it cost: products with the tangent kernel, Hessian products of all inputs, and of one output of one."""

    kernel: int
    hessians: int
    singles: int


class LazyCriterion(NamedTuple):
    """κ = distance · ‖D²h‖ / ‖Dh‖² in [low, high], and its estimate; κ ≪ 1 announces lazy training.

    `estimate` takes the largest ‖D²h‖ that was found; it is too small where the search missed a larger one, and never
    above `high`. `restarts`: ‖D²h‖ as each random start found it. With a risk, `distance` is F ‖Dh‖ / ‖∇F‖.
    """

    low: float
    estimate: float
    high: float
    distance: float
    derivative: Norm
    second_derivative: Norm
    restarts: tuple[float, ...]
    products: Products

    @property
    def settled(self) -> bool:
        """Whether all searches came to their end; the bounds hold also where they did not."""
        return self.derivative.settled and self.second_derivative.settled

    @property
    def spread(self) -> float:
        """How far the random starts lie apart: (largest − smallest) / largest of `restarts`."""
        return (max(self.restarts) - min(self.restarts)) / max(self.restarts) if max(self.restarts) > 0 else 0.0

    def __str__(self) -> str:
        bend = self.second_derivative
        return (
            f"κ = {self.estimate:.3g}, between {self.low:.3g} and {self.high:.3g}: distance {self.distance:.3g}, ‖Dh‖ "
            f"{self.derivative.low:.3g} to {self.derivative.high:.3g}, ‖D²h‖ {bend.low:.3g} to {bend.high:.3g} (upper "
            f"over lower {bend.ratio:.3g}; {len(self.restarts)} random starts within {self.spread:.1%})"
        )


def lazy_criterion(
    model: nn.Module,
    x: Samples,
    y: Float[Tensor, "rows k"] | None = None,
    *,
    risk: Callable[[Tensor], Tensor] | None = None,
    forward: Forward | None = None,
    generator: torch.Generator,
    starts: int = 3,
    iterations: int = 60,
    tolerance: float = 0.2,
    probes: int | None = None,
    progress: Said | None = None,
) -> LazyCriterion:
    """κ_h(w_0) = ‖h(w_0) − y‖ ‖D²h(w_0)‖ / ‖Dh(w_0)‖² of a model on inputs x, without forming a derivative.

    Function norms are those of L² of the n inputs, sums over outputs; Dh and D²h have operator norms over the trainable
    parameters with their Euclidean norm. For the α-scaled model pass Centred(model, alpha): κ falls as 1/α.
    With `risk` in place of y, a function of the outputs (n, k) whose least value is 0, the general form
    κ = F(w_0) ‖D²h‖ / (‖∇F(w_0)‖ ‖Dh‖) with F = risk(h); for F = ½ ‖h − y‖² it is at least half of the other.
    ‖Dh‖² by Lanczos on Θ/n. ‖D²h‖ is the norm of a 3-tensor. From below: the best of `starts` random climbs and of one
    from the top of the unfolding; each ends in a local maximum. From above by the unfolding, ‖D²h‖² <= λ_max(Σ_i H_i²)
    over the n·k Hessians of the outputs, equal for one output of one sample, by Lanczos with the exact sum: 2·n·k
    Hessian products of one sample a step. For many outputs take `probes` random combinations of them instead: 2·probes
    Hessian products of all samples a step, a bound that is wider. The bounds hold but for a chance of 1 in 1000 each.
    Lanczos stops when both ends of a square are within the relative `tolerance` (a tenth of it for ‖Dh‖²), or after
    `iterations` steps, and keeps a vector of the size of the parameters for each. progress: called with a line of text
    now and then, such as print.
    ValueError: a model with kinks or jumps (ReLU, leaky ReLU, max pooling, hardtanh), whose second derivative misses
    what happens there, so that a small κ would prove nothing; a model that cannot be differentiated twice; what ntk
    refuses.
    Source: [ChizatOyallonBach2019].
    """
    caller = "lazy_criterion"
    count(caller, "starts", starts)
    count(caller, "iterations", iterations)
    positive(caller, "tolerance", tolerance, single=True)
    if probes is not None:
        count(caller, "probes", probes)
    checks.generator(caller, generator)
    checks.function(caller, risk=risk, progress=progress)
    if (y is None) == (risk is None):
        raise ValueError("lazy_criterion needs either targets y or a risk. Pass one of them.")
    say = progress or (lambda line: None)
    operator = TangentOperator(model, x, forward=forward, caller=caller)
    tangent, n, k = operator.tangent, len(operator.x), operator.outputs
    if any(value.is_complex() for value in tangent.params.values()):
        raise ValueError("lazy_criterion needs real parameters. Keep real and imaginary parts side by side.")
    if y is not None:
        cure = f"A row for each of the {n} inputs, a column for each output of the model"
        shapes(caller, targets=(y, f"{n} {k}"), cure=cure)
        real(caller, targets=y)
        finite(caller, targets=y)
    bend = Bend(tangent, operator.x)

    def random(*shape: int) -> Tensor:
        values = torch.randn(shape, generator=generator, device=generator.device, dtype=tangent.dtype)
        return values.to(tangent.device)

    value = bend.value()
    if not bool(value.isfinite().all()):
        raise ValueError("lazy_criterion needs finite outputs; the model gives NaN or inf on these inputs.")

    say("does the model bend smoothly?")
    _require_smooth(operator, random(bend.size))

    def kernel(v: Tensor) -> Tensor:
        return operator.matvec(v.reshape(n, k)).reshape(-1) / n

    slope, _ = _top("‖Dh‖²", kernel, random(n * k), iterations, tolerance / 10, say)
    if not slope.value > 0:
        raise ValueError("lazy_criterion needs a model whose output depends on its parameters; Dh is zero here.")
    _require_held(slope.value, tangent.dtype)
    derivative = _norm(slope, n * k, iterations, tolerance / 10)
    if y is not None:
        target = y.to(tangent.device, tangent.dtype).reshape(-1)
        distance = float(norm(value - target)) / n**0.5
    else:
        assert risk is not None
        distance = _general(operator, risk, value.reshape(n, k)) * derivative.low
    if probes is None:
        squares, part = bend.squares, 1.0
    else:
        squares, part = _sketched(bend, random(probes, n * k)), share(probes)
    above, top = _top("λ_max(Σ H²)", squares, random(bend.size), iterations, tolerance, say)
    found = []
    for number, start in enumerate([top, *(random(bend.size) for _ in range(starts))]):
        found.append(climb(bend, start / norm(start)))
        say(f"‖D²h‖ at least {found[-1][0]:.4g} from start {number} of {starts}")
    low = max(here for here, _ in found)
    if not low < inf:
        raise ValueError("lazy_criterion needs a finite second derivative; D²h has NaN or inf on these inputs.")
    upper = _norm(above, bend.size, iterations, tolerance)
    second = Norm(low, max(low, upper.high / part**0.5), upper.settled and all(arrived for _, arrived in found))
    return LazyCriterion(
        low=distance * second.low / derivative.high**2,
        estimate=distance * second.low / derivative.low**2,
        high=distance * second.high / derivative.low**2,
        distance=distance,
        derivative=derivative,
        second_derivative=second,
        restarts=tuple(here for here, _ in found[1:]),
        products=Products(slope.steps, bend.hessians, bend.singles),
    )


def _require_held(square: float, dtype: torch.dtype) -> None:
    """Refuse a ‖Dh‖² whose square the precision does not hold, as sums of squares of such sizes are formed."""
    smallest = torch.finfo(dtype).tiny ** 0.5 * 1e3
    if not smallest < square < 1 / smallest:
        raise ValueError(
            f"lazy_criterion needs ‖Dh‖² between {smallest:.0e} and {1 / smallest:.0e} in {dtype}; got {square:.2g}. "
            "Scale outputs and targets alike, which leaves κ as it is, or compute in float64."
        )


def _top(
    name: str, apply: Callable[[Tensor], Tensor], start: Tensor, steps: int, tolerance: float, say: Said
) -> tuple[Step, Tensor]:
    """The top of a positive operator: Lanczos until its bounds are near enough, and the vector that belongs to it."""
    step = None
    for step in lanczos(apply, start, steps):
        if not abs(step.value) < inf or not step.residual < inf:
            raise ValueError("lazy_criterion needs finite derivatives; the model gives NaN or inf on these inputs.")
        high = ceiling(step, len(start), steps)
        say(f"{name} between {step.value:.4g} and {high:.4g} after {step.steps} steps")
        if high <= (1 + tolerance) * step.value:
            break
    assert step is not None  # lanczos makes at least one
    return step, step.vector()


def _norm(step: Step, size: int, looks: int, tolerance: float) -> Norm:
    """The square roots of both bounds, which were asked for at each of `looks` steps or fewer."""
    value, high = max(step.value, 0.0), max(ceiling(step, size, looks), 0.0)
    return Norm(value**0.5, high**0.5, high <= (1 + tolerance) * value)


def _sketched(bend: Bend, directions: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda u: bend.sketch(directions, u)


def _general(operator: TangentOperator, risk: Callable[[Tensor], Tensor], outputs: Tensor) -> float:
    """F/‖∇F‖ of F = risk(h)."""
    given = outputs.clone().requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        value = risk(given)
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise ValueError("lazy_criterion needs a risk that gives one number, differentiable in the outputs.")
        (gradient,) = torch.autograd.grad(value.reshape(()), given)
    size, slope = float(value.detach()), float(norm(flatten(operator.vjp(gradient.detach()))))
    if not 0 <= size < inf or not 0 < slope < inf:
        raise ValueError(
            f"lazy_criterion needs a risk of at least 0 that is not at its minimum; it is {size:.3g}, and its gradient "
            f"by the parameters has the norm {slope:.3g}."
        )
    return size / slope


def _require_smooth(operator: TangentOperator, u: Tensor) -> None:
    """Refuse a model that cannot be differentiated twice, or whose second derivative misses kinks or jumps."""
    try:
        Bend(operator.tangent, operator.x[:1]).along(u, u)
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        raise ValueError(
            f"lazy_criterion needs a model that can be differentiated twice; here: {first_line(error)}. "
            "Write that layer with plain operations."
        ) from error
    missed = kink(operator.model, operator.x)
    if missed is not None and "jumps" in missed:
        raise ValueError(
            f"lazy_criterion needs a model that bends smoothly with its parameters; {missed}, as with ReLU, leaky ReLU,"
            " hardtanh or max pooling, or with weights so large that a smooth activation turns into a step. The second "
            "derivative misses what happens there, so a small κ would prove nothing. Take smaller weights, a smooth "
            "activation such as GELU or softplus, and average pooling; or judge the training itself by "
            "regimes.laziness."
        )
    if missed is not None:
        raise ValueError(f"lazy_criterion needs a model that can be differentiated twice; here {missed}.")
