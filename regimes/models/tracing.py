"""States and steps of the residual blocks of any torch model: what `ResidualNet` gives, for a model of one's own."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Literal, overload

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from regimes.models.recording import Call, recorded, same, segments
from regimes.models.residual import ResidualNet, Trace
from regimes.models.selection import Chosen, some_names, submodule_names
from regimes.models.untraced import left_to_chance, say, shortcuts_left_out, skipped, watched
from regimes.modules import drawn, generators, one_path, readable, sole_tensor, unwrapped


def trace_residuals(
    model: nn.Module,
    blocks: Chosen | None = None,
    *,
    shortcuts: Chosen | None = None,
    output: Callable[[Any], Tensor] | None = None,
) -> "TracedModel":
    """Any torch model with the interface of `ResidualNet`: states and steps of the blocks named, by forward hooks.

    blocks: names of submodules, patterns in which * and ? match within one part of a dotted name ("layer?.*"), module
    classes, or the modules themselves; for a `ResidualNet` nothing, it knows its own.
    A block goes from its first tensor argument to its output, or the first tensor in that, and moves by the difference.
    Where both differ in shape there is no difference: the block's output starts a new segment. If its shortcut is a
    submodule, name it in `shortcuts`, and the step is output − shortcut(input), as `ResidualNet` counts it.
    output: what the model returns → output (n, k); by default the tensor itself, its `logits`, or the only tensor.
    A model in DistributedDataParallel is called through that, one in DataParallel is taken out of it.
    The model itself stays as it is, with no hooks between calls.
    A UserWarning says, once, what the steps leave out: shortcuts that are not named (shortcuts=() says that this is
    meant), blocks that chance skips (stochastic depth), random numbers in eval mode.
    """
    if not isinstance(model, nn.Module):
        raise ValueError(f"trace_residuals needs a torch module; got {type(model).__name__}.")
    if output is not None and not callable(output):
        raise ValueError(f"trace_residuals needs output as a function of what the model returns; got {output!r}.")
    whole, model = model, unwrapped(model)
    if not isinstance(whole, DistributedDataParallel):
        whole = model
    if isinstance(model, ResidualNet):
        own = [f"segments.{k}.blocks.{j}" for k in range(len(model.segments)) for j in range(_length(model, k))]
        if shortcuts is not None or (blocks is not None and submodule_names(model, blocks, "blocks") != own):
            raise ValueError("a ResidualNet traces all its own blocks and shortcuts: leave blocks and shortcuts out.")
        return TracedModel(whole, own, [], output)
    if blocks is None:
        raise ValueError(f"trace_residuals needs the residual blocks, blocks=...; {some_names(model)}.")
    found = submodule_names(model, blocks, "blocks")
    for outer in found:
        for inner in found:
            if _inside(inner, outer):
                raise ValueError(f"block {inner!r} lies inside block {outer!r}: name one, or its step counts twice.")
    none = shortcuts is None or (isinstance(shortcuts, list | tuple) and not shortcuts)
    links = [] if none or shortcuts is None else submodule_names(model, shortcuts, "shortcuts")
    for link in links:
        if not any(_inside(link, outer) for outer in found):
            raise ValueError(f"the shortcut {link!r} lies in none of the blocks {', '.join(found[:8])}.")
    return TracedModel(whole, found, links, output, all_links=none and shortcuts is not None)


class TracedModel(nn.Module):
    """What `trace_residuals` returns: a call gives a Trace, with trace=False the output alone.

    One path a segment: blocks that hand their output on unchanged to the next block. Steps are differences and carry
    their rounding. `names` are the blocks' names. Nothing is kept after a call but in its trace.
    """

    def __init__(
        self,
        model: nn.Module,
        names: list[str],
        shortcuts: list[str],
        output: Callable[[Any], Tensor] | None,
        *,
        all_links: bool = False,
    ) -> None:
        super().__init__()
        self.model, self.names, self.shortcuts, self.output = model, names, shortcuts, output
        self._all_links = all_links  # no other shortcut is missed
        self._said: set[str] = set()
        self._called: set[str] = set()
        self._looked: set[bool] = set()  # the modes in which a call was looked at

    @property
    def own(self) -> nn.Module:
        """The model without its wrapper for several processes: that in which the names are."""
        return unwrapped(self.model)

    @overload
    def forward(self, *inputs: Any, trace: Literal[True] = True, **named: Any) -> Trace: ...
    @overload
    def forward(self, *inputs: Any, trace: Literal[False], **named: Any) -> Tensor: ...
    def forward(self, *inputs: Any, trace: bool = True, **named: Any) -> Tensor | Trace:
        """Trace, or the output (n, k) alone; all other arguments go to the model."""
        if not trace:
            with one_path():
                return self._read(self.model(*inputs, **named))
        if isinstance(self.own, ResidualNet):
            own = self.model(*inputs, trace=True, **named)
            return own._replace(output=self._read(own.output))
        result, calls = self._recorded(inputs, named, readable())
        if not calls:  # chance has skipped all blocks
            still = result.new_zeros(len(result), 1)
            return Trace(result, ((still, still),), ((still,),))
        return Trace(result, *segments(calls))

    def calls(self, *inputs: Any, **named: Any) -> tuple[Tensor, list[Call]]:
        """The output, and the calls of the named blocks in the order in which they ended."""
        return self._recorded(inputs, named, speaks=False)

    def _recorded(self, inputs: tuple[Any, ...], named: dict[str, Any], speaks: bool) -> tuple[Tensor, list[Call]]:
        own = self.own
        first = speaks and self.training not in self._looked
        asked = speaks and self.training and len(self._called) < len(self.names)
        with ExitStack() as stack:
            stack.enter_context(one_path())
            seen = stack.enter_context(watched(own, self.names, self.shortcuts)) if first else None
            calls = stack.enter_context(recorded(own, self.names, self.shortcuts))
            before = generators() if asked else None
            returned = self.model(*inputs, **named)
            chance = before is not None and drawn(before)
            result = self._read(returned)
        still = self._check(calls, chance)
        if speaks:
            self._called.update(call.name for call in calls)
            still += [call.name for call in calls if same(call.start, call.end)]
            if still:
                say(skipped(still), self._said)
        if seen is not None:
            self._looked.add(self.training)
            if not self._all_links:
                for text in shortcuts_left_out(calls, seen.parts):
                    say(text, self._said)
            for text in left_to_chance(own, calls, seen.drew):
                say(text, self._said)
        return result, calls

    def _read(self, result: Any) -> Tensor:
        given = self.output(result) if self.output is not None else sole_tensor(result)
        if not isinstance(given, Tensor):
            raise ValueError(
                f"the model returns a {type(result).__name__}, not a tensor: pass output=, a function from what it "
                "returns to its output (n, k)."
            )
        return given

    def _check(self, calls: list[Call], chance: bool) -> list[str]:
        """Blocks that this call left out by chance; ValueError for what has no steps."""
        called = {call.name for call in calls}
        missed = [name for name in self.names if name not in called]
        never = [name for name in missed if name not in self._called]
        if never and not chance:
            raise ValueError(
                f"the model's forward never calls {', '.join(never[:8])}: leave such blocks out "
                "(or, if the model is compiled, trace the model itself)."
            )
        for call in calls:
            if not call.intact():
                raise ValueError(
                    f"block {call.name!r} starts from or ends at a state that is overwritten in place, and so lost: "
                    "use inplace=False, or x = x + r for x += r, in it or next to it."
                )
        if calls and not any(call.moves() for call in calls):
            raise ValueError(
                f"no block keeps the shape of its state, so there is no step ({calls[0].name!r}: "
                f"{tuple(calls[0].start.shape)} to {tuple(calls[0].end.shape)}): name shortcuts, or other blocks."
            )
        return missed


def _inside(inner: str, outer: str) -> bool:
    return inner != outer and (outer == "" or inner.startswith(f"{outer}."))


def _length(model: ResidualNet, index: int) -> int:
    return len(model.segment(index).blocks)
