"""Where the servers are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from candidates.candidate import TransportAddress
from ice_tcp.core.commands import Close, QueryId, Resolve, ServerEndpoint
from ice_tcp.core.context import Context
from ice_tcp.core.servers.reports import Reports
from ice_tcp.core.servers.server import Server
from ice_tcp.core.turn import ServerFailure
from ice_tcp.core.verdicts import Verdict

MOST_ENDPOINTS = 16
"""Of one server; a name with more addresses than that is up to no good."""


class Directory:
    """Finds the endpoints of servers; each is told to ``known(server, endpoints, now)`` as soon as it can be.

    Only endpoints that one of this host's addresses can reach are told; a server without any is reported.
    """

    __slots__ = ("_context", "_hosts", "_known", "_queries", "_reports")

    def __init__(
        self,
        context: Context,
        reports: Reports,
        known: Callable[[Server, tuple[ServerEndpoint, ...], float], None],
    ) -> None:
        self._context = context
        self._reports = reports
        self._known = known
        self._hosts: tuple[TransportAddress, ...] = ()
        self._queries: dict[QueryId, Server] = {}

    @property
    def pending(self) -> bool:
        return bool(self._queries)

    def look_up(self, servers: Sequence[Server], hosts: Sequence[str], now: float) -> None:
        """Begin anew, for these addresses of this host."""
        self.stop()
        self._hosts = tuple(TransportAddress(host, 0) for host in hosts)
        for server in servers:
            endpoints = server.endpoints()
            if endpoints is not None:
                self._found(server, endpoints, now)
                continue
            query = QueryId(self._context.issue())
            self._queries[query] = server
            self._context.commands.append(Resolve(query, server.uri))

    def resolved(self, query: QueryId, endpoints: Sequence[ServerEndpoint], now: float) -> None:
        server = self._queries.pop(query, None)
        if server is not None:
            self._found(server, tuple(endpoints)[:MOST_ENDPOINTS], now)

    def failed(self, query: QueryId, text: str) -> None:
        server = self._queries.pop(query, None)
        if server is not None:
            self._reports.unresolved(server, ServerFailure(Verdict.NO_ADDRESS, text))

    def give_up(self) -> None:
        """What is not found yet is not waited for."""
        for query, server in list(self._queries.items()):
            self._context.commands.append(Close(query))
            self._reports.unresolved(server, ServerFailure(Verdict.TIMED_OUT, "the name was not resolved in time"))
        self._queries.clear()

    def stop(self) -> None:
        for query in self._queries:
            self._context.commands.append(Close(query))
        self._queries.clear()

    def _found(self, server: Server, endpoints: tuple[ServerEndpoint, ...], now: float) -> None:
        within_reach = tuple(
            endpoint for endpoint in endpoints if any(reaches(host, endpoint.address) for host in self._hosts)
        )
        if within_reach:
            self._known(server, within_reach, now)
        else:
            found = ", ".join(dict.fromkeys(endpoint.address.host for endpoint in endpoints))
            text = f"nothing is gathered from that reaches {found}" if found else "no address"
            self._reports.unresolved(server, ServerFailure(Verdict.NO_ADDRESS, text))


def reaches(local: TransportAddress, server: TransportAddress) -> bool:
    """Whether a packet from ``local`` may get to ``server``: the same family and scope."""
    if local.ip is None or server.ip is None or local.family != server.family:
        return False
    return local.is_link_local is server.is_link_local and (local.ip.is_loopback or not server.ip.is_loopback)
