"""What one side of the demonstration saw: candidates, the check list as it changed, paths, and when."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from candidates.candidate import Candidate, CandidateType, TransportAddress
from candidates.priority import pair_priority
from ice_tcp.core.events import (
    Event,
    LocalCandidateFound,
    PairChanged,
    PairState,
    PathSelected,
    Purpose,
    Role,
    RoleChanged,
    SelectedPath,
    ServerReport,
    ServerReported,
)
from ice_tcp.core.verdicts import Verdict
from ice_tcp.gather.document import candidate_fields, report_fields

GONE: Final = "removed"
"""How a pair that left the check list is shown."""


@dataclass(frozen=True, slots=True)
class CandidateSeen:
    """A candidate of our own, or one that the peer told us."""

    at: float
    candidate: Candidate
    is_local: bool


@dataclass(slots=True)
class PairRecord:
    """A pair of the check list, and its states so far, each with the seconds since the beginning."""

    pair: int
    local: Candidate
    remote: Candidate
    priority: int
    states: list[tuple[float, str]] = field(default_factory=list)
    verdict: Verdict | None = None

    @property
    def state(self) -> str:
        return self.states[-1][1]


@dataclass(frozen=True, slots=True)
class PairSeen:
    """A pair joined the check list, changed its state or left the list; ``record`` has it all."""

    at: float
    record: PairRecord


@dataclass(frozen=True, slots=True)
class PathSeen:
    """Data goes this way from now on."""

    at: float
    path: SelectedPath


@dataclass(frozen=True, slots=True)
class ServerSeen:
    """The server did what it was asked for, or did not; it saw no NAT if it saw one of ``own`` addresses."""

    at: float
    report: ServerReport
    own: frozenset[TransportAddress]


Observation: TypeAlias = CandidateSeen | PairSeen | PathSeen | ServerSeen


class Record:
    """What one side saw, from `start` on; each observation is told to ``observer`` as it is made."""

    def __init__(self, role: Role, observer: Callable[[Observation], None] | None = None) -> None:
        self.role = role
        self.candidates: list[CandidateSeen] = []
        self.servers: dict[object, ServerSeen] = {}
        """The latest report on each thing that a server was asked for."""
        self.pairs: dict[int, PairRecord] = {}
        self.selected: SelectedPath | None = None
        self.first_valid: float | None = None
        """Seconds from the beginning of gathering to the first valid pair."""
        self.nominated: float | None = None
        """Seconds from the beginning of gathering to the nominated pair."""
        self._observer = observer
        self._is_over = False
        self._started_at = time.monotonic()

    def start(self) -> None:
        """Gathering begins."""
        self._started_at = time.monotonic()

    def stop(self) -> None:
        """The file has arrived; what becomes of pairs and paths after that is not told."""
        self._is_over = True

    def remote_candidate(self, candidate: Candidate) -> None:
        self._see_candidate(candidate, is_local=False)

    def event(self, event: Event) -> None:
        """Something happened to the agent."""
        match event:
            case LocalCandidateFound(candidate=candidate):
                self._see_candidate(candidate, is_local=True)
            case ServerReported(report):
                self._see_server(report)
            case PairChanged() if not self._is_over:
                self._see_pair(event)
            case PathSelected(selected) if not self._is_over:
                self._see_path(selected)
            case RoleChanged(role):
                self.role = role

    def relay(self) -> ServerReport | None:
        """What the server said of the relay that our end of the selected path is on; None if it is on none."""
        local = self.selected.local if self.selected is not None else None
        if local is None or local.type is not CandidateType.RELAY:
            return None
        reports = [seen.report for seen in self.servers.values() if seen.report.purpose is Purpose.RELAY]
        return next((each for each in reports if each.transport is local.transport and each.found), None)

    def checklist(self) -> list[PairRecord]:
        """All pairs that ever were in the check list, highest priority first (RFC 8445 s6.1.2.3)."""
        return sorted(self.pairs.values(), key=lambda pair: -pair.priority)

    def to_json(self) -> dict[str, Any]:
        """Everything, as JSON; times are seconds from the beginning of gathering."""
        return {
            "role": self.role,
            "candidates": [_timed(seen) for seen in self.candidates if seen.is_local],
            "remote_candidates": [_timed(seen) for seen in self.candidates if not seen.is_local],
            "server": [{"at": seen.at, **report_fields(seen.report)} for seen in self.servers.values()],
            "checklist": [_pair(pair) for pair in self.checklist()],
            "selected_pair": _path(self.selected),
            "first_valid_seconds": self.first_valid,
            "nominated_seconds": self.nominated,
        }

    def _now(self) -> float:
        return round(time.monotonic() - self._started_at, 6)

    def _observe(self, observation: Observation) -> None:
        if self._observer is not None:
            self._observer(observation)

    def _see_candidate(self, candidate: Candidate, *, is_local: bool) -> None:
        seen = CandidateSeen(self._now(), candidate, is_local)
        self.candidates.append(seen)
        self._observe(seen)

    def _see_server(self, report: ServerReport) -> None:
        own = frozenset(
            seen.candidate.address
            for seen in self.candidates
            if seen.is_local and seen.candidate.type is CandidateType.HOST
        )
        seen = ServerSeen(self._now(), report, own)
        self.servers[report.subject] = seen
        self._observe(seen)

    def _see_pair(self, event: PairChanged) -> None:
        now = self._now()
        pair = self.pairs.get(event.pair)
        if pair is None:
            pair = PairRecord(event.pair, event.local, event.remote, self._priority(event))
            self.pairs[event.pair] = pair
        pair.states.append((now, event.state.value if event.state is not None else GONE))
        pair.verdict = event.verdict
        if event.state is PairState.SUCCEEDED and self.first_valid is None:
            self.first_valid = now
        self._observe(PairSeen(now, pair))

    def _see_path(self, selected: SelectedPath) -> None:
        now = self._now()
        self.selected = selected
        if selected.nominated and self.nominated is None:
            self.nominated = now
        self._observe(PathSeen(now, selected))

    def _priority(self, event: PairChanged) -> int:
        ours, theirs = event.local.priority, event.remote.priority
        return pair_priority(ours, theirs) if self.role is Role.CONTROLLING else pair_priority(theirs, ours)


def _timed(seen: CandidateSeen) -> dict[str, Any]:
    return {"at": seen.at, **candidate_fields(seen.candidate)}


def _pair(pair: PairRecord) -> dict[str, Any]:
    return {
        "pair": pair.pair,
        "local": candidate_fields(pair.local),
        "remote": candidate_fields(pair.remote),
        "priority": pair.priority,
        "state": pair.state,
        "states": [{"at": at, "state": state} for at, state in pair.states],
        "verdict": pair.verdict,
    }


def _path(path: SelectedPath | None) -> dict[str, Any] | None:
    if path is None:
        return None
    return {
        "local": candidate_fields(path.local),
        "remote": candidate_fields(path.remote),
        "nominated": path.nominated,
        "relayed": path.is_relayed,
    }
