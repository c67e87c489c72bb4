"""A target that is no ICE agent at all: it does what a test needs of one, to see what the suite makes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from interop.conformance.case import Case, Level, Run
from interop.conformance.target import Capability, Description, Setup, TargetError


class ScriptedTarget:
    """``fails`` is called when an agent is created."""

    name = "scripted"
    version = "1"

    def __init__(
        self,
        *capabilities: Capability,
        deviations: Mapping[str, str] | None = None,
        fails: Callable[[], None] = lambda: None,
    ) -> None:
        self.capabilities = frozenset(capabilities or (Capability.UDP,))
        self.deviations = deviations or {}
        self.setups: list[Setup] = []
        self.closed: list[Setup] = []
        self._fails = fails

    async def create(self, setup: Setup) -> ScriptedAgent:
        self._fails()
        self.setups.append(setup)
        return ScriptedAgent(self, setup)

    async def close(self) -> None:
        pass


class ScriptedAgent:
    """Gathers one candidate that nobody listens on, and cannot do anything."""

    def __init__(self, target: ScriptedTarget, setup: Setup) -> None:
        self._target = target
        self._setup = setup

    async def gather(self) -> Description:
        return Description("frag", "p" * 22, candidates=("candidate:1 1 UDP 1 127.0.0.1 9 typ host",))

    async def set_remote(self, description: Description) -> None:
        pass

    async def add_remote_candidate(self, line: str) -> None:
        pass

    async def end_of_candidates(self) -> None:
        pass

    async def connect(self) -> None:
        raise TargetError("there is no agent")

    async def send(self, data: bytes, component: int) -> None:
        raise TargetError("there is no agent")

    async def receive(self, component: int) -> bytes:
        raise TargetError("there is no agent")

    async def selected_pair(self, component: int) -> tuple[str, str] | None:
        return None

    async def restart(self) -> Description:
        raise TargetError("there is no agent")

    async def close(self) -> None:
        self._target.closed.append(self._setup)


def case_of(
    run: Run,
    *needs: Capability,
    id_: str = "8445-7-it-is-done",
    level: Level = Level.MUST,
    scaled: bool = False,
    slow: bool = False,
    limit: float = 5.0,
) -> Case:
    """A case of a test's own, which is not registered."""
    sentence = "It is what the RFC says."
    return Case(id_, 8445, "7", level, sentence, "It is done.", frozenset(needs), scaled, slow, limit, run)
