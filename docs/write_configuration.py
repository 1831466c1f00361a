"""Write the table of all keys in docs/configuration.md from the schema.

.venv/bin/python docs/write_configuration.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from mono3d.config.schema import RunConfig

PAGE = Path(__file__).with_name("configuration.md")
BEGIN, END = "<!-- keys -->", "<!-- /keys -->"


def write(page: str) -> str:
    """The page with a current table between its marks."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    table = "\n".join(_sections(RunConfig, ""))
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"


def _sections(model: type[BaseModel], path: str, note: str = "") -> Iterator[str]:
    """A heading and a table of the plain keys of a section, then the sections in it."""
    if path:
        yield f"### `{path}`{note}\n\n{_first_line(model)}\n"
    plain = {name: f for name, f in model.model_fields.items() if not _variants(f.annotation)}
    rows = [_row(path, name, field) for name, field in plain.items() if name != "kind"]
    if rows:
        yield "\n".join(["| key | type and limits | default | |", "|---|---|---|---|", *rows, ""])
    for name, field in model.model_fields.items():
        for variant in _variants(field.annotation):
            below = f"{path}.{name}" if path else name
            if get_origin(field.annotation) is dict:
                below += ".<name>"
            yield from _sections(variant, below, _kind(variant, field))


def _kind(variant: type[BaseModel], field: FieldInfo) -> str:
    if "kind" not in variant.model_fields:
        return ""
    is_default = type(field.default) is variant
    kind = variant.model_fields["kind"].default
    return f" with `kind: {kind}`{' (the default)' if is_default else ''}"


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _row(path: str, name: str, field: FieldInfo) -> str:
    key = f"{path}.{name}" if path else name
    default = "must be given" if field.is_required() else f"`{_shown(field.default)}`"
    limits = " ".join([_type_name(field.annotation), *_limits(field)])
    description = " ".join((field.description or "").split())
    return f"| `{key}` | {limits} | {default} | {description} |"


def _limits(field: FieldInfo) -> list[str]:
    signs = {"gt": ">", "ge": ">=", "lt": "<", "le": "<=", "multiple_of": "multiple of"}
    return [
        f"{sign} {getattr(rule, name)}"
        for rule in field.metadata
        for name, sign in signs.items()
        if hasattr(rule, name)
    ]


def _type_name(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return " or ".join(f"`{option}`" for option in get_args(annotation))
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__name__
    return str(annotation).replace("typing.", "").replace("|", "or").replace("NoneType", "None")


def _shown(default: Any) -> str:
    if isinstance(default, tuple):
        return ", ".join(map(str, default))
    return str(default)


def _variants(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field may hold; none for a plain value."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [variant for option in get_args(annotation) for variant in _variants(option)]


if __name__ == "__main__":
    PAGE.write_text(write(PAGE.read_text()))
