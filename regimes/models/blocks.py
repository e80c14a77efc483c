"""Residual functions r(z) of the published networks, and the blocks made of them."""

from collections.abc import Callable

from torch import Tensor, nn

from regimes.checks import count, kind
from regimes.models.residual import Block
from regimes.modules.samples import readable


class GroupNorm(nn.GroupNorm):
    """torch's, for images also under torch.vmap, where torch cannot ask for their memory format: of rows of pixels."""

    def forward(self, input: Tensor) -> Tensor:
        """The norm."""
        if readable() or input.ndim == 2:
            return super().forward(input)
        return super().forward(input.flatten(2)).view_as(input)


def dense(width: int, hidden: int | None = None, *, batch_norm: bool = False) -> nn.Sequential:
    """Linear(d → hidden) [→ batch norm] → ReLU → Linear(hidden → d), hidden = d unless given.

    Source: author code of [Karkar2020], circles.
    """
    count("dense", "width", width)
    kind("dense", "batch_norm", batch_norm, bool, "True or False")
    hidden = width if hidden is None else count("dense", "hidden", hidden)
    norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
    return nn.Sequential(nn.Linear(width, hidden), *norm, nn.ReLU(), nn.Linear(hidden, width))


def convolution(channels_in: int, channels: int, kernel: int = 3, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Convolution without bias that keeps the resolution at stride 1."""
    sizes = {"channels_in": channels_in, "channels": channels, "kernel": kernel, "stride": stride, "groups": groups}
    for name, size in sizes.items():
        count("convolution", name, size)
    return nn.Conv2d(channels_in, channels, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)


def basic(
    channels: int,
    *,
    channels_in: int | None = None,
    stride: int = 1,
    batch_norm: bool = True,
    first: bool = False,
    groups: int | None = None,
) -> nn.Sequential:
    """Pre-activation residual: norm → ReLU → conv 3×3 → norm → ReLU → conv 3×3.

    `first` leaves out the norm and ReLU before the first convolution, as after an encoder that ends in one.
    Without batch norm both convolutions and both ReLUs stay; with `groups` there is group norm in its place.
    Source: [Karkar2020] and its author code; [HeZhang2016]. Group norm: [WuHe2018].
    """
    count("basic", "channels", channels)
    kind("basic", "batch_norm", batch_norm, bool, "True or False")
    entry = channels if channels_in is None else count("basic", "channels_in", channels_in)

    if groups is not None:
        count("basic", "groups", groups)

    def norm(width: int) -> list[nn.Module]:
        if groups is not None:
            return [GroupNorm(groups, width)]
        return [nn.BatchNorm2d(width)] if batch_norm else []

    before = [] if first else [*norm(entry), nn.ReLU()]
    return nn.Sequential(
        *before,
        convolution(entry, channels, stride=stride),
        *norm(channels),
        nn.ReLU(),
        convolution(channels, channels),
    )


def last_convolution(channels: int) -> nn.Sequential:
    """ReLU → conv 3×3: what the author code computes in place of `basic` without batch norm.

    There the first convolution's result is thrown away, so it has no effect on output or gradient.
    Source: author code of [Karkar2020] (batchnorm=0).
    """
    return nn.Sequential(nn.ReLU(), convolution(channels, channels))


def resnext(
    channels_in: int,
    planes: int,
    *,
    cardinality: int,
    width: int,
    stride: int = 1,
    expansion: int = 4,
    relu_on_residual: bool = False,
) -> Block:
    """ResNeXt block: relu(s(z) + r(z)), r = conv 1×1, norm, ReLU, grouped conv 3×3, norm, ReLU, conv 1×1, norm.

    The inner width is planes·width/64·cardinality. `relu_on_residual` adds the ReLU that the author code of
    [Karkar2020] has after the last norm. The shortcut is the identity, or conv 1×1 with norm where the shape changes.
    Source: [Xie2017].
    """
    sizes = {"planes": planes, "cardinality": cardinality, "width": width, "expansion": expansion}
    for name, size in sizes.items():
        count("resnext", name, size)
    inner = planes * width // 64 * cardinality
    if inner == 0:
        raise ValueError(f"resnext needs an inner width of at least 1; got {planes}·{width}//64. Make width larger.")
    out = planes * expansion
    residual: list[nn.Module] = [
        convolution(channels_in, inner, 1),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        convolution(inner, inner, stride=stride, groups=cardinality),
        nn.BatchNorm2d(inner),
        nn.ReLU(),
        convolution(inner, out, 1),
        nn.BatchNorm2d(out),
    ]
    if relu_on_residual:
        residual.append(nn.ReLU())
    shortcut = None
    if stride != 1 or channels_in != out:
        shortcut = nn.Sequential(convolution(channels_in, out, 1, stride=stride), nn.BatchNorm2d(out))
    activation: Callable[[Tensor], Tensor] = nn.functional.relu
    return Block(nn.Sequential(*residual), shortcut=shortcut, activation=activation)
