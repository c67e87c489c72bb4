"""What came of a replay, in words and as a document. Secrets are asterisks: a difference is made to be shown around."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, Final

from candidates.candidate import Candidate
from candidates.sdp import format_candidate
from ice_tcp.capsule.codec import fields_of
from ice_tcp.capsule.reading import Step
from ice_tcp.capsule.replay import Difference, Replayed
from ice_tcp.core.servers import Server

_HIDDEN: Final = "***"
_SHOWN_BYTES: Final = 12
_WIDTH: Final = 48
_LONGEST: Final = 72
"""Letters of an argument that are shown."""
_ENDINGS: Final[Mapping[str, str]] = {
    "closed": "",
    "full": "The recording ended at its limit; the session went on.",
    "given up": "The recording ended before the session: something could not be recorded.",
    "cut": "The capsule is cut short, within a line; what is before it was replayed.",
    "open": "The capsule has no end: the process ended before it, or still writes; what is there was replayed.",
}


def report(replayed: Replayed, ending: str) -> str:
    """For people, of one line or several."""
    found = replayed.difference
    if found is None:
        counts = f"{replayed.inputs} inputs, {replayed.commands} commands, {replayed.events} events: the same"
        return "\n".join(line for line in (counts, _ENDINGS.get(ending, "")) if line)
    lines = [f"First difference: input {found.step.number} (line {found.step.line}), {found.what}", ""]
    lines += [input_line(step, replayed.began_at) for step in (*found.before, found.step)]
    lines += ["", f"{'':2}{found.what:<26}{'recorded':<{_WIDTH}}now"]
    lines += [f"{'* ' if one != other else '  '}{key:<26}{one:<{_WIDTH}}{other}" for key, one, other in rows(found)]
    return "\n".join(line.rstrip() for line in lines)


def document(replayed: Replayed, ending: str) -> dict[str, Any]:
    """For programs."""
    found = replayed.difference
    return {
        "same": found is None,
        "inputs": replayed.inputs,
        "commands": replayed.commands,
        "events": replayed.events,
        "ending": ending,
        "difference": None if found is None else _difference(found),
    }


def input_line(step: Step, began_at: float) -> str:
    """One input: its number, seconds since the first, name and arguments."""
    if step.number == 0:
        return f"{0:>6} {'':>12}  made"
    values = ((name, _text(value)) for name, value in step.arguments.items())
    arguments = ", ".join(f"{name}={_shortened(text)}" for name, text in values)
    return f"{step.number:>6} {step.now - began_at:>+12.6f}  {step.name}({arguments})"


def rows(found: Difference) -> list[tuple[str, str, str]]:
    """Field by field: its name, as it was recorded, as it is now."""
    recorded, now = dict(_flat(found.recorded)), dict(_flat(found.now))
    keys = dict.fromkeys([*recorded, *now])
    return [(key, *_pair(recorded.get(key, _NOTHING), now.get(key, _NOTHING))) for key in keys]


@dataclasses.dataclass(frozen=True, slots=True)
class _Secret:
    """A value that is compared and not shown."""

    value: object


_NOTHING: Final = object()


def _flat(value: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """The fields of a message and of what is in it, by their dotted names."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        yield prefix or "value", value
        return
    yield prefix or "type", type(value).__name__
    for name, _, is_shown in fields_of(type(value)):
        inner = getattr(value, name)
        key = f"{prefix}.{name}" if prefix else name
        if not is_shown:
            yield key, _Secret(inner)
        elif _is_plain(inner):
            yield key, inner
        else:
            yield from _flat(inner, key)


def _is_plain(value: object) -> bool:
    """Whether it is shown as one text: values without fields, and addresses, which have a form of their own."""
    return not dataclasses.is_dataclass(value) or type(value).__str__ is not object.__str__


def _pair(one: object, other: object) -> tuple[str, str]:
    """Two values as texts, which differ if the values do."""
    if isinstance(one, _Secret) and isinstance(other, _Secret) and one != other:
        return _HIDDEN, f"{_HIDDEN}, another"
    if isinstance(one, bytes) and isinstance(other, bytes) and one != other:
        same = (index for index, (left, right) in enumerate(zip(one, other, strict=False)) if left != right)
        at = next(same, min(len(one), len(other)))
        return _bytes(one, at), _bytes(other, at)
    return _text(one), _text(other)


def _bytes(data: bytes, at: int = 0) -> str:
    """The bytes from ``at`` on, as far as they are shown."""
    shown = data[at : at + _SHOWN_BYTES].hex() + ("..." if len(data) > at + _SHOWN_BYTES else "")
    return f"{len(data)} bytes{f', at {at}' if at else ''}: {shown}"


def _text(value: object) -> str:
    match value:
        case _ if value is _NOTHING:
            return ""
        case None:
            return "-"
        case _Secret():
            return _HIDDEN
        case bytes():
            return _bytes(value)
        case Candidate():
            return format_candidate(value)
        case Server():
            return value.name
        case Enum():
            return str(value.value)
        case tuple() | list():
            return f"({', '.join(map(_text, value))})"
    if dataclasses.is_dataclass(value) and type(value).__str__ is object.__str__:
        return repr(value)
    return str(value)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _difference(found: Difference) -> dict[str, Any]:
    return {
        "input": found.step.number,
        "line": found.step.line,
        "name": found.step.name,
        "now": found.step.now,
        "what": found.what,
        "fields": [{"field": key, "recorded": one, "now": other} for key, one, other in rows(found)],
    }
