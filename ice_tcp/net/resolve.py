"""From the URI of a STUN or TURN server to its addresses (RFC 8489 s8, RFC 5928)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias

from candidates.candidate import CandidateError, Transport, TransportAddress
from candidates.policy.servers import Scheme, ServerUri
from ice_tcp.core.commands import LegTransport, ServerEndpoint

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as DnsResolver
    from dns.rdtypes.IN.NAPTR import NAPTR
    from dns.rdtypes.IN.SRV import SRV

RESOLVE_TIMEOUT = 10.0
"""Seconds that a resolution may take."""
RECORDS_TIMEOUT = 2.0
"""Seconds that a query for SRV or NAPTR records may take: some networks answer only those for addresses."""

_MAX_NAPTR = 5
"""Names that NAPTR records lead through (RFC 3958 s2.2.3 wants it bounded)."""
_PROTOCOLS = {
    LegTransport.UDP: "udp",
    LegTransport.TCP: "tcp",
    LegTransport.TLS: "tcp",
    LegTransport.DTLS: "udp",
}

AddressLookup: TypeAlias = Callable[[str], Awaitable[list[str]]]
"""Finds the IP addresses of a name, best first. Raises OSError, UnicodeError, or ResolveError."""


class ResolveError(Exception):
    """A server's address cannot be found; the message says why, for people."""


async def system_addresses(name: str) -> list[str]:
    """As the system resolves names: /etc/hosts, DNS, whatever else it is told to ask (RFC 6724 order)."""
    found = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


class Resolver:
    """Finds servers. ``dns`` (a dnspython resolver) is asked for SRV and NAPTR records, None: as the system is
    configured; ``addresses`` for A and AAAA."""

    def __init__(
        self,
        *,
        dns: DnsResolver | None = None,
        addresses: AddressLookup = system_addresses,
        timeout: float = RESOLVE_TIMEOUT,
        records_timeout: float = RECORDS_TIMEOUT,
    ) -> None:
        self._dns = dns
        self._addresses = addresses
        self._timeout = timeout
        self._records_timeout = records_timeout

    async def resolve(self, uri: ServerUri) -> list[ServerEndpoint]:
        """The endpoints of a server, the best first. Raises ResolveError."""
        transports = _transports(uri)
        if not uri.address.is_name:
            return [ServerEndpoint(transport, uri.address) for transport in transports]
        search = _Search(uri, self._addresses, self._records)
        try:
            async with asyncio.timeout(self._timeout):
                found = await search.run(transports)
        except TimeoutError:
            raise ResolveError(f"no answer for {uri.address.host} in {self._timeout:g} s") from None
        finally:
            await search.end()
        if not found:
            raise ResolveError(search.problem or f"{uri.address.host} offers no {' or '.join(transports)}")
        return list(dict.fromkeys(found))

    async def _records(self, name: str, kind: str) -> list[Any]:
        """The records of a name, in the order of their priorities and weights; none if there is no answer."""
        if self._dns is None:  # dnspython takes its time to load
            self._dns = await asyncio.get_running_loop().run_in_executor(None, _system_dns)
        from dns.exception import DNSException

        try:
            answer = await self._dns.resolve(
                f"{name.rstrip('.')}.", kind, raise_on_no_answer=False, lifetime=self._records_timeout
            )
        except (DNSException, OSError):
            return []
        return list(answer.rrset.processing_order()) if answer.rrset is not None else []


def _system_dns() -> DnsResolver:
    from dns.asyncresolver import Resolver as SystemResolver
    from dns.resolver import NoResolverConfiguration

    try:
        return SystemResolver()
    except NoResolverConfiguration:
        return SystemResolver(configure=False)  # nobody to ask


def _transports(uri: ServerUri) -> list[LegTransport]:
    """RFC 5928 s3, table 1, with RFC 7350 s4.6.2; RFC 7064 URIs leave it open."""
    if uri.scheme.secure:
        return [LegTransport.DTLS if uri.transport is Transport.UDP else LegTransport.TLS]
    if uri.transport is None:
        return [LegTransport.UDP, LegTransport.TCP]
    return [LegTransport.UDP if uri.transport is Transport.UDP else LegTransport.TCP]


