"""The trained limit L M → ∞ of the nets: an average over the four entries of (u, v) in the plane, at every depth.

A scrambled Sobol sequence stands for the law of a neuron, together with its mirror images (−u, v): both are carried
through training at every depth. F(L, p) are the last states of L blocks with 2^p points each. Depth is extrapolated
from L, 2 L and 4 L blocks (Richardson, twice) with few points, and many points correct what few are off:
    limit = extrapolated F(L, p) + mean over two scramblings of F(L, p + 2) − F(L, p).
Errors, added: half the difference of the two scramblings; what p − 1 instead of p changes, but for the last term; what
2 L instead of L changes, with few points.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.experiments.mean_field.hidden_width.nets import problem, trained
from regimes.meanfield.depth import DepthMeasure

PLANE = 2
TINY = 1e-12
End = Float[Tensor, "runs n plane"]


@lru_cache(maxsize=2)
def limit(samples: int, seeds: tuple[int, ...], cells: int, power: int, steps: int, rate: float) -> tuple[End, End]:
    """The end of the trained limit, and how far each number may be off."""

    def end(cells: int, power: int, scrambling: int = 0) -> Tensor:
        return _end(samples, seeds, cells, power, scrambling, steps, rate)

    def deeper(cells: int, power: int) -> Tensor:
        """Extrapolated F less F itself."""
        first, second, third = (end(factor * cells, power) for factor in (1, 2, 4))
        return (4 * (2 * third - second) - (2 * second - first)) / 3 - first

    many, others = (end(cells, power + 2, scrambling) for scrambling in (1, 2))
    few, less = deeper(cells, power), max(1, power - 3)
    sampling = (many - others).abs() / 2 + (few - deeper(cells, power - 1)).abs()
    depth = deeper(2 * cells, less) + end(2 * cells, less) - deeper(cells, less) - end(cells, less)
    return few + (many + others) / 2, sampling + depth.abs()


def _end(samples: int, seeds: Sequence[int], cells: int, power: int, scrambling: int, steps: int, rate: float) -> End:
    """The last states, a seed after the other."""
    risk = problem(samples, PLANE, seeds)
    sequence = torch.quasirandom.SobolEngine(2 * PLANE, scramble=True, seed=scrambling)
    drawn = torch.special.ndtri(sequence.draw(2**power, dtype=torch.float64).clamp(TINY, 1 - TINY))
    output, inner = drawn.split(PLANE, 1)
    output, inner = torch.cat([output, -output]), torch.cat([inner, inner])
    equal = output.new_full((len(output),), 1 / len(output))
    start = DepthMeasure(*(part.repeat(1, cells, *[1] * part.ndim) for part in (output, inner, 0 * equal, equal)))
    ends = []
    for run in range(len(seeds)):
        own = risk.select(torch.tensor([run]))
        ends.append(own.states(trained(own, start, steps, rate))[:, -1])
    return torch.cat(ends)
