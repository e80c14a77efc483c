"""The networks of the least-action experiments, put together from encoder, segments and head."""

from math import prod

from torch import nn

from regimes.checks import count, counts, kind
from regimes.models.blocks import basic, dense, last_convolution, resnext
from regimes.models.residual import Block, ResidualNet, Segment

Shape = tuple[int, ...]


def dense_net(
    shape: Shape,
    classes: int,
    *,
    blocks: int = 9,
    width: int | None = None,
    hidden: int | None = None,
    batch_norm: bool = False,
    head: bool = True,
) -> ResidualNet:
    """Dense residual network on flattened inputs, all blocks in one space.

    width None: φ flattens only and T acts on the inputs themselves; else φ is a linear map to `width` features.
    Without `head` the output is the transported state, to be read by a classifier of the caller's.
    """
    features = prod(counts("dense_net", "shape", shape))
    count("dense_net", "classes", classes)
    count("dense_net", "blocks", blocks, at_least=0)
    kind("dense_net", "head", head, bool, "True or False")
    if width is not None:
        count("dense_net", "width", width)
    encoder = nn.Flatten() if width is None else nn.Sequential(nn.Flatten(), nn.Linear(features, width))
    d = features if width is None else width
    segment = Segment(Block(dense(d, hidden, batch_norm=batch_norm)) for _ in range(blocks))
    return ResidualNet(encoder, [segment], nn.Linear(d, classes) if head else nn.Identity())


def require_images(caller: str, shape: Shape, classes: int) -> None:
    """Refuse all but three axes and at least one class."""
    if len(counts(caller, "shape", shape)) != 3:
        raise ValueError(
            f"{caller} needs images of shape (channels, height, width); got {tuple(shape)}. Try arch=dense."
        )
    count(caller, "classes", classes)


def resnet9(
    shape: Shape,
    classes: int,
    *,
    filters: int = 32,
    blocks: int = 9,
    batch_norm: bool = True,
    head: str = "two_layer",
    compat: bool = False,
    downsample: bool | None = None,
    groups: int | None = None,
) -> ResidualNet:
    """ResNet9: `blocks` basic blocks at one width and resolution, so that T maps one space to itself.

    φ with downsampling (all images but CIFAR-100): conv 3×3 to filters/2, ReLU, conv 5×5 stride 2 to `filters`, ReLU,
    with biases. Without (32 × 32 images of over 10 classes): conv 3×3, norm, ReLU twice at full resolution.
    F: "two_layer" is linear to 10·classes, batch norm, ReLU, linear; "one_layer" a single linear map.
    `compat` with batch_norm=False builds the blocks as the author code ran them (`last_convolution`).
    `groups`: group norm with so many groups in the place of batch norm, everywhere but in an encoder.
    Source: [Karkar2020] and its author code; `filters` is 32 there in 2019, 64 in 2020.
    """
    require_images("resnet9", shape, classes)
    count("resnet9", "blocks", blocks, at_least=0)  # of none a segment says that
    for name, choice in (("batch_norm", batch_norm), ("compat", compat)):
        kind("resnet9", name, choice, bool, "True or False")
    if count("resnet9", "filters", filters) < 2:
        raise ValueError(f"resnet9 needs at least 2 filters, the encoder has half of them first; got {filters}.")
    encoder, places = encoder_of(shape, classes, filters, downsample)
    if compat and batch_norm:
        raise ValueError(
            "compat is about blocks without batch norm; got batch_norm=True. Set batch_norm=False with it."
        )
    if groups is not None:
        count("resnet9", "groups", groups)
        normed = {"filters": filters, **({"10·classes": 10 * classes} if head == "two_layer" else {})}
        if not batch_norm or any(width % groups for width in normed.values()):
            raise ValueError(
                f"groups takes the place of batch norm, and needs to divide {' and '.join(normed)}; got {groups} of "
                f"{' and '.join(map(str, normed.values()))}, batch_norm={batch_norm}."
            )
    made = [
        Block(
            last_convolution(filters)
            if compat
            else basic(filters, batch_norm=batch_norm, first=number == 0, groups=groups)
        )
        for number in range(blocks)
    ]
    return ResidualNet(encoder, [Segment(made)], head_of(head, filters * places, classes, groups))


def encoder_of(shape: Shape, classes: int, filters: int, downsample: bool | None = None) -> tuple[nn.Sequential, int]:
    """φ of ResNet9 to `filters` channels, and the places that its images have; see there for `downsample`."""
    channels, height, width = shape
    kind("an encoder", "downsample", downsample, bool | None, "True, False or None")
    half = filters // 2
    if classes <= 10 if downsample is None else downsample:
        encoder = nn.Sequential(
            nn.Conv2d(channels, half, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(half, filters, 5, stride=2, padding=2),
            nn.ReLU(),
        )
        return encoder, ((height + 1) // 2) * ((width + 1) // 2)
    encoder = nn.Sequential(
        nn.Conv2d(channels, half, 3, padding=1),
        nn.BatchNorm2d(half),
        nn.ReLU(),
        nn.Conv2d(half, filters, 3, padding=1),
        nn.BatchNorm2d(filters),
        nn.ReLU(),
    )
    return encoder, height * width


def head_of(name: str, features: int, classes: int, groups: int | None = None) -> nn.Module:
    """F of ResNet9: "two_layer" or "one_layer"; see there."""
    count("a head", "classes", classes)
    if name == "one_layer":
        return nn.Sequential(nn.Flatten(), nn.Linear(features, classes))
    if name == "two_layer":
        wide = 10 * classes
        norm = nn.BatchNorm1d(wide) if groups is None else nn.GroupNorm(groups, wide)
        layers = (nn.Linear(features, wide), norm, nn.ReLU(), nn.Linear(wide, classes))
        return nn.Sequential(nn.Flatten(), *layers)
    raise ValueError(f"head needs one of one_layer, two_layer; got {name!r}.")


def resnext50(shape: Shape, classes: int, *, cardinality: int = 32, width: int = 4, compat: bool = True) -> ResidualNet:
    """ResNeXt50-32x4d for 32 × 32 images: stages of 3, 4, 6, 3 blocks, planes 64 to 512, expansion 4.

    φ is conv 3×3 to 64, norm, ReLU; the strides are 1, 2, 2, 2; F is global average pooling and a linear map.
    `compat`: φ and the ReLU on the residual as in the author code (φ has two convolutions, 32 and 64 channels); else
    one convolution and no ReLU there, as in [Xie2017]. Source: author code of [Karkar2020].
    """
    require_images("resnext50", shape, classes)
    kind("resnext50", "compat", compat, bool, "True or False")
    first = [nn.Conv2d(shape[0], 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()]
    if compat:
        first = [
            nn.Conv2d(shape[0], 32, 3, padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
        ]
    segments, entry = [], 64
    for planes, length, stride in zip((64, 128, 256, 512), (3, 4, 6, 3), (1, 2, 2, 2), strict=True):
        made = []
        for number in range(length):
            made.append(
                resnext(
                    entry,
                    planes,
                    cardinality=cardinality,
                    width=width,
                    stride=stride if number == 0 else 1,
                    relu_on_residual=compat,
                )
            )
            entry = 4 * planes
        segments.append(Segment(made))
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(entry, classes))
    return ResidualNet(nn.Sequential(*first), segments, head)
