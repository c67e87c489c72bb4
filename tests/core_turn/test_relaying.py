"""Data through the relay: indications and channels (RFC 8656 s11, s12)."""

from __future__ import annotations

import pytest

from candidates.candidate import TransportAddress
from ice_tcp import stun
from ice_tcp.core.turn import ServerDropReason, ServerVerdict, State, Wishes
from ice_tcp.core.turn.channels import LAST_CHANNEL
from ice_tcp.stun import AttributeType, Icmp, MessageClass, Method
from tests.core_turn.script import KEY, PEER, UdpScript

OTHER = TransportAddress(PEER.host, PEER.port + 1)
STRANGER = TransportAddress("192.0.2.200", 1)
ZERO = bytes(12)


def living(*, reliable: bool = False, wishes: Wishes | None = None) -> UdpScript:
    script = UdpScript(reliable=reliable, wishes=wishes)
    script.allocate(lifetime=100_000)
    script.permit(PEER.host)
    script.wire.sent.clear()
    script.told.clear()
    return script


def bound(*, reliable: bool = False) -> UdpScript:
    """A channel to PEER is there; its ChannelBind is all that was sent."""
    script = living(reliable=reliable)
    script.machine.send_data(PEER, b"first", script.now)
    script.wire.sent.sort(key=lambda data: stun.decode(data).method == Method.SEND)
    del script.wire.sent[1:]
    script.answer()
    assert script.told == [("bound", PEER)]
    script.told.clear()
    return script


def data_from(peer: TransportAddress, data: bytes) -> list[stun.Attribute]:
    return [stun.xor_peer_address(peer.host, peer.port, ZERO), stun.data(data)]


def test_nothing_is_sent_without_permission() -> None:
    script = living()
    assert not script.machine.send_stun(STRANGER, b"x", script.now)
    assert not script.machine.send_data(STRANGER, b"x", script.now)
    assert not script.wire.sent


def test_nothing_is_sent_before_the_allocation() -> None:
    script = UdpScript()
    script.machine.permit([PEER.host], script.now)
    script.start()
    assert not script.machine.send_data(PEER, b"x", script.now)
    assert len(script.wire.sent) == 1


def test_checks_go_by_indication_and_bind_no_channel() -> None:
    script = living()
    assert script.machine.send_stun(PEER, b"check", script.now)
    assert len(script.wire.sent) == 1
    message = script.last
    assert (message.message_class, message.method) == (MessageClass.INDICATION, Method.SEND)
    assert message.xor_peer_address == (PEER.host, PEER.port)
    assert message.data == b"check"
    assert not message.has_integrity and not message.dont_fragment


def test_dont_fragment_where_the_server_knows_it() -> None:
    script = living(wishes=Wishes(dont_fragment=True))
    script.machine.send_stun(PEER, b"check", script.now)
    assert script.last.dont_fragment


def test_no_dont_fragment_where_the_server_does_not() -> None:
    script = UdpScript(wishes=Wishes(dont_fragment=True))
    script.start()
    script.challenge()
    script.key = KEY
    script.refuse(420, [stun.unknown_attributes([AttributeType.DONT_FRAGMENT])])
    script.give()
    script.permit(PEER.host)
    script.machine.send_stun(PEER, b"check", script.now)
    assert not script.last.dont_fragment


def test_first_data_asks_for_a_channel_and_does_not_wait_for_it() -> None:
    script = living()
    script.machine.send_data(PEER, b"one", script.now)
    script.machine.send_data(PEER, b"two", script.now)
    methods = [message.method for message in script.sent]
    assert sorted(methods) == [Method.SEND, Method.SEND, Method.CHANNEL_BIND]
    bind = next(message for message in script.sent if message.method == Method.CHANNEL_BIND)
    assert bind.channel_number == 0x4000
    assert bind.xor_peer_address == (PEER.host, PEER.port)
    assert bind.verify(KEY)


@pytest.mark.parametrize(
    ("reliable", "data", "sent"),
    [
        (False, b"abcde", b"\x40\0\0\5abcde"),
        (True, b"abcde", b"\x40\0\0\5abcde\0\0\0"),
        (True, b"abcd", b"\x40\0\0\4abcd"),
        (True, b"", b"\x40\0\0\0"),
    ],
)
def test_bound_channel_carries_data_and_checks(reliable: bool, data: bytes, sent: bytes) -> None:
    script = bound(reliable=reliable)
    script.machine.send_data(PEER, data, script.now)
    script.machine.send_stun(PEER, data, script.now)
    assert script.wire.sent[1:] == [sent, sent]


def test_each_peer_has_its_channel() -> None:
    script = bound()
    script.machine.send_data(OTHER, b"x", script.now)
    numbers = [message.channel_number for message in script.sent if message.method == Method.CHANNEL_BIND]
    assert numbers == [0x4000, 0x4001]


