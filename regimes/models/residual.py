"""Residual networks f = F ∘ T ∘ φ: an encoder φ, segments of residual blocks T that transport its output, a head F."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import isfinite
from typing import Literal, NamedTuple, cast, overload

from jaxtyping import Float
from torch import Tensor, nn

from regimes.models.measured import measured_step, measured_sum, widened
from regimes.models.weighted_sum import weighted, weighted_sum


class Trace(NamedTuple):
    """What a residual network did to a batch.

    One path a segment: the states z_0..z_L, all of one shape; one tuple of steps a segment: v_l = z_l − z_{l−1}, as the
    block made it and not by subtraction, where the block adds its residual to its input. squares: Σ v_l² of each step
    over samples and features, where it was measured on the way, else none.
    """

    output: Float[Tensor, "n k"]
    paths: tuple[tuple[Tensor, ...], ...]
    steps: tuple[tuple[Tensor, ...], ...]
    squares: tuple[tuple[Tensor, ...], ...] = ()

    @property
    def flat_steps(self) -> list[Tensor]:
        """The steps of all segments, in order: what `transport_cost` takes."""
        return [step for segment in self.steps for step in segment]

    @property
    def flat_squares(self) -> list[Tensor]:
        """Their squares, or none."""
        return [squares for segment in self.squares for squares in segment]


class Move(NamedTuple):
    """One block's work: it starts at z_0 = shortcut(z) and ends at z_0 + step; squares: Σ step²."""

    start: Tensor
    step: Tensor
    end: Tensor
    squares: Tensor


