"""Local bases, TCP connections, and how a connection comes to be (RFC 6544 s7, RFC 9293 s3.5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol, TypeAlias

from candidates.candidate import TcpType, Transport, TransportAddress
from ice_tcp.core.commands import (
    Close,
    Connect,
    Failure,
    ListenerId,
    Path,
    RelayPath,
    SocketId,
    StreamId,
    TcpPath,
    UdpPath,
)
from ice_tcp.core.context import Context
from ice_tcp.core.timers import Timer
from ice_tcp.core.trace import AcceptWon, DialFailed, DialStarted, FreshPort, StreamEnded, StreamOpened
from ice_tcp.core.verdicts import Verdict, verdict_of

_REDIALLED = (Failure.REFUSED, Failure.RESET)


class Relaying(Protocol):
    """What bases at a TURN server have in common."""

    permitted: set[str]
    """Hosts of peers that the server relays for."""


class DatagramRelay(Relaying, Protocol):
    """Sends a base's datagrams through a TURN server."""

    def path_to(self, peer: TransportAddress) -> RelayPath: ...

    def send(self, peer: TransportAddress, data: bytes, now: float) -> None: ...

    def use(self, peer: TransportAddress, now: float) -> None:
        """Application data will go to ``peer``."""
        ...


class Connector(Relaying, Protocol):
    """Has a TURN server open a base's connections (RFC 6062); tells `Connections` how it went."""

    def connect(self, stream: StreamId, peer: TransportAddress, now: float) -> None: ...

    def abandon(self, stream: StreamId) -> None:
        """The attempt is not wanted any more."""
        ...


class Base:
    """Where candidates come from: a UDP socket, a TCP listener, an address at a relay, or, for active ones, any.

    ``address`` is known once the socket is open; an active base has the discard port (RFC 6544 s4.5). A base at a TURN
    server has its ``relay`` or its ``connector``; ``host`` is its relayed address then.
    """

    __slots__ = (
        "address",
        "component",
        "connector",
        "fresh_ports",
        "handle",
        "host",
        "rank",
        "relay",
        "tcptype",
        "transport",
    )

    def __init__(
        self,
        handle: SocketId | ListenerId | None,
        component: int,
        host: str,
        rank: int,
        transport: Transport,
        tcptype: TcpType | None,
    ) -> None:
        self.handle = handle
        self.component = component
        self.host = host
        self.rank = rank
        self.transport = transport
        self.tcptype = tcptype
        self.address: TransportAddress | None = None
        self.relay: DatagramRelay | None = None
        self.connector: Connector | None = None
        self.fresh_ports = 0

    @property
    def is_relayed(self) -> bool:
        return self.relay is not None or self.connector is not None

    def may_reach(self, host: str) -> bool:
        """Whether what goes to ``host`` is sent on; a relay needs a permission first (RFC 8656 s9)."""
        relaying = self.relay or self.connector
        return relaying is None or host in relaying.permitted

    def path_to(self, remote: TransportAddress) -> Path:
        """Where datagrams to ``remote`` go."""
        return self.relay.path_to(remote) if self.relay is not None else UdpPath(self.socket, remote)

    @property
    def socket(self) -> SocketId:
        assert self.handle is not None and self.transport is Transport.UDP
        return SocketId(self.handle)

    @property
    def listener(self) -> ListenerId | None:
        return ListenerId(self.handle) if self.handle is not None and self.transport is Transport.TCP else None


class Stream:
    """One open TCP connection."""

    __slots__ = ("accepted", "base", "id", "idle_timer", "local", "path", "remote")

    def __init__(self, id_: StreamId, base: Base, remote: TransportAddress, *, accepted: bool) -> None:
        self.id = id_
        self.base = base
        self.remote = remote
        self.path = TcpPath(id_)
        self.accepted = accepted
        self.local: TransportAddress | None = base.address if accepted else None
        self.idle_timer: Timer | None = None

    @property
    def is_watched(self) -> bool:
        """It will be closed if it stays without a pair."""
        return self.idle_timer is not None and self.idle_timer.pending

    def keep(self) -> None:
        """It belongs to a pair."""
        if self.idle_timer is not None:
            self.idle_timer.cancel()


OnOpen: TypeAlias = Callable[["Dial", Stream, float], None]
OnFailed: TypeAlias = Callable[["Dial", Verdict, float], None]


class Dial:
    """The attempt of one pair to get a connection: one socket after another, until its budget ends.

    Either ``on_open`` or ``on_failed`` is called, once, unless it is cancelled.
    """

    __slots__ = (
        "attempts",
        "base",
        "deadline",
        "fast_refusals",
        "on_failed",
        "on_open",
        "pair",
        "remote",
        "stream",
        "syn_at",
        "timer",
        "tokens",
    )

    def __init__(
        self, pair: int, base: Base, remote: TransportAddress, on_open: OnOpen, on_failed: OnFailed, tokens: float
    ) -> None:
        self.pair = pair
        self.base = base
        self.remote = remote
        self.on_open = on_open
        self.on_failed = on_failed
        self.stream: StreamId | None = None
        self.deadline = 0.0
        self.attempts = 0
        self.syn_at = 0.0
        self.tokens = tokens
        self.fast_refusals = 0
        self.timer: Timer | None = None


