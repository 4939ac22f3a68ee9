"""Frozen dataclasses to plain JSON values and back: the only door between our values and what is stored or sent.

Functions (of users) do not travel; tuples become lists and come back as tuples, enums by their value.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return *value* as JSON values; fields that hold functions are left out."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in fields(value) if not _is_function(value, f.name)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise TypeError(f"{type(value).__name__} is not a plain value")


def from_plain(cls: type[T], plain: Mapping[str, Any]) -> T:
    """Build a *cls* from what `to_plain` wrote; a missing field takes its default, an unknown one is a `ValueError`."""
    hints = get_type_hints(cls)
    unknown = set(plain) - set(hints)
    if unknown:
        raise ValueError(f"{cls.__name__} has no field {sorted(unknown)[0]!r}")
    return cls(**{name: _read(hints[name], item) for name, item in plain.items()})


def _is_function(value: Any, name: str) -> bool:
    return callable(getattr(value, name)) and not isinstance(getattr(value, name), type)


def _read(hint: Any, item: Any) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if item is None:
            return None
        return _read(next(a for a in args if a is not type(None)), item)
    if origin is tuple:
        if args[-1] is Ellipsis:
            return tuple(_read(args[0], part) for part in item)
        return tuple(_read(a, part) for a, part in zip(args, item, strict=True))
    if origin in (dict, Mapping, typing.Mapping) or origin is getattr(typing, "Mapping", None):
        return {key: _read(args[1], part) for key, part in item.items()}
    if origin is Callable or hint is Any or origin is not None:
        return item
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(item)
    if isinstance(hint, type) and is_dataclass(hint):
        return from_plain(hint, item)
    return float(item) if hint is float else item
