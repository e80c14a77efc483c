"""Nets of waves: particles on the torus, whose limit of many particles is known to rounding.

A particle is a point θ of the torus (R/2πZ)^D, a neuron with a periodic activation and a fixed output weight. On an
input x, a whole-number vector, it gives the pair √2 w_x (cos θ·x, sin θ·x), written as √2 w_x e^{iθ·x}. The net is the
mean f over the particles; the loss is F = ½ Σ_x |f_x − y_x|², and with r = f − y
    F'(θ) = Re Σ_x r̄_x √2 w_x e^{iθ·x},      θ' = −∇F'(θ) = Im Σ_x r̄_x √2 w_x x e^{iθ·x}.
Near the uniform density every output has its own rate, r_x' = −w_x²|x|² r_x.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from regimes.conventions import generator
from regimes.experiments.mean_field.propagation_of_chaos.config import ATOMS, PLANE, ROUGH, SPACE, STRATIFIED
from regimes.streams import Chaos

_PLACE = math.pi / 3  # the two atoms start at ± this angle


class Problem(NamedTuple):
    """Inputs x, their gains √2 w_x and targets y_x; how the particles start; the last time.

    An input that is held out has the gain 0 in the loss, and its gain in `fresh`, which is 0 for the others.
    """

    inputs: Float[Tensor, "n d"]
    gains: Float[Tensor, " n"]
    fresh: Float[Tensor, " n"]
    targets: Complex[Tensor, " n"]
    start: str
    horizon: float

    def waves(self, angles: Float[Tensor, "*sets m d"]) -> Complex[Tensor, "*sets m n"]:
        """e^{iθ·x}."""
        n, d = self.inputs.shape
        if d > 1:
            phases = angles @ self.inputs.T
            return torch.complex(phases.cos(), phases.sin())
        # On the circle x = 1, 2, ..., n: products of what is there already, a third of the time.
        found = angles.new_empty((*angles.shape[:-1], n), dtype=torch.complex128)
        found[..., :1] = torch.complex(angles.cos(), angles.sin())
        known = 1
        while known < n:
            more = min(known, n - known)
            torch.mul(found[..., :more], found[..., known - 1 : known], out=found[..., known : known + more])
            known += more
        return found

    def loss(self, means: Complex[Tensor, "*sets n"]) -> Float[Tensor, "*sets"]:
        """F = ½ Σ_x |f_x − y_x|² where the waves have these means over the particles."""
        return norm(self.gains * means - self.targets).square() / 2

    def velocity(
        self, waves: Complex[Tensor, "*sets m n"], means: Complex[Tensor, "*#sets n"]
    ) -> Float[Tensor, "*sets m d"]:
        """−∇F' at the particles of these waves, for the net whose waves have the given means."""
        pull = (self.gains * means - self.targets).conj()[..., None] * (self.gains[:, None] * self.inputs)
        return (waves @ pull).imag


def norm(outputs: Complex[Tensor, "*sets n"]) -> Float[Tensor, "*sets"]:
    """√(Σ_x |f_x|²)."""
    return torch.view_as_real(outputs).square().sum((-2, -1)).sqrt()


