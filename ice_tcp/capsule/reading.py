"""A capsule read from its file: what the agent was made with, then step by step. Nothing in it is trusted."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeAlias

from ice_tcp.capsule.codec import CodecError, decode
from ice_tcp.capsule.header import FORMAT, VERSION, Made
from ice_tcp.capsule.inputs import INPUTS
from ice_tcp.capsule.recorder import COMMANDS, EVENTS
from ice_tcp.capsule.writer import LIMIT
from ice_tcp.core.commands import Command
from ice_tcp.core.events import Event

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
_MAX_BITS: Final = 1 << 16
_LATEST: Final = 1e11
"""Seconds: clocks are exact to microseconds until then; later ones would make timers stand still."""
_ASKS: Final[Mapping[str, type | None]] = {"random": None, "getrandbits": int} | dict.fromkeys(
    ("reserve", "next_at", "take"), float
)
"""What the core asks, and the type of the argument."""


class CapsuleError(Exception):
    """A file cannot be replayed; the message names the line, where there is one."""


@dataclass(frozen=True, slots=True)
class Ask:
    """A draw, or a question to the pacer, with what was answered."""

    what: str
    argument: int | float | None
    answer: int | float | None = field(repr=False)
    line: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an input led to."""

    commands: tuple[Command, ...] = ()
    events: tuple[Event, ...] = ()
    timer: float | None = None
    raised: str | None = None
    returned: Any = None


@dataclass(frozen=True, slots=True)
class Step:
    """One input and what was recorded of it. Number 0 is the making of the agent, with the name "made".

    ``outcome`` is None where the recording ends within the input.
    """

    number: int
    line: int
    name: str
    now: float
    arguments: Mapping[str, Any]
    asks: tuple[Ask, ...] = ()
    outcome: Outcome | None = None


_Entry: TypeAlias = dict[str, Any]


