"""YAML 1.2 by PyYAML, for machines on which ruamel.yaml cannot be installed, such as a bare one with a card."""

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml

YAMLError, MarkedYAMLError = yaml.YAMLError, yaml.MarkedYAMLError


def loaded(text: str) -> Any:
    """The value of a YAML text."""
    return yaml.load(text, Loader=_Loader)


def dumped(values: Mapping[str, Any]) -> str:
    """YAML text, keys in the given order."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.SafeLoader):
    """YAML in which 1e4 is a number, yes and on are texts, and a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys: list[Any] = [self.construct_object(key, deep=True) for key in own]
        for index, key in enumerate(keys):
            if key in keys[:index]:
                mark = own[index].start_mark
                raise yaml.MarkedYAMLError(problem=f"found the key {key!r} twice", problem_mark=mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads: texts that look like numbers to it are quoted."""


def _float_represented(dumper: yaml.SafeDumper, value: float) -> yaml.ScalarNode:
    if math.isfinite(value):
        return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))
    return dumper.represent_float(value)


def _int_constructed(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = str(loader.construct_scalar(node)).replace("_", "")
    return int(text, 0 if text[:2] in ("0x", "0o") else 10)


_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9][0-9_]*|0x[0-9a-fA-F]+|0o[0-7]+")


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
