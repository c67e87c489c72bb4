"""Whatever a server sends, nothing is raised, and no machine tells a thing twice.

Bytes are random, or mutations of real responses with the right transaction id, so that they get behind the first door.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ice_tcp import stun
from ice_tcp.core.turn import State
from ice_tcp.stun import (
    AttributeType,
    Icmp,
    Integrity,
    IntegrityKey,
    MessageClass,
    Method,
    SecurityFeature,
)
from tests.core_turn.script import BOTH_ALGORITHMS, KEY, PEER, REALM, RELAYED, AllocationScript, TcpScript, UdpScript
from tests.core_turn.test_binding import BindingScript
from tests.core_turn.test_tcp import binding

ENDS = {"failed", "lost", "closed", "mapped", "binding failed", "data connection failed", "data connection bound"}

attribute_types = st.sampled_from([int(type_) for type_ in AttributeType]) | st.integers(0, 0xFFFF)
good_values = st.sampled_from(
    [
        stun.error_code(300),
        stun.error_code(401),
        stun.error_code(403),
        stun.error_code(437),
        stun.error_code(438),
        stun.error_code(440),
        stun.error_code(508),
        stun.realm(REALM),
        stun.nonce(b"nonce"),
        stun.nonce(stun.nonce_cookie(SecurityFeature.PASSWORD_ALGORITHMS) + b"n"),
        stun.nonce(stun.nonce_cookie(SecurityFeature.USERNAME_ANONYMITY) + b"n"),
        stun.password_algorithms(BOTH_ALGORITHMS),
        stun.alternate_server("192.0.2.9", 3478),
        stun.mapped_address("192.0.2.9", 0),
        stun.xor_relayed_address(RELAYED.host, RELAYED.port, bytes(12)),
        stun.xor_relayed_address("::ffff:192.0.2.1", 1, bytes(12)),
        stun.xor_mapped_address("192.0.2.9", 1, bytes(12)),
        stun.xor_peer_address(PEER.host, PEER.port, bytes(12)),
        stun.lifetime(0),
        stun.lifetime(2),
        stun.lifetime(0xFFFFFFFF),
        stun.data(b"data"),
        stun.icmp(Icmp(3, 4, 1400)),
        stun.connection_id(1),
        stun.channel_number(0x4000),
        stun.unknown_attributes([AttributeType.EVEN_PORT]),
        stun.address_error_code(6, 440),
        stun.reservation_token(b"12345678"),
    ]
)
attributes = st.lists(good_values | st.tuples(attribute_types, st.binary(max_size=24)), max_size=8)
responses = st.tuples(
    st.sampled_from(list(MessageClass)),
    st.none() | st.sampled_from(list(Method)),
    attributes,
    st.sampled_from([None, KEY]),
    st.sampled_from([Integrity.SHA1, Integrity.SHA256]),
)
Response = tuple[MessageClass, Method | None, list[stun.Attribute], IntegrityKey | None, Integrity]
channel_data = st.builds(
    lambda number, data: number.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data + bytes(-len(data) % 4),
    st.integers(0x4000, 0x4002),
    st.binary(max_size=8),
)
inputs = st.lists(responses | channel_data | st.binary(max_size=60) | st.floats(0.0, 700.0), min_size=1, max_size=12)


def respond(request: stun.Message, response: Response) -> bytes:
    message_class, method, found, key, integrity = response
    return stun.encode(
        message_class,
        request.method if method is None else method,
        request.transaction_id,
        found,
        key=key,
        integrity=integrity,
    )


def newest_request(sent: list[bytes]) -> stun.Message:
    decoded = [stun.decode(data) for data in sent if data[0] < 0x40]
    return next(message for message in reversed(decoded) if message.message_class is MessageClass.REQUEST)


def starting_udp(*, reliable: bool) -> UdpScript:
    script = UdpScript(reliable=reliable)
    script.start()
    return script


def living(script: AllocationScript) -> AllocationScript:  # type: ignore[type-arg] # of either kind
    script.allocate()
    script.permit(PEER.host)
    return script


def living_udp(*, reliable: bool) -> UdpScript:
    script = UdpScript(reliable=reliable)
    living(script)
    script.machine.send_data(PEER, b"x", script.now)
    return script


def connecting_tcp() -> TcpScript:
    script = TcpScript()
    living(script)
    script.machine.connect(PEER, script.now)
    return script


def closing_udp() -> UdpScript:
    script = living_udp(reliable=False)
    script.machine.close(script.now)
    return script


MACHINES: dict[str, Callable[[], object]] = {
    "allocating over datagrams": lambda: starting_udp(reliable=False),
    "allocating over a stream": lambda: starting_udp(reliable=True),
    "relaying over datagrams": lambda: living_udp(reliable=False),
    "relaying over a stream": lambda: living_udp(reliable=True),
    "relaying TCP": connecting_tcp,
    "closing": closing_udp,
    "binding over datagrams": BindingScript,
    "binding over a stream": lambda: BindingScript(reliable=True),
    "binding a data connection": binding,
}


@pytest.mark.parametrize("make", MACHINES.values(), ids=MACHINES.keys())
def test_any_bytes(make: Callable[[], object]) -> None:
    @settings(deadline=None, max_examples=150)
    @given(inputs)
    def check(steps: list[Response | bytes | float]) -> None:
        script = make()
        assert isinstance(script, UdpScript | TcpScript | BindingScript | type(binding()))
        script.told.clear()
        for step in steps:
            if isinstance(step, float):
                script.clock.advance(step)
            elif isinstance(step, bytes):
                script.hear(step)
            else:
                script.hear(respond(newest_request(script.wire.sent), step))
        script.clock.advance(5000)
        assert sum(told[0] in ENDS for told in script.told) <= 1
        if isinstance(script, UdpScript | TcpScript) and script.machine.state is State.ENDED:
            assert script.told[-1][0] in ENDS

    check()
