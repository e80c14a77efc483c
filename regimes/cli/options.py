"""Options that several commands share, and the settings that come of them."""

from collections.abc import Callable, Mapping
from functools import wraps
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from regimes.paths import home


def path(text: str) -> Path:
    """A path that was typed, ~ the home folder; an empty one is refused, for it would be the working folder."""
    if not text.strip():
        raise typer.BadParameter("it needs a path; got an empty text")
    if "\0" in text:
        raise typer.BadParameter("it needs a path; got one with a null character")
    return home(text)


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", parser=path, help="YAML file with settings; those of regimes are found anywhere."
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="'KEY=VALUE'",
        help="One setting, read as YAML, such as 'tau=[0.1,1.0]' in quotes; may be repeated; wins over the file.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", parser=path, help="Folder of the run; by default one under runs/ for these settings."
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(metavar="DIR", parser=path, help="Folder with the data files (or set REGIMES_DATA_DIR)."),
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="cpu or cuda.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Move a run that is in the way aside to DIR.1, DIR.2, ...")]
AcrossCommits = Annotated[
    bool, typer.Option("--across-commits", help="Continue a run that another version of the code began.")
]
PrintConfig = Annotated[
    bool, typer.Option("--print-config", help="Print all settings as YAML, for --config, and run nothing.")
]


def settings_of(kind: Any, file: Path | None, overrides: list[str] | None, flags: Mapping[str, Any] = {}) -> Any:
    """Settings from a file, --set and flags (None: not given); the later wins."""
    from regimes.lab.config import load

    given = {key: str(value) if isinstance(value, Path) else value for key, value in flags.items() if value is not None}
    return load(kind, file, overrides or (), given)


def print_settings(settings: Any) -> None:
    """The settings as a file for --config."""
    from regimes.lab.config import dump
    from regimes.lab.yaml_text import to_yaml

    print(to_yaml(dump(settings)), end="")


class Given(NamedTuple):
    """The options that every job has."""

    device: Device = None
    data_dir: DataDir = None
    config: ConfigFile = None
    overrides: Overrides = None
    out: Out = None
    fresh: Fresh = False
    across_commits: AcrossCommits = False
    print_config: PrintConfig = False

    def settings(self, kind: Any, **flags: Any) -> Any:
        """The settings of a job whose own flags these are; None if they were to be printed, and are."""
        flags |= {"device": self.device, "data_dir": self.data_dir}
        found = settings_of(kind, self.config, self.overrides, flags)
        if not self.print_config:
            return found
        print_settings(found)
        return None


def with_given(function: Callable[..., None]) -> Callable[..., None]:
    """The command with the options of `Given` after its own; it gets them as `given`."""
    own = [one for one in signature(function).parameters.values() if one.name != "given"]
    shared = list(signature(Given).parameters.values())

    @wraps(function)
    def command(**values: Any) -> None:
        given = Given(**{one.name: values.pop(one.name) for one in shared})
        function(**values, given=given)

    every = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in (*own, *shared)]
    command.__signature__ = Signature(every)  # pyright: ignore[reportAttributeAccessIssue]
    command.__annotations__ = {one.name: one.annotation for one in every}
    return command
