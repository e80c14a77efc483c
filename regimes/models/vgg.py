"""VGG-11 without batch norm: the network of the published lazy-training experiment on CIFAR-10."""

from torch import nn

from regimes.checks import count
from regimes.models.image_nets import Shape, require_images
from regimes.models.residual import ResidualNet

STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # widths over `width`; a 2×2 pooling ends each stage


def vgg11(shape: Shape, classes: int, *, width: int = 64) -> ResidualNet:
    """Eight convolutions 3×3 with bias and ReLU, `width` to 8·width channels, five 2×2 max poolings, one linear layer.

    Sides are halved and rounded down; images too small for a pooling go on without it (28 × 28 has four, 8 × 8 three).
    Published with width 64, on CIFAR, and 512 as the wide one. No residual blocks: φ are the convolutions, T is empty.
    Source: [SimonyanZisserman2015] configuration A with one linear layer for three; [ChizatOyallonBach2019].
    """
    require_images("vgg11", shape, classes)
    count("vgg11", "width", width)
    entry, *sides = shape
    layers: list[nn.Module] = []
    for stage in STAGES:
        for multiple in stage:
            layers += [nn.Conv2d(entry, multiple * width, 3, padding=1), nn.ReLU()]
            entry = multiple * width
        if min(sides) >= 2:
            layers.append(nn.MaxPool2d(2))
            sides = [side // 2 for side in sides]
    head = nn.Sequential(nn.Flatten(), nn.Linear(entry * sides[0] * sides[1], classes))
    return ResidualNet(nn.Sequential(*layers), [], head)
