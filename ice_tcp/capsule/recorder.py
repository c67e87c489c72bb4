"""The core's agent, recorded: what it is told, what it draws, what the pacer answers, what it wants and tells.

Without a capsule none of this is in the way: the driver then runs a plain agent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

from candidates.policy import Policy
from ice_tcp.capsule.codec import CodecError, encode
from ice_tcp.capsule.header import Made
from ice_tcp.capsule.inputs import INPUTS, Input
from ice_tcp.capsule.writer import Capsule
from ice_tcp.core.agent import Agent
from ice_tcp.core.commands import Command
from ice_tcp.core.events import Event, Role
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.trace import TraceSink

COMMANDS: Final = tuple[Command, ...]
EVENTS: Final = tuple[Event, ...]
"""How the outputs of one input are written."""


class RecordingAgent(Agent):
    """An agent of the core that writes its inputs and outputs into ``capsule``; its methods are the agent's own.

    Outputs are taken from the core at the end of each input, and kept until the shell asks for them: so they stand
    beside the input that made them, whenever the shell comes.
    """

    __slots__ = ("_capsule", "_kept_commands", "_kept_events", "_recording")

    def __init__(
        self,
        role: Role,
        policy: Policy,
        *,
        rng: random.Random,
        pacer: Pacer,
        capsule: Capsule,
        components: int = 1,
        trace: TraceSink | None = None,
        credentials: tuple[str, str] | None = None,
        awaits_end: bool = False,
    ) -> None:
        self._capsule = capsule
        self._kept_commands: list[Command] = []
        self._kept_events: list[Event] = []
        self._recording = False
        capsule.begin(Made(role, policy, components, credentials, awaits_end))
        super().__init__(
            role,
            policy,
            rng=RecordedRandom(rng, capsule),
            pacer=RecordedPacer(pacer, capsule),
            components=components,
            trace=trace,
            credentials=credentials,
            awaits_end=awaits_end,
        )
        self._conclude({})

    def commands(self) -> list[Command]:
        commands, self._kept_commands = self._kept_commands, []
        return commands

    def events(self) -> list[Event]:
        events, self._kept_events = self._kept_events, []
        return events

    def record(self, what: Input, method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call an input of the core; one that the core calls from within another is part of that."""
        if self._recording:
            return method(self, *args, **kwargs)
        arguments, now = what.bind(args, kwargs)
        try:
            self._capsule.write({"input": what.name, "now": float(now), "arguments": what.encode(arguments)})
        except CodecError as error:
            self._capsule.give_up(f"{what.name}: {error}")
        outcome: dict[str, Any] = {}
        self._recording = True
        try:
            returned = method(self, *args, **kwargs)
            if returned is not None:
                outcome["returned"] = encode(returned, what.returns)
        except Exception as error:
            outcome["raised"] = raised(error)
            raise
        finally:
            self._recording = False
            self._conclude(outcome)
        return returned

    def _conclude(self, outcome: dict[str, Any]) -> None:
        commands, events = super().commands(), super().events()
        self._kept_commands += commands
        self._kept_events += events
        if commands:
            outcome["commands"] = encode(commands, COMMANDS)
        if events:
            outcome["events"] = encode(events, EVENTS)
        self._capsule.write({**outcome, "timer": super().next_timer()})


def raised(error: Exception) -> str:
    """How an exception is written."""
    return f"{type(error).__name__}: {error}"


def _recorded(what: Input) -> Callable[..., Any]:
    method = getattr(Agent, what.name)

    @wraps(method)
    def call(agent: RecordingAgent, *args: Any, **kwargs: Any) -> Any:
        return agent.record(what, method, args, kwargs)

    return call


for _input in INPUTS.values():
    setattr(RecordingAgent, _input.name, _recorded(_input))


class RecordedRandom(random.Random):
    """Draws from another generator and writes what came. Everything of `random.Random` is made of these two."""

    def __new__(cls, *_: object) -> RecordedRandom:  # the base's would take the arguments for a seed
        return super().__new__(cls)

    def __init__(self, source: random.Random, capsule: Capsule) -> None:
        super().__init__()
        self._source = source
        self._capsule = capsule

    def random(self) -> float:
        answer = self._source.random()
        self._capsule.write({"ask": ["random"], "answer": answer})
        return answer

    def getrandbits(self, k: int, /) -> int:
        answer = self._source.getrandbits(k)
        self._capsule.write({"ask": ["getrandbits", k], "answer": answer})
        return answer


class RecordedPacer(Pacer):
    """Asks the process's pacer, whose answers depend on the other agents of the process, and writes them."""

    __slots__ = ("_capsule", "_shared")

    def __init__(self, shared: Pacer, capsule: Capsule) -> None:
        super().__init__()
        self._shared = shared
        self._capsule = capsule

    def reserve(self, now: float) -> float:
        return self._written("reserve", now, self._shared.reserve(now))

    def next_at(self, now: float) -> float:
        return self._written("next_at", now, self._shared.next_at(now))

    def take(self, now: float) -> None:
        self._shared.take(now)
        self._capsule.write({"ask": ["take", now], "answer": None})

    def _written(self, what: str, now: float, answer: float) -> float:
        self._capsule.write({"ask": [what, now], "answer": answer})
        return answer
