"""What an embedded STUN and TURN server does."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ice_tcp.server import Server
from ice_tcp.server.core.trace import (
    AllocationCreated,
    AllocationEnded,
    MessageDropped,
    PeerRefused,
    Record,
    RequestRefused,
    StreamRefused,
)
from ice_tcp.stun import Method


class ServerMetrics:
    """Counts what a server does: give it to ``Server(trace=metrics.record)``, then tell it of the server by `watch`."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = own = registry if registry is not None else CollectorRegistry()
        self._created = Counter("ice_tcp_server_allocations_created", "Allocations made.", ("transport",), registry=own)
        self._ended = Counter("ice_tcp_server_relays_ended", "Relayed addresses given up.", registry=own)
        self._refused = Counter(
            *("ice_tcp_server_requests_refused", "Requests answered with an error, by its code."),
            ("method", "code"),
            registry=own,
        )
        self._dropped = Counter(
            "ice_tcp_server_messages_dropped", "Messages that were ignored.", ("reason",), registry=own
        )
        self._streams = Counter(
            "ice_tcp_server_connections_refused", "Clients' connections closed as too many or useless.", registry=own
        )
        self._peers = Counter("ice_tcp_server_peers_refused", "Peers' connections closed at once.", registry=own)

    def watch(self, server: Server) -> None:
        """Read from this server what it has, whenever somebody asks; once."""
        self.registry.register(_Present(server))

    def record(self, _now: float, record: Record) -> None:
        """A sink for the server's trace."""
        match record:
            case AllocationCreated(transport=transport):
                self._created.labels(transport).inc()
            case AllocationEnded():
                self._ended.inc()
            case RequestRefused(method=method, code=code):
                self._refused.labels(_method(method), code).inc()
            case MessageDropped(reason=reason):
                self._dropped.labels(reason).inc()
            case StreamRefused():
                self._streams.inc()
            case PeerRefused():
                self._peers.inc()


class _Present(Collector):
    def __init__(self, server: Server) -> None:
        self._server = server

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterable[Metric]:
        stats = self._server.stats()
        allocations, connections, sizes, packets = families = self._families()
        allocations.add_metric((), stats.allocations)
        connections.add_metric((), stats.connections)
        for transport, relayed in stats.relayed.items():
            sizes.add_metric((transport, "to-peers"), relayed.bytes_to_peers)
            sizes.add_metric((transport, "from-peers"), relayed.bytes_from_peers)
        packets.add_metric(("to-peers",), stats.relayed["udp"].packets_to_peers)
        packets.add_metric(("from-peers",), stats.relayed["udp"].packets_from_peers)
        return families

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, CounterMetricFamily, CounterMetricFamily]:
        return (
            GaugeMetricFamily("ice_tcp_server_allocations", "Allocations that live.", labels=()),
            GaugeMetricFamily("ice_tcp_server_connections", "Clients that are connected over TCP or TLS.", labels=()),
            CounterMetricFamily(
                "ice_tcp_server_relayed_bytes", "Data of relays, in bytes.", labels=("transport", "direction")
            ),
            CounterMetricFamily("ice_tcp_server_relayed_packets", "Datagrams of UDP relays.", labels=("direction",)),
        )


def _method(number: int) -> str:
    """A client may send any number; the names of those that are known are a closed set."""
    try:
        return Method(number).name.lower().replace("_", "-")
    except ValueError:
        return "unknown"
