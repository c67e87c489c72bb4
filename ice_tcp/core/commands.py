"""What the core asks of the network: a closed union of frozen messages.

A shell executes ``Agent.commands()`` in their order; "send, then close" therefore needs no guard. Sockets,
listeners and streams are named by numbers that the core issues, one number space for all three.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, TypeAlias

from candidates.candidate import TransportAddress

SocketId = NewType("SocketId", int)
ListenerId = NewType("ListenerId", int)
StreamId = NewType("StreamId", int)

PortRange: TypeAlias = tuple[int, int]
"""First and last port, both included."""


class Failure(StrEnum):
    """Why the network did not do what was asked; what a shell reports, whatever the platform calls it."""

    REFUSED = "refused"
    """ECONNREFUSED: a host's or a NAT's RST answered the SYN, or ICMP port unreachable."""
    RESET = "reset"
    """ECONNRESET, EPIPE: an RST on an open connection."""
    TIMED_OUT = "timed-out"
    """ETIMEDOUT, or the attempt's deadline passed."""
    UNREACHABLE = "unreachable"
    """ENETUNREACH, EHOSTUNREACH."""
    NOT_PERMITTED = "not-permitted"
    """EACCES, EPERM: a local firewall or missing privileges."""
    ADDRESS_TAKEN = "address-taken"
    """EADDRNOTAVAIL on connect: the 4-tuple exists already, probably accepted by the listener."""
    ADDRESS_UNAVAILABLE = "address-unavailable"
    """The local address cannot be bound."""
    PORTS_TAKEN = "ports-taken"
    """Every port of the range is in use."""
    NO_RESOURCES = "no-resources"
    """EMFILE, ENFILE, ENOBUFS, ENOMEM."""
    SELF_CONNECT = "self-connect"
    """A socket connected to itself; it was closed."""
    CLOSED = "closed"
    """The other end closed the connection (FIN)."""
    NOT_STUN = "not-stun"
    """The first frame on a connection was no STUN message (RFC 6544 s7.1)."""
    TOO_MUCH_EARLY_DATA = "too-much-early-data"
    """More data came before the connection was authenticated than the policy keeps."""
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class UdpPath:
    """Datagrams between one of our sockets and one remote address."""

    socket: SocketId
    remote: TransportAddress


@dataclass(frozen=True, slots=True)
class TcpPath:
    """One TCP connection."""

    stream: StreamId


Path: TypeAlias = UdpPath | TcpPath


@dataclass(frozen=True, slots=True)
class OpenUdp:
    """Bind a UDP socket to ``host``, on a port of ``ports`` (any port if None).

    Answered by ``socket_opened`` or ``socket_failed``.
    """

    socket: SocketId
    component: int
    host: str
    ports: PortRange | None = None


@dataclass(frozen=True, slots=True)
class Listen:
    """Bind and listen on a TCP port of ``host`` that later connections may share.

    Answered by ``socket_opened`` or ``socket_failed``; then ``stream_accepted`` for each connection.
    """

    listener: ListenerId
    component: int
    host: str
    ports: PortRange | None = None


@dataclass(frozen=True, slots=True)
class Connect:
    """Open a TCP connection from ``host`` to ``remote``.

    From an unallocated port, or from the port of ``listener`` (simultaneous open, RFC 6544 s4.1). The
    attempt fails with TIMED_OUT after ``timeout`` seconds. Answered by ``stream_connected`` or
    ``stream_failed``; never answered after ``Close``.
    """

    stream: StreamId
    component: int
    host: str
    remote: TransportAddress
    timeout: float
    listener: ListenerId | None = None


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send one STUN message as a datagram."""

    socket: SocketId
    remote: TransportAddress
    data: bytes


@dataclass(frozen=True, slots=True)
class SendStream:
    """Send one STUN message on a connection; the data path frames it, and puts it before waiting data."""

    stream: StreamId
    data: bytes


@dataclass(frozen=True, slots=True)
class Admit:
    """An authenticated message came on this path: its data, kept and future, goes to the application."""

    path: Path


@dataclass(frozen=True, slots=True)
class Use:
    """Send the component's application data on this path from now on; None: there is none."""

    component: int
    path: Path | None


@dataclass(frozen=True, slots=True)
class Close:
    """Close a socket, listener or stream, after what was asked before has been sent as far as possible.

    Of it no input follows.
    """

    handle: SocketId | ListenerId | StreamId


Command: TypeAlias = OpenUdp | Listen | Connect | SendDatagram | SendStream | Admit | Use | Close
