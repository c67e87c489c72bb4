"""How the demonstration words what it shows."""

from __future__ import annotations

from candidates.candidate import DISCARD_PORT, Candidate, TcpType, Transport
from ice_tcp.core.events import ServerReport
from ice_tcp.demo.plan import Payload
from ice_tcp.demo.record import PairRecord, ServerSeen
from ice_tcp.gather.words import answer
from ice_tcp.transfer import Receipt

SHORT_SECONDS = 0.1
"""A transfer that was over sooner measures the set-up, not the path."""


def ends(local: Candidate, remote: Candidate) -> str:
    """Both addresses of a pair."""
    return f"{address(local)} -> {address(remote)}"


def address(candidate: Candidate) -> str:
    """The address of an end of a pair; an active one connects from any port (RFC 6544 s4.5)."""
    if candidate.tcptype is TcpType.ACTIVE and candidate.address.port == DISCARD_PORT:
        return f"{candidate.address}".removesuffix(str(DISCARD_PORT)) + "*"
    return str(candidate.address)


def carrier(local: Candidate) -> str:
    """What carries the file on a path."""
    return "QUIC over UDP" if local.transport is Transport.UDP else "TCP byte stream"


def state(pair: PairRecord) -> str:
    """The pair's state, with the verdict where there is one."""
    return f"{pair.state} ({pair.verdict})" if pair.verdict else pair.state


def payload_name(payload: Payload) -> str:
    return payload.path.name if payload.path else "generated data"


def size(count: int) -> str:
    """Bytes for people; the exact number is in the JSON document."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:.1f} ms"


def throughput(receipt: Receipt) -> str:
    """The file's size, time and, if it took long enough to tell, rate."""
    took = milliseconds(receipt.seconds) if receipt.seconds < 1 else f"{receipt.seconds:.2f} s"
    rate = "" if receipt.seconds < SHORT_SECONDS else f", {receipt.bytes_per_second / 1e6:.1f} MB/s"
    return f"{size(receipt.offer.size)} in {took}{rate}"


def relay(report: ServerReport) -> str:
    """How our end of a relayed path gets to the server."""
    verified = ", certificate verified" if report.leg is not None and report.leg.secure else ""
    return f"of {report.transport}, at {report.address}, reached by {report.leg}{verified}"


def what_server_said(seen: ServerSeen) -> str:
    """Its answer; where it sees the address itself, there is no server-reflexive candidate (RFC 8445 s5.1.3)."""
    return answer(seen.report, seen.own)
