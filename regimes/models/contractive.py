"""Steps that bring no two states apart, and networks made of them: every part has a proved Lipschitz constant.

One Euler step of a gradient field, z⁺ = z − h Aᵀσ(Az + b) with 0 ≤ σ' ≤ c, has the Jacobian I − h AᵀDA with a diagonal
D between 0 and c: symmetric, its eigenvalues between 1 − ch‖A‖² and 1. (So is the mean Jacobian between two states.) So
it is 1-Lipschitz for h ≤ 2/(c‖A‖²). With the longest such h it is the convex potential layer of [MeunierDelattre2022].
‖A‖ is bounded from above by Gram iteration, in every forward pass: the step is part of the net and learned with it, and
A has no constraint.
Source: [Celledoni2021] for the field, [MeunierDelattre2022] for the layer.
"""

from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from regimes.activations import RELU, Activation, require_activation, require_rising
from regimes.checks import count, counts, positive
from regimes.models.gradient_blocks import GradientField
from regimes.models.norm_bounds import (
    ITERATIONS,
    gram_norm,
    gram_norm_of_convolution,
    norm_bound,
    norm_bound_of_convolution,
    scaled_down,
)
from regimes.models.potentials import gradient
from regimes.models.residual import Block, ResidualNet, Segment
from regimes.modules.hooks import altered
from regimes.modules.settings import without_autocast

Shape = tuple[int, ...]
UP = 1 + 2.0**-40  # far above the rounding of the few float64 operations that it follows


