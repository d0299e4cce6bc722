"""Convert dataclasses to plain data, as JSON holds it, and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

Made = TypeVar("Made")

_KIND = "kind"


def to_plain(value: Any) -> Any:
    """Convert a dataclass and its values to plain data: dicts, lists, and paths as texts."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def from_plain(cls: type[Made], data: Mapping[str, Any]) -> Made:
    """Undo `to_plain`, also after JSON. Raises ValueError for an unknown entry and TypeError for a missing one."""
    types_of = _types(cls)
    unknown = sorted(set(data) - types_of.keys())
    if unknown:
        raise ValueError(f"unknown entry {unknown[0]!r}")
    return cls(**{name: _as(types_of[name], value) for name, value in data.items()})


def to_tagged(value: Any) -> dict[str, Any]:
    """Plain data of a dataclass, with the name of its class so that `from_tagged` can choose it."""
    return {_KIND: type(value).__name__, **to_plain(value)}


def from_tagged(classes: Sequence[type[Any]], data: Mapping[str, Any]) -> Any:
    """Undo `to_tagged`. Raises KeyError where the data name none of the classes."""
    by_name = {cls.__name__: cls for cls in classes}
    return from_plain(by_name[data[_KIND]], {name: value for name, value in data.items() if name != _KIND})


def _types(cls: type[Any]) -> dict[str, Any]:
    return _cached_types(cls)  # type: ignore[arg-type]  # mypy takes a class for unhashable


@cache
def _cached_types(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.init}


def _as(wanted: Any, value: Any) -> Any:
    """Convert a plain value to a field's type: to a nested dataclass, a tuple or a path."""
    if value is None:
        return None
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return _as(next(kind for kind in typing.get_args(wanted) if kind is not types.NoneType), value)
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        return from_plain(wanted, value)
    if wanted is Path:
        return Path(value)
    if isinstance(value, (list, tuple)):
        inner = typing.get_args(wanted)
        kinds = [inner[0]] * len(value) if len(inner) == 2 and inner[1] is Ellipsis else list(inner)
        if len(kinds) != len(value):  # the class itself reports the wrong length
            kinds = [Any] * len(value)
        make = list if typing.get_origin(wanted) is list else tuple
        return make(_as(kind, item) for kind, item in zip(kinds, value, strict=True))
    return value


def check_types(value: Any) -> None:
    """Raise ValueError where a dataclass, or one within it, holds what its fields' types do not allow."""
    for name, wanted in _types(type(value)).items():
        held = getattr(value, name)
        if not _fits(wanted, held):
            raise ValueError(f"{name} is {held!r}")


def _fits(wanted: Any, value: Any) -> bool:
    if wanted is Any:
        return True
    if typing.get_origin(wanted) is typing.Literal:
        return value in typing.get_args(wanted)
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return any(_fits(kind, value) for kind in typing.get_args(wanted))
    if dataclasses.is_dataclass(wanted) and isinstance(wanted, type):
        if isinstance(value, wanted):
            check_types(value)
        return isinstance(value, wanted)
    if typing.get_origin(wanted) is tuple:
        inner = typing.get_args(wanted)
        kinds = [inner[0]] * len(value) if inner[-1] is Ellipsis and isinstance(value, tuple) else inner
        return isinstance(value, tuple) and len(kinds) == len(value) and all(map(_fits, kinds, value))
    if isinstance(value, bool):
        return wanted is bool
    return isinstance(value, (int, float) if wanted is float else typing.get_origin(wanted) or wanted)
