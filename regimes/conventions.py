"""Units shared by every package: the risk, its norm, random generators.

Letters: n samples, d features, k outputs, m (`width`) neurons, p parameters, t flow time.
Function space is L² of the empirical measure: ‖f‖² = 1/n Σ_i ‖f(x_i)‖², norm summed over the k outputs.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.checks import real, shapes

Params = dict[str, Tensor]


def square_risk(outputs: Float[Tensor, "*runs n k"], targets: Float[Tensor, "*#runs n k"]) -> Float[Tensor, "*runs"]:
    """Half mean square error R(f) = 1/(2n) Σ_i ‖f(x_i) − y_i‖²: factor ½, mean over samples, sum over outputs."""
    shapes("square_risk", outputs=(outputs, "*runs n k"), targets=(targets, "*#runs n k"))
    real("square_risk", outputs=outputs, targets=targets)
    return (outputs - targets).square().sum(-1).mean(-1) / 2


def function_norm(values: Float[Tensor, "*runs n k"]) -> Float[Tensor, "*runs"]:
    """Norm in L² of the empirical measure: ‖f‖ = √(1/n Σ_i ‖f(x_i)‖²)."""
    shapes("function_norm", values=(values, "*runs n k"))
    real("function_norm", values=values)
    return values.square().sum(-1).mean(-1).sqrt()


def generator(seed: int, *stream: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Random generator of one seed; further integers name independent streams of it (data, weights, batches...)."""
    # A 64-bit mix of all integers, so that neighbouring seeds and streams give unrelated states.
    state = 0x9E3779B97F4A7C15
    for value in (seed, *stream):
        state ^= (value + 0x9E3779B97F4A7C15 + (state << 6) + (state >> 2)) & 0xFFFFFFFFFFFFFFFF
        state = (state * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return torch.Generator(device=device).manual_seed(state & 0x7FFFFFFFFFFFFFFF)
