"""Where the servers are."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ice_tcp.core.commands import Close, Failure, QueryId, Resolve, ServerEndpoint
from ice_tcp.core.context import Context
from ice_tcp.core.servers.reports import Reports
from ice_tcp.core.servers.server import Server
from ice_tcp.core.turn import Advice, ServerFailure
from ice_tcp.core.verdicts import Verdict

MOST_ENDPOINTS = 16
"""Of one server; a name with more addresses than that is up to no good."""


class Directory:
    """Finds the endpoints of servers; each is told to ``known(server, endpoints, now)`` as soon as it can be."""

    __slots__ = ("_context", "_known", "_queries", "_reports")

    def __init__(
        self,
        context: Context,
        reports: Reports,
        known: Callable[[Server, tuple[ServerEndpoint, ...], float], None],
    ) -> None:
        self._context = context
        self._reports = reports
        self._known = known
        self._queries: dict[QueryId, Server] = {}

    @property
    def pending(self) -> bool:
        return bool(self._queries)

    def look_up(self, servers: Sequence[Server], now: float) -> None:
        for server in servers:
            endpoints = server.endpoints()
            if endpoints is not None:
                self._known(server, endpoints, now)
                continue
            query = QueryId(self._context.issue())
            self._queries[query] = server
            self._context.commands.append(Resolve(query, server.uri))

    def resolved(self, query: QueryId, endpoints: Sequence[ServerEndpoint], now: float) -> None:
        server = self._queries.pop(query, None)
        if server is not None:
            self._known(server, tuple(endpoints)[:MOST_ENDPOINTS], now)

    def failed(self, query: QueryId, text: str) -> None:
        server = self._queries.pop(query, None)
        if server is not None:
            self._reports.unresolved(server, ServerFailure(Verdict(Failure.NO_ADDRESS.value), text, Advice.STOP))

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
