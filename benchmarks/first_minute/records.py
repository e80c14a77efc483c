"""What was found, one JSON line each, written at once: what comes after may fail or be cut off."""

import json
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Found = dict[str, Any]


class Records:
    """The lines of one item, in a file of its own; `deadline` is when it must be done, by the clock of `time.time`."""

    def __init__(self, folder: Path, item: str, deadline: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.item, self.deadline = folder / f"{item}.jsonl", item, deadline
        self.failed = 0

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.time()

    def write(self, case: str, **found: Any) -> None:
        """A line of the file and on the screen."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"item": self.item, "case": case, **found}) + "\n")
        ok = "" if "ok" not in found else "ok: " if found["ok"] else "WRONG: "
        told = ", ".join(f"{name} {_short(value)}" for name, value in found.items() if name not in ("ok", "trace"))
        print(f"{self.item}: {case}: {ok}{told}", flush=True)

    def attempt(self, case: str, work: Callable[..., Found], *given: Any, seconds: float = 1.0) -> Found | None:
        """Write what the work finds, or how it failed; nothing but a word where fewer `seconds` are left."""
        if self.left < seconds:
            self.write(case, left_out="no time left")
            return None
        began = time.time()
        try:
            found = work(*given)
        except Exception as error:
            words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            found = {"ok": False, "failed": words, "trace": traceback.format_exc()[-2000:]}
        self.failed += found.get("ok") is False
        self.write(case, **found, seconds=round(time.time() - began, 2))
        return found


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
