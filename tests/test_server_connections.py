"""TCP allocations at the server, without sockets (RFC 6062)."""

from __future__ import annotations

import pytest

from ice_tcp.server.core.actions import ClosePeer, CloseStream, ConnectPeer, Leg, Splice
from ice_tcp.server.core.trace import PeerRefused
from ice_tcp.server.options import Limits
from ice_tcp.stun import (
    AttributeType,
    MessageClass,
    Method,
    channel_number,
    connection_id,
    data,
    decode,
    dont_fragment,
    encode,
    even_port,
    lifetime,
    requested_transport,
    reservation_token,
)
from tests.server_world import OTHER_PEER, PEER, PEER6, SERVER, TCP, UDP, User, World, options, peer


def user_on(world: World, port: int = 5000, leg: Leg = Leg.TCP, name: str = "ann") -> User:
    return User(world, name, {"ann": "apple", "bob": "banana"}[name], address=("198.51.100.1", port), leg=leg)


def connect(world: World, user: User, to: tuple[str, int] = PEER) -> int:
    """Ask for a connection; its number."""
    user.put(Method.CONNECT, peer(to), *user.credentials(), key=user.key)
    (asked,) = world.take()
    assert isinstance(asked, ConnectPeer) and asked.peer == to
    return asked.connection


def connected(world: World, user: User, to: tuple[str, int] = PEER) -> int:
    number = connect(world, user, to)
    world.core.peer_connected(number, world.now)
    world.run()
    (response,) = map(decode, user.received())
    assert response.message_class is MessageClass.SUCCESS and response.connection_id == number
    assert response.verify(user.key)
    return number


@pytest.mark.parametrize("leg", [Leg.TCP, Leg.TLS])
def test_connect_bind_and_close(leg: Leg) -> None:
    world = World()
    control = user_on(world, leg=leg)
    assert control.allocate(protocol=TCP)[0] == SERVER
    number = connected(world, control)
    client = user_on(world, 5001, leg)
    client.succeed(Method.CONNECTION_BIND, connection_id(number))
    assert world.take() == [Splice(client.stream or 0, number)]
    # Once bound, it is bound
    assert user_on(world, 5002, leg).refused(Method.CONNECTION_BIND, connection_id(number)) == 400
    assert control.refused(Method.CONNECT, peer(PEER)) == 446
    world.core.stream_closed(client.stream or 0, world.now)
    world.run()
    assert world.take() == []
    connected(world, control)


def test_bound_connections_may_be_silent() -> None:
    world = World(options(idle_timeout=10))
    control, client = user_on(world), user_on(world, 5001)
    control.allocate(lifetime(3600), protocol=TCP)
    client.succeed(Method.CONNECTION_BIND, connection_id(connected(world, control)))
    world.take()
    world.after(1000)
    assert world.take() == []


@pytest.mark.parametrize("attribute", [dont_fragment(), even_port(False), reservation_token(bytes(8))])
def test_what_only_udp_relays_can_do_is_refused(attribute: tuple[int, bytes]) -> None:
    assert user_on(World()).refused(Method.ALLOCATE, requested_transport(TCP), attribute) == 400


def test_tcp_allocations_have_no_channels_and_no_send() -> None:
    world = World()
    user = user_on(world)
    user.allocate(protocol=TCP)
    user.succeed(Method.CREATE_PERMISSION, peer(PEER))
    assert user.refused(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER)) == 400
    user.send(encode(MessageClass.INDICATION, Method.SEND, bytes(12), [peer(PEER)(bytes(12)), data(b"x")]))
    assert world.drops() == ["no-allocation"] and world.take() == []


def test_connect_needs_a_tcp_allocation_and_a_peer_that_may_be_reached() -> None:
    world = World(options(limits=Limits(connections=1)))
    relaying = user_on(world, 1)
    relaying.allocate()
    assert relaying.refused(Method.CONNECT, peer(PEER)) == 437
    user = user_on(world)
    assert user.refused(Method.CONNECT, peer(PEER)) == 437
    user.allocate(protocol=TCP)
    assert user.refused(Method.CONNECT) == 400
    assert user.refused(Method.CONNECT, (AttributeType.XOR_PEER_ADDRESS, b"")) == 400
    assert user.refused(Method.CONNECT, peer(PEER6)) == 443
    assert user.refused(Method.CONNECT, peer(("127.0.0.1", 22))) == 403
    assert user.refused(Method.CONNECT, peer((SERVER, 3478))) == 403
    assert user.refused(Method.CONNECT, peer((PEER[0], 0))) == 403
    connect(world, user)
    assert user.refused(Method.CONNECT, peer(OTHER_PEER)) == 508


