"""Blocks of commands and of Python in the documents, and what the tests make of them."""

import itertools
import re
import shlex
from pathlib import Path
from typing import NamedTuple

SHELL, PYTHON = ("sh", "bash", "shell", "console", "zsh"), ("python", "py")
COMMANDS = ("python", "regimes", "make", "pip", "git", "torchrun", "dask", ".", "source", "export")
NOT_RUN = re.compile(r"<!-- not run: .+ -->")


class Block(NamedTuple):
    """A block of a document: "shell" or "python", its first line and its text. Blocks that are not run are left out."""

    kind: str
    line: int
    text: str

    @property
    def commands(self) -> list[list[str]]:
        """The commands of a shell block, each as words; comments, prompts and line ends with a backslash are gone."""
        lines = self.text.replace("\\\n", " ").splitlines()
        split = [shlex.split(line.strip().removeprefix("$ "), comments=True) for line in lines]
        return [words for words in split if words]


def blocks(text: str) -> list[Block]:
    """The blocks between fences, and those that are indented by four spaces after an empty line."""
    found: list[Block] = []
    lines = text.splitlines()
    excluded, number = False, 0
    while number < len(lines):
        line, start = lines[number], number + 1
        if fence := re.match(r"(```+)\{?(\w*)", line):
            end = next((k for k in range(start, len(lines)) if lines[k].strip() == fence[1]), len(lines))
            _add(found, fence[2], start + 1, lines[start:end], excluded)
            number, excluded = end + 1, False
        elif line.startswith("    ") and (number == 0 or not lines[number - 1].strip()):
            end = next((k for k in range(start, len(lines)) if not lines[k].startswith("    ")), len(lines))
            _add(found, "", start, [one[4:] for one in lines[number:end]], excluded)
            number, excluded = end, False
        else:
            excluded = bool(NOT_RUN.search(line)) or (excluded and not line.strip())
            number += 1
    return found


def _add(found: list[Block], language: str, line: int, lines: list[str], excluded: bool) -> None:
    first = next((one.strip().removeprefix("$ ") for one in lines if one.strip()), "")
    shell = language in SHELL or (not language and first.split(" ")[0].startswith(COMMANDS))
    if not excluded and (shell or language in PYTHON):
        found.append(Block("shell" if shell else "python", line, "\n".join(lines)))


def pages(root: Path) -> list[Path]:
    """README.md, then the pages of docs/, in the order of their names."""
    return [root / "README.md", *sorted((root / "docs").glob("*.md"))]


def without(words: list[str], *options: str) -> list[str]:
    """The words of a command without these options and their values."""
    kept, skip = [], False
    for word in words:
        if not skip and word not in options and not word.startswith(tuple(f"{option}=" for option in options)):
            kept.append(word)
        skip = word in options and not skip
    return kept


def value(words: list[str], option: str) -> str | None:
    """The value of an option, the last one if it is given twice."""
    found = [after for word, after in itertools.pairwise(words) if word == option]
    return found[-1] if found else None
