"""Arms by name: a method of training, and perhaps settings of its own."""

import re
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator

from regimes.errors import UserError
from regimes.lab.config import dump
from regimes.training.config import TrainConfig

METHODS: dict[str, dict[str, Any]] = {
    "vanilla": {"lap": False},
    "lap": {"lap": True, "form": "multiplied"},
    "lap_divided": {"lap": True, "form": "divided"},
    "control": {"lap": True, "form": "risk_only"},
}
SETTINGS = {"lr": float, "multiplier": float, "growth": float, "every": int}  # that the name of an arm may change
_OWN = rf"_(?:{'|'.join(SETTINGS)})\d*\.?\d+"
_NAME = re.compile(rf"({'|'.join(METHODS)})((?:{_OWN})*)")


class Arm(NamedTuple):
    """A method of `METHODS` and the settings with which it trains."""

    method: str
    train: TrainConfig


def read_arm(name: str, train: TrainConfig) -> Arm:
    """The arm of a name: "lap" takes the given settings, "lap_lr0.1" or "lap_divided_every5_growth0.1" its own."""
    method, own = _parts(name)
    return Arm(method, TrainConfig.model_validate({**dump(train), **METHODS[method], **own}))


def multiplier(name: str, usual: float) -> float:
    """The λ at the start of the arm of a name; `usual` where the name has none of its own."""
    return float(_parts(name)[1].get("multiplier", usual))


def _parts(name: str) -> tuple[str, dict[str, Any]]:
    """The method and the settings that a name carries."""
    found = _NAME.fullmatch(name)
    if found is None:
        raise UserError(
            f"an arm needs one of {', '.join(METHODS)}, perhaps followed by settings of its own "
            f"({', '.join(SETTINGS)}) as in lap_lr0.1; got {name!r}."
        )
    method, text = found.groups()
    own: dict[str, Any] = {}
    for setting, kind in SETTINGS.items():
        for value in re.findall(rf"_{setting}(\d*\.?\d+)", text):
            if setting in own or (kind is int and not value.isdigit()):
                raise UserError(f"an arm needs {setting} once and as a number of its kind; got {name!r}.")
            own[setting] = kind(value)
    return method, own


def _known(name: str) -> str:
    _parts(name)
    return name


ArmName = Annotated[str, AfterValidator(_known)]  # in settings: refused before anything is measured
