"""How gathering and servers are worded for people."""

from __future__ import annotations

from collections.abc import Collection

from candidates.candidate import Candidate, TransportAddress
from ice_tcp.core.events import MappingBehaviour, Purpose, ServerReport
from ice_tcp.core.outcomes import ServerFailure
from ice_tcp.gather.findings import Kept, ServerOutcome

NO_SERVERS = "The policy has no servers: nobody tells how the world sees this host, and there is no relay."
NOT_ASKED = "not asked for anything: candidate_types has neither srflx nor, for TURN servers, relay"
AS_IT_IS = "as it is: no NAT"

MAPPINGS: dict[MappingBehaviour, str] = {
    MappingBehaviour.UNKNOWN: "not known: two servers at different addresses must answer, or one that does RFC 5780",
    MappingBehaviour.NONE: "no NAT: the servers see the address itself",
    MappingBehaviour.ENDPOINT_INDEPENDENT: (
        "endpoint-independent: peers meet the same port that the servers see, so direct paths are likely"
    ),
    MappingBehaviour.ADDRESS_DEPENDENT: (
        'address-dependent ("symmetric"): each peer meets another port than the servers see; a relay will be needed '
        "wherever the peer's NAT is no better"
    ),
    MappingBehaviour.ADDRESS_AND_PORT_DEPENDENT: (
        'address- and port-dependent ("symmetric"): each peer meets another port than the servers see; a relay will be '
        "needed wherever the peer's NAT is no better"
    ),
    MappingBehaviour.DEPENDENT: (
        'endpoint-dependent ("symmetric"): each peer meets another port than the servers see; a relay will be needed '
        "wherever the peer's NAT is no better"
    ),
}
"""What each behaviour of a NAT means for a session."""

_PURPOSES = {
    Purpose.RESOLUTION: "its name",
    Purpose.REFLEXIVE: "how it sees",
    Purpose.MAPPING: "how its other address sees",
    Purpose.RELAY: "a relay of",
}


def kind(candidate: Candidate) -> str:
    """``udp``, ``tcp active``, ``tcp passive`` or ``tcp so``."""
    return f"{candidate.transport} {candidate.tcptype}" if candidate.tcptype else str(candidate.transport)


def described(candidate: Candidate) -> str:
    """``srflx udp 203.0.113.9:40000``."""
    return f"{candidate.type} {kind(candidate)} {candidate.address}"


def way(report: ServerReport) -> str:
    """How a server was asked, and from where; nothing where only its name was looked up."""
    return f"{report.leg} to {report.address} from {report.host}" if report.leg is not None else ""


def asked(report: ServerReport) -> str:
    """What a server was asked for."""
    family = f"an IPv{report.family} address of " if report.family is not None else ""
    parts = (_PURPOSES[report.purpose], report.transport, report.tcptype)
    return family + " ".join(str(part) for part in parts if part is not None)


def answer(report: ServerReport, own: Collection[TransportAddress] = ()) -> str:
    """What came of it; a server that sees one of ``own`` addresses sees no NAT."""
    if report.failure is not None:
        return failure(report.failure)
    if report.purpose is not Purpose.RELAY and own and all(address in own for address in report.found):
        return f"{', '.join(map(str, report.found))}, {AS_IT_IS}"
    return ", ".join(map(str, report.found))


def failure(failure: ServerFailure) -> str:
    """The code, and what the server or the network said unless that is the same."""
    return str(failure.cause) if failure.text == failure.cause else str(failure)


def rules(kept: Kept) -> str:
    """Which rules keep a candidate, and let the peer know it or not."""
    return f"{kept.rule}; told" if kept.is_told else f"{kept.rule}; not told by {kept.telling}"


def state(server: ServerOutcome) -> str:
    """What is to be thought of a server."""
    if not server.reports:
        return NOT_ASKED
    return "good" if server.is_good else "failed"
