"""The networks, and their random samples, on which tangent kernels are timed."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from regimes.models.build import build

OUTPUTS = 10


class Encoder(nn.Module):
    """Six layers of a transformer encoder on 32 tokens of 48 numbers; the mean over tokens goes to the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(48, 128)
        self.place = nn.Parameter(0.02 * torch.randn(32, 128))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(128, 4, 512, 0.0, "gelu", batch_first=True) for _ in range(6)
        )
        self.head = nn.Linear(128, OUTPUTS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x) + self.place
        for layer in self.layers:
            x = layer(x)
        return self.head(x.mean(1))


class Block(nn.Module):
    """Two convolutions with batch norms and a shortcut, as in ResNet-18."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False), nn.BatchNorm2d(after), nn.ReLU(),
            nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after),
        )  # fmt: skip
        self.shortcut = nn.Sequential()
        if stride > 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


def resnet18() -> nn.Module:
    """ResNet-18 for images of 32 × 32: 64 to 512 channels, 11.2 million parameters."""
    sizes = [(64, 64, 1), (64, 64, 1), (64, 128, 2), (128, 128, 1), (128, 256, 2), (256, 256, 1), (256, 512, 2)]
    blocks = [Block(*each) for each in [*sizes, (512, 512, 1)]]
    first = nn.Sequential(nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64), nn.ReLU())
    return nn.Sequential(first, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, OUTPUTS))


def dense() -> nn.Module:
    """784-1000-1000-10 with ReLU."""
    return nn.Sequential(
        nn.Linear(784, 1000), nn.ReLU(), nn.Linear(1000, 1000), nn.ReLU(), nn.Linear(1000, OUTPUTS)
    )  # fmt: skip


NETS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "mlp": (dense, (784,)),
    "resnet9": (lambda: build("resnet9", (1, 28, 28), OUTPUTS, filters=32), (1, 28, 28)),
    "encoder": (Encoder, (32, 48)),
    "resnet20": (lambda: build("resnet20", (3, 32, 32), OUTPUTS), (3, 32, 32)),
    "resnet18": (resnet18, (3, 32, 32)),
}


def made(name: str, samples: int) -> tuple[nn.Module, Tensor]:
    """The network, in eval mode, and its samples."""
    torch.manual_seed(0)
    create, shape = NETS[name]
    return create().eval(), torch.randn(samples, *shape)
