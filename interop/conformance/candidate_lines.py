"""Candidates as targets tell them: SDP's ``candidate`` lines, read by their grammar (RFC 8839 s5.1, RFC 6544 s4.5)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class CandidateKind(StrEnum):
    """What candidates an agent can gather: the transport, and for TCP who connects (RFC 6544 s4.1)."""

    UDP = "udp"
    ACTIVE = "tcp-active"
    PASSIVE = "tcp-passive"
    SO = "tcp-so"


_TOKEN = r"[A-Za-z0-9.!%*_+`'~-]+"
_GRAMMAR: Final = re.compile(
    r"candidate:(?P<foundation>[A-Za-z0-9+/]{1,32}) (?P<component>[0-9]{1,3})"
    rf" (?P<transport>{_TOKEN}) (?P<priority>[0-9]{{1,10}}) (?P<host>[^ ]+) (?P<port>[0-9]+) typ (?P<type>{_TOKEN})"
    rf"(?: raddr (?P<raddr>[^ ]+))?(?: rport (?P<rport>[0-9]+))?(?P<extensions>(?: {_TOKEN} [!-~]*)*)\Z"
)


@dataclass(frozen=True, slots=True)
class CandidateLine:
    """A candidate of the target, field by field as it stood in ``text``."""

    text: str
    foundation: str
    component: int
    transport: str
    priority: int
    host: str
    port: int
    type: str
    raddr: str | None
    rport: int | None
    extensions: tuple[tuple[str, str], ...]

    @property
    def tcptype(self) -> str | None:
        return dict(self.extensions).get("tcptype")

    @property
    def kind(self) -> str:
        """A `CandidateKind`, or something that none is."""
        return "udp" if self.transport.lower() == "udp" else f"tcp-{self.tcptype}"

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def type_preference(self) -> int:
        """As the recommended formula has it (RFC 8445 s5.1.2.1)."""
        return self.priority >> 24

    @property
    def local_preference(self) -> int:
        return self.priority >> 8 & 0xFFFF


def read_candidate(text: str) -> CandidateLine:
    """Raises ValueError for a line that the grammar does not allow."""
    match = _GRAMMAR.match(text)
    if match is None:
        raise ValueError(f"{text!r} does not follow the grammar of RFC 8839 s5.1")
    tokens = match["extensions"].split(" ")[1:]
    return CandidateLine(
        text=text,
        foundation=match["foundation"],
        component=int(match["component"]),
        transport=match["transport"],
        priority=int(match["priority"]),
        host=match["host"],
        port=int(match["port"]),
        type=match["type"],
        raddr=match["raddr"],
        rport=None if match["rport"] is None else int(match["rport"]),
        extensions=tuple(zip(tokens[::2], tokens[1::2], strict=True)),
    )


def write_candidate(
    address: tuple[str, int],
    *,
    priority: int,
    foundation: str = "1",
    component: int = 1,
    type: str = "host",  # noqa: A002 - the RFC's word
    tcptype: str | None = None,
    extensions: str = "",
) -> str:
    """A candidate of the peer; ``extensions`` stand at the end as they are."""
    transport = "UDP" if tcptype is None else "TCP"
    host, port = address
    related = "" if type == "host" else f" raddr {host} rport {port}"
    tail = f" tcptype {tcptype}" if tcptype is not None else ""
    return (
        f"candidate:{foundation} {component} {transport} {priority} {host} {port} typ {type}{related}{tail}"
        f"{' ' if extensions else ''}{extensions}"
    )
