"""Records and events as lines of JSON, and back: what stands in a trace file."""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import Enum, IntEnum, StrEnum
from types import NoneType, UnionType
from typing import Any, Final, TypeAlias, Union, cast

from candidates.candidate import TransportAddress
from candidates.parameters import IceParameters
from ice_tcp.core.events import Event
from ice_tcp.core.trace import Entry, Record

FORMAT: Final = "ice-tcp trace"
VERSION: Final = 1
"""Grows when a reader of an older version would misunderstand a trace; new kinds of records alone do not count."""
MAX_LINE_BYTES: Final = 1 << 20
WITHHELD: Final = "withheld/withheld/withheld"
"""Stands for every password of what was read: passwords are not written."""

Plain: TypeAlias = Any
"""What JSON has."""


class TraceError(ValueError):
    """A file is no trace that can be read; the text names the file and, where there is one, the line."""


@dataclass(frozen=True, slots=True)
class Header:
    """The first line. ``wall`` (seconds since 1970) and ``clock`` (`time.monotonic`) are the instant that ``at`` 0 is.

    ``software`` is the version of ice-tcp that wrote it.
    """

    version: int
    software: str
    wall: float
    clock: float
    redacted: bool = False


class Ending(StrEnum):
    """Why a trace ends."""

    CLOSED = "closed"
    """The session is over."""
    LIMIT = "limit"
    """The file would be larger than allowed; the session went on."""


@dataclass(frozen=True, slots=True)
class TraceEnded:
    """The last line of a file that was closed in good order. ``limit`` is in bytes."""

    why: Ending
    limit: int | None = None


Written: TypeAlias = Entry | TraceEnded

KINDS: Final[Mapping[str, type[Written]]] = {
    each.__name__: each for each in (*typing.get_args(Record), *typing.get_args(Event), TraceEnded)
}
"""Every kind of record, by the name that stands in the file."""


def header_line(header: Header) -> str:
    return _dumps({"format": FORMAT, **encode(header)})


def entry_line(at: float, entry: Written) -> str:
    """``at`` is in seconds from the header's instant."""
    return _dumps({"at": round(at, 6), "record": type(entry).__name__, **encode(entry)})


def _dumps(fields_: Mapping[str, Plain]) -> str:
    return json.dumps(fields_, separators=(",", ":")) + "\n"


def encode(value: object) -> Plain:
    """Fields that have their default are left out; a password always is."""
    match value:
        case TransportAddress():
            return str(value)
        case Enum():
            return value.value
        case bytes():
            return value.hex()
        case tuple():
            return [encode(each) for each in value]
        case None | bool() | int() | float() | str():
            return value
    assert is_dataclass(value), value
    return {
        each.name: encode(getattr(value, each.name))
        for each in fields(value)
        if each.init and not _is_secret(value, each.name) and getattr(value, each.name) != each.default
    }


def _is_secret(value: object, name: str) -> bool:
    return isinstance(value, IceParameters) and name == "pwd"


def decode(kind: Any, plain: Plain) -> Any:
    """The value of this type. Raises ValueError for what is none."""
    origin = typing.get_origin(kind)
    if origin in (Union, UnionType):
        return _decode_union(typing.get_args(kind), plain)
    if origin is tuple:
        return _decode_tuple(typing.get_args(kind), plain)
    kind = getattr(kind, "__supertype__", kind)
    if kind is TransportAddress:
        return parse_address(_expected(plain, str))
    if kind is bytes:
        return bytes.fromhex(_expected(plain, str))
    if kind is float:
        return float(_expected(plain, int, float))
    if kind in (int, str, bool):
        return _expected(plain, kind)
    if issubclass(kind, IntEnum | StrEnum):
        return kind(plain)
    return _decode_fields(kind, _expected(plain, dict))


def parse_address(text: str) -> TransportAddress:
    """The reverse of ``str(address)``. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdigit():
        raise ValueError(f"{text!r} is not an address and a port")
    return TransportAddress(host[1:-1] if host.startswith("[") else host, int(port))


def _decode_tuple(kinds: tuple[Any, ...], plain: Plain) -> tuple[Any, ...]:
    values = _expected(plain, list)
    if kinds[-1] is Ellipsis:
        return tuple(decode(kinds[0], each) for each in values)
    if len(values) != len(kinds):
        raise ValueError(f"{values!r} has not {len(kinds)} parts")
    return tuple(decode(kind, each) for kind, each in zip(kinds, values, strict=True))


def _decode_union(kinds: tuple[Any, ...], plain: Plain) -> Any:
    """The first member that fits: those of a union differ in the names of their fields, or in their texts."""
    if plain is None and NoneType in kinds:
        return None
    problems = []
    for kind in kinds:
        if kind is NoneType or (
            is_dataclass(kind) and isinstance(plain, dict) and not _hints(kind).keys() >= plain.keys()
        ):
            continue
        try:
            return decode(kind, plain)
        except ValueError as error:
            problems.append(str(error))
    raise ValueError(problems[0] if problems else f"{_short(plain)} is of no known kind")


def _decode_fields(kind: type[Any], plain: Mapping[str, Plain]) -> Any:
    """Fields that a newer version has, too, are ignored."""
    hints = _hints(kind)
    given = {}
    for each in fields(kind):
        if not each.init:
            continue
        if each.name in plain:
            try:
                given[each.name] = decode(hints[each.name], plain[each.name])
            except ValueError as error:
                raise ValueError(f"{each.name}: {error}") from None
        elif kind is IceParameters and each.name == "pwd":
            given["pwd"] = WITHHELD
        elif each.default is MISSING:
            raise ValueError(f"{each.name} is missing")
    return kind(**given)


_HINTS: Final[dict[Any, dict[str, Any]]] = {}


def _hints(kind: Any) -> dict[str, Any]:
    """The types of a class's fields, found once."""
    if kind not in _HINTS:
        _HINTS[kind] = typing.get_type_hints(kind)
    return _HINTS[kind]


def _expected(plain: Plain, *kinds: type) -> Any:
    # A bool is an int for Python, and no number for anybody else.
    if not isinstance(plain, kinds) or (isinstance(plain, bool) and bool not in kinds):
        raise ValueError(f"{_short(plain)} is not {' or '.join(_WORDS[each] for each in kinds)}")
    return plain


_WORDS: Final = {str: "text", int: "a number", float: "a fraction", dict: "an object", list: "a list", bool: "a bool"}


def _short(plain: Plain) -> str:
    text = json.dumps(plain)
    return text if len(text) <= 60 else f"{text[:57]}..."


def decode_entry(plain: Mapping[str, Plain]) -> tuple[float, Written] | None:
    """When, and what; None for a kind of record that is not known here. Raises ValueError."""
    name = _expected(plain.get("record"), str)
    at = decode(float, plain.get("at"))
    kind = KINDS.get(name)
    return None if kind is None else (at, cast("Written", _decode_fields(kind, plain)))


def decode_header(plain: Mapping[str, Plain]) -> Header:
    """Raises ValueError, also for what is no trace at all."""
    if plain.get("format") != FORMAT:
        raise ValueError("this is not a trace: its first line is no header of one")
    header = cast("Header", _decode_fields(Header, plain))
    if header.version > VERSION:
        raise ValueError(
            f"the trace has version {header.version}, written by ice-tcp {header.software}; this ice-tcp reads up to "
            f"version {VERSION}"
        )
    return header
