"""The problems: a cloud, a risk, a net from its random start, and the true minimiser where it is known.

Problems with a known minimiser: the risk is the squared distance W₂²(T♯α, ν)/V to a target law ν, so with any w > 0
    T_w = (1 − t) id + t T_ν,   t = 1/(1 + w),   least value w/(1 + w) · W₂²(α, ν)/V,
a point of the geodesic from α to ν with T_ν the optimal map to ν; classes have their own ν. Exact on the training
cloud, as risk and T_ν are built from that very cloud.
* `plane`, `space`: Gaussian to Gaussian in d = 2 and 8, Bures distance of mean and covariance, T_ν the Bures map;
* `line`: d = 1, N(0, 1) to its image under x + tanh 2x, two humps; distance by sorting;
* `crossing`: two blobs in the plane, each a class with its own Gaussian target, in positions that have crossed.
Problems without one: `circles` (T in the plane, learned linear head), and one of `digits`, `mnist`: ResNet9 with few
filters and batch norm, its encoder FROZEN at the random start and φ scaled to unit variance a feature, so that α is the
same cloud at every weight; T in eval mode, on test images. There, beside the fixed weights, the method of multipliers
from the largest weight on: λ grows by growth·risk every 5 steps.
All nets of a seed start from the same Kaiming weights, whatever w: gain 1 for images; 0.5 for dense nets, which then
move points by about a deviation of the cloud. (Gain 1 moves them ten times as far; in `plane`, on other seeds, Adam was
then far from the known least value after 1,500 steps, at gain 0.5 within 1 % of it after 800. That, and no gap, chose
gain, rate and steps; how far each run stays above the least value is measured.) Full-batch Adam (images: batches),
cosine schedule.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from regimes.conventions import generator
from regimes.data.classification import Labelled, classification
from regimes.data.synthetic import circles
from regimes.experiments.least_action.least_action_is_ot.cloud_risks import (
    label_risk,
    moment_risk,
    moments,
    sorted_risk,
)
from regimes.models.image_nets import dense_net, resnet9
from regimes.models.initialise import initialise, kaiming
from regimes.models.residual import ResidualNet
from regimes.streams import KnownMap
from regimes.transport.gaussian import bures_cost, bures_map

KNOWN = ("plane", "space", "line", "crossing")
IMAGES = ("digits", "mnist")
CLASSIFIED = ("circles", *IMAGES)
LEAST_DEVIATION, MOST_DEVIATION = 0.7, 1.4  # of the Gaussians, along their axes
BLOB = 0.2

Truth = Callable[[Tensor, Tensor], Tensor]


@runtime_checkable
class Sizes(Protocol):
    """What of the configuration the problems need."""

    @property
    def samples(self) -> int: ...
    @property
    def fresh(self) -> int: ...
    @property
    def blocks(self) -> int: ...
    @property
    def hidden(self) -> int: ...
    @property
    def gain(self) -> float: ...
    @property
    def images(self) -> int: ...
    @property
    def filters(self) -> int: ...


class Problem(NamedTuple):
    """A cloud α (`train`), points of its law that training does not see (`fresh`), and what is minimised on it.

    The risk is risk(output, labels, *target); `variance` is V = E‖x − Ex‖² of the training cloud; `truth(x, labels)` is
    T_ν and `cost` is W₂²(α, ν), within classes, where they are known. The model's encoder is the identity.
    """

    name: str
    model: ResidualNet
    risk: Callable[..., Tensor]
    train: Labelled
    fresh: Labelled
    variance: float
    target: tuple[Tensor, ...] = ()
    truth: Truth | None = None
    cost: float | None = None

    def value(self, output: Tensor, labels: Tensor) -> Tensor:
        """The risk of this problem's target."""
        return self.risk(output, labels, *self.target)


def problem(name: str, sizes: Sizes, seed: int) -> Problem:
    """The problem of that name; data and weights depend on the seed alone."""
    data, fresh = generator(seed, KnownMap.DATA), generator(seed, KnownMap.FRESH)
    if name == "plane" or name == "space":
        return _gaussian(name, 2 if name == "plane" else 8, sizes, seed, data, fresh)
    if name == "crossing":
        return _crossing(sizes, seed, data, fresh)
    if name == "line":
        return _line(sizes, seed, data, fresh)
    if name == "circles":
        parts = [Labelled(*circles(n, generator=stream)) for n, stream in ((sizes.samples, data), (sizes.fresh, fresh))]
        return Problem(name, _dense(sizes, 2, 2, seed), label_risk, parts[0], parts[1], variance(parts[0].x))
    return _images(name, sizes, seed)


def variance(x: Float[Tensor, "n *feature"]) -> float:
    """E‖x − Ex‖²: norm summed over features, mean over samples."""
    return float((x - x.mean(0)).square().flatten(1).sum(1).mean())


def _dense(sizes: Sizes, d: int, classes: int, seed: int) -> ResidualNet:
    """Dense net in float64; classes 0: no head, the output is T(x)."""
    net = dense_net((d,), max(classes, 1), blocks=sizes.blocks, hidden=sizes.hidden, head=classes > 0).double()
    initialise(net, kaiming, sizes.gain, generator=generator(seed, KnownMap.WEIGHTS))
    return net


def _normal(n: int, d: int, stream: torch.Generator) -> Float[Tensor, "n d"]:
    return torch.randn(n, d, generator=stream, dtype=torch.float64)


