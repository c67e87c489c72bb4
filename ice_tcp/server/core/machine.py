"""The server's core: dispatches what the network brings, and keeps the connections of clients."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final

from ice_tcp.server.core.accounts import Accounts
from ice_tcp.server.core.actions import Action, Address, Client, CloseStream, Listener
from ice_tcp.server.core.allocate import Allocate
from ice_tcp.server.core.allocations import Allocation, Allocations
from ice_tcp.server.core.binding import Binding
from ice_tcp.server.core.connections import Connections
from ice_tcp.server.core.context import Context
from ice_tcp.server.core.deadlines import Deadline
from ice_tcp.server.core.relaying import Peers, Relaying
from ice_tcp.server.core.requests import Refusal, Request
from ice_tcp.server.core.trace import DropReason, MessageDropped, StreamRefused, TraceSink
from ice_tcp.server.options import ServerOptions
from ice_tcp.stun import (
    KNOWN,
    AttributeType,
    DecodeError,
    ErrorNumber,
    Message,
    MessageClass,
    Method,
    decode,
    unknown_attributes,
)

_UNDERSTOOD: Final = KNOWN - {
    AttributeType.PRIORITY,
    AttributeType.USE_CANDIDATE,
    AttributeType.SOURCE_ADDRESS,
    AttributeType.CHANGED_ADDRESS,
}
"""The codec knows more than a server does: those belong to ICE and RFC 3489."""


class _Stream:
    """A client's connection."""

    __slots__ = ("client", "deadline", "is_known")

    def __init__(self, client: Client, deadline: Deadline) -> None:
        self.client = client
        self.deadline = deadline
        self.is_known = False