class GradientConvolution(nn.Module):
    """r(z) = −Aᵀσ(Az + b) on images of `size`, A a convolution with zero padding: `GradientField` with that A.

    A maps `channels` to `hidden` (the same unless given) at one resolution; `kernel`, its width, is odd.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        hidden: int | None = None,
        *,
        kernel: int = 3,
        activation: Activation = RELU,
    ) -> None:
        super().__init__()
        count("GradientConvolution", "channels", channels)
        count("GradientConvolution", "kernel", kernel)
        hidden = channels if hidden is None else count("GradientConvolution", "hidden", hidden)
        height, wide = counts("GradientConvolution", "size", size, 2)
        self.size = (height, wide)
        if kernel % 2 == 0:
            raise ValueError(f"GradientConvolution needs kernel as an odd number; got {kernel}. Try {kernel + 1}.")
        require_activation(activation, "GradientConvolution")
        self.convolution = nn.Conv2d(channels, hidden, kernel, padding=kernel // 2)
        self.activation = activation

    def forward(self, z: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n channels height width"]:
        """r(z); images of another size have another ‖A‖ and are refused."""
        if tuple(z.shape[2:]) != self.size:
            raise ValueError(f"GradientConvolution needs images of size {self.size}; got {tuple(z.shape[2:])}.")
        return -gradient(self.convolution, self.activation, z)


class ContractiveStep(nn.Module):
    """h r(z) with the longest step h = 2/(c‖A‖²) for which z + h r(z) brings no two states apart; for a `Block`.

    r: a `GradientField` or `GradientConvolution`, c the largest slope of its activation, which may not fall. ‖A‖ is
    replaced by its bound from `iterations` Gram iterations: h is up to rank(A)^(2^−iterations) times too small. It is 0
    for A = 0, and never above the root of the largest number of the weights' precision.
    """

    def __init__(self, field: GradientField | GradientConvolution, *, iterations: int = ITERATIONS) -> None:
        super().__init__()
        if type(field) not in (GradientField, GradientConvolution):  # what inherits from them may be another field
            raise ValueError(f"ContractiveStep needs a gradient field; got {type(field).__name__}. Try GradientField.")
        require_rising(field.activation, "ContractiveStep")
        self.field, self.iterations = field, count("ContractiveStep", "iterations", iterations)

    def step(self) -> Float[Tensor, ""]:
        """h, in the precision of the weights whatever autocast says."""
        field = self.field
        with without_autocast(next(field.parameters()).device):
            if isinstance(field, GradientConvolution):
                norm = gram_norm_of_convolution(field.convolution.weight, field.size, self.iterations)
            else:
                norm = gram_norm(field.linear.weight, self.iterations)
            slope, longest = field.activation.lipschitz, torch.finfo(norm.dtype).max ** 0.5
            step = norm.clamp(min=(2 / (slope * longest)) ** 0.5).reciprocal().square() * (2 / slope)
            return torch.where(norm == 0, 0.0, step)

    def forward(self, z: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        """h r(z)."""
        return self.step() * self.field(z)

    def lipschitz_of_block(self) -> float:
        """A proved bound of the Lipschitz constant of z + h r(z), max(1, ch‖A‖² − 1), for h as it was computed.

        ValueError: a field that has been changed into another one, by hooks or in its parts.
        """
        field = self.field
        _require_as_made(self)
        if isinstance(field, GradientConvolution):
            norm = float(norm_bound_of_convolution(field.convolution.weight, field.size))
        else:
            norm = float(norm_bound(field.linear.weight))
        longest = field.activation.lipschitz * float(self.step().detach()) * norm * norm * UP - 1
        return 1.0 if longest <= 1 else longest  # NaN stays NaN


def _require_as_made(step: ContractiveStep) -> None:
    """Refuse a field whose parts are not those with which it was made: the norm of A would say nothing of it."""
    field = step.field
    own = type(field) in (GradientField, GradientConvolution) and not any(altered(part) for part in step.modules())
    if own and isinstance(field, GradientConvolution):
        layer = field.convolution
        padding = tuple(side // 2 for side in layer.weight.shape[2:])
        found = (layer.stride, layer.dilation, layer.padding, layer.groups, layer.padding_mode)
        own = type(layer) is nn.Conv2d and found == ((1, 1), (1, 1), padding, 1, "zeros")
    elif own:
        own = type(field.linear) is nn.Linear
    if not own:
        raise ValueError(
            "a contractive step has a known Lipschitz constant with the layers with which it was made, without hooks "
            "and parametrisations; this one has been changed. Make a new one with the weights as they are."
        )
    require_rising(field.activation, "a contractive step")


class NormedLinear(nn.Linear):
    """z ↦ W z/‖W‖ + b, with ‖W‖ replaced by its bound from Gram iteration: 1-Lipschitz up to rounding.

    W = 0 stays as it is.
    """

    def __init__(self, inputs: int, outputs: int, *, iterations: int = ITERATIONS) -> None:
        count("NormedLinear", "inputs", inputs)
        count("NormedLinear", "outputs", outputs)
        super().__init__(inputs, outputs)
        self.iterations = count("NormedLinear", "iterations", iterations)

    def effective_weight(self) -> Float[Tensor, "out in"]:
        """W/‖W‖."""
        with without_autocast(self.weight.device):
            norm = gram_norm(self.weight, self.iterations)
            return self.weight / torch.where(norm == 0, 1.0, norm)

    def forward(self, input: Float[Tensor, "*n in"]) -> Float[Tensor, "*n out"]:
        """The map."""
        return linear(input, self.effective_weight(), self.bias)


class UnitRows(nn.Linear):
    """z ↦ s·(V z + b), the rows of V of length 1, or 0: no two outputs differ by more than 2s times the change of z.

    A row of zeros has gradient 0. For the last layer. The scale s changes neither classes nor radii; cross-entropy sees
    outputs s times larger, as with the temperature 1/s. Source: [SinglaFeizi2022].
    """

    def __init__(self, inputs: int, outputs: int, *, scale: float = 1.0) -> None:
        count("UnitRows", "inputs", inputs)
        count("UnitRows", "outputs", outputs)
        super().__init__(inputs, outputs)
        positive("UnitRows", "scale", scale, single=True)
        self.scale = float(scale)

    def effective_weight(self) -> Float[Tensor, "out in"]:
        """s V."""
        rows = scaled_down(self.weight, 1)[0]  # as squares of its entries could vanish
        zero = (rows == 0).all(1, keepdim=True)
        lengths = torch.linalg.vector_norm(torch.where(zero, 1.0, rows), dim=1, keepdim=True)
        return self.scale * torch.where(zero, 0.0, rows / lengths)

    def forward(self, input: Float[Tensor, "*n in"]) -> Float[Tensor, "*n out"]:
        """The map."""
        return linear(input, self.effective_weight(), self.scale * self.bias)


class PairSort(nn.Module):
    """Each pair of neighbouring features in order, the smaller first: distances never grow. Source: [Anil2019]."""

    def forward(self, z: Float[Tensor, "n features"]) -> Float[Tensor, "n features"]:
        """The sorted pairs."""
        if z.shape[-1] % 2:
            raise ValueError(f"PairSort needs an even number of features; got {z.shape[-1]}. Change the width.")
        return z.unflatten(-1, (-1, 2)).sort(-1).values.flatten(-2)


class Padded(nn.Module):
    """Zeros after the last of each axis of the features, up to a shape: distances stay."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = counts("Padded", "shape", shape)

    def forward(self, z: Float[Tensor, "n *feature"]) -> Tensor:
        """The padded features."""
        if z.dim() != len(self.shape) + 1 or any(a > b for a, b in zip(z.shape[1:], self.shape, strict=True)):
            raise ValueError(f"Padded needs features no larger than {self.shape}; got {tuple(z.shape[1:])}.")
        missing = [b - a for a, b in zip(z.shape[1:], self.shape, strict=True)]
        return pad(z, [side for size in reversed(missing) for side in (0, size)])


