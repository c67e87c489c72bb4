"""What agents do, counted from their events and statistics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.metrics_core import CounterMetricFamily
from prometheus_client.registry import Collector

from ice_tcp.agent import Agent, Carrier, EventStream, TrafficStats
from ice_tcp.core.events import (
    AgentState,
    Event,
    GatheringDone,
    LocalCandidateFound,
    PairChanged,
    PairState,
    PathSelected,
    RelayLost,
    Restarted,
    ServerReported,
    StateChanged,
)
from ice_tcp.core.verdicts import Verdict

_SECONDS: Final = (0.025, 0.05, 0.1, 0.2, 0.4, 0.8, 1.5, 3.0, 6.0, 12.0, 25.0, 50.0)


class AgentMetrics:
    """Counts what the agents do that it watches, all of them together.

    Call `watch` for each, as soon as it is made. ``registry`` is a new one if None.
    """

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = own = registry if registry is not None else CollectorRegistry()
        self._open = Gauge("ice_tcp_agents", "Agents that are watched and not closed.", registry=own)
        self._watched = Counter("ice_tcp_agents_watched", "Agents that were ever watched.", registry=own)
        self._candidates = Counter(
            *("ice_tcp_agent_candidates", "Local candidates found."), ("type", "transport", "tcptype"), registry=own
        )
        self._paths = Counter(
            *("ice_tcp_agent_paths", "Paths that began to carry data, by the types of their candidates."),
            ("local", "remote", "transport"),
            registry=own,
        )
        self._completed = Counter(
            *("ice_tcp_agent_completed", "Sessions with a nominated path, by the way it takes."),
            ("transport", "relayed"),
            registry=own,
        )
        self._failed = Counter("ice_tcp_agent_failed", "Sessions that failed.", ("verdict",), registry=own)
        self._lost = Counter("ice_tcp_agent_disconnected", "Paths in use that were lost.", ("verdict",), registry=own)
        self._pairs = Counter("ice_tcp_agent_pairs_failed", "Candidate pairs that failed.", ("verdict",), registry=own)
        self._restarts = Counter("ice_tcp_agent_restarts", "ICE restarts, ours and the peers'.", registry=own)
        self._relays = Counter("ice_tcp_agent_relays_lost", "Allocations lost.", ("cause",), registry=own)
        self._servers = Counter(
            *("ice_tcp_agent_server_answers", "What was asked of servers; cause is empty for success."),
            ("purpose", "cause"),
            registry=own,
        )
        self._gathered = Histogram(
            *("ice_tcp_agent_gathering_seconds", "From the beginning of a session to its last candidate."),
            buckets=_SECONDS,
            registry=own,
        )
        self._connected = Histogram(
            *("ice_tcp_agent_connecting_seconds", "From the first check to the first path that carries data."),
            buckets=_SECONDS,
            registry=own,
        )
        self._nominated = Histogram(
            *("ice_tcp_agent_nominating_seconds", "From the first check to the nominated path."),
            buckets=_SECONDS,
            registry=own,
        )
        self._traffic = _Traffic()
        own.register(self._traffic)
        self._following: set[asyncio.Task[None]] = set()

    def watch(self, agent: Agent) -> None:
        """Count what this agent does from now on, until it is closed. Call it on the agent's event loop."""
        self._watched.inc()
        self._open.inc()
        self._traffic.agents.append(agent)
        task = asyncio.get_running_loop().create_task(self._follow(agent, agent.events()))
        self._following.add(task)
        task.add_done_callback(self._following.discard)

    async def _follow(self, agent: Agent, events: EventStream) -> None:
        session = _Session(self)
        try:
            async for event in events:
                session.happened(event)
        finally:
            self._open.dec()
            self._traffic.take_over(agent)

    def count(self, event: Event) -> None:
        """For what needs no memory of the session."""
        match event:
            case LocalCandidateFound(candidate):
                self._candidates.labels(candidate.type, candidate.transport, candidate.tcptype or "").inc()
            case PathSelected(path):
                self._paths.labels(path.local.type, path.remote.type, path.local.transport).inc()
            case PairChanged(state=PairState.FAILED, verdict=verdict):
                self._pairs.labels(verdict or Verdict.OTHER).inc()
            case StateChanged(AgentState.FAILED, verdict):
                self._failed.labels(verdict or Verdict.OTHER).inc()
            case StateChanged(AgentState.DISCONNECTED, verdict):
                self._lost.labels(verdict or Verdict.OTHER).inc()
            case Restarted():
                self._restarts.inc()
            case RelayLost(failure=failure):
                self._relays.labels(failure.cause).inc()
            case ServerReported(report):
                self._servers.labels(report.purpose, report.failure.cause if report.failure is not None else "").inc()

    def gathered(self, seconds: float) -> None:
        self._gathered.observe(seconds)

    def connected(self, seconds: float) -> None:
        self._connected.observe(seconds)

    def completed(self, seconds: float | None, path: PathSelected | None) -> None:
        if seconds is not None:
            self._nominated.observe(seconds)
        if path is not None:
            relayed = str(path.selected.is_relayed).lower()
            self._completed.labels(path.selected.local.transport, relayed).inc()


