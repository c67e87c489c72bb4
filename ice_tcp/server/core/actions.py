"""What the server's core asks of its shell: a closed union of frozen messages, executed in their order.

Listeners are named by their position in the list that the core was made with; streams (connections of clients),
relays (sockets that peers see) and connections (TCP with peers) by numbers that the core issues. Addresses are
``(host, port)`` with an IP literal for host.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

Address: TypeAlias = tuple[str, int]


class Leg(StrEnum):
    """How clients reach a listener."""

    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class RelayTransport(StrEnum):
    """How a relay talks with peers: RFC 8656 or RFC 6062."""

    UDP = "udp"
    TCP = "tcp"


@dataclass(frozen=True, slots=True)
class Listener:
    """Where the server is reached."""

    leg: Leg
    address: Address


@dataclass(frozen=True, slots=True)
class Client:
    """The client's side of a 5-tuple; ``stream`` is None for UDP, and else tells connections apart."""

    listener: int
    address: Address
    stream: int | None = None


@dataclass(frozen=True, slots=True)
class SendDatagram:
    """Send a STUN or ChannelData message from a UDP listener."""

    listener: int
    remote: Address
    data: bytes


@dataclass(frozen=True, slots=True)
class SendStream:
    """Send a STUN or ChannelData message, padded already, on a client's connection.

    What is only ``relayed`` data is dropped when the client does not read; too much of anything else closes the
    connection.
    """

    stream: int
    data: bytes
    relayed: bool = False


@dataclass(frozen=True, slots=True)
class CloseStream:
    """Close a client's connection after what was sent on it; ``stream_closed`` follows."""

    stream: int


@dataclass(frozen=True, slots=True)
class OpenRelay:
    """Bind a relay to this very address, and listen if it is TCP. Answered by ``relay_opened`` or ``relay_failed``."""

    relay: int
    transport: RelayTransport
    address: Address


@dataclass(frozen=True, slots=True)
class CloseRelay:
    """Close a relay. Of it no input follows."""

    relay: int


@dataclass(frozen=True, slots=True)
class SendPeer:
    """Send a datagram from a UDP relay, with the DF bit if ``dont_fragment``."""

    relay: int
    peer: Address
    data: bytes
    dont_fragment: bool = False


@dataclass(frozen=True, slots=True)
class OpenRoute:
    """A channel may be used, both ways, without asking the core, until `CloseRoute`.

    ChannelData of ``number`` from the client goes to ``peer``; a datagram from ``peer`` goes to the client as
    ChannelData (RFC 8656 s12.6, s12.7).
    """

    client: Client
    number: int
    relay: int
    peer: Address


@dataclass(frozen=True, slots=True)
class CloseRoute:
    """The channel was unbound, or the permission of its peer expired."""

    client: Client
    number: int
    relay: int
    peer: Address


@dataclass(frozen=True, slots=True)
class ConnectPeer:
    """Connect to ``peer`` from the port of a TCP relay. Answered by ``peer_connected`` or ``peer_failed``."""

    connection: int
    relay: int
    peer: Address


@dataclass(frozen=True, slots=True)
class ClosePeer:
    """Close a connection with a peer, open or not. Of it no input follows."""

    connection: int


@dataclass(frozen=True, slots=True)
class Splice:
    """Both are data connections from now on: carry every byte after the last message from one to the other.

    Both ways, with backpressure. The core hears ``stream_closed`` when either end closed, and the shell closes both.
    """

    stream: int
    connection: int


Action: TypeAlias = (
    SendDatagram
    | SendStream
    | CloseStream
    | OpenRelay
    | CloseRelay
    | SendPeer
    | OpenRoute
    | CloseRoute
    | ConnectPeer
    | ClosePeer
    | Splice
)
