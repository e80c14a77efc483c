"""The models of each law, made from a seed and a factor, and what is known of κ beforehand."""

from collections.abc import Callable
from math import isqrt
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regimes.activations import IDENTITY, TANH, Activation
from regimes.conventions import generator
from regimes.data.synthetic import sphere
from regimes.models.mlp import MLP
from regimes.models.scaling import Centred
from regimes.models.two_layer import TwoLayer
from regimes.streams import Criterion

SQUARE = Activation("square", torch.square, lambda s: 2 * s, torch.inf, 2.0, True)


class Problem(NamedTuple):
    """A model with its inputs and targets; `truth` is its κ where a closed form is known."""

    model: nn.Module
    x: Tensor
    y: Float[Tensor, "n 1"]
    truth: float = torch.nan


class Size(NamedTuple):
    """Seed, factor, dimension of the inputs, number of samples, neurons of a layer, and of a wide net at factor 1."""

    seed: int
    factor: int
    inputs: int
    samples: int
    hidden: int
    width: int

    def weights(self, *stream: int) -> torch.Generator:
        return generator(self.seed, Criterion.WEIGHTS, *stream)

    def data(self) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n 1"]]:
        """Points of the unit sphere with Gaussian targets of mean square 1, the same at every factor."""
        draw = generator(self.seed, Criterion.DATA)
        x, y = sphere(self.samples, self.inputs, generator=draw), torch.randn(self.samples, 1, generator=draw).double()
        return x, y / y.square().mean().sqrt()


class Quadratic(nn.Module):
    """Sample i, given by its number, is mapped to b_i·w + ½ wᵀA_i w."""

    def __init__(self, matrices: Float[Tensor, "n p p"], slopes: Float[Tensor, "n p"], w: Float[Tensor, " p"]) -> None:
        super().__init__()
        self.w = nn.Parameter(w)
        self.matrices, self.slopes = nn.Buffer(matrices), nn.Buffer(slopes)

    def forward(self, x: Int[Tensor, "n 1"]) -> Float[Tensor, "n 1"]:
        at = x[:, 0]
        bent = torch.einsum("nij,i,j->n", self.matrices[at], self.w, self.w) / 2
        return (self.slopes[at] @ self.w + bent)[:, None]


class Scaled(nn.Module):
    """factor · h, not centred."""

    def __init__(self, inner: nn.Module, factor: float) -> None:
        super().__init__()
        self.inner, self.factor = inner, factor

    def forward(self, x: Tensor) -> Tensor:
        return self.factor * self.inner(x)


def _quadratic(size: Size, matrices: Float[Tensor, "n p p"], bend: float) -> Problem:
    """The model of these Hessians of 4 √factor rows, turned at random; `bend` is the norm of the 3-tensor they make."""
    draw, (n, p) = size.weights(size.factor), matrices.shape[:2]
    turn = torch.linalg.qr(torch.randn(p, p, generator=draw, dtype=torch.float64)).Q
    matrices = turn @ matrices @ turn.mT
    w, slopes = (torch.randn(*shape, p, generator=draw, dtype=torch.float64) for shape in ((), (n,)))
    y = torch.randn(n, 1, generator=draw, dtype=torch.float64)
    model, x = Quadratic(matrices, slopes, w), torch.arange(n)[:, None]
    distance = float((model(x).detach() - y).norm())
    slope = float(torch.linalg.matrix_norm(slopes + matrices @ w, 2))
    return Problem(model, x, y, distance * bend / slope**2)  # the powers of √n cancel


def linear(size: Size) -> Problem:
    """Random features: a two-layer net with its input weights frozen."""
    net = TwoLayer(size.inputs, size.hidden * size.factor, activation=TANH, generator=size.weights(size.factor))
    net.input_weights.requires_grad_(False)
    return Problem(net, *size.data(), truth=0.0)


def one_output(size: Size) -> Problem:
    """One sample: ‖D²h‖ = ‖A‖."""
    a = torch.randn(1, p := 4 * isqrt(size.factor), p, generator=size.weights(size.factor, 1), dtype=torch.float64)
    a = (a + a.mT) / 2
    return _quadratic(size, a, float(torch.linalg.matrix_norm(a[0], 2)))


