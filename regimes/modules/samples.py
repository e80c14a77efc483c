"""Whether a model maps each sample by itself: what can be seen in its layers, and what a call on a few samples shows.

Per-sample Jacobians, kernels and centred models exist only for models whose output is a function of one sample.
"""

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.spectral_norm import SpectralNorm

from regimes.checks import without_values
from regimes.errors import out_of_memory
from regimes.modules.chance import chance_restored, drawn, generators

PLACES = (
    "here the output of one sample changes with its place in the batch. Look for parameters or buffers that are sliced "
    "or added along axis 0, and for sequence layers without batch_first=True."
)
_POOL = 64  # samples among which others are looked for
_TRIES = 60  # further calls of a model that draws random numbers
_ROUNDING = 1000  # rounding units by which a row may change beside other samples


def _reason(module: nn.Module) -> str | None:
    if isinstance(module, _BatchNorm) and (module.training or module.running_mean is None):
        return "normalises by the statistics of the batch"
    if isinstance(module, nn.InstanceNorm1d | nn.InstanceNorm2d | nn.InstanceNorm3d):
        return "updates its running statistics" if module.training and module.track_running_stats else None
    spectral = any(isinstance(hook, SpectralNorm) for hook in module._forward_pre_hooks.values())
    if module.training and (spectral or isinstance(module, _SpectralNorm)):
        return "improves its spectral norm at each call"
    if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.max_norm is not None:
        return "rescales its rows at each call"
    return "draws random numbers" if module.training and draws_chance(module) else None


def draws_chance(module: nn.Module) -> bool:
    """Whether it is a layer of torch that draws random numbers in training."""
    return (
        (isinstance(module, _DropoutNd) and module.p > 0)
        or isinstance(module, nn.RReLU)
        or (isinstance(module, nn.MultiheadAttention | nn.RNNBase) and module.dropout > 0)
    )


def require_deterministic(model: nn.Module, caller: str) -> None:
    """Refuse a module with a layer that is no function of one sample: batch statistics, dropout and the like at work.

    ValueError names the first such layer. What happens inside a forward is not seen: see require_separate_samples.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"{caller} needs a torch module; got {type(model).__name__}. Pass an nn.Module.")
    for name, module in model.named_modules():
        reason = _reason(module)
        if reason is not None:
            cure = "call model.eval() first"
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                cure = "rescale them once, and set max_norm=None"
            if isinstance(module, _BatchNorm) and module.running_mean is None:
                cure = "give it track_running_stats=True, or use LayerNorm or GroupNorm"
            where = f"layer {name!r}" if name else "the model"
            raise ValueError(
                f"{caller} needs a model that maps each sample by itself; {where} ({type(module).__name__}) "
                f"{reason}: {cure}."
            )


def require_batch(caller: str, x: Any) -> None:
    """Refuse what is no batch of samples with values. Reads none of them."""
    if not isinstance(x, Tensor) or x.ndim < 1 or without_values(x):
        got = (
            type(x).__name__
            if not isinstance(x, Tensor)
            else "the meta device"
            if without_values(x)
            else "a single number"
        )
        raise ValueError(f"{caller} needs x as a tensor of inputs (n, ...); got {got}. Use torch.as_tensor.")
    require_dense(caller, "x", x)


def require_dense(caller: str, name: str, x: Tensor) -> None:
    """Refuse sparse and nested tensors, whose rows cannot be taken."""
    if x.is_nested or x.layout != torch.strided:
        kind, cure = ("nested", "torch.nested.to_padded_tensor") if x.is_nested else ("sparse", "to_dense()")
        raise ValueError(f"{caller} needs {name} as a dense tensor (n, ...); got a {kind} one. Use {cure}.")


def require_values(model: nn.Module, caller: str) -> None:
    """Refuse a model whose parameters or buffers have no values yet, or none that can be trained."""
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer):
            raise ValueError(
                f"{caller} needs a model whose tensors have values; {name!r} of a lazy module has none yet. "
                "Call the model on one batch first."
            )
        if tensor.is_inference():
            raise ValueError(
                f"{caller} needs a model that can be trained; {name!r} was made under torch.inference_mode. "
                "Make the model outside of it, or pass copy.deepcopy(model)."
            )
        if without_values(tensor):
            raise ValueError(
                f"{caller} needs a model whose tensors have values; {name!r} is on the meta device. "
                "Use model.to_empty(device=...) and load its weights."
            )


@torch.no_grad()
def require_separate_samples(call: Callable[[Tensor], Any], x: Tensor, caller: str) -> None:
    """Refuse a map whose output for one sample depends on its place in the batch, the other samples of it, or chance.

    call: from a batch to a tensor with a row for each sample. Two samples of x are put into batches of four, at the
    same place and with different neighbours: their rows have to be the same, up to rounding. One would not do: the
    sample that holds the largest entry is divided by the same number in every batch.
    ValueError: rows that differ, another number of rows than samples, another output at a second call or with gradients
    on. The generators of random numbers stand afterwards where they stood.
    """
    with chance_restored():
        batches = _batches(x.detach(), lambda sample: call(sample.clone()))
        if batches is not None:
            _require_separate_samples(lambda batch: call(batch.clone()), batches, caller)  # it may write into them


def _require_separate_samples(call: Callable[[Tensor], Any], batches: tuple[Tensor, Tensor], caller: str) -> None:
    alone, among = call(batches[0]), call(batches[1])
    for rows in (alone, among):
        if not isinstance(rows, Tensor) or rows.ndim < 1 or len(rows) != len(batches[0]):
            got = f"shape {tuple(rows.shape)}" if isinstance(rows, Tensor) else type(rows).__name__
            raise ValueError(
                f"{caller} needs a model that returns one tensor with a row for each sample; four samples gave {got}."
            )
    scale = torch.maximum(alone.abs().amax(), among[1].abs().amax()).nan_to_num(nan=0.0)
    unit = torch.finfo(alone.dtype).eps if alone.is_floating_point() else 0.0
    since = generators()
    again = _with_gradients(call, batches[0])
    moved = drawn(since)

    def distance(rows: Tensor) -> Tensor:
        return (rows - alone).abs().nan_to_num(nan=0.0).amax()

    noise, allowed = distance(again), unit**0.5 * scale
    if not bool(noise <= allowed) and not moved and bool(distance(call(batches[0])) <= allowed):
        raise ValueError(
            f"{caller} needs a model that is one function; here its output with gradients on is another one than "
            "without. Look for branches on torch.is_grad_enabled() and for fused layers."
        )
    tries = _TRIES if moved else 0  # what is drawn may be seldom seen in the output, or serve other things
    if not bool(noise <= allowed) or any(not bool(distance(call(batches[0])) <= allowed) for _ in range(tries)):
        raise ValueError(
            f"{caller} needs a model that gives the same output each time; two calls on the same samples differ. "
            "Call model.eval() first, or switch off what draws random numbers in its forward (stochastic depth, "
            "functional.dropout with training=True, say)."
        )
    neighbour = call(batches[1][:1].expand_as(batches[1]))
    for one, beside in ((alone[1], among[1]), (neighbour[0], among[0])):
        change = (one - beside).abs().nan_to_num(nan=0.0)
        size = torch.maximum(one.abs().amax(), beside.abs().amax()).nan_to_num(nan=0.0)
        if bool((change <= _ROUNDING * unit * size + 100 * noise).all()):
            continue
        raise ValueError(
            f"{caller} needs a model that maps each sample by itself; here the output of one sample changes with the "
            "other samples of its batch. Look for sums or means over axis 0, and for sequence layers without "
            "batch_first=True."
        )
    moved = (alone - alone[:1]).abs().nan_to_num(nan=0.0)
    if not bool((moved <= _ROUNDING * unit * scale + 100 * noise).all()):
        raise ValueError(f"{caller} needs a model that maps each sample by itself; {PLACES}")


def _with_gradients(call: Callable[[Tensor], Any], batch: Tensor) -> Tensor:
    """The output with gradients on; where autograd refuses, which is for others to tell, without."""
    try:
        with torch.enable_grad():
            return call(batch).detach()
    except RuntimeError as error:
        if out_of_memory(error):
            raise
        return call(batch)


def made_up(sample: Tensor, call: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Samples other than the given one (1, ...), on which the call is finite; none where no try is.

    Its entries turned round, which keep their range and size; its half; its double. A model may have a domain: what it
    does outside of that counts as no value.
    """
    turned = sample.flatten(1).flip(1).view(sample.shape) if sample.ndim > 1 else sample
    for other in (turned, sample / 2, 2 * sample + 1) if sample.is_floating_point() else ():
        if torch.equal(other, sample):
            continue
        try:
            finite = bool(call(other).isfinite().all())
        except Exception as error:
            if out_of_memory(error):
                raise
            continue
        if finite:
            yield other


