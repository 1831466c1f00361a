"""What all parts of a config are: frozen, closed, with defaults for the kind of a choice."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A part of the config."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _default_kinds(cls, values: Any) -> Any:
        """A choice without `kind` is of its default kind: `optim.lr=3e-4` needs no more.

        Where there is no default, as for the data, it is the first kind.
        """
        if not isinstance(values, dict):
            return values
        filled = dict(values)
        for name, field in cls.model_fields.items():
            kind = getattr(field.default, "kind", None)
            if kind is None and field.discriminator == "kind":
                kind = get_args(field.annotation)[0].model_fields["kind"].default
            if kind is not None and isinstance(values.get(name), dict):
                filled[name] = {"kind": kind, **values[name]}
        return filled