class _Session:
    """What has to be remembered of one agent until it is counted."""

    def __init__(self, metrics: AgentMetrics) -> None:
        self._metrics = metrics
        self._began_at = time.monotonic()
        self._checking_at: float | None = None
        self._path: PathSelected | None = None
        self._is_gathered = self._is_connected = self._is_completed = False

    def happened(self, event: Event) -> None:
        now = time.monotonic()
        self._metrics.count(event)
        match event:
            case GatheringDone() if not self._is_gathered:
                self._is_gathered = True
                self._metrics.gathered(now - self._began_at)
            case PathSelected():
                self._path = event
            case StateChanged(AgentState.CHECKING) if self._checking_at is None:
                self._checking_at = now
            case StateChanged(AgentState.CONNECTED | AgentState.COMPLETED as state):
                self._reached(state, now)

    def _reached(self, state: AgentState, now: float) -> None:
        since = None if self._checking_at is None else now - self._checking_at
        if not self._is_connected:
            self._is_connected = True
            if since is not None:
                self._metrics.connected(since)
        if state is AgentState.COMPLETED and not self._is_completed:
            self._is_completed = True
            self._metrics.completed(since, self._path)


class _Traffic(Collector):
    """Data of all agents: read where it is counted, when somebody asks."""

    def __init__(self) -> None:
        self.agents: list[Agent] = []
        self._over: dict[Carrier, TrafficStats] = {}
        self._discarded = 0

    def take_over(self, agent: Agent) -> None:
        """The agent is closed: keep its numbers, and not the agent."""
        self.agents.remove(agent)
        stats = agent.stats()
        self._discarded += stats.packets_discarded
        for each in stats.traffic:
            self._over[each.carrier] = each + self._over.get(each.carrier)

    def describe(self) -> Iterable[Metric]:
        return self._families()

    def collect(self) -> Iterable[Metric]:
        total, discarded = dict(self._over), self._discarded
        for agent in self.agents:
            stats = agent.stats()
            discarded += stats.packets_discarded
            for each in stats.traffic:
                total[each.carrier] = each + total.get(each.carrier)
        sizes, packets, lost = self._families()
        for carrier, each in sorted(total.items()):
            sizes.add_metric((carrier, "sent"), each.bytes_sent)
            sizes.add_metric((carrier, "received"), each.bytes_received)
            packets.add_metric((carrier, "sent"), each.packets_sent)
            packets.add_metric((carrier, "received"), each.packets_received)
        lost.add_metric((), discarded)
        return sizes, packets, lost

    @staticmethod
    def _families() -> tuple[CounterMetricFamily, CounterMetricFamily, CounterMetricFamily]:
        labels = ("carrier", "direction")
        return (
            CounterMetricFamily("ice_tcp_agent_bytes", "Application data, in bytes.", labels=labels),
            CounterMetricFamily("ice_tcp_agent_packets", "Messages of application data.", labels=labels),
            CounterMetricFamily(
                "ice_tcp_agent_packets_discarded", "From unknown sources, or while nobody read.", labels=()
            ),
        )