def _batches(x: Tensor, call: Callable[[Tensor], Any]) -> tuple[Tensor, Tensor] | None:
    """Four times the first sample, and that sample at place 1 among others; None if there are no others."""
    sample, pool = x[:1], x[:_POOL]
    differs = (pool != sample).reshape(len(pool), -1).any(1).tolist()
    others = [each for each, differ in zip(pool, differs, strict=True) if differ]
    if not others:
        others = [other[0] for other in made_up(sample, call)]
        if not others and not x.is_floating_point():
            return None
        others = others or [x[0]]
    first, *rest = (others[place % len(others)] for place in range(3))
    return sample.expand(4, *x.shape[1:]).clone(), torch.stack([first, x[0], *rest])


class FirstBatch:
    """For modules that wrap a model: looks for mixed samples and for chance, at the first batch of two or more samples.

    Where torch traces or transforms the call (compile, export, vmap, grad), entries cannot be read; it waits then.
    """

    def __init__(self) -> None:
        self._looked: set[tuple[bool, ...]] = set()

    @property
    def seen(self) -> bool:
        """Whether it has looked."""
        return bool(self._looked)

    def waits(self, modes: tuple[bool, ...]) -> bool:
        """Whether it has not looked in these modes."""
        return modes not in self._looked

    def look(self, call: Callable[[Tensor], Any], x: Tensor, caller: str, modes: tuple[bool, ...] = ()) -> bool:
        """Whether it looked, now, and found nothing wrong; once for each of the `modes` of the parts of a model."""
        if not readable() or not self.waits(modes) or not isinstance(x, Tensor) or x.ndim < 1 or len(x) < 2:
            return False
        require_separate_samples(call, x, caller)
        self._looked.add(modes)
        return True


def readable() -> bool:
    """Whether entries can be read here: not while torch traces or transforms a call."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return False
    return torch._C._functorch.peek_interpreter_stack() is None  # pyright: ignore[reportAttributeAccessIssue]