class Connections:
    """The connections and attempts of one agent.

    Keeps to five outstanding attempts an IP address (RFC 6544 s12), one of them for simultaneous open, so
    that black-holed active attempts cannot starve it.
    """

    __slots__ = ("_by_ends", "_context", "_dials", "_dials_by_stream", "_on_ended", "_on_fresh_port", "_streams")

    def __init__(
        self,
        context: Context,
        on_ended: Callable[[Stream, Verdict, float], None],
        on_fresh_port: Callable[[Base, float], None],
    ) -> None:
        self._context = context
        self._on_ended = on_ended
        self._on_fresh_port = on_fresh_port
        self._streams: dict[StreamId, Stream] = {}
        self._by_ends: dict[tuple[Base, TransportAddress], Stream] = {}
        self._dials: dict[tuple[Base, TransportAddress], Dial] = {}
        self._dials_by_stream: dict[StreamId, Dial] = {}

    def __iter__(self) -> Iterator[Stream]:
        return iter(list(self._streams.values()))

    def find(self, stream: StreamId) -> Stream | None:
        return self._streams.get(stream)

    def between(self, base: Base, remote: TransportAddress) -> Stream | None:
        """The open connection of a 4-tuple: it is used, never doubled (RFC 6544 s7.1, s9.2)."""
        return self._by_ends.get((base, remote))

    def may_dial(self, base: Base, remote: TransportAddress) -> bool:
        """Whether neither this one nor too many others are under way (RFC 6544 s12).

        From a simultaneous-open base, ports of one address beyond the first are what a peer predicts of itself. At most
        one of them answers, and the others have to stay under way for it; they are counted apart.
        """
        if (base, remote) in self._dials:
            return False
        policy = self._context.policy
        limit, predicted = policy.limits.connects_per_ip, policy.simultaneous_open.predict_ports
        outstanding = [dial.base for dial in self._dials.values() if dial.remote.host == remote.host]
        openers = [each for each in outstanding if each.tcptype is TcpType.SO]
        further = min(predicted, len(openers) - len(set(openers)))
        if base.tcptype is TcpType.SO:
            return (base in openers and further < predicted) or len(outstanding) - further < limit
        others = len(outstanding) - len(openers)
        return len(outstanding) - further < limit and others < max(1, limit - 1)

    def dial(
        self, pair: int, base: Base, remote: TransportAddress, on_open: OnOpen, on_failed: OnFailed, now: float
    ) -> Dial:
        """Begin to connect ``base`` to ``remote``; ask ``may_dial`` and ``between`` before."""
        policy = self._context.policy
        dial = Dial(pair, base, remote, on_open, on_failed, float(policy.simultaneous_open.burst))
        dial.deadline = now + policy.timeouts.connect
        self._dials[base, remote] = dial
        if not base.is_relayed:
            self._context.begin_flow(base.host, base.transport, base, remote.port)
        self._connect(dial, now)
        return dial

    def cancel(self, dial: Dial) -> None:
        if self._dials.get((dial.base, dial.remote)) is dial:
            self._retire(dial)
            self._abandon_socket(dial)

    def connected(self, stream_id: StreamId, local: TransportAddress, now: float) -> None:
        dial = self._dials_by_stream.pop(stream_id, None)
        if dial is None:
            return
        dial.stream = None
        stream = Stream(stream_id, dial.base, dial.remote, accepted=False)
        stream.local = local
        self._retire(dial)
        self._opened(stream, now)
        dial.on_open(dial, stream, now)

    def accepted(self, base: Base, remote: TransportAddress, now: float) -> Stream | None:
        """A connection came; None if it is not wanted."""
        if not self.has_room():
            return None
        if (old := self.between(base, remote)) is not None:
            # The system would not have accepted the 4-tuple again had the old connection not died.
            self.close(old, Verdict.SUPERSEDED, now)
            self._on_ended(old, Verdict.SUPERSEDED, now)
        stream = Stream(StreamId(self._context.issue()), base, remote, accepted=True)
        self._opened(stream, now)
        dial = self._dials.get((base, remote))
        if dial is None:
            self.watch(stream, now)
        else:
            self._context.note(now, AcceptWon(dial.pair, stream.id))
            self._retire(dial)
            self._abandon_socket(dial)
            dial.on_open(dial, stream, now)
        return stream

    def watch(self, stream: Stream, now: float) -> None:
        """Close it unless it turns out in time that it belongs to a pair: then call its ``keep``."""

        def expire(at: float) -> None:
            self.close(stream, Verdict.IDLE, at)
            self._on_ended(stream, Verdict.IDLE, at)

        stream.idle_timer = self._context.timers.set(now + self._context.policy.timeouts.idle, expire)

    def ended(self, stream_id: StreamId, failure: Failure, now: float) -> None:
        """The network says that an attempt or a connection is over."""
        dial = self._dials_by_stream.pop(stream_id, None)
        if dial is not None:
            dial.stream = None
            self._failed(dial, failure, now)
            return
        stream = self._streams.get(stream_id)
        if stream is not None:
            self._remove(stream)
            verdict = verdict_of(failure)
            self._context.note(now, StreamEnded(stream_id, verdict))
            self._on_ended(stream, verdict, now)

    def relay_failed(self, stream_id: StreamId, verdict: Verdict, now: float) -> None:
        """A TURN server could not open the connection."""
        dial = self._dials_by_stream.pop(stream_id, None)
        if dial is not None:
            dial.stream = None
            self._context.note(now, DialFailed(dial.pair, Failure.OTHER, None))
            self._retire(dial)
            dial.on_failed(dial, verdict, now)

    def has_room(self) -> bool:
        """Whether one more accepted connection may wait for its first authenticated message."""
        watched = sum(stream.is_watched for stream in self._streams.values())
        return watched < self._context.policy.limits.accepted_streams

    def close(self, stream: Stream, verdict: Verdict, now: float) -> None:
        """Close an open connection ourselves; nobody else is told."""
        self._remove(stream)
        self._context.commands.append(Close(stream.id))
        self._context.note(now, StreamEnded(stream.id, verdict))

    def _opened(self, stream: Stream, now: float) -> None:
        self._streams[stream.id] = stream
        self._by_ends[stream.base, stream.remote] = stream
        self._context.note(now, StreamOpened(stream.id, stream.remote, stream.accepted))

    def _remove(self, stream: Stream) -> None:
        self._streams.pop(stream.id, None)
        if self._by_ends.get((stream.base, stream.remote)) is stream:
            del self._by_ends[stream.base, stream.remote]
        stream.keep()

    def _connect(self, dial: Dial, now: float) -> None:
        dial.attempts += 1
        dial.tokens = self._tokens(dial, now) - 1
        dial.syn_at = now
        dial.stream = StreamId(self._context.issue())
        self._dials_by_stream[dial.stream] = dial
        base = dial.base
        self._context.note(now, DialStarted(dial.pair, dial.stream, dial.remote, dial.attempts, dial.attempts == 1))
        if base.connector is not None:
            base.connector.connect(dial.stream, dial.remote, now)
            return
        self._context.commands.append(
            Connect(dial.stream, base.component, base.host, dial.remote, dial.deadline - now, base.listener)
        )

    def _failed(self, dial: Dial, failure: Failure, now: float) -> None:
        wait = self._redial_after(dial, failure, now)
        self._context.note(now, DialFailed(dial.pair, failure, wait))
        if wait is None:
            self._retire(dial)
            dial.on_failed(dial, verdict_of(failure), now)
        elif wait > 0:
            dial.timer = self._context.timers.set(now + wait, lambda at: self._redial(dial, at))
        else:
            self._connect(dial, now)

    def _redial(self, dial: Dial, now: float) -> None:
        if now >= dial.deadline:
            self._retire(dial)
            dial.on_failed(dial, Verdict.TIMED_OUT, now)
        else:
            self._connect(dial, now)

    def _redial_after(self, dial: Dial, failure: Failure, now: float) -> float | None:
        """Seconds until the next SYN; None if the budget is spent or the failure is final."""
        policy = self._context.policy
        rules = policy.simultaneous_open
        if dial.base.tcptype is not TcpType.SO or dial.attempts > rules.redials:
            return None
        if failure is Failure.ADDRESS_TAKEN:
            # Probably our listener has, or is about to have, this very connection.
            wait = policy.timeouts.accept_wait
        elif failure in _REDIALLED:
            self._count_refusal(dial, now)
            missing = 1 - self._tokens(dial, now)
            # At once finds the peer's hole within an RTT; equal fixed delays of both sides would phase-lock.
            wait = 0.0 if missing <= 0 else missing / rules.rate * self._context.rng.uniform(1.0, 1.5)
        else:
            return None
        return wait if now + wait < dial.deadline else None

    def _count_refusal(self, dial: Dial, now: float) -> None:
        rules = self._context.policy.simultaneous_open
        dial.fast_refusals = dial.fast_refusals + 1 if now - dial.syn_at < rules.fast_refusal else 0
        if dial.fast_refusals >= rules.fresh_port_after and dial.base.fresh_ports < rules.fresh_ports:
            # A NAT that pinned the first sequence number lets no second attempt of this port through.
            dial.base.fresh_ports += 1
            dial.fast_refusals = 0
            self._context.note(now, FreshPort(dial.base.host))
            self._on_fresh_port(dial.base, now)

    def _tokens(self, dial: Dial, now: float) -> float:
        rules = self._context.policy.simultaneous_open
        return min(float(rules.burst), dial.tokens + (now - dial.syn_at) * rules.rate)

    def _retire(self, dial: Dial) -> None:
        self._dials.pop((dial.base, dial.remote), None)
        if dial.timer is not None:
            dial.timer.cancel()

    def _abandon_socket(self, dial: Dial) -> None:
        if dial.stream is not None:
            self._dials_by_stream.pop(dial.stream, None)
            if dial.base.connector is not None:
                dial.base.connector.abandon(dial.stream)
            else:
                self._context.commands.append(Close(dial.stream))
            dial.stream = None
