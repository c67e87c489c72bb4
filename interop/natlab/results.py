"""What came of a cell: the path of each side, when what happened, and whether that is as it must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from interop.natlab.expectation import Outcome, expected, is_left_to_chance
from interop.natlab.scenario import Scenario

MOMENTS: Final = ("valid", "nominated", "data", "settled")
"""What is timed: the first valid pair, the nominated one, the first message of the peer, and the first that both sides'
final path carried."""


@dataclass(slots=True)
class SideResult:
    """One agent. ``moments`` are instants of the machine's clock; `checking_at` is when it started its checks."""

    checking_at: float | None = None
    moments: dict[str, float] = field(default_factory=dict)
    local: dict[str, Any] | None = None
    """The selected local candidate: type, transport, tcptype, address."""
    remote: dict[str, Any] | None = None
    states: list[str] = field(default_factory=list)
    failure: str | None = None
    """Verdict and remedy, if the agent gave up."""
    told: list[tuple[float, str, Mapping[str, Any]]] = field(default_factory=list)
    """All that the process told: when, what, and about what."""


@dataclass(slots=True)
class CellResult:
    """One run of one scenario. ``error`` is set if the lab itself failed, or time was up."""

    scenario: Scenario
    left: SideResult
    right: SideResult
    directory: Path
    error: str | None = None

    @property
    def sides(self) -> tuple[SideResult, SideResult]:
        return self.left, self.right

    @property
    def expected(self) -> Outcome:
        return expected(self.scenario)

    @property
    def outcome(self) -> Outcome:
        """A relay is one that either side uses."""
        if self.error is not None or any("settled" not in side.moments for side in self.sides):
            return Outcome.FAILED
        ends = [end for side in self.sides for end in (side.local, side.remote) if end is not None]
        return Outcome.RELAY if any(end["type"] == "relay" for end in ends) else Outcome.DIRECT

    @property
    def ok(self) -> bool:
        if self.outcome is Outcome.RELAY and is_left_to_chance(self.scenario):
            return True
        return self.outcome is self.expected

    @property
    def zero(self) -> float | None:
        """The instant that times count from: when the later side started its checks."""
        started = [side.checking_at for side in self.sides if side.checking_at is not None]
        return max(started) if len(started) == 2 else None

    def in_rtt(self, side: SideResult, moment: str) -> float | None:
        """How many round trips after `zero` something happened; None if it did not."""
        seconds = self.seconds(side, moment)
        return None if seconds is None or not self.scenario.weather.rtt else seconds / self.scenario.weather.rtt

    def seconds(self, side: SideResult, moment: str) -> float | None:
        at = side.moments.get(moment)
        return None if at is None or self.zero is None else at - self.zero

    @property
    def time_to_data(self) -> float | None:
        """Seconds from `zero` until both sides have had a message."""
        times = [self.seconds(side, "data") for side in self.sides]
        known = [each for each in times if each is not None]
        return max(known) if len(known) == 2 else None

    @property
    def path(self) -> str:
        """The path in words, as the left side sees it: ``tcp so srflx > prflx``."""
        local, remote = self.left.local, self.left.remote
        if local is None or remote is None:
            return "none"
        kind = f"{local['transport']} {local['tcptype'] or ''}".strip()
        return f"{kind} {local['type']} > {remote['type']}"

    @property
    def why(self) -> str:
        """Why it is not as it must be, in one line; empty if it is."""
        if self.ok:
            return ""
        causes = [self.error, *(side.failure for side in self.sides)]
        told = "; ".join(cause for cause in causes if cause)
        return f"{self.outcome}, not {self.expected}" + (f": {told}" if told else "")

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario.as_json(),
            "outcome": self.outcome,
            "expected": self.expected,
            "ok": self.ok,
            "why": self.why,
            "path": self.path,
            "time_to_data": self.time_to_data,
            "left": self._side(self.left),
            "right": self._side(self.right),
            "files": str(self.directory),
        }

    def _side(self, side: SideResult) -> dict[str, Any]:
        return {
            "local": side.local,
            "remote": side.remote,
            "seconds": {moment: self.seconds(side, moment) for moment in MOMENTS},
            "rtt": {moment: self.in_rtt(side, moment) for moment in MOMENTS},
            "states": side.states,
            "failure": side.failure,
        }
