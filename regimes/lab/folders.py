"""The folder of a statement's run, if none is given: another one for other settings."""

import hashlib
import json
from pathlib import Path
from typing import Any

from regimes.lab.config import Settings, dump, load
from regimes.lab.shipped import shipped
from regimes.lab.stamps import PLACES


def folder_of(name: str, settings: Settings) -> Path:
    """runs/NAME for configs/NAME.yaml, runs/NAME-X for configs/X/NAME.yaml, runs/NAME-smoke for the defaults.

    Any other settings: runs/NAME-DIGEST, with a digest of them.
    """
    if (file := shipped_with(name, settings)) is not None:
        return Path("runs", "-".join([name, *Path(file).parts[1:-1]]))
    own = what(settings)
    if what(load(type(settings))) == own:
        return Path("runs", f"{name}-smoke")
    return Path("runs", f"{name}-{hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()[:6]}")


def shipped_with(name: str, settings: Settings) -> str | None:
    """The file of a statement that comes with regimes and has these settings, as --config takes it."""
    own = what(settings)
    return next((file for file in shipped(name) if what(load(type(settings), file)) == own), None)


def what(settings: Settings) -> dict[str, Any]:
    """The settings that say what is measured."""
    return {key: value for key, value in dump(settings).items() if key not in PLACES}
