"""Relaying TCP connections (RFC 6062): a control connection, and one data connection a peer."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum, auto
from typing import Protocol

from candidates.candidate import Transport, TransportAddress
from ice_tcp import stun
from ice_tcp.core.context import Context
from ice_tcp.core.exchanges import Note, ServerDropReason
from ice_tcp.core.outcomes import RETRY_AFTER, Advice, Cause, ServerFailure, ServerVerdict
from ice_tcp.core.timers import Timer
from ice_tcp.core.turn.allocate import Wishes
from ice_tcp.core.turn.allocation import Allocation, AllocationListener, State
from ice_tcp.core.turn.channels import is_channel_data
from ice_tcp.core.turn.credentials import Authentication, Credentials
from ice_tcp.core.turn.link import Link, ServerPath
from ice_tcp.core.turn.requests import Requests
from ice_tcp.framing import FramingError, ServerStreamSplitter
from ice_tcp.stun import DecodeError, Message, MessageClass, Method

RECONNECT_WAIT = RETRY_AFTER[ServerVerdict.CONNECTION_FAILED]
"""Seconds between a 447 and the next Connect to the same peer (RFC 6062 s4.3, MUST)."""

NONCE_TRUSTED = 10.0
"""Seconds for which a nonce that was just accepted is taken for good."""

_NO_TCP_RELAY = frozenset(
    (
        ServerVerdict.TRANSPORT_NOT_SUPPORTED,
        ServerVerdict.BAD_REQUEST,
        ServerVerdict.FORBIDDEN,
        ServerVerdict.UNKNOWN_ATTRIBUTE,
    )
)
"""How servers without TCP relaying, or that have it switched off, refuse: 442 by RFC 8656, others in the field."""


class TcpAllocationListener(AllocationListener, Protocol):
    """Who hears of an allocation that relays TCP. Connection ids are good for thirty seconds (RFC 6062 s5.2, s5.3)."""

    def connected(self, peer: TransportAddress, connection_id: int, now: float) -> None:
        """What `TcpAllocation.connect` began: open a connection to the server, then `TcpAllocation.data_connection`."""
        ...

    def connect_failed(self, peer: TransportAddress, failure: ServerFailure, now: float) -> None:
        """The server did not reach the peer, or would not."""
        ...

    def connection_attempt(self, peer: TransportAddress, connection_id: int, now: float) -> None:
        """A permitted peer connected to the relayed address; to accept, do as for ``connected``, else nothing."""
        ...


class TcpAllocation(Allocation):
    """An allocation whose relayed addresses accept and open TCP connections; its path is the control connection."""

    def __init__(
        self,
        context: Context,
        path: ServerPath,
        listener: TcpAllocationListener,
        *,
        credentials: Credentials | None,
        wishes: Wishes | None = None,
        server: str = "",
        note: Note | None = None,
    ) -> None:
        wishes = wishes or Wishes(transport=Transport.TCP)
        if wishes.transport is not Transport.TCP:
            raise ValueError("a UdpAllocation relays UDP")
        if not path.reliable:
            raise ValueError("a TCP allocation needs a TCP or TLS connection to the server (RFC 6062 s4.1)")
        super().__init__(context, path, listener, credentials=credentials, wishes=wishes, server=server, note=note)
        self._tcp_listener = listener
        self._note = note
        self._connecting: set[TransportAddress] = set()
        self._not_before: dict[TransportAddress, float] = {}
        self._waiting: dict[TransportAddress, Timer] = {}

    def connect(self, peer: TransportAddress, now: float) -> None:
        """Have the server connect to ``peer``; ``connected`` or ``connect_failed`` follows.

        While a Connect to ``peer`` is under way, this asks for nothing new; within ten seconds of a 447, it waits.
        """
        if self._state is not State.ALLOCATED or peer in self._connecting or peer in self._waiting:
            return
        not_before = self._not_before.get(peer, now)
        if not_before > now:
            self._waiting[peer] = self._link.context.timers.set(not_before, lambda at: self._connect(peer, at))
        else:
            self._connect(peer, now)

    def data_connection(self, path: ServerPath, connection_id: int, listener: DataConnectionListener) -> DataConnection:
        """For a new connection from another local port to the address of the control connection (RFC 6062 s4.3)."""
        link = Link(self._link.context, path, self._link.server, self._note)
        return DataConnection(link, self._authentication.copy(), connection_id, listener)

    def _connect(self, peer: TransportAddress, now: float) -> None:
        self._waiting.pop(peer, None)
        if self._allocated is None or self._allocated.relayed_of(peer.family) is None:
            failure = ServerFailure(ServerVerdict.PEER_FAMILY_MISMATCH, f"no relayed address for {peer}")
            self._tcp_listener.connect_failed(peer, failure, now)
            return
        self._connecting.add(peer)
        self._requests.send(
            Method.CONNECT,
            lambda id_: [stun.xor_peer_address(peer.host, peer.port, id_)],
            lambda message, at: self._connect_succeeded(peer, message, at),
            lambda failure, _message, at: self._connect_failed(peer, failure, now, at),
            now,
        )

    def _connect_succeeded(self, peer: TransportAddress, message: Message, now: float) -> None:
        self._connecting.discard(peer)
        try:
            connection_id = message.connection_id
        except DecodeError:
            connection_id = None
        if connection_id is None:
            failure = ServerFailure(ServerVerdict.MALFORMED, "a Connect response without CONNECTION-ID")
            self._tcp_listener.connect_failed(peer, failure, now)
        else:
            self._tcp_listener.connected(peer, connection_id, now)

    def _connect_failed(self, peer: TransportAddress, failure: ServerFailure, asked_at: float, now: float) -> None:
        self._connecting.discard(peer)
        if not self._lives_after(failure, asked_at, now):
            return
        if failure.cause is ServerVerdict.CONNECTION_FAILED:
            self._not_before[peer] = now + RECONNECT_WAIT
        self._tcp_listener.connect_failed(peer, failure, now)

    def _allocate_failed(self, failure: ServerFailure, message: Message | None, now: float) -> None:
        if failure.cause in _NO_TCP_RELAY:
            failure = replace(failure, advice=Advice.UDP_ALLOCATION)
        super()._allocate_failed(failure, message, now)

    def _indication_received(self, message: Message, now: float) -> None:
        if message.method != Method.CONNECTION_ATTEMPT:
            self._link.drop(ServerDropReason.UNEXPECTED_INDICATION, repr(message), now)
            return
        connection_id = message.connection_id
        if connection_id is None:
            raise DecodeError("a ConnectionAttempt without CONNECTION-ID (RFC 6062 s4.4)")
        peer = self._permitted_peer(message, now)
        if peer is None:
            return
        if now - self._requests.confirmed_at <= NONCE_TRUSTED:
            self._tcp_listener.connection_attempt(peer, connection_id, now)
        else:
            self._renew_nonce(peer, connection_id, now)

    def _renew_nonce(self, peer: TransportAddress, connection_id: int, now: float) -> None:
        """Ask for something harmless first: coturn resets a connection whose ConnectionBind has a stale nonce, and
        forgets the peer's, where it should answer 438."""

        def tell(at: float) -> None:
            if self._state is State.ALLOCATED:
                self._tcp_listener.connection_attempt(peer, connection_id, at)

        def failed(failure: ServerFailure, _message: Message | None, at: float) -> None:
            if self._lives_after(failure, now, at):
                tell(at)

        self._requests.send(
            Method.CREATE_PERMISSION,
            lambda id_: [stun.xor_peer_address(peer.host, 0, id_)],
            lambda _message, at: tell(at),
            failed,
            now,
        )

    def _stop(self) -> None:
        super()._stop()
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        self._connecting.clear()


