"""TCP with peers: Connect, ConnectionAttempt and ConnectionBind (RFC 6062)."""

from __future__ import annotations

from dataclasses import dataclass

from ice_tcp.server.core.actions import Address, Client, ClosePeer, CloseStream, ConnectPeer, RelayTransport, Splice
from ice_tcp.server.core.allocations import Allocation, Allocations, Relay
from ice_tcp.server.core.context import Context, family_of
from ice_tcp.server.core.deadlines import Deadline
from ice_tcp.server.core.relaying import Peers
from ice_tcp.server.core.requests import Refusal, Request
from ice_tcp.server.core.trace import PeerRefused
from ice_tcp.stun import ErrorNumber, Method, connection_id, xor_peer_address

CONNECT_TIMEOUT = 30.0
"""RFC 6062 s5.2: at least."""
BIND_TIMEOUT = 30.0
"""RFC 6062 s5.2, s5.3."""


@dataclass(slots=True)
class _Connection:
    """A peer data connection, from the Connect request or the accept on."""

    id: int
    relay: Relay
    peer: Address
    request: Request | None = None
    """The Connect request, until it is answered."""
    deadline: Deadline | None = None
    stream: int | None = None
    """The client data connection, once bound."""


class Connections:
    """All connections with peers, of all allocations."""

    def __init__(self, context: Context, allocations: Allocations, peers: Peers) -> None:
        self._context = context
        self._allocations = allocations
        self._peers = peers
        self._connections: dict[int, _Connection] = {}
        self._of_relay: dict[int, dict[Address, _Connection]] = {}
        self._of_stream: dict[int, _Connection] = {}
        allocations.on_relay_closed = self._close_all

    # Opening

    def connect(self, request: Request, allocation: Allocation) -> None:
        """Connect to a peer (RFC 6062 s5.2); the response comes later. Raises Refusal or DecodeError."""
        peer = request.message.xor_peer_address
        if allocation.transport is not RelayTransport.TCP:
            raise Refusal(ErrorNumber.ALLOCATION_MISMATCH, "not a TCP allocation")
        if peer is None:
            raise Refusal(ErrorNumber.BAD_REQUEST, "no XOR-PEER-ADDRESS")
        relay = allocation.relays.get(family_of(peer))
        if relay is None:
            raise Refusal(ErrorNumber.PEER_ADDRESS_FAMILY_MISMATCH, f"no relay of the family of {peer[0]}")
        if peer in self._of_relay.get(relay.id, ()):
            raise Refusal(ErrorNumber.CONNECTION_ALREADY_EXISTS, f"{peer}")
        if not peer[1] or not self._peers.permits(peer):
            raise Refusal(ErrorNumber.FORBIDDEN, f"{peer}")
        if not self._has_room(allocation):
            raise Refusal(ErrorNumber.INSUFFICIENT_CAPACITY, "too many connections")
        connection = self._add(relay, peer, CONNECT_TIMEOUT)
        connection.request = request
        self._context.actions.append(ConnectPeer(connection.id, relay.id, peer))

    def peer_accepted(self, relay: Relay, peer: Address) -> int | None:
        """A peer connected to a relay (RFC 6062 s5.3): its number, or None if it must be closed at once."""
        allocation = relay.allocation
        if allocation is None:
            return None
        if peer[0] not in relay.permissions:
            self._context.trace(PeerRefused(allocation.client, peer, "no permission"))
            return None
        if peer in self._of_relay.get(relay.id, ()) or not self._has_room(allocation):
            self._context.trace(PeerRefused(allocation.client, peer, "too many connections"))
            return None
        connection = self._add(relay, peer, BIND_TIMEOUT)
        transaction_id = self._context.transaction_id()
        attributes = [xor_peer_address(*peer, transaction_id), connection_id(connection.id)]
        self._context.indicate(allocation.client, Method.CONNECTION_ATTEMPT, attributes, transaction_id)
        return connection.id

    def peer_connected(self, id_: int) -> None:
        """What `ConnectPeer` asked for is open."""
        connection = self._connections[id_]
        request, connection.request = connection.request, None
        assert request is not None and connection.deadline is not None
        connection.deadline.move(self._context.now + BIND_TIMEOUT)
        self._context.succeed(request, [connection_id(id_)])

    def peer_failed(self, id_: int, why: str) -> None:
        """What `ConnectPeer` asked for could not be opened."""
        connection = self._connections[id_]
        self._remove(connection)
        self._answer_failure(connection, why)

    def __contains__(self, id_: int) -> bool:
        return id_ in self._connections

    # Binding

    def bind(self, request: Request) -> None:
        """Join a client's connection with a peer's (RFC 6062 s5.4). Raises Refusal or DecodeError."""
        stream, id_ = request.client.stream, request.message.connection_id
        if stream is None:
            raise Refusal(ErrorNumber.BAD_REQUEST, "ConnectionBind needs a connection")
        connection = self._connections.get(id_) if id_ is not None else None
        if connection is None or connection.request is not None or connection.stream is not None:
            raise Refusal(ErrorNumber.BAD_REQUEST, "no such connection pending")
        allocation = connection.relay.allocation
        assert allocation is not None and request.identity is not None and connection.deadline is not None
        if allocation.identity.username != request.identity.username:
            raise Refusal(ErrorNumber.WRONG_CREDENTIALS, "the allocation is somebody else's")
        if self._allocations.get(request.client) is not None:
            raise Refusal(ErrorNumber.BAD_REQUEST, "a control connection cannot carry data")
        connection.deadline.cancel()
        connection.stream = stream
        self._of_stream[stream] = connection
        self._context.succeed(request)
        self._context.actions.append(Splice(stream, connection.id))

    def is_bound(self, stream: int) -> bool:
        return stream in self._of_stream

    # Ending

    def stream_closed(self, client: Client) -> None:
        """A client data connection is closed; the shell has closed the peer's."""
        connection = self._of_stream.get(client.stream) if client.stream is not None else None
        if connection is not None:
            self._remove(connection)

    def close_forbidden(self) -> None:
        """Close the connections with peers that may not be reached any more."""
        for connection in list(self._connections.values()):
            if not self._peers.permits_host(connection.peer[0]):
                self._close(connection)
                if connection.request is not None:
                    self._context.refuse(connection.request, Refusal(ErrorNumber.FORBIDDEN, f"{connection.peer}"))

    def _close(self, connection: _Connection) -> None:
        self._remove(connection)
        self._context.actions.append(ClosePeer(connection.id))
        if connection.stream is not None:
            self._context.actions.append(CloseStream(connection.stream))

    def _expired(self, connection: _Connection) -> None:
        self._close(connection)
        if connection.request is not None:
            self._answer_failure(connection, "timed out")

    def _answer_failure(self, connection: _Connection, why: str) -> None:
        assert connection.request is not None
        self._context.refuse(connection.request, Refusal(ErrorNumber.CONNECTION_TIMEOUT_OR_FAILURE, why))

    def _close_all(self, relay: Relay) -> None:
        """The allocation ends, and its data connections with it (RFC 6062 s5.5)."""
        for connection in list(self._of_relay.get(relay.id, {}).values()):
            self._close(connection)

    def _has_room(self, allocation: Allocation) -> bool:
        count = sum(len(self._of_relay.get(relay.id, ())) for relay in allocation.relays.values())
        return count < self._context.options.limits.connections

    def _add(self, relay: Relay, peer: Address, timeout: float) -> _Connection:
        # Who guesses it could take the connection, if only with the same user's password.
        id_ = self._context.rng.getrandbits(32)
        while id_ in self._connections:
            id_ = self._context.rng.getrandbits(32)
        connection = self._connections[id_] = _Connection(id_, relay, peer)
        self._of_relay.setdefault(relay.id, {})[peer] = connection
        at = self._context.now + timeout
        connection.deadline = self._context.deadlines.set(at, lambda _: self._expired(connection))
        return connection

    def _remove(self, connection: _Connection) -> None:
        assert connection.deadline is not None
        connection.deadline.cancel()
        del self._connections[connection.id]
        of_relay = self._of_relay[connection.relay.id]
        del of_relay[connection.peer]
        if not of_relay:
            del self._of_relay[connection.relay.id]
        if connection.stream is not None:
            del self._of_stream[connection.stream]
