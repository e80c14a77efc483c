"""YAML for configurations, by the rules of YAML 1.2: 1e4 is a number, yes and on are texts, no key comes twice."""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regimes.errors import UserError, nearest, one_line
from regimes.lab.shipped import all_shipped

try:
    from ruamel.yaml import YAML
    from ruamel.yaml.constructor import DuplicateKeyError
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
except ModuleNotFoundError:  # a bare machine, to which packages are carried by hand
    from regimes.lab.yaml_spare import MarkedYAMLError, YAMLError, dumped, loaded
else:

    def loaded(text: str) -> Any:
        """The value of a YAML text; a key that comes twice is told by its name."""
        try:
            return _yaml().load(text)
        except DuplicateKeyError as error:
            said = str(error.problem).partition(" with value")[0].replace("duplicate key", "the key")
            error.problem = f"{said} twice".replace('"', "'")
            raise

    def dumped(values: Mapping[str, Any]) -> str:
        """YAML text, keys in the given order."""
        buffer = io.StringIO()
        _yaml().dump(dict(values), buffer)
        return buffer.getvalue()

    def _yaml() -> YAML:
        """Reader and writer of plain values, keys as they come."""
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        return yaml


def to_yaml(values: Mapping[str, Any]) -> str:
    """YAML text, keys in the given order; floats are written so that they are read back exactly."""
    return dumped(values)


def read_yaml(file: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = nearest(Path(file).as_posix(), all_shipped())
        raise FileNotFoundError(f"config file {file} does not exist; give the path of a YAML file.{hint}") from None
    except UnicodeDecodeError:
        raise UserError(f"config file {file} is not text (UTF-8); give the path of a YAML file") from None
    except OSError as error:
        raise type(error)(error.errno, f"cannot read config file {file}: {error.strerror}") from None
    values = parse_yaml(text, f"config file {file}")
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = {list: "a list", str: "a text"}.get(type(values), f"a {type(values).__name__}")
        raise UserError(f"config file {file} needs 'key: value' lines; got {kind}: {str(values)[:60]}")
    return values


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML text; a mistake in it is told with its line and column `where` it stands."""
    try:
        value = loaded(text)
        json.dumps(value, default=str, skipkeys=True)  # ValueError for what holds itself (&a [*a])
        return value
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UserError(f"{where} is not valid YAML{place}: {' '.join(problem.split())}") from None
    except (ValueError, RecursionError) as error:  # no such day, more digits than Python reads, brackets without end
        raise UserError(f"{where[:160]} holds what cannot be read: {one_line(error)}") from None
