"""Refresh, loss and end of an allocation (RFC 8656 s8)."""

from __future__ import annotations

import pytest

from ice_tcp import stun
from ice_tcp.core.turn import Advice, Allocated, ServerDropReason, ServerVerdict, State, Wishes
from ice_tcp.core.verdicts import Verdict
from ice_tcp.stun import AttributeType, MessageClass, Method
from tests.core_turn.script import KEY, PEER, RELAYED, RELAYED6, UdpScript, gave


def living(*, lifetime: int = 600, reliable: bool = True) -> UdpScript:
    script = UdpScript(reliable=reliable)
    script.allocate(lifetime=lifetime)
    script.wire.sent.clear()
    script.told.clear()
    return script


@pytest.mark.parametrize(("lifetime", "at"), [(600, 540), (3600, 3540), (120, 60), (100, 50), (4, 2), (1, 0.5)])
def test_refreshed_in_time(lifetime: int, at: float) -> None:
    script = living(lifetime=lifetime)
    script.clock.advance(at - 0.01)
    assert not script.wire.sent
    script.clock.advance(0.02)
    assert script.last.method == Method.REFRESH
    assert script.last.lifetime is None and script.last.requested_address_family is None
    assert script.last.verify(KEY)


def test_server_decides_the_next_lifetime() -> None:
    script = living(lifetime=600)
    script.clock.advance(541)
    script.answer([stun.lifetime(100)])
    script.clock.advance(49)
    assert len(script.wire.sent) == 1
    script.clock.advance(2)
    assert len(script.wire.sent) == 2


@pytest.mark.parametrize("attributes", [[], [(AttributeType.LIFETIME, b"\0")]])
def test_refreshed_without_a_lifetime(attributes: list[stun.Attribute]) -> None:
    script = living(lifetime=600)
    script.clock.advance(541)
    script.answer(attributes)
    script.clock.advance(541)
    assert len(script.wire.sent) == 2 and not script.told


def test_wished_lifetime_goes_into_each_refresh() -> None:
    script = UdpScript(reliable=True, wishes=Wishes(lifetime=1800, software="ice-tcp"))
    script.allocate(lifetime=1800)
    script.clock.advance(1741)
    assert (script.last.method, script.last.lifetime, script.last.software) == (Method.REFRESH, 1800, "ice-tcp")


def test_stale_nonce_at_a_refresh() -> None:
    script = living()
    script.clock.advance(541)
    script.challenge(438, nonce=b"nonce-2")
    assert (script.last.method, script.last.nonce) == (Method.REFRESH, b"nonce-2")
    script.answer([stun.lifetime(600)])
    assert not script.told


@pytest.mark.parametrize("code", [400, 403, 437, 441, 500])
def test_refused_refresh_loses_the_allocation(code: int) -> None:
    script = living()
    script.clock.advance(541)
    script.refuse(code)
    assert script.told[0][0] == "lost"
    assert script.failure().cause == f"server-error-{code}"
    assert script.failure().advice is Advice.RECONNECT
    assert script.machine.state is State.ENDED


def test_refused_credentials_at_a_refresh() -> None:
    script = living()
    script.clock.advance(541)
    script.challenge(401, nonce=b"nonce-2")
    assert script.failure().cause is ServerVerdict.UNAUTHENTICATED


def test_silent_server_is_lost_when_the_refresh_is_given_up() -> None:
    script = living(reliable=False)
    script.clock.advance(540 + 39.4)
    assert not script.told
    script.clock.advance(0.2)
    assert script.told[0][0] == "lost"
    assert script.failure().cause is ServerVerdict.NO_RESPONSE


def test_short_allocation_ends_before_its_refresh_is_given_up() -> None:
    script = living(lifetime=10, reliable=False)
    script.clock.advance(10.1)
    assert script.failure().cause is ServerVerdict.EXPIRED


def test_refreshed_to_death() -> None:
    script = living()
    script.clock.advance(541)
    script.answer([stun.lifetime(0)])
    assert script.failure().cause is ServerVerdict.EXPIRED


def test_a_probe_refreshes_at_once_and_only_once() -> None:
    script = living(lifetime=600)
    script.clock.advance(100)
    script.machine.probe(script.now)
    script.machine.probe(script.now)
    assert [message.method for message in script.sent] == [Method.REFRESH]
    assert script.machine.in_doubt
    script.answer([stun.lifetime(600)])
    assert not script.machine.in_doubt
    script.clock.advance(539)
    assert len(script.wire.sent) == 1


def test_a_probe_finds_out_that_the_server_has_forgotten() -> None:
    script = living()
    script.machine.probe(script.now)
    script.refuse(437)
    assert script.told[-1][0] == "lost"
    assert script.failure().cause is ServerVerdict.ALLOCATION_MISMATCH


