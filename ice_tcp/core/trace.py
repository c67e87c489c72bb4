"""What the core did and why, as typed records.

A sink is any callable that takes ``(now, entry)``. The core only traces; logging is for people and belongs to
the shell. Records never hold passwords; addresses are there as they are, and a sink may redact them. The facade gives
its sink the events, too, so that a trace is the whole story; of those, `Restarted` holds a password.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from candidates.candidate import Candidate, TransportAddress
from ice_tcp.core.commands import Failure, Path, StreamId
from ice_tcp.core.events import Event, PortAllocation, Role
from ice_tcp.core.exchanges import ServerRecord
from ice_tcp.core.verdicts import Verdict


class DropReason(StrEnum):
    """Why a message of the network was ignored."""

    MALFORMED = "malformed"
    NO_FINGERPRINT = "no-fingerprint"
    NOT_BINDING = "not-binding"
    INDICATION = "indication"
    UNKNOWN_TRANSACTION = "unknown-transaction"
    BAD_INTEGRITY = "bad-integrity"
    ASYMMETRIC = "asymmetric"
    POLICY = "policy"
    LIMIT = "limit"


@dataclass(frozen=True, slots=True)
class SessionBegan:
    """Gathering begins, or the role was chosen after that; ``settings`` are the policy's keys that are no defaults.

    Each has its value as JSON; those of servers' credentials are asterisks.
    """

    role: Role
    components: int
    settings: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class MessageDropped:
    """A message was ignored; ``detail`` is for people."""

    path: Path
    reason: DropReason
    detail: str = ""


@dataclass(frozen=True, slots=True)
class CandidateIgnored:
    """A candidate, ours or the peer's (``remote``), is not used; ``rule`` is the policy's key or the RFC's rule."""

    candidate: Candidate
    rule: str
    remote: bool = False


@dataclass(frozen=True, slots=True)
class LocalCandidateKept:
    """A local candidate is used; ``advertised`` tells whether the peer hears of it, ``rule`` why."""

    candidate: Candidate
    advertised: bool
    rule: str


@dataclass(frozen=True, slots=True)
class RemoteCandidateKept:
    """A candidate that the peer told of is used."""

    candidate: Candidate


@dataclass(frozen=True, slots=True)
class AddressIgnored:
    """An address of this host gives no candidates; ``rule`` is the policy's key or a Failure."""

    host: str
    rule: str


@dataclass(frozen=True, slots=True)
class PortsPredicted:
    """How the NAT before a base chooses ports, and where the base will probably be seen."""

    base: TransportAddress
    allocation: PortAllocation
    addresses: tuple[TransportAddress, ...]


@dataclass(frozen=True, slots=True)
class CheckSent:
    """A connectivity check left (RFC 8445 s7.2.4)."""

    pair: int
    path: Path
    transaction_id: bytes
    nominating: bool
    triggered: bool
    paced: bool


@dataclass(frozen=True, slots=True)
class CheckAnswered:
    """A response came: ``code`` is None for success; ``rtt`` in seconds."""

    pair: int
    transaction_id: bytes
    code: int | None
    rtt: float


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """An authenticated Binding request was answered with success, or with error ``code``."""

    path: Path
    code: int | None
    use_candidate: bool = False
    transaction_id: bytes = b""


@dataclass(frozen=True, slots=True)
class PeerReflexiveFound:
    """A candidate that nobody signaled: ``remote`` by a request's source, else local by a mapped address."""

    candidate: Candidate
    remote: bool


@dataclass(frozen=True, slots=True)
class RoleConflict:
    """A conflict was met; ``switched`` tells whether we gave in (RFC 8445 s7.3.1.1)."""

    switched: bool


@dataclass(frozen=True, slots=True)
class DialStarted:
    """A connection attempt began, the ``attempt``-th of its pair; ``paced`` is False for redials."""

    pair: int
    stream: StreamId
    remote: TransportAddress
    attempt: int
    paced: bool


@dataclass(frozen=True, slots=True)
class DialFailed:
    """A connection attempt failed; it is redialled after ``redial_after`` seconds, or given up (None)."""

    pair: int
    failure: Failure
    redial_after: float | None


@dataclass(frozen=True, slots=True)
class AcceptWon:
    """A simultaneous-open pair uses the connection that the listener accepted."""

    pair: int
    stream: StreamId


@dataclass(frozen=True, slots=True)
class FreshPort:
    """A simultaneous-open base got a sibling on a new port, after several fast refusals."""

    host: str


@dataclass(frozen=True, slots=True)
class Nominated:
    """A pair was nominated (RFC 8445 s8.1.1)."""

    pair: int
    component: int


@dataclass(frozen=True, slots=True)
class ConsentChecked:
    """A consent check left on the used path (RFC 7675 s5.1)."""

    component: int
    path: Path


@dataclass(frozen=True, slots=True)
class ConsentRenewed:
    """Consent holds until ``until``; ``by_request`` if the peer's own request showed it (see docs/deviations.md)."""

    component: int
    until: float
    by_request: bool


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """A connection is open, dialled or accepted."""

    stream: StreamId
    remote: TransportAddress
    accepted: bool


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """A connection ended or was closed by us, for this reason."""

    stream: StreamId
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Reopening:
    """The selected connection was lost; we dial again, or wait for the peer (RFC 6544 s11.1)."""

    component: int
    dialling: bool


Record: TypeAlias = (
    SessionBegan
    | MessageDropped
    | PortsPredicted
    | CandidateIgnored
    | LocalCandidateKept
    | RemoteCandidateKept
    | AddressIgnored
    | CheckSent
    | CheckAnswered
    | RequestReceived
    | PeerReflexiveFound
    | RoleConflict
    | DialStarted
    | DialFailed
    | AcceptWon
    | FreshPort
    | Nominated
    | ConsentChecked
    | ConsentRenewed
    | StreamOpened
    | StreamEnded
    | Reopening
    | ServerRecord
)

Entry: TypeAlias = Record | Event

RecordSink: TypeAlias = Callable[[float, Record], None]
TraceSink: TypeAlias = Callable[[float, Entry], None]