class Block(nn.Module):
    """Residual block z ↦ ψ(s(z) + h r(z)), with shortcut s and ψ the identity unless given.

    The step that transport counts is h r(z), or ψ(s(z) + h r(z)) − s(z) where there is a ψ. A block with a shortcut
    that is not the identity changes the shape: it can only head a segment.
    """

    def __init__(
        self,
        residual: nn.Module,
        *,
        shortcut: nn.Module | None = None,
        activation: Callable[[Tensor], Tensor] | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        for name, part in (("residual", residual), ("shortcut", shortcut), ("activation", activation)):
            if part is not None and not callable(part):
                raise ValueError(f"Block needs {name} as a module or a function; got {part!r}.")
        if not isinstance(scale, int | float) or not isfinite(scale):
            raise ValueError(f"Block needs scale as a finite number; got {scale!r}.")
        self.residual = residual
        self.shortcut = shortcut
        self.activation = activation
        self.scale = scale

    def move(self, z: Float[Tensor, "n *feature"], weight: Float[Tensor, ""] | None = None) -> Move:
        """Start, step and end of the block's transport; `weight` multiplies h r(z), as the times of a segment do."""
        start, step, weight = self._summands(z, weight)
        if weight is not None:
            step = weight.to(start.dtype) * step
        if self.activation is None:
            end, squares = measured_sum(start, step)
        else:
            end, step, squares = measured_step(start, self.activation(start + step))
        return Move(start, step, end, squares)

    def end(self, z: Float[Tensor, "n *feature"], weight: Float[Tensor, ""] | None = None) -> Tensor:
        """The end of the same move, for which no step is made."""
        start, step, weight = self._summands(z, weight)
        end = start + step if weight is None else weighted_sum(start, step, weight.to(start.dtype))
        return end if self.activation is None else self.activation(end)

    def increment(self, z: Float[Tensor, "n *feature"]) -> Tensor:
        """The step of the same move, for which no end is made unless there is a ψ."""
        start, step, _ = self._summands(z, None)
        return step if self.activation is None else widened(self.activation(start + step)) - widened(start)

    def _summands(self, z: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """s(z), the step h r(z), and the weight that the step still lacks."""
        start = z if self.shortcut is None else self.shortcut(z)
        residual = None if weight is None else weighted(self.residual, z, weight)
        if residual is None:
            residual = self.residual(z)
        else:
            weight = None
        if residual.shape != start.shape:  # a sum would broadcast
            raise ValueError(
                f"a Block needs a residual of the state's shape {tuple(start.shape)}; got {tuple(residual.shape)}. "
                "Change the residual, or give the block a shortcut into its space."
            )
        return start, residual if self.scale == 1 else self.scale * residual, weight

    def forward(self, z: Float[Tensor, "n *feature"]) -> Tensor:
        """The state after the block."""
        return self.end(z)


class Segment(nn.Module):
    """Blocks one after the other in one space, the first of them perhaps with a shortcut into it."""

    regroups = True  # whether its blocks may go into a segment of another kind

    def __init__(self, blocks: Iterable[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        if len(self.blocks) == 0:
            raise ValueError("a segment needs at least one residual block; got none.")
        if not all(isinstance(block, Block) for block in self.blocks):
            raise ValueError("a segment needs Blocks: wrap a residual function r, as in Block(r), for z ↦ z + r(z).")
        if any(getattr(block, "shortcut", None) is not None for block in self.blocks[1:]):
            raise ValueError("only the first block of a segment may have a shortcut: start a new segment there.")

    @property
    def changes_space(self) -> bool:
        """Whether its first block has a shortcut, so that the segment's input lies in another space."""
        return self.blocks[0].shortcut is not None

    def block(self, number: int) -> Block:
        """Block by number, in the order of construction."""
        return cast(Block, self.blocks[number])

    def acting(self) -> list[tuple[Block, Tensor | None]]:
        """The blocks in the order in which they act, each with the weight of its step; None is 1."""
        return [(self.block(number), None) for number in range(len(self.blocks))]

    def moves(self, z: Float[Tensor, "n *feature"]) -> Iterator[Move]:
        """What each block does in turn."""
        for block, weight in self.acting():
            moved = block.move(z, weight)
            yield moved
            z = moved.end

    def maps(self) -> list[Callable[[Tensor], Tensor]]:
        """The blocks that act within the segment's space as maps of the state, in the order in which they act."""
        return list(self.blocks)[int(self.changes_space) :]

    def path(self, z: Float[Tensor, "n *feature"]) -> tuple[list[Tensor], list[Tensor]]:
        """States z_0..z_L (z_0 is the first block's start) and steps v_1..v_L."""
        states, steps, _ = self.traced(z)
        return states, steps

    def traced(self, z: Float[Tensor, "n *feature"]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """The same, and Σ v² of each step."""
        moves = list(self.moves(z))
        states = [moves[0].start, *(moved.end for moved in moves)]
        return states, [moved.step for moved in moves], [moved.squares for moved in moves]

    def transport(self, z: Float[Tensor, "n *feature"]) -> Float[Tensor, "n *feature"]:
        """The segment's map within its space: all blocks, without the first if that one comes from another space."""
        for block, weight in self.acting()[int(self.changes_space) :]:
            z = block.end(z, weight)
        return z

    def forward(self, z: Float[Tensor, "n *feature"]) -> Tensor:
        """The state after the last block."""
        for block, weight in self.acting():
            z = block.end(z, weight)
        return z


class ResidualNet(nn.Module):
    """f = F ∘ T ∘ φ with T the segments one after the other; without segments T is the identity of no blocks.

    `forward(x)` is f(x); `forward(x, trace=True)` gives the states and steps of every segment with it. Call the module
    itself (data-parallel wrappers see only that).
    """

    def __init__(self, encoder: nn.Module, segments: Sequence[Segment], head: nn.Module) -> None:
        super().__init__()
        for name, part in (("encoder", encoder), ("head", head)):
            if not isinstance(part, nn.Module):
                raise ValueError(f"ResidualNet needs its {name} as a torch module; got {type(part).__name__}.")
        if not all(isinstance(segment, Segment) for segment in segments):
            raise ValueError("ResidualNet needs its segments as Segment(blocks): blocks in a list are no segment.")
        self.encoder = encoder
        self.segments = nn.ModuleList(segments)
        self.head = head

    @overload
    def forward(self, x: Tensor, trace: Literal[False] = False) -> Tensor: ...
    @overload
    def forward(self, x: Tensor, trace: Literal[True]) -> Trace: ...
    def forward(self, x: Tensor, trace: bool = False) -> Tensor | Trace:
        """Output (n, k), or a Trace."""
        z = self.encoder(x)
        if not trace:
            for segment in self.segments:
                z = segment(z)
            return self.head(z)
        found = []
        for segment in self.segments:
            found.append([tuple(part) for part in segment.traced(z)])  # type: ignore[operator]
            z = found[-1][0][-1]
        paths, steps, squares = zip(*found, strict=True) if found else ((), (), ())
        return Trace(self.head(z), paths, steps, squares)

    def segment(self, index: int) -> Segment:
        """Segment by number, negative numbers from the end; ValueError says how many there are."""
        if not -len(self.segments) <= index < len(self.segments):
            raise ValueError(
                f"the network has {len(self.segments)} segments, numbered from 0; got {index}. Choose one of these."
            )
        return cast(Segment, self.segments[index])


def require_regroups(caller: str, model: ResidualNet) -> None:
    """Refuse segments that do more than to call their blocks in turn: in another segment it would be lost."""
    for segment in model.segments:
        if not cast(Segment, segment).regroups:
            raise ValueError(
                f"{caller} takes the blocks out of their segments; a {type(segment).__name__} does more than to call "
                "them. Leave that option of the architecture out."
            )


def cloud(trace: Trace, model: ResidualNet, index: int) -> tuple[Tensor, ...]:
    """States that segment `index` maps within one space: its path, without the first if its space changes there."""
    path = trace.paths[index]
    return path[1:] if model.segment(index).changes_space else path


def parameter_count(model: nn.Module) -> int:
    """Number of trained parameters, shared ones once."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def as_trace(output: Tensor | Trace) -> Trace:
    """The output itself if it is a Trace, else a Trace without paths."""
    return output if isinstance(output, Trace) else Trace(output, (), ())