class ServerCore:
    """A STUN and TURN server without I/O.

    After each input execute `actions` in their order, then wait for the next input, or until `next_timer` to call
    `timer_expired`. ``now`` is in seconds on a clock that never goes back; ``wall_clock`` gives Unix time, for
    short-lived credentials. ``can_forbid_fragments`` tells whether the shell can set the DF bit. Inputs about numbers
    that are closed are ignored; bytes of the network never raise.
    """

    def __init__(
        self,
        options: ServerOptions,
        listeners: Sequence[Listener],
        *,
        rng: random.Random,
        wall_clock: Callable[[], float],
        can_forbid_fragments: bool = True,
        trace: TraceSink | None = None,
    ) -> None:
        self._context = Context(options, listeners, rng, can_forbid_fragments, trace)
        self._accounts = Accounts(options, rng, wall_clock)
        self._allocations = Allocations(self._context)
        self._peers = peers = Peers(self._context, self._allocations)
        self._binding = Binding(self._context)
        self._allocate = Allocate(self._context, self._allocations)
        self._relaying = Relaying(self._context, self._allocations, peers)
        self._connections = Connections(self._context, self._allocations, peers)
        self._last_channel_byte = options.last_channel >> 8
        self._streams: dict[int, _Stream] = {}
        self._streams_of: Counter[str] = Counter()
        self._on_allocation: dict[int, Callable[[Request, Allocation], None]] = {
            Method.REFRESH: self._relaying.refresh,
            Method.CREATE_PERMISSION: self._relaying.create_permission,
            Method.CHANNEL_BIND: self._relaying.channel_bind,
            Method.CONNECT: self._connections.connect,
        }

    # Outputs

    def actions(self) -> list[Action]:
        """What to do, since the last call; empty if nothing."""
        actions, self._context.actions = self._context.actions, []
        return actions

    @property
    def allocation_count(self) -> int:
        return len(self._allocations)

    def next_timer(self) -> float | None:
        return self._context.deadlines.next_at()

    # Inputs

    def timer_expired(self, now: float) -> None:
        self._context.now = now
        self._context.deadlines.expire(now)

    def options_changed(self, options: ServerOptions, now: float) -> None:
        """Heed these from now on; of `ice_tcp.server.options.FIXED` nothing may differ.

        Allocations live on, except those of users who are gone; permissions for peers that may not be reached any more
        end, with their channels' routes and connections.
        """
        self._context.now = now
        self._context.options = options
        self._accounts.take(options)
        self._allocations.end_of_strangers(self._accounts.knows)
        self._allocations.revoke(self._peers.permits_host)
        self._connections.close_forbidden()

    def datagram_received(self, listener: int, source: Address, data: bytes, now: float) -> None:
        """A datagram came to a UDP listener; ChannelData of open routes need not be told."""
        self._context.now = now
        client = Client(listener, source)
        if data and 0x40 <= data[0] <= self._last_channel_byte:
            self._relaying.channel_data(client, data)
        else:
            self._message(client, data)

    def stream_accepted(self, listener: int, remote: Address, now: float) -> int | None:
        """A client connected: the number of its stream, or None if it must be closed at once.

        For TLS call this before the handshake, whose time counts.
        """
        context = self._context
        context.now = now
        limits = context.options.limits
        if len(self._streams) >= limits.streams or self._streams_of[remote[0]] >= limits.streams_per_address:
            context.trace(StreamRefused(remote, "too many connections"))
            return None
        id_ = context.issue()
        at = now + context.options.handshake_timeout
        deadline = context.deadlines.set(at, lambda _: self._silent(id_))
        self._streams[id_] = _Stream(Client(listener, remote, id_), deadline)
        self._streams_of[remote[0]] += 1
        return id_

    def stream_received(self, stream: int, message: bytes, now: float) -> None:
        """A message came on a client's connection: STUN, or ChannelData of a route that is not open."""
        self._context.now = now
        state = self._streams.get(stream)
        if state is None:
            return
        if message[0] >= 0x40:
            self._relaying.channel_data(state.client, message)
        elif self._message(state.client, message):
            state.is_known = True
            state.deadline.move(now + self._context.options.idle_timeout)

    def stream_closed(self, stream: int, now: float) -> None:
        """A client's connection is closed, by whomever; so is the peer's that it was spliced with."""
        self._context.now = now
        state = self._streams.get(stream)
        if state is not None:
            self._forget(state)

    def relay_opened(self, relay: int, now: float) -> None:
        self._context.now = now
        self._allocate.relay_opened(relay)

    def relay_failed(self, relay: int, now: float) -> None:
        self._context.now = now
        self._allocate.relay_failed(relay)

    def peer_sent(self, relay: int, peer: Address, data: bytes, now: float) -> None:
        """A datagram came to a UDP relay; those of open routes need not be told."""
        self._context.now = now
        state = self._allocations.relay(relay)
        if state is not None:
            self._relaying.peer_sent(state, peer, data)

    def peer_accepted(self, relay: int, peer: Address, now: float) -> int | None:
        """A peer connected to a TCP relay: the number of the connection, or None if it must be closed at once.

        Do not read from it before `Splice`: the kernel keeps what comes, and slows the peer down.
        """
        self._context.now = now
        state = self._allocations.relay(relay)
        return self._connections.peer_accepted(state, peer) if state is not None else None

    def peer_connected(self, connection: int, now: float) -> None:
        self._context.now = now
        if connection in self._connections:
            self._connections.peer_connected(connection)

    def peer_failed(self, connection: int, why: str, now: float) -> None:
        """What `ConnectPeer` asked for failed; ``why`` is for people."""
        self._context.now = now
        if connection in self._connections:
            self._connections.peer_failed(connection, why)

    # Streams

    def _silent(self, stream: int) -> None:
        """Nothing came for a while: fine if the connection serves an allocation, and looked at again."""
        state, context = self._streams[stream], self._context
        if self._allocations.get(state.client) is not None or self._connections.is_bound(stream):
            at = context.now + context.options.idle_timeout
            state.deadline = context.deadlines.set(at, lambda _: self._silent(stream))
            return
        context.trace(StreamRefused(state.client.address, "idle" if state.is_known else "no STUN message"))
        context.actions.append(CloseStream(stream))

    def _forget(self, state: _Stream) -> None:
        client = state.client
        assert client.stream is not None
        state.deadline.cancel()
        del self._streams[client.stream]
        self._streams_of[client.address[0]] -= 1
        if not self._streams_of[client.address[0]]:
            del self._streams_of[client.address[0]]
        self._allocate.abandon(client)
        self._allocations.end(client, "connection closed")
        self._connections.stream_closed(client)

    # Messages

    def _message(self, client: Client, data: bytes) -> bool:
        """Handle a STUN message; whether it was one."""
        try:
            message = decode(data)
        except DecodeError as error:
            self._drop(client, DropReason.MALFORMED, str(error))
            return False
        if message.message_class is MessageClass.REQUEST:
            self._request(Request(client, self._context.leg(client), message))
        elif message.message_class is not MessageClass.INDICATION:
            self._drop(client, DropReason.NOT_A_REQUEST, "a response")
        elif message.method == Method.SEND:
            self._send(client, message)
        elif message.method != Method.BINDING:  # that one keeps NAT bindings alive (RFC 8489 s6.3.2)
            self._drop(client, DropReason.NOT_A_REQUEST, f"indication of method {message.method}")
        return True

    def _send(self, client: Client, message: Message) -> None:
        if message.not_understood(_UNDERSTOOD):
            self._drop(client, DropReason.MALFORMED, "unknown attributes in a Send indication")
            return
        try:
            self._relaying.send(client, message)
        except DecodeError as error:
            self._drop(client, DropReason.MALFORMED, str(error))

    def _request(self, request: Request) -> None:
        method = request.message.method
        if method == Method.BINDING:
            answer: Callable[[Request], None] = self._bind
        elif method in self._on_allocation or method in (Method.ALLOCATE, Method.CONNECTION_BIND):
            answer = self._turn
        else:
            self._drop(request.client, DropReason.MALFORMED, f"unknown method {method}")
            return
        try:
            answer(request)
        except DecodeError as error:
            self._context.refuse(request, Refusal(ErrorNumber.BAD_REQUEST, str(error)))

    def _bind(self, request: Request) -> None:
        try:
            self._check_attributes(request)
            self._binding.answer(request)
        except Refusal as refusal:
            self._context.refuse(request, refusal)

    def _turn(self, request: Request) -> None:
        client, message = request.client, request.message
        allocation = self._allocations.get(client)
        try:
            if not self._context.options.relays:
                raise Refusal(ErrorNumber.FORBIDDEN, "a STUN server")
            known = allocation.identity if allocation else None
            identity = self._accounts.authenticate(message, client.address, self._context.now, known)
        except Refusal as refusal:
            self._context.refuse(request, refusal)
            return
        request = Request(client, request.leg, message, identity)
        try:
            self._check_attributes(request)
            self._answer(request, allocation)
        except Refusal as refusal:
            self._context.refuse(request, refusal)
        except DecodeError as error:
            self._context.refuse(request, Refusal(ErrorNumber.BAD_REQUEST, str(error)))

    def _answer(self, request: Request, allocation: Allocation | None) -> None:
        """An authenticated TURN request (RFC 8656 s5)."""
        assert request.identity is not None
        method = request.message.method
        if method == Method.ALLOCATE:
            self._allocate.answer(request)
        elif allocation is not None and allocation.identity.username != request.identity.username:
            raise Refusal(ErrorNumber.WRONG_CREDENTIALS, "the allocation is somebody else's")
        elif method == Method.CONNECTION_BIND:
            self._connections.bind(request)
        elif allocation is None:
            raise Refusal(ErrorNumber.ALLOCATION_MISMATCH, "no allocation")
        else:
            self._on_allocation[method](request, allocation)

    def _check_attributes(self, request: Request) -> None:
        unknown = request.message.not_understood(_UNDERSTOOD)
        if unknown:
            raise Refusal(ErrorNumber.UNKNOWN_ATTRIBUTE, attributes=[unknown_attributes(unknown)])

    def _drop(self, client: Client, reason: DropReason, detail: str) -> None:
        self._context.trace(MessageDropped(client, reason, detail))
