"""How much the map T of a net stretches and squeezes, and what noise on the images costs the net in accuracy."""

from typing import Annotated, Any

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor
from torch.func import jacrev, vmap

from regimes.conventions import generator
from regimes.experiments.least_action.small_nets.course import Course, Start, Weights, course, looked_at, rows_of
from regimes.experiments.least_action.small_nets.settings import SmallNets
from regimes.streams import SmallNet
from regimes.transport.regularity import regularity


class Config(SmallNets):
    """Data, nets, training and noise; configs/regular_map.yaml is the real size."""

    train_size: int = Field(50, ge=2, description="training images")
    width: int = Field(16, ge=1, description="features of the states")
    points: int = Field(20, ge=3, description="test images at which the map is differentiated")
    noise: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.5, 1.0), min_length=1, description="deviations of the noise; 1 is that of the pixels"
    )

    @model_validator(mode="after")
    def fitting(self) -> "Config":
        """The map is differentiated at test images."""
        if self.points > self.test_size:
            raise ValueError(
                f"points {self.points} is more than test_size {self.test_size}: lower points, or raise test_size"
            )
        return self


def measure(config: Config, points: list[dict[str, Any]]) -> list[dict[str, float]]:
    """One row a net: its accuracies, and at equal risk the stretch of its map and its accuracies under noise."""
    seeds = [point["seed"] for point in points]
    found = course(
        config, points[0]["arm"], config.train_size, config.width, [Start(seed, config.gain) for seed in seeds]
    )
    rows, weights = rows_of(found), found.equal.weights
    for row, more in zip(rows, regular(found, weights, config.points), strict=True):
        row |= {f"equal_{name}": value for name, value in more.items()}
    for size in config.noise:
        for row, accuracy in zip(rows, noisy(found, weights, seeds, size).tolist(), strict=True):
            row[f"equal_noisy_{size:g}"] = accuracy
    return rows


def stretches(transport: Any, z: Float[Tensor, "n d"]) -> tuple[Tensor, Tensor]:
    """Largest and least singular value of the Jacobian DT at each point."""
    jacobians = vmap(jacrev(lambda one: transport(one[None])[0]))(z)
    values = torch.linalg.svdvals(jacobians.double())
    return values[:, 0], values[:, -1]


@torch.no_grad()
def regular(course: Course, weights: Weights, points: int) -> list[dict[str, float]]:
    """Of each net, at the first test images: stretch of T and of T⁻¹, geometric means and largest; and over pairs.

    stretch: σ_max(DT) at φ(x); inverse_stretch: 1/σ_min(DT). pair_...: largest over pairs of these points
    (`transport.regularity`), a lower bound of the Lipschitz constant. encoder: ‖φ‖, the stretch of the linear encoder.
    """
    course.nets.load_state_dict(weights)
    found = []
    for number in range(course.nets.size):
        net: Any = course.nets.member(number)
        z = net.encoder(course.test.x[number, :points])
        transport = net.segment(0).transport
        most, least = stretches(transport, z)
        apart = regularity(z, transport(z))
        linear = next(part for part in net.encoder.modules() if isinstance(part, torch.nn.Linear))
        values = {
            "stretch": most.log().mean().exp(),
            "inverse_stretch": (-least.log().mean()).exp(),
            "largest_stretch": most.max(),
            "largest_inverse_stretch": 1 / least.min(),
            "pair_stretch": apart.lipschitz,
            "pair_inverse_stretch": apart.inverse_lipschitz,
            "encoder": torch.linalg.matrix_norm(linear.weight, 2),
        }
        found.append({name: float(value) for name, value in values.items()})
    return found


def noisy(course: Course, weights: Weights, seeds: list[int], size: float) -> Float[Tensor, " nets"]:
    """Accuracy of each net on its test images plus Gaussian noise of this deviation; one draw a seed, for all arms."""
    x = course.test.x
    noise = torch.stack([torch.randn(x.shape[1:], generator=generator(seed, SmallNet.NOISE)) for seed in seeds])
    return looked_at(course.nets, weights, course.test._replace(x=x + size * noise))["accuracy"]
