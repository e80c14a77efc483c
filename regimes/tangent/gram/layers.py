"""What one operation adds to the derivative of a parameter, read from what the graph saved of it.

N rows are the leading axes of an operation: samples, times positions where those are folded into them. One cotangent
is pulled back; delta (N, ...) is what arrives at the operation.
"""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor
from torch.nn import functional as F

from regimes.tangent.gram.graph import Use, shape_of

_MATRICES = {("AddmmBackward0", 2), ("MmBackward0", 1), ("ConvolutionBackward0", 1)}
_BIASES = {"AddmmBackward0": 0, "ConvolutionBackward0": 2}  # of the same operation as a matrix
_BROADCAST = ("AddBackward0", "MulBackward0", "PreluKernelBackward0")  # of a parameter with the other argument
_NORMS = ("NativeLayerNormBackward0", "NativeGroupNormBackward0", "NativeBatchNormBackward0")


def is_matrix(use: Use) -> bool:
    """A weight whose derivative is Σ over positions of delta ⊗ input."""
    node, kind = use.node, use.node.name()
    if (kind, use.argument) not in _MATRICES:
        return False
    if kind == "AddmmBackward0":
        return node._saved_alpha == 1 and node._saved_beta == 1
    return kind == "MmBackward0" or not node._saved_transposed


def is_bias_of_matrix(use: Use) -> bool:
    """The bias that the operation of a matrix adds to each row."""
    kind = use.node.name()
    if _BIASES.get(kind) != use.argument:
        return False
    if kind == "AddmmBackward0" and (use.node._saved_alpha != 1 or use.node._saved_beta != 1):
        return False
    return len(use.shape) == 1 and use.shape[0] == shape_of(use.node)[1]


def is_lookup(use: Use) -> bool:
    """A table whose rows are taken by whole numbers."""
    return use.node.name() == "EmbeddingBackward0" and not use.node._saved_scale_grad_by_freq


def is_vector(use: Use) -> bool:
    """A parameter that is broadcast over samples and added or multiplied, in a norm or by itself."""
    node, kind = use.node, use.node.name()
    if kind in _NORMS and use.argument in (1, 2):
        return not (kind == "NativeBatchNormBackward0" and node._saved_training)
    if kind in _BROADCAST and (kind, use.argument) != ("PreluKernelBackward0", 0):
        return len(shape_of(node)) >= len(use.shape) and leading(use) > 0
    return is_bias_of_matrix(use)


def leading(use: Use) -> int:
    """How many of the first axes of the operation count its rows; the others belong to one row."""
    kind, shape = use.node.name(), shape_of(use.node)
    if kind == "NativeLayerNormBackward0":
        return len(shape) - len(use.node._saved_normalized_shape)
    if kind == "EmbeddingBackward0":
        return len(shape) - 1
    if kind in _BROADCAST:
        padded = _padded(use)
        return next((axis for axis, size in enumerate(padded) if size != 1), len(padded))
    return 1


def rows(use: Use) -> int:
    """N of the operation."""
    return prod(shape_of(use.node)[: leading(use)])


def _padded(use: Use) -> tuple[int, ...]:
    """The shape of the parameter, with the axes that broadcasting adds."""
    kind, shape = use.node.name(), shape_of(use.node)
    if kind in ("NativeGroupNormBackward0", "NativeBatchNormBackward0", "ConvolutionBackward0"):
        return (1, *use.shape, *[1] * (len(shape) - 2))
    return (*[1] * (len(shape) - len(use.shape)), *use.shape)


