"""Reads a trace file, whole or cut short."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ice_tcp.core.trace import Entry
from ice_tcp.tracefile.format import (
    FORMAT,
    MAX_LINE_BYTES,
    Header,
    TraceEnded,
    TraceError,
    decode_entry,
    decode_header,
)


@dataclass(frozen=True, slots=True)
class Trace:
    """What a file holds: each entry with its time in seconds from the header's instant, in the order of the file.

    ``ended`` is None where the writer did not come to the end; ``cut_line`` is the number of the last line where that
    is incomplete. ``unknown`` counts records of kinds that only a newer version knows, by name.
    """

    name: str
    header: Header
    entries: tuple[tuple[float, Entry], ...]
    ended: TraceEnded | None = None
    cut_line: int | None = None
    unknown: Mapping[str, int] = field(default_factory=dict)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the file, a sentence each."""
        return tuple(self._notes())

    def _notes(self) -> Iterator[str]:
        if self.cut_line is not None:
            yield f"{self.name}: the trace ends in the middle of a record, line {self.cut_line}."
        elif self.ended is None:
            yield f"{self.name}: the trace was not closed; the process ended before the session did, or still runs."
        elif self.ended.limit is not None:
            yield f"{self.name}: the trace reached its limit of {self.ended.limit} bytes; the session went on."
        if self.unknown:
            kinds = ", ".join(sorted(self.unknown))
            count = sum(self.unknown.values())
            yield f"{self.name}: {count} records are of kinds that this version does not know, and left out: {kinds}."


def read_trace(path: str | os.PathLike[str]) -> Trace:
    """The trace in a file. One that ends in the middle of its last line is read up to there.

    Raises TraceError, which names file and line, for what is no trace, and OSError.
    """
    name = os.fspath(path)
    with Path(path).open("rb") as file:
        lines = _lines(name, file)
        try:
            header = _header(name, next(lines))
        except StopIteration:
            raise TraceError(f"{name}: the file is empty") from None
        return _read(name, header, lines)


def is_trace(path: Path) -> bool:
    """Whether the file begins as traces do. Raises OSError."""
    with path.open("rb") as file:
        return file.read(64).startswith(f'{{"format":"{FORMAT}"'.encode())


def _read(name: str, header: Header, lines: Iterator[tuple[int, bytes]]) -> Trace:
    entries: list[tuple[float, Entry]] = []
    unknown: Counter[str] = Counter()
    ended: TraceEnded | None = None
    for number, line in lines:
        if ended is not None:
            raise TraceError(f"{name}:{number}: there is more after the record that ends the trace")
        plain = _object(name, number, line)
        if plain is None:
            return Trace(name, header, tuple(entries), None, number, unknown)
        try:
            found = decode_entry(plain)
        except ValueError as error:
            raise TraceError(f"{name}:{number}: {error}") from None
        if found is None:
            unknown[plain["record"]] += 1
        elif isinstance(found[1], TraceEnded):
            ended = found[1]
        else:
            entries.append((found[0], found[1]))
    return Trace(name, header, tuple(entries), ended, None, unknown)


def _header(name: str, first: tuple[int, bytes]) -> Header:
    number, line = first
    if not line.startswith(b"{"):
        raise TraceError(f"{name}: this is not a trace: its first line is no header of one")
    plain = _object(name, number, line)
    if plain is None:
        raise TraceError(f"{name}: the trace ends in the middle of its first line, so there is nothing to read")
    try:
        return decode_header(plain)
    except ValueError as error:
        raise TraceError(f"{name}: {error}") from None


def _lines(name: str, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES:
            raise TraceError(f"{name}:{number}: a line of more than {MAX_LINE_BYTES} bytes; this is not a trace")
        yield number, line


def _object(name: str, number: int, line: bytes) -> dict[str, Any] | None:
    """What a line holds; None for a last line that is cut short."""
    try:
        plain = json.loads(line)
    except (ValueError, RecursionError):
        if not line.endswith(b"\n"):
            return None
        raise TraceError(f"{name}:{number}: this is not a record: no JSON object stands on the line") from None
    if not isinstance(plain, dict):
        raise TraceError(f"{name}:{number}: this is not a record: no JSON object stands on the line")
    return plain
