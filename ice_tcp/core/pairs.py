"""A candidate pair as the check list keeps it (RFC 8445 s6.1.2)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from candidates.candidate import Candidate, CandidateType, TcpType, Transport
from candidates.priority import pair_priority
from ice_tcp.core.commands import Path
from ice_tcp.core.events import PairState
from ice_tcp.core.paths import Base, Dial, Stream
from ice_tcp.core.transaction import Transaction
from ice_tcp.core.verdicts import Verdict


@dataclass(frozen=True, slots=True)
class LocalCandidate:
    """A local candidate and its base; ``check_priority`` goes into the PRIORITY attribute of its checks."""

    candidate: Candidate
    base: Base
    check_priority: int


@dataclass(frozen=True, slots=True)
class PairStatistics:
    """Counters of one pair, in the terms of W3C's RTCIceCandidatePairStats; times in seconds."""

    pair: int
    component: int
    generation: int
    local: Candidate
    remote: Candidate
    state: PairState
    nominated: bool
    priority: int
    verdict: Verdict | None
    path: Path | None
    requests_sent: int
    requests_received: int
    responses_sent: int
    responses_received: int
    consent_requests_sent: int
    current_round_trip_time: float | None
    total_round_trip_time: float


class Pair:
    """Two candidates, their state, and what is under way for them.

    Only the check list moves ``state``. ``remote`` may be replaced by an equal address that signaling tells more
    of; ``seen`` is the local candidate as the peer sees it, if that differs.
    """

    __slots__ = (
        "answered_in",
        "begun_at",
        "consent_requests_sent",
        "dial",
        "foundation",
        "id",
        "key",
        "knocks",
        "local",
        "nominated",
        "nominating",
        "priority",
        "remote",
        "requested",
        "requests_received",
        "requests_sent",
        "responses_received",
        "responses_sent",
        "round_trip_time",
        "seen",
        "state",
        "stream",
        "total_round_trip_time",
        "transaction",
        "verdict",
    )

    def __init__(self, id_: int, local: LocalCandidate, remote: Candidate, *, controlling: bool) -> None:
        self.id = id_
        self.local = local
        self.remote = remote
        self.key: Hashable = key_of(local.base, remote)
        self.priority = 0
        self.foundation = (local.candidate.foundation, remote.foundation)
        self.state = PairState.FROZEN
        self.verdict: Verdict | None = None
        self.transaction: Transaction | None = None
        self.dial: Dial | None = None
        self.stream: Stream | None = None
        self.seen: Candidate | None = None
        self.begun_at: float | None = None
        """When it was first checked, or dialled."""
        self.knocks = 0
        """How often the peer's relay has turned us away."""
        self.nominating = False
        """Our next or current check carries USE-CANDIDATE."""
        self.requested = False
        """The peer's check carried USE-CANDIDATE; the pair is nominated as soon as it succeeds."""
        self.nominated = False
        self.requests_sent = self.requests_received = self.responses_sent = self.responses_received = 0
        self.consent_requests_sent = 0
        self.round_trip_time: float | None = None
        self.answered_in = 0.0
        """Seconds from the first sending of the last check that was answered: no less than a round trip."""
        self.total_round_trip_time = 0.0
        self.rank(controlling=controlling)

    @property
    def component(self) -> int:
        return self.local.candidate.component

    @property
    def base(self) -> Base:
        return self.local.base

    @property
    def is_tcp(self) -> bool:
        return self.local.candidate.transport is Transport.TCP

    @property
    def is_relayed(self) -> bool:
        """Whether a TURN server stands between."""
        return CandidateType.RELAY in (self.local.candidate.type, self.remote.type)

    @property
    def is_relayed_twice(self) -> bool:
        """Whether both sides' TURN servers stand between."""
        return self.local.candidate.type is self.remote.type is CandidateType.RELAY

    @property
    def dials(self) -> bool:
        """Whether its connection is ours to open (RFC 6544 s7.1)."""
        return self.is_tcp and self.local.candidate.tcptype is not TcpType.PASSIVE

    @property
    def path(self) -> Path | None:
        """Where its messages go; None while a TCP pair has no connection."""
        if self.is_tcp:
            return self.stream.path if self.stream is not None else None
        return self.base.path_to(self.remote.address)

    @property
    def alive(self) -> bool:
        """It may yet become valid."""
        return self.state in (PairState.FROZEN, PairState.WAITING, PairState.IN_PROGRESS)

    def rank(self, *, controlling: bool) -> None:
        """Compute the priority, which depends on the role (RFC 8445 s6.1.2.3)."""
        ours, theirs = self.local.candidate.priority, self.remote.priority
        self.priority = pair_priority(ours, theirs) if controlling else pair_priority(theirs, ours)

    def count_response(self, rtt: float | None) -> None:
        """``rtt`` is None where retransmissions make it ambiguous."""
        self.responses_received += 1
        if rtt is not None:
            self.round_trip_time = rtt
            self.total_round_trip_time += rtt

    def statistics(self, generation: int) -> PairStatistics:
        return PairStatistics(
            pair=self.id,
            component=self.component,
            generation=generation,
            local=self.seen or self.local.candidate,
            remote=self.remote,
            state=self.state,
            nominated=self.nominated,
            priority=self.priority,
            verdict=self.verdict,
            path=self.path,
            requests_sent=self.requests_sent,
            requests_received=self.requests_received,
            responses_sent=self.responses_sent,
            responses_received=self.responses_received,
            consent_requests_sent=self.consent_requests_sent,
            current_round_trip_time=self.round_trip_time,
            total_round_trip_time=self.total_round_trip_time,
        )


def key_of(base: Base, remote: Candidate) -> Hashable:
    """What redundant pairs have in common: the base and the remote candidate (RFC 8445 s6.1.2.4)."""
    return (base, remote.address, remote.tcptype)
