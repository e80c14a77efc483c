"""On which data the rows of an experiment are measured, for their stamps."""

from collections.abc import Iterator
from typing import Any

from regimes.lab.config import Settings, dump
from regimes.lab.stamps import digest


def data_digest(config: Settings) -> str | None:
    """Digest of the data sets that the settings name, anywhere among them; None where all data are drawn from seeds."""
    from regimes.data.origins import files_digest

    found = {name: made for name in set(_texts(dump(config))) if (made := files_digest(name)) is not None}
    return digest(found) if found else None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
