"""Settings for people: name, default, meaning."""

from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

FILLED = "by data set"  # a setting without a default, which a recipe fills in


def setting_rows(settings: type[BaseModel]) -> list[dict[str, str]]:
    """One row a setting: name, default, meaning with the choices if there are few."""
    rows = []
    for name, field in settings.model_fields.items():
        default = field.get_default(call_default_factory=True)  # type: ignore[call-arg]
        choices = _choices(field.annotation)
        meaning = field.description or ""
        rows.append(
            {
                "setting": name,
                "default": FILLED if default is PydanticUndefined else _text(default),
                "meaning": f"{meaning} ({', '.join(choices)})" if choices else meaning,
            }
        )
    return rows


def _choices(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(choice) for choice in get_args(annotation)]
    return [choice for part in get_args(annotation) for choice in _choices(part)]


def _text(value: Any) -> str:
    """The value as it is typed after --set."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
