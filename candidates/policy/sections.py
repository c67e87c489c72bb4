"""The sections of the policy file. Names are the file's keys; descriptions are the reference's text.

Spans of time are seconds, sizes are bytes.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from candidates.candidate import CandidateType, TcpType, Transport
from candidates.policy.values import (
    AddressFamily,
    Count,
    Distinct,
    Flag,
    Glob,
    Network,
    Ports,
    PositiveCount,
    Seconds,
    WholeNumber,
)

ALL_TRANSPORTS = (Transport.UDP, Transport.TCP)
ALL_CANDIDATE_TYPES = (CandidateType.HOST, CandidateType.SRFLX, CandidateType.PRFLX, CandidateType.RELAY)
ALL_TCP_TYPES = (TcpType.ACTIVE, TcpType.PASSIVE, TcpType.SO)
ALL_FAMILIES = (AddressFamily.IPV4, AddressFamily.IPV6)


VPN_NAMES = ("tun*", "tap*", "wg*", "utun*", "ppp*", "ipsec*", "tailscale*", "zt*")
"""Globs of interface names that look like a VPN's."""


class Section(BaseModel):
    """A mapping of the policy file: immutable, and without unknown keys."""

    # Values may be secrets: pydantic must not quote them (CONVENTIONS 17).
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=False)


class Interfaces(Section):
    """Which interfaces are gathered from. Patterns are case-sensitive globs: `*`, `?`, `[abc]`."""

    include: tuple[Glob, ...] = Field(default=("*",), max_length=256, description="Names that may be used.")
    exclude: tuple[Glob, ...] = Field(
        default=(), max_length=256, description="Names that may not be used; goes before `include`."
    )
    loopback: Flag = Field(default=False, description="Use loopback addresses (127.0.0.0/8, ::1).")
    link_local: Flag = Field(default=False, description="Use link-local addresses (169.254.0.0/16, fe80::/10).")
    vpn: Flag = Field(
        default=True, description="Use interfaces whose name looks like a VPN's: tun0, wg0, tailscale0 and so on."
    )
    default_route_only: Flag = Field(
        default=False,
        description="Use only the addresses that the system's default routes leave by (RFC 8828 s5.2, mode 2).",
    )


def vpn_glob(name: str) -> str | None:
    """The first of VPN_NAMES that matches an interface's name, or None."""
    return next((glob for glob in VPN_NAMES if fnmatchcase(name, glob)), None)


class Addresses(Section):
    """Which addresses of this machine are gathered from."""

    include: tuple[Network, ...] = Field(default=(), description="Blocks that may be used; empty means all.")
    exclude: tuple[Network, ...] = Field(default=(), description="Blocks that may not be used; goes before `include`.")


class PortRanges(Section):
    """Which local ports are bound; null means any port that the system gives."""

    udp: Ports | None = Field(
        default=None, description='First and last port, both included: "40000-40100" or [40000, 40100].'
    )
    tcp: Ports | None = Field(
        default=None,
        description="The same for TCP. Passive and simultaneous-open candidates take a port each (RFC 6544 s5.1).",
    )


class RemoteRule(Section):
    """Matches a remote candidate when every condition that is given holds."""

    cidr: Network | None = Field(default=None, description="The candidate's address lies in this block.")
    type: CandidateType | None = Field(default=None, description="The candidate is of this type.")
    transport: Transport | None = Field(default=None, description="The candidate is of this transport.")


class Remote(Section):
    """Which of the peer's candidates are used, peer-reflexive ones included."""

    allow: tuple[RemoteRule, ...] = Field(default=(), description="One of these rules must match; empty means all do.")
    deny: tuple[RemoteRule, ...] = Field(default=(), description="None of these rules may match; goes before `allow`.")


class Advertise(Section):
    """Which of the gathered candidates the peer is told of."""

    transports: Annotated[tuple[Transport, ...], Distinct] = Field(
        default=ALL_TRANSPORTS, description="Transports told."
    )
    candidate_types: Annotated[tuple[CandidateType, ...], Distinct] = Field(
        default=ALL_CANDIDATE_TYPES, description="Candidate types told."
    )
    tcp_types: Annotated[tuple[TcpType, ...], Distinct] = Field(default=ALL_TCP_TYPES, description="TCP types told.")
    address_families: Annotated[tuple[AddressFamily, ...], Distinct] = Field(
        default=ALL_FAMILIES, description="Address families told."
    )
    exclude: tuple[Network, ...] = Field(default=(), description="Blocks whose addresses are not told.")


class Mdns(Section):
    """Names under .local in place of addresses (draft-ietf-mmusic-mdns-ice-candidates), in the drop-ins."""

    resolve: Flag = Field(default=True, description="Look up the names that the peer gives.")
    publish: Flag = Field(
        default=False, description="Tell names for this machine's own addresses, and answer for them on its links."
    )


class Pacing(Section):
    """How densely transactions are started (RFC 8445 s14.2)."""

    ta: Seconds = Field(
        default=0.05,
        ge=0.005,
        description="Seconds between two new transactions of an agent, unless both sides signal pacing.",
    )
    proposed: Seconds = Field(
        default=0.005, ge=0.005, description="Seconds that we offer as `ice-pacing` (RFC 8839 s5.5)."
    )
    strict: Flag = Field(
        default=False,
        description="Pace checks on paths that carried an authenticated message, too; they make no new NAT binding.",
    )


