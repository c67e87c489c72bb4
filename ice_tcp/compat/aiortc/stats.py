"""Statistics of pairs and candidates, in the terms of W3C's webrtc-stats, beside those that aiortc has."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, fields

from aiortc import RTCDtlsTransport, RTCTransportStats
from aiortc.stats import RTCStats

from candidates.candidate import Candidate, CandidateType
from ice_tcp.agent import CandidatePairStats
from ice_tcp.compat.aiortc.seam import connection_of, transport_stats
from ice_tcp.core.events import PairState


@dataclass
class RTCIceTransportStats(RTCTransportStats):
    """aiortc's transport statistics, and which pair carries the data."""

    selectedCandidatePairId: str | None = None
    "The key of the pair in the report; None while there is none."
    protocol: str | None = None
    'What the selected pair runs over: "udp" or "tcp".'
    relayed: bool | None = None
    "Whether a TURN server stands between, ours or the peer's."


@dataclass
class RTCIceCandidateStats(RTCStats):
    """A candidate; ``type`` is "local-candidate" or "remote-candidate"."""

    transportId: str
    address: str
    port: int
    protocol: str
    candidateType: str
    priority: int
    foundation: str
    tcpType: str | None = None
    relatedAddress: str | None = None
    relatedPort: int | None = None


@dataclass
class RTCIceCandidatePairStats(RTCStats):
    """A candidate pair; times are seconds, sizes bytes of application data."""

    transportId: str
    localCandidateId: str
    remoteCandidateId: str
    state: str
    nominated: bool
    priority: int
    packetsSent: int
    packetsReceived: int
    bytesSent: int
    bytesReceived: int
    requestsSent: int
    requestsReceived: int
    responsesSent: int
    responsesReceived: int
    consentRequestsSent: int
    totalRoundTripTime: float
    currentRoundTripTime: float | None = None
    relayed: bool = False
    "Whether a TURN server stands between, ours or the peer's."


def ice_stats(transport: RTCDtlsTransport) -> Iterator[RTCStats]:
    """The transport, and each of its pairs with its two candidates."""
    theirs = transport_stats(transport)
    connection = connection_of(transport.transport)
    stats = RTCIceTransportStats(**{field.name: getattr(theirs, field.name) for field in fields(theirs)})
    yield stats
    if connection is None:
        return
    selected = connection.selected_path()
    if selected is not None:
        stats.protocol, stats.relayed = selected.local.transport.value, selected.is_relayed
    for pair in connection.pair_stats():
        reported = list(_pair_stats(pair, stats.timestamp, stats.id))
        if selected is not None and (pair.local, pair.remote) == (selected.local, selected.remote):
            stats.selectedCandidatePairId = reported[0].id
        yield from reported


def _pair_stats(pair: CandidatePairStats, timestamp: datetime.datetime, transport: str) -> Iterator[RTCStats]:
    local = _candidate_stats(pair.local, "local-candidate", timestamp, transport)
    remote = _candidate_stats(pair.remote, "remote-candidate", timestamp, transport)
    yield RTCIceCandidatePairStats(
        timestamp=timestamp,
        type="candidate-pair",
        id=f"{transport}-pair_{pair.pair}",
        transportId=transport,
        localCandidateId=local.id,
        remoteCandidateId=remote.id,
        state=_STATES[pair.state],
        nominated=pair.nominated,
        priority=pair.priority,
        packetsSent=pair.packets_sent,
        packetsReceived=pair.packets_received,
        bytesSent=pair.bytes_sent,
        bytesReceived=pair.bytes_received,
        requestsSent=pair.requests_sent,
        requestsReceived=pair.requests_received,
        responsesSent=pair.responses_sent,
        responsesReceived=pair.responses_received,
        consentRequestsSent=pair.consent_requests_sent,
        totalRoundTripTime=pair.total_round_trip_time,
        currentRoundTripTime=pair.current_round_trip_time,
        relayed=CandidateType.RELAY in (pair.local.type, pair.remote.type),
    )
    yield local
    yield remote


def _candidate_stats(
    candidate: Candidate, kind: str, timestamp: datetime.datetime, transport: str
) -> RTCIceCandidateStats:
    related = candidate.related_address
    tcptype = candidate.tcptype.value if candidate.tcptype is not None else None
    place = f"{candidate.transport}_{tcptype or ''}_{candidate.address}"
    return RTCIceCandidateStats(
        timestamp=timestamp,
        type=kind,
        id=f"{transport}-{kind}_{candidate.component}_{candidate.type}_{place}",
        transportId=transport,
        address=candidate.address.host,
        port=candidate.address.port,
        protocol=candidate.transport.value,
        candidateType=candidate.type.value,
        priority=candidate.priority,
        foundation=candidate.foundation,
        tcpType=tcptype,
        relatedAddress=related.host if related is not None else None,
        relatedPort=related.port if related is not None else None,
    )


_STATES = {
    PairState.FROZEN: "frozen",
    PairState.WAITING: "waiting",
    PairState.IN_PROGRESS: "in-progress",
    PairState.SUCCEEDED: "succeeded",
    PairState.FAILED: "failed",
}
"""RTCStatsIceCandidatePairState."""
