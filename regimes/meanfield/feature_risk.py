"""F(μ) = R(∫ φ dμ) + a penalty, from the user's own features φ and loss R."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import function, given, kind, not_negative
from regimes.meanfield.forces import Forces, signs_of, slopes_of
from regimes.meanfield.measures import Measure, require_measure
from regimes.meanfield.positions import Position, leaves, points_of, rebuild, require_position, square_norms


class FeatureRisk:
    """F(μ) = R(∫ φ dμ) + ∫ V d|μ| with V(θ) = penalty + decay·|θ|².

    features: φ(position) -> (runs, m, n), each particle for itself. loss: R((runs, n)) -> (runs,), each run for itself,
    differentiable. Everything else follows by one pass of autograd: F' = R'·φ(θ) ± V(θ), the sign that of the mass.
    penalty is that of the total mass (L1), decay that of positions (L2, no factor ½, sum over all their entries).
    loss_at_least: what R is never below, which certificates use; a loss below it is refused. −inf: unknown.
    shared: features and loss know nothing of single runs, so that flows may ask them about some runs only; where they
    do know, such as by targets (runs, n), leave it out, or give them a method select(runs, of=).
    ValueError, when first asked: features that change with other particles, other runs or chance, or a loss that mixes
    runs.
    Source: [ChizatBach2018] section 2.
    """

    def __init__(
        self,
        features: Callable[[Any], Tensor],
        loss: Callable[[Tensor], Tensor],
        *,
        penalty: float = 0.0,
        decay: float = 0.0,
        loss_at_least: float = 0.0,
        shared: bool = False,
    ) -> None:
        given("FeatureRisk", features=features, loss=loss)
        function("FeatureRisk", features=features, loss=loss)
        not_negative("FeatureRisk", "penalty", penalty, single=True)
        not_negative("FeatureRisk", "decay", decay, single=True)
        if not (isinstance(loss_at_least, int | float) and loss_at_least < float("inf")):
            raise ValueError(f"FeatureRisk needs loss_at_least as a number, or -inf; got {loss_at_least!r}. Pass 0.0.")
        kind("FeatureRisk", "shared", shared, bool, "True or False")
        self.features, self.loss, self.shared = features, loss, shared
        self.penalty, self.decay, self.loss_at_least = float(penalty), float(decay), float(loss_at_least)
        self.at_least = self.loss_at_least  # of F: the penalty is not negative
        self._looked_at = False
        self._separate: set[tuple[bool, bool]] = set()  # several runs, several particles: where features were looked at
        self._apart: set[bool] = set()  # several runs: where the loss was looked at

    def output(self, measure: Measure) -> Float[Tensor, "runs n"]:
        """∫ φ dμ."""
        require_measure("FeatureRisk", measure)
        return measure.integral(self._features(measure.position))

    def value(self, measure: Measure) -> Float[Tensor, " runs"]:
        """F(μ)."""
        with torch.no_grad():
            penalty = (measure.mass.abs() * self._potential(measure.position)).sum(1)
            return self._risk(self.output(measure))[0] + penalty

    def variation(
        self, measure: Measure, at: Position | None = None, *, sign: float = 1.0
    ) -> Float[Tensor, "runs points"]:
        """F'[μ] at its own particles, or at other points; there sign = −1 is the derivative along −δ: −R'·φ + V."""
        if at is not None:
            require_position("FeatureRisk.variation", "at", at, like=measure.position, runs=measure.runs)
            return self.fixed(measure)(at, sign=sign)
        with torch.no_grad():
            _, slope = self._risk(self.output(measure))
            signs, position = signs_of(measure.mass), measure.position
            return torch.einsum("rmn,rn->rm", self._features(position), slope) + signs * self._potential(position)

    def fixed(self, measure: Measure) -> Callable[..., Tensor]:
        """`variation` of one measure as a function of at and sign, which looks at the measure once."""
        with torch.no_grad():
            _, slope = self._risk(self.output(measure))

        def variation(at: Position, *, sign: float = 1.0) -> Tensor:
            return sign * torch.einsum("rmn,rn->rm", self._features(at), slope) + self._potential(at)

        return variation

    def value_and_forces(self, measure: Measure) -> Forces:
        """F(μ), F' and ∇F' at its particles, by one pass forwards and one back."""
        parts = [part.detach().requires_grad_() for part in leaves(measure.position)]
        mass, signs = measure.mass, signs_of(measure.mass)
        with torch.enable_grad():
            position = rebuild(measure.position, parts)
            features, potential = self._features(position), self._potential(position)
            if not features.requires_grad:
                raise ValueError(
                    "FeatureRisk needs features that torch can differentiate in the positions; got some that are cut "
                    "off from them. Leave out detach, numpy and no_grad."
                )
            risk, slope = self._risk(torch.einsum("rm,rmn->rn", mass, features.detach()))
            variation = torch.einsum("rmn,rn->rm", features, slope) + signs * potential
            total = variation.sum()
        value = risk + (mass.abs() * potential.detach()).sum(1)
        return Forces(value, variation.detach(), slopes_of(total, parts, measure.position))

    def mass_bound(self, value: Float[Tensor, " runs"]) -> Float[Tensor, " runs"] | None:
        """What |ν| is at most for every ν with F(ν) ≤ value: (value − loss_at_least)/penalty; None without penalty."""
        if self.penalty == 0 or self.loss_at_least == -float("inf"):
            return None
        return (value - self.loss_at_least) / self.penalty

    def select(self, runs: Int[Tensor, " chosen"], *, of: int) -> "FeatureRisk | None":
        """The functional of some of the `of` runs, if features and loss can be asked about some runs only."""
        parts = []
        for part in (self.features, self.loss):
            choose = getattr(part, "select", None)
            if choose is None and not self.shared:
                return None
            parts.append(part if choose is None else choose(runs, of=of))
        options = {"penalty": self.penalty, "decay": self.decay, "loss_at_least": self.loss_at_least}
        return FeatureRisk(*parts, **options, shared=self.shared)

    def _features(self, position: Any) -> Tensor:
        runs, m = points_of(position)
        features = self._asked(self.features, position, "features", [tuple(part.shape) for part in leaves(position)])
        if not isinstance(features, Tensor) or features.ndim != 3 or features.shape[:2] != (runs, m):
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise ValueError(
                f"FeatureRisk needs features (runs, m, n) = ({runs}, {m}, n), a row for each particle; got {got}. "
                "Add or flatten axes, such as by features[..., None]."
            )
        if features.dtype != leaves(position)[0].dtype:
            raise ValueError(
                f"FeatureRisk needs features in the precision of the positions, {leaves(position)[0].dtype}; "
                f"got {features.dtype}. Convert what they are made of with .to()."
            )
        kind = (runs > 1, m > 1)
        if kind not in self._separate and _require_own_particles(self.features, position, features.detach()):
            self._separate.add(kind)
        return features

    def _asked(self, function: Callable[[Any], Tensor], argument: Any, name: str, shape: Any) -> Tensor:
        """What the function returns; at the first time with its own failure in words, for it may be the shapes."""
        if self._looked_at:
            return function(argument)
        if torch.is_inference_mode_enabled():
            raise ValueError("FeatureRisk needs autograd, which torch.inference_mode turns off. Leave it.")
        try:
            return function(argument)
        except Exception as error:
            raise ValueError(
                f"FeatureRisk needs {name} that can be asked at shape {shape}, runs first; there it raised "
                f"{type(error).__name__}: {str(error).partition(chr(10))[0]}. Change it, or the shapes."
            ) from error

    def _potential(self, position: Any) -> Tensor:
        if self.decay == 0:
            first = leaves(position)[0]
            return first.new_full(first.shape[:2], self.penalty)
        return self.penalty + self.decay * square_norms(position)

    def _risk(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """R and R' at the outputs."""
        output = output.detach().requires_grad_()
        with torch.enable_grad():
            risk = self._asked(self.loss, output, "a loss", tuple(output.shape))
        if not isinstance(risk, Tensor) or tuple(risk.shape) != (len(output),):
            got = f"shape {tuple(risk.shape)}" if isinstance(risk, Tensor) else type(risk).__name__
            raise ValueError(
                f"FeatureRisk needs a loss that returns one number a run, shape ({len(output)},), of outputs "
                f"{tuple(output.shape)}; got {got}. Sum or average over the last axis only: .sum(1)."
            )
        if not risk.requires_grad:
            raise ValueError(
                "FeatureRisk needs a loss that torch can differentiate; got one that is cut off from the outputs. "
                "Leave out detach, numpy, rounding and counting."
            )
        several = len(output) > 1
        if several not in self._apart and bool(output.isfinite().all()):
            if _require_own_runs(risk, output):
                self._apart.add(several)
            self._looked_at = True
        with torch.enable_grad():
            total = risk.sum()
        (slope,) = torch.autograd.grad(total, output)
        risk = risk.detach()
        rounding = (1e-9 if risk.dtype == torch.float64 else 1e-5) * (1 + abs(self.loss_at_least))
        if bool((risk < self.loss_at_least - rounding).any()):
            raise ValueError(
                f"FeatureRisk was told that the loss is at least {self.loss_at_least:g}; it is {float(risk.min()):g}. "
                "Pass loss_at_least as a number that it is never below, or -inf."
            )
        return risk, slope