class Reader:
    """A capsule that is open; ``open_capsule`` makes it. Take ``made``, then iterate over ``steps`` once.

    ``ending`` is how the recording ended, once all steps were taken: "closed", "full" (the limit of its size), "given
    up", "cut" (within a line) or "open" (after a line, without a word). All of these raise CapsuleError.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._line = 0
        self._at: float | None = None
        self.ending = "open"
        self.recorded_by = self._preamble()
        self.made = self._made()

    def steps(self) -> Iterator[Step]:
        """Each input in its order."""
        step: Step | None = Step(0, self._line, "made", 0.0, {})
        number = 0
        asks: list[Ask] = []
        while (entry := self._next()) is not None:
            if "ask" in entry and step is not None:
                asks.append(self._ask(entry))
            elif "timer" in entry and step is not None:
                yield _completed(step, asks, self._outcome(entry, step))
                step, asks = None, []
            elif "input" in entry and step is None:
                number += 1
                step = self._input(entry, number)
            else:
                raise self._error("this line does not follow from the one before")
        if step is not None:
            yield _completed(step, asks, None)

    def _preamble(self) -> str:
        entry = self._next()
        if entry is None or entry.get("format") != FORMAT:
            raise CapsuleError(f"{self._name} is not a capsule of ice-tcp")
        if entry.get("version") != VERSION:
            raise CapsuleError(
                f"{self._name} has version {entry.get('version')!r:.20} of the format, and this ice-tcp reads {VERSION}"
            )
        return f"{entry.get('ice_tcp', '?')!s:.40}"

    def _made(self) -> Made:
        entry = self._next()
        if entry is None:
            raise CapsuleError(f"{self._name}: no agent is in it")
        if entry.keys() != {"agent"}:
            raise self._error("not what an agent was made with")
        try:
            return Made.from_json(entry["agent"])
        except CodecError as error:
            raise self._error(str(error)) from None

    def _next(self) -> _Entry | None:
        """The next line; None at the end."""
        line = self._file.readline(MAX_LINE_BYTES + 1)
        if not line:
            return None
        self._line += 1
        if len(line) > MAX_LINE_BYTES:
            raise self._error(f"longer than {MAX_LINE_BYTES >> 20} MiB")
        if not line.endswith(b"\n") and self._line > 1:
            self.ending = "cut"
            return None
        entry = self._parsed(line)
        if entry.keys() == {"end"}:
            self.ending = f"{entry['end']!s:.20}"
            if self._file.read(1):
                raise self._error("something follows the end")
            return None
        return entry

    def _parsed(self, line: bytes) -> _Entry:
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            entry = None
        if isinstance(entry, dict):
            return entry
        if self._line == 1:
            raise CapsuleError(f"{self._name} is not a capsule of ice-tcp")
        raise self._error("not a JSON object")

    def _input(self, entry: _Entry, number: int) -> Step:
        if entry.keys() != {"input", "now", "arguments"}:
            raise self._error("not an input")
        what = INPUTS.get(entry["input"]) if isinstance(entry["input"], str) else None
        if what is None:
            raise self._error(f"this version of ice-tcp has no input {entry['input']!r:.40}")
        try:
            now = decode(entry["now"], float)
            arguments = what.decode(entry["arguments"])
        except CodecError as error:
            raise self._error(f"{what.name}: {error}") from None
        if abs(now) > _LATEST or (self._at is not None and now < self._at):
            raise self._error("time goes backwards, or too far")
        self._at = now
        return Step(number, self._line, what.name, now, arguments)

    def _ask(self, entry: _Entry) -> Ask:
        what, *argument = entry["ask"] if isinstance(entry["ask"], list) and entry["ask"] else [None]
        if entry.keys() != {"ask", "answer"} or not isinstance(what, str) or what not in _ASKS:
            raise self._error("not a draw, nor a question to the pacer")
        hint = _ASKS[what]
        try:
            given = [decode(each, hint) for each in argument]
            answer = decode(entry["answer"], {"getrandbits": int, "take": type(None)}.get(what, float))
        except CodecError as error:
            raise self._error(f"{what}: {error}") from None
        if len(given) != (hint is not None) or not _is_possible(what, given, answer):
            raise self._error(f"{what}: no such answer is possible")
        return Ask(what, given[0] if given else None, answer, self._line)

    def _outcome(self, entry: _Entry, step: Step) -> Outcome:
        returns = INPUTS[step.name].returns if step.name in INPUTS else type(None)
        hints = {
            "commands": COMMANDS,
            "events": EVENTS,
            "timer": float | None,
            "raised": str,
            "returned": returns,
        }
        if unknown := entry.keys() - hints.keys():
            raise self._error(f"an outcome has no {', '.join(sorted(unknown)):.80}")
        try:
            return Outcome(**{name: decode(value, hints[name]) for name, value in entry.items()})
        except CodecError as error:
            raise self._error(f"the outcome of {step.name}: {error}") from None

    def _error(self, text: str) -> CapsuleError:
        return CapsuleError(f"{self._name}:{self._line}: {text}")


@contextmanager
def open_capsule(path: Path) -> Iterator[Reader]:
    """Raises CapsuleError for what is no capsule, or none of this version."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(open(path, "rb", opener=_without_waiting))
        except OSError as error:
            raise CapsuleError(f"{path}: {error.strerror}") from None
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise CapsuleError(f"{path} is not a regular file")
        if status.st_size > LIMIT:
            raise CapsuleError(f"{path} is larger than any capsule: more than {LIMIT >> 20} MiB")
        yield Reader(file, str(path))


def _without_waiting(path: str, flags: int) -> int:
    """Opens a FIFO that nobody writes, too: what a file is shows only when it is open."""
    return os.open(path, flags | os.O_NONBLOCK)


def _completed(step: Step, asks: list[Ask], outcome: Outcome | None) -> Step:
    return Step(step.number, step.line, step.name, step.now, step.arguments, tuple(asks), outcome)


def _is_possible(what: str, argument: list[int], answer: Any) -> bool:
    match what:
        case "random":
            return 0.0 <= float(answer) < 1.0
        case "getrandbits":
            return 0 <= argument[0] <= _MAX_BITS and 0 <= int(answer) < 1 << argument[0]
        case "take":
            return True
    return abs(float(answer)) <= _LATEST
