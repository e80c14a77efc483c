"""Networks whose layers are steps of z' = σ(K(t)z + b(t)), with learned lengths of the steps.

z_{l+1} = z_l + h_l σ(K_l z_l + b_l): each layer has its own K_l, b_l and its own h_l, which is trained. Free steps may
become negative; on the simplex h_l ≥ 0 and Σ h_l = 1, by projection after each step of the optimiser, and many become
0. Source: [Benning2019].
"""

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regimes.activations import activation as activation_of
from regimes.checks import count, counts, kind, positive
from regimes.control.simplex import onto_simplex
from regimes.models.image_nets import Shape, encoder_of, head_of
from regimes.models.residual import Block, ResidualNet, Segment
from regimes.modules.samples import readable


class Scaled(nn.Module):
    """h r(z), with a trained h."""

    def __init__(self, residual: nn.Module, step: float) -> None:
        super().__init__()
        self.residual = residual
        self.step = nn.Parameter(torch.tensor(float(step)))

    def forward(self, z: Tensor) -> Tensor:
        """The step of the layer."""
        return self.step * self.residual(z)


class StepBlock(Block):
    """Block z ↦ z + h r(z), whose h is trained with the rest."""

    residual: Scaled

    def __init__(self, residual: nn.Module, step: float) -> None:
        super().__init__(Scaled(residual, step))


class SimplexSegment(Segment):
    """StepBlocks whose steps are h_l ≥ 0 with Σ h_l = 1: projected where the segment is called, and when it is loaded.

    Called right after a step of the optimiser, this is projected gradient descent. ValueError: within transforms of
    torch.func in training mode, where steps cannot be put back.
    """

    regroups = False

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__(blocks)
        if strange := [type(block).__name__ for block in self.blocks if not isinstance(block, StepBlock)]:
            raise ValueError(
                f"SimplexSegment needs blocks with trained steps; got {strange[0]}. Wrap it: StepBlock(r, h)."
            )
        self.register_load_state_dict_post_hook(_project)

    def steps(self) -> list[Tensor]:
        """h of each block, in order."""
        return [_step(block) for block in self.blocks]

    @torch.no_grad()
    def project(self) -> None:
        """Put the steps on the simplex, unless they are there to rounding: a graph may hold them.

        Steps that are no numbers stay as they are: the loss of such a net is none either, and says that it diverged.
        """
        steps = self.steps()
        if steps[0].device.type == "meta":
            return
        wide = torch.stack(steps).double()
        there = bool((wide >= 0).all()) and abs(float(wide.sum()) - 1) <= torch.finfo(steps[0].dtype).eps
        if there or not bool(wide.isfinite().all()):
            return
        for step, value in zip(steps, onto_simplex(wide), strict=True):
            step.copy_(value)

    def acting(self) -> list[tuple[Block, Tensor | None]]:
        """The blocks in order, their steps on the simplex."""
        if readable():
            self.project()
        elif self.training:
            raise ValueError("steps on the simplex are projected after each step: they are not trained side by side.")
        return super().acting()


def _step(block: nn.Module) -> nn.Parameter:
    assert isinstance(block, StepBlock)
    return block.residual.step


def _project(segment: nn.Module, keys: Any) -> None:
    assert isinstance(segment, SimplexSegment)
    segment.project()


def ode_net(
    shape: Shape,
    classes: int,
    *,
    filters: int = 32,
    blocks: int = 9,
    simplex: bool = False,
    time: float = 1.0,
    activation: str = "tanh",
    head: str = "two_layer",
    downsample: bool | None = None,
) -> ResidualNet:
    """ODENet: `blocks` layers z + h_l σ(K_l z + b_l), K_l a convolution 3×3 of `filters` channels, h_l = time/blocks.

    simplex: the steps stay on the unit simplex, so `time` is 1. On inputs that are no images K_l is dense. Encoder and
    head are those of ResNet9; else φ is a linear map to `filters` features. Source: [Benning2019]; there h_0 = 1/20 at
    20 layers, and σ = tanh.
    """
    count("odenet", "classes", classes)
    count("odenet", "filters", filters)
    count("odenet", "blocks", blocks)
    kind("odenet", "simplex", simplex, bool, "True or False")
    positive("odenet", "time", time, single=True)
    if simplex and time != 1:
        raise ValueError(f"odenet with simplex needs time 1, the sum of its steps; got {time}. Leave time out.")
    features, image = prod(counts("odenet", "shape", shape)), len(shape) == 3
    if image:
        if filters < 2:
            raise ValueError(f"odenet needs at least 2 filters, the encoder has half of them first; got {filters}.")
        encoder, places = encoder_of(shape, classes, filters, downsample)
    else:
        encoder, places = nn.Sequential(nn.Flatten(), nn.Linear(features, filters)), 1
    sigma = activation_of(activation).value
    made = [StepBlock(Layer(filters, image, sigma), time / blocks) for _ in range(blocks)]
    segment = SimplexSegment(made) if simplex else Segment(made)
    return ResidualNet(encoder, [segment], head_of(head, filters * places, classes))


class Layer(nn.Module):
    """σ(Kz + b), K a convolution 3×3 that keeps channels and resolution, or dense."""

    def __init__(self, width: int, image: bool, activation: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear = nn.Conv2d(width, width, 3, padding=1) if image else nn.Linear(width, width)
        self.activation = activation

    def forward(self, z: Float[Tensor, "n width *image"]) -> Float[Tensor, "n width *image"]:
        """The velocity."""
        return self.activation(self.linear(z))
