from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ice_tcp import stun
from ice_tcp.stun import (
    AddressErrorCode,
    AlgorithmParameters,
    AttributeType,
    ChangeRequest,
    DecodeError,
    ErrorCode,
    ErrorNumber,
    Icmp,
    Message,
    MessageClass,
    Method,
    decode,
    encode,
)

ID = bytes.fromhex("b7e7a701bc34d686fa87dfae")
Attribute = tuple[int, bytes]


def message(*attributes: Attribute) -> Message:
    return decode(encode(MessageClass.REQUEST, Method.BINDING, ID, attributes))


def read(attribute: Attribute, name: str) -> object:
    """The typed property ``name`` of a message with just this attribute."""
    return getattr(message(attribute), name)


VALUES: list[tuple[str, Attribute, object]] = [
    ("mapped_address", stun.mapped_address("192.0.2.1", 0), ("192.0.2.1", 0)),
    ("mapped_address", stun.mapped_address("2001:DB8::0:1", 65535), ("2001:db8::1", 65535)),
    ("xor_mapped_address", stun.xor_mapped_address("192.0.2.1", 32853, ID), ("192.0.2.1", 32853)),
    ("xor_mapped_address", stun.xor_mapped_address("fe80::1%eth0", 1, ID), ("fe80::1", 1)),
    ("username", stun.username("evtj:h6vY"), "evtj:h6vY"),
    ("userhash", stun.userhash(bytes(range(32))), bytes(range(32))),
    ("realm", stun.realm("example.org"), "example.org"),
    ("nonce", stun.nonce(b"\xff\0anything"), b"\xff\0anything"),
    (
        "password_algorithms",
        stun.password_algorithms([AlgorithmParameters(2), AlgorithmParameters(9, b"abcde"), AlgorithmParameters(1)]),
        (AlgorithmParameters(2), AlgorithmParameters(9, b"abcde"), AlgorithmParameters(1)),
    ),
    ("password_algorithm", stun.password_algorithm(2), AlgorithmParameters(2)),
    ("error_code", stun.error_code(487), ErrorCode(487, "Role Conflict")),
    ("error_code", stun.error_code(300, "elsewhere"), ErrorCode(300, "elsewhere")),
    ("error_code", stun.error_code(699, ""), ErrorCode(699, "")),
    ("unknown_attributes", stun.unknown_attributes([0x3FFE, 0, 0xFFFF]), (0x3FFE, 0, 0xFFFF)),
    ("unknown_attributes", stun.unknown_attributes([]), ()),
    ("software", stun.software("ice-tcp \u00e9"), "ice-tcp \u00e9"),
    ("alternate_server", stun.alternate_server("192.0.2.9", 3478), ("192.0.2.9", 3478)),
    ("alternate_domain", stun.alternate_domain("stun.example.org"), "stun.example.org"),
    ("priority", stun.priority(0x6E0001FF), 0x6E0001FF),
    ("use_candidate", stun.use_candidate(), True),
    ("ice_controlled", stun.ice_controlled(2**64 - 1), 2**64 - 1),
    ("ice_controlling", stun.ice_controlling(0), 0),
    ("nomination", stun.nomination(7), 7),
    ("channel_number", stun.channel_number(0x4FFF), 0x4FFF),
    ("lifetime", stun.lifetime(600), 600),
    ("xor_peer_address", stun.xor_peer_address("192.0.2.1", 9, ID), ("192.0.2.1", 9)),
    ("data", stun.data(b""), b""),
    ("data", stun.data(b"12345"), b"12345"),
    ("xor_relayed_address", stun.xor_relayed_address("2001:db8::2", 50000, ID), ("2001:db8::2", 50000)),
    ("requested_address_family", stun.requested_address_family(4), 4),
    ("additional_address_family", stun.additional_address_family(6), 6),
    ("address_error_code", stun.address_error_code(6, 440), AddressErrorCode(6, 440, "Address Family not Supported")),
    ("even_port", stun.even_port(True), True),
    ("even_port", stun.even_port(False), False),
    ("requested_transport", stun.requested_transport(17), 17),
    ("dont_fragment", stun.dont_fragment(), True),
    ("reservation_token", stun.reservation_token(b"12345678"), b"12345678"),
    ("icmp", stun.icmp(Icmp(3, 4, 1400)), Icmp(3, 4, 1400)),
    ("connection_id", stun.connection_id(0xFFFFFFFF), 0xFFFFFFFF),
    ("change_request", stun.change_request(change_ip=True, change_port=False), ChangeRequest(True, False)),
    ("change_request", stun.change_request(change_ip=False, change_port=True), ChangeRequest(False, True)),
    ("response_port", stun.response_port(8080), 8080),
    ("response_origin", stun.response_origin("192.0.2.7", 3478), ("192.0.2.7", 3478)),
    ("other_address", stun.other_address("192.0.2.8", 3479), ("192.0.2.8", 3479)),
]


