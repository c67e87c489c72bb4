"""The demonstration's own STUN and TURN server, on loopback, with credentials that are good for one run."""

from __future__ import annotations

import json
import secrets
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Self

from candidates.policy.values import AddressFamily
from ice_tcp.net.interfaces import host_addresses
from ice_tcp.server import Leg, PeerPolicy, Server, ServerOptions

HOSTS: Final = {AddressFamily.IPV4: "127.0.0.1", AddressFamily.IPV6: "::1"}
_USERNAME: Final = "demo"
_PASSWORD_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Access:
    """Where the server is, and what opens it. The other process gets it through its standard input."""

    hosts: tuple[str, ...]
    port: int
    password: str = field(repr=False)
    tls_port: int | None = None
    ca_file: str | None = None
    """Of the certificate that it shows on ``tls_port``."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Raises ValueError or TypeError."""
        fields = json.loads(text)
        return cls(**{**fields, "hosts": tuple(fields["hosts"])})

    def servers(self, families: Iterable[AddressFamily], leg: Leg | None) -> tuple[dict[str, Any], ...]:
        """As the policy's key ``servers`` has them: how each address is seen, and a relay by ``leg``, or by any."""
        hosts = [_bracketed(HOSTS[family]) for family in families if HOSTS[family] in self.hosts]
        seen = tuple({"url": f"stun:{host}:{self.port}"} for host in hosts)
        return (*seen, *(self._relay(host, leg) for host in hosts[:1]))

    def _relay(self, host: str, leg: Leg | None) -> dict[str, Any]:
        credentials = {"username": _USERNAME, "password": self.password}
        if leg is Leg.TLS:
            return {"url": f"turns:{host}:{self.tls_port}", **credentials, "tls": {"ca_file": self.ca_file}}
        query = f"?transport={leg}" if leg is not None else ""
        return {"url": f"turn:{host}:{self.port}{query}", **credentials}


@asynccontextmanager
async def demo_server(*, with_tls: bool) -> AsyncIterator[Access]:
    """Run it, on free ports of the loopback addresses that there are. Raises OSError or NetworkError."""
    addresses = {address.host for address in host_addresses()}
    hosts = tuple(host for host in HOSTS.values() if host in addresses)
    password = secrets.token_urlsafe(_PASSWORD_BYTES)
    options = ServerOptions(
        hosts=hosts,
        port=0,
        tls_port=0 if with_tls else None,
        users={_USERNAME: password},
        peers=PeerPolicy(loopback=True),
    )
    with TemporaryDirectory(prefix="ice-tcp-demo-") as directory:
        context, ca_file = _certified(Path(directory), hosts) if with_tls else (None, None)
        async with Server(options, tls=context) as server:
            tls_port = server.address(Leg.TLS)[1] if with_tls else None
            yield Access(hosts, server.address(Leg.UDP)[1], password, tls_port, ca_file)


def has_cryptography() -> bool:
    """Whether a certificate can be made, which TLS to the server needs."""
    return find_spec("cryptography") is not None


def _certified(directory: Path, hosts: Iterable[str]) -> tuple[ssl.SSLContext, str]:
    """A certificate for this run; its key leaves the disk again at once."""
    from ice_tcp.demo.certificate import write_certificate

    certificate, key = write_certificate(directory, hosts)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    key.unlink()
    return context, str(certificate)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
