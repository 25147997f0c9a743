"""Configurations: frozen dataclasses whose fields carry their own help text.

A configuration is the one home of its numbers. The mains make flags of the fields,
`config.json` keeps them beside the weights, and library code passes them as values.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def option(default: T, help: str, *, choices: Sequence[str] | None = None) -> T:
    """Returns a dataclass field with a default, a help text and, if any, choices."""
    metadata = {"help": help, "choices": tuple(choices) if choices else None}
    return dataclasses.field(default=default, metadata=metadata)


def to_dict(config: Any) -> dict[str, Any]:
    """Returns the fields of a configuration as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], values: dict[str, Any]) -> T:
    """Builds a configuration from `to_dict` output.

    Fields that `values` lacks take their defaults, so that a newer version reads an
    older file; names that `cls` does not know raise `ValueError`.
    """
    known = {field.name for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field named {', '.join(unknown)}")
    return cls(**values)


def replace(config: T, values: dict[str, Any]) -> T:
    """Returns a copy of `config` with those of `values` that are its fields."""
    names = {field.name for field in dataclasses.fields(config)}
    return dataclasses.replace(
        config, **{k: v for k, v in values.items() if k in names}
    )
