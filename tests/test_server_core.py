"""TURN at the server, without sockets: allocations, permissions, channels, data (RFC 8656)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from ice_tcp.server.core.actions import (
    CloseRoute,
    CloseStream,
    Leg,
    OpenRelay,
    OpenRoute,
    SendDatagram,
    SendPeer,
    SendStream,
)
from ice_tcp.server.core.trace import AllocationEnded, StreamRefused
from ice_tcp.server.options import Limits
from ice_tcp.stun import (
    AttributeType,
    MessageClass,
    Method,
    additional_address_family,
    channel_number,
    data,
    decode,
    dont_fragment,
    encode,
    even_port,
    lifetime,
    requested_address_family,
    requested_transport,
    reservation_token,
)
from tests.server_world import OTHER_PEER, PEER, PEER6, SERVER, SERVER6, TCP, UDP, User, World, options, peer

SERVER_ROOM = Path(__file__).parent.parent / "ice_tcp" / "server" / "core"


def test_the_core_does_no_io() -> None:
    forbidden = {"asyncio", "socket", "ssl", "time", "secrets", "os", "logging", "threading", "select"}
    for source in SERVER_ROOM.glob("*.py"):
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not forbidden & {name.partition(".")[0] for name in names}, source
            assert not any(name.startswith("ice_tcp.net") for name in names), source


# Allocate


def test_an_allocation_has_a_port_of_the_range_and_the_default_lifetime() -> None:
    world = World(options(relay_ports=(50000, 50009)))
    user = User(world)
    response = user.succeed(Method.ALLOCATE, requested_transport(UDP))
    assert response.xor_relayed_address is not None
    host, port = response.xor_relayed_address
    assert host == SERVER and 50000 <= port <= 50009
    assert response.lifetime == 600
    assert response.xor_mapped_address == user.address
    assert response.software == "ice-tcp"
    assert list(world.relays.values()) == [(host, port)]


@pytest.mark.parametrize(("wished", "given"), [(0, 600), (1, 600), (900, 900), (3600, 3600), (10**9, 3600)])
def test_lifetime_is_the_wish_within_default_and_maximum(wished: int, given: int) -> None:
    user = User(World())
    assert user.succeed(Method.ALLOCATE, requested_transport(UDP), lifetime(wished)).lifetime == given
    assert user.succeed(Method.REFRESH, lifetime(wished)).lifetime == (given if wished else 0)


def test_a_retransmitted_allocate_is_answered_as_the_first_one() -> None:
    world = World()
    user = User(world)
    user.credentials()
    id_ = b"retransmit-1"
    first = user.request(Method.ALLOCATE, requested_transport(UDP), even_port(True), transaction_id=id_)
    again = user.request(Method.ALLOCATE, requested_transport(UDP), even_port(True), transaction_id=id_)
    assert again.xor_relayed_address == first.xor_relayed_address
    assert again.reservation_token == first.reservation_token is not None
    assert len(world.relays) == 2


def test_an_allocate_retransmitted_while_the_relay_is_being_opened_is_dropped() -> None:
    world = World()
    world.answers_at_once = False
    user = User(world)
    credentials = user.credentials()
    for _ in range(2):
        user.put(Method.ALLOCATE, requested_transport(UDP), *credentials, key=user.key, transaction_id=b"retransmit-2")
    assert user.received() == []
    (asked,) = (action for action in world.actions if isinstance(action, OpenRelay))
    world.answer(asked)
    world.run()
    assert len(user.received()) == 1
    assert world.drops() == ["pending"]


def test_a_second_allocate_on_the_5_tuple_is_a_mismatch() -> None:
    user = User(World())
    user.allocate()
    assert user.refused(Method.ALLOCATE, requested_transport(UDP)) == 437


@pytest.mark.parametrize(
    ("attributes", "code"),
    [
        ([], 400),
        ([(AttributeType.REQUESTED_TRANSPORT, b"\x11")], 400),
        ([requested_transport(132)], 442),
        ([requested_transport(TCP)], 400),  # over UDP
        ([requested_transport(UDP), reservation_token(bytes(8)), even_port(False)], 400),
        ([requested_transport(UDP), reservation_token(bytes(8)), requested_address_family(4)], 400),
        ([requested_transport(UDP), reservation_token(bytes(8)), additional_address_family(6)], 400),
        ([requested_transport(UDP), requested_address_family(4), additional_address_family(6)], 400),
        ([requested_transport(UDP), additional_address_family(4)], 400),
        ([requested_transport(UDP), additional_address_family(6), even_port(True)], 400),
        ([requested_transport(UDP), reservation_token(bytes(8))], 508),
        ([requested_transport(UDP), (AttributeType.REQUESTED_ADDRESS_FAMILY, b"\3\0\0\0")], 400),
        ([requested_transport(UDP), (AttributeType.LIFETIME, b"\0")], 400),
        ([requested_transport(UDP), (0x7FFF, b"")], 420),
    ],
)
def test_allocate_requests_that_are_refused(attributes: list[tuple[int, bytes]], code: int) -> None:
    world = World()
    assert User(world).refused(Method.ALLOCATE, *attributes) == code
    assert not world.relays


def test_unknown_attributes_are_listed() -> None:
    response = User(World()).request(Method.ALLOCATE, requested_transport(UDP), (0x7FFE, b""), (0x7FFF, b""))
    assert response.unknown_attributes == (0x7FFE, 0x7FFF)


def test_dont_fragment_is_unknown_where_it_cannot_be_done() -> None:
    user = User(World(can_forbid_fragments=False))
    response = user.request(Method.ALLOCATE, requested_transport(UDP), dont_fragment())
    assert response.error_code is not None and response.error_code.code == 420
    assert response.unknown_attributes == (AttributeType.DONT_FRAGMENT,)
    assert User(World()).allocate(dont_fragment())


def test_relays_that_policy_forbids() -> None:
    assert User(World(options(udp_relay=False))).refused(Method.ALLOCATE, requested_transport(UDP)) == 403
    world = World(options(tcp_relay=False))
    assert User(world, leg=Leg.TCP).refused(Method.ALLOCATE, requested_transport(TCP)) == 442


def test_a_stun_server_relays_for_nobody() -> None:
    response = User(World(options(users={}))).ask(Method.ALLOCATE, requested_transport(UDP))
    assert response.error_code is not None and response.error_code.code == 403


def test_a_client_may_ask_for_ipv6() -> None:
    world = World()
    user = User(world)
    assert user.allocate(requested_address_family(6))[0] == SERVER6
    assert user.refused(Method.CREATE_PERMISSION, peer(PEER)) == 443
    assert user.refused(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER)) == 443
    assert user.refused(Method.REFRESH, requested_address_family(4)) == 443
    user.succeed(Method.CREATE_PERMISSION, peer(PEER6))


def test_a_family_that_the_server_lacks() -> None:
    only_ipv4 = World(options(relay_hosts=(SERVER,)))
    assert User(only_ipv4).refused(Method.ALLOCATE, requested_transport(UDP), requested_address_family(6)) == 440
    only_ipv6 = World(options(relay_hosts=(SERVER6,)))
    assert User(only_ipv6).refused(Method.ALLOCATE, requested_transport(UDP)) == 440


def test_a_dual_allocation_has_both_families_apart() -> None:
    world = World()
    user = User(world)
    response = user.succeed(Method.ALLOCATE, requested_transport(UDP), additional_address_family(6))
    relayed = response.xor_addresses(AttributeType.XOR_RELAYED_ADDRESS)
    assert [host for host, _ in relayed] == [SERVER, SERVER6]
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4001), peer(PEER6))
    assert user.refused(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER6)) == 400
    world.take()
    user.succeed(Method.REFRESH, requested_address_family(6), lifetime(0))
    assert [action.number for action in world.take() if isinstance(action, CloseRoute)] == [0x4001]
    assert user.refused(Method.REFRESH, requested_address_family(6)) == 443
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    user.succeed(Method.REFRESH, lifetime(0))
    assert not world.relays


@pytest.mark.parametrize(("broken", "code"), [(None, 440), ("2001:db8::1", 508)])
def test_half_of_a_dual_allocation_comes_with_the_reason_for_the_rest(broken: str | None, code: int) -> None:
    world = World(options(relay_hosts=(SERVER,)) if broken is None else options())
    world.taken = lambda address: address[0] == broken
    response = User(world).succeed(Method.ALLOCATE, requested_transport(UDP), additional_address_family(6))
    assert response.xor_addresses(AttributeType.XOR_RELAYED_ADDRESS) == tuple(world.relays.values())
    assert response.address_error_code is not None
    assert response.address_error_code[:2] == (6, code)


def test_a_taken_port_costs_another_try_and_a_full_host_the_allocation() -> None:
    world = World()
    tried: list[tuple[str, int]] = []

    def taken(address: tuple[str, int]) -> bool:
        tried.append(address)
        return len(tried) < 5

    world.taken = taken
    assert User(world).allocate() == tried[4]
    world.taken = lambda _: True
    user = User(world, address=("198.51.100.2", 5000))
    assert user.refused(Method.ALLOCATE, requested_transport(UDP)) == 508
    assert len(world.relays) == 1


def test_even_ports_and_the_reserved_one_after() -> None:
    world = World()
    assert User(world).allocate(even_port(False))[1] % 2 == 0
    first = User(world, address=("198.51.100.1", 5002))
    response = first.succeed(Method.ALLOCATE, requested_transport(UDP), even_port(True))
    assert response.xor_relayed_address is not None and response.reservation_token is not None
    host, port = response.xor_relayed_address
    assert port % 2 == 0
    # Another user, another transport: whoever has the token
    other = User(world, "bob", "banana", leg=Leg.TLS)
    assert other.allocate(reservation_token(response.reservation_token)) == (host, port + 1)
    late = User(world, address=("198.51.100.1", 5004))
    token = reservation_token(response.reservation_token)
    assert late.refused(Method.ALLOCATE, requested_transport(UDP), token) == 508


def test_a_reservation_ends_when_nobody_claims_it() -> None:
    world = World()
    user = User(world)
    token = user.succeed(Method.ALLOCATE, requested_transport(UDP), even_port(True)).reservation_token
    assert token is not None and len(world.relays) == 2
    world.after(31)
    assert len(world.relays) == 2  # RFC 8656 s7.2: at least 30 seconds
    world.after(60)
    assert len(world.relays) == 1
    late = User(world, address=("198.51.100.1", 5001))
    assert late.refused(Method.ALLOCATE, requested_transport(UDP), reservation_token(token)) == 508


def test_when_the_upper_port_is_taken_another_pair_is_tried() -> None:
    world = World()
    refused: list[int] = []

    def taken(address: tuple[str, int]) -> bool:
        if address[1] % 2 and len(refused) < 3:
            refused.append(address[1])
            return True
        return False

    world.taken = taken
    relayed = User(world).allocate(even_port(True))
    assert sorted(world.relays.values()) == [relayed, (relayed[0], relayed[1] + 1)]
    assert len(refused) == 3


def test_quota_of_a_user_counts_reservations_and_frees_what_ends() -> None:
    world = World(options(limits=Limits(allocations_per_user=3)))
    first, second, third = (User(world, address=("198.51.100.1", port)) for port in (1, 2, 3))
    first.allocate(even_port(True))
    second.allocate()
    assert third.refused(Method.ALLOCATE, requested_transport(UDP)) == 486
    User(world, "bob", "banana", address=("198.51.100.1", 4)).allocate()
    second.succeed(Method.REFRESH, lifetime(0))
    third.allocate()
    assert second.refused(Method.ALLOCATE, requested_transport(UDP)) == 486


def test_a_claimed_reservation_counts_for_who_claims_it() -> None:
    world = World(options(limits=Limits(allocations_per_user=2)))
    ann = User(world)
    token = ann.succeed(Method.ALLOCATE, requested_transport(UDP), even_port(True)).reservation_token
    assert token is not None
    User(world, address=("198.51.100.1", 1)).allocate(reservation_token(token))  # her own: no third one
    world = World(options(limits=Limits(allocations_per_user=2)))
    token = User(world).succeed(Method.ALLOCATE, requested_transport(UDP), even_port(True)).reservation_token
    assert token is not None
    for port in (1, 2):
        User(world, "bob", "banana", address=("198.51.100.9", port)).allocate()
    bob = User(world, "bob", "banana", address=("198.51.100.9", 3))
    assert bob.refused(Method.ALLOCATE, requested_transport(UDP), reservation_token(token)) == 486


def test_the_whole_server_is_full() -> None:
    world = World(options(limits=Limits(allocations=1)))
    User(world).allocate()
    bob = User(world, "bob", "banana", address=("198.51.100.2", 1))
    assert bob.refused(Method.ALLOCATE, requested_transport(UDP)) == 508


def test_clients_are_sent_to_other_servers_of_their_family_in_turn() -> None:
    servers = (("192.0.2.77", 3478), ("192.0.2.78", 3478), ("2001:db8::77", 3478))
    world = World(options(alternate_servers=servers, redirect_from=1, alternate_domain="other.example"))
    User(world).allocate()
    users = [User(world, address=("198.51.100.2", port), leg=leg) for port, leg in ((1, Leg.UDP), (2, Leg.TLS))]
    responses = [user.request(Method.ALLOCATE, requested_transport(UDP)) for user in users]
    assert [response.error_code.code for response in responses if response.error_code] == [300, 300]
    assert [response.alternate_server for response in responses] == [servers[0], servers[1]]
    assert [response.alternate_domain for response in responses] == [None, "other.example"]


def test_an_allocation_expires_and_says_so() -> None:
    world = World()
    user = User(world)
    relayed = user.allocate()
    world.after(500)
    user.succeed(Method.REFRESH)
    world.after(599)
    assert world.relays
    world.after(2)
    assert not world.relays
    assert world.records[-1] == AllocationEnded(
        world.records[-1].client,  # type: ignore[union-attr]
        relayed,
        "expired",
    )
    assert user.refused(Method.REFRESH) == 437


def test_without_an_allocation_there_is_nothing_to_do() -> None:
    world = World()
    user = User(world)
    for method in (Method.REFRESH, Method.CREATE_PERMISSION, Method.CHANNEL_BIND, Method.CONNECT):
        assert user.refused(method) == 437
    user.send(b"\x40\0\0\0")
    user.send(encode(MessageClass.INDICATION, Method.SEND, bytes(12), [peer(PEER)(bytes(12)), data(b"x")]))
    assert world.drops() == ["no-channel", "no-allocation"]
    assert not any(isinstance(action, SendPeer) for action in world.take())


def test_an_allocation_is_its_makers() -> None:
    world = World()
    User(world).allocate()
    bob = User(world, "bob", "banana")
    assert bob.refused(Method.REFRESH, lifetime(0)) == 441
    assert bob.refused(Method.ALLOCATE, requested_transport(UDP)) == 437
    assert world.relays


# Permissions


def send(to: tuple[str, int], payload: bytes, *more: tuple[int, bytes]) -> bytes:
    return encode(MessageClass.INDICATION, Method.SEND, bytes(12), [peer(to)(bytes(12)), data(payload), *more])


def test_permission_lets_data_pass_both_ways_for_five_minutes() -> None:
    world = World()
    user = User(world)
    relay = world.relay_at(user.allocate())
    user.send(send(PEER, b"early"))
    assert world.drops() == ["no-permission"]
    user.succeed(Method.CREATE_PERMISSION, peer((PEER[0], 0)), peer(OTHER_PEER))
    user.send(send(PEER, b"hello"))
    user.send(send(OTHER_PEER, b"", dont_fragment()))
    assert [action for action in world.take() if isinstance(action, SendPeer)] == [
        SendPeer(relay, PEER, b"hello"),
        SendPeer(relay, OTHER_PEER, b"", True),
    ]
    world.after(299)
    world.core.peer_sent(relay, (PEER[0], 9), b"from another port", world.now)
    world.run()
    (received,) = map(decode, user.received())
    assert (received.message_class, received.method) == (MessageClass.INDICATION, Method.DATA)
    assert (received.xor_peer_address, received.data) == ((PEER[0], 9), b"from another port")
    world.after(2)
    user.send(send(PEER, b"late"))
    world.core.peer_sent(relay, PEER, b"late", world.now)
    world.run()
    assert user.received() == [] and world.take() == []
    assert world.drops() == ["no-permission", "no-permission"]


def test_create_permission_takes_all_or_nothing() -> None:
    world = World(options(limits=Limits(permissions=2)))
    user = User(world)
    relay = world.relay_at(user.allocate())
    assert user.refused(Method.CREATE_PERMISSION) == 400
    assert user.refused(Method.CREATE_PERMISSION, (AttributeType.XOR_PEER_ADDRESS, b"\0\1\0")) == 400
    assert user.refused(Method.CREATE_PERMISSION, peer(PEER), peer(PEER6)) == 443
    assert user.refused(Method.CREATE_PERMISSION, peer(PEER), peer(("127.0.0.1", 1))) == 403
    three = [peer((f"203.0.113.{i}", 1)) for i in (1, 2, 3)]
    assert user.refused(Method.CREATE_PERMISSION, *three) == 508
    world.core.peer_sent(relay, PEER, b"x", world.now)
    assert world.drops() == ["no-permission"]
    user.succeed(Method.CREATE_PERMISSION, *three[:2])
    user.succeed(Method.CREATE_PERMISSION, *three[:2])
    assert user.refused(Method.CREATE_PERMISSION, three[2]) == 508


def test_malformed_send_indications_are_dropped() -> None:
    world = World()
    user = User(world)
    user.allocate()
    user.succeed(Method.CREATE_PERMISSION, peer(PEER))
    world.take()
    for attributes in ([data(b"x")], [peer(PEER)(bytes(12))], [(AttributeType.XOR_PEER_ADDRESS, b"?"), data(b"x")]):
        user.send(encode(MessageClass.INDICATION, Method.SEND, bytes(12), attributes))
    user.send(send(PEER, b"x", (0x7FFF, b"")))
    assert world.drops() == ["malformed"] * 4
    assert world.take() == []


def test_dont_fragment_in_send_is_dropped_where_it_cannot_be_done() -> None:
    world = World(can_forbid_fragments=False)
    user = User(world)
    user.allocate()
    user.succeed(Method.CREATE_PERMISSION, peer(PEER))
    user.send(send(PEER, b"x", dont_fragment()))
    assert world.drops() == ["malformed"]


# Channels


def channel_data(number: int, payload: bytes) -> bytes:
    return number.to_bytes(2, "big") + len(payload).to_bytes(2, "big") + payload


def test_a_channel_carries_data_both_ways() -> None:
    world = World()
    user = User(world)
    relay = world.relay_at(user.allocate())
    world.take()
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    (route,) = world.take()
    assert isinstance(route, OpenRoute) and (route.number, route.relay, route.peer) == (0x4000, relay, PEER)
    user.send(channel_data(0x4000, b"hello") + b"padding is allowed")
    assert world.take() == [SendPeer(relay, PEER, b"hello")]
    world.core.peer_sent(relay, PEER, b"world", world.now)
    world.core.peer_sent(relay, (PEER[0], 9), b"no channel for this port", world.now)
    world.run()
    to_client, indication = user.received()
    assert to_client == channel_data(0x4000, b"world")
    assert decode(indication).data == b"no channel for this port"


def test_channel_data_on_a_connection_is_padded() -> None:
    world = World()
    user = User(world, leg=Leg.TCP)
    relay = world.relay_at(user.allocate())
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    world.take()
    world.core.peer_sent(relay, PEER, b"world", world.now)
    world.run()
    assert user.stream is not None
    assert world.take() == [SendStream(user.stream, channel_data(0x4000, b"world") + bytes(3), relayed=True)]


@pytest.mark.parametrize(
    "attributes",
    [
        [channel_number(0x4000)],
        [peer(PEER)],
        [channel_number(0x3FFF), peer(PEER)],
        [channel_number(0x5000), peer(PEER)],
        [channel_number(0x4001), peer(PEER)],  # the peer has another channel
        [channel_number(0x4000), peer(OTHER_PEER)],  # the channel has another peer
    ],
)
def test_channel_binds_that_are_bad_requests(attributes: list[tuple[int, bytes]]) -> None:
    user = User(World())
    user.allocate()
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    assert user.refused(Method.CHANNEL_BIND, *attributes) == 400


def test_channels_of_rfc_5766_are_an_option() -> None:
    user = User(World(options(legacy_channels=True)))
    user.allocate()
    user.succeed(Method.CHANNEL_BIND, channel_number(0x7FFE), peer(PEER))
    assert user.refused(Method.CHANNEL_BIND, channel_number(0x7FFF), peer(OTHER_PEER)) == 400
    user.world.take()
    user.send(channel_data(0x7FFE, b"old"))
    assert [action.data for action in user.world.take() if isinstance(action, SendPeer)] == [b"old"]


def test_a_forbidden_peer_gets_no_channel_and_too_many_are_refused() -> None:
    user = User(World(options(limits=Limits(channels=1))))
    user.allocate()
    assert user.refused(Method.CHANNEL_BIND, channel_number(0x4000), peer(("10.0.0.1", 1))) == 403
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    assert user.refused(Method.CHANNEL_BIND, channel_number(0x4001), peer(OTHER_PEER)) == 508


def test_the_route_follows_the_permission_and_the_channel_lasts_ten_minutes() -> None:
    world = World()
    user = User(world)
    user.allocate(lifetime(3600))
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    world.take()
    world.after(301)
    (closed,) = world.take()
    assert isinstance(closed, CloseRoute)
    user.send(channel_data(0x4000, b"no permission"))
    assert world.drops() == ["no-permission"]
    user.succeed(Method.CREATE_PERMISSION, peer(PEER))
    (opened,) = world.take()
    assert isinstance(opened, OpenRoute)
    world.after(298)
    assert world.take() == []
    world.after(2)  # ten minutes: the channel, not the permission
    (closed,) = world.take()
    assert isinstance(closed, CloseRoute)
    user.send(channel_data(0x4000, b"no channel"))
    assert world.drops() == ["no-channel"]
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4001), peer(PEER))


def test_data_refreshes_neither_channel_nor_permission() -> None:
    world = World()
    user = User(world)
    user.allocate()
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    for _ in range(4):
        world.after(100)
        user.send(channel_data(0x4000, b"x"))
    assert world.drops() == ["no-permission"] * 2


def test_a_refreshed_channel_keeps_its_route() -> None:
    world = World()
    user = User(world)
    user.allocate(lifetime(3600))
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    world.take()
    for _ in range(10):
        world.after(250)
        user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    assert world.take() == []


@pytest.mark.parametrize("message", [b"\x40", b"\x40\0\0", b"\x40\0\0\x05four", b"\x50\0\0\0", b"\xff", b"", b"\0"])
def test_broken_channel_data_is_dropped(message: bytes) -> None:
    world = World()
    user = User(world)
    user.allocate()
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    world.take()
    user.send(message)
    assert world.take() == []
    assert world.drops() == ["malformed"]


def test_ending_an_allocation_takes_all_that_belongs_to_it() -> None:
    world = World()
    user = User(world)
    user.allocate()
    user.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(PEER))
    user.succeed(Method.CREATE_PERMISSION, peer(OTHER_PEER))
    world.take()
    user.succeed(Method.REFRESH, lifetime(0))
    assert [type(action) for action in world.take()] == [CloseRoute]
    assert world.core.next_timer() is None


# Peers


@pytest.mark.parametrize("host", ["127.0.0.1", "10.1.2.3", "169.254.1.1", "0.0.0.1", "224.0.0.1", "255.255.255.255"])
def test_peers_that_nobody_asked_for_are_forbidden(host: str) -> None:
    user = User(World())
    user.allocate()
    assert user.refused(Method.CREATE_PERMISSION, peer((host, 1))) == 403


def test_on_the_servers_own_address_only_relays_can_be_reached() -> None:
    world = World()
    ann, bob = User(world), User(world, "bob", "banana", address=("198.51.100.9", 1))
    mine, other = ann.allocate(), bob.allocate()
    ann.succeed(Method.CREATE_PERMISSION, peer((SERVER, 0)))
    ann.succeed(Method.CHANNEL_BIND, channel_number(0x4000), peer(other))
    for port in (22, 3478):
        assert ann.refused(Method.CHANNEL_BIND, channel_number(0x4001), peer((SERVER, port))) == 403
        ann.send(send((SERVER, port), b"loop"))
    assert world.drops() == ["forbidden-peer", "forbidden-peer"]
    ann.send(send(other, b"hello"))
    assert SendPeer(world.relay_at(mine), other, b"hello") in world.take()


def test_an_external_address_is_what_clients_are_told() -> None:
    world = World(options(external_hosts={SERVER: "203.0.113.99"}))
    user = User(world)
    host, port = user.allocate()
    assert host == "203.0.113.99" and (SERVER, port) in world.relays.values()
    assert user.refused(Method.CHANNEL_BIND, channel_number(0x4000), peer(("203.0.113.99", 3478))) == 403


# Connections of clients


def test_an_allocation_ends_with_its_connection() -> None:
    world = World()
    user = User(world, leg=Leg.TLS)
    user.allocate()
    assert user.stream is not None
    world.core.stream_closed(user.stream, world.now)
    world.run()
    assert not world.relays
    assert world.core.next_timer() is None


def test_a_connection_that_closes_while_its_relay_is_opened_leaves_nothing() -> None:
    world = World()
    world.answers_at_once = False
    user = User(world, leg=Leg.TCP)
    user.put(Method.ALLOCATE, requested_transport(UDP), *user.credentials(), key=user.key)
    (asked,) = (action for action in world.actions if isinstance(action, OpenRelay))
    assert user.stream is not None
    world.core.stream_closed(user.stream, world.now)
    world.answer(asked)
    world.run()
    assert not world.relays
    again = User(world, leg=Leg.TCP)
    world.answers_at_once = True
    again.allocate()


def test_a_silent_connection_is_closed_and_one_with_an_allocation_is_not() -> None:
    world = World(options(handshake_timeout=10, idle_timeout=100))
    silent, known, relaying = (User(world, address=("198.51.100.1", port), leg=Leg.TCP) for port in (1, 2, 3))
    known.ask(Method.BINDING)
    relaying.allocate()
    world.take()
    world.after(11)
    assert world.take() == [CloseStream(silent.stream or 0)]
    world.after(100)
    assert world.take() == [CloseStream(known.stream or 0)]
    world.after(200)
    assert world.take() == []
    relaying.succeed(Method.REFRESH, lifetime(0))
    world.take()
    world.after(101)
    assert world.take() == [CloseStream(relaying.stream or 0)]
    assert [record.why for record in world.records if isinstance(record, StreamRefused)] == [
        "no STUN message",
        "idle",
        "idle",
    ]


def test_connections_are_limited_in_all_and_for_an_address() -> None:
    world = World(options(limits=Limits(streams=3, streams_per_address=2)))
    accept = world.core.stream_accepted
    first = accept(1, ("198.51.100.1", 1), 0.0)
    assert first is not None and accept(1, ("198.51.100.1", 2), 0.0) is not None
    assert accept(1, ("198.51.100.1", 3), 0.0) is None
    assert accept(1, ("198.51.100.2", 1), 0.0) is not None
    assert accept(1, ("198.51.100.3", 1), 0.0) is None
    world.core.stream_closed(first, 1.0)
    assert accept(1, ("198.51.100.3", 1), 1.0) is not None


def test_inputs_about_what_is_closed_are_ignored() -> None:
    world = World()
    core = world.core
    core.stream_received(99, b"\0" * 20, 0.0)
    core.stream_closed(99, 0.0)
    core.peer_sent(99, PEER, b"x", 0.0)
    core.peer_connected(99, 0.0)
    core.peer_failed(99, "?", 0.0)
    assert core.peer_accepted(99, PEER, 0.0) is None
    assert core.actions() == []


def test_responses_and_unknown_methods_are_dropped() -> None:
    world = World()
    user = User(world)
    user.send(encode(MessageClass.SUCCESS, Method.BINDING, bytes(12)))
    user.send(encode(MessageClass.REQUEST, 0x0FF, bytes(12)))
    user.send(encode(MessageClass.INDICATION, Method.ALLOCATE, bytes(12)))
    assert world.drops() == ["not-a-request", "malformed", "not-a-request"]
    user.send(encode(MessageClass.INDICATION, Method.BINDING, bytes(12)))  # keeps a NAT binding alive
    assert world.drops() == [] and world.take() == []


def test_sends_to_clients_come_from_the_listener_that_they_use() -> None:
    world = World()
    user = User(world, address=("2001:db8:2::2", 5000))
    user.allocate()
    user.put(Method.BINDING)
    (sent,) = world.take()
    assert isinstance(sent, SendDatagram) and sent.listener == 3