class Timeouts(Section):
    """How long things are waited for."""

    rto: Seconds = Field(default=0.5, ge=0.5, description="Seconds to the first UDP retransmission (RFC 8445 s14.3).")
    rc: PositiveCount = Field(default=7, description="Number of times a UDP request is sent at most (RFC 8489 s6.2.1).")
    rm: PositiveCount = Field(
        default=16, description="Multiple of `rto` that is waited after the last sending (RFC 8489 s6.2.1)."
    )
    tcp_check: Seconds = Field(
        default=39.5, description="Ti: seconds that a check over TCP is waited for (RFC 8489 s6.2.2)."
    )
    connect: Seconds = Field(default=15.0, description="Seconds after which an attempt to connect fails.")
    accept_wait: Seconds = Field(
        default=1.0,
        description="Seconds that an accept is waited for when the system says that the connection exists already.",
    )
    idle: Seconds = Field(
        default=10.0, description="Seconds after which an accepted connection must have authenticated."
    )
    linger: Seconds = Field(default=3.0, description="Seconds that the losing paths are kept after the conclusion.")
    gather: Seconds = Field(default=5.0, description="Seconds after which gathering ends with what there is.")
    relay: Seconds = Field(
        default=15.0,
        description="Seconds after which gathering ends where a relay was asked for and none is there yet; counts if "
        "it is more than `gather`.",
    )
    patience: Seconds = Field(
        default=39.5,
        description="Seconds before the session may fail, for peer-reflexive candidates to come (RFC 8863 s4).",
    )
    reopen: Seconds = Field(
        default=30.0, description="Seconds in which a lost selected TCP connection is won back (RFC 6544 s11.1)."
    )
    keepalive: Seconds = Field(
        default=15.0,
        ge=15.0,
        description="Seconds (Tr) between keepalives where consent is not asked for (RFC 8445 s11).",
    )


class Nomination(Section):
    """When the controlling side nominates (RFC 8445 s8.1.1)."""

    grace: Seconds = Field(
        default=0.5, description="Seconds that a better pair, still alive, is waited for after the first valid one."
    )
    relay_grace: Seconds = Field(
        default=5.0,
        description="Seconds that a direct pair is waited for while a relayed one is the best, which carries the data "
        "un-nominated.",
    )


class Relay(Section):
    """What is asked of TURN servers for relayed candidates (RFC 8656)."""

    lifetime: PositiveCount | None = Field(
        default=None,
        le=2**32 - 1,
        description="Seconds that an allocation shall live between two refreshes; null: the server's.",
    )
    even_port: Flag = Field(
        default=False,
        description="Ask for an even port for component 1 and the next one for component 2, for peers with RTP and "
        "RTCP that insist (RFC 8656 s7.2); IPv4 only.",
    )
    dont_fragment: Flag = Field(
        default=False, description="Have the server set the DF bit towards the peer (DONT-FRAGMENT)."
    )


class Consent(Section):
    """Consent to send on a selected path (RFC 7675)."""

    enabled: Flag = Field(default=True, description="Ask for consent, and stop sending without it.")
    interval: Seconds = Field(
        default=5.0, description="Seconds between two requests, varied by a fifth (RFC 7675 s5.1)."
    )
    timeout: Seconds = Field(default=30.0, description="Seconds without a response after which consent is lost.")


class SimultaneousOpen(Section):
    """How simultaneous open is tried (RFC 6544 s7.1)."""

    redials: Count = Field(default=60, description="Number of redials of an attempt at most.")
    rate: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(
        default=12.0, description="SYNs a second of an attempt, after the burst."
    )
    burst: PositiveCount = Field(
        default=4, description="Number of SYNs of an attempt that are sent without a limit of rate."
    )
    fast_refusal: Seconds = Field(
        default=0.02, description="Seconds within which a refusal comes from a host or a NAT nearby."
    )
    fresh_port_after: PositiveCount = Field(
        default=6, description="Number of fast refusals in a row after which a fresh local port is taken."
    )
    fresh_ports: Count = Field(default=1, description="Number of fresh local ports a base takes at most.")
    predict_ports: Count = Field(
        default=0,
        le=60,
        description="Number of predicted ports told of a base behind a NAT that counts them; 0 predicts none.",
    )


class Limits(Section):
    """Bounds on what a peer can make us keep."""

    pairs: PositiveCount = Field(default=100, description="Candidate pairs of a check list (RFC 8445 s6.1.2.5).")
    remote_candidates: PositiveCount = Field(default=100, description="Remote candidates of a generation.")
    peer_reflexive: PositiveCount = Field(default=100, description="Peer-reflexive remote candidates of a generation.")
    connects_per_ip: PositiveCount = Field(
        default=5, le=5, description="Outstanding attempts to connect to one remote IP address (RFC 6544 s12)."
    )
    accepted_streams: PositiveCount = Field(
        default=64, description="Accepted connections that are not yet authenticated."
    )
    early_bytes: Count = Field(default=65536, description="Bytes kept on a path before it is authenticated.")
    receive_bytes: WholeNumber = Field(
        default=4 * 2**20, ge=65536, description="Bytes kept for an application that reads slowly."
    )
    send_bytes: WholeNumber = Field(default=2**20, ge=65536, description="Bytes kept for a network that sends slowly.")