def test_channels_run_out() -> None:
    script = living(reliable=True)
    for port in range(1, 4200):
        script.machine.send_data(TransportAddress(PEER.host, port), b"x", script.now)
    numbers = [message.channel_number for message in script.sent if message.method == Method.CHANNEL_BIND]
    assert numbers == list(range(0x4000, LAST_CHANNEL + 1))
    assert sum(message.method == Method.SEND for message in script.sent) == 4199


def test_data_too_long_for_a_datagram() -> None:
    script = bound()
    with pytest.raises(ValueError):
        script.machine.send_data(PEER, bytes(65536), script.now)


def test_channels_are_refreshed_every_nine_minutes() -> None:
    script = bound(reliable=True)
    for _ in range(3):
        script.wire.sent.clear()
        binds = []
        for _ in range(539):
            script.clock.advance(1)
            if script.wire.sent:
                assert script.last.method == Method.CREATE_PERMISSION
                script.answer()
                script.wire.sent.clear()
        script.clock.advance(1)
        binds = [message for message in script.sent if message.method == Method.CHANNEL_BIND]
        assert [message.channel_number for message in binds] == [0x4000]
        for message in script.sent:
            script.answer(to=message)
    assert not script.told


def test_channel_bind_extends_the_permission() -> None:
    script = living()
    script.machine.release([PEER.host], script.now)
    script.clock.advance(299)
    script.machine.send_data(PEER, b"x", script.now)
    script.answer(to=next(message for message in script.sent if message.method == Method.CHANNEL_BIND))
    script.clock.advance(299)
    assert script.machine.send_data(PEER, b"x", script.now)


def test_refused_channel_leaves_indications() -> None:
    script = living()
    script.machine.send_data(PEER, b"x", script.now)
    script.refuse(508, to=next(message for message in script.sent if message.method == Method.CHANNEL_BIND))
    script.wire.sent.clear()
    assert script.machine.send_data(PEER, b"x", script.now)
    assert [message.method for message in script.sent] == [Method.SEND]
    script.hear(b"\x40\0\0\1x")
    assert script.machine.dropped == {ServerDropReason.UNKNOWN_CHANNEL: 1}


def test_bad_request_for_a_new_channel_is_no_end() -> None:
    script = living()
    script.machine.send_data(PEER, b"x", script.now)
    script.refuse(400, to=next(message for message in script.sent if message.method == Method.CHANNEL_BIND))
    assert script.machine.state is State.ALLOCATED


def test_server_has_other_ideas_of_a_bound_channel() -> None:
    script = bound(reliable=True)
    script.clock.advance(240)
    script.answer()
    script.clock.advance(240)
    script.answer()
    script.clock.advance(60)
    script.refuse(400)
    assert script.told[-1][0] == "lost"
    assert script.failure().cause is ServerVerdict.BAD_REQUEST
    assert (script.last.method, script.last.lifetime) == (Method.REFRESH, 0)


@pytest.mark.parametrize("code", [437, 441])
def test_allocation_is_not_there(code: int) -> None:
    script = living()
    script.machine.send_data(PEER, b"x", script.now)
    script.refuse(code, to=next(message for message in script.sent if message.method == Method.CHANNEL_BIND))
    assert script.told[-1][0] == "lost"


def test_unanswered_channel_is_asked_for_again() -> None:
    script = living()
    script.machine.send_data(PEER, b"x", script.now)
    script.clock.advance(20)
    script.indicate(Method.DATA, data_from(PEER, b"alive"))
    script.clock.advance(20)
    script.wire.sent.clear()
    script.machine.send_data(PEER, b"x", script.now)
    bind = next(message for message in script.sent if message.method == Method.CHANNEL_BIND)
    assert bind.channel_number == 0x4000
    script.answer(to=bind)
    script.wire.sent.clear()
    script.machine.send_data(PEER, b"x", script.now)
    assert script.wire.sent == [b"\x40\0\0\1x"]


def test_released_peers_channel_runs_out_but_still_delivers() -> None:
    script = bound()
    script.machine.release([PEER.host], script.now)
    script.hear(b"\x40\0\0\1x")
    assert script.told == [("data", PEER, b"x")]
    script.clock.advance(1000)
    assert Method.CHANNEL_BIND not in [message.method for message in script.sent[1:]]


def test_channel_that_is_bound_after_its_release() -> None:
    script = living()
    script.machine.send_data(PEER, b"x", script.now)
    bind = next(message for message in script.sent if message.method == Method.CHANNEL_BIND)
    script.machine.release([PEER.host], script.now)
    script.answer(to=bind)
    assert not script.told
    script.wire.sent.clear()
    script.clock.advance(1000)
    assert Method.CHANNEL_BIND not in [message.method for message in script.sent]


