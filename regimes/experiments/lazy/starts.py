"""Nets and samples that the statements on the scale α share: drawn afresh for each seed, the same at every scale."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from regimes.conventions import generator
from regimes.data.synthetic import sphere
from regimes.meanfield.particles import Particles, double, gaussian
from regimes.streams import LazyNet

Start = Literal["doubled", "centred", "plain", "wide"]


def net(start: str, width: int, inputs: int, seed: int) -> Particles:
    """Gaussian neurons; the doubled net, half of them and their mirror images, is as wide as the others."""
    if start == "doubled":
        return double(gaussian(width // 2, inputs, generators=[generator(seed, LazyNet.WEIGHTS)]))
    return gaussian(width, inputs, generators=[generator(seed, LazyNet.WEIGHTS)])


def nets(points: Iterable[dict[str, Any]], inputs: int, width: int | None = None) -> Particles:
    """The nets of all points as one ensemble, of one width: the points' own, or the one given."""
    made = [net(point["start"], width or point["width"], inputs, point["seed"]) for point in points]
    return Particles(*(torch.cat(part) for part in zip(*made, strict=True)))


def on_sphere(
    count: int, inputs: int, seeds: Sequence[int], stream: LazyNet = LazyNet.INPUTS
) -> Float[Tensor, "runs n d"]:
    """Points of the unit sphere for each seed; those of training unless another stream is named."""
    return torch.stack([sphere(count, inputs, generator=generator(seed, stream)) for seed in seeds])


def targets(count: int, seeds: Sequence[int]) -> Float[Tensor, "runs n 1"]:
    """Standard Gaussian targets for each seed."""
    return torch.stack(
        [torch.randn(count, 1, generator=generator(seed, LazyNet.TARGETS), dtype=torch.float64) for seed in seeds]
    )


def is_centred(points: Iterable[dict[str, Any]]) -> Bool[Tensor, "runs 1 1"]:
    """Which nets are trained as h − h(w_0)."""
    return torch.tensor([point["start"] == "centred" for point in points])[:, None, None]
