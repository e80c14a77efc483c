"""The largest singular value ‖A‖: bounded from above by Gram iteration, estimated from below by power iteration.

Gram iteration: W_0 = A, W_{t+1} = W_tᵀW_t. Then ‖W_{t+1}‖ = ‖W_t‖², so  ‖A‖ = ‖W_t‖^(2^−t) ≤ ‖W_t‖_F^(2^−t),  which is
the Schatten norm (Σ σ_i^p)^(1/p) of A, p = 2^(t+1): too large by a factor of at most rank(A)^(1/p). Each W_t is scaled
before it is multiplied, and the logarithms of the scales are summed, so nothing overflows.

`gram_norm` and `gram_norm_of_convolution` do this in the precision of their argument and can be differentiated: for
training. `norm_bound` and `norm_bound_of_convolution` are certificates: no rounding makes them too small. With the
unit roundoff u and γ_m = mu/(1 − mu), a product of m terms in any order, fused or not, has
    |fl(WᵀW) − WᵀW| ≤ γ_m |W|ᵀ|W| entry by entry, so ‖fl(WᵀW) − WᵀW‖ ≤ γ_m ‖W‖_F²
(Frobenius norms are submultiplicative). Scales are powers of 2, exact. So, from the last iterate back to the first,
    B_T = ‖W_T‖_F,  B_t = √(2^k_{t+1} B_{t+1} + γ_m ‖W_t‖_F²) ≥ ‖W_t‖,
with every number on the right rounded up. (This is for products by rows and columns; no library that torch calls
multiplies by Strassen's rule.)

A convolution with zero padding on H × W pixels is: put the image into a larger torus of zeros, convolve there, cut the
image out. The first step keeps norms and the last shrinks them. p = kernel//2 zeros are enough, as then what leaves on
one side returns into zeros. So its norm is at most that of the convolution on the torus of (H + p) × (W + p), which the
Fourier transform splits into blocks K̂(ω) = Σ_x K(x) e^{iωx}, one for each frequency: the largest ‖K̂(ω)‖. It differs
from the exact norm by the boundary alone. A complex block C + iS is the real one [[C, −S], [S, C]] of the same norm.
Source: [Delattre2023] for Gram iteration and the torus; [Higham2002] section 3.5 for products.
"""

from math import pi

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from regimes import checks
from regimes.checks import count, counts, finite, real, shapes

UNIT = 2.0**-53  # roundoff of float64
TINY = 2.0**-900  # far above all that underflow can lose of numbers near 1, far below their rounding
ITERATIONS = 6


def gram_norm(matrices: Float[Tensor, "*batch m n"], iterations: int = ITERATIONS) -> Float[Tensor, "*batch"]:
    """(Σ_i σ_i^p)^(1/p) ≥ ‖A‖ of each matrix, p = 2^(iterations + 1), up to rounding; 0 for zeros."""
    if not torch.compiler.is_compiling():
        shapes("gram_norm", matrices=(matrices, "*batch m n"))
        real("gram_norm", half=True, matrices=matrices)
        count("gram_norm", "iterations", iterations, at_least=0)
    w = matrices if matrices.shape[-2] >= matrices.shape[-1] else matrices.mT
    w, largest = scaled_down(w, (-2, -1))
    w, size, zero = _normalised(w)
    logs = size.log()
    for number in range(1, iterations + 1):
        w, size, _ = _normalised(w.mT @ w)
        logs = logs + size.log() / 2**number
    return torch.where(zero, 0.0, largest * logs.exp())[..., 0, 0]


