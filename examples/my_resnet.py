"""A residual network as a user may have written it: nothing in it knows of regimes."""

from torch import Tensor, nn


class MyBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(width, 32), nn.ReLU(), nn.Linear(32, width))

    def forward(self, z: Tensor) -> Tensor:
        return z + self.inner(z)


class MyResNet(nn.Module):
    def __init__(self, features: int = 8, width: int = 16, depth: int = 4, classes: int = 2) -> None:
        super().__init__()
        self.stem = nn.Linear(features, width)
        self.blocks = nn.Sequential(*(MyBlock(width) for _ in range(depth)))
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)))
