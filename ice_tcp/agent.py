"""The ICE agent for asyncio applications."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self, TypeVar
from weakref import WeakSet

from candidates.candidate import Candidate, Transport
from candidates.parameters import IceParameters
from candidates.policy import Policy
from ice_tcp.capsule import Capsule
from ice_tcp.core.events import (
    AgentState,
    Event,
    GatheringDone,
    LocalCandidateFound,
    MappingBehaviour,
    PairState,
    PathSelected,
    Restarted,
    Role,
    SelectedPath,
    ServerReport,
    StateChanged,
)
from ice_tcp.core.trace import TraceSink
from ice_tcp.core.verdicts import Verdict
from ice_tcp.driver import Component, open_session, servers_now
from ice_tcp.errors import ConnectError, ConnectionClosed, IceError
from ice_tcp.net.interfaces import host_addresses
from ice_tcp.stream import STREAM_LIMIT, open_byte_stream

T = TypeVar("T")

logger = logging.getLogger(__name__)

_BURST = 128
"""A sender that never has to wait gives the loop its turn after so many messages."""
_EVENTS_KEPT = 4096


@dataclass(frozen=True, slots=True)
class CandidatePairStats:
    """One pair, in the terms of W3C's RTCIceCandidatePairStats: times in seconds, sizes in bytes.

    ``packets`` and ``bytes`` count application data only; requests and responses are connectivity checks.
    """

    pair: int
    component: int
    generation: int
    local: Candidate
    remote: Candidate
    state: PairState
    nominated: bool
    priority: int
    verdict: Verdict | None
    packets_sent: int
    packets_received: int
    bytes_sent: int
    bytes_received: int
    requests_sent: int
    requests_received: int
    responses_sent: int
    responses_received: int
    consent_requests_sent: int
    current_round_trip_time: float | None
    total_round_trip_time: float


_RANDOM = random.SystemRandom()
"""Credentials and transaction ids must be hard to guess (RFC 8445 s5.3, RFC 7675 s8)."""


class Carrier(StrEnum):
    """What carries data: datagrams, a connection, also one of a TCP relay (RFC 6062), or a UDP relay of ours."""

    UDP = "udp"
    TCP = "tcp"
    RELAY = "relay"


@dataclass(frozen=True, slots=True)
class TrafficStats:
    """Application data of a whole session, sizes in bytes, on all its paths of a kind, those included that are gone."""

    carrier: Carrier
    packets_sent: int = 0
    packets_received: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0

    def __add__(self, other: TrafficStats | None) -> TrafficStats:
        """Both together; nothing is added by None."""
        if other is None:
            return self
        return TrafficStats(
            self.carrier,
            self.packets_sent + other.packets_sent,
            self.packets_received + other.packets_received,
            self.bytes_sent + other.bytes_sent,
            self.bytes_received + other.bytes_received,
        )


@dataclass(frozen=True, slots=True)
class AgentStats:
    """What an agent counted so far.

    ``packets_discarded`` are datagrams that came from unknown sources, or while the application did not read.
    ``traffic`` is that of the session: it never decreases, and stays after `Agent.close`.
    """

    pairs: tuple[CandidatePairStats, ...]
    packets_discarded: int
    traffic: tuple[TrafficStats, ...] = ()


class Agent:
    """One ICE session (RFC 8445, RFC 6544): finds a path to a peer over UDP or TCP, and carries messages on it.

    Make it in a coroutine, best by ``async with``, which closes it. Then, on both sides:

    1. `gather`; send `local_parameters` and each of `local_candidates` to the peer, by whatever signaling there is;
    2. `set_remote_parameters`, `add_remote_candidate` for each of the peer's, `end_of_candidates` after the last;
    3. `connect`, then `send` and `recv`, or `open_stream`.

    The order of the first two does not matter, and candidates may come while the rest goes on (RFC 8838).

    ``role`` is CONTROLLING for one side and CONTROLLED for the other; a conflict resolves itself. ``policy`` decides
    everything else, the default policy if None. ``components`` is 1..256. ``trace`` is called with ``(now, entry)``
    for what the agent does and tells, and must not call the agent; a `TraceFile` writes it down. ``credentials`` are
    ufrag and pwd until the first restart, for signaling that has chosen them already; drawn at random if None. With
    ``awaits_end`` no failure is told before the peer's end of candidates, however late it comes (RFC 8838 s8).
    ``capsule``, made by ``Capsule.create``, records this agent for ``ice-tcp replay``, credentials included; close it
    after the agent. Names of servers are resolved, in the event loop's executor; names of candidates are not.

    Methods raise ConnectionClosed after `close`, ValueError and RuntimeError for misuse.
    """

    __slots__ = (
        *("__weakref__", "_changes", "_components", "_core", "_driver", "_gathering", "_listeners"),
        *("_policy", "_trace", "_verdict"),
    )

    def __init__(
        self,
        role: Role,
        *,
        policy: Policy | None = None,
        components: int = 1,
        trace: TraceSink | None = None,
        credentials: tuple[str, str] | None = None,
        awaits_end: bool = False,
        capsule: Capsule | None = None,
    ) -> None:
        self._policy = policy or Policy.default()
        self._core, self._driver = open_session(
            role,
            self._policy,
            rng=_RANDOM,
            components=components,
            trace=trace,
            on_event=self._happened,
            credentials=credentials,
            awaits_end=awaits_end,
            capsule=capsule,
        )
        self._trace = trace
        self._components = self._driver.components
        self._changes = _Changes()
        self._gathering = _Gathering()
        self._listeners: WeakSet[EventStream] = WeakSet()
        self._verdict: Verdict | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session and free everything; what was sent before is delivered if that takes no longer than a second.

        May be called more than once. Cancelled, it closes at once.
        """
        await self._driver.close()

    # Signaling

    @property
    def role(self) -> Role:
        return self._core.role

    def set_role(self, role: Role) -> None:
        """Take another role than the agent was made with, when signaling decides late; before `connect`."""
        self._call(self._core.set_role, role)

    @property
    def local_parameters(self) -> IceParameters:
        """Credentials and options to send to the peer; new ones after `restart`."""
        return self._core.local_parameters

    def set_remote_parameters(self, parameters: IceParameters) -> None:
        """Take the peer's credentials. New ones later mean that the peer restarted: this agent restarts, too.

        Then a Restarted event tells what to send to the peer.
        """
        self._call(self._core.set_remote_parameters, parameters)

    def add_remote_candidate(self, candidate: Candidate) -> None:
        """Take a candidate of the peer, at any time. One that cannot be used is ignored and traced."""
        self._call(self._core.add_remote_candidate, candidate)

    @property
    def remote_candidates(self) -> tuple[Candidate, ...]:
        """The peer's candidates that are used, those included that were learned from its checks (``prflx``)."""
        return self._core.remote_candidates

    def end_of_candidates(self) -> None:
        """The peer has no more candidates (RFC 8838 s14)."""
        self._call(self._core.end_of_candidates)

    async def gather(self) -> None:
        """Open sockets, ask the policy's servers and find candidates; returns when there will be no more.

        `local_candidates` gives them as they come, `server_reports` tells what became of each server. A server that
        fails or does not answer is no error. Call it once; `restart` gathers again by itself.
        """
        addresses, servers = host_addresses(), servers_now(self._policy)
        self._call(lambda now: self._core.gather(addresses, now, servers))
        gathering = self._gathering
        while not gathering.done:
            await gathering.changes.wait()

    async def local_candidates(self) -> AsyncIterator[Candidate]:
        """Each candidate to send to the peer, those found before first; then tell the peer end-of-candidates.

        They are those of the generation that is current when the iteration begins.
        """
        gathering = self._gathering
        given = 0
        while True:
            for candidate in gathering.candidates[given:]:
                given += 1
                yield candidate
            if given == len(gathering.candidates):
                if gathering.done:
                    return
                await gathering.changes.wait()

    # Connecting

    @property
    def state(self) -> AgentState:
        return self._core.state

    async def connect(self) -> SelectedPath:
        """Check pairs until every component has a path that carries data, not necessarily the final one.

        Returns the path of component 1. `send` and `recv` work from now on; `nominated` waits for the final path.
        Raises ConnectError with the verdict if there is none; cancelled, the checks go on until `close`.
        """
        self._call(self._core.start_checks)
        return await self._reach(AgentState.CONNECTED, AgentState.COMPLETED)

    async def nominated(self) -> SelectedPath:
        """Wait until the pair of every component is nominated (RFC 8445 s8); returns the path of component 1.

        Raises ConnectError.
        """
        return await self._reach(AgentState.COMPLETED)

    def select(self, local: Candidate, remote: Candidate) -> None:
        """Use a UDP pair without any checks, towards a peer that does not speak ICE; instead of `connect`.

        ``local`` is one of `local_candidates`. Once each component has its pair, the state is COMPLETED. Nothing but
        data is sent to the peer. Raises ValueError for a pair that cannot be used so, RuntimeError when checks have
        begun.
        """
        self._call(self._core.select, local, remote)

    async def restart(self) -> None:
        """Begin a new generation (RFC 8445 s9) and gather for it; data keeps flowing on the old path.

        Send the new `local_parameters` and `local_candidates` to the peer, take its new ones, and await `nominated`.
        """
        addresses, servers = host_addresses(), servers_now(self._policy)
        self._call(lambda now: self._core.restart(now, addresses, servers))

    def selected_path(self, component: int = 1) -> SelectedPath | None:
        """The path that carries the component's data; None if there is none at the moment."""
        self._component(component)
        return self._core.selected_path(component)

    # Data

    async def send(self, data: bytes | bytearray | memoryview, component: int = 1) -> None:
        """Send one message of at most 65507 bytes, after waiting for room if too much waits already.

        It arrives whole or, over UDP, perhaps not at all; an empty one reaches the peer but not its application.
        When another path is selected, messages that still wait for the old one may be lost. Raises NoPathError while
        there is no path, ConnectError after failure; messages accepted before may be lost then.
        """
        try:
            outlet = self._components[component].outlet
        except KeyError:
            raise self._no_component(component) from None
        message = data if type(data) is bytes else bytes(memoryview(data))
        burst = outlet.transmit(message)
        if not burst:
            await outlet.send(message)
        elif burst >= _BURST:
            await asyncio.sleep(0)

    def send_nowait(self, data: bytes | bytearray | memoryview, component: int = 1) -> bool:
        """As `send`, but drop the message and return False if too much waits already."""
        message = data if type(data) is bytes else bytes(memoryview(data))
        return self._component(component).outlet.transmit(message) > 0

    async def recv(self, component: int = 1) -> bytes:
        """Return the next message of the peer; only one `recv` may wait on a component.

        Raises ConnectError after failure and ConnectionClosed after `close`, once all messages that came were taken.
        """
        try:
            inbox = self._components[component].inbox
        except KeyError:
            raise self._no_component(component) from None
        while not inbox.messages:
            message = await inbox.arrival()
            if message is not None:
                return message
        return inbox.take()

    async def open_stream(
        self, component: int = 1, *, limit: int = STREAM_LIMIT
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """`connect`, wait for nomination, and use the component's TCP connection as a byte stream (RFC 6544 s10.1).

        The peer must do the same; then `send` and `recv` must not be used on the component. The stream belongs to
        its connection: if that is lost, the stream ends with an error, though the agent may find another path.
        ``writer.close()`` delivers what was written and then ends the stream in both directions (RFC 4571 has no half
        close); the peer's reader sees all of it, then the end. Await ``writer.wait_closed()`` before `close`.

        ``limit`` is the reader's buffer in bytes. Raises ConnectError, ValueError if the selected path is not TCP.
        """
        self._component(component)
        await self.connect()
        await self.nominated()
        return open_byte_stream(self._driver, component, limit)

    # Observing

    def events(self) -> EventStream:
        """Everything that happens from now on; the iteration ends after the agent is closed.

        A consumer that lags more than 4096 events behind loses the oldest.
        """
        stream = EventStream()
        if self._core.state is AgentState.CLOSED:
            stream.end()
        self._listeners.add(stream)
        return stream

    def server_reports(self) -> tuple[ServerReport, ...]:
        """What became of everything that was asked of servers since gathering began; more come while it goes on."""
        return self._core.server_reports()

    def mapping_behaviours(self) -> dict[tuple[Transport, str], MappingBehaviour]:
        """How NATs map our ports, by transport and address of this host, where servers showed it (RFC 5780 s4.3)."""
        return self._core.mapping_behaviours()

    def stats(self) -> AgentStats:
        """Counters of every pair in the check list and of what was discarded."""
        discarded = sum(map(self._driver.discarded, self._components))
        traffic = (
            TrafficStats(
                Carrier(carrier),
                packets_sent=each.packets_sent,
                packets_received=each.packets_received,
                bytes_sent=each.bytes_sent,
                bytes_received=each.bytes_received,
            )
            for carrier, each in self._driver.carried().items()
        )
        return AgentStats(tuple(self._pair_stats()), discarded, tuple(traffic))

    def _pair_stats(self) -> Iterable[CandidatePairStats]:
        for pair in self._core.pair_statistics():
            traffic = self._driver.traffic(pair.path) if pair.path is not None else None
            yield CandidatePairStats(
                pair=pair.pair,
                component=pair.component,
                generation=pair.generation,
                local=pair.local,
                remote=pair.remote,
                state=pair.state,
                nominated=pair.nominated,
                priority=pair.priority,
                verdict=pair.verdict,
                packets_sent=traffic.packets_sent if traffic else 0,
                packets_received=traffic.packets_received if traffic else 0,
                bytes_sent=traffic.bytes_sent if traffic else 0,
                bytes_received=traffic.bytes_received if traffic else 0,
                requests_sent=pair.requests_sent,
                requests_received=pair.requests_received,
                responses_sent=pair.responses_sent,
                responses_received=pair.responses_received,
                consent_requests_sent=pair.consent_requests_sent,
                current_round_trip_time=pair.current_round_trip_time,
                total_round_trip_time=pair.total_round_trip_time,
            )

    # Inside

    def _call(self, method: Callable[..., T], *args: object) -> T:
        if self._core.state is AgentState.CLOSED:
            raise ConnectionClosed("the agent is closed")
        return self._driver.call(method, *args)

    def _component(self, number: int) -> Component:
        try:
            return self._components[number]
        except KeyError:
            raise self._no_component(number) from None

    def _no_component(self, number: int) -> ValueError:
        return ValueError(f"component {number!r} is not from 1 to {len(self._components)}")

    async def _reach(self, *states: AgentState) -> SelectedPath:
        while True:
            if error := self._error():
                raise error
            path = self._core.selected_path()
            if path is not None and self._core.state in states:
                return path
            await self._changes.wait()

    def _error(self) -> IceError | None:
        """What waiting for anything raises now."""
        match self._core.state:
            case AgentState.CLOSED:
                return ConnectionClosed("the agent is closed")
            case AgentState.FAILED:
                verdict = self._verdict or Verdict.OTHER
                return ConnectError(verdict, verdict.remedy)
        return None

    def _happened(self, event: Event) -> None:
        if self._trace is not None:
            self._trace(time.monotonic(), event)
        match event:
            case LocalCandidateFound(candidate):
                self._gathering.candidates.append(candidate)
                self._gathering.changes.notify()
            case GatheringDone():
                self._gathering.end()
            case Restarted():
                self._gathering.end()
                self._gathering = _Gathering()
            case StateChanged(state, verdict):
                logger.info("the session is %s%s", state, "" if verdict is None else f": {verdict}. {verdict.remedy}")
                self._state_changed(state, verdict)
            case PathSelected(path):
                logger.info("data goes %s %s > %s", path.local.transport, path.local.type, path.remote.type)
        if self._listeners:  # a weak set is slow to walk, even when it is empty
            for listener in self._listeners:
                listener.put(event)
                if isinstance(event, StateChanged) and event.state is AgentState.CLOSED:
                    listener.end()
        self._changes.notify()

    def _state_changed(self, state: AgentState, verdict: Verdict | None) -> None:
        self._verdict = verdict
        if state is AgentState.CLOSED:
            self._gathering.end()
        end = None if self._error() is None else self._raise_later
        for component in self._components.values():
            component.inbox.end(end)
            component.outlet.end(end)

    def _raise_later(self) -> Exception:
        return self._error() or ConnectionClosed("the agent is closed")


class EventStream:
    """An asynchronous iterator over what happens to an agent; see `Agent.events`."""

    __slots__ = ("__weakref__", "_changes", "_ended", "_events")

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_EVENTS_KEPT)
        self._changes = _Changes()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._events:
            if self._ended:
                raise StopAsyncIteration
            await self._changes.wait()
        return self._events.popleft()

    def put(self, event: Event) -> None:
        """For the agent: one more."""
        self._events.append(event)
        self._changes.notify()

    def end(self) -> None:
        """For the agent: that was the last."""
        self._ended = True
        self._changes.notify()


class _Changes:
    """Wakes coroutines that wait for something to change; they look again by themselves."""

    __slots__ = ("_waiters",)

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)

    def notify(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)


class _Gathering:
    """The local candidates of one generation, as far as they are found."""

    __slots__ = ("candidates", "changes", "done")

    def __init__(self) -> None:
        self.candidates: list[Candidate] = []
        self.changes = _Changes()
        self.done = False

    def end(self) -> None:
        self.done = True
        self.changes.notify()
