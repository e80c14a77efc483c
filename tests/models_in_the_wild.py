"""Models as people write them: name -> (builder, inputs, what becomes of their kernel and their tangent model).

A builder returns (model, x). RIGHT: the numbers are those of plain `autograd.grad`, one output of one sample at a time.
Anything else is the words of the refusal.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

RIGHT = ""


class Case(NamedTuple):
    build: Callable[[], tuple[nn.Module, Tensor]]
    kernel: str = RIGHT
    tangent: str = RIGHT


def images(*shape: int) -> Tensor:
    return torch.randn(4, *shape)


class Net(nn.Module):
    """Two layers, and a place between them."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 4), nn.Linear(4, 2)

    def between(self, hidden: Tensor) -> Tensor:
        return torch.tanh(hidden)

    def forward(self, x: Tensor) -> Any:
        return self.outer(self.between(self.inner(x)))


def net(between: Callable[[Tensor], Tensor]) -> Callable[[], tuple[nn.Module, Tensor]]:
    def build() -> tuple[nn.Module, Tensor]:
        model = Net()
        model.between = between
        return model, images(3)

    return build


class Last(nn.Module):
    """The last state of a sequence layer."""

    def __init__(self, cells: nn.Module) -> None:
        super().__init__()
        self.cells, self.head = cells, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.cells(x)
        return self.head((y[0] if isinstance(y, tuple) else y)[:, -1])


def sequence(cells: Callable[[], nn.Module]) -> Callable[[], tuple[nn.Module, Tensor]]:
    return lambda: (Last(cells()).eval(), images(5, 3))


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attend = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attend(x, x, x)[0][:, 0]


# ---- what vmap cannot follow


class Filled(Net):
    """Writes into a tensor of zeros."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.zeros(len(x), 2)
        y[:, 0] = self.inner(x).tanh().sum(1)
        y[:, 1] += self.inner(x).square().sum(1)
        return y


class Branching(Net):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x)
        return torch.stack([self.outer(h.tanh() if h.sum() > 0 else h.sin()) for h in hidden])


class Masked(Net):
    def forward(self, x: Tensor) -> Tensor:
        hidden = self.inner(x)
        hidden[hidden < 0] = hidden[hidden < 0].exp() - 1
        return self.outer(hidden)


class Scaled(Net):
    """Divides by a number that has left the graph."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x / float(self.outer.weight.shape[0] + 2 * torch.ones(()).item()))


class UntilSmall(Net):
    def forward(self, x: Tensor) -> Tensor:
        rows = []
        for row in self.inner(x):
            while row.norm() > 1:
                row = row / 2
            rows.append(row)
        return self.outer(torch.stack(rows))


class Experts(Net):
    """Each sample goes to one of two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.other = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = x.new_zeros(len(x), 4)
        chosen = x[:, 0] > 0
        y[chosen] = self.inner(x[chosen])
        y[~chosen] = self.other(x[~chosen])
        return self.outer(y.tanh())


# ---- what torch.func cannot follow


class OldExp(torch.autograd.Function):
    """As of the first releases: a forward with ctx."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.exp()
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * ctx.saved_tensors[0]


class OnceExp(OldExp):
    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * ctx.saved_tensors[0]


class NewExp(torch.autograd.Function):
    """With setup_context, without rules for vmap and forward mode."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.exp()

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * ctx.saved_tensors[0]


class Checkpointed(Net):
    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        hidden = checkpoint(lambda z: torch.tanh(self.inner(z)), x, use_reentrant=self.reentrant)
        return self.outer(hidden)


class Tokens(nn.Module):
    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.embedding, self.head = embedding, nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.embedding(x)
        return self.head(y.mean(1) if y.ndim == 3 else y)


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cells, self.head = nn.GRU(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        lengths = torch.full((len(x),), x.shape[1])
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self.head(pad_packed_sequence(self.cells(packed)[0], batch_first=True)[0][:, -1])


class OnProcessor(Net):
    """Keeps what the backward pass needs elsewhere."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autograd.graph.save_on_cpu():
            return super().forward(x)


class Reversal(torch.autograd.Function):
    """The gradient reversal of domain adaptation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return -grads[0]


class StraightSign(torch.autograd.Function):
    """A binary activation with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


