"""The tangent operator of a torch module on given inputs: J, Jᵀ and Θ = J Jᵀ as products, Θ as a matrix."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from regimes.checks import alike, count, finite, shapes
from regimes.conventions import Params
from regimes.modules import made_up
from regimes.tangent.finite import require_finite
from regimes.tangent.functional import trainable
from regimes.tangent.gram.capture import Unread, recorded
from regimes.tangent.gram.coverage import Coverage, coverage
from regimes.tangent.gram.features import Features
from regimes.tangent.gram.files import KernelFile, fingerprint
from regimes.tangent.gram.forms import Outputs
from regimes.tangent.gram.showing import Shown
from regimes.tangent.gram.tiles import TILING
from regimes.tangent.gram.whole import Task, by_layer, contents, whole
from regimes.tangent.inputs import (
    Forward,
    Samples,
    adapted,
    alone,
    inner_names,
    other_samples,
    outer_layers,
    outer_names,
    pool_of,
)
from regimes.tangent.model import require_samples, tangent_model
from regimes.tangent.pieces import Pieces
from regimes.tangent.precision import full_precision
from regimes.tangent.turns import turn

MEMORY = 2 * 2**30  # bytes that the work on one kernel may take beside its result
_NAMED = ("full", "trace", "diagonal")


class TangentOperator:
    """J (n·k × p): the derivatives of every output of every sample by all trainable parameters. Never formed whole.

    Made by tangent_operator. jvp: J v; vjp: Jᵀ u; matvec: Θ v; gram: Θ = J Jᵀ or parts of it. All are taken at the
    model's present parameters: a step of an optimiser moves the operator too. The inputs are not copied: leave them as
    they are. The model itself is looked at when the operator is made, and again where a part of it was put into another
    mode since: dropout and batch statistics are refused then, too. Outputs of more than one axis are flattened to k.
    """

    def __init__(
        self,
        model: nn.Module,
        x: Samples,
        *,
        forward: Forward | None = None,
        memory: int = MEMORY,
        caller: str = "tangent_operator",
    ) -> None:
        self.memory = count(caller, "memory", memory)
        self.caller = caller
        model, batch = adapted(model, x, forward, caller)
        with turn(model):
            self.tangent = tangent_model(model, batch, caller)
        self.model, self.x, self.outputs = self.tangent.plain.model, batch.detach(), self.tangent.outputs
        self._covered: Coverage | None = None
        self._names: list[str] = []  # of the parameters that were trainable then
        self._pieces = Pieces(self.tangent, self.memory)
        self._modes = self._present_modes()

    def vjp(self, cotangent: Float[Tensor, "n k"], x: Samples | None = None) -> Params:
        """Jᵀ·cotangent: name -> shape of the parameter. x: other inputs than those of the operator."""
        with self._beside(x, "x") as other:
            self._require_vector("cotangent", cotangent, len(other))
            return outer_names(self.model, self._pulled(other, [cotangent])[0])

    def vjps(self, cotangents: Sequence[Float[Tensor, "n k"]]) -> list[Params]:
        """Jᵀ of several cotangents, which share the forward pass. The results are not counted in `memory`."""
        for cotangent in cotangents:
            self._require_vector("cotangent", cotangent, len(self.x))
        with turn(self.model):
            self._look_again()
            pulled = self._pulled(self.x, cotangents) if cotangents else []
        return [outer_names(self.model, each) for each in pulled]

    def jvp(self, direction: Params, x: Samples | None = None) -> Float[Tensor, "n k"]:
        """J·direction; the direction has the names and shapes of the trainable parameters."""
        direction = inner_names(self.model, direction)
        given = {name: (tuple(v.shape), v.dtype) for name, v in direction.items()}
        needed = {name: (tuple(v.shape), v.dtype) for name, v in self.tangent.params.items()}
        if given != needed:
            raise ValueError(
                f"{self.caller} needs a direction with the names, shapes and dtypes of the trainable parameters; "
                f"got {given} for {needed}."
            )
        finite(self.caller, **{f"direction {name!r}": value for name, value in direction.items()})
        with self._beside(x, "x") as other:
            return self._pushed(other, {name: direction[name] for name in needed})

    def matvec(self, vector: Float[Tensor, "rows columns"], x2: Samples | None = None) -> Float[Tensor, "n1 k"]:
        """Σ_jb Θ(x_i, x2_j)_ab v_jb without Θ: one pass back at x2, one forward at x. x2 = None means x."""
        with self._beside(x2) as other:
            self._require_vector("vector", vector, len(other), " of x2")
            return self._pushed(self.x, self._pulled(other, [vector])[0])

    def gram(
        self,
        x2: Samples | None = None,
        *,
        outputs: str | Sequence[int] = "full",
        block: int | None = None,
        out: Path | str | None = None,
        progress: bool | Shown = False,
    ) -> Float[Tensor, "n1 n2 k k"] | Float[Tensor, "n1 n2 k"] | Float[Tensor, "n1 n2"]:
        """Θ(x, x2)_ab = Σ_parameters ∂f_a(x) ∂f_b(x2); x2 = None means x, and an exactly symmetric result.

        outputs: "full" gives (n, n2, k, k), "trace" Σ_a Θ_aa (n, n2), "diagonal" Θ_aa (n, n2, k); a list of outputs
        gives the full kernel of those. One forward pass and one backward pass for each output, then products of what
        arrives at each layer; parameters whose use cannot be read from the graph go row by row. Each derivative is
        formed once: pieces that do not fit into `memory` wait in temporary files, and are formed again only where the
        disk has no room. block: samples at a time (None: as many as `memory` holds).
        out: a file for a kernel that memory does not hold, in the format .npy; the result is a view of it. A note
        beside it (out + ".progress.json") says which tiles are there: the same call goes on after a kill, and returns
        at once when all are. It is known by weights, buffers, inputs, outputs and its first entries.
        progress: True shows it on stderr; a function is told (done, total) after each tile.
        """
        with torch.inference_mode(False), full_precision(self.tangent.device), self._beside(x2) as beside:
            chosen, form = self._chosen(outputs)
            other = None if x2 is None else beside
            file = None

            def work() -> Tensor:
                nonlocal file
                task = self._task(chosen, form, other, block, progress)
                if out is not None and file is None:
                    which = fingerprint(contents(task, pool_of(self.model)))
                    plan = f"{which} {form.name} {block} {self.memory} {TILING}"
                    file = KernelFile(self.caller, out, task.shape, self.tangent.dtype, plan)
                    if file.sizes.get("by_rows", False):
                        self._go_by_rows()
                        task = self._task(chosen, form, other, block, progress)
                return whole(task, file)

            try:
                return work()
            except Unread:
                self._go_by_rows()
                if file is not None:
                    file.restart()
                return work()

    def layers(
        self,
        x2: Samples | None = None,
        *,
        outputs: str | Sequence[int] = "full",
        block: int | None = None,
        progress: bool | Shown = False,
    ) -> dict[str, Tensor]:
        """The kernel of each layer's parameters alone, by the name of the module; their sum is `gram`.

        A bias counts with the weight of the operation that adds it; a tied parameter with the module that it is first
        named in. Formed together: the passes are those of one kernel. Parameters that the output does not use are left
        out.
        """
        with torch.inference_mode(False), full_precision(self.tangent.device), self._beside(x2) as beside:
            chosen, form = self._chosen(outputs)
            other = None if x2 is None else beside
            try:
                found = by_layer(self._task(chosen, form, other, block, progress))
            except Unread:
                self._go_by_rows()
                found = by_layer(self._task(chosen, form, other, block, progress))
        return outer_layers(self.model, found)

    def _pulled(self, x: Tensor, cotangents: Sequence[Tensor]) -> list[Params]:
        found = self._pieces.pull_back(x, [each.detach() for each in cotangents])
        for pulled in found:
            require_finite(self.caller, {f"parameter {name!r}": value for name, value in pulled.items()})
        return found

    def _pushed(self, x: Tensor, direction: Params) -> Tensor:
        pushed = self._pieces.push(x, direction)
        require_finite(self.caller, {"the output": pushed})
        return pushed

    def _go_by_rows(self) -> None:
        """Read nothing from the graph: it is another one on other samples."""
        self._covered = Coverage((), (), tuple(self._names))

    def _task(
        self, chosen: Tensor, outputs: Outputs, x2: Tensor | None, block: int | None, progress: bool | Shown
    ) -> Task:
        if block is not None:
            count(self.caller, "block", block)
        params: Params = dict(trainable(self.model))
        if self._covered is None or self._names != list(params):
            self._names, self._covered = list(params), coverage(self.model, params, self._two(x2), self.outputs)
        features = Features(
            self.model, params, self._covered, self.tangent.rows, chosen, self.outputs, outputs, self.tangent.dtype
        ).sized(len(self.x), self.memory)
        return Task(features, self.x, x2, self._two(x2), self.memory, block, progress, self.caller)

    def _chosen(self, outputs: str | Sequence[int]) -> tuple[Tensor, Outputs]:
        k, device = self.outputs, self.tangent.device
        if isinstance(outputs, str) or not isinstance(outputs, Sequence):
            if not isinstance(outputs, str) or outputs not in _NAMED:
                raise ValueError(
                    f"{self.caller} needs outputs='full', 'trace' or 'diagonal', or a list of outputs; got {outputs!r}."
                )
            return torch.arange(k, device=device), Outputs(outputs)
        numbers = [count(self.caller, "every output", each, 0) for each in outputs]
        if not numbers or max(numbers) >= k or len(set(numbers)) < len(numbers):
            raise ValueError(f"{self.caller} needs different outputs from 0 to {k - 1}, at least one; got {numbers}.")
        return torch.tensor(numbers, device=device), Outputs("full")

    def _two(self, x2: Tensor | None) -> Tensor:
        """Two samples, different ones where there are any."""
        first = self.x[:1]
        for others in (self.x[1:64], x2[:64] if x2 is not None else self.x[:0]):
            differs = (others != first).flatten(1).any(1) if first.ndim > 1 else others != first
            if differs.any():
                return torch.cat([first, others.index_select(0, differs.int().argmax()[None])])
        other = next(made_up(first, lambda sample: recorded(self.model, sample)), None)
        return torch.cat([first, first if other is None else other])

    @contextmanager
    def _beside(self, x: Any, name: str = "x2") -> Iterator[Tensor]:
        """Samples of the kind of those of the operator, which an adapted model holds no longer than this."""
        with turn(self.model):
            self._look_again()
            try:
                yield self._others(x, name)
            finally:
                alone(self.model)

    def _present_modes(self) -> list[bool]:
        return [module.training for module in self.model.modules()]

    def _look_again(self) -> None:
        """At a model of which a part is in another mode now."""
        if self._present_modes() != self._modes:
            self.tangent = tangent_model(self.model, self.x, self.caller)
            self._pieces, self._covered = Pieces(self.tangent, self.memory), None
            self._modes = self._present_modes()

    def _others(self, x: Any, name: str = "x2") -> Tensor:
        """Samples of the kind of those of the operator; these where none are given."""
        if x is None:
            return self.x
        x = other_samples(self.model, x, self.caller, name)
        require_samples(x, self.caller, name)
        if x.shape[1:] != self.x.shape[1:] or x.dtype != self.x.dtype or x.device != self.x.device:
            raise ValueError(
                f"{self.caller} needs {'x1 and x2' if name == 'x2' else 'inputs'} of one sample shape, dtype and "
                f"device; got {tuple(self.x.shape)} {self.x.dtype} {self.x.device} and {tuple(x.shape)} {x.dtype} "
                f"{x.device}. Convert one of them."
            )
        finite(self.caller, **{name: x})
        return x.detach()

    def _require_vector(self, name: str, vector: Tensor, n: int, where: str = "") -> None:
        cure = f"A row for each of the {n} samples{where}, a column for each of the {self.outputs} outputs"
        given: dict[str, Any] = {name: (vector, f"{n} {self.outputs}")}
        shapes(self.caller, cure=cure, **given)
        finite(self.caller, **{name: vector})
        alike(self.caller, **{name: vector}, output=torch.empty(0, dtype=self.tangent.dtype, device=self.x.device))


def tangent_operator(
    model: nn.Module, x: Samples, *, forward: Forward | None = None, memory: int = MEMORY
) -> TangentOperator:
    """The derivatives of a torch module by its trainable parameters, on the samples x, as an operator.

    x: a tensor; or a mapping of tensors (called as model(**x)) or a tuple (model(*x)) with a row for each sample.
    forward: forward(model, batch) calls the model in another way. The output is a tensor, its `logits`, or the only
    tensor in it.
    memory: bytes that the work on a kernel may take beside its result, where one sample and one output fit at all.
    Frozen parameters do not count; shared ones count once with all their uses. Full precision, whatever autocast and
    torch.set_float32_matmul_precision say. Threads take turns on one model, whose parameters are replaced meanwhile.
    ValueError: what ntk refuses; derivatives that are not finite, at any sample.
    Source: [JacotGabrielHongler2018].
    """
    return TangentOperator(model, x, forward=forward, memory=memory)