def test_data_indication() -> None:
    script = living()
    script.indicate(Method.DATA, data_from(PEER, b"hello"))
    script.indicate(Method.DATA, data_from(OTHER, b""))
    assert script.told == [("data", PEER, b"hello"), ("data", OTHER, b"")]


def test_data_indication_without_permission() -> None:
    script = living()
    script.indicate(Method.DATA, data_from(STRANGER, b"hello"))
    assert not script.told
    assert script.machine.dropped == {ServerDropReason.NO_PERMISSION: 1}


@pytest.mark.parametrize(
    "attributes",
    [
        [stun.data(b"x")],
        [stun.xor_peer_address(PEER.host, 1, ZERO)],
        [(AttributeType.XOR_PEER_ADDRESS, b"\0\1"), stun.data(b"x")],
        [stun.xor_peer_address("::ffff:192.0.2.33", 1, ZERO), stun.data(b"x")],
        [*data_from(PEER, b"x"), (AttributeType.ICMP, b"\0")],
    ],
)
def test_malformed_data_indication(attributes: list[stun.Attribute]) -> None:
    script = living()
    script.indicate(Method.DATA, attributes)
    assert not script.told
    assert script.machine.dropped == {ServerDropReason.MALFORMED: 1}


def test_indication_with_what_must_be_understood() -> None:
    script = living()
    script.indicate(Method.DATA, [*data_from(PEER, b"x"), (0x7FFF, b"")])
    assert script.machine.dropped == {ServerDropReason.UNKNOWN_ATTRIBUTE: 1}


def test_indication_that_does_not_belong_here() -> None:
    script = living()
    script.indicate(Method.CONNECTION_ATTEMPT, [stun.connection_id(1), *data_from(PEER, b"x")])
    assert script.machine.dropped == {ServerDropReason.UNEXPECTED_INDICATION: 1}


def test_icmp() -> None:
    script = living()
    icmp = Icmp(3, 4, 1400)
    script.indicate(Method.DATA, [stun.xor_peer_address(PEER.host, 0, ZERO), stun.icmp(icmp)])
    assert script.told == [("icmp", TransportAddress(PEER.host, 0), icmp)]


def test_channel_data_may_come_before_the_channel_is_confirmed() -> None:
    script = living()
    script.machine.send_data(PEER, b"x", script.now)
    script.hear(b"\x40\0\0\3abc")
    assert script.told == [("data", PEER, b"abc")]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"\x40\0\0\3abc", b"abc"),
        (b"\x40\0\0\0", b""),
        (b"\x40\0\0\3abc\0", b"abc"),
    ],
)
def test_channel_data(data: bytes, told: bytes) -> None:
    script = bound()
    script.hear(data)
    assert script.told == [("data", PEER, told)]


def test_channel_data_over_a_stream_however_it_is_split() -> None:
    script = bound(reliable=True)
    stream = b"\x40\0\0\3abc\0" + b"\x40\0\0\4defg" + b"\x40\0\0\0" + b"\x40\0\0\1h\0\0\0"
    for at in range(len(stream)):
        script.hear(stream[at : at + 1])
    assert [each[2] for each in script.told] == [b"abc", b"defg", b"", b"h"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x40\1\0\0", ServerDropReason.UNKNOWN_CHANNEL),
        (b"\x4f\xff\0\1x", ServerDropReason.UNKNOWN_CHANNEL),
        (b"\x50\0\0\1x", ServerDropReason.MALFORMED),
        (b"\xff\xff\0\1x", ServerDropReason.MALFORMED),
        (b"\x40\0\0\4abc", ServerDropReason.MALFORMED),
        (b"\x40\0\0", ServerDropReason.MALFORMED),
        (b"\x40", ServerDropReason.MALFORMED),
        (b"", ServerDropReason.MALFORMED),
        (b"\0\1\0\0", ServerDropReason.MALFORMED),
    ],
)
def test_datagrams_that_are_dropped(data: bytes, reason: ServerDropReason) -> None:
    script = bound()
    script.hear(data)
    assert not script.told
    assert script.machine.dropped == {reason: 1}


def test_channel_data_of_a_peer_whose_permission_ended() -> None:
    script = bound()
    script.machine.release([PEER.host], script.now)
    script.clock.advance(301)
    script.hear(b"\x40\0\0\1x")
    assert script.machine.dropped == {ServerDropReason.NO_PERMISSION: 1}
    assert not script.told


def test_channel_data_before_the_allocation() -> None:
    script = UdpScript()
    script.start()
    script.hear(b"\x40\0\0\1x")
    assert script.machine.dropped == {ServerDropReason.NO_ALLOCATION: 1}
    assert script.machine.state is State.ALLOCATING
