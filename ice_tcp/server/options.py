"""What a deployer decides about a server."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from ice_tcp.server.core.actions import Address
from ice_tcp.server.peers import PeerPolicy
from ice_tcp.stun import PasswordAlgorithm, opaque_string

STUN_PORT = 3478
"""RFC 8489 s18.6, RFC 8656 s5."""
TLS_PORT = 5349
FIXED = ("hosts", "port", "alternate_port", "tls_port", "alternate_tls_port", "realm", "relay_hosts", "external_hosts",
         "password_algorithms", "username_anonymity", "legacy_channels")  # fmt: skip
"""What cannot change while a server runs: where it is, and what clients have been told about it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of what a server keeps, so that nobody makes it grow without end."""

    allocations: int = 1024
    """Of all users; more are refused with 508 (Insufficient Capacity)."""
    allocations_per_user: int = 16
    """Relayed addresses and reserved ports of one user; more are refused with 486."""
    permissions: int = 128
    """Of a relayed address; more are refused with 508, as are:"""
    channels: int = 128
    """... of an allocation, and"""
    connections: int = 32
    """... connections with peers of a TCP allocation. A peer that comes too late is closed."""
    streams: int = 1024
    """Connections of clients; more are closed at once, as are more than"""
    streams_per_address: int = 64
    """... from one IP address."""
    send_bytes: int = 256 * 1024
    """What waits for a client that does not read; more relayed datagrams are dropped."""

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) < 1:
                raise ValueError(f"limits: {name} is {getattr(self, name)}, not at least 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """A server's options; the default is a STUN server on loopback. Raises ValueError for what cannot work.

    With ``users`` (name -> password) or a ``shared_secret`` it relays: TURN needs credentials. A shared secret makes
    short-lived ones: the username is ``"expiry:name"`` in Unix seconds, the password base64(HMAC-SHA1(secret,
    username)). Addresses are IP literals, times seconds.
    """

    hosts: tuple[str, ...] = ("127.0.0.1",)
    """Where to listen. Two addresses of a family and ``alternate_port`` make an RFC 5780 server."""
    port: int | None = STUN_PORT
    """UDP and TCP; 0 is any free port, None none."""
    alternate_port: int | None = None
    tls_port: int | None = None
    alternate_tls_port: int | None = None

    realm: str = "ice-tcp"
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    shared_secret: str | None = field(default=None, repr=False)
    password_algorithms: tuple[PasswordAlgorithm, ...] = (PasswordAlgorithm.SHA256, PasswordAlgorithm.MD5)
    """Offered best first (RFC 8489 s9.2.4); empty: MD5 without a word about it, as RFC 5389 servers do."""
    username_anonymity: bool = False
    """Ask clients for a hash instead of the username (RFC 8489 s9.2); needs ``users``."""
    nonce_lifetime: float = 3600.0

    relay_hosts: tuple[str, ...] | None = None
    """Addresses that peers see, the first of each family counts; None: those of ``hosts``."""
    external_hosts: Mapping[str, str] = field(default_factory=dict)
    """What clients are told instead of a relay host that is behind a one-to-one NAT."""
    relay_ports: tuple[int, int] = (49152, 65535)
    udp_relay: bool = True
    tcp_relay: bool = True
    """RFC 6062."""
    peers: PeerPolicy = field(default_factory=PeerPolicy)
    """Whatever it allows, peers on the server's own ``hosts`` are reached at relayed addresses only, except on
    loopback, where only the server's own ports are closed."""
    legacy_channels: bool = False
    """Accept the channels 0x5000 to 0x7FFE of RFC 5766, too: coturn's test client chooses among them."""
    default_lifetime: float = 600.0
    max_lifetime: float = 3600.0

    alternate_servers: tuple[Address, ...] = ()
    """Where to send clients (300 Try Alternate) in turn, and from how many allocations on:"""
    redirect_from: int = 0
    alternate_domain: str | None = None
    """The name in the other servers' certificate, if it is another one (RFC 8489 s10)."""

    handshake_timeout: float = 10.0
    """For TLS and the first message of a connection."""
    idle_timeout: float = 120.0
    """A connection without an allocation may be silent so long."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hosts", tuple(_checked_host("hosts", host) for host in self.hosts))
        if self.relay_hosts is not None:
            relay_hosts = tuple(_checked_host("relay_hosts", host) for host in self.relay_hosts)
            object.__setattr__(self, "relay_hosts", relay_hosts)
        if not self.hosts:
            raise ValueError("hosts is empty: a server listens somewhere")
        if self.port is None and self.tls_port is None:
            raise ValueError("neither port nor tls_port: a server listens somewhere")
        if self.alternate_port is not None and self.port is None:
            raise ValueError("alternate_port needs port")
        if self.alternate_tls_port is not None and self.tls_port is None:
            raise ValueError("alternate_tls_port needs tls_port")
        first, last = self.relay_ports
        if not 1 <= first <= last <= 65535:
            raise ValueError(f"relay_ports {first}-{last} is no range of ports from 1 to 65535")
        for name in ("nonce_lifetime", "default_lifetime", "max_lifetime", "handshake_timeout", "idle_timeout"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, not more than 0")
        if self.default_lifetime > self.max_lifetime:
            raise ValueError(f"default_lifetime {self.default_lifetime} is longer than max_lifetime")
        if self.username_anonymity and (self.shared_secret is not None or not self.users):
            raise ValueError("username_anonymity needs users, and no shared_secret: it hashes names known before")
        for host, _ in self.alternate_servers:
            _checked_host("alternate_servers", host)
        external_hosts = {
            _checked_host("external_hosts", host): _checked_host("external_hosts", external)
            for host, external in self.external_hosts.items()
        }
        object.__setattr__(self, "external_hosts", external_hosts)
        opaque_string(self.realm)
        for name in self.users:
            opaque_string(name)

    def as_running(self, running: ServerOptions) -> tuple[ServerOptions, tuple[str, ...]]:
        """These options as far as a server that runs with others can take them, and what needs a restart."""
        fixed = {name: getattr(running, name) for name in FIXED if getattr(self, name) != getattr(running, name)}
        return replace(self, **fixed), tuple(fixed)

    @property
    def relays(self) -> bool:
        """Whether there is anybody who could authenticate, so that TURN makes sense."""
        return bool(self.users) or self.shared_secret is not None

    @property
    def last_channel(self) -> int:
        """The highest channel number (RFC 8656 s12)."""
        return 0x7FFE if self.legacy_channels else 0x4FFF

    def relay_host(self, family: int) -> str | None:
        """The address that relays of a family, 4 or 6, are bound to."""
        hosts = self.hosts if self.relay_hosts is None else self.relay_hosts
        return next((host for host in hosts if ipaddress.ip_address(host).version == family), None)


def _checked_host(name: str, host: str) -> str:
    """The canonical spelling of an IP literal."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{name}: {host!r} is no IP address") from None
    if address.is_unspecified:
        raise ValueError(f"{name}: {host} is any address; name those that peers and clients shall see")
    return str(address)