def contractive_net(
    shape: Shape,
    classes: int,
    *,
    layers: str | None = None,
    blocks: int = 4,
    filters: int = 32,
    unshuffle: int = 4,
    dense_blocks: int = 2,
    width: int = 256,
    hidden: int | None = None,
    scale: float = 10.0,
    iterations: int = ITERATIONS,
) -> ResidualNet:
    """1-Lipschitz encoder, `blocks` contractive steps, head whose outputs differ by at most 2·scale times the change.

    layers="convolutional" (images unless told otherwise): φ moves squares of `unshuffle` × `unshuffle` pixels into
    channels and adds channels of zeros up to `filters` (a permutation and zeros: distances stay); the steps are
    convolutions; F is a normed linear map to `width` features, `dense_blocks` dense steps, and rows of length 1.
    layers="dense": φ is a normed linear map to `width` features; the steps are dense, F has rows of length 1 alone.
    hidden: rows of A in dense steps, `width` unless given. `lipschitz_bound` gives the constant of the whole network.
    """
    features = prod(counts("contractive_net", "shape", shape))
    sizes = {"classes": classes, "blocks": blocks, "filters": filters, "unshuffle": unshuffle, "width": width}
    for name, size in {**sizes, "iterations": iterations}.items():
        count("contractive_net", name, size)
    count("contractive_net", "dense_blocks", dense_blocks, at_least=0)
    layers = ("convolutional" if len(shape) == 3 else "dense") if layers is None else layers
    if layers not in ("convolutional", "dense") or (layers == "convolutional" and len(shape) != 3):
        raise ValueError(
            f"contractive_net needs layers as dense, or convolutional for images of shape (channels, height, width); "
            f"got {layers!r} for inputs of shape {tuple(shape)}."
        )

    def normed(inputs: int) -> NormedLinear:
        return NormedLinear(inputs, width, iterations=iterations)

    def steps(number: int) -> list[Block]:
        fields = [GradientField(width, hidden, activation=RELU) for _ in range(number)]
        return [Block(ContractiveStep(field, iterations=iterations)) for field in fields]

    last = UnitRows(width, classes, scale=scale)
    if layers == "dense":
        return ResidualNet(nn.Sequential(nn.Flatten(), normed(features)), [Segment(steps(blocks))], last)
    channels, *sides = shape
    high, wide = (-(-side // unshuffle) for side in sides)
    filters = max(filters, channels * unshuffle**2)
    encoder = nn.Sequential(
        Padded((channels, high * unshuffle, wide * unshuffle)),
        nn.PixelUnshuffle(unshuffle),
        Padded((filters, high, wide)),
    )
    fields = [GradientConvolution(filters, (high, wide)) for _ in range(blocks)]
    segment = Segment(Block(ContractiveStep(field, iterations=iterations)) for field in fields)
    head = nn.Sequential(nn.Flatten(), normed(filters * high * wide), *steps(dense_blocks), last)
    return ResidualNet(encoder, [segment], head)
