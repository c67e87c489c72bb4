"""The sink that writes a trace file while the session runs."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ice_tcp.core.events import AgentState, StateChanged
from ice_tcp.core.trace import Entry
from ice_tcp.tracefile.format import (
    MAX_LINE_BYTES,
    VERSION,
    Ending,
    Header,
    TraceEnded,
    TraceError,
    entry_line,
    header_line,
)
from ice_tcp.tracefile.reader import is_trace
from ice_tcp.tracefile.redaction import Redactor

logger = logging.getLogger(__name__)

LIMIT_BYTES: Final = 64 << 20
_ENDING_BYTES: Final = 128
"""Room for the last line."""


@dataclass(frozen=True, slots=True)
class Clock:
    """One instant on both clocks: ``wall`` in seconds since 1970, ``monotonic`` as the agent counts."""

    wall: float
    monotonic: float

    @classmethod
    def now(cls) -> Self:
        return cls(time.time(), time.monotonic())


class TraceFile:
    """Writes what an agent does to ``path``: ``Agent(role, trace=TraceFile("f.jsonl"))``, one file an agent.

    Each line is flushed, so that a crash leaves a trace that can be read. The file is closed with the agent, or by
    `close`. Where it cannot be written on, after ``limit`` bytes or because the disk is full, the trace ends and the
    session goes on; a full disk is logged once.

    Passwords and keys are never written. With ``redact`` addresses, names of hosts and what peers and servers say in
    words are not, either; see `Redactor`. ``zero`` is the instant that times count from, now if None.

    Raises OSError, and TraceError rather than overwrite a file that has something else than a trace.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, redact: bool = False, limit: int = LIMIT_BYTES, zero: Clock | None = None
    ) -> None:
        check_target(Path(path))
        zero = zero or Clock.now()
        self._name = os.fspath(path)
        self._zero = zero.monotonic
        self._limit = limit
        self._redactor = Redactor() if redact else None
        self._size = 0
        self._file = Path(path).open("w", encoding="ascii", newline="\n")  # noqa: SIM115 - it lives as long as the session
        self._is_open = True
        self._write(header_line(Header(VERSION, version("ice-tcp"), zero.wall, zero.monotonic, redact)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, now: float, entry: Entry) -> None:
        """Write one line; after the end, nothing. Never raises."""
        if not self._is_open:
            return
        if self._redactor is not None:
            entry = self._redactor.entry(entry)
        line = entry_line(now - self._zero, entry)
        if len(line) > MAX_LINE_BYTES or self._size + len(line) > self._limit - _ENDING_BYTES:
            self._end(now - self._zero, TraceEnded(Ending.LIMIT, self._limit))
            return
        self._write(line)
        if isinstance(entry, StateChanged) and entry.state is AgentState.CLOSED:
            self._end(now - self._zero, TraceEnded(Ending.CLOSED))

    def close(self) -> None:
        """The trace ends here; may be called more than once."""
        self._end(time.monotonic() - self._zero, TraceEnded(Ending.CLOSED))

    def _end(self, at: float, ending: TraceEnded) -> None:
        if self._is_open:
            self._write(entry_line(at, ending))
            self._shut()

    def _write(self, line: str) -> None:
        try:
            self._file.write(line)
            self._file.flush()
            self._size += len(line)
        except OSError as error:
            logger.warning("the trace %s ends here: %s", self._name, error.strerror or error)
            self._shut()

    def _shut(self) -> None:
        self._is_open = False
        try:
            self._file.close()
        except OSError:  # what could not be flushed before, of which the log has told
            logger.debug("the trace %s could not be flushed", self._name)


def check_target(path: Path) -> None:
    """Raises TraceError if there is a file that is no trace: a mistyped name must not cost somebody a file."""
    if path.is_file() and path.stat().st_size and not is_trace(path):
        raise TraceError(f"{path} exists and is not a trace; it is not overwritten")