def commuting(size: Size) -> Problem:
    """A_i = diag(d_i1, …, d_ip): ‖D²h‖² = max_j Σ_i d_ij².

    ‖D²h[u, u]‖² = Σ_i (Σ_j d_ij s_j)² is convex in s_j = u_j² ≥ 0, Σ s_j = 1, so largest at a corner. Σ_i A_i² has the
    same top, so both bounds can meet.
    """
    p = 4 * isqrt(size.factor)
    entries = torch.randn(size.samples, p, generator=size.weights(size.factor, 1), dtype=torch.float64)
    return _quadratic(size, torch.diag_embed(entries), float(entries.norm(dim=0).max()))


def anticommuting(size: Size) -> Problem:
    """Three matrices with A_i A_j + A_j A_i = 0 and A_i² = I, in blocks with factors c_b: ‖D²h‖ = max c_b.

    (Σ φ_i A_i)² = ‖φ‖² I, whatever φ. The unfolding sees Σ A_i² = 3 I, so the upper bound is √3 too large.
    """
    turn, flip = torch.tensor([[0.0, 1.0], [-1.0, 0.0]]).double(), torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
    sign, one = torch.tensor([1.0, -1.0]).double(), torch.eye(2).double()
    three = torch.stack([torch.kron(flip, one), torch.kron(torch.diag(sign), one), torch.kron(turn, turn)])
    share = torch.rand(isqrt(size.factor), generator=size.weights(size.factor, 1), dtype=torch.float64)
    matrices = torch.stack([torch.kron(torch.diag(share), each) for each in three])
    return _quadratic(size, matrices, float(share.max()))


def _deep(size: Size, activation: Activation, hidden: int) -> MLP:
    widths = (size.inputs, *(size.hidden,) * hidden, 1)
    return MLP(widths, activation=activation, generator=size.weights())


def alpha_centred(size: Size) -> Problem:
    """α (h − h(w_0)), α the factor, of a tanh net with two hidden layers."""
    return Problem(Centred(_deep(size, TANH, 2), float(size.factor)), *size.data())


def alpha_plain(size: Size) -> Problem:
    """The same net, α h with α = 100 times the factor."""
    return Problem(Scaled(_deep(size, TANH, 2), 100.0 * size.factor), *size.data())


def _stretched(net: nn.Module, by: float) -> nn.Module:
    with torch.no_grad():
        for weights in net.parameters():
            weights.mul_(by)
    return net


def homogeneous(hidden: int, activation: Activation, *, by: float = 1.0, centred: bool = True) -> "Make":
    """A net without biases at λ times its random weights, λ = `by` times the factor."""

    def make(size: Size) -> Problem:
        net = _stretched(_deep(size, activation, hidden), by * size.factor)
        return Problem(Centred(net, 1.0) if centred else net, *size.data())

    return make


def wide(power: float) -> "Make":
    """α(m) Σ_j a_j tanh(b_j·x) with α = m^power, a_j = ±1 and b_j on the unit sphere, m = width times the factor."""

    def make(size: Size) -> Problem:
        width = size.width * size.factor
        net = TwoLayer(size.inputs, width, activation=TANH, generator=size.weights(width), scale=width**power)
        with torch.no_grad():
            net.output_weights.sign_()
            net.input_weights.div_(net.input_weights.norm(dim=1, keepdim=True))
        return Problem(net, *size.data())

    return make


Make = Callable[[Size], Problem]
QUADRATIC = {"one output": one_output, "commuting": commuting, "anticommuting": anticommuting}
# A law with an exponent: how κ goes with the factor, by the derivation in the statement.
EXPONENTS: dict[str, tuple[float, Make]] = {
    "α, centred": (-1.0, alpha_centred),
    "α, not centred": (0.0, alpha_plain),
    "λ, linear net, q = 2": (-2.0, homogeneous(1, IDENTITY)),
    "λ, linear net, q = 3": (-3.0, homogeneous(2, IDENTITY)),
    "λ, squares, q = 3": (-3.0, homogeneous(1, SQUARE)),
    "λ, not centred": (0.0, homogeneous(1, SQUARE, by=10.0, centred=False)),
    "m, α = 1": (-0.5, wide(0.0)),
    "m, α = m^-1/2": (-0.5, wide(-0.5)),
    "m, α = m^-3/4": (-0.25, wide(-0.75)),
    "m, α = 1/m": (0.0, wide(-1.0)),
}
LAWS: dict[str, Make] = {"linear": linear, **QUADRATIC, **{law: make for law, (_, make) in EXPONENTS.items()}}
