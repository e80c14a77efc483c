"""The Dirichlet kernel on the torus [0, 1)^d, in an orthonormal basis of real harmonics."""

import math

import torch
from jaxtyping import Float
from torch import Tensor


def harmonics(
    x: Float[Tensor, "*shape"], order: int, derivatives: int = 0
) -> list[Float[Tensor, "*shape {2*order+1}"]]:
    """ψ(x) = (1, √2 cos 2πx, ..., √2 cos 2πnx, √2 sin 2πx, ..., √2 sin 2πnx) and its derivatives, n the order.

    The ψ_i are orthonormal in L²([0, 1)). The kernel of order n is D_n(x − θ) = Σ_|k|≤n e^{2πik(x−θ)} = ψ(x)·ψ(θ), so
    that ψ(θ) are the coefficients of D_n(· − θ), and ψ(x)·ψ(x) = 2n + 1 at all x.
    Error: rounding, about 4n·10⁻¹⁶ of each value; x is taken modulo 1.
    """
    turn = torch.polar(torch.ones_like(x), 2 * math.pi * (x - x.floor()))
    powers = turn[..., None].expand(*x.shape, order).cumprod(-1) * math.sqrt(2)
    cosine, sine, one = powers.real, powers.imag, torch.ones_like(x)[..., None]
    found = [torch.cat((one, cosine, sine), -1)]
    rate = 2 * math.pi * torch.arange(1, order + 1, dtype=x.dtype, device=x.device)
    for _ in range(derivatives):
        cosine, sine, one = -rate * sine, rate * cosine, torch.zeros_like(one)
        found.append(torch.cat((one, cosine, sine), -1))
    return found
