"""Products with ½ D²h(x − T(x)) J, which is symmetric and positive for an optimal map T, all points at once."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from regimes.modules.jacobian import Map, Road, by_transforms, plain_kernels


class JacobianProducts:
    """Products of M = ½ D²h(x − T(x)) J, of Mᵀ and of their mean with a vector a point, all points at once.

    With an encoder φ they are those of Dφᵀ M Dφ, M at φ(x). Lengths are measured in `unit`, so that M is in
    unit^(p − 2). `road` is that of `road_for`.
    """

    def __init__(
        self,
        transport_map: Map,
        x: Float[Tensor, "n *feature"],
        p: float,
        encoder: Map | None = None,
        *,
        unit: float = 1.0,
        road: Road = by_transforms,
    ):
        self.x, self.p = x.detach().clone(), p
        with self._ready():
            self._start = None if encoder is None else road(encoder, self.x)
            start = self.x if self._start is None else self._start.value
            self._end = road(transport_map if encoder is None else lambda z: transport_map(encoder(z)), self.x)
        self.difference = (start - self._end.value).flatten(1) / unit  # x − T(x), minus the displacement

    def forward(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        with self._ready():
            moved = self._curvature(self._end.push(v))
            return moved if self._start is None else self._start.pull(moved)

    def backward(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        with self._ready():
            return self._end.pull(self._curvature(v if self._start is None else self._start.push(v)))

    def symmetric(self, v: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        return (self.forward(v) + self.backward(v)) / 2

    @contextmanager
    def _ready(self) -> Iterator[None]:
        with torch.inference_mode(False), torch.no_grad(), plain_kernels(self.x.device):
            yield

    def _curvature(self, v: Tensor) -> Tensor:
        """½ D²h(z) v = ½ p ‖z‖^(p−2) (v + (p − 2) z ⟨z, v⟩/‖z‖²)."""
        if self.p == 2:
            return v
        z, flat = self.difference, v.flatten(1)
        size = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        along = (z / size) * ((z / size) * flat).sum(1, keepdim=True)
        return (self.p / 2 * size ** (self.p - 2) * (flat + (self.p - 2) * along)).reshape(v.shape)
