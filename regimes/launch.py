"""Whether this process is one of several that train together, as the environment says; loads nothing heavy."""

import os
from collections.abc import Sequence

LAUNCHED = "TORCHELASTIC_RUN_ID"  # what torchrun sets in the environment of its processes
MEETING_PLACE = ("MASTER_ADDR", "MASTER_PORT")  # what every launcher sets beside RANK and WORLD_SIZE
TOGETHER = "train"  # the command that several processes do together


def forget_leftovers(arguments: Sequence[str]) -> None:
    """Remove a RANK and a WORLD_SIZE that no launcher of this command has set; to be called by a program first.

    A shell or a job may have them from elsewhere: then every process but "the first" would keep silent. WORLD_SIZE
    stays for `train`, which says what is missing beside it, and speaks as the first.
    """
    if LAUNCHED in os.environ or not {"RANK", "WORLD_SIZE"} & set(os.environ):
        return
    command = next((word for word in arguments if not word.startswith("-")), None)
    count = number(os.environ.get("WORLD_SIZE")) or 0
    if command != TOGETHER or count < 2:
        os.environ.pop("WORLD_SIZE", None)
        os.environ.pop("RANK", None)
    elif (lost := lacking(count)) and "RANK" in os.environ:
        if lost[0].startswith("RANK"):
            del os.environ["RANK"]
        else:
            os.environ["RANK"] = "0"


def lacking(count: int) -> list[str]:
    """What one of `count` processes needs in its environment and has not, RANK first."""
    rank = number(os.environ.get("RANK"))
    lost = [] if rank is not None and rank < count else [f"RANK from 0 to {count - 1}"]
    return [*lost, *(name for name in MEETING_PLACE if not os.environ.get(name))]


def number(text: str | None) -> int | None:
    """The whole number of at least 0 that a text is; None for any other text."""
    return int(text) if text is not None and text.isdecimal() else None
