"""The embedded server's core with a network around it, in virtual time.

A ``Net`` executes the server's actions: its clients' legs are `DatagramLeg` and `StreamLeg`, its UDP peers echo, and
TCP peers in ``accepting`` accept and echo, after a greeting.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from ice_tcp.framing import ServerStreamSplitter
from ice_tcp.server.core.actions import (
    Action,
    Address,
    ClosePeer,
    CloseRelay,
    CloseRoute,
    CloseStream,
    ConnectPeer,
    Leg,
    Listener,
    OpenRelay,
    OpenRoute,
    SendDatagram,
    SendPeer,
    SendStream,
    Splice,
)
from ice_tcp.server.core.machine import ServerCore
from ice_tcp.server.core.trace import Record
from ice_tcp.server.options import ServerOptions
from tests.core_turn.script import Clock

DELAY = 0.01
HOST = "203.0.113.1"
HOST6 = "2001:db8:203::1"
GREETING = b"welcome "
WALL = 1_700_000_000.0
"""Unix time when the clock is at 0."""

Deliver = Callable[[bytes, float], None]


def no_one(_data: bytes, _now: float) -> None:
    """Nobody listens yet."""


class DatagramLeg:
    """A client's UDP socket."""

    reliable = False

    def __init__(self, net: Net, address: Address) -> None:
        self.deliver: Deliver = no_one
        self.address = address
        self._net = net
        net.datagram_legs[address] = self

    def send(self, data: bytes) -> None:
        self._net.later(lambda now: self._net.core.datagram_received(0, self.address, data, now))


class StreamLeg:
    """A client's TCP connection. What it gives and takes once it is a data connection is the peer's."""

    reliable = True

    def __init__(self, net: Net, address: Address) -> None:
        self.deliver: Deliver = no_one
        self.closed = False
        self._net = net
        self._splitter = ServerStreamSplitter()
        self.peer: Callable[[bytes], None] | None = None
        id_ = net.core.stream_accepted(1, address, net.clock.now)
        assert id_ is not None
        self.id = id_
        net.stream_legs[id_] = self

    def send(self, data: bytes) -> None:
        self._net.later(lambda now: self._arrived(data, now))

    def close(self) -> None:
        self.closed = True
        self._net.later(lambda now: self._net.core.stream_closed(self.id, now))

    def splice(self, peer: Callable[[bytes], None]) -> None:
        self.peer = peer
        if rest := self._splitter.detach():
            peer(rest)

    def _arrived(self, data: bytes, now: float) -> None:
        if self.peer is not None:
            self.peer(data)
            return
        self._splitter.append(data)
        while self.peer is None and (message := self._splitter.take()) is not None:
            self._net.core.stream_received(self.id, message, now)
            self._net.execute()


class Net:
    """The server, and all that it talks with."""

    def __init__(self, options: ServerOptions, *, seed: int = 3) -> None:
        self.clock = Clock()
        self.records: list[Record] = []
        self.datagram_legs: dict[Address, DatagramLeg] = {}
        self.stream_legs: dict[int, StreamLeg] = {}
        self.relays: dict[Address, int] = {}
        self.accepting: set[Address] = set()
        self._peer_of: dict[int, Address] = {}
        listeners = [Listener(Leg.UDP, (HOST, 3478)), Listener(Leg.TCP, (HOST, 3478))]
        self.core = ServerCore(
            options,
            listeners,
            rng=Random(seed),
            wall_clock=lambda: WALL + self.clock.now,
            trace=lambda _now, record: self.records.append(record),
        )
        self._armed: float | None = None

    def later(self, act: Callable[[float], None]) -> None:
        def run(now: float) -> None:
            act(now)
            self.execute()

        self.clock.context.timers.set(self.clock.now + DELAY, run)

    def peer_connects(self, peer: Address, relay: Address) -> bool:
        """Whether the relay takes the connection; what the peer says waits for the client."""
        connection = self.core.peer_accepted(self.relays[relay], peer, self.clock.now)
        if connection is not None:
            self._peer_of[connection] = peer
        self.execute()
        return connection is not None

    def execute(self) -> None:
        while actions := self.core.actions():
            for action in actions:
                self._execute(action)
        at = self.core.next_timer()
        if at is not None and at != self._armed:
            self._armed = at
            self.clock.context.timers.set(at, self._expire)

    def _expire(self, now: float) -> None:
        self._armed = None
        self.core.timer_expired(now)
        self.execute()

    def _execute(self, action: Action) -> None:
        now = self.clock.now
        match action:
            case SendDatagram(_, remote, data):
                leg = self.datagram_legs[remote]
                self.later(lambda at: leg.deliver(data, at))
            case SendStream(stream, data):
                connection = self.stream_legs[stream]
                self.later(lambda at: connection.deliver(data, at))
            case CloseStream(stream):
                self.stream_legs[stream].closed = True
                self.core.stream_closed(stream, now)
            case OpenRelay(relay, _, address):
                self.relays[address] = relay
                self.core.relay_opened(relay, now)
            case SendPeer(relay, peer, data):
                self.later(lambda at: self.core.peer_sent(relay, peer, data, at))
            case ConnectPeer(connection, _, peer):
                self._peer_of[connection] = peer
                if peer in self.accepting:
                    self.core.peer_connected(connection, now)
                else:
                    self.core.peer_failed(connection, "refused", now)
            case Splice(stream, _):
                self._splice(self.stream_legs[stream])
            case CloseRelay() | OpenRoute() | CloseRoute() | ClosePeer():
                pass

    def _splice(self, leg: StreamLeg) -> None:
        """The peer spoke first, so that its bytes come in the chunk of the ConnectionBind response."""
        deliver = leg.deliver

        def joined(data: bytes, now: float) -> None:
            leg.deliver = deliver
            deliver(data + GREETING, now)

        leg.deliver = joined
        leg.splice(lambda data: self.later(lambda now: leg.deliver(data, now)))
