"""Permissions: asked for in batches, refreshed, refused (RFC 8656 s9, s10)."""

from __future__ import annotations

import pytest

from candidates.candidate import CandidateError
from ice_tcp.core.turn import ServerVerdict, State, Wishes
from ice_tcp.stun import AttributeType, Message, Method
from tests.core_turn.script import KEY, PEER, PEER6, RELAYED, RELAYED6, UdpScript

FORBIDDEN = ServerVerdict.FORBIDDEN


def hosts_of(message: Message) -> list[str]:
    assert message.method == Method.CREATE_PERMISSION
    return [host for host, _ in message.xor_addresses(AttributeType.XOR_PEER_ADDRESS)]


def living(*, reliable: bool = True) -> UdpScript:
    script = UdpScript(reliable=reliable)
    script.allocate(lifetime=100_000)
    script.wire.sent.clear()
    script.told.clear()
    return script


def test_several_peers_in_one_request() -> None:
    script = living()
    script.machine.permit(["192.0.2.1", "192.0.2.2", "192.0.2.1"], script.now)
    assert len(script.wire.sent) == 1
    assert hosts_of(script.last) == ["192.0.2.1", "192.0.2.2"]
    assert script.last.verify(KEY)
    script.answer()
    assert script.told == [("granted", "192.0.2.1"), ("granted", "192.0.2.2")]


def test_many_peers_in_several_requests() -> None:
    script = living()
    script.machine.permit([f"192.0.2.{n}" for n in range(45)], script.now)
    assert [len(hosts_of(message)) for message in script.sent] == [20, 20, 5]
    assert max(map(len, script.wire.sent)) < 1200


def test_asking_again_asks_for_nothing() -> None:
    script = living()
    script.machine.permit([PEER.host], script.now)
    script.machine.permit([PEER.host], script.now)
    assert len(script.wire.sent) == 1
    script.answer()
    assert script.told == [("granted", PEER.host)]
    script.machine.permit([PEER.host], script.now)
    assert len(script.wire.sent) == 1
    assert script.told == [("granted", PEER.host)] * 2


def test_permissions_wait_for_the_allocation() -> None:
    script = UdpScript()
    script.machine.permit(["192.0.2.1", "192.0.2.9"], script.now)
    script.start()
    script.machine.permit(["192.0.2.2"], script.now)
    script.machine.release(["192.0.2.9"], script.now)
    script.challenge()
    script.key = KEY
    script.give()
    assert hosts_of(script.last) == ["192.0.2.1", "192.0.2.2"]


def test_peer_of_a_family_that_is_not_relayed() -> None:
    script = living()
    script.machine.permit([PEER6.host, PEER.host], script.now)
    assert hosts_of(script.last) == [PEER.host]
    assert script.told == [("refused", PEER6.host, ServerVerdict.PEER_FAMILY_MISMATCH)]


def test_dual_allocation_permits_both_families() -> None:
    script = UdpScript(wishes=Wishes(families=(4, 6)))
    script.allocate([RELAYED, RELAYED6])
    script.machine.permit([PEER6.host, PEER.host], script.now)
    assert hosts_of(script.last) == [PEER6.host, PEER.host]


def test_address_is_told_in_its_canonical_spelling() -> None:
    script = UdpScript(wishes=Wishes(families=(6,)))
    script.allocate([RELAYED6])
    script.permit("2001:DB8:0::33")
    assert script.told[-1] == ("granted", PEER6.host)
    assert script.machine.send_stun(PEER6, b"x", script.now)


def test_what_is_no_address() -> None:
    with pytest.raises(CandidateError):
        living().machine.permit(["192.0.2.1.9"], 0.0)


def test_all_are_refreshed_together_every_four_minutes() -> None:
    script = living()
    script.permit("192.0.2.1")
    script.clock.advance(100)
    script.permit("192.0.2.2")
    script.told.clear()
    for _ in range(4):
        script.wire.sent.clear()
        script.clock.advance(139 if script.now < 1200 else 239)
        assert not script.wire.sent
        script.clock.advance(1)
        assert [hosts_of(message) for message in script.sent] == [["192.0.2.1", "192.0.2.2"]]
        script.answer()
    assert not script.told  # a refresh is no news


def test_permission_that_is_not_refreshed_ends() -> None:
    script = living()
    script.permit(PEER.host)
    script.machine.release([PEER.host], script.now)
    script.clock.advance(299)
    assert script.machine.send_stun(PEER, b"x", script.now)
    script.clock.advance(1)
    assert not script.machine.send_stun(PEER, b"x", script.now)


