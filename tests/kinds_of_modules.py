"""Torch modules of every kind that has a tangent kernel: name -> (builder, shape of a batch of inputs)."""

import torch
from torch import nn


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.queries, self.out = nn.Linear(4, 12), nn.Linear(4, 2)

    def forward(self, x):
        q, k, v = self.queries(x).chunk(3, -1)
        mixed = nn.functional.scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        return self.out(mixed.mean(1))


class Mean(nn.Module):
    def __init__(self, inner, first_only=False):
        super().__init__()
        self.inner, self.first_only = inner, first_only

    def forward(self, x):
        y = self.inner(x)
        return (y[0] if isinstance(y, tuple) else y).mean(1)


class Tied(nn.Module):
    """One layer used twice, one scalar factor used twice."""

    def __init__(self):
        super().__init__()
        self.encode = nn.Linear(3, 5, bias=False)
        self.decode = nn.Linear(5, 3, bias=False)
        self.again = self.encode
        self.factor = nn.Parameter(torch.tensor(0.7))

    def forward(self, x):
        hidden = torch.tanh(self.factor * self.encode(x))
        return self.again(self.decode(hidden)) * self.factor


class WithBuffer(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.register_buffer("mask", torch.tensor([1.0, -2.0]))

    def forward(self, x):
        return self.linear(x).square() * self.mask


MODELS = {
    "dense": (lambda: nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), (4, 3)),
    "scalar": (lambda: nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)), (4, 3)),
    "image": (lambda: nn.Sequential(nn.Linear(3, 6), nn.Unflatten(1, (2, 3))), (4, 3)),
    "convolution": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.LayerNorm(12),
            nn.Linear(12, 2),
        ),
        (4, 1, 6, 6),
    ),
    "norms": (
        lambda: Mean(nn.Sequential(nn.Conv1d(2, 4, 2), nn.GroupNorm(2, 4), nn.InstanceNorm1d(4), nn.GELU())),
        (4, 2, 6),
    ),
    "attention": (Attention, (4, 5, 4)),
    "transformer": (lambda: Mean(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)), (4, 5, 4)),
    "lstm": (lambda: Mean(nn.LSTM(3, 2, batch_first=True)), (4, 5, 3)),
    "gru": (lambda: Mean(nn.GRU(3, 2, batch_first=True)), (4, 5, 3)),
    "tied": (Tied, (4, 3)),
    "buffers": (WithBuffer, (4, 3)),
}


class Mixing(nn.Module):
    """Samples that know of each other: their mean is taken away."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 2)

    def forward(self, x):
        return self.inner(x - x.mean(0))
