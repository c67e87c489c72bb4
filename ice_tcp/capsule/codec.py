"""Values of the core as JSON and back, by their type hints: whatever an input or output holds, nothing is listed here.

A dataclass is an object of its fields, without those that are None or empty by default. A member of a union of several
types is an object with the type's name as its only key. Bytes are hexadecimal digits. Nothing is evaluated: a type
that a hint does not name cannot come out.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Sequence
from enum import Enum
from functools import lru_cache
from typing import Any, Final, NewType, Union, get_args, get_origin, get_type_hints

_EMPTY: Final = (None, ())


class CodecError(ValueError):
    """A value does not fit its type hint."""


def encode(value: Any, hint: Any) -> Any:
    """``value`` as what `json.dumps` takes. Raises CodecError if ``hint`` does not allow it."""
    members = _members(hint)
    if value is None and type(None) in members:
        return None
    members = [member for member in members if member is not type(None)]
    if len(members) == 1:
        return _encode(value, members[0])
    for member in members:
        if type(value) is member:
            return {member.__name__: _encode(value, member)}
    raise CodecError(f"a {type(value).__name__} is none of {_names(members)}")


def decode(data: Any, hint: Any) -> Any:
    """The value that ``encode`` made ``data`` of. Raises CodecError."""
    members = _members(hint)
    if data is None and type(None) in members:
        return None
    members = [member for member in members if member is not type(None)]
    if len(members) == 1:
        return _decode(data, members[0])
    if isinstance(data, dict) and len(data) == 1:
        ((name, inner),) = data.items()
        for member in members:
            if member.__name__ == name:
                return _decode(inner, member)
    raise CodecError(f"not one of {_names(members)}")


def _encode(value: Any, kind: Any) -> Any:
    origin = get_origin(kind)
    if origin is tuple or origin is Sequence:
        if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
            raise CodecError(f"a {type(value).__name__} is no sequence")
        return [encode(each, hint) for each, hint in zip(value, _items(kind, len(value)), strict=True)]
    if kind is bytes and isinstance(value, (bytes, bytearray, memoryview)):
        return value.hex()
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise CodecError(f"a {type(value).__name__} is no {kind.__name__}")
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(kind):
        fields = ((name, getattr(value, name), hint) for name, hint, _ in fields_of(kind))
        return {name: encode(each, hint) for name, each, hint in fields if not _is_left_out(kind, name, each)}
    if kind in (bool, int, float, str):
        return value
    raise CodecError(f"{kind.__name__} has no form here")


def _decode(data: Any, kind: Any) -> Any:
    origin = get_origin(kind)
    if origin is tuple or origin is Sequence:
        if not isinstance(data, list):
            raise CodecError("not a list")
        return tuple(decode(each, hint) for each, hint in zip(data, _items(kind, len(data)), strict=True))
    if kind is bytes:
        return _bytes(data)
    if kind is float and type(data) in (int, float):
        return _finite(data)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _checked(kind, data)
    if dataclasses.is_dataclass(kind):
        return _dataclass(data, kind)
    if kind in (bool, int, str) and type(data) is kind:
        return data
    raise CodecError(f"a {type(data).__name__} is no {kind.__name__}")


def _dataclass(data: Any, kind: Any) -> Any:
    if not isinstance(data, dict):
        raise CodecError(f"no {kind.__name__}")
    hints = {name: hint for name, hint, _ in fields_of(kind)}
    if unknown := data.keys() - hints.keys():
        raise CodecError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    values = {name: decode(each, hints[name]) for name, each in data.items()}
    try:
        return kind(**values)
    except TypeError:
        raise CodecError(f"a {kind.__name__} lacks a field") from None
    except ValueError as error:
        raise CodecError(f"no {kind.__name__}: {error}") from None


def _checked(kind: type[Enum], data: Any) -> Enum:
    try:
        return kind(data)
    except ValueError:
        raise CodecError(f"{data!r:.40} is no {kind.__name__}") from None


def _bytes(data: Any) -> bytes:
    try:
        return bytes.fromhex(data)
    except (TypeError, ValueError):
        raise CodecError("not hexadecimal digits") from None


def _finite(data: float) -> float:
    try:
        number = float(data)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise CodecError("not a finite number")
    return number


@lru_cache(maxsize=512)
def fields_of(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    """Name, type hint and whether ``repr`` shows it, of each field that a dataclass is made with."""
    hints = get_type_hints(kind)
    return tuple((field.name, hints[field.name], field.repr) for field in dataclasses.fields(kind) if field.init)


@lru_cache(maxsize=512)
def _defaults(kind: Any) -> dict[str, Any]:
    return {field.name: field.default for field in dataclasses.fields(kind)}


def _is_left_out(kind: Any, name: str, value: Any) -> bool:
    return value in _EMPTY and value == _defaults(kind)[name]


def _members(hint: Any) -> list[Any]:
    """The types that a hint allows; names of integers (NewType) are integers."""
    if isinstance(hint, NewType):
        return _members(hint.__supertype__)
    if get_origin(hint) not in (Union, types.UnionType):
        return [hint]
    return list(dict.fromkeys(member for each in get_args(hint) for member in _members(each)))


def _items(kind: Any, count: int) -> list[Any]:
    """The hint of each of ``count`` items."""
    hints = list(get_args(kind))
    if get_origin(kind) is Sequence or hints[-1:] == [Ellipsis]:
        return hints[:1] * count
    if len(hints) != count:
        raise CodecError(f"{count} items and not {len(hints)}")
    return hints


def _names(members: Sequence[Any]) -> str:
    return ", ".join(member.__name__ for member in members)
