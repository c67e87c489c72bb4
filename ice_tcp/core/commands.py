"""What the core asks of the network: a closed union of frozen messages.

A shell executes ``Agent.commands()`` in their order; "send, then close" therefore needs no guard. Sockets,
listeners, streams, legs to servers and queries are named by numbers that the core issues, one number space for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NewType, TypeAlias

from candidates.candidate import TransportAddress
from candidates.policy.servers import ServerUri

SocketId = NewType("SocketId", int)
ListenerId = NewType("ListenerId", int)
StreamId = NewType("StreamId", int)
LegId = NewType("LegId", int)
QueryId = NewType("QueryId", int)

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
    TLS_CERTIFICATE = "tls-certificate"
    """The server's certificate, or the name in it, was not accepted."""
    TLS = "tls"
    """No TLS could be agreed on: the port speaks something else, or another version."""
    NO_ADDRESS = "no-address"
    """A name does not resolve, or to no address that fits."""
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


@dataclass(frozen=True, slots=True)
class RelayPath:
    """Datagrams between a relayed address of ours and one remote address; ``leg`` leads to the TURN server."""

    leg: LegId
    remote: TransportAddress


Path: TypeAlias = UdpPath | TcpPath | RelayPath


class LegTransport(StrEnum):
    """What carries the messages between us and a STUN or TURN server."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"
    DTLS = "dtls"

    @property
    def reliable(self) -> bool:
        """Whether it is a stream, in which messages stand one after another, unframed (RFC 8489 s6.2.2)."""
        return self in (LegTransport.TCP, LegTransport.TLS)

    @property
    def secure(self) -> bool:
        return self in (LegTransport.TLS, LegTransport.DTLS)


@dataclass(frozen=True, slots=True)
class ServerEndpoint:
    """Where a server can be reached, and how; the host of ``address`` is an IP address."""

    transport: LegTransport
    address: TransportAddress


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """How the certificate of a server is judged: ``server_name`` is what it must be for, unless not ``verify``.

    ``ca_file`` is the path of a PEM file with the authorities to trust; None: those of the system.
    """

    server_name: str
    verify: bool = True
    ca_file: str | None = None


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
class Resolve:
    """Find the endpoints of a server whose URI has a name, the best first (RFC 5928, RFC 8489 s8).

    Answered by ``resolved`` or ``resolve_failed``; never after ``Close``.
    """

    query: QueryId
    uri: ServerUri


@dataclass(frozen=True, slots=True)
class OpenLeg:
    """Open a way of its own to a server from ``host``: a connected socket, with TLS or DTLS where that is asked for.

    From a port of ``ports`` (any if None), or from the port of ``listener``. Answered by ``leg_opened``, over UDP at
    once, or ``leg_lost``, after ``timeout`` seconds at most. Then ``leg_received`` for each whole STUN message, and
    each ChannelData of a channel that the shell was not told of; ``relayed`` for STUN from a peer's channel.
    """

    leg: LegId
    component: int
    host: str
    remote: TransportAddress
    transport: LegTransport
    timeout: float
    tls: TlsOptions | None = None
    listener: ListenerId | None = None
    ports: PortRange | None = None


@dataclass(frozen=True, slots=True)
class SendLeg:
    """Send one whole message to a server, ready padded; before waiting data, as STUN on other paths is."""

    leg: LegId
    data: bytes


@dataclass(frozen=True, slots=True)
class BindChannel:
    """Data to ``peer`` goes as ChannelData of ``number`` from now on, and what comes on it is ``peer``'s.

    Until then data goes in Send indications (RFC 8656 s11). None: the channel is no more.
    """

    leg: LegId
    peer: TransportAddress
    number: int | None


@dataclass(frozen=True, slots=True)
class Deliver:
    """Data of a peer that came inside a message of the server: treat it as if it came on ``path`` itself."""

    path: RelayPath
    data: bytes


@dataclass(frozen=True, slots=True)
class TurnIntoStream:
    """The leg is the connection ``stream`` to a peer from the next byte on, framed (RFC 6062 s4.3, RFC 4571).

    The leg's number is dead. Bytes that came behind the last message are the stream's.
    """

    leg: LegId
    stream: StreamId


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
    """Close a socket, listener, stream or leg, after what was asked before has been sent as far as possible.

    A query is given up. Of it no input follows.
    """

    handle: SocketId | ListenerId | StreamId | LegId | QueryId


Command: TypeAlias = (
    OpenUdp
    | Listen
    | Connect
    | SendDatagram
    | SendStream
    | Resolve
    | OpenLeg
    | SendLeg
    | BindChannel
    | Deliver
    | TurnIntoStream
    | Admit
    | Use
    | Close
)
