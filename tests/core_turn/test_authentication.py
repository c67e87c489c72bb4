"""Challenges, keys, integrity and bid-down (RFC 8489 s9.2), as an Allocate request meets them."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest

from ice_tcp import stun
from ice_tcp.core.turn import (
    Credentials,
    ServerDropReason,
    ServerMessageDropped,
    ServerVerdict,
    State,
    short_lived_credentials,
)
from ice_tcp.stun import (
    AlgorithmParameters,
    AttributeType,
    Integrity,
    IntegrityKey,
    MessageClass,
    Method,
    PasswordAlgorithm,
    SecurityFeature,
)
from ice_tcp.stun.credentials import userhash
from tests.core_turn.script import ALICE, BOTH_ALGORITHMS, KEY, REALM, SHA256_KEY, UdpScript

ALGORITHMS = SecurityFeature.PASSWORD_ALGORITHMS
ANONYMITY = SecurityFeature.USERNAME_ANONYMITY
WRONG_KEY = IntegrityKey.long_term("alice", REALM, "wrong")


def started(*, reliable: bool = False) -> UdpScript:
    script = UdpScript(reliable=reliable)
    script.start()
    return script


def test_first_request_has_no_credentials() -> None:
    script = started()
    assert script.last.method == Method.ALLOCATE
    assert script.last.requested_transport == 17
    assert not script.last.has_integrity
    assert script.last.username is None and script.last.nonce is None


def test_challenge_is_answered_with_realm_nonce_and_integrity() -> None:
    script = started()
    first = script.last
    script.challenge(nonce=b"n\xff\x00")
    assert script.last.transaction_id != first.transaction_id
    assert (script.last.username, script.last.realm, script.last.nonce) == ("alice", REALM, b"n\xff\x00")
    assert script.last.password_algorithms is None and script.last.password_algorithm is None
    assert script.last.integrity is Integrity.SHA1
    assert script.last.verify(KEY)


def test_server_without_authentication_is_fine() -> None:
    script = started()
    script.give()
    assert script.told[0][0] == "allocated"


def test_server_wants_credentials_that_nobody_gave() -> None:
    script = UdpScript(credentials=None)
    script.start()
    script.challenge()
    assert script.failure().cause is ServerVerdict.NO_CREDENTIALS
    assert script.machine.state is State.ENDED


def test_rejected_credentials_are_not_sent_twice() -> None:
    script = started()
    script.challenge()
    script.challenge(nonce=b"nonce-2")
    assert script.failure().cause is ServerVerdict.UNAUTHENTICATED
    assert len(script.wire.sent) == 2


def test_another_realm_is_another_chance_but_not_for_ever() -> None:
    script = started()
    for count in range(10):
        if script.told:
            break
        script.challenge(realm=f"realm-{count}")
    assert script.failure().cause is ServerVerdict.UNAUTHENTICATED
    assert len(script.wire.sent) == 5


def test_stale_nonce_is_replaced() -> None:
    script = started()
    script.challenge(nonce=b"old")
    script.challenge(438, nonce=b"new", realm=None)
    assert (script.last.nonce, script.last.realm) == (b"new", REALM)
    assert script.last.verify(KEY)
    script.key = KEY
    script.give()
    assert script.told[0][0] == "allocated"


def test_nonces_that_are_always_stale_end_the_request() -> None:
    script = started()
    script.challenge()
    while not script.told:
        script.challenge(438, nonce=b"n%d" % len(script.wire.sent))
    assert script.failure().cause is ServerVerdict.STALE_NONCE
    assert len(script.wire.sent) == 5


@pytest.mark.parametrize("attributes", [[stun.realm(REALM)], [stun.nonce(b"n")], []], ids=["nonce", "realm", "both"])
def test_challenge_lacks_what_it_must_have(attributes: list[stun.Attribute]) -> None:
    script = started()
    script.refuse(401, attributes)
    assert script.failure().cause is ServerVerdict.MALFORMED


@pytest.mark.parametrize("realm", [b"\xff\xfe", b"a\x07b", b""])
def test_realm_that_no_key_can_be_made_of(realm: bytes) -> None:
    script = started()
    cookie = stun.nonce_cookie(ANONYMITY)
    script.refuse(401, [(AttributeType.REALM, realm), stun.nonce(cookie + b"n")])
    assert script.failure().cause is ServerVerdict.MALFORMED


def test_sha256_is_chosen_wherever_it_is_offered() -> None:
    script = started()
    script.challenge(features=ALGORITHMS, algorithms=BOTH_ALGORITHMS)
    assert script.last.password_algorithms == BOTH_ALGORITHMS
    assert script.last.password_algorithm == AlgorithmParameters(PasswordAlgorithm.SHA256)
    assert script.last.integrity is Integrity.SHA256
    assert script.last.verify(SHA256_KEY)
    script.key, script.integrity = SHA256_KEY, Integrity.SHA256
    script.give()
    assert script.told[0][0] == "allocated"


def test_md5_is_chosen_if_nothing_else_is_known() -> None:
    script = started()
    offered = (AlgorithmParameters(0x7777, b"xyz"), AlgorithmParameters(PasswordAlgorithm.MD5))
    script.challenge(features=ALGORITHMS, algorithms=offered)
    assert script.last.password_algorithms == offered
    assert script.last.password_algorithm == AlgorithmParameters(PasswordAlgorithm.MD5)
    assert script.last.integrity is Integrity.SHA256
    assert script.last.verify(KEY)


def test_no_common_algorithm() -> None:
    script = started()
    script.challenge(features=ALGORITHMS, algorithms=[AlgorithmParameters(0x7777)])
    assert script.failure().cause is ServerVerdict.NO_COMMON_ALGORITHM


def test_username_is_hidden_where_the_server_can_read_it() -> None:
    script = started()
    script.challenge(features=ANONYMITY)
    assert script.last.username is None
    assert script.last.userhash == userhash("alice", REALM)
    assert script.last.verify(KEY)


def test_removed_algorithms_end_it() -> None:
    script = started()
    script.challenge(features=ALGORITHMS)
    assert script.failure().cause is ServerVerdict.BID_DOWN
    assert len(script.wire.sent) == 1


def test_algorithms_may_not_vanish_later() -> None:
    script = started()
    script.challenge(features=ALGORITHMS, algorithms=BOTH_ALGORITHMS)
    script.challenge(438, nonce=b"without cookie")
    assert script.failure().cause is ServerVerdict.BID_DOWN


def test_response_whose_nonce_announces_what_is_not_there_is_ignored() -> None:
    script = started()
    script.challenge()
    nonce = stun.nonce(stun.nonce_cookie(ALGORITHMS))
    script.refuse(486, [nonce], key=KEY)
    assert not script.told
    assert script.machine.dropped == {ServerDropReason.BID_DOWN: 1}


@pytest.mark.parametrize("key", [None, WRONG_KEY], ids=["missing", "wrong"])
def test_response_without_integrity_is_ignored_over_datagrams(key: IntegrityKey | None) -> None:
    script = started()
    script.challenge()
    script.refuse(486, key=key)
    assert not script.told
    assert script.machine.dropped == {ServerDropReason.BAD_INTEGRITY: 1}
    script.key = KEY
    script.give()
    assert script.told[0][0] == "allocated"


def test_only_forged_answers_are_told_at_the_end() -> None:
    script = started()
    script.challenge()
    script.refuse(486, key=WRONG_KEY)
    script.clock.advance(39.4)
    assert not script.told
    script.clock.advance(0.2)
    assert script.failure().cause is ServerVerdict.BAD_INTEGRITY
    assert "486" in script.failure().text


def test_response_without_integrity_ends_it_over_a_stream() -> None:
    script = started(reliable=True)
    script.challenge()
    script.refuse(486, key=None)
    assert script.failure().cause is ServerVerdict.BAD_INTEGRITY


def test_bad_request_without_integrity_is_ignored_until_the_end() -> None:
    script = started()
    script.refuse(400)
    assert not script.told
    script.clock.advance(40)
    assert script.failure().cause is ServerVerdict.BAD_REQUEST


def test_bad_request_over_a_stream() -> None:
    script = started(reliable=True)
    script.refuse(400)
    assert script.failure().cause is ServerVerdict.BAD_REQUEST


def test_answer_to_another_transaction_is_ignored() -> None:
    script = started()
    script.answer(transaction_id=bytes(12))
    assert not script.told
    assert script.machine.dropped == {ServerDropReason.UNKNOWN_TRANSACTION: 1}


def test_answer_of_another_method_is_ignored() -> None:
    script = started()
    script.answer(method=Method.REFRESH)
    assert not script.told
    assert script.machine.dropped == {ServerDropReason.WRONG_METHOD: 1}


def test_request_from_the_server_is_ignored() -> None:
    script = started()
    script.hear(stun.encode(MessageClass.REQUEST, Method.BINDING, bytes(12)))
    assert script.machine.dropped == {ServerDropReason.REQUEST: 1}
    assert len(script.wire.sent) == 1


def test_second_answer_is_ignored() -> None:
    script = started()
    request = script.last
    script.challenge()
    script.challenge(to=request, nonce=b"another")
    assert script.last.nonce == b"nonce-1"
    assert script.machine.dropped == {ServerDropReason.UNKNOWN_TRANSACTION: 1}


@pytest.mark.parametrize("reliable", [False, True])
def test_malformed_error_code(reliable: bool) -> None:
    script = started(reliable=reliable)
    script.answer([(AttributeType.ERROR_CODE, b"\0")], message_class=MessageClass.ERROR)
    script.clock.advance(40)
    assert script.failure().cause is ServerVerdict.MALFORMED
    assert script.machine.dropped == {ServerDropReason.MALFORMED: 1}


def test_malformed_algorithms_in_a_challenge() -> None:
    script = started()
    attributes = [stun.realm(REALM), stun.nonce(b"n"), (AttributeType.PASSWORD_ALGORITHMS, b"\0\1\0")]
    script.refuse(401, attributes)
    assert script.machine.dropped == {ServerDropReason.MALFORMED: 1}
    assert len(script.wire.sent) == 1


def test_error_response_without_a_code() -> None:
    script = started()
    script.answer(message_class=MessageClass.ERROR)
    assert script.failure().cause is ServerVerdict.MALFORMED


@pytest.mark.parametrize("message_class", [MessageClass.SUCCESS, MessageClass.ERROR])
def test_attributes_that_must_be_understood(message_class: MessageClass) -> None:
    script = started()
    script.answer([stun.error_code(486), (0x7FFF, b"")], message_class=message_class)
    assert script.failure().cause is ServerVerdict.MALFORMED
    assert "0x7fff" in script.failure().text


def test_drops_are_traced() -> None:
    script = started()
    script.hear(b"\0" * 20)
    dropped = script.records[-1]
    assert isinstance(dropped, ServerMessageDropped)
    assert (dropped.server, dropped.reason) == ("turn:test", ServerDropReason.MALFORMED)


def test_traces_hold_no_secrets() -> None:
    script = started()
    script.challenge()
    script.refuse(486, key=None)
    assert len(script.records) == 4
    assert "sesame" not in repr(script.records) + repr(ALICE)


def test_short_lived_credentials() -> None:
    credentials = short_lived_credentials("north", "alice", 1_700_000_000.9, lifetime=600)
    assert credentials.username == "1700000600:alice"
    digest = hmac.new(b"north", b"1700000600:alice", hashlib.sha1).digest()
    assert credentials.password == base64.b64encode(digest).decode()
    assert short_lived_credentials("north", "", 0, lifetime=1).username == "1"


@pytest.mark.parametrize(("username", "password"), [("", "x"), ("a\n", "x"), ("x" * 509, "x"), ("a", "")])
def test_credentials_that_stun_cannot_carry(username: str, password: str) -> None:
    with pytest.raises(ValueError):
        Credentials(username, password)