class NumpyFeatures(Net):
    """Features of the inputs by another library."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.from_numpy(np.sort(x.numpy(), axis=1)))


class GradientMap(nn.Module):
    """The gradient of a scalar net by its inputs, as convex nets and energy models have it."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(3, 4), nn.Linear(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        with torch.enable_grad():
            z = x.detach().requires_grad_()
            return torch.autograd.grad(self.outer(self.inner(z).tanh()).sum(), z, create_graph=True)[0]


class CachedWeight(Net):
    """Keeps a product of its weights from the first call on."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "kept"):
            self.kept = {"weight": 2 * self.inner.weight}
        return self.outer(torch.tanh(x @ self.kept["weight"].T))


class WritesInputs(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(2))


class Cells(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTMCell(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = self.cell(step, state)
        assert state is not None
        return state[0]


class Dictionaries(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterDict({"a": torch.randn(3, 4), "b": torch.randn(4, 2)})
        self.shifts = nn.ParameterList([torch.randn(4), torch.randn(2)])

    def forward(self, x: Tensor) -> Tensor:
        return (x @ self.weights["a"] + self.shifts[0]).tanh() @ self.weights["b"] + self.shifts[1]


class Hyper(nn.Module):
    """Weights formed from other weights, in each call."""

    def __init__(self) -> None:
        super().__init__()
        self.code, self.make = nn.Parameter(torch.randn(2)), nn.Linear(2, 6)

    def forward(self, x: Tensor) -> Tensor:
        self.made = self.make(self.code).view(2, 3)
        return F.linear(x, self.made)


class LowRank(Net):
    def __init__(self) -> None:
        super().__init__()
        self.inner.requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(3, 1)), nn.Parameter(torch.zeros(1, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.inner(x) + x @ self.down @ self.up))


class InDouble(Net):
    def forward(self, x: Tensor) -> Tensor:
        wide = self.outer.weight.double()
        return super().forward(x).double() @ wide @ wide.mT


class CacheOfWeights(Net):
    """Copies its weights at the first call, without gradients."""

    def forward(self, x: Tensor) -> Tensor:
        if not hasattr(self, "cache"):
            self.cache = self.inner.weight.detach().clone()
        return self.outer(torch.tanh(x @ self.cache.T))


def hooked(register: Callable[[nn.Module], Any]) -> Callable[[], tuple[nn.Module, Tensor]]:
    def build() -> tuple[nn.Module, Tensor]:
        model = Net()
        register(model.inner)
        return model, images(3)

    return build


def pruned() -> tuple[nn.Module, Tensor]:
    model = Net()
    prune.l1_unstructured(model.inner, "weight", amount=0.5)
    return model, images(3)


def of_inference() -> tuple[nn.Module, Tensor]:
    with torch.inference_mode():
        return Net(), images(3)


# ---- weights that are not read from the registry


class InAList(Net):
    def __init__(self) -> None:
        super().__init__()
        self.kept = [torch.randn(4, requires_grad=True)]

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.inner(x)) * self.kept[0])


class ListOfRegistered(Net):
    def __init__(self) -> None:
        super().__init__()
        self.layers = {"weights": [self.inner.weight]}

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(x @ self.layers["weights"][0].T))


class ListOfLayers(Net):
    """A plain list of modules: their parameters are not in parameters()."""

    def __init__(self) -> None:
        super().__init__()
        self.more = [nn.Linear(4, 4)]

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.more[0](torch.tanh(self.inner(x))))


FACTOR = torch.ones(4, requires_grad=True)


class Closure(Net):
    def __init__(self) -> None:
        super().__init__()
        weight = self.inner.weight
        self.first = lambda x: F.linear(x, weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.tanh(self.first(x)))


class Product(Net):
    """A product of weights, formed once."""

    def __init__(self) -> None:
        super().__init__()
        self.product = self.outer.weight @ self.inner.weight

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.product.T + self.outer.bias


class DetachedProduct(Net):
    """The same, once removed from the graph; the other parameters are still read."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("product", (self.outer.weight @ self.inner.weight).detach())

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.product.T + self.outer.bias