def matrix_axes(each: Sequence[Use], n: int, with_bias: bool) -> tuple[int, int, int, int]:
    """Groups of channels g, positions S of all uses together, entries o and i, for each of n samples.

    S is at least 1, for a layer that these samples do not reach.
    """
    use, shape = each[0], shape_of(each[0].node)
    if use.node.name() != "ConvolutionBackward0":
        return 1, max(1, sum(rows(use) for use in each) // n), shape[1], use.shape[0] + with_bias
    groups = use.node._saved_groups
    positions = sum(rows(use) * prod(shape_of(use.node)[2:]) for use in each) // n
    return groups, max(1, positions), shape[1] // groups, prod(use.shape[1:]) + with_bias


def matrix_deltas(use: Use, delta: Tensor) -> Tensor:
    """(N, g, o, L): the derivative is Σ_L of their products with the inputs, in each of the g groups."""
    if use.node.name() == "ConvolutionBackward0":
        delta = delta.flatten(2).unflatten(1, (use.node._saved_groups, -1))
    else:
        delta = delta[:, None, :, None]
    return delta * use.factor if use.factor != 1 else delta


def is_convolution(use: Use) -> bool:
    """Whether the inputs of a matrix are formed anew, as patches, wherever they are asked for."""
    return use.node.name() == "ConvolutionBackward0"


def matrix_inputs(use: Use, with_bias: bool, some: slice = slice(None)) -> Tensor:
    """(N, g, i, L), or some of the N; with_bias: with a last input of ones, for the derivative of the bias."""
    node = use.node
    if is_convolution(use):
        inputs = _patches(use, some).unflatten(1, (node._saved_groups, -1))
    else:
        inputs = (node._saved_mat1 if node.name() == "AddmmBackward0" else node._saved_self)[some, None, :, None]
    if not with_bias:
        return inputs
    return torch.cat([inputs, inputs.new_ones(()).expand(*inputs.shape[:2], 1, inputs.shape[3])], 2)


def _patches(use: Use, some: slice) -> Tensor:
    """(N, channels · kernel, L): what the kernel of a convolution sees at each of the L positions."""
    node, kernel, out = use.node, use.shape[2:], shape_of(use.node)[2:]
    x = F.pad(node._saved_input[some], [side for pad in reversed(node._saved_padding) for side in (pad, pad)])
    steps = x.stride()[2:]
    windows = x.as_strided(
        (*x.shape[:2], *kernel, *out),
        (
            *x.stride()[:2],
            *(step * dilation for step, dilation in zip(steps, node._saved_dilation, strict=True)),
            *(step * stride for step, stride in zip(steps, node._saved_stride, strict=True)),
        ),
        x.storage_offset(),
    )
    return windows.reshape(len(x), -1, prod(out))


def lookup_axes(each: Sequence[Use], n: int) -> tuple[int, int, int, int]:
    """One group, the positions S of all uses together, o entries of a row; the inputs are numbers, not vectors."""
    return 1, max(1, sum(rows(use) for use in each) // n), each[0].shape[-1], 0


def lookup_deltas(use: Use, delta: Tensor) -> Tensor:
    """(N, o): the derivative is delta in the row that the number names."""
    padding = lookup_numbers(use) == use.node._saved_padding_idx
    return (delta * use.factor).masked_fill(padding[:, None], 0)


def lookup_numbers(use: Use) -> Tensor:
    """(N,): the rows of the table that were looked up."""
    return use.node._saved_indices.reshape(-1)


def vector_factor(use: Use) -> Tensor | None:
    """What the derivative of a broadcast parameter is delta times, of the shape of the operation; None: 1."""
    node, kind = use.node, use.node.name()
    if kind in _NORMS and use.argument == 1:
        return _normalised(use)
    if kind == "MulBackward0":
        return node._saved_other if use.argument == 0 else node._saved_self
    return node._saved_self.clamp_max(0) if kind == "PreluKernelBackward0" else None


def vector_rows(use: Use, delta: Tensor, factor: Tensor | None) -> Tensor:
    """(N, p): the derivative of a broadcast parameter, row by row, from its factor."""
    first, shape, padded = leading(use), shape_of(use.node), _padded(use)
    if factor is not None:
        delta = delta * factor.expand(shape).reshape(delta.shape)
    added = use.node.name() == "AddBackward0" and use.argument == 1
    times = use.factor * (use.node._saved_alpha if added else 1)
    summed = [1 + axis for axis, size in enumerate(padded[first:]) if size == 1]
    delta = delta.sum(summed, keepdim=True) if summed else delta
    return (delta.flatten(1) if delta.ndim > 1 else delta[:, None]) * times


def _normalised(use: Use) -> Tensor:
    """What a norm multiplies its weight by."""
    node, kind = use.node, use.node.name()
    x = node._saved_input
    if kind == "NativeBatchNormBackward0":
        channels = (1, -1, *[1] * (x.ndim - 2))
        mean, variance = node._saved_running_mean.view(channels), node._saved_running_var.view(channels)
        return (x - mean) * (variance + node._saved_eps).rsqrt()
    mean, inverse = node._saved_result1, node._saved_result2
    if kind == "NativeGroupNormBackward0":
        grouped = x.reshape(*mean.shape, -1)
        return ((grouped - mean[..., None]) * inverse[..., None]).view(x.shape)
    return (x - mean) * inverse