class DataConnectionListener(Protocol):
    """Who hears what becomes of a data connection."""

    def data_connection_bound(self, now: float) -> None:
        """What the connection carries from now on is the peer's, both ways."""
        ...

    def data_connection_failed(self, failure: ServerFailure, now: float) -> None:
        """Close the connection; the server closes the peer's."""
        ...


class _Phase(Enum):
    NEW = auto()
    BINDING = auto()
    BOUND = auto()
    ENDED = auto()


class DataConnection:
    """One connection to the server that becomes one to a peer; `TcpAllocation.data_connection` makes it.

    Call `start` when the connection is open, then hand what it receives to `received`, whose result is the peer's.
    Once it is bound, bytes may bypass it.
    """

    def __init__(
        self, link: Link, authentication: Authentication, connection_id: int, listener: DataConnectionListener
    ) -> None:
        if not link.reliable:
            raise ValueError("a data connection is TCP or TLS (RFC 6062 s5.4)")
        self._link = link
        self._requests = Requests(link, authentication)
        self._connection_id = connection_id
        self._listener = listener
        self._splitter = ServerStreamSplitter()
        self._phase = _Phase.NEW

    @property
    def bound(self) -> bool:
        """Whether the connection is the peer's."""
        return self._phase is _Phase.BOUND

    def start(self, now: float) -> None:
        """Send ConnectionBind; ``data_connection_bound`` or ``data_connection_failed`` follows.

        Raises RuntimeError the second time.
        """
        if self._phase is not _Phase.NEW:
            raise RuntimeError("a connection is bound once; open another one")
        self._phase = _Phase.BINDING
        self._requests.send(
            Method.CONNECTION_BIND,
            lambda _: [stun.connection_id(self._connection_id)],
            lambda _message, at: self._bound(at),
            lambda failure, _message, at: self._end(failure, at),
            now,
        )

    def received(self, chunk: bytes, now: float) -> bytes:
        """The connection gave ``chunk``; returns what of it is the peer's, in order, without loss."""
        if self._phase is not _Phase.BINDING:
            return chunk if self._phase is _Phase.BOUND else b""
        self._splitter.append(chunk)
        try:
            while self._phase is _Phase.BINDING and (message := self._splitter.take()) is not None:
                self._message_received(message, now)
        except FramingError as error:
            self._end(ServerFailure(ServerVerdict.NOT_STUN, str(error)), now)
        return self._splitter.detach() if self.bound else b""

    def cancel(self) -> None:
        """Nobody wants it any more; close the connection, unless it is bound."""
        if self._phase is not _Phase.BOUND:
            self._phase = _Phase.ENDED
            self._requests.clear()

    def path_lost(self, cause: Cause, now: float, text: str = "") -> None:
        """The connection failed or was closed. Once it is bound that is the peer's end, and told to nobody."""
        if self._phase is _Phase.BOUND:
            self._phase = _Phase.ENDED
        else:
            self._end(ServerFailure(cause, text), now)

    def _message_received(self, data: bytes, now: float) -> None:
        if is_channel_data(data):
            self._link.drop(ServerDropReason.UNKNOWN_CHANNEL, "ChannelData on a data connection", now)
            return
        message = self._link.decode(data, now)
        if message is None:
            return
        if message.message_class in (MessageClass.SUCCESS, MessageClass.ERROR):
            self._requests.received(message, now)
        else:
            self._link.drop(ServerDropReason.UNEXPECTED_INDICATION, repr(message), now)

    def _bound(self, now: float) -> None:
        self._phase = _Phase.BOUND
        self._listener.data_connection_bound(now)

    def _end(self, failure: ServerFailure, now: float) -> None:
        if self._phase is not _Phase.ENDED:
            self._phase = _Phase.ENDED
            self._requests.clear()
            self._listener.data_connection_failed(failure, now)