def called(build: Callable[[], tuple[nn.Module, Tensor]]) -> Callable[[], tuple[nn.Module, Tensor]]:
    """The same model after a call with gradients, which leaves derived weights in it."""

    def after() -> tuple[nn.Module, Tensor]:
        model, x = build()
        model(x).sum().backward()
        model.zero_grad()
        return model.eval(), x

    return after


def normed(norm: Callable[..., nn.Module]) -> Callable[[], tuple[nn.Module, Tensor]]:
    def build() -> tuple[nn.Module, Tensor]:
        model = Net()
        model.inner = norm(model.inner)
        return model, images(3)

    return build


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).mT


def symmetric() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 2))
    parametrize.register_parametrization(model[0], "weight", Symmetric())
    return model, images(3)


# ---- complex weights


class Complex(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 3, dtype=torch.complex64))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x.to(torch.complex64) @ self.weight.T).tanh().real)


class Spectral(nn.Module):
    """A layer in Fourier space, as Fourier neural operators have."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, dtype=torch.cfloat))

    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.irfft(torch.fft.rfft(x, n=6) * self.weight, n=6)


class ComplexOut(Complex):
    def forward(self, x: Tensor) -> Tensor:
        return x.to(torch.complex64) @ self.weight.T


# ---- gradients that stop


class Frozen(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            hidden = self.inner(x).tanh()
        return self.outer(hidden)


class Inference(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            hidden = self.inner(x).tanh()
        return self.outer(hidden.clone())


class NoGradients(Net):
    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class Predicting(Net):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


class DetachedOutput(Net):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).detach()


class ThroughNumpy(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.outer(torch.from_numpy(self.inner(x).detach().numpy()).tanh())


def frozen_layer() -> tuple[nn.Module, Tensor]:
    model = Net()
    model.inner.requires_grad_(False)
    return model, images(3)


def dead() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, bias=False))
    nn.init.constant_(model[0].bias, -100.0)
    return model, images(3)


def zero_head() -> tuple[nn.Module, Tensor]:
    model = Net()
    nn.init.zeros_(model.outer.weight)
    return model, images(3)


# ---- forms of inputs and outputs


class DictOutput(Net):
    def forward(self, x: Tensor) -> Any:
        return {"logits": super().forward(x)}


class Pair(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x), x


def scripted() -> tuple[nn.Module, Tensor]:
    return torch.jit.script(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))), images(3)


def traced() -> tuple[nn.Module, Tensor]:
    model, x = Net(), images(3)
    return torch.jit.trace(model, x), x


def scripted_part() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(torch.jit.script(nn.Linear(3, 4)), nn.Tanh(), nn.Linear(4, 2)), images(3)


def lazy() -> tuple[nn.Module, Tensor]:
    return nn.Sequential(nn.LazyLinear(4), nn.Tanh(), nn.LazyLinear(2)), images(3)


def lazy_called() -> tuple[nn.Module, Tensor]:
    model, x = lazy()
    model(x)
    return model, x


def quantised() -> tuple[nn.Module, Tensor]:
    return torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear}), images(3)


def fake_quantised() -> tuple[nn.Module, Tensor]:
    class Straight(Net):
        def forward(self, x: Tensor) -> Tensor:
            weight = self.inner.weight
            rounded = weight + ((8 * weight).round() / 8 - weight).detach()
            return self.outer(torch.tanh(x @ rounded.T))

    return Straight(), images(3)


def tied() -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3))
    model[2].weight = model[0].weight
    return model, images(3)


def convolution(*norms: nn.Module) -> tuple[nn.Module, Tensor]:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), *norms, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    return model.eval(), images(1, 6, 6)


def double(build: Callable[[], tuple[nn.Module, Tensor]]) -> Callable[[], tuple[nn.Module, Tensor]]:
    def doubled() -> tuple[nn.Module, Tensor]:
        model, x = build()
        return model.double(), x.double() if x.is_floating_point() else x

    return doubled


class Radial(nn.Module):
    """Radial functions about centres; torch's rule of vmap for distances is right for one output only."""

    def __init__(self) -> None:
        super().__init__()
        self.centres, self.head = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(5, 2))

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(-torch.cdist(x, self.centres)) @ self.head


