"""Saved weights into a network made anew."""

from collections.abc import Mapping

from torch import Tensor, nn

from regimes.errors import UserError


def put_weights(model: nn.Module, weights: Mapping[str, Tensor], arch: str) -> None:
    """Load weights into a model; ValueError names the architecture and the first mismatch."""
    present = model.state_dict()
    for name in dict.fromkeys([*present, *weights]):
        came, needed = weights.get(name), present.get(name)
        if needed is None or came is None or came.shape != needed.shape:
            needs, got = ("nothing" if x is None else f"shape {tuple(x.shape)}" for x in (needed, came))
            raise UserError(
                f"the weights do not fit {arch}: {name} needs {needs}, the checkpoint has {got}; "
                "use the architecture and options that it was trained with"
            )
        if came.is_complex() and not needed.is_complex():
            raise UserError(f"the weights do not fit {arch}: {name} is complex in the checkpoint, and real here")
    model.load_state_dict(weights)