def test_there_is_nothing_to_probe_before_the_allocation() -> None:
    script = UdpScript()
    script.machine.probe(script.now)
    assert not script.wire.sent and not script.machine.in_doubt


def test_connection_breaks() -> None:
    script = living()
    script.machine.path_lost(Verdict.RESET, script.now)
    assert script.told[0][0] == "lost"
    assert (script.failure().cause, script.failure().advice) == (Verdict.RESET, Advice.RECONNECT)
    assert script.clock.context.timers.next_at() is None


def test_closing_deletes_the_allocation() -> None:
    script = living()
    script.machine.close(script.now)
    assert (script.last.method, script.last.lifetime) == (Method.REFRESH, 0)
    assert not script.told
    script.answer([stun.lifetime(0)])
    assert script.told == [("closed",)]
    assert script.clock.context.timers.next_at() is None


def test_closing_with_a_stale_nonce() -> None:
    script = living()
    script.machine.close(script.now)
    script.challenge(438, nonce=b"nonce-2")
    assert (script.last.lifetime, script.last.nonce) == (0, b"nonce-2")
    script.answer()
    assert script.told == [("closed",)]


def test_closing_what_is_gone_already() -> None:
    script = living()
    script.machine.close(script.now)
    script.refuse(437)
    assert script.told == [("closed",)]


def test_closing_is_not_waited_for_long() -> None:
    script = living(reliable=False)
    script.machine.close(script.now)
    script.clock.advance(1.9)
    assert not script.told
    script.clock.advance(0.2)
    assert script.told == [("closed",)]
    sent = len(script.wire.sent)
    script.clock.advance(60)
    assert len(script.wire.sent) == sent


def test_closing_before_the_start() -> None:
    script = UdpScript()
    script.machine.close(script.now)
    assert script.told == [("closed",)] and not script.wire.sent


def test_closing_before_the_challenge() -> None:
    script = UdpScript()
    script.start()
    script.machine.close(script.now)
    script.challenge()
    assert script.told == [("closed",)] and len(script.wire.sent) == 1


def test_closing_while_the_server_allocates() -> None:
    script = UdpScript()
    script.start()
    script.challenge()
    script.key = KEY
    script.machine.close(script.now)
    script.give()
    assert (script.last.method, script.last.lifetime) == (Method.REFRESH, 0)
    script.answer()
    assert script.told == [("closed",)]


def test_closing_while_the_connection_breaks() -> None:
    script = living()
    script.machine.close(script.now)
    script.machine.path_lost(Verdict.RESET, script.now)
    assert script.told == [("closed",)]


def test_owner_closes_as_soon_as_it_is_told() -> None:
    script = UdpScript()
    told = script.listener.allocated

    def close_at_once(allocated: Allocated, now: float) -> None:
        told(allocated, now)
        script.machine.close(now)

    script.listener.allocated = close_at_once  # type: ignore[method-assign] # a listener that calls back
    script.machine.permit([PEER.host], script.now)
    script.allocate()
    assert (script.last.method, script.last.lifetime) == (Method.REFRESH, 0)
    script.answer()
    assert script.told[-1] == ("closed",)
    assert Method.CREATE_PERMISSION not in [message.method for message in script.sent]
    assert script.clock.context.timers.next_at() is None


def test_nothing_can_be_done_while_closing() -> None:
    script = living()
    script.machine.close(script.now)
    script.machine.close(script.now)
    script.machine.permit([PEER.host], script.now)
    assert not script.machine.send_data(PEER, b"x", script.now)
    assert len(script.wire.sent) == 1
    script.indicate(Method.DATA)
    assert script.machine.dropped == {ServerDropReason.NO_ALLOCATION: 1}


def test_silence_over_datagrams_is_broken_for_the_nats() -> None:
    script = living(reliable=False)
    script.clock.advance(14.9)
    assert not script.wire.sent
    script.clock.advance(0.2)
    assert (script.last.message_class, script.last.method) == (MessageClass.INDICATION, Method.BINDING)
    script.permit(PEER.host)
    script.wire.sent.clear()
    script.clock.advance(14.8)
    assert not script.wire.sent
    script.clock.advance(15.2)
    assert [message.method for message in script.sent] == [Method.BINDING, Method.BINDING]


def test_dual_allocation_is_refreshed_as_one() -> None:
    script = UdpScript(reliable=True, wishes=Wishes(families=(4, 6)))
    script.start()
    script.challenge()
    script.key = KEY
    script.answer(gave(script.last.transaction_id, [RELAYED, RELAYED6]))
    script.clock.advance(541)
    assert script.last.method == Method.REFRESH
    assert script.last.requested_address_family is None and script.last.additional_address_family is None
