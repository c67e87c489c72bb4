"""What became of each server, for people and for the agent's report."""

from __future__ import annotations

from candidates.candidate import TcpType, Transport, TransportAddress
from ice_tcp.core.commands import LegTransport, ServerEndpoint
from ice_tcp.core.context import Context
from ice_tcp.core.events import Purpose, ServerReport, ServerReported
from ice_tcp.core.servers.server import Server
from ice_tcp.core.turn import ServerFailure

__all__ = ["Purpose", "Reports", "ServerReport"]


class Reports:
    """The latest outcome of each thing that was asked of each server."""

    __slots__ = ("_context", "_latest")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._latest: dict[object, ServerReport] = {}

    def all(self) -> tuple[ServerReport, ...]:
        return tuple(self._latest.values())

    def clear(self) -> None:
        """A new gathering begins."""
        self._latest.clear()

    def unresolved(self, server: Server, failure: ServerFailure) -> None:
        self._tell(ServerReport(server.name, Purpose.RESOLUTION, failure=failure))

    def told(
        self,
        server: Server,
        purpose: Purpose,
        *,
        endpoint: ServerEndpoint,
        host: str,
        component: int,
        transport: Transport,
        tcptype: TcpType | None = None,
        family: int | None = None,
        failure: ServerFailure | None = None,
        found: tuple[TransportAddress, ...] = (),
    ) -> None:
        """``found`` are the mapped or relayed addresses; ``failure`` is None for success."""
        self._tell(
            ServerReport(
                *(server.name, purpose, LegTransport(endpoint.transport), endpoint.address, host),
                component=component,
                transport=transport,
                tcptype=tcptype,
                family=family,
                found=found,
                failure=failure,
            )
        )

    def _tell(self, report: ServerReport) -> None:
        self._latest[report.subject] = report
        self._context.events.append(ServerReported(report))
