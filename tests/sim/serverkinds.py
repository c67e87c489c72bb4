"""What servers there are in a scenario, and which of them a side asks for what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from candidates.candidate import Transport
from candidates.policy.servers import Scheme
from ice_tcp.core.commands import LegTransport
from ice_tcp.server.options import Limits, ServerOptions

PORT = 3478
SECURE_PORT = 5349
USERS = {"alice": "open sesame"}
DOMAIN = "example.org"


class Condition(StrEnum):
    """Whether a server answers when a scenario begins."""

    RUNNING = "running"
    OFF = "off"
    """The machine is switched off: packets vanish."""
    STOPPED = "stopped"
    """The machine is there, and refuses connections."""


@dataclass(frozen=True, slots=True)
class ServerKind:
    """How a server behaves. ``twofold``: at a second address and port, too (RFC 5780). ``delay`` as of a Link.

    ``forged`` means that its certificate is for another name, ``tells`` that one may rely on being told addresses.
    """

    families: tuple[int, ...] = (4,)
    condition: Condition = Condition.RUNNING
    twofold: bool = False
    secure_port: int = SECURE_PORT
    udp_relay: bool = True
    tcp_relay: bool = True
    quota: int = 64
    nonce_lifetime: float = 3600.0
    redirects_to: str | None = None
    forged: bool = False
    tells: bool = True
    delay: float = 0.005

    def options(self, name: str) -> ServerOptions:
        """Those of the embedded server."""
        hosts = [server_address(name, family) for family in self.families]
        if self.twofold:
            hosts += [server_address(name, family, second=True) for family in self.families]
        alternate = self.redirects_to
        return ServerOptions(
            hosts=tuple(hosts),
            port=PORT,
            alternate_port=PORT + 1 if self.twofold else None,
            tls_port=self.secure_port,
            realm=DOMAIN,
            users=USERS,
            nonce_lifetime=self.nonce_lifetime,
            udp_relay=self.udp_relay,
            tcp_relay=self.tcp_relay,
            limits=Limits(allocations_per_user=self.quota),
            alternate_servers=((server_address(alternate, 4), PORT),) if alternate is not None else (),
        )

    def certificate(self, name: str) -> str:
        return f"{'somebody' if self.forged else name}.{DOMAIN}"


def server_address(name: str, family: int, *, second: bool = False) -> str:
    """The address of the server ``s<number>``."""
    number = 10 * int(name[1:]) + second
    return f"198.51.100.{number}" if family == 4 else f"2001:db8:5::{number}"


@dataclass(frozen=True, slots=True)
class Ask:
    """A server in the policy of a side: by its name, or by its address of ``family``.

    ``transport`` None with the scheme turn means UDP and TCP.
    """

    server: str
    scheme: Scheme = Scheme.TURN
    transport: Transport | None = None
    port: int | None = None
    family: int | None = None
    wrong_password: bool = False

    @property
    def legs(self) -> tuple[LegTransport, ...]:
        """What may carry the messages to the server."""
        if self.scheme.secure:
            return (LegTransport.TLS,)
        if self.transport is None:
            return (LegTransport.UDP, LegTransport.TCP)
        return (LegTransport(self.transport.value),)

    @property
    def name(self) -> str:
        return f"{self.server}.{DOMAIN}"

    def policy(self) -> dict[str, Any]:
        """The entry of a policy file."""
        host = self.name
        if self.family is not None:
            address = server_address(self.server, self.family)
            host = f"[{address}]" if self.family == 6 else address
        port = f":{self.port}" if self.port is not None else ""
        query = f"?transport={self.transport.value}" if self.transport is not None else ""
        entry: dict[str, Any] = {"url": f"{self.scheme.value}:{host}{port}{query}"}
        if self.scheme.relays:
            ((username, password),) = USERS.items()
            entry |= {"username": username, "password": "guess" if self.wrong_password else password}
        if self.scheme.secure:
            entry["tls"] = {"server_name": self.name}
        return entry