def test_a_connection_that_fails_or_hangs_is_447() -> None:
    world = World()
    user = user_on(world)
    user.allocate(protocol=TCP)
    number = connect(world, user)
    assert user.refused(Method.CONNECT, peer(PEER)) == 446
    world.core.peer_failed(number, "refused", world.now)
    world.run()
    (response,) = map(decode, user.received())
    assert response.error_code is not None and response.error_code.code == 447 and response.verify(user.key)
    number = connect(world, user)
    world.after(29)
    assert world.take() == []
    world.after(2)
    (response,) = map(decode, user.received())
    assert response.error_code is not None and response.error_code.code == 447
    assert world.take() == [ClosePeer(number)]
    world.core.peer_connected(number, world.now)
    assert world.core.actions() == []


def test_a_connection_that_nobody_binds_is_closed() -> None:
    world = World()
    user = user_on(world)
    user.allocate(protocol=TCP)
    number = connect(world, user)
    world.after(20)
    world.core.peer_connected(number, world.now)
    world.run()
    user.received()
    world.after(29)
    assert world.take() == []
    world.after(2)
    assert world.take() == [ClosePeer(number)]
    assert user_on(world, 5001).refused(Method.CONNECTION_BIND, connection_id(number)) == 400


def test_peers_with_a_permission_are_announced() -> None:
    world = World(options(limits=Limits(connections=1)))
    control = user_on(world)
    relay = world.relay_at(control.allocate(protocol=TCP))
    assert world.core.peer_accepted(relay, PEER, world.now) is None
    control.succeed(Method.CREATE_PERMISSION, peer(PEER))
    number = world.core.peer_accepted(relay, PEER, world.now)
    world.run()
    (attempt,) = map(decode, control.received())
    assert (attempt.message_class, attempt.method) == (MessageClass.INDICATION, Method.CONNECTION_ATTEMPT)
    assert (attempt.xor_peer_address, attempt.connection_id) == (PEER, number)
    assert world.core.peer_accepted(relay, (PEER[0], 4001), world.now) is None
    assert control.refused(Method.CONNECT, peer(PEER)) == 446
    assert [record.why for record in world.records if isinstance(record, PeerRefused)] == [
        "no permission",
        "too many connections",
    ]
    client = user_on(world, 5001)
    client.succeed(Method.CONNECTION_BIND, connection_id(number or 0))
    assert world.take() == [Splice(client.stream or 0, number or 0)]


def test_a_connection_is_bound_by_who_made_it_and_on_a_connection_of_its_own() -> None:
    world = World()
    control = user_on(world)
    control.allocate(protocol=TCP)
    number = connected(world, control)
    assert control.refused(Method.CONNECTION_BIND) == 400
    assert control.refused(Method.CONNECTION_BIND, connection_id(number)) == 400
    assert control.refused(Method.CONNECTION_BIND, connection_id(number ^ 1)) == 400
    stranger = user_on(world, 5001, name="bob")
    assert stranger.refused(Method.CONNECTION_BIND, connection_id(number)) == 441
    by_udp = User(world, address=("198.51.100.1", 5002))
    assert by_udp.refused(Method.CONNECTION_BIND, connection_id(number)) == 400
    pending = connect(world, control, OTHER_PEER)
    assert user_on(world, 5003).refused(Method.CONNECTION_BIND, connection_id(pending)) == 400


def test_all_data_connections_end_with_the_allocation() -> None:
    world = World()
    control, client = user_on(world), user_on(world, 5001)
    control.allocate(protocol=TCP)
    bound, pending = connected(world, control), connect(world, control, OTHER_PEER)
    client.succeed(Method.CONNECTION_BIND, connection_id(bound))
    world.take()
    control.succeed(Method.REFRESH, lifetime(0))
    assert world.take() == [ClosePeer(bound), CloseStream(client.stream or 0), ClosePeer(pending)]
    world.core.stream_closed(client.stream or 0, world.now)
    world.core.stream_closed(control.stream or 0, world.now)
    assert world.core.next_timer() is None


def test_a_udp_allocation_over_tcp_is_a_udp_allocation() -> None:
    world = World()
    user = user_on(world)
    user.allocate(protocol=UDP)
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
