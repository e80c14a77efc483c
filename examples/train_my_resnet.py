"""Train a small ResNet of your own with least action, resume it, and ask whether its map is an OT map."""

import torch
from my_resnet import MyResNet  # any torch module; its residual blocks are named blocks.0, blocks.1, ...

import regimes

x = torch.randn(400, 8, generator=torch.Generator().manual_seed(0))
y = (x[:, 0] * x[:, 1] > 0).long()
settings = {"lap": True, "blocks": "blocks.?", "validation": (x[300:], y[300:]), "out": "runs/my-resnet"}
regimes.fit(MyResNet(), (x[:300], y[:300]), epochs=5, **settings)
run = regimes.fit(MyResNet(), (x[:300], y[:300]), epochs=10, **settings)  # goes on where the first call ended

way = regimes.state_map(run.traced, x[300:])
print(run.table[-1], regimes.ot_gap(way.start, way.transport_map, path=way.path), sep="\n")
