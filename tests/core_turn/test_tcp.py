"""Relayed TCP: Connect, ConnectionAttempt, ConnectionBind (RFC 6062)."""

from __future__ import annotations

import pytest

from candidates.candidate import TransportAddress
from ice_tcp import stun
from ice_tcp.core.turn import (
    Advice,
    ServerDropReason,
    ServerVerdict,
    TcpAllocation,
    UdpAllocation,
    Wishes,
)
from ice_tcp.core.verdicts import Verdict
from ice_tcp.stun import AttributeType, MessageClass, Method
from tests.core_turn.script import ALICE, KEY, PEER, PEER6, Clock, DataScript, Recorder, TcpScript, Wire

ZERO = bytes(12)


def living() -> TcpScript:
    script = TcpScript()
    script.allocate(lifetime=100_000)
    script.wire.sent.clear()
    script.told.clear()
    return script


def test_allocation_of_tcp() -> None:
    script = TcpScript()
    script.allocate()
    request = script.sent[1]
    assert request.requested_transport == 6
    assert request.even_port is None and request.reservation_token is None and not request.dont_fragment


def test_control_connection_is_reliable() -> None:
    with pytest.raises(ValueError, match="6062"):
        TcpAllocation(Clock().context, Wire(reliable=False), Recorder(), credentials=ALICE)


def test_wishes_for_udp() -> None:
    with pytest.raises(ValueError):
        TcpScript(wishes=Wishes())


@pytest.mark.parametrize("code", [400, 403, 442])
def test_server_relays_no_tcp(code: int) -> None:
    script = TcpScript()
    script.start()
    script.challenge()
    script.refuse(code, key=KEY)
    assert script.failure().cause == f"server-error-{code}"
    assert script.failure().advice is Advice.UDP_ALLOCATION
    fallback = UdpAllocation(script.clock.context, Wire(reliable=True), Recorder(), credentials=ALICE)
    fallback.start(script.now)


def test_other_refusals_are_no_reason_to_relay_udp() -> None:
    script = TcpScript()
    script.start()
    script.challenge()
    script.refuse(486, key=KEY)
    assert script.failure().advice is Advice.WAIT


def test_refreshed_on_the_control_connection() -> None:
    script = TcpScript()
    script.allocate(lifetime=600)
    script.clock.advance(541)
    assert script.last.method == Method.REFRESH


def test_connect() -> None:
    script = living()
    script.machine.connect(PEER, script.now)
    assert script.last.method == Method.CONNECT
    assert script.last.xor_peer_address == (PEER.host, PEER.port)
    assert script.last.verify(KEY)
    script.answer([stun.connection_id(77)])
    assert script.told == [("connected", PEER, 77)]


def test_never_two_connects_at_once_for_a_peer() -> None:
    script = living()
    other = TransportAddress(PEER.host, 1)
    script.machine.connect(PEER, script.now)
    script.machine.connect(PEER, script.now)
    script.machine.connect(other, script.now)
    assert len(script.wire.sent) == 2
    script.answer([stun.connection_id(1)], to=script.sent[0])
    script.machine.connect(PEER, script.now)
    assert len(script.wire.sent) == 3


def test_connect_survives_a_stale_nonce() -> None:
    script = living()
    script.machine.connect(PEER, script.now)
    script.challenge(438, nonce=b"nonce-2")
    assert (script.last.method, script.last.nonce) == (Method.CONNECT, b"nonce-2")
    script.machine.connect(PEER, script.now)
    assert len(script.wire.sent) == 2


@pytest.mark.parametrize("code", [403, 446, 447, 400])
def test_connect_fails(code: int) -> None:
    script = living()
    script.machine.connect(PEER, script.now)
    script.refuse(code)
    assert script.told[-1][:2] == ("connect failed", PEER)
    assert script.failure().cause == f"server-error-{code}"


def test_connect_of_a_lost_allocation() -> None:
    script = living()
    script.machine.connect(PEER, script.now)
    script.refuse(437)
    assert [each[0] for each in script.told] == ["lost"]


