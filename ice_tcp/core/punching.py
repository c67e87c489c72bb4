"""Simultaneous open by itself, without ICE: one port, one peer, and the connections between them. No I/O.

The attempts are those of `ice_tcp.core.paths`: a listener on the port, redials of refused attempts within a budget,
an accepted connection wins over the attempt, none to oneself.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TypeAlias

from candidates.candidate import TcpType, Transport, TransportAddress
from candidates.policy import Policy
from ice_tcp.core.commands import Close, Command, Failure, Listen, ListenerId, StreamId
from ice_tcp.core.context import Context
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.paths import Base, Connections, Dial, Stream
from ice_tcp.core.trace import RecordSink
from ice_tcp.core.verdicts import Verdict, verdict_of

_ONE_COMPONENT = 1
_ONE_PAIR = 1


@dataclass(frozen=True, slots=True)
class Listening:
    """The port is ours: `Punching.expect` and `Punching.dial` may be called."""

    address: TransportAddress


@dataclass(frozen=True, slots=True)
class NotListening:
    """The port cannot be had."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Connected:
    """A connection with the peer, dialled or accepted; it is the shell's from now on."""

    stream: StreamId
    remote: TransportAddress


@dataclass(frozen=True, slots=True)
class DialEnded:
    """The attempt has spent its budget, and the last cause was this; the port still listens."""

    verdict: Verdict


PunchEvent: TypeAlias = Listening | NotListening | Connected | DialEnded


class Punching:
    """One local port. Call `listen`, then `expect`, and at the agreed moment `dial`.

    After each call, and each input of the network, drain ``commands()`` and ``events()`` and arm ``next_timer()``.
    ``policy`` gives the rules of redialling and their budget, ``timeouts.connect`` its time. With ``any_port`` the
    peer's connections may come from any port of its address: whoever asks for that must authenticate them.
    """

    def __init__(
        self, policy: Policy, *, rng: random.Random, any_port: bool = False, trace: RecordSink | None = None
    ) -> None:
        self._context = Context(policy, rng, Pacer(), trace)
        self._connections = Connections(self._context, self._forget, self._take_no_port)
        self._any_port = any_port
        self._base: Base | None = None
        self._dial: Dial | None = None
        self._peer: TransportAddress | None = None
        self._met = False
        self._news: list[PunchEvent] = []

    # What the application wants

    def listen(self, host: str, port: int, now: float) -> None:  # noqa: ARG002 - as all inputs
        """Take a port of this host; 0 for any. Answered by Listening or NotListening."""
        listener = ListenerId(self._context.issue())
        self._base = Base(listener, _ONE_COMPONENT, host, 0, Transport.TCP, TcpType.SO)
        ports = (port, port) if port else None
        self._context.commands.append(Listen(listener, _ONE_COMPONENT, host, ports))

    def expect(self, peer: TransportAddress, now: float) -> None:
        """Take connections from this peer, those that came before too; all others are closed."""
        self._peer = peer
        for stream in self._connections:
            if self._is_peer(stream.remote):
                self._hand_out(stream, now)
            else:
                self._connections.close(stream, Verdict.SUPERSEDED, now)

    def dial(self, now: float) -> None:
        """Begin to connect to the peer, unless it has connected already."""
        assert self._base is not None and self._peer is not None, "listen and expect come first"
        if not self._met and self._connections.may_dial(self._base, self._peer):
            self._dial = self._connections.dial(_ONE_PAIR, self._base, self._peer, self._opened, self._ended, now)

    def close(self, now: float) -> None:
        """Close the port, and give up what is under way; connections that were handed out live on."""
        if self._dial is not None:
            self._connections.cancel(self._dial)
        for stream in self._connections:
            self._connections.close(stream, Verdict.CLOSED, now)
        if self._base is not None and self._base.listener is not None:
            self._context.commands.append(Close(self._base.listener))

    # What the network did

    def socket_opened(self, _listener: ListenerId, address: TransportAddress, _now: float) -> None:
        assert self._base is not None
        self._base.address = address
        self._news.append(Listening(address))

    def socket_failed(self, _listener: ListenerId, failure: Failure, _now: float) -> None:
        self._news.append(NotListening(verdict_of(failure)))

    def stream_connected(self, stream: StreamId, local: TransportAddress, now: float) -> None:
        self._connections.connected(stream, local, now)

    def stream_accepted(self, remote: TransportAddress, now: float) -> StreamId | None:
        """A connection came to the port; None if it is not the peer's, and to be closed.

        It is kept for a while if it is not known yet who the peer is.
        """
        assert self._base is not None, "nothing comes to a port that is not open"
        if self._peer is not None and not self._is_peer(remote):
            return None
        stream = self._connections.accepted(self._base, remote, now)
        if stream is not None and self._peer is not None and stream.is_watched:  # else it won over our own attempt
            self._hand_out(stream, now)
        return stream.id if stream is not None else None

    def stream_failed(self, stream: StreamId, failure: Failure, now: float) -> None:
        self._connections.ended(stream, failure, now)

    def timer_expired(self, now: float) -> None:
        self._context.timers.expire(now)

    # What comes out

    def commands(self) -> list[Command]:
        commands, self._context.commands = self._context.commands, []
        return commands

    def events(self) -> list[PunchEvent]:
        news, self._news = self._news, []
        return news

    def next_timer(self) -> float | None:
        return self._context.timers.next_at()

    # Inside

    def _is_peer(self, remote: TransportAddress) -> bool:
        peer = self._peer
        return peer is not None and (remote == peer or (self._any_port and remote.host == peer.host))

    def _opened(self, _dial: Dial, stream: Stream, now: float) -> None:
        self._hand_out(stream, now)

    def _hand_out(self, stream: Stream, now: float) -> None:
        self._news.append(Connected(stream.id, stream.remote))
        self._met = self._met or stream.remote == self._peer
        self._connections.ended(stream.id, Failure.CLOSED, now)

    def _ended(self, _dial: Dial, verdict: Verdict, _now: float) -> None:
        self._news.append(DialEnded(verdict))

    def _forget(self, _stream: Stream, _verdict: Verdict, _now: float) -> None:
        """A connection that was handed out is the shell's."""

    def _take_no_port(self, _base: Base, _now: float) -> None:
        """The peer knows this port and no other."""