class _Search:
    """One resolution: it asks for the addresses of each name once."""

    def __init__(
        self, uri: ServerUri, lookup: AddressLookup, records: Callable[[str, str], Awaitable[list[Any]]]
    ) -> None:
        self._uri = uri
        self._host = uri.address.host
        self._lookup = lookup
        self._records = records
        self._lookups: dict[str, asyncio.Task[list[str]]] = {}
        self.problem = ""
        """Why the addresses of a name were not found."""

    async def run(self, transports: list[LegTransport]) -> list[ServerEndpoint]:
        uri = self._uri
        if uri.has_port:  # RFC 5928 s3 step 2
            return await self._at(self._host, uri.address.port, transports)
        self._look_up(self._host)  # most names have no SRV records, and then this is what we need
        if uri.scheme is Scheme.TURN and uri.transport is None:
            found = await self._by_naptr(transports)
            if found:
                return found
        service = uri.scheme.value
        names = [f"_{service}._{_PROTOCOLS[transport]}.{self._host}" for transport in transports]
        found = []
        for part in await asyncio.gather(*map(self._by_srv, names, transports)):
            found += part
        return found

    async def end(self) -> None:
        """Give up what is still asked for."""
        for task in self._lookups.values():
            task.cancel()
        await asyncio.gather(*self._lookups.values(), return_exceptions=True)

    # Addresses

    async def _at(self, name: str, port: int, transports: Iterable[LegTransport]) -> list[ServerEndpoint]:
        hosts = await self._look_up(name)
        return [ServerEndpoint(each, TransportAddress(host, port)) for each in transports for host in hosts]

    def _look_up(self, name: str) -> asyncio.Task[list[str]]:
        task = self._lookups.get(name)
        if task is None:
            task = self._lookups[name] = asyncio.ensure_future(self._addresses(name))
        return task

    async def _addresses(self, name: str) -> list[str]:
        try:
            found = await self._lookup(name)
        except (OSError, UnicodeError, ResolveError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.problem = f"{name} does not resolve: {why}"
            return []
        return [host for host in dict.fromkeys(found) if _is_usable(host)]

    # Records

    async def _by_srv(self, name: str, transport: LegTransport, *, of_host: bool = True) -> list[ServerEndpoint]:
        """RFC 2782; where it has no records, the host itself at the default port."""
        records: list[SRV] = await self._records(name, "SRV")
        if not records and of_host:
            return await self._at(self._host, self._uri.scheme.default_port, [transport])
        found = []
        for record in records:
            target = record.target.to_text(omit_final_dot=True)
            if target != ".":  # which says that the service is decidedly not there
                found += await self._at(target, record.port, [transport])
        return found

    async def _by_naptr(self, transports: list[LegTransport]) -> list[ServerEndpoint]:
        """RFC 5928 s3 step 4: the transports in the order of the first records, each followed to its end."""
        first = await self._naptr(self._host)
        order = [each for record in first for each in transports if _serves(record, each)]
        found = []
        for transport in dict.fromkeys(order):
            found += await self._follow(first, transport, _MAX_NAPTR)
        return found

    async def _follow(self, records: list[NAPTR], transport: LegTransport, depth: int) -> list[ServerEndpoint]:
        found = []
        for record in records:
            name = record.replacement.to_text(omit_final_dot=True)
            if not _serves(record, transport):
                continue
            match record.flags.lower():
                case b"s":
                    found += await self._by_srv(name, transport, of_host=False)
                case b"a":
                    found += await self._at(name, self._uri.scheme.default_port, [transport])
                case b"" if depth:
                    found += await self._follow(await self._naptr(name), transport, depth - 1)
        return found

    async def _naptr(self, name: str) -> list[NAPTR]:
        records: list[NAPTR] = await self._records(name, "NAPTR")
        return sorted(records, key=lambda record: (record.order, record.preference))


def _serves(record: NAPTR, transport: LegTransport) -> bool:
    """Whether a NAPTR record is of TURN over this transport, as in ``RELAY:turn.udp:turn.tcp`` (RFC 5928 s3)."""
    service, *protocols = record.service.decode("ascii", "replace").lower().split(":")
    return service == "relay" and f"turn.{transport}" in protocols and not record.regexp


def _is_usable(host: str) -> bool:
    try:
        return not TransportAddress(host, 0).is_name
    except CandidateError:  # an IPv4-mapped address
        return False
