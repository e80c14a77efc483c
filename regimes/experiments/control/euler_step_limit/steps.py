"""One step of any method for gradient nets, as long as is asked for: implicit stages by Newton's method.

The stepper of `control` iterates implicit stages and so needs short steps; here they may have any length. At the
solution one more step of Newton's method is taken with the derivatives of its right side alone, which gives the
solution the derivative of the implicit function theorem.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.control.stepper import step
from regimes.control.tableau import Tableau
from regimes.errors import RunFailed
from regimes.experiments.control.gradient_nets import Fields

MOST, ACCURATE = 100, 1e-12
States = Float[Tensor, "nets n width"]


def stepped(nets: Fields, tableau: Tableau, size: Float[Tensor, " nets"], z: States) -> States:
    """The end of the step of each net's own size."""
    sizes = size[:, None, None]
    if tableau.explicit:
        # The field is scaled by the step, so that each net has its own.
        return step(lambda time, parts: (sizes * nets.gradient(parts[0]),), tableau, 0.0, (z,), 1.0).end[0]
    a, b = (torch.tensor(each, dtype=z.dtype) for each in (tableau.a, tableau.b))
    with torch.no_grad():
        slopes = _solved(nets, a, sizes, z)
    slopes = slopes - _correction(nets, a, sizes, z, slopes)
    return z + torch.einsum("s,snmw->nmw", b, slopes)


def _residual(nets: Fields, a: Tensor, sizes: Tensor, z: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor]:
    """h f(Z_i) − K_i with K_i = h k_i, and the stages Z_i; both (stages, nets, n, width)."""
    stages = z + torch.einsum("st,tnmw->snmw", a, slopes)
    return slopes - torch.stack([sizes * nets.gradient(each) for each in stages]), stages


def _correction(nets: Fields, a: Tensor, sizes: Tensor, z: Tensor, slopes: Tensor) -> Tensor:
    """(I − h J ⊗ a)⁻¹ of the residual, J the Jacobians at the stages; the matrix is held constant."""
    residual, stages = _residual(nets, a, sizes, z, slopes)
    count, n, m, width = residual.shape
    with torch.no_grad():
        bends = torch.stack([nets.unit.derivative(nets.inner(each)) for each in stages])  # (stages, nets, n, hidden)
        jacobians = -torch.einsum("nhw,snmh,nhv->snmwv", nets.weight, bends, nets.weight) * sizes[..., None]
        matrix = torch.eye(count * width, dtype=z.dtype) - torch.einsum("snmwv,st->nmswtv", jacobians, a).reshape(
            n, m, count * width, count * width
        )
    flat = residual.permute(1, 2, 0, 3).reshape(n, m, count * width, 1)
    return torch.linalg.solve(matrix, flat).reshape(n, m, count, width).permute(2, 0, 1, 3)


def _solved(nets: Fields, a: Tensor, sizes: Tensor, z: Tensor) -> Tensor:
    """Stages by Newton's method, each pair's step halved until its residual falls."""
    slopes = torch.stack([sizes * nets.gradient(z)] * len(a))
    scale = 1 + z.abs().amax() + slopes.abs().amax()
    size = _residual(nets, a, sizes, z, slopes)[0].square().sum((0, 3)).sqrt()
    for _ in range(MOST):
        if float(size.max()) <= ACCURATE * float(scale):
            return slopes
        change = _correction(nets, a, sizes, z, slopes)
        share, tried, after = torch.ones_like(size), slopes, size
        for _ in range(40):
            tried = slopes - share[None, ..., None] * change
            after = _residual(nets, a, sizes, z, tried)[0].square().sum((0, 3)).sqrt()
            worse = (after > (1 - share / 10) * size) & (size > ACCURATE * scale)
            if not bool(worse.any()):
                break
            share = torch.where(worse, share / 2, share)
        slopes, size = tried, after
    raise RunFailed(f"implicit stages are not solved: a residual of {float(size.max()):.2g} is left.")