def test_released_permissions_run_out() -> None:
    script = living()
    script.permit("192.0.2.1", "192.0.2.2")
    script.machine.release(["192.0.2.1"], script.now)
    script.wire.sent.clear()
    script.clock.advance(240)
    assert hosts_of(script.last) == ["192.0.2.2"]
    script.answer()
    script.machine.release(["192.0.2.2"], script.now)
    script.wire.sent.clear()
    script.clock.advance(1000)
    assert not script.wire.sent


def test_permission_wanted_again_after_its_release() -> None:
    script = living()
    script.permit(PEER.host)
    script.machine.release([PEER.host], script.now)
    script.clock.advance(1000)
    script.wire.sent.clear()
    script.permit(PEER.host)
    assert script.told == [("granted", PEER.host)] * 2
    script.clock.advance(240)
    assert len(script.wire.sent) == 2


@pytest.mark.parametrize("code", [400, 403, 443])
def test_one_bad_peer_does_not_spoil_the_others(code: int) -> None:
    script = living()
    script.machine.permit(["192.0.2.1", "10.0.0.1", "192.0.2.2"], script.now)
    script.refuse(code)
    assert not script.told
    singles = script.sent[1:]
    assert [hosts_of(message) for message in singles] == [["192.0.2.1"], ["10.0.0.1"], ["192.0.2.2"]]
    script.answer(to=singles[0])
    script.refuse(code, to=singles[1])
    script.answer(to=singles[2])
    assert [each[:2] for each in script.told] == [
        ("granted", "192.0.2.1"),
        ("refused", "10.0.0.1"),
        ("granted", "192.0.2.2"),
    ]


@pytest.mark.parametrize("code", [401, 486, 508])
def test_what_is_not_one_peers_fault_refuses_all(code: int) -> None:
    script = living()
    script.machine.permit(["192.0.2.1", "192.0.2.2"], script.now)
    if code == 401:
        script.challenge(nonce=b"nonce-2")
    else:
        script.refuse(code)
    assert [each[:2] for each in script.told] == [("refused", "192.0.2.1"), ("refused", "192.0.2.2")]
    assert script.machine.state is State.ALLOCATED


def test_stale_nonce() -> None:
    script = living()
    script.machine.permit([PEER.host], script.now)
    script.challenge(438, nonce=b"nonce-2")
    assert script.last.nonce == b"nonce-2" and hosts_of(script.last) == [PEER.host]
    script.answer()
    assert script.told == [("granted", PEER.host)]


def test_refused_peer_may_be_asked_for_again() -> None:
    script = living()
    script.machine.permit([PEER.host], script.now)
    script.refuse(403)
    assert script.told == [("refused", PEER.host, FORBIDDEN)]
    script.permit(PEER.host)
    assert script.told[-1] == ("granted", PEER.host)


def test_refresh_is_refused() -> None:
    script = living()
    script.permit(PEER.host)
    script.clock.advance(240)
    script.refuse(403)
    assert script.told[-1] == ("refused", PEER.host, FORBIDDEN)
    assert not script.machine.send_stun(PEER, b"x", script.now)


@pytest.mark.parametrize(
    ("code", "cause"), [(437, ServerVerdict.ALLOCATION_MISMATCH), (441, ServerVerdict.WRONG_CREDENTIALS)]
)
def test_allocation_is_not_there(code: int, cause: ServerVerdict) -> None:
    script = living()
    script.machine.permit([PEER.host], script.now)
    script.refuse(code)
    assert [each[0] for each in script.told] == ["lost"]
    assert script.failure().cause is cause


def test_silent_server_is_lost() -> None:
    script = living(reliable=False)
    script.machine.permit([PEER.host], script.now)
    script.clock.advance(40)
    assert [each[0] for each in script.told] == ["lost"]
    assert script.failure().cause is ServerVerdict.NO_RESPONSE


def test_server_that_speaks_but_does_not_answer_is_kept() -> None:
    script = living(reliable=False)
    script.machine.permit([PEER.host], script.now)
    script.clock.advance(20)
    script.indicate(Method.DATA)
    script.clock.advance(20)
    assert script.told == [("refused", PEER.host, ServerVerdict.NO_RESPONSE)]
    assert script.machine.state is State.ALLOCATED
