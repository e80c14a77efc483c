"""Is my three-layer net lazy at width 50, at width 500? Train it and its tangent model alike, and ask."""

import torch
from torch import nn

import regimes

torch.manual_seed(0)
x = torch.randn(30, 5)
for width in (50, 500):
    net = nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 1))
    tangent = regimes.linearize(net)
    for model in (net, tangent):
        optimiser = torch.optim.SGD(model.parameters(), lr=2 / width)
        for _ in range(500):
            optimiser.zero_grad()
            nn.functional.mse_loss(model(x), x[:, :1].sin()).backward()
            optimiser.step()
    print(width, regimes.laziness(net, tangent, x))
