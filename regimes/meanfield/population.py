"""Risk over the whole distribution of inputs, in closed form, where student and teacher are two-layer nets."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from regimes.checks import alike, function, given, positive, real, shapes
from regimes.meanfield.layout import equal_members
from regimes.meanfield.particles import Particles, require_particles
from regimes.meanfield.two_layer import require_alpha

Pull = Callable[[Tensor], Tensor]
Overlap = Callable[[Tensor, Tensor], tuple[Tensor, Pull]]


def _require_weights(caller: str, u: Tensor, v: Tensor) -> None:
    shapes(caller, u=(u, "runs m d"), v=(v, "runs other d"))
    real(caller, u=u, v=v)
    alike(caller, u=u, v=v)


def relu_gaussian(
    u: Float[Tensor, "runs m d"], v: Float[Tensor, "runs other d"]
) -> tuple[Float[Tensor, "runs m other"], Pull]:
    """K(u, v) = E relu(u·x) relu(v·x) for x ~ N(0, I), and its pull-back w ↦ (Σ_j w_ij ∂K(u_i, v_j)/∂u_i)_i.

    K = |u||v|/(2π) (sin φ + (π − φ) cos φ) and ∂K/∂u = (|v| sin φ u/|u| + (π − φ) v)/(2π), φ the angle between u and v.
    cos φ is clipped to [−1, 1], which it leaves by rounding only; the error of φ near 0 cancels in K and in ∂K/∂u.
    Where u = 0 the derivative is set to 0, as that of ReLU. Source: [ChoSaul2009].
    """
    _require_weights("relu_gaussian", u, v)
    length_u, length_v = u.norm(dim=2, keepdim=True), v.norm(dim=2, keepdim=True)
    direction = u / length_u.masked_fill(length_u == 0, 1)
    cosine = (direction @ (v / length_v.masked_fill(length_v == 0, 1)).mT).clamp(-1, 1)
    rest = math.pi - cosine.arccos()
    sine = (1 - cosine.square()).sqrt()
    value = (length_u * length_v.mT) * (sine + rest * cosine) / (2 * math.pi)

    def pull(weights: Tensor) -> Tensor:
        radial = (weights * sine) @ length_v
        change = direction * radial + (weights * rest) @ v
        return change.masked_fill(length_u == 0, 0) / (2 * math.pi)

    return value, pull


def relu_sphere(
    u: Float[Tensor, "runs m d"], v: Float[Tensor, "runs other d"]
) -> tuple[Float[Tensor, "runs m other"], Pull]:
    """The same for x uniform on the unit sphere of R^d: that of N(0, I) divided by d, as |x|² has mean d."""
    _require_weights("relu_sphere", u, v)
    d = u.shape[2]
    value, pull = relu_gaussian(u, v)
    return value / d, lambda weights: pull(weights) / d


def erf_gaussian(
    u: Float[Tensor, "runs m d"], v: Float[Tensor, "runs other d"]
) -> tuple[Float[Tensor, "runs m other"], Pull]:
    """K(u, v) = E erf(u·x) erf(v·x) for x ~ N(0, I), and its pull-back as in `relu_gaussian`.

    K = (2/π) arcsin(2u·v/√(AB)) and ∂K/∂u = (4/π)(v − (2u·v/A) u)/√(AB − 4(u·v)²), A = 1 + 2|u|², B = 1 + 2|v|².
    Error: where u and v are nearly parallel the differences lose digits, a relative error of about 1e-16·min(A, B).
    Source: [Williams1996].
    """
    _require_weights("erf_gaussian", u, v)
    a, b = 1 + 2 * u.square().sum(2, keepdim=True), (1 + 2 * v.square().sum(2, keepdim=True)).mT
    product = u @ v.mT
    value = (2 / math.pi) * torch.asin(2 * product / (a * b).sqrt())

    def pull(weights: Tensor) -> Tensor:
        shares = weights / (a * b - 4 * product.square()).sqrt()
        return (4 / math.pi) * (shares @ v - u * (2 * (shares * product).sum(2, keepdim=True) / a))

    return value, pull


class PopulationRisk:
    """F_α(a, b) = R(f)/α² of f = α s (Σ_j a_j σ(b_j·x) − Σ_j a⁰_j σ(b⁰_j·x)), with R(f) = ½ E‖f(x) − y(x)‖².

    Factor ½, mean over the inputs x, sum over outputs; s = `scale`, 1/m unless given; the second sum is there only with
    `centre` (a⁰, b⁰). The teacher is a plain sum y(x) = Σ_j a*_j σ(b*_j·x); its leading axis is 1, groups or runs.
    `overlap` says which σ and which inputs: relu_gaussian, relu_sphere or erf_gaussian. Neurons have no bias.
    Error: R is a sum of terms that cancel when student and teacher agree, so it is right to about 1e-16·R(0) in float64
    (and may be that much below 0); gradients have the same absolute floor, relative to their first size.
    """

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
            positive("PopulationRisk", "scale", scale)
        require_particles("PopulationRisk", teacher)
        if centre is not None:
            k, d = teacher.output.shape[2], teacher.input.shape[2]
            require_particles("PopulationRisk", centre, d=d, k=k, like=teacher.output)
        self.teacher, self.overlap, self.scale, self.centre = teacher, overlap, scale, centre
        by_run = isinstance(alpha, Tensor) and alpha.ndim > 0
        column = torch.as_tensor(alpha).to(teacher.output).reshape(-1, 1, 1)
        self.alpha: float | Tensor = column if by_run else float(alpha)

    def risk(self, particles: Particles) -> Float[Tensor, " runs"]:
        """R(f) = ½ E‖f − y‖², not divided by α²."""
        weights, directions, _ = self._difference(particles)
        value, _ = self.overlap(directions, directions)
        return (weights * (value @ weights)).sum((1, 2)) / 2

    def gradient(self, particles: Particles, out: Particles | None = None) -> Particles:
        """Plain gradient of F_α = R(f)/α² in every weight; written to `out` if given."""
        return self.risk_and_gradient(particles, out)[1]

    def velocity(self, particles: Particles) -> Particles:
        """Particle flow −m ∇F_α."""
        return Particles(*(part.mul_(-particles.width) for part in self.gradient(particles)))

    def risk_and_gradient(
        self, particles: Particles, out: Particles | None = None
    ) -> tuple[Float[Tensor, " runs"], Particles]:
        """R(f) and the gradient of F_α."""
        weights, directions, scale = self._difference(particles)
        m = particles.width
        value, pull = self.overlap(directions, directions)
        sums = value @ weights
        risk = (weights * sums).sum((1, 2)) / 2
        factor = scale / self.alpha
        output = sums[:, :m] * factor
        input = pull(weights @ weights.mT)[:, :m] / (self.alpha * self.alpha)
        if out is None:
            return risk, Particles(output, input)
        return risk, Particles(out.output.copy_(output), out.input.copy_(input))

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

    def _difference(self, particles: Particles) -> tuple[Tensor, Tensor, float]:
        """f − y as one net: its output weights, student first, its input weights, and the scale s."""
        k, d = self.teacher.output.shape[2], self.teacher.input.shape[2]
        require_particles("PopulationRisk", particles, d=d, k=k, like=self.teacher.output)
        for name, part in {"alpha": self.alpha, "centre": self.centre and self.centre.output}.items():
            if isinstance(part, Tensor) and len(part) != particles.runs:
                raise ValueError(
                    f"PopulationRisk needs {name} for each of the {particles.runs} runs of the particles; got "
                    f"{len(part)}. Repeat it."
                )
        scale = 1 / particles.width if self.scale is None else self.scale
        teacher = self._teachers(particles.runs)
        nets = [(self.alpha * scale * particles.output, particles.input), (-teacher.output, teacher.input)]
        if self.centre is not None:
            nets.append((-self.alpha * scale * self.centre.output, self.centre.input))
        weights, directions = (torch.cat(part, dim=1) for part in zip(*nets, strict=True))
        return weights, directions, scale