@pytest.mark.parametrize(("name", "attribute", "value"), VALUES)
def test_what_is_encoded_is_read_again(name: str, attribute: Attribute, value: object) -> None:
    assert read(attribute, name) == value


@pytest.mark.parametrize("name", sorted({name for name, _, _ in VALUES}))
def test_what_is_absent_is_none(name: str) -> None:
    flags = ("use_candidate", "dont_fragment")
    assert getattr(message(), name) is (False if name in flags else None)


def test_every_property_is_tested() -> None:
    typed = {name for name in dir(Message) if type(getattr(Message, name)).__name__ in ("_Typed", "_XorAddress")}
    assert typed - {name for name, _, _ in VALUES} == {"cache_timeout"}


def test_cache_timeout_is_read() -> None:
    # Servers of drafts of RFC 5780 send it; nothing of ours does
    assert read((AttributeType.CACHE_TIMEOUT, bytes((0, 0, 1, 0))), "cache_timeout") == 256


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(min_size=12, max_size=12))
def test_addresses_round_trip(ip: object, port: int, transaction_id: bytes) -> None:
    for encoder, name in ((stun.xor_mapped_address, "xor_mapped_address"), (stun.xor_peer_address, "xor_peer_address")):
        attribute = encoder(str(ip), port, transaction_id)
        decoded = decode(encode(MessageClass.SUCCESS, Method.BINDING, transaction_id, [attribute]))
        assert getattr(decoded, name) == (str(ip), port)
    assert message(stun.mapped_address(str(ip), port)).mapped_address == (str(ip), port)


A = AttributeType
MALFORMED: list[tuple[str, int, bytes]] = [
    ("mapped_address", A.MAPPED_ADDRESS, b""),
    ("mapped_address", A.MAPPED_ADDRESS, b"\0\1\0\0\1\2\3"),
    ("mapped_address", A.MAPPED_ADDRESS, b"\0\2\0\0\1\2\3\4"),
    ("mapped_address", A.MAPPED_ADDRESS, b"\0\1\0\0" + bytes(16)),
    ("xor_mapped_address", A.XOR_MAPPED_ADDRESS, b""),
    ("xor_mapped_address", A.XOR_MAPPED_ADDRESS, b"\0\3\0\0\1\2\3\4"),
    ("xor_mapped_address", A.XOR_MAPPED_ADDRESS, b"\0\1\0\0" + bytes(16)),
    ("xor_mapped_address", A.XOR_MAPPED_ADDRESS, b"\0\2" + bytes(40)),
    ("username", A.USERNAME, b"\xff"),
    ("username", A.USERNAME, b"x" * 764),
    ("userhash", A.USERHASH, bytes(31)),
    ("realm", A.REALM, b"\xc3"),
    ("password_algorithms", A.PASSWORD_ALGORITHMS, b"\0\1"),
    ("password_algorithms", A.PASSWORD_ALGORITHMS, b"\0\1\0\4abc"),
    ("password_algorithm", A.PASSWORD_ALGORITHM, b""),
    ("password_algorithm", A.PASSWORD_ALGORITHM, b"\0\1\0\0\0\2\0\0"),
    ("error_code", A.ERROR_CODE, b"\0\0\4"),
    ("error_code", A.ERROR_CODE, b"\0\0\2\0"),
    ("error_code", A.ERROR_CODE, b"\0\0\7\0"),
    ("error_code", A.ERROR_CODE, b"\0\0\4\x64"),
    ("error_code", A.ERROR_CODE, b"\0\0\4\0\xff"),
    ("error_code", A.ERROR_CODE, b"\0\0\4\0" + b"x" * 764),
    ("unknown_attributes", A.UNKNOWN_ATTRIBUTES, b"\0\1\0"),
    ("alternate_domain", A.ALTERNATE_DOMAIN, b""),
    ("alternate_domain", A.ALTERNATE_DOMAIN, b"x" * 256),
    ("alternate_domain", A.ALTERNATE_DOMAIN, b"\xc3\xa9"),
    ("priority", A.PRIORITY, bytes(3)),
    ("ice_controlled", A.ICE_CONTROLLED, bytes(4)),
    ("channel_number", A.CHANNEL_NUMBER, bytes(2)),
    ("requested_address_family", A.REQUESTED_ADDRESS_FAMILY, b"\3\0\0\0"),
    ("requested_address_family", A.REQUESTED_ADDRESS_FAMILY, b"\1"),
    ("address_error_code", A.ADDRESS_ERROR_CODE, b"\3\0\4\50"),
    ("even_port", A.EVEN_PORT, b""),
    ("reservation_token", A.RESERVATION_TOKEN, bytes(7)),
    ("icmp", A.ICMP, bytes(4)),
    ("change_request", A.CHANGE_REQUEST, bytes(3)),
]