def _require_own_particles(features: Callable[[Any], Tensor], position: Any, found: Tensor) -> bool:
    """Refuse features that change where others do: every second particle, and all of the first run, are others now.

    What F' proves of single points it proves of a measure only then. False: the others were where these are, which
    shows nothing.
    """
    if found.numel() == 0:
        return True
    runs, m = points_of(position)
    first, kept = min(1, runs - 1), slice(1, None, 2) if m > 1 else slice(None)
    others = []
    for part in leaves(position):
        here = part.detach()
        other = here.clone()
        other[:, 0 : m - 1 : 2] = here.roll(1, 1)[:, 0 : m - 1 : 2]
        other[:first] = here[runs - first :].flip(1)
        others.append(other)
    with torch.no_grad():
        again = features(rebuild(position, others))[first:, kept]
    before = found[first:, kept]
    rounding = 1e-9 if found.dtype == torch.float64 else 1e-4
    gap, size = (each.abs().nan_to_num(nan=0.0, posinf=0.0).amax() for each in (again - before, before))
    if bool(gap > rounding * size):
        raise ValueError(
            "FeatureRisk needs features of each particle of each run for itself, the same at each call; those of some "
            "changed with the positions of others. Leave out means over particles or runs, and chance."
        )
    pairs = [(part.detach(), other) for part, other in zip(leaves(position), others, strict=True)]
    in_run, in_first = (
        any(bool((one[rows] != other[rows]).any()) for one, other in pairs)
        for rows in (slice(first, None), slice(first))
    )
    return (in_run or m == 1) and (in_first or runs == 1)


def _require_own_runs(risk: Tensor, output: Tensor) -> bool:
    """Refuse a loss of the first run that changes with the others. False: it has no slope here, which shows nothing."""
    with torch.enable_grad():
        first = risk[0]
    (slope,) = torch.autograd.grad(first, output, retain_graph=True)
    if bool(slope[1:].nan_to_num(nan=0.0).any()):  # NaN: 0 times the slope of another run, which may be infinite
        raise ValueError(
            "FeatureRisk needs a loss of each run for itself; the first run's depends on the outputs of others. "
            "Take means and norms over the last axis only."
        )
    return len(output) == 1 or bool((slope[0] != 0).any())
