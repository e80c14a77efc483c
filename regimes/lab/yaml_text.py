"""YAML for configurations, read and written by the number rules of YAML 1.2."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from regimes.errors import UserError


def to_yaml(values: Mapping[str, Any]) -> str:
    """YAML text, keys in the given order; floats are written so that they are read back exactly."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(file: Path | str) -> dict[str, Any]:
    """The mapping in a YAML file; an empty file is an empty mapping."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise FileNotFoundError(f"config file {file} does not exist; give the path of a YAML file") from None
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
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f" at line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UserError(f"{where} is not valid YAML{place}: {problem}") from None


class _Loader(yaml.SafeLoader):
    """YAML in which 1e4 is a number, yes and on are texts, and a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]  # type: ignore[no-untyped-call]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                mark = node.value[index][0].start_mark
                raise yaml.MarkedYAMLError(problem=f"the key {key!r} stands there twice", problem_mark=mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: texts that look like numbers to it are quoted."""


def _float_represented(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    if math.isfinite(value):
        return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))
    return dumper.represent_float(value)


def _int_constructed(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    return int(loader.construct_scalar(node))


_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]+")


def _number_rules(handler: Any) -> None:
    """Read numbers and truth values as YAML 1.2 does: no octal 010, no base 60, no yes and no."""
    replaced = {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"}
    handler.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag not in replaced]
        for first, rules in handler.yaml_implicit_resolvers.items()
    }
    handler.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(f"^(?:{_BOOL.pattern})$"), list("tTfF"))
    handler.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(f"^(?:{_INT.pattern})$"), list("-+0123456789"))
    handler.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789")
    )


_number_rules(_Loader)
_number_rules(_Dumper)
_Loader.add_constructor("tag:yaml.org,2002:int", _int_constructed)
_Dumper.add_representer(float, _float_represented)
