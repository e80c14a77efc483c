"""Kernels of infinitely wide nets, put together from layers: NNGP and NTK of dense and convolutional nets."""

from regimes.tangent.infinite.dense import dense_kernels, two_layer_nngp, two_layer_ntk
from regimes.tangent.infinite.image import AvgPool, Conv, Flatten, GlobalAvgPool
from regimes.tangent.infinite.kernels import Kernels, infinite_kernels
from regimes.tangent.infinite.layers import Dense, Identity, LayerNorm, Nonlinearity, Serial
from regimes.tangent.infinite.residual import Parallel, Residual

__all__ = [
    "AvgPool",
    "Conv",
    "Dense",
    "Flatten",
    "GlobalAvgPool",
    "Identity",
    "Kernels",
    "LayerNorm",
    "Nonlinearity",
    "Parallel",
    "Residual",
    "Serial",
    "dense_kernels",
    "infinite_kernels",
    "two_layer_nngp",
    "two_layer_ntk",
]
