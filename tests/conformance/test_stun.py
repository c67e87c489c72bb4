"""The suite's own reading and building of STUN, against the vectors of RFC 5769."""

from __future__ import annotations

import pytest

from interop.conformance import stun
from interop.conformance.stun import Attr, Draft, Kind
from tests.vectors import rfc5769


def test_rfc5769_2_1_is_read() -> None:
    message = stun.read(rfc5769.REQUEST)
    assert (message.kind, message.method) == (Kind.REQUEST, stun.BINDING)
    assert message.username == "evtj:h6vY"
    assert message.number(Attr.PRIORITY) == 0x6E0001FF
    assert message.integrity_holds(rfc5769.PASSWORD)
    assert not message.integrity_holds("another")
    assert message.fingerprint_holds
    assert [attribute.padding for attribute in message.all(Attr.USERNAME)] == [b"   "]


@pytest.mark.parametrize(
    ("data", "address"),
    [
        (rfc5769.IPV4_RESPONSE, ("192.0.2.1", 32853)),
        (rfc5769.IPV6_RESPONSE, ("2001:db8:1234:5678:11:2233:4455:6677", 32853)),
    ],
    ids=["2.2", "2.3"],
)
def test_rfc5769_responses_are_read_and_their_addresses_built(data: bytes, address: stun.Address) -> None:
    message = stun.read(data)
    assert message.kind is Kind.SUCCESS
    assert message.mapped == address
    assert stun.xor_address(address, message.transaction_id) == message.get(Attr.XOR_MAPPED_ADDRESS)
    assert message.integrity_holds(rfc5769.PASSWORD)
    assert message.fingerprint_holds


def test_rfc5769_2_1_is_built_again() -> None:
    request = Draft(Kind.REQUEST, rfc5769.TRANSACTION_ID)
    request.add(Attr.SOFTWARE, b"STUN test client")
    request.add(Attr.PRIORITY, b"\x6e\x00\x01\xff")
    request.add(Attr.ICE_CONTROLLED, bytes.fromhex("932ff9b151263b36"))
    request.add(Attr.USERNAME, b"evtj:h6vY", padding=b"   ")
    assert bytes(request.integrity(rfc5769.PASSWORD).fingerprint()) == rfc5769.REQUEST


def test_sha256_and_what_is_spoiled() -> None:
    both = stun.read(bytes(Draft(Kind.REQUEST).integrity("one").integrity_sha256("two").fingerprint()))
    assert both.integrity_holds("one") and both.sha256_holds("two") and both.fingerprint_holds
    spoiled = Draft(Kind.REQUEST).integrity("one", spoiled=True).integrity_sha256("two", spoiled=True)
    message = stun.read(bytes(spoiled.fingerprint(spoiled=True)))
    assert not (message.integrity_holds("one") or message.sha256_holds("two") or message.fingerprint_holds)


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"\0\1\0\0", "header"),
        (Draft(Kind.REQUEST).encode(type_=0x8001), "significant"),
        (Draft(Kind.REQUEST).encode(cookie=b"\0\0\0\0"), "cookie"),
        (Draft(Kind.REQUEST).encode(length=4), "length"),
        (bytes(Draft(Kind.REQUEST).add(Attr.PRIORITY, b"1234", length=40)), "longer than the message"),
        (bytes(Draft(Kind.REQUEST).raw(b"12")), "length"),
    ],
)
def test_what_is_no_stun_is_told_why(data: bytes, rule: str) -> None:
    with pytest.raises(stun.NotStunError, match=rule):
        stun.read(data)
    assert not stun.is_stun(data)


def test_errors_are_read() -> None:
    message = stun.read(bytes(Draft(Kind.ERROR).add(Attr.ERROR_CODE, stun.error_value(487, "Role Conflict"))))
    assert message.error == 487
