"""What a rendezvous does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:  # it needs an extra of its own
    from ice_tcp.rendezvous import RendezvousServer


class RendezvousMetrics(Collector):
    """Reads what a rendezvous has counted, whenever somebody asks."""

    def __init__(self, server: RendezvousServer, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry()
        self._server = server
        self.registry.register(self)

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterable[Metric]:
        counts = self._server.counts
        connections, entered, refused, texts, sizes, entries = families = self._families()
        connections.add_metric((), self._server.connections)
        for how, number in sorted(counts.entered.items()):
            entered.add_metric((how,), number)
        for reason, number in sorted(counts.refused.items()):
            refused.add_metric((reason,), number)
        texts.add_metric((), counts.texts)
        sizes.add_metric((), counts.text_bytes)
        entries.add_metric((), counts.entries)
        return families

    @staticmethod
    def _families() -> tuple[
        GaugeMetricFamily,
        CounterMetricFamily,
        CounterMetricFamily,
        CounterMetricFamily,
        CounterMetricFamily,
        CounterMetricFamily,
    ]:
        return (
            GaugeMetricFamily("ice_tcp_rendezvous_connections", "Clients that are connected.", labels=()),
            CounterMetricFamily(
                "ice_tcp_rendezvous_entered", "Clients that were welcomed: open, join or resume.", labels=("how",)
            ),
            CounterMetricFamily("ice_tcp_rendezvous_refused", "Clients that were refused.", labels=("reason",)),
            CounterMetricFamily("ice_tcp_rendezvous_texts", "Texts that clients told.", labels=()),
            CounterMetricFamily("ice_tcp_rendezvous_text_bytes", "Their sizes together, in bytes.", labels=()),
            CounterMetricFamily("ice_tcp_rendezvous_entries", "Entries that clients were told.", labels=()),
        )
