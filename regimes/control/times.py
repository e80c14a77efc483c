"""Particles with a time: in the order of their times, the gaps between them are the weights of Euler steps.

L particles with times τ^1 <= ... <= τ^L stand for the measure over depth that is particle l on (τ^{l−1}, τ^l], τ^0 = 0.
Source: [Lu2020] Algorithm 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def uniform_times(count: int) -> Float[Tensor, " count"]:
    """The grid l/L, on which all weights are 1, in float64."""
    return torch.arange(1, count + 1, dtype=torch.float64) / max(count, 1)


def gap_weights(ordered: Float[Tensor, "*runs L"], *, first_gap: bool = True) -> Float[Tensor, "*runs L"]:
    """L (τ^l − τ^{l−1}) of times in ascending order, with τ^0 = 0; without `first_gap` the first weight is 1."""
    gaps = ordered.diff(dim=-1, prepend=torch.zeros_like(ordered[..., :1])) * ordered.shape[-1]
    return gaps if first_gap else torch.cat([torch.ones_like(gaps[..., :1]), gaps[..., 1:]], -1)


def pull_back_gaps(of_weights: Float[Tensor, "*runs L"]) -> Float[Tensor, "*runs L"]:
    """The gradient in the ordered times from that in the weights, all gaps used: L (g_l − g_{l+1}), g_{L+1} = 0."""
    after = torch.cat([of_weights[..., 1:], torch.zeros_like(of_weights[..., :1])], -1)
    return (of_weights - after) * of_weights.shape[-1]
