"""What the core tells the application: a closed union of frozen messages."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from candidates.candidate import Candidate, CandidateType, TcpType, Transport, TransportAddress
from candidates.parameters import IceParameters
from ice_tcp.core.commands import LegTransport, Path
from ice_tcp.core.outcomes import ServerFailure
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

    @property
    def is_relayed(self) -> bool:
        """Whether a TURN server stands between, ours or the peer's."""
        return CandidateType.RELAY in (self.local.type, self.remote.type)


class MappingBehaviour(StrEnum):
    """How a NAT maps one local port for several destinations (RFC 4787 s4.1, RFC 5382 s4, RFC 5780 s4.3)."""

    UNKNOWN = "unknown"
    """Fewer than two servers answered."""
    NONE = "none"
    """No NAT: the servers see the local address itself."""
    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"
    DEPENDENT = "endpoint-dependent"
    """Dependent, on the address alone or on the port as well."""

    @property
    def is_dependent(self) -> bool:
        """Whether a peer meets another mapping than a server told: a "symmetric" NAT."""
        return self in (self.ADDRESS_DEPENDENT, self.ADDRESS_AND_PORT_DEPENDENT, self.DEPENDENT)


class PortAllocation(StrEnum):
    """Which outer ports a NAT gives to connections (RFC 4787 s4.2.1)."""

    PRESERVED = "preserved"
    """Those of the host."""
    SEQUENTIAL = "sequential"
    """One after the other, a constant step apart."""
    RANDOM = "random"
    """No rule that was recognised."""


class Purpose(StrEnum):
    """What was wanted of a server."""

    RESOLUTION = "resolution"
    REFLEXIVE = "reflexive"
    MAPPING = "mapping"
    """To see whether another server sees the same port differently."""
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class ServerReport:
    """What became of one thing that was asked of one server.

    ``server`` is its URI, ``leg`` and ``address`` how it was asked, from ``host``, for candidates of ``transport``.
    ``found`` are the mapped or relayed addresses; ``failure`` is None for success. ``family``, 4 or 6, is there where
    an allocation has no address of a family that was wanted, too.
    """

    server: str
    purpose: Purpose
    leg: LegTransport | None = None
    address: TransportAddress | None = None
    host: str | None = None
    component: int | None = None
    transport: Transport | None = None
    tcptype: TcpType | None = None
    family: int | None = None
    found: tuple[TransportAddress, ...] = ()
    failure: ServerFailure | None = None

    @property
    def subject(self) -> object:
        """Reports on the same subject replace each other."""
        return (
            *(self.server, self.purpose, self.leg, self.address, self.host),
            *(self.component, self.transport, self.tcptype, self.family),
        )


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


@dataclass(frozen=True, slots=True)
class ServerReported:
    """A server did what was asked of it, or did not."""

    report: ServerReport


@dataclass(frozen=True, slots=True)
class MappingFound:
    """How a NAT before ``host`` maps ports of this transport; told again when more is known."""

    transport: Transport
    host: str
    behaviour: MappingBehaviour


@dataclass(frozen=True, slots=True)
class RelayLost:
    """An allocation is gone. If its path was in use, the agent restarts by itself: a Restarted event follows."""

    server: str
    relayed: tuple[TransportAddress, ...]
    failure: ServerFailure


Event: TypeAlias = (
    LocalCandidateFound
    | GatheringDone
    | StateChanged
    | PairChanged
    | PathSelected
    | Restarted
    | RestartFailed
    | RoleChanged
    | ServerReported
    | MappingFound
    | RelayLost
)
