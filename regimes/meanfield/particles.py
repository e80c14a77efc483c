"""Neurons of two-layer nets as particles, with a leading runs axis."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from regimes import checks
from regimes.checks import alike, count, kind, not_negative, real, shapes


class Particles(NamedTuple):
    """The m neurons of each run: output weights a_j and input weights b_j."""

    output: Float[Tensor, "runs m k"]
    input: Float[Tensor, "runs m d"]

    @property
    def runs(self) -> int:
        return self.output.shape[0]

    @property
    def width(self) -> int:
        return self.output.shape[1]

    def to(self, target: torch.device | torch.dtype | str) -> "Particles":
        """The same particles on another device or in another precision."""
        return Particles(self.output.to(target), self.input.to(target))

    def clone(self) -> "Particles":
        return Particles(self.output.clone(), self.input.clone())

    def select(self, runs: Tensor | slice | Sequence[int]) -> "Particles":
        """The particles of some runs, in the order given."""
        return Particles(self.output[runs], self.input[runs])

    def join(self, other: "Particles") -> "Particles":
        """Union of the particles, run by run."""
        return Particles(torch.cat([self.output, other.output], dim=1), torch.cat([self.input, other.input], dim=1))


def require_particles(
    caller: str, particles: Particles, *, d: int | None = None, k: int | None = None, like: Tensor | None = None
) -> None:
    """Refuse particles of other shapes than (runs, m, k) and (runs, m, d), or of another precision than `like`."""
    if not isinstance(particles, Particles):
        raise ValueError(f"{caller} needs Particles; got {type(particles).__name__}. Use meanfield.particles.")
    arrays = {"output": (particles.output, f"runs m {k or 'k'}"), "input": (particles.input, f"runs m {d or 'd'}")}
    shapes(caller, cure="Output weights are (runs, m, k), input weights (runs, m, d)", optional=(), **arrays)
    real(caller, **particles._asdict())
    alike(caller, **particles._asdict(), data=like)


def without_graph(particles: Particles) -> Particles:
    """The same weights in the same memory, unknown to autograd."""
    if any(part.requires_grad for part in particles):
        return Particles(*(part.detach() for part in particles))
    return particles


def gaussian(
    width: int,
    inputs: int,
    outputs: int = 1,
    *,
    generators: Sequence[torch.Generator],
    std: float | Float[Tensor, " runs"] = 1.0,
    dtype: torch.dtype = torch.float64,
) -> Particles:
    """Independent N(0, std²) weights, one generator a run, so that a run is the same alone or in an ensemble.

    Each generator gives the m·k output weights first, then the m·d input weights, neuron by neuron, always in float64
    and then rounded to `dtype`: the same seed is the same net in every precision. The device is that of the generators.
    """
    for name, value in {"width": width, "inputs": inputs, "outputs": outputs}.items():
        count("gaussian", name, value)
    not_negative("gaussian", "std", std, single=not isinstance(std, Tensor))
    kind("gaussian", "dtype", dtype, torch.dtype, "a dtype such as torch.float64")
    if not dtype.is_floating_point:
        raise ValueError(f"gaussian needs a floating dtype; got {dtype}. Pass torch.float64 or torch.float32.")
    kind("gaussian", "generators", generators, Sequence, "a sequence of torch.Generator")
    for each in generators:
        checks.generator("gaussian", each)
    if not generators:
        raise ValueError("gaussian needs one generator a run; got none. Pass [generator(seed) for seed in ...].")
    if isinstance(std, Tensor) and tuple(std.shape) not in ((), (len(generators),)):
        raise ValueError(f"gaussian needs one std a run; got {tuple(std.shape)} for {len(generators)} generators.")
    device = generators[0].device

    def draw(generator: torch.Generator) -> tuple[Tensor, Tensor]:
        options = {"generator": generator, "dtype": torch.float64, "device": device}
        return torch.randn(width, outputs, **options), torch.randn(width, inputs, **options)

    output, input = map(torch.stack, zip(*map(draw, generators), strict=True))
    factor = torch.as_tensor(std, dtype=torch.float64, device=device).reshape(-1, 1, 1)
    return Particles((factor * output).to(dtype), (factor * input).to(dtype))


def double(particles: Particles) -> Particles:
    """Symmetrised net (a, b) ∪ (−a, b) of width 2m: its output is zero, its kernel Θ that of the original.

    The copies follow the originals in the same order. In floating point the output is a rounding error, about 1e-16
    times Σ_j |a_j σ(b_j·x)|: a matrix product need not treat equal rows equally. Source: [ChizatOyallonBach2019].
    """
    require_particles("double", particles)
    return particles.join(Particles(-particles.output, particles.input))
