"""Whatever clients and peers send: nothing raises, nothing grows without end."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from ice_tcp.server.core.actions import ConnectPeer, Leg
from ice_tcp.server.options import Limits
from ice_tcp.stun import (
    KNOWN,
    Attribute,
    Integrity,
    IntegrityKey,
    MessageClass,
    Method,
    additional_address_family,
    channel_number,
    connection_id,
    data,
    encode,
    even_port,
    lifetime,
    nonce,
    realm,
    requested_address_family,
    requested_transport,
    reservation_token,
    username,
)
from tests.server_world import PEER, PEER6, TCP, UDP, User, World, options, peer

LIMITS = Limits(allocations=8, allocations_per_user=4, permissions=3, channels=3, connections=2, streams=4)
KEY = IntegrityKey.long_term("ann", "example.org", "apple")

sensible: list[Callable[[bytes], Attribute]] = [
    peer(PEER),
    peer(PEER6),
    peer(("127.0.0.1", 1)),
    *(
        lambda _, made=made: made
        for made in (
            requested_transport(UDP),
            requested_transport(TCP),
            lifetime(0),
            lifetime(700),
            channel_number(0x4000),
            channel_number(0x4001),
            data(b"payload"),
            even_port(True),
            even_port(False),
            requested_address_family(4),
            requested_address_family(6),
            additional_address_family(6),
            reservation_token(bytes(8)),
            connection_id(0),
        )
    ),
]
odd_strategy = st.tuples(st.sampled_from(sorted(KNOWN)) | st.integers(0, 0xFFFF), st.binary(max_size=24))
attributes_strategy = st.lists(st.sampled_from(sensible) | odd_strategy.map(lambda made: lambda _: made), max_size=4)
steps_strategy = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.sampled_from(list(Method)),
        st.sampled_from(list(MessageClass)),
        st.booleans(),
        attributes_strategy,
        st.sampled_from([0.0, 0.0, 0.0, 1.0, 40.0, 310.0]),
    ),
    max_size=25,
)


@given(st.binary(max_size=80), st.sampled_from([Leg.UDP, Leg.TCP]))
def test_any_bytes(message: bytes, leg: Leg) -> None:
    world = World()
    user = User(world, leg=leg)
    user.allocate()
    if message or leg is Leg.UDP:
        user.send(message)
        user.send(b"\x40\0" + message)
    for relay in world.relays:
        world.core.peer_sent(relay, PEER, message, world.now)


@settings(max_examples=300)
@given(steps_strategy, st.integers(0, 1000))
def test_any_requests(steps: list[tuple[int, Method, MessageClass, bool, list[object], float]], seed: int) -> None:
    world = World(options(limits=LIMITS), seed=seed)
    rng = random.Random(seed)
    world.taken = lambda _: rng.random() < 0.2
    users = [
        User(world, address=("198.51.100.1", port), leg=leg)
        for port, leg in enumerate([Leg.UDP, Leg.UDP, Leg.TCP, Leg.TLS])
    ]
    for turn, (who, method, message_class, signed, attributes, seconds) in enumerate(steps):
        user, id_ = users[who], turn.to_bytes(12, "big")
        if not user.nonce:
            user.credentials()
        made = [attribute(id_) for attribute in attributes]  # type: ignore[operator]
        made += [username("ann"), realm("example.org"), nonce(user.nonce)] if signed else []
        key = KEY if signed else None
        user.send(encode(message_class, method, id_, made, key=key, integrity=Integrity.SHA1))
        for action in world.take():
            if isinstance(action, ConnectPeer) and turn % 2:
                world.core.peer_connected(action.connection, world.now)
        for relay in list(world.relays):
            world.core.peer_sent(relay, PEER, b"datagram", world.now)
            world.core.peer_accepted(relay, PEER, world.now)
        world.run()
        world.after(seconds)
        assert len(world.relays) <= LIMITS.allocations_per_user
    # All of it ends by itself.
    for user in users:
        if user.stream is not None:
            world.core.stream_closed(user.stream, world.now)
    world.run()
    world.after(4000)
    assert not world.relays
    assert world.core.next_timer() is None
