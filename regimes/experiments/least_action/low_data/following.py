"""Trainings side by side, each watched epoch by epoch, kept on the way, and ended when nobody has more to see."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from regimes.data.batches import Batches
from regimes.data.member_batches import MemberBatches
from regimes.threads import threads_for
from regimes.training.assemble import compiled, training_work
from regimes.training.config import TrainConfig
from regimes.training.ensemble import EnsembleTraining, ensemble_of
from regimes.training.loop import Training, descend
from regimes.training.runtime import autocast
from regimes.training.unfinished import Unfinished


@runtime_checkable
class Watcher(Protocol):
    """Sees one net along training; `done` once it has seen all that it wants."""

    @property
    def done(self) -> bool: ...

    def stepped(self, risk: Tensor, samples: int) -> None:
        """After a step: the risk of its batch before it, and of how many samples."""
        ...

    def epoch_ended(self, net: Training) -> None:
        """After an epoch; `net.epoch` are done by now."""
        ...

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


def follow(
    train: TrainConfig,
    nets: Sequence[Training],
    batches: Sequence[Batches],
    watchers: Sequence[Watcher],
    whose: Mapping[str, Any],
    folder: Path | None,
    *,
    epochs: int,
) -> None:
    """Train each net on its batches until all watchers are done, at most so many epochs; side by side if several.

    folder: where it is kept what they go on from, known by `whose`; afterwards the nets are at the end of training.
    """
    several = len(nets) > 1
    kept = Unfinished(folder, whose, nets)
    for watcher, state in zip(watchers, kept.take_up(), strict=False):
        watcher.load_state_dict(state)
    if not several:
        compiled(train, nets[0].model)
    together = ensemble_of(train, nets) if several else nets[0]
    drawn = MemberBatches(batches) if several else batches[0]

    def settle() -> None:
        if isinstance(together, EnsembleTraining):
            together.settle(nets)

    def seen_so_far() -> list[dict[str, Any]]:
        settle()
        return [watcher.state_dict() for watcher in watchers]

    with threads_for(len(nets) * training_work(nets[0].model, batches[0])):
        with kept.watched(seen_so_far) as stepped:
            steps = descend(together, drawn, epochs=epochs, autocast=autocast(train.device, train.bf16))
            while not all(watcher.done for watcher in watchers):
                step = next(steps, None)
                if step is None:
                    break
                for watcher, risk in zip(watchers, step.risk.reshape(-1), strict=True):
                    watcher.stepped(risk, step.samples)
                if together.step == 0:
                    settle()
                    for watcher, net in zip(watchers, nets, strict=True):
                        watcher.epoch_ended(net)
                stepped()
        settle()