@pytest.mark.parametrize(("name", "type_", "value"), MALFORMED)
def test_malformed_values_are_refused_when_read(name: str, type_: int, value: bytes) -> None:
    decoded = message((type_, value), stun.software("x"))
    assert decoded.software == "x"
    with pytest.raises(DecodeError):
        getattr(decoded, name)


def test_reserved_bits_are_ignored() -> None:
    assert read((A.MAPPED_ADDRESS, b"\xff\1\0\2\1\2\3\4"), "mapped_address") == ("1.2.3.4", 2)
    assert read((A.ERROR_CODE, b"\xff\xff\xfc\1why"), "error_code") == (401, "why")
    assert read((A.CHANNEL_NUMBER, b"\x40\0\xff\xff"), "channel_number") == 0x4000
    assert read((A.REQUESTED_TRANSPORT, b"\x11\xff\xff\xff"), "requested_transport") == 17
    assert read((A.REQUESTED_ADDRESS_FAMILY, b"\2\xff\xff\xff"), "requested_address_family") == 6
    assert read((A.EVEN_PORT, b"\x7f"), "even_port") is False
    assert read((A.CHANGE_REQUEST, b"\xff\xff\xff\xf9"), "change_request") == (False, False)


def test_username_of_the_longest_size_of_rfc5389_is_read() -> None:
    assert read((A.USERNAME, b"x" * 763), "username") == "x" * 763


@pytest.mark.parametrize(
    ("encoder", "problem"),
    [
        (lambda: stun.username("x" * 509), "508"),
        (lambda: stun.username("\u3042" * 170), "508"),
        (lambda: stun.username("null\0"), "OpaqueString"),
        (lambda: stun.realm("x" * 128), "127"),
        (lambda: stun.software("x" * 128), "127"),
        (lambda: stun.error_code(299, "x"), "300 to 699"),
        (lambda: stun.error_code(700, "x"), "300 to 699"),
        (lambda: stun.error_code(499), "499 is not a valid ErrorNumber"),
        (lambda: stun.priority(1 << 32), "32 bits"),
        (lambda: stun.priority(-1), "32 bits"),
        (lambda: stun.ice_controlled(1 << 64), "64 bits"),
        (lambda: stun.channel_number(1 << 16), "16 bits"),
        (lambda: stun.mapped_address("host.example", 1), "host.example"),
        (lambda: stun.xor_mapped_address("192.0.2.1", 65536, ID), "16 bits"),
        (lambda: stun.requested_address_family(5), "neither 4 nor 6"),
        (lambda: stun.reservation_token(b"1234567"), "8 bytes, not 7"),
        (lambda: stun.userhash(bytes(31)), "32 bytes, not 31"),
        (lambda: stun.alternate_domain("\u00e9.example"), "ASCII"),
    ],
)
def test_what_does_not_fit_is_refused(encoder: Callable[[], Attribute], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        encoder()


@pytest.mark.parametrize(
    ("number", "reason"),
    [(420, "Unknown Attribute"), (438, "Stale Nonce"), (447, "Connection Timeout or Failure"), (300, "Try Alternate")],
)
def test_reasons_are_the_recommended_ones(number: int, reason: str) -> None:
    assert ErrorNumber(number).reason == reason
