"""How often a request is sent, and how long it is waited for (RFC 8489 s6.2)."""

from __future__ import annotations

import pytest

from ice_tcp import stun
from ice_tcp.core.turn import Advice, ServerAnswered, ServerDropReason, ServerRequestSent, ServerVerdict, State
from ice_tcp.core.verdicts import Verdict
from ice_tcp.stun import MessageClass, Method
from tests.core_turn.script import REALM, START, UdpScript


def test_datagrams_are_sent_seven_times_with_doubling_gaps() -> None:
    script = UdpScript()
    script.start()
    request = script.wire.sent[0]
    seen = []
    for _ in range(400):
        seen.append((script.now - START, len(script.wire.sent)))
        script.clock.advance(0.1)
    sendings = [round(next(at for at, sent in seen if sent >= count), 1) for count in range(1, 8)]
    assert sendings == pytest.approx([0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5], abs=0.11)
    assert script.wire.sent == [request] * 7


def test_datagrams_are_given_up_after_rm_rto() -> None:
    script = UdpScript()
    script.start()
    script.clock.advance(39.49)
    assert not script.told
    script.clock.advance(0.02)
    assert script.failure().cause is ServerVerdict.NO_RESPONSE
    assert script.failure().advice is Advice.OTHER_TRANSPORT
    assert script.machine.state is State.ENDED


def test_streams_carry_a_request_once() -> None:
    script = UdpScript(reliable=True)
    script.start()
    script.clock.advance(39.49)
    assert not script.told
    script.clock.advance(0.02)
    assert script.failure().cause is ServerVerdict.NO_RESPONSE
    assert len(script.wire.sent) == 1


def test_answer_stops_retransmissions() -> None:
    script = UdpScript()
    script.allocate()
    sent = len(script.wire.sent)
    script.clock.advance(10)
    assert len(script.wire.sent) == sent


def test_late_answer_to_a_retransmission_counts() -> None:
    script = UdpScript()
    script.start()
    script.clock.advance(20)
    script.challenge()
    script.clock.advance(0.25)
    script.give()
    assert script.told == [] and script.machine.dropped == {ServerDropReason.BAD_INTEGRITY: 1}


def test_round_trips_are_traced() -> None:
    script = UdpScript()
    script.start()
    script.clock.advance(0.25)
    script.challenge()
    sent, answered = script.records[:2]
    assert isinstance(sent, ServerRequestSent) and sent.method == Method.ALLOCATE
    assert isinstance(answered, ServerAnswered)
    assert (answered.code, answered.rtt, answered.transaction_id) == (401, 0.25, sent.transaction_id)


def test_garbage_only_is_not_a_stun_server() -> None:
    script = UdpScript()
    script.start()
    script.hear(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    script.clock.advance(40)
    assert script.failure().cause is ServerVerdict.NOT_STUN


def test_garbage_on_a_stream_ends_it_at_once() -> None:
    script = UdpScript(reliable=True)
    script.start()
    script.hear(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    assert script.failure().cause is ServerVerdict.NOT_STUN


def challenge_to(script: UdpScript) -> bytes:
    attributes = [stun.error_code(401), stun.realm(REALM), stun.nonce(b"nonce-1")]
    return script.response(attributes, message_class=MessageClass.ERROR)


def test_messages_before_garbage_on_a_stream_count() -> None:
    script = UdpScript(reliable=True)
    script.start()
    script.hear(challenge_to(script) + b"\xff")
    assert len(script.wire.sent) == 2
    assert script.failure().cause is ServerVerdict.NOT_STUN


@pytest.mark.parametrize("split", range(1, 60))
def test_stream_may_be_split_anywhere(split: int) -> None:
    script = UdpScript(reliable=True)
    script.start()
    response = challenge_to(script)
    script.hear(response[:split])
    script.hear(response[split:])
    assert script.last.username == "alice"


@pytest.mark.parametrize("cause", [Verdict.REFUSED, Verdict.RESET, Verdict.CLOSED])
def test_path_fails_before_the_allocation_is_there(cause: Verdict) -> None:
    script = UdpScript(reliable=True)
    script.start()
    script.machine.path_lost(cause, script.now, "by the peer")
    assert script.told[0][0] == "failed"
    assert (script.failure().cause, script.failure().text) == (cause, "by the peer")
    assert script.clock.context.timers.next_at() is None


def test_nothing_is_heard_after_the_end() -> None:
    script = UdpScript()
    script.start()
    script.machine.path_lost(Verdict.REFUSED, script.now)
    told, sent = list(script.told), len(script.wire.sent)
    script.give()
    script.machine.path_lost(Verdict.REFUSED, script.now)
    script.machine.close(script.now)
    script.clock.advance(100)
    assert script.told == told and len(script.wire.sent) == sent
