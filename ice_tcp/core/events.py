"""What the core tells the application: a closed union of frozen messages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from candidates.candidate import Candidate
from candidates.parameters import IceParameters
from ice_tcp.core.commands import Path
from ice_tcp.core.verdicts import Verdict


class Role(StrEnum):
    """Who nominates (RFC 8445 s6.1.1)."""

    CONTROLLING = "controlling"
    CONTROLLED = "controlled"


class AgentState(StrEnum):
    """The session as a whole; the names are those of W3C's RTCIceTransportState."""

    NEW = "new"
    CHECKING = "checking"
    CONNECTED = "connected"
    """Every component has a valid path and may carry data (RFC 8445 s12.1)."""
    COMPLETED = "completed"
    """Every component has its nominated pair."""
    DISCONNECTED = "disconnected"
    """A selected path is lost or silent; the agent tries to win it back by itself."""
    FAILED = "failed"
    """Only a restart helps."""
    CLOSED = "closed"


class PairState(StrEnum):
    """State of a candidate pair (RFC 8445 s6.1.2.6)."""

    FROZEN = "frozen"
    WAITING = "waiting"
    IN_PROGRESS = "in-progress"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class SelectedPath:
    """A path that carries a component's data.

    ``nominated`` is False while data flows on a valid pair before nomination.
    """

    component: int
    local: Candidate
    remote: Candidate
    path: Path
    nominated: bool
    generation: int


@dataclass(frozen=True, slots=True)
class LocalCandidateFound:
    """Send this candidate to the peer."""

    candidate: Candidate
    generation: int


@dataclass(frozen=True, slots=True)
class GatheringDone:
    """No more local candidates in this generation: tell the peer end-of-candidates (RFC 8838 s13)."""

    generation: int


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The session's state changed; ``verdict`` says why it is DISCONNECTED or FAILED."""

    state: AgentState
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class PairChanged:
    """A pair joined the check list, changed its state, or left it (``state`` None)."""

    pair: int
    component: int
    local: Candidate
    remote: Candidate
    state: PairState | None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class PathSelected:
    """This path carries the component's data from now on."""

    selected: SelectedPath


@dataclass(frozen=True, slots=True)
class Restarted:
    """A new generation began, by ``restart`` or because the peer restarted: send ``parameters`` to the peer."""

    parameters: IceParameters
    generation: int


@dataclass(frozen=True, slots=True)
class RestartFailed:
    """The new generation found no path; the old one still carries data."""

    generation: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class RoleChanged:
    """A role conflict was resolved against us (RFC 8445 s7.3.1.1)."""

    role: Role


Event: TypeAlias = (
    LocalCandidateFound
    | GatheringDone
    | StateChanged
    | PairChanged
    | PathSelected
    | Restarted
    | RestartFailed
    | RoleChanged
)
