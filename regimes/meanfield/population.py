"""Risk over the whole distribution of inputs, in closed form, where student and teacher are two-layer nets."""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import function, given, positive
from regimes.meanfield import net_measure
from regimes.meanfield.joined_fields import Joined
from regimes.meanfield.layout import equal_members, versions
from regimes.meanfield.overlaps import Overlap, Summed
from regimes.meanfield.overlaps import erf_gaussian as erf_gaussian
from regimes.meanfield.overlaps import logistic_gaussian as logistic_gaussian
from regimes.meanfield.overlaps import relu_gaussian as relu_gaussian
from regimes.meanfield.overlaps import relu_sphere as relu_sphere
from regimes.meanfield.particles import Particles, require_particles
from regimes.meanfield.two_layer import require_alpha
from regimes.modules import readable


class Kept(threading.local):
    """What one thread keeps of a risk for its next step, in memory that no other thread may write to."""

    made_of: tuple[Any, ...] = ()  # objects, and numbers that change with them
    nets: tuple[Particles, Tensor] | None = None
    joined: Joined | None = None  # for these nets

    def __reduce__(self) -> tuple[type["Kept"], tuple[()]]:
        return Kept, ()


class PopulationRisk:
    """F_α(a, b) = R(f)/α² of f = α s (Σ_j a_j σ(b_j·x) − Σ_j a⁰_j σ(b⁰_j·x)), with R(f) = ½ E‖f(x) − y(x)‖².

    Factor ½, mean over the inputs x, sum over outputs; s = `scale`, 1/m unless given; the second sum is there only with
    `centre` (a⁰, b⁰). The teacher is a plain sum y(x) = Σ_j a*_j σ(b*_j·x); its leading axis is 1, groups or runs.
    `overlap` says which σ and which inputs: relu_gaussian, relu_sphere, erf_gaussian or logistic_gaussian. Neurons have
    no bias.
    Error: R is a sum of terms that cancel when student and teacher agree, so it is right to about 1e-16·R(0) in float64
    (and may be that much below 0); gradients have the same absolute floor, relative to their first size. With error
    functions and neurons that are nearly parallel the floor is about 1e-16·|b|², at most about 1e-8, relative to R(0).
    Autograd goes through `risk` and `gradient`, also where neurons are parallel.
    """

    # A functional of measures too.
    value, variation = net_measure.value, net_measure.variation
    value_and_forces, forces_at = net_measure.value_and_forces, net_measure.forces_at
    at_least = 0.0

    def __init__(
        self,
        teacher: Particles,
        overlap: Overlap,
        *,
        scale: float | None = None,
        alpha: float | Float[Tensor, " runs"] = 1.0,
        centre: Particles | None = None,
    ) -> None:
        require_alpha("PopulationRisk", alpha)
        given("PopulationRisk", overlap=overlap)
        function("PopulationRisk", overlap=overlap)
        if scale is not None:
            positive("PopulationRisk", "scale", scale, single=True)
        require_particles("PopulationRisk", teacher)
        _require_overlap(overlap, teacher)
        if centre is not None:
            k, d = teacher.output.shape[2], teacher.input.shape[2]
            require_particles("PopulationRisk", centre, d=d, k=k, like=teacher.output)
        self.teacher, self.overlap, self.scale, self.centre = teacher, overlap, scale, centre
        by_run = isinstance(alpha, Tensor) and alpha.ndim > 0
        column = torch.as_tensor(alpha).to(teacher.output).reshape(-1, 1, 1)
        self.alpha: float | Tensor = column if by_run else float(alpha)
        self._kept = Kept()
        self._sums_alone = isinstance(overlap, Summed)
        self._fitting: tuple[Any, ...] = ()  # shapes and dtypes that were looked at last

    def __getstate__(self) -> dict[str, Any]:
        """Without what is kept for the next step."""
        return self.__dict__ | {"_kept": Kept()}

    def risk(self, particles: Particles) -> Float[Tensor, " runs"]:
        """R(f) = ½ E‖f − y‖², not divided by α²."""
        return self.risk_and_gradient(particles)[0]

    def gradient(self, particles: Particles, out: Particles | None = None) -> Particles:
        """Plain gradient of F_α = R(f)/α² in every weight; written to `out` if given."""
        student, others, _ = self._nets(particles)
        field = self._field(student, others)
        if field is None:
            return self._gradient(student, *self._sums(student, student.join(others)), out)
        sums, slopes = field(student.input, student.output)
        return self._gradient(student, sums, slopes.mul_(student.output), out)

    def velocity(self, particles: Particles) -> Particles:
        """Particle flow −m ∇F_α."""
        return Particles(*(part.mul_(-particles.width) for part in self.gradient(particles)))

    def risk_and_gradient(
        self, particles: Particles, out: Particles | None = None
    ) -> tuple[Float[Tensor, " runs"], Particles]:
        """R(f) and the gradient of F_α."""
        student, others, constant = self._nets(particles)
        (own, pulls), (theirs, more) = (self._sums(student, net) for net in (student, others))
        risk = (student.output * own).sum((1, 2)) / 2 + (student.output * theirs).sum((1, 2)) + constant
        return risk, self._gradient(student, own + theirs, pulls + more, out)

    def select(self, runs: Int[Tensor, " chosen"], *, of: int) -> "PopulationRisk":
        """The risk of some of the `of` runs."""
        return PopulationRisk(
            self._teachers(of).select(runs),
            self.overlap,
            scale=self.scale,
            alpha=self.alpha[runs].flatten() if isinstance(self.alpha, Tensor) else self.alpha,
            centre=None if self.centre is None else self.centre.select(runs),
        )

    def _teachers(self, runs: int) -> Particles:
        members = equal_members(self.teacher.runs, runs)[0]
        return Particles(*(part.repeat_interleave(members, dim=0) for part in self.teacher))

    def _nets(self, particles: Particles) -> tuple[Particles, Particles, Tensor]:
        """f − y as two nets, the student and what it is joined with, and the risk of the latter alone.

        The latter is kept for the next step.
        """
        self._require(particles)
        factor = self.alpha * self._scale(particles.width)
        kept, made_of = self._kept, self._made_of(particles)
        if kept.nets is None or not _alike(kept.made_of, made_of):
            teacher = self._teachers(particles.runs)
            others = Particles(-teacher.output, teacher.input)
            if self.centre is not None:
                others = others.join(Particles(-factor * self.centre.output, self.centre.input))
            sums, _ = self._sums(others, others)
            kept.made_of, kept.joined = made_of, None
            kept.nets = others, (others.output * sums).sum((1, 2)) / 2
        return Particles(factor * particles.output, particles.input), *kept.nets

    def _made_of(self, particles: Particles) -> tuple[Any, ...]:
        """What the nets that are kept follow from; tensors may be written to between two steps."""
        parts = [*self.teacher, *(self.centre or ()), *([self.alpha] if isinstance(self.alpha, Tensor) else [])]
        at = particles.runs, particles.width, self.scale
        return self.teacher, self.centre, self.alpha, *at, *versions(*parts)

    def _require(self, particles: Particles) -> None:
        """Refuse particles that do not fit; a look at each step of a descent would take as long as a small step."""
        fitting = None
        if isinstance(particles, Particles) and all(isinstance(part, Tensor) for part in particles):
            fitting = tuple((part.shape, part.dtype, part.device) for part in particles)
            if fitting == self._fitting:
                return
        k, d = self.teacher.output.shape[2], self.teacher.input.shape[2]
        require_particles("PopulationRisk", particles, d=d, k=k, like=self.teacher.output)
        for name, part in {"alpha": self.alpha, "centre": self.centre and self.centre.output}.items():
            if isinstance(part, Tensor) and len(part) != particles.runs:
                raise ValueError(
                    f"PopulationRisk needs {name} for each of the {particles.runs} runs of the particles; got "
                    f"{len(part)}. Repeat it."
                )
        self._fitting = fitting or ()

    def _scale(self, width: int) -> float:
        return 1 / width if self.scale is None else self.scale

    def _gradient(self, student: Particles, sums: Tensor, pulls: Tensor, out: Particles | None) -> Particles:
        """The gradient of F_α from that of R(f) in the weights of the student's net."""
        output, input = self._scale(student.width) / self.alpha, self.alpha * self.alpha
        if out is None:
            return Particles(sums * output, pulls / input)
        torch.mul(sums.detach(), output, out=out.output)
        torch.div(pulls.detach(), input, out=out.input)
        return out

    def _field(self, student: Particles, others: Particles) -> Joined | None:
        """The field of the student joined with what is kept, in memory that is kept, too; None where there is none."""
        if not self._summed(student, others) or not readable():
            return None
        kept = self._kept
        if kept.joined is None:
            joined: Callable[..., Joined | None] | None = getattr(self.overlap, "joined", None)
            with torch.inference_mode(False):
                kept.joined = joined and joined(student.width, others.input, others.output[..., 0])
        return kept.joined

    def _summed(self, net: Particles, other: Particles) -> bool:
        """Whether sums over the neurons of the other net are enough."""
        traced = torch.is_grad_enabled() and any(part.requires_grad for part in (*net, *other))
        return self._sums_alone and net.output.shape[2] == 1 and not traced

    def _sums(self, net: Particles, other: Particles) -> tuple[Tensor, Tensor]:
        """Σ_j w_j K(u_i, v_j), and Σ_j (w_i·w_j) ∂K(u_i, v_j)/∂u_i, the neurons i of one net, j of the other."""
        if self._summed(net, other) and isinstance(self.overlap, Summed):
            sums, slopes = self.overlap.field(net.input, other.input, other.output[..., 0])
            return sums.unsqueeze(2), slopes.mul_(net.output)
        value, pull = self.overlap(net.input, other.input)
        return value @ other.output, pull(net.output @ other.output.mT)


def _require_overlap(overlap: Any, teacher: Particles) -> None:
    """Refuse what gives no overlaps of the neurons with a pull-back, such as the function that makes an overlap."""
    some = teacher.input[:1, :1].detach()
    try:
        found = overlap(some, some)
        fits = isinstance(found, tuple) and len(found) == 2 and isinstance(found[0], Tensor) and callable(found[1])
    except TypeError:
        fits = False
    if not fits:
        name = getattr(overlap, "__name__", type(overlap).__name__)
        raise ValueError(
            f"PopulationRisk needs overlap as a function of two sets of input weights; got {name}. Pass an overlap "
            "such as relu_gaussian, or what logistic() returns."
        )


def _alike(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Whether the objects are the same and the numbers equal."""
    return len(one) == len(other) and all(
        a is b or (isinstance(a, int | float) and a == b) for a, b in zip(one, other, strict=True)
    )
