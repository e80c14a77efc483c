"""The nearest point of the unit simplex."""

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import finite, real, shapes


def onto_simplex(v: Float[Tensor, "*runs k"]) -> Float[Tensor, "*runs k"]:
    """argmin_w ‖w − v‖ over w ≥ 0, Σ w = 1: w_i = max(v_i − τ, 0), with the τ for which they sum to 1.

    τ = (Σ_{i ≤ ρ} u_i − 1)/ρ of the sorted u_1 ≥ u_2 ≥ ..., ρ the last place with u_ρ > (Σ_{i ≤ ρ} u_i − 1)/ρ. Entries
    below τ are exactly zero. Error: rounding of v_i − max v, which is all that w depends on.
    Source: [Duchi2008].
    """
    shapes("onto_simplex", v=(v, "*runs k"))
    real("onto_simplex", v=v)
    finite("onto_simplex", v=v)
    v = (v - v.detach().amax(-1, keepdim=True)).clamp(min=-1)  # τ ≥ max v − 1; a 1 would be lost beside large entries
    falling = v.sort(dim=-1, descending=True).values
    ranks = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype, device=v.device)
    shifts = (falling.cumsum(-1) - 1) / ranks
    last = (falling > shifts).sum(-1, keepdim=True) - 1
    return (v - shifts.gather(-1, last)).clamp(min=0)
