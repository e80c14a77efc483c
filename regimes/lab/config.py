"""Configuration of a run: defaults in code, then a YAML file, then `--set a.b=value`; the later wins."""

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from regimes.errors import UserError, nearest, shown, users_choice
from regimes.lab.shipped import found
from regimes.lab.yaml_text import parse_yaml, read_yaml
from regimes.paths import home

HUGE = 1e30  # of a number: squares and products with others stay finite
MOST = 2**63 - 1  # of a whole number, by its size: what torch and NumPy count with
TINY = sys.float_info.min  # what is smaller counts as 0 wherever denormal numbers are flushed, as they are in training
SettingsType = TypeVar("SettingsType", bound="Settings")


class Settings(BaseModel):
    """Base of every configuration: frozen; unknown keys, non-finite, denormal and endless numbers are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="constants")

    @field_validator("*", mode="before")
    @classmethod
    def _home_of_paths(cls, value: Any, info: Any) -> Any:
        field = cls.model_fields[str(info.field_name)]
        place = info.field_name in ("data_dir", "path") or re.search(r"\bPath\b", str(field.annotation)) is not None
        return str(home(value)) if place and isinstance(value, str) and value.startswith("~") else value

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: Any, info: Any) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if _holds_bool(value) and re.search(r"\b(bool|Any)\b", str(field.annotation)) is None:
            raise PydanticCustomError("bool_as_number", "Input should not be true or false")
        return value

    @field_validator("*")
    @classmethod
    def _none_that_cannot_be_counted_with(cls, value: Any) -> Any:
        numbers = [number for _, number in _numbers(value, "")]
        if any(0 < abs(number) < TINY for number in numbers):
            raise PydanticCustomError(
                "denormal", "Input should be 0 or of size {least} at least", {"least": f"{TINY:.1e}"}
            )
        free = isinstance(value, Mapping)  # options of something else, which knows what it takes
        if not free and any(isinstance(number, int) and abs(number) > MOST for number in numbers):
            raise PydanticCustomError(
                "endless", "Input should be of size {most} at most, as a whole number", {"most": f"{MOST:,}"}
            )
        return value


def load(
    settings: type[SettingsType],
    file: Path | str | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] = {},
) -> SettingsType:
    """Settings from the defaults, a YAML file, overrides "a.b=value", whose values are read as YAML, and flags.

    A mistake is told by the name under which it was given: a file, `--set a=0` or the flag `--a 0`.
    """
    values = _defaults(settings)
    sources: dict[str, str] = {}
    if file is not None:
        _merge(values, read_yaml(found(file)), settings, (), sources, f"in {file}")
    for override in overrides:
        keys, value = parse_override(override)
        nested: Any = value
        for key in reversed(keys):
            nested = {key: nested}
        _merge(values, nested, settings, (), sources, f"from --set {shlex.quote(override)}")
    for key, value in flags.items():
        _merge(values, {key: value}, settings, (), sources, f"from {_flag(key, value)}")
    try:
        return settings.model_validate(values)
    except ValidationError as error:
        raise UserError(_one_line(error, sources)) from None


def dump(config: BaseModel) -> dict[str, Any]:
    """The settings as plain numbers, strings, lists and dictionaries."""
    return config.model_dump(mode="json")


def parse_override(override: str) -> tuple[list[str], Any]:
    """The keys and the value of "a.b=value"; the value is read as YAML."""
    key, equals, text = override.partition("=")
    keys = [part.strip() for part in key.split(".")]
    if not equals or not all(keys):
        raise UserError(f"--set needs key=value, for example --set width=100; got {override!r}")
    return keys, parse_yaml(text, f"--set {override}")


def refuse_huge(config: BaseModel) -> None:
    """UserError names the first number of the settings that is beyond 1e30: none can be computed with."""
    for key, value in _numbers(dump(config), ""):
        if abs(value) > HUGE:
            raise UserError(f"{key}: should be of size {HUGE:g} at most; got {shown(value)}")


def _numbers(value: Any, key: str) -> Iterator[tuple[str, int | float]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _numbers(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        for place, item in enumerate(value):
            yield from _numbers(item, f"{key}.{place}")
    elif isinstance(value, (int, float)):
        yield key, value


def override(key: str, value: object) -> str:
    """The text "key=value" that `load` reads back as this value."""
    return f"{key}={json.dumps(value)}"


def _defaults(settings: type[BaseModel]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        if not field.is_required():
            default = field.get_default(call_default_factory=True)  # type: ignore[call-arg]
            values[name] = default.model_dump() if isinstance(default, BaseModel) else default
    return values


def _merge(
    values: dict[str, Any],
    changes: Any,
    settings: type[BaseModel] | None,
    path: tuple[str, ...],
    sources: dict[str, str],
    source: str,
) -> None:
    """Write changes into values in place; keys that the settings do not have are errors."""
    for key, value in changes.items():
        known = list(settings.model_fields) if settings else None
        full = ".".join((*path, str(key)))
        if (by_present_name := getattr(settings, "OLD_NAMES", {}).get(key)) is not None:  # later wins under either name
            with users_choice():
                present, value = by_present_name(value, values)
            sources[full], values[present] = source, value
            continue
        if known is not None and key not in known:
            raise UserError(
                f"unknown key {full!r} ({source}).{nearest(str(key), known)} Known keys: {', '.join(known)}"
            )
        inner = _inner(settings, key) if settings else None
        sources[full] = source
        if isinstance(value, dict) and isinstance(values.get(key), dict):
            _merge(values[key], value, inner, (*path, str(key)), sources, source)
        elif isinstance(value, dict) and settings and inner is None and not _is_mapping(settings, key):
            raise UserError(f"{full!r} has no keys below it ({source}); it is {shown(values.get(key), 80)} by default")
        else:
            values[key] = value


def _inner(settings: type[BaseModel], key: str) -> type[BaseModel] | None:
    annotation = settings.model_fields[key].annotation
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _is_mapping(settings: type[BaseModel], key: str) -> bool:
    return re.search(r"\b(dict|Mapping|Any)\b", str(settings.model_fields[key].annotation)) is not None or (
        _inner(settings, key) is not None
    )


def _one_line(error: ValidationError, sources: Mapping[str, str]) -> str:
    """The first mistake as "key: what is needed; what came, and from where"."""
    first, *others = error.errors(include_url=False)
    place = [str(part) for part in first["loc"]]
    key = ".".join(place) or "the configuration"
    source = next(
        (sources[".".join(place[:n])] for n in range(len(place), 0, -1) if ".".join(place[:n]) in sources), ""
    )
    need = first["msg"].removeprefix("Value error, ").replace("Input should", "should")
    for limit in first.get("ctx", {}).values():  # pydantic writes 1e-30 with all its zeros, and 1e30 too
        if isinstance(limit, float):
            need = re.sub(r"\b\d+\.?\d*$", f"{limit:g}", need)
    if first["type"] in {"tuple_type", "list_type"}:
        need = f"should be a list, such as [{shown(first['input'], 40)}]"
    if first["type"] == "missing":
        return f"{key} is needed; pass --set {key}=VALUE"
    checked = first["type"] == "value_error"
    told = checked and isinstance(first["input"], Mapping)  # by a check of several settings
    if checked and "; got " in need:
        told, need = True, need.removesuffix(".")
    came = "" if told else f"; got {shown(first['input'], 80)}"
    text = f"{key}: {need}{came}" + (f" ({source})" if source else "")
    return " ".join(text.split()) + (f"; and {len(others)} more" if others else "")


def _flag(key: str, value: Any) -> str:
    """A flag as it was typed."""
    if isinstance(value, (list, dict)):
        return "the arguments"
    name = f"--{key.replace('_', '-')}"
    return name if isinstance(value, bool) else f"{name} {shlex.quote(str(value))}"


def _holds_bool(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_bool(item) for item in value)
    return isinstance(value, bool)