class Graph(nn.Module):
    """A sum over neighbours, whose adjacency is a sparse buffer."""

    def __init__(self) -> None:
        super().__init__()
        ring = torch.eye(4) + torch.eye(4).roll(1, 0)
        self.register_buffer("neighbours", ring.to_sparse())
        self.layer = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return (self.neighbours @ self.layer(x).tanh().T).T


def tokens(**options: Any) -> Callable[[], tuple[nn.Module, Tensor]]:
    return lambda: (Tokens(nn.Embedding(5, 4, **options)), torch.randint(5, (4, 3)))


def bag() -> tuple[nn.Module, Tensor]:
    return Tokens(nn.EmbeddingBag(5, 4)), torch.randint(5, (4, 3))


CASES = {
    "lstm": Case(sequence(lambda: nn.LSTM(3, 4, batch_first=True))),
    "lstm in float64": Case(double(sequence(lambda: nn.LSTM(3, 4, batch_first=True)))),
    "lstm of two layers both ways": Case(sequence(lambda: nn.LSTM(3, 2, 2, batch_first=True, bidirectional=True))),
    "gru": Case(sequence(lambda: nn.GRU(3, 4, batch_first=True))),
    "rnn": Case(sequence(lambda: nn.RNN(3, 4, batch_first=True))),
    "transformer": Case(
        sequence(lambda: nn.Sequential(nn.Linear(3, 4), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)))
    ),
    "transformer of two layers": Case(
        sequence(
            lambda: nn.Sequential(
                nn.Linear(3, 4),
                nn.TransformerEncoder(
                    nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, norm_first=True),
                    2,
                    enable_nested_tensor=False,
                ),
            )
        )
    ),
    "attention": Case(lambda: (SelfAttention(), images(5, 4))),
    "tied": Case(tied),
    "in-place relu": Case(convolution),
    "in-place relu of the inputs": Case(lambda: (nn.Sequential(nn.ReLU(inplace=True), nn.Linear(3, 2)), images(3))),
    "batch norm in eval mode": Case(lambda: convolution(nn.BatchNorm2d(4))),
    "batch norm in train mode": Case(
        lambda: (convolution(nn.BatchNorm2d(4))[0].train(), images(1, 6, 6)), "eval", "eval"
    ),
    "group norm": Case(lambda: convolution(nn.GroupNorm(2, 4))),
    "dropout in eval mode": Case(lambda: convolution(nn.Dropout(0.5))),
    "dropout in train mode": Case(lambda: (nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), images(3)), "eval", "eval"),
    "writes in place": Case(lambda: (Filled(), images(3))),
    "a branch on data": Case(lambda: (Branching(), images(3))),
    "masked writes": Case(lambda: (Masked(), images(3))),
    "item": Case(lambda: (Scaled(), images(3))),
    "a loop on data": Case(lambda: (UntilSmall(), images(3))),
    "experts": Case(lambda: (Experts(), images(3))),
    "old custom function": Case(net(OldExp.apply)),
    "custom function differentiable once": Case(net(OnceExp.apply), RIGHT, "twice"),
    "new custom function": Case(net(NewExp.apply)),
    "checkpoint": Case(lambda: (Checkpointed(reentrant=False), images(3))),
    "reentrant checkpoint": Case(lambda: (Checkpointed(reentrant=True), images(3)), "derivative", "derivative"),
    "kept on the processor": Case(lambda: (OnProcessor(), images(3))),
    "gradient reversal": Case(net(Reversal.apply)),
    "straight-through sign": Case(net(StraightSign.apply)),
    "numpy on the inputs": Case(lambda: (NumpyFeatures(), images(3))),
    "a gradient inside": Case(lambda: (GradientMap(), images(3))),
    "a weight kept from the first call": Case(lambda: (CachedWeight(), images(3)), "registered", "registered"),
    "writes into its inputs": Case(lambda: (WritesInputs(), images(3))),
    "cells": Case(lambda: (Cells(), images(5, 3))),
    "dictionaries of parameters": Case(lambda: (Dictionaries(), images(3))),
    "a hypernetwork": Case(lambda: (Hyper(), images(3))),
    "a hypernetwork after a call": Case(called(lambda: (Hyper(), images(3)))),
    "low rank on a frozen layer": Case(lambda: (LowRank(), images(3))),
    "in double inside": Case(lambda: (InDouble(), images(3))),
    "a forward hook": Case(hooked(lambda m: m.register_forward_hook(lambda _, __, y: y.tanh()))),
    "a backward hook": Case(hooked(lambda m: m.register_full_backward_hook(lambda *_: None))),
    "pruned": Case(pruned),
    "pruned after a call": Case(called(pruned)),
    "made in inference mode": Case(of_inference, "inference_mode", "inference_mode"),
    "embedding": Case(tokens()),
    "sparse embedding": Case(tokens(sparse=True)),
    "embedding with a largest norm": Case(tokens(max_norm=0.5), "rescales", "rescales"),
    "embedding bag": Case(bag, RIGHT, "embedding_bag"),
    "packed sequences": Case(lambda: (Packed(), images(5, 3))),
    "radial functions": Case(lambda: (Radial(), images(3)), RIGHT, "_cdist_backward"),
    "a sparse buffer": Case(lambda: (Graph(), images(3))),
    "script": Case(scripted, RIGHT, "script"),
    "trace": Case(traced, RIGHT, "script"),
    "a scripted part": Case(scripted_part, RIGHT, "script"),
    "an unregistered tensor in a list": Case(lambda: (InAList(), images(3)), "registered", "registered"),
    "a registered parameter in a list": Case(lambda: (ListOfRegistered(), images(3)), "registered", "registered"),
    "layers in a list": Case(lambda: (ListOfLayers(), images(3)), "registered", "registered"),
    "a global tensor": Case(net(lambda h: h * FACTOR), "registered", "registered"),
    "a closure": Case(lambda: (Closure(), images(3)), "registered", "registered"),
    "a product formed earlier": Case(lambda: (Product(), images(3)), "registered", "registered"),
    "a detached product": Case(lambda: (DetachedProduct(), images(3))),
    "old weight norm": Case(normed(nn.utils.weight_norm)),
    "old weight norm after a call": Case(called(normed(nn.utils.weight_norm))),
    "weight norm": Case(normed(parametrizations.weight_norm)),
    "weight norm after a call": Case(called(normed(parametrizations.weight_norm))),
    "old spectral norm after a call": Case(called(normed(nn.utils.spectral_norm))),
    "spectral norm after a call": Case(called(normed(parametrizations.spectral_norm))),
    "orthogonal": Case(normed(parametrizations.orthogonal)),
    "symmetric": Case(symmetric),
    "complex": Case(lambda: (Complex(), images(3))),
    "complex in fourier space": Case(lambda: (Spectral(), images(6))),
    "complex outputs": Case(lambda: (ComplexOut(), images(3)), "complex"),
    "a frozen layer": Case(frozen_layer),
    "no_grad inside": Case(lambda: (Frozen(), images(3)), "derivative", "derivative"),
    "inference mode inside": Case(lambda: (Inference(), images(3)), "derivative", "derivative"),
    "no_grad around": Case(lambda: (NoGradients(), images(3)), "derivative", "derivative"),
    "inference mode around": Case(lambda: (Predicting(), images(3)), "derivative", "derivative"),
    "detach inside": Case(net(lambda h: h.detach().tanh()), "derivative", "derivative"),
    "data inside": Case(net(lambda h: h.data.tanh()), "derivative", "derivative"),
    "through numpy": Case(lambda: (ThroughNumpy(), images(3)), "derivative", "derivative"),
    "a detached output": Case(lambda: (DetachedOutput(), images(3)), "derivative", "derivative"),
    "dead": Case(dead),
    "zero head": Case(zero_head),
    "logits in a dict": Case(lambda: (DictOutput(), images(3))),
    "a pair": Case(lambda: (Pair(), images(3)), "one tensor", "one tensor"),
    "data parallel": Case(lambda: (nn.DataParallel(Net()), images(3))),
    "lazy, not yet called": Case(lazy, "Call the model", "Call the model"),
    "lazy, called": Case(lazy_called),
    "half precision": Case(lambda: (Net().half(), images(3).half()), "16 bits", "16 bits"),
    "quantised": Case(quantised, "trainable", "trainable"),
    "fake quantised": Case(fake_quantised),
    "meta device": Case(lambda: (Net().to("meta"), images(3).to("meta")), "meta", "meta"),
    "compiled": Case(lambda: (torch.compile(Net(), backend="eager"), images(3))),
}
