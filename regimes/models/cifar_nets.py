"""Deep networks for 32 × 32 images as encoder, three stages, head: pre-activation ResNets, wide ones, ResNeXt29."""

from torch import Tensor, nn

from regimes.checks import count, kind
from regimes.models.blocks import basic, convolution, resnext
from regimes.models.image_nets import Shape, require_images
from regimes.models.residual import Block, ResidualNet, Segment


class PadChannels(nn.Module):
    """Shortcut without parameters: every `stride`-th pixel, new channels zero. Source: [HeZhang2015] option A."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.extra, self.stride = channels - channels_in, stride

    def forward(self, z: Tensor) -> Tensor:
        """Thinned and padded z."""
        return nn.functional.pad(z[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra))


def bottleneck(channels_in: int, planes: int, *, stride: int = 1, expansion: int = 4) -> nn.Sequential:
    """Pre-activation bottleneck: thrice norm → ReLU → conv, with kernels 1, 3, 1 and widths planes, planes, 4·planes.

    Source: [HeZhang2016].
    """
    for name, size in (("channels_in", channels_in), ("planes", planes), ("expansion", expansion)):
        count("bottleneck", name, size)
    return nn.Sequential(
        nn.BatchNorm2d(channels_in),
        nn.ReLU(),
        convolution(channels_in, planes, 1),
        nn.BatchNorm2d(planes),
        nn.ReLU(),
        convolution(planes, planes, stride=stride),
        nn.BatchNorm2d(planes),
        nn.ReLU(),
        convolution(planes, expansion * planes, 1),
    )


def preact_resnet(
    shape: Shape,
    classes: int,
    *,
    depth: int = 20,
    widen: int = 1,
    batch_norm: bool = True,
    shortcut: str = "convolution",
) -> ResidualNet:
    """Pre-activation ResNet with stages of 16, 32, 64 channels times `widen`; strides 1, 2, 2.

    depth = 6n + 2 with basic blocks, n a stage (20, 32, 44, 56, 110, ...). A stage whose shape differs from the one
    before starts with a shortcut: "convolution" (1×1 with stride on the raw state) or "pad" (no parameters).
    Source: [HeZhang2016]; "pad" is option A of [HeZhang2015], whose parameter counts it has.
    """
    require_images("preact_resnet", shape, classes)
    count("preact_resnet", "depth", depth)
    if (depth - 2) % 6 or depth < 8:
        raise ValueError(f"preact_resnet needs depth = 6n + 2 with n ≥ 1 (20, 32, 44, 56, 110); got {depth}.")
    return _three_stages(shape, classes, (depth - 2) // 6, widen, batch_norm, shortcut)


def wide_resnet(
    shape: Shape, classes: int, *, depth: int = 28, widen: int = 10, batch_norm: bool = True
) -> ResidualNet:
    """Wide ResNet: stages of 16, 32, 64 channels times `widen`, depth = 6n + 4, which counts the 1×1 shortcuts.

    Source: [ZagoruykoKomodakis2016], without dropout.
    """
    require_images("wide_resnet", shape, classes)
    count("wide_resnet", "depth", depth)
    if (depth - 4) % 6 or depth < 10:
        raise ValueError(f"wide_resnet needs depth = 6n + 4 with n ≥ 1 (16, 22, 28, 40); got {depth}.")
    return _three_stages(shape, classes, (depth - 4) // 6, widen, batch_norm, "convolution")


def preact_bottleneck(shape: Shape, classes: int, *, depth: int = 164) -> ResidualNet:
    """Pre-activation bottleneck ResNet, depth = 9n + 2, planes 16, 32, 64, expansion 4. Source: [HeZhang2016]."""
    require_images("preact_bottleneck", shape, classes)
    count("preact_bottleneck", "depth", depth)
    if (depth - 2) % 9 or depth < 11:
        raise ValueError(f"preact_bottleneck needs depth = 9n + 2 with n ≥ 1 (164); got {depth}.")
    length, entry, segments = (depth - 2) // 9, 16, []
    for planes, stride in ((16, 1), (32, 2), (64, 2)):
        blocks = []
        for number in range(length):
            step = stride if number == 0 else 1
            link = convolution(entry, 4 * planes, 1, stride=step) if number == 0 else None
            blocks.append(Block(bottleneck(entry, planes, stride=step), shortcut=link))
            entry = 4 * planes
        segments.append(Segment(blocks))
    return ResidualNet(convolution(shape[0], 16), segments, _head(entry, classes, batch_norm=True))


def resnext29(
    shape: Shape, classes: int, *, cardinality: int = 8, width: int = 64, compat: bool = False
) -> ResidualNet:
    """ResNeXt29 for 32 × 32 images: three stages of three blocks, planes 64, 128, 256, strides 1, 2, 2.

    `compat` puts the ReLU of the author code of [Karkar2020] on the residual. Source: [Xie2017], 8x64d and 16x64d.
    """
    require_images("resnext29", shape, classes)
    kind("resnext29", "compat", compat, bool, "True or False")
    entry, segments = 64, []
    for planes, stride in ((64, 1), (128, 2), (256, 2)):
        blocks = []
        for number in range(3):
            step = stride if number == 0 else 1
            blocks.append(
                resnext(entry, planes, cardinality=cardinality, width=width, stride=step, relu_on_residual=compat)
            )
            entry = 4 * planes
        segments.append(Segment(blocks))
    encoder = nn.Sequential(convolution(shape[0], 64), nn.BatchNorm2d(64), nn.ReLU())
    return ResidualNet(
        encoder, segments, nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(entry, classes))
    )


def _three_stages(shape: Shape, classes: int, length: int, widen: int, batch_norm: bool, shortcut: str) -> ResidualNet:
    count("a residual net", "widen", widen)
    kind("a residual net", "batch_norm", batch_norm, bool, "True or False")
    if shortcut not in ("convolution", "pad"):
        raise ValueError(f"shortcut needs one of convolution, pad; got {shortcut!r}.")
    entry, segments = 16, []
    for width, stride in ((16 * widen, 1), (32 * widen, 2), (64 * widen, 2)):
        blocks = []
        for number in range(length):
            step = stride if number == 0 else 1
            link: nn.Module | None = None
            if step != 1 or entry != width:
                link = (
                    convolution(entry, width, 1, stride=step)
                    if shortcut == "convolution"
                    else PadChannels(entry, width, step)
                )
            blocks.append(Block(basic(width, channels_in=entry, stride=step, batch_norm=batch_norm), shortcut=link))
            entry = width
        segments.append(Segment(blocks))
    return ResidualNet(convolution(shape[0], 16), segments, _head(entry, classes, batch_norm=batch_norm))


def _head(features: int, classes: int, *, batch_norm: bool) -> nn.Sequential:
    norm = [nn.BatchNorm2d(features)] if batch_norm else []
    return nn.Sequential(*norm, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, classes))
