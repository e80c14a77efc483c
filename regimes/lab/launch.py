"""Whether this process is one of several that train together, as the environment says."""

import os
from collections.abc import Sequence

WANTED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what a launcher sets
LAUNCHED = "TORCHELASTIC_RUN_ID"  # what torchrun sets besides
TOGETHER = "train"  # the command that several processes do together


def forget_leftovers(arguments: Sequence[str]) -> None:
    """Remove a RANK and a WORLD_SIZE that no launcher of this command has set; to be called by a program first.

    A shell or a job may have them from elsewhere: then every process but "the first" would keep silent. WORLD_SIZE
    stays for `train`, which says what is missing beside it.
    """
    if LAUNCHED in os.environ or not {"RANK", "WORLD_SIZE"} & set(os.environ):
        return
    rank, count = (_number(os.environ.get(name)) for name in ("RANK", "WORLD_SIZE"))
    if TOGETHER in arguments and rank is not None and count is not None and rank < count and count > 1:
        if all(name in os.environ for name in WANTED):
            return
        os.environ.pop("RANK")
        return
    os.environ.pop("RANK", None)
    if TOGETHER not in arguments or not (count or 0) > 1:
        os.environ.pop("WORLD_SIZE", None)


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() else None