def _covariance(d: int, stream: torch.Generator) -> Float[Tensor, "d d"]:
    """Random axes; deviations along them log-uniform between the two limits."""
    axes = torch.linalg.qr(_normal(d, d, stream))[0]
    ratio = MOST_DEVIATION / LEAST_DEVIATION
    deviations = LEAST_DEVIATION * ratio ** torch.rand(d, generator=stream, dtype=torch.float64)
    return axes @ torch.diag(deviations.square()) @ axes.T


def _gaussian(name: str, d: int, sizes: Sizes, seed: int, data: torch.Generator, fresh: torch.Generator) -> Problem:
    """N(0, C) to N(m, D), ‖m‖ = 1."""
    root = torch.linalg.cholesky(_covariance(d, data))
    covariance, shift = _covariance(d, data), _normal(1, d, data)
    parts = [_unlabelled(_normal(n, d, stream) @ root.T) for n, stream in ((sizes.samples, data), (sizes.fresh, fresh))]
    return _to_moments(name, _dense(sizes, d, 0, seed), parts, shift / shift.norm(), covariance[None])


def _crossing(sizes: Sizes, seed: int, data: torch.Generator, fresh: torch.Generator) -> Problem:
    """Class 0 around (−1, 0) goes to (1, 1), class 1 around (1, 0) to (−1, −1): exchanging the two costs less."""
    centre = torch.tensor([[-1.0, 0.0], [1.0, 0.0]], dtype=torch.float64)
    target = torch.tensor([[1.0, 1.0], [-1.0, -1.0]], dtype=torch.float64)
    parts = []
    for n, stream in ((sizes.samples, data), (sizes.fresh, fresh)):
        labels = torch.arange(n) % 2
        parts.append(Labelled(centre[labels] + BLOB * _normal(n, 2, stream), labels))
    covariance = BLOB**2 * torch.eye(2, dtype=torch.float64).expand(2, 2, 2)
    return _to_moments("crossing", _dense(sizes, 2, 0, seed), parts, target, covariance)


def _to_moments(
    name: str,
    model: ResidualNet,
    parts: list[Labelled],
    mean: Float[Tensor, "classes d"],
    covariance: Float[Tensor, "classes d d"],
) -> Problem:
    """Each class to its own mean and covariance; T_ν is the Bures map from the training cloud's own moments."""
    train, fresh = parts
    own = [moments(train.x[train.labels == c]) for c in range(len(mean))]
    maps = [bures_map(*own[c], mean[c], covariance[c]) for c in range(len(mean))]
    shares = [float((train.labels == c).double().mean()) for c in range(len(mean))]
    cost = sum(
        share * float(bures_cost(*have, m, c)) for share, have, m, c in zip(shares, own, mean, covariance, strict=True)
    )

    def truth(x: Float[Tensor, "n d"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n d"]:
        return torch.stack([towards(x) for towards in maps])[labels, torch.arange(len(x))]

    values, vectors = torch.linalg.eigh(covariance)
    root = vectors @ torch.diag_embed(values.sqrt()) @ vectors.mT
    v = variance(train.x)
    target = (mean, root, torch.tensor(v, dtype=torch.float64))
    return Problem(name, model, moment_risk, train, fresh, v, target, truth, cost)


def humps(x: Tensor) -> Tensor:
    """The increasing map x + tanh 2x, slope at most 3."""
    return x + torch.tanh(2 * x)


def _line(sizes: Sizes, seed: int, data: torch.Generator, fresh: torch.Generator) -> Problem:
    parts = [_unlabelled(_normal(n, 1, stream)) for n, stream in ((sizes.samples, data), (sizes.fresh, fresh))]
    x = parts[0].x
    v, cost = variance(x), float((humps(x) - x).square().mean())
    target = (humps(x)[:, 0].sort().values, torch.tensor(v, dtype=torch.float64))

    def truth(points: Float[Tensor, "n 1"], labels: Int[Tensor, " n"]) -> Float[Tensor, "n 1"]:
        return humps(points)

    return Problem("line", _dense(sizes, 1, 0, seed), sorted_risk, parts[0], parts[1], v, target, truth, cost)


def _unlabelled(x: Float[Tensor, "n d"]) -> Labelled:
    return Labelled(x, torch.zeros(len(x), dtype=torch.int64))


@torch.no_grad()
def _images(name: str, sizes: Sizes, seed: int) -> Problem:
    """φ frozen at its random start and scaled to unit variance a feature; T and F learn on its outputs."""
    test = None if name == "digits" else sizes.fresh
    data = classification(name, train_size=sizes.images, test_size=test, seed=seed)
    net = resnet9(data.shape, data.classes, filters=sizes.filters)
    initialise(net, kaiming, generator=generator(seed, KnownMap.WEIGHTS))
    phi = net.encoder(data.normalise(data.train.x))
    scale = (variance(phi) / phi[0].numel()) ** 0.5
    train = Labelled(phi / scale, data.train.labels)
    fresh = Labelled(net.encoder(data.normalise(data.test.x[: sizes.fresh])) / scale, data.test.labels[: sizes.fresh])
    segments: Any = list(net.segments)
    model = ResidualNet(nn.Identity(), segments, net.head)
    return Problem(name, model, label_risk, train, fresh, variance(train.x))