def test_447_waits_ten_seconds() -> None:
    script = living()
    script.machine.connect(PEER, script.now)
    script.refuse(447)
    assert script.failure().retry_after == 10.0
    script.machine.connect(PEER, script.now)
    script.clock.advance(5)
    script.machine.connect(PEER, script.now)
    script.clock.advance(4.9)
    assert len(script.wire.sent) == 1
    script.clock.advance(0.2)
    assert len(script.wire.sent) == 2
    script.answer([stun.connection_id(5)])
    assert script.told[-1] == ("connected", PEER, 5)


def test_other_peers_do_not_wait() -> None:
    script = living()
    script.machine.connect(PEER, script.now)
    script.refuse(447)
    script.machine.connect(TransportAddress(PEER.host, 1), script.now)
    assert len(script.wire.sent) == 2


def test_waiting_connect_ends_with_the_allocation() -> None:
    script = living()
    script.machine.connect(PEER, script.now)
    script.refuse(447)
    script.machine.connect(PEER, script.now)
    script.machine.path_lost(Verdict.RESET, script.now)
    assert script.clock.context.timers.next_at() is None
    script.machine.connect(PEER, script.now)
    assert len(script.wire.sent) == 1


def test_connect_to_a_family_that_is_not_relayed() -> None:
    script = living()
    script.machine.connect(PEER6, script.now)
    assert not script.wire.sent
    assert script.failure().cause is ServerVerdict.PEER_FAMILY_MISMATCH


@pytest.mark.parametrize("attributes", [[], [(AttributeType.CONNECTION_ID, b"\1")]])
def test_connected_without_a_connection_id(attributes: list[stun.Attribute]) -> None:
    script = living()
    script.machine.connect(PEER, script.now)
    script.answer(attributes)
    assert script.told[-1][:2] == ("connect failed", PEER)
    assert script.failure().cause is ServerVerdict.MALFORMED


def attempt(peer: TransportAddress = PEER, connection_id: int = 9) -> list[stun.Attribute]:
    return [stun.connection_id(connection_id), stun.xor_peer_address(peer.host, peer.port, ZERO)]


def test_peer_connects() -> None:
    script = living()
    script.permit(PEER.host)
    script.indicate(Method.CONNECTION_ATTEMPT, attempt())
    assert script.told[-1] == ("attempt", PEER, 9)


def test_nonce_is_renewed_before_a_late_connection_is_told() -> None:
    script = living()
    script.permit(PEER.host)
    script.clock.advance(200)
    script.told.clear()
    script.indicate(Method.CONNECTION_ATTEMPT, attempt())
    assert not script.told
    assert (script.last.method, script.last.xor_peer_address) == (Method.CREATE_PERMISSION, (PEER.host, 0))
    script.challenge(438, nonce=b"nonce-2")
    script.answer()
    assert script.told == [("attempt", PEER, 9)]
    data = DataScript(script, 9)
    data.machine.start(data.now)
    assert data.last.nonce == b"nonce-2"
    script.indicate(Method.CONNECTION_ATTEMPT, attempt(connection_id=10))
    assert script.told[-1] == ("attempt", PEER, 10)


@pytest.mark.parametrize(("code", "told"), [(508, "attempt"), (437, "lost")])
def test_nonce_cannot_be_renewed(code: int, told: str) -> None:
    script = living()
    script.permit(PEER.host)
    script.clock.advance(200)
    script.indicate(Method.CONNECTION_ATTEMPT, attempt())
    script.refuse(code)
    assert script.told[-1][0] == told


def test_peer_without_permission_connects() -> None:
    script = living()
    script.indicate(Method.CONNECTION_ATTEMPT, attempt())
    assert not script.told
    assert script.machine.dropped == {ServerDropReason.NO_PERMISSION: 1}


@pytest.mark.parametrize("missing", [0, 1])
def test_malformed_attempt(missing: int) -> None:
    script = living()
    script.permit(PEER.host)
    script.told.clear()
    attributes = attempt()
    del attributes[missing]
    script.indicate(Method.CONNECTION_ATTEMPT, attributes)
    assert not script.told
    assert script.machine.dropped == {ServerDropReason.MALFORMED: 1}