def problem(name: str, modes: int, horizon: float) -> Problem:
    """The problem of this name; modes and horizon are those of the problems on the circle with a uniform start.

    smooth, rough: w_x = 1/x², so mode x is learned at the rate 1/x². A target density with Fourier coefficients of size
    x^−a leaves the loss Σ_x x^(−4−2a) e^(−2t/x²) ∝ t^(−3/2−a) until the last mode is learned at t = modes²: the
    exponent is 3.5 for a = 2, and 1.5 for a = 0. Two atoms: x = 1, 2 with w = 1 and ¼; targets 0 and √2/4, those of
    half the mass at 0 and half at π. 2-d, 3-d: all x up to sign with entries up to 1, w = 1/|x|, a smooth target: all
    rates are 1. On the circle x = 2 is held out, in 2-d and 3-d one of the x.
    """
    if name == ATOMS:
        gains = math.sqrt(2) * torch.tensor([1.0, 0.25], dtype=torch.float64)
        return _problem(_column(2), gains, torch.tensor([0.0, 1.0 + 0j], dtype=torch.complex128), ATOMS, 50.0)
    if name in (PLANE, SPACE):
        inputs = half_lattice(2 if name == PLANE else 3)
        size = inputs.norm(dim=1)
        density = 0.45 * size**-2 / (size**-2).sum() * _phases(len(size))
        return _problem(inputs, math.sqrt(2) / size, density, "uniform", 20.0, held_out=0)
    inputs = _column(modes)
    order = inputs[:, 0]
    density = (0.03 + 0 * order if name == ROUGH else 0.28 * order**-2) * _phases(len(order))
    start = STRATIFIED if name == STRATIFIED else "uniform"
    return _problem(inputs, math.sqrt(2) * order**-2, density, start, horizon, held_out=1)


def _problem(
    inputs: Tensor, gains: Tensor, density: Tensor, start: str, horizon: float, held_out: int | None = None
) -> Problem:
    """The targets are the outputs of a density with these Fourier coefficients; the input of one place is held out."""
    out = torch.arange(len(inputs)) == held_out
    return Problem(inputs, gains * ~out, gains * out, gains * ~out * density, start, horizon)


def half_lattice(dimension: int) -> Float[Tensor, "n d"]:
    """The vectors with entries −1, 0, 1, one of each pair ±x, without 0."""
    whole = torch.cartesian_prod(*[torch.arange(-1.0, 2.0, dtype=torch.float64)] * dimension)
    return whole[len(whole) // 2 + 1 :]


def starts(problem: Problem, width: int, seeds: list[int]) -> Float[Tensor, "runs m d"]:
    """The particles of each seed at time 0: independent, or one in each of m equal arcs."""
    return torch.stack([_start(problem, width, generator(seed, Chaos.START, width)) for seed in seeds])


def _start(problem: Problem, width: int, draw: torch.Generator) -> Tensor:
    share = torch.rand(width, problem.inputs.shape[1], generator=draw, dtype=torch.float64)
    if problem.start == ATOMS:
        return _PLACE * (2.0 * (share < 0.5) - 1.0).to(share)
    if problem.start == STRATIFIED:
        return (torch.arange(width)[:, None] + share) * (2 * math.pi / width)
    return 2 * math.pi * share


def limit(problem: Problem) -> Float[Tensor, "m d"]:
    """Particles whose flow is the limit m → ∞.

    Two atoms are one particle each. On the uniform density a grid is the trapezoidal rule in the labels of the
    particles, and for periodic analytic functions its error falls exponentially with the points along an axis.
    """
    if problem.start == ATOMS:
        return torch.tensor([[-_PLACE], [_PLACE]], dtype=torch.float64)
    dimension = problem.inputs.shape[1]
    circle = (80 if problem.start == STRATIFIED else 16) * len(problem.inputs)  # W2 to them has to see 1/m
    points = {1: circle, 2: 24, 3: 12}[dimension]
    # In the middles of equal arcs: a grid from 0 on stands half an arc aside, which W2 to a stratified start sees.
    axis = (torch.arange(points, dtype=torch.float64) + 0.5) * (2 * math.pi / points)
    return torch.cartesian_prod(*[axis] * dimension).reshape(-1, dimension)


def _column(modes: int) -> Tensor:
    return torch.arange(1, modes + 1, dtype=torch.float64)[:, None]


def _phases(n: int) -> Tensor:
    """Phases that are spread evenly and never repeat."""
    turns = torch.arange(1, n + 1, dtype=torch.float64) ** 2 * (math.pi * (math.sqrt(5) - 1))
    return torch.polar(torch.ones_like(turns), turns)
