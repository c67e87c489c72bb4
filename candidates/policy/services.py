"""The sections of the policy file for servers that a deployer runs: `ice-tcp server`, `ice-tcp rendezvous`."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Annotated, Final

from pydantic import Field, PlainSerializer, PlainValidator, SecretStr, ValidationInfo, WithJsonSchema

from candidates.policy.sections import Section
from candidates.policy.servers import Credential, Sources, read_source
from candidates.policy.values import Count, Flag, Network, Ports, PositiveCount, Seconds, wrong

Endpoint = tuple[str, int]
"""An IP literal and a port."""


class UsersFile:
    """A file with ``name:password`` in each line, and what it holds. Immutable and hashable."""

    # No dataclass: of those pydantic makes dictionaries, which `Policy.revised` could not read back.
    __slots__ = ("path", "users")

    def __init__(self, path: str, users: tuple[tuple[str, SecretStr], ...]) -> None:
        self.path: Final = path
        self.users: Final = users

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UsersFile) and (self.path, self.users) == (other.path, other.users)

    def __hash__(self) -> int:
        return hash((self.path, self.users))

    def __repr__(self) -> str:
        return f"UsersFile({self.path!r}, {self.users!r})"


def _host(value: object) -> str:
    right = 'write an IP address of this machine, such as "192.0.2.10"'
    try:
        address = ipaddress.ip_address(value) if isinstance(value, str) else None
    except ValueError:
        address = None
    if address is None:
        raise wrong("not an IP address", right)
    if address.is_unspecified:
        raise wrong(f"{address} is any address", "name those that peers and clients shall see")
    return str(address)


def _endpoint(value: object) -> Endpoint:
    right = 'write an IP address and a port, such as "192.0.2.11:3478" or "[2001:db8::1]:3478"'
    if isinstance(value, tuple):
        return value
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not port.isascii() or not port.isdigit() or not 1 <= int(port[:6]) <= 65535:
        raise wrong("not an address and a port", right)
    if (":" in host) is not (host.startswith("[") and host.endswith("]")):
        raise wrong("only IPv6 addresses stand in brackets, and they do", right)
    return _host(host.strip("[]")), int(port)


def _written_endpoint(value: Endpoint) -> str:
    host, port = value
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _name(value: object) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise wrong("not a name", "write printable text, in quotes")
    return value


def _users_file(value: object, info: ValidationInfo) -> UsersFile:
    right = "name a file with name:password in each line"
    if isinstance(value, UsersFile):
        return value
    if not isinstance(value, str) or not value:
        raise wrong("not a path", right)
    if not isinstance(info.context, Sources):
        raise wrong("no file can be read here", "load the policy with load_policy")
    return UsersFile(value, tuple(_users_of(value, read_source(value, info.context), right)))


def _users_of(path: str, text: str, right: str) -> Iterator[tuple[str, SecretStr]]:
    names = set()
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, password = line.partition(":")
        if not name or not password or not name.isprintable():
            raise wrong(f"{path}:{number} is not name:password", right)  # the line may be a password
        if name in names:
            raise wrong(f"{path}:{number}: {name!r} stands twice", "name each user once")
        names.add(name)
        yield name, SecretStr(password)


Host = Annotated[str, PlainValidator(_host), WithJsonSchema({"type": "string", "examples": ["192.0.2.10"]})]
EndpointText = Annotated[
    Endpoint,
    PlainValidator(_endpoint),
    PlainSerializer(_written_endpoint, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": ":[0-9]{1,5}$", "examples": ["192.0.2.11:3478"]}),
]
Name = Annotated[str, PlainValidator(_name), WithJsonSchema({"type": "string", "minLength": 1})]
Users = Annotated[
    UsersFile,
    PlainValidator(_users_file),
    PlainSerializer(lambda file: file.path, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "minLength": 1}),
]
Port = Annotated[int, Field(strict=True, ge=0, le=65535)]
Path = Annotated[str, Field(strict=True, min_length=1)]


class User(Section):
    """Who may relay."""

    name: Name = Field(description="User name.")
    password: Credential = Field(description='Password: text, "${NAME}" or {file: PATH}.')


class ExternalAddress(Section):
    """A relay address behind a one-to-one NAT."""

    relay: Host = Field(description="The address of this machine.")
    public: Host = Field(description="What clients are told instead.")


class RelayPeers(Section):
    """Which peers the relay reaches: public ones, and what is opened here (RFC 8656 s21)."""

    loopback: Flag = Field(default=False, description="Reach peers on loopback.")
    private: Flag = Field(default=False, description="Reach peers on private networks.")
    link_local: Flag = Field(default=False, description="Reach peers on the same link.")
    allow: tuple[Network, ...] = Field(default=(), description="Blocks that are reached, whatever else is said.")
    deny: tuple[Network, ...] = Field(default=(), description="Blocks that are not reached.")


class ServerLimits(Section):
    """Bounds of what `ice-tcp server` keeps."""

    allocations: PositiveCount = Field(default=1024, description="Relayed addresses of all users; more get 508.")
    allocations_per_user: PositiveCount = Field(
        default=16, description="Relayed addresses and reserved ports of one user; more get 486."
    )
    permissions: PositiveCount = Field(default=128, description="Permissions of a relayed address.")
    channels: PositiveCount = Field(default=128, description="Channels of an allocation.")
    connections: PositiveCount = Field(default=32, description="Connections with peers of a TCP allocation.")
    streams: PositiveCount = Field(default=1024, description="Connections of clients.")
    streams_per_address: PositiveCount = Field(default=64, description="Connections from one IP address.")
    send_bytes: PositiveCount = Field(default=256 * 1024, description="Bytes kept for a client that does not read.")


class OwnServer(Section):
    """What `ice-tcp server --policy F` does; its options override these keys."""

    listen: tuple[Host, ...] = Field(
        default=(), description="Addresses to listen on; empty: those by which the default route leaves."
    )
    port: Port | None = Field(default=3478, description="UDP and TCP port; 0: any, null: none.")
    alternate_port: Port | None = Field(
        default=None, description="A second one; with two addresses it makes an RFC 5780 server."
    )
    tls_port: Port | None = Field(default=None, description="TLS port; needs `certificate`.")
    certificate: Path | None = Field(default=None, description="Path of a PEM file with the certificate chain.")
    key: Path | None = Field(default=None, description="Path of a PEM file with its key, if not in the same file.")
    realm: Name = Field(default="ice-tcp", description="Realm of the credentials.")
    users: tuple[User, ...] = Field(default=(), description="Who may relay.")
    users_file: Users | None = Field(
        default=None, description="Path of a file with name:password in each line; its users are added to `users`."
    )
    secret: Credential | None = Field(
        default=None, description="Shared secret of short-lived credentials, which agents and other servers know."
    )
    nonce_lifetime: Seconds = Field(default=3600.0, description="Seconds that a nonce is good for (RFC 8489 s9.2).")
    relay_addresses: tuple[Host, ...] = Field(
        default=(), description="Addresses that peers see, the first of each family counts; empty: those of `listen`."
    )
    external_addresses: tuple[ExternalAddress, ...] = Field(
        default=(), description="What clients are told instead of relay addresses."
    )
    relay_ports: Ports = Field(default=(49152, 65535), description="First and last port of relays, both included.")
    udp_relay: Flag = Field(default=True, description="UDP allocations (RFC 8656).")
    tcp_relay: Flag = Field(default=True, description="TCP allocations (RFC 6062).")
    peers: RelayPeers = Field(default=RelayPeers(), description="Which peers the relay reaches.")
    default_lifetime: Seconds = Field(
        default=600.0, description="Seconds of an allocation at least; `max_lifetime` if that is less."
    )
    max_lifetime: Seconds = Field(default=3600.0, description="Seconds of an allocation at most.")
    alternate_servers: tuple[EndpointText, ...] = Field(
        default=(), description="Where to send clients (300 Try Alternate), in turn."
    )
    redirect_from: Count = Field(default=0, description="Number of allocations from which on they are sent there.")
    handshake_timeout: Seconds = Field(
        default=10.0, description="Seconds for TLS and the first message of a connection."
    )
    idle_timeout: Seconds = Field(
        default=120.0, description="Seconds that a connection without an allocation may be silent."
    )
    limits: ServerLimits = Field(default=ServerLimits(), description="Bounds of what it keeps.")

    @property
    def passwords(self) -> dict[str, str]:
        """Name -> password, of `users` and `users_file`: secrets."""
        listed = {user.name: user.password for user in self.users}
        return {
            name: password.get_secret_value()
            for name, password in [*listed.items(), *(self.users_file.users if self.users_file else ())]
        }


class RendezvousLimits(Section):
    """What clients of `ice-tcp rendezvous` may do."""

    connections: PositiveCount = Field(default=4000, description="Connections of all clients.")
    connections_per_host: PositiveCount = Field(default=64, description="Connections of one address.")
    messages_per_second: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] = Field(
        default=20.0, description="Messages a second of one connection, in the long run."
    )
    burst: PositiveCount = Field(default=100, description="Messages of one connection that may come at once.")
    hello_seconds: Seconds = Field(default=10.0, description="Seconds until a client has said what it wants.")


class Rendezvous(Section):
    """What `ice-tcp rendezvous --policy F` does; its options override these keys."""

    host: Name | None = Field(default=None, description="Address or name to listen on; null: everywhere.")
    port: Port = Field(default=8765, description="TCP port; 0: any.")
    certificate: Path | None = Field(
        default=None, description="Path of a PEM file with the certificate chain: serve wss:// with it."
    )
    key: Path | None = Field(default=None, description="Path of a PEM file with its key, if not in the same file.")
    redis: Credential | None = Field(
        default=None, description="URL of the Redis that instances share; a secret, for it may hold a password."
    )
    limits: RendezvousLimits = Field(default=RendezvousLimits(), description="What clients may do.")
