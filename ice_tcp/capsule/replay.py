"""Runs a capsule through the core of this version, and finds the first thing that is not as it was."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from ice_tcp.capsule.reading import Ask, CapsuleError, Outcome, Reader, Step
from ice_tcp.capsule.recorder import raised
from ice_tcp.core.agent import Agent
from ice_tcp.core.commands import Command
from ice_tcp.core.events import Event
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.trace import TraceSink

_CONTEXT: Final = 5
"""Inputs before a difference that are shown with it."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first thing that is not as it was: ``what``, in ``step``; None stands for nothing."""

    step: Step
    what: str
    recorded: object
    now: object
    before: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay: how much was the same, and the first difference, if there is one."""

    inputs: int
    commands: int
    events: int
    difference: Difference | None
    began_at: float


class Replay:
    """Replays what ``reader`` reads, up to and with input number ``until``; call ``run`` once.

    ``trace`` hears the core's trace records; ``on_step`` hears each step before it is taken.
    """

    def __init__(
        self,
        reader: Reader,
        *,
        until: int | None = None,
        trace: TraceSink | None = None,
        on_step: Callable[[Step], None] | None = None,
    ) -> None:
        self._reader = reader
        self._until = until
        self._trace = trace
        self._on_step = on_step
        self._script = _Script()
        self._agent: Agent | None = None
        self._before: deque[Step] = deque(maxlen=_CONTEXT)

    def run(self) -> Replayed:
        """Raises CapsuleError where the capsule cannot be read on."""
        inputs = commands = events = 0
        began_at: float | None = None
        difference = None
        for step in self._reader.steps():
            if step.outcome is None or (self._until is not None and step.number > self._until):
                break
            if began_at is None and step.number:
                began_at = step.now
            if self._on_step is not None:
                self._on_step(step)
            inputs = step.number
            if (found := self._take(step, step.outcome)) is not None:
                difference = Difference(step, *found, tuple(self._before))
                break
            commands += len(step.outcome.commands)
            events += len(step.outcome.events)
            self._before.append(step)
        return Replayed(inputs, commands, events, difference, began_at or 0.0)

    def _take(self, step: Step, recorded: Outcome) -> tuple[str, object, object] | None:
        """What differs in this step: its name, as it was, as it is."""
        self._script.begin(step.asks)
        try:
            came = self._outcome(step)
        except _OffScriptError as error:
            return f"draw {error.number}", error.recorded, error.asked
        if (left := self._script.left()) is not None:
            return f"draw {left[0]}", left[1], None
        return _compared(recorded, came)

    def _outcome(self, step: Step) -> Outcome:
        error: str | None = None
        returned = None
        try:
            returned = self._call(step)
        except (_OffScriptError, CapsuleError):
            raise
        except Exception as failure:  # noqa: BLE001 - whatever comes out of the core is compared with what came then
            error = raised(failure)
        if self._agent is None:
            raise CapsuleError(f"no agent can be made as the capsule says: {error}")
        agent = self._agent
        return Outcome(tuple(agent.commands()), tuple(agent.events()), agent.next_timer(), error, returned)

    def _call(self, step: Step) -> Any:
        if self._agent is not None:
            return getattr(self._agent, step.name)(**step.arguments, now=step.now)
        made = self._reader.made
        self._agent = Agent(
            made.role,
            made.policy,
            rng=_ScriptedRandom(self._script),
            pacer=_ScriptedPacer(self._script),
            components=made.components,
            trace=self._trace,
            credentials=made.credentials,
            awaits_end=made.awaits_end,
        )
        return None


def _compared(recorded: Outcome, came: Outcome) -> tuple[str, object, object] | None:
    if recorded.raised != came.raised:
        return "exception", recorded.raised, came.raised
    lists: tuple[tuple[str, tuple[Command | Event, ...], tuple[Command | Event, ...]], ...] = (
        ("command", recorded.commands, came.commands),
        ("event", recorded.events, came.events),
    )
    for name, then, now in lists:
        for index in range(max(len(then), len(now))):
            one, other = (each[index] if index < len(each) else None for each in (then, now))
            if one != other:
                return f"{name} {index + 1}", one, other
    if recorded.returned != came.returned:
        return "result", recorded.returned, came.returned
    if recorded.timer != came.timer:
        return "timer", recorded.timer, came.timer
    return None


@dataclass(frozen=True, slots=True)
class Asked:
    """What the core asked, without the answer."""

    what: str
    argument: int | float | None


class _OffScriptError(Exception):
    """The core asks something else than it did."""

    def __init__(self, number: int, recorded: Asked | None, asked: Asked) -> None:
        super().__init__(number, recorded, asked)
        self.number = number
        self.recorded = recorded
        self.asked = asked


class _Script:
    """The draws and the pacer's answers of one step, in their order."""

    def __init__(self) -> None:
        self._asks: tuple[Ask, ...] = ()
        self._next = 0

    def begin(self, asks: tuple[Ask, ...]) -> None:
        self._asks, self._next = asks, 0

    def left(self) -> tuple[int, Asked] | None:
        """Number and content of the first that was not asked for."""
        if self._next == len(self._asks):
            return None
        ask = self._asks[self._next]
        return self._next + 1, Asked(ask.what, ask.argument)

    def answer(self, what: str, argument: int | float | None = None) -> Any:
        left, asked = self.left(), Asked(what, argument)
        if left is None or left[1] != asked:
            raise _OffScriptError(self._next + 1, left[1] if left is not None else None, asked)
        self._next += 1
        return self._asks[self._next - 1].answer


class _ScriptedRandom(random.Random):
    def __new__(cls, *_: object) -> _ScriptedRandom:  # the base's would take the argument for a seed
        return super().__new__(cls)

    def __init__(self, script: _Script) -> None:
        super().__init__()
        self._script = script

    def random(self) -> float:
        return float(self._script.answer("random"))

    def getrandbits(self, k: int, /) -> int:
        return int(self._script.answer("getrandbits", k))


class _ScriptedPacer(Pacer):
    __slots__ = ("_script",)

    def __init__(self, script: _Script) -> None:
        super().__init__()
        self._script = script

    def reserve(self, now: float) -> float:
        return float(self._script.answer("reserve", now))

    def next_at(self, now: float) -> float:
        return float(self._script.answer("next_at", now))

    def take(self, now: float) -> None:
        self._script.answer("take", now)