def scaled_down(w: Tensor, axes: int | tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """W with the largest entry ±1, and the factor, a constant to differentiation; zeros and a factor 1 for zeros."""
    largest = w.detach().abs().amax(axes, keepdim=True)
    largest = torch.where(largest == 0, 1.0, largest)
    return w / largest, largest


def _normalised(w: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """W/‖W‖_F, ‖W‖_F with 1 in place of 0, and where that is."""
    size = torch.linalg.vector_norm(w, dim=(-2, -1), keepdim=True)
    zero = size == 0
    size = torch.where(zero, 1.0, size)
    return w / size, size, zero


def gram_norm_of_convolution(
    kernel: Float[Tensor, "out in height width"], size: tuple[int, int], iterations: int = ITERATIONS
) -> Float[Tensor, ""]:
    """The same bound of z ↦ conv2d(z, kernel, padding=kernel // 2) on images of `size`; stride 1, odd kernels."""
    if not torch.compiler.is_compiling():
        _require_kernel("gram_norm_of_convolution", kernel, size)
    return gram_norm(symbols(kernel, size), iterations).amax()


def symbols(kernel: Float[Tensor, "out in height width"], size: tuple[int, int]) -> Float[Tensor, "frequencies m n"]:
    """The blocks of the convolution on the torus as real matrices (2 out, 2 in); without those of −ω, conjugates."""
    cos, sin = (table.to(kernel.device, kernel.dtype) for table in _waves(kernel, size))
    taps = kernel.flatten(2)
    real_part, imaginary = (torch.einsum("fk,oik->foi", table, taps) for table in (cos, sin))
    return torch.cat([torch.cat([real_part, -imaginary], 2), torch.cat([imaginary, real_part], 2)], 1)


def _waves(kernel: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """cos ωx and sin ωx, (frequencies, taps), float64; ωx is reduced to one turn in integers."""
    high, wide = kernel.shape[2:]
    rows, columns = size[0] + high // 2, size[1] + wide // 2
    a, b = torch.meshgrid(torch.arange(rows), torch.arange(columns // 2 + 1), indexing="ij")
    y, x = torch.meshgrid(torch.arange(high), torch.arange(wide), indexing="ij")
    turns = a.reshape(-1, 1) * y.reshape(-1) * columns + b.reshape(-1, 1) * x.reshape(-1) * rows
    angle = (turns % (rows * columns)).double() * (2 * pi / (rows * columns))
    return angle.cos(), angle.sin()


@torch.no_grad()
def norm_bound(matrices: Float[Tensor, "*batch m n"], iterations: int = 12) -> Float[Tensor, "*batch"]:
    """A number in float64, never below ‖A‖, of each matrix; above it by at most 0.1 % for ranks up to 3,000."""
    shapes("norm_bound", matrices=(matrices, "*batch m n"))
    real("norm_bound", matrices=matrices)
    finite("norm_bound", matrices=matrices)
    count("norm_bound", "iterations", iterations, at_least=0)
    w = matrices.detach().cpu().double()
    w, scale = _scaled(w if w.shape[-2] >= w.shape[-1] else w.mT)
    scales, errors = [scale], []
    for _ in range(iterations):
        errors.append(_up(gamma(w.shape[-2]) * _frobenius(w).square()))
        w, scale = _scaled(w.mT @ w)
        scales.append(scale)
    bound = _frobenius(w)
    for scale, error in zip(reversed(scales[1:]), reversed(errors), strict=True):
        bound = _up((_up(_times_power(bound, scale)) + error).sqrt())
    return torch.where(w.abs().amax((-2, -1)) == 0, 0.0, _times_power(_up(bound), scales[0].clamp(min=-1000)))


@torch.no_grad()
def norm_bound_of_convolution(
    kernel: Float[Tensor, "out in height width"], size: tuple[int, int], iterations: int = 12
) -> Float[Tensor, ""]:
    """The same of z ↦ conv2d(z, kernel, padding=kernel // 2) on images of `size`; stride 1, odd kernels.

    Cosines are off by at most 32 u: the angle, below 2π, by three roundings, and the function by two. A sum over k taps
    adds γ_k; so the two parts of a block are off by less than (k + 40) u Σ|K|, each.
    """
    _require_kernel("norm_bound_of_convolution", kernel, size)
    real("norm_bound_of_convolution", kernel=kernel)
    finite("norm_bound_of_convolution", kernel=kernel)
    exact = kernel.detach().cpu().double()
    whole = _up(_frobenius(exact.abs().sum((2, 3))))
    off = _up(2 * (kernel[0, 0].numel() + 40) * UNIT * whole * 1.1)
    return _up(norm_bound(symbols(exact, size), iterations).amax() + off)


def _require_kernel(caller: str, kernel: Tensor, size: tuple[int, int]) -> None:
    shapes(caller, kernel=(kernel, "out in height width"))
    counts(caller, "size", size, 2)
    if kernel.shape[2] % 2 == 0 or kernel.shape[3] % 2 == 0:
        raise ValueError(f"{caller} needs a kernel of odd height and width; got {tuple(kernel.shape)}. Pad it by 0.")


def _scaled(w: Tensor) -> tuple[Tensor, Tensor]:
    """W·2^−k with its largest entry in [½, 1), and k, an integer for each matrix; zeros stay as they are."""
    scale = torch.frexp(w.abs().amax((-2, -1))).exponent
    return _times_power(w, -scale[..., None, None]), scale


def _times_power(value: Tensor, exponent: Tensor) -> Tensor:
    """value·2^exponent, exact (torch.ldexp makes the power in float32)."""
    return torch.as_tensor(np.ldexp(value.numpy(), exponent.numpy()))


def gamma(terms: int) -> float:
    """Above γ of that many terms and of eight more, for up to 10¹³ of them."""
    return 1.01 * (terms + 8) * UNIT


def _up(value: Tensor) -> Tensor:
    """Above the exact value of which this is a computation in up to eight roundings."""
    return value * (1 + 16 * UNIT) + TINY


def _frobenius(w: Tensor) -> Tensor:
    """Above ‖W‖_F."""
    size = w.square().sum((-2, -1)).sqrt()
    return _up(size * (1 + gamma(w.shape[-2] * w.shape[-1])))


@torch.no_grad()
def power_norm(matrix: Float[Tensor, "m n"], iterations: int = 100, *, generator: torch.Generator) -> Float[Tensor, ""]:
    """‖Av‖ of a unit vector v after power iteration on AᵀA: at most ‖A‖, and so a certificate of nothing.

    A number in float64, as it is computed: up to rounding there. How near it comes depends on the start and on the gap
    between singular values.
    """
    shapes("power_norm", matrix=(matrix, "m n"))
    real("power_norm", matrix=matrix)
    finite("power_norm", matrix=matrix)
    count("power_norm", "iterations", iterations)
    checks.generator("power_norm", generator)
    w, scale = _scaled(matrix.detach().cpu().double())
    v = torch.randn(w.shape[1], generator=generator, dtype=torch.float64, device=generator.device).cpu()
    for _ in range(iterations):
        v = torch.nn.functional.normalize(v, dim=0, eps=TINY)
        v = w.mT @ (w @ v)
    return _times_power((w @ torch.nn.functional.normalize(v, dim=0, eps=TINY)).norm(), scale)