def test_datagrams_are_not_for_tcp() -> None:
    script = living()
    script.indicate(Method.DATA, [stun.xor_peer_address(PEER.host, 1, ZERO), stun.data(b"x")])
    script.hear(b"\x40\0\0\4data")
    assert not script.told
    assert script.machine.dropped == {
        ServerDropReason.UNEXPECTED_INDICATION: 1,
        ServerDropReason.UNKNOWN_CHANNEL: 1,
    }


def binding() -> DataScript:
    data = DataScript(living())
    data.machine.start(data.now)
    return data


def test_connection_is_bound_with_the_credentials_of_the_allocation() -> None:
    data = binding()
    assert data.last.method == Method.CONNECTION_BIND
    assert data.last.connection_id == 77
    assert (data.last.username, data.last.nonce) == ("alice", b"nonce-1")
    assert data.last.verify(KEY)
    data.answer()
    assert data.told == [("data connection bound",)]
    assert data.machine.bound and data.received == b""


PEERS_BYTES = b"\0\1\0\0early" + bytes(range(256))


@pytest.mark.parametrize("split", range(1, 100, 3))
def test_early_bytes_of_the_peer_are_not_lost(split: int) -> None:
    data = binding()
    stream = data.response() + PEERS_BYTES
    data.hear(stream[:split])
    data.hear(stream[split:])
    assert data.received == PEERS_BYTES


def test_every_byte_alone() -> None:
    data = binding()
    for byte in data.response() + PEERS_BYTES:
        data.hear(bytes([byte]))
    assert data.received == PEERS_BYTES


def test_what_looks_like_stun_is_the_peers_once_bound() -> None:
    data = binding()
    again = data.response()
    data.hear(again + again)
    data.hear(again)
    assert data.received == again * 2
    assert data.told == [("data connection bound",)]


def test_nonce_of_the_data_connection_is_its_own() -> None:
    control = living()
    data = DataScript(control)
    data.machine.start(data.now)
    data.challenge(438, nonce=b"nonce-of-data")
    assert data.last.nonce == b"nonce-of-data"
    data.answer()
    assert data.machine.bound
    control.machine.connect(PEER, control.now)
    assert control.last.nonce == b"nonce-1"


def test_unknown_connection_id() -> None:
    data = binding()
    data.refuse(400)
    assert data.told[0][0] == "data connection failed"
    assert data.failure().cause is ServerVerdict.BAD_REQUEST
    assert data.clock.context.timers.next_at() is not None  # the allocation lives on
    data.hear(b"late")
    assert data.received == b""


def test_connection_bind_is_not_answered() -> None:
    data = binding()
    data.clock.advance(40)
    assert data.failure().cause is ServerVerdict.NO_RESPONSE


@pytest.mark.parametrize("garbage", [b"\xff", b"HTTP/1.1 200 OK\r\n" + bytes(30_000), b"\0\1\0\0nope"])
def test_garbage_instead_of_an_answer(garbage: bytes) -> None:
    data = binding()
    data.hear(garbage)
    assert data.failure().cause is ServerVerdict.NOT_STUN
    assert data.received == b""


def test_messages_that_do_not_belong_here_are_dropped() -> None:
    data = binding()
    data.hear(b"\x40\0\0\4data")
    data.hear(stun.encode(MessageClass.INDICATION, Method.DATA, ZERO))
    data.hear(b"\0\1\0\4\x21\x12\xa4\x42" + bytes(12) + b"\0\1\0\4")  # an attribute beyond the end
    data.answer()
    assert data.machine.bound and data.received == b""


def test_connection_breaks_before_it_is_bound() -> None:
    data = binding()
    data.machine.path_lost(Verdict.RESET, data.now)
    assert data.failure().cause is Verdict.RESET
    data.machine.path_lost(Verdict.RESET, data.now)
    assert len(data.told) == 1


def test_connection_breaks_after_it_is_bound() -> None:
    data = binding()
    data.answer()
    data.machine.path_lost(Verdict.CLOSED, data.now)
    assert data.told == [("data connection bound",)]
    assert not data.machine.bound


def test_connection_is_bound_once() -> None:
    data = binding()
    with pytest.raises(RuntimeError):
        data.machine.start(data.now)


def test_data_connection_is_reliable() -> None:
    control = living()
    with pytest.raises(ValueError, match="6062"):
        control.machine.data_connection(Wire(reliable=False), 1, Recorder())
