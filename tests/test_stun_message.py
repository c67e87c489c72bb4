from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ice_tcp import stun
from ice_tcp.stun import (
    AttributeType,
    DecodeError,
    Integrity,
    IntegrityKey,
    MessageClass,
    Method,
    PasswordAlgorithm,
    decode,
    encode,
    is_stun,
)
from tests.fuzz import fuzz_stun
from tests.fuzz.harness import inputs
from tests.vectors import rfc5769

KEY = IntegrityKey.short_term(rfc5769.PASSWORD)
OTHER_KEY = IntegrityKey.short_term("anotherPasswordOf22char")
LONG_TERM_KEY = IntegrityKey.long_term(rfc5769.LONG_TERM_USERNAME, rfc5769.LONG_TERM_REALM, rfc5769.LONG_TERM_PASSWORD)
ID = rfc5769.TRANSACTION_ID

# An attribute type of each range that nobody has assigned
UNKNOWN_REQUIRED = 0x3FFE
UNKNOWN_OPTIONAL = 0xBFFE


def binding(
    *attributes: tuple[int, bytes], key: IntegrityKey | None = None, fingerprint: bool = False, **options: Integrity
) -> bytes:
    return encode(MessageClass.REQUEST, Method.BINDING, ID, attributes, key=key, fingerprint=fingerprint, **options)


def with_tail(message: bytes, *attributes: tuple[int, bytes]) -> bytes:
    """``message`` with attributes after those it has, whatever they are, its length put right."""
    tail = b"".join(
        type_.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)
        for type_, value in attributes
    )
    return message[:2] + (len(message) - 20 + len(tail)).to_bytes(2, "big") + message[4:] + tail


# RFC 5769


def test_rfc5769_2_1_request() -> None:
    message = decode(rfc5769.REQUEST)
    assert (message.message_class, message.method) == (MessageClass.REQUEST, Method.BINDING)
    assert message.transaction_id == ID
    assert message.software == "STUN test client"
    assert message.priority == 0x6E0001FF
    assert message.ice_controlled == 0x932FF9B151263B36
    assert message.username == "evtj:h6vY"
    assert message.has_fingerprint
    assert message.verify(KEY)
    assert not message.verify(OTHER_KEY)


@pytest.mark.parametrize(
    ("vector", "host"),
    [
        pytest.param(rfc5769.IPV4_RESPONSE, "192.0.2.1", id="2.2"),
        pytest.param(rfc5769.IPV6_RESPONSE, "2001:db8:1234:5678:11:2233:4455:6677", id="2.3"),
    ],
)
def test_rfc5769_2_2_and_2_3_responses(vector: bytes, host: str) -> None:
    message = decode(vector)
    assert (message.message_class, message.method) == (MessageClass.SUCCESS, Method.BINDING)
    assert message.transaction_id == ID
    assert message.software == "test vector"
    assert message.xor_mapped_address == (host, 32853)
    assert message.has_fingerprint
    assert message.verify(KEY)
    assert not message.verify(OTHER_KEY)


def test_rfc5769_2_4_long_term_request() -> None:
    message = decode(rfc5769.LONG_TERM_REQUEST)
    assert message.transaction_id == rfc5769.LONG_TERM_TRANSACTION_ID
    assert message.username == rfc5769.LONG_TERM_USERNAME
    assert message.nonce == rfc5769.LONG_TERM_NONCE
    assert message.realm == rfc5769.LONG_TERM_REALM
    assert message.security_features is None
    assert not message.has_fingerprint
    assert message.verify(LONG_TERM_KEY)
    assert not message.verify(KEY)


def test_rfc5769_2_4_is_encoded_to_the_same_bytes() -> None:
    attributes = [
        stun.username(rfc5769.LONG_TERM_USERNAME),
        stun.nonce(rfc5769.LONG_TERM_NONCE),
        stun.realm(rfc5769.LONG_TERM_REALM),
    ]
    encoded = encode(
        MessageClass.REQUEST,
        Method.BINDING,
        rfc5769.LONG_TERM_TRANSACTION_ID,
        attributes,
        key=LONG_TERM_KEY,
        fingerprint=False,
    )
    assert encoded == rfc5769.LONG_TERM_REQUEST


@pytest.mark.parametrize(
    ("vector", "message_class", "attributes"),
    [
        pytest.param(
            rfc5769.REQUEST,
            MessageClass.REQUEST,
            [
                stun.software("STUN test client"),
                stun.priority(0x6E0001FF),
                stun.ice_controlled(0x932FF9B151263B36),
                stun.username("evtj:h6vY"),
            ],
            id="2.1",
        ),
        pytest.param(
            rfc5769.IPV4_RESPONSE,
            MessageClass.SUCCESS,
            [stun.software("test vector"), stun.xor_mapped_address("192.0.2.1", 32853, ID)],
            id="2.2",
        ),
        pytest.param(
            rfc5769.IPV6_RESPONSE,
            MessageClass.SUCCESS,
            [
                stun.software("test vector"),
                stun.xor_mapped_address("2001:db8:1234:5678:11:2233:4455:6677", 32853, ID),
            ],
            id="2.3",
        ),
    ],
)
def test_rfc5769_2_1_to_2_3_are_encoded_to_the_same_bytes_but_padding(
    vector: bytes, message_class: MessageClass, attributes: list[tuple[int, bytes]]
) -> None:
    # The RFC pads these with spaces; senders must pad with zeros (RFC 8489 s14), and integrity covers padding
    zero_padded = vector.replace(b"h6vY   ", b"h6vY\0\0\0").replace(b"vector ", b"vector\0")
    assert zero_padded != vector
    encoded = encode(message_class, Method.BINDING, ID, attributes, key=KEY)
    before_integrity = len(vector) - 32
    assert len(encoded) == len(vector)
    assert encoded[:before_integrity] == zero_padded[:before_integrity]
    assert decode(encoded).verify(KEY)


def test_rfc8489_b1_is_malformed_as_printed() -> None:
    # Its length, and the HMAC over it, count the header: see the vector
    with pytest.raises(DecodeError, match="length 156 in a message of 156 bytes"):
        decode(rfc5769.USERHASH_REQUEST)


def test_rfc8489_b1_with_its_length_put_right() -> None:
    data = rfc5769.USERHASH_REQUEST
    message = decode(data[:2] + (len(data) - 20).to_bytes(2, "big") + data[4:])
    assert message.userhash == stun.credentials.userhash(rfc5769.LONG_TERM_USERNAME, rfc5769.LONG_TERM_REALM)
    assert message.nonce == rfc5769.USERHASH_NONCE
    assert message.security_features == stun.SecurityFeature.NONE
    assert message.integrity is Integrity.SHA256


def test_rfc8489_b1_hmac() -> None:
    key = IntegrityKey.long_term(
        rfc5769.LONG_TERM_USERNAME, rfc5769.LONG_TERM_REALM, rfc5769.LONG_TERM_PASSWORD, PasswordAlgorithm.SHA256
    )
    assert key.sha256(rfc5769.USERHASH_REQUEST[:-36]) == rfc5769.USERHASH_REQUEST[-32:]


# Header


@pytest.mark.parametrize(
    ("message_class", "method", "type_"),
    [
        (MessageClass.REQUEST, Method.BINDING, 0x0001),
        (MessageClass.INDICATION, Method.BINDING, 0x0011),
        (MessageClass.SUCCESS, Method.BINDING, 0x0101),
        (MessageClass.ERROR, Method.BINDING, 0x0111),
        (MessageClass.INDICATION, Method.SEND, 0x0016),
        (MessageClass.INDICATION, Method.CONNECTION_ATTEMPT, 0x001C),
        (MessageClass.REQUEST, 0xFFF, 0x3EEF),
        (MessageClass.ERROR, 0xFFF, 0x3FFF),
        (MessageClass.SUCCESS, 0x080, 0x0300),
    ],
)
def test_class_and_method_are_interleaved(message_class: MessageClass, method: int, type_: int) -> None:
    data = encode(message_class, method, ID, fingerprint=False)
    assert int.from_bytes(data[:2], "big") == type_
    message = decode(data)
    assert (message.message_class, message.method) == (message_class, method)


@given(st.sampled_from(MessageClass), st.integers(0, 0xFFF))
def test_class_and_method_round_trip(message_class: MessageClass, method: int) -> None:
    message = decode(encode(message_class, method, ID))
    assert (message.message_class, message.method) == (message_class, method)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "0 bytes are no STUN header"),
        (binding()[:19], "19 bytes are no STUN header"),
        (b"\x40" + binding()[1:], "first bits"),
        (b"\x80" + binding()[1:], "first bits"),
        (binding()[:4] + b"\0" + binding()[5:], "magic cookie"),
        (binding() + b"\0", "length 0 in a message of 21 bytes"),
        (binding(stun.priority(1))[:-4], "length 8 in a message of 24 bytes"),
        (binding()[:2] + b"\0\2" + binding()[4:] + b"\0\0", "length 2"),
        (binding((AttributeType.PRIORITY, b""))[:-1] + b"\1", "the last attribute is 4 bytes longer than the message"),
        (binding(stun.priority(1))[:22] + b"\xff\xff" + bytes(4), "65532 bytes longer than the message"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, problem: str) -> None:
    with pytest.raises(DecodeError, match=problem):
        decode(data)


@pytest.mark.parametrize("view", [bytes, bytearray, memoryview])
def test_is_stun(view: Callable[[bytes], bytes | bytearray | memoryview]) -> None:
    message = binding(stun.priority(1))
    assert is_stun(view(message))
    assert is_stun(view(binding()))
    for other in (
        b"",
        message[:19],
        message[:-1],
        message + b"\0",
        b"\x40" + message[1:],
        b"\x80" + message[1:],
        message[:7] + b"\0" + message[8:],
        message[:3] + b"\x09" + message[4:] + b"\0",
    ):
        assert not is_stun(view(other))


# Attributes


def test_of_duplicates_the_first_counts() -> None:
    message = decode(binding(stun.priority(1), stun.username("a:b"), stun.priority(2)))
    assert message.priority == 1
    assert message.username == "a:b"


def test_every_occurrence_can_be_had() -> None:
    # RFC 8656 s9.1: a CreatePermission may name several peers
    peers = [("192.0.2.1", 1), ("2001:db8::1", 2), ("192.0.2.3", 0)]
    data = encode(
        MessageClass.REQUEST,
        Method.CREATE_PERMISSION,
        ID,
        [stun.xor_peer_address(host, port, ID) for host, port in peers],
        key=KEY,
    )
    message = decode(with_tail(data[:-8], stun.xor_peer_address("192.0.2.66", 66, ID)))
    assert message.xor_peer_address == peers[0]
    assert message.xor_addresses(AttributeType.XOR_PEER_ADDRESS) == tuple(peers)
    assert message.xor_addresses(AttributeType.XOR_RELAYED_ADDRESS) == ()


def test_padding_may_be_anything() -> None:
    # libnice pads with spaces
    data = binding(stun.username("a:b:c"), stun.priority(7))
    at = data.index(b"a:b:c") + 5
    assert data[at : at + 3] == bytes(3)
    message = decode(data[:at] + b"   " + data[at + 3 :])
    assert message.username == "a:b:c"
    assert message.priority == 7


def test_unknown_required_attributes_are_told() -> None:
    message = decode(binding((UNKNOWN_REQUIRED, b"x"), stun.priority(1), (UNKNOWN_OPTIONAL, b""), (0x0000, b"")))
    assert message.unknown_required == (UNKNOWN_REQUIRED, 0x0000)
    assert message.attributes[UNKNOWN_REQUIRED] == b"x"
    assert decode(binding(stun.priority(1), (UNKNOWN_OPTIONAL, b""))).unknown_required == ()


def test_the_longest_list_of_unknown_attributes_is_told() -> None:
    types = range(0x4000, 0x7000)
    message = decode(binding(*((type_, b"") for type_ in types)))
    assert message.unknown_required == tuple(types)


def test_who_understands_less_is_told_more() -> None:
    message = decode(binding(stun.change_request(change_ip=True, change_port=False), stun.software("x")))
    assert message.unknown_required == ()
    assert message.not_understood(frozenset((AttributeType.USERNAME,))) == (AttributeType.CHANGE_REQUEST,)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 0xFFFF).filter(
                lambda type_: (
                    type_
                    not in (
                        AttributeType.MESSAGE_INTEGRITY,
                        AttributeType.MESSAGE_INTEGRITY_SHA256,
                        AttributeType.FINGERPRINT,
                    )
                )
            ),
            st.binary(max_size=40),
        ),
        unique_by=lambda attribute: attribute[0],
        max_size=12,
    ),
    st.sampled_from([None, Integrity.SHA1, Integrity.SHA256, Integrity.BOTH]),
    st.booleans(),
)
def test_attributes_round_trip(
    attributes: list[tuple[int, bytes]], integrity: Integrity | None, fingerprint: bool
) -> None:
    data = encode(
        MessageClass.INDICATION,
        Method.DATA,
        ID,
        attributes,
        key=KEY if integrity else None,
        integrity=integrity or Integrity.SHA1,
        fingerprint=fingerprint,
    )
    assert len(data) % 4 == 0
    message = decode(data)
    own = {AttributeType.MESSAGE_INTEGRITY, AttributeType.MESSAGE_INTEGRITY_SHA256, AttributeType.FINGERPRINT}
    assert [(type_, value) for type_, value in message.attributes.items() if type_ not in own] == attributes
    assert message.integrity is (integrity or Integrity.NONE)
    assert message.has_integrity is (integrity is not None)
    assert message.has_fingerprint is fingerprint
    assert message.verify(KEY) is (integrity is not None)
    assert not message.verify(OTHER_KEY)


# Integrity


@pytest.mark.parametrize("integrity", [Integrity.SHA1, Integrity.SHA256])
def test_every_change_of_what_is_authenticated_is_found(integrity: Integrity) -> None:
    data = binding(stun.username("abcd:efgh"), stun.priority(5), key=KEY, integrity=integrity)
    refused = 0
    for at in range(len(data)):
        changed = data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]
        try:
            message = decode(changed)
        except DecodeError:
            refused += 1
        else:
            assert not message.verify(KEY), f"byte {at}"
    assert refused < len(data) / 2


def test_the_stronger_integrity_counts() -> None:
    data = binding(stun.priority(5), key=KEY, integrity=Integrity.BOTH)
    assert decode(data).verify(KEY)
    assert not decode(data[:-1] + bytes((data[-1] ^ 1,))).verify(KEY)


@pytest.mark.parametrize("size", [16, 20, 24, 28])
def test_truncated_sha256_counts_only_where_the_usage_allows_it(size: int) -> None:
    text = with_tail(binding(stun.priority(5)))
    whole = with_tail(text, (AttributeType.MESSAGE_INTEGRITY_SHA256, bytes(size)))
    mac = KEY.sha256(whole[: len(text)])[:size]
    message = decode(whole[:-size] + mac)
    assert not message.verify(KEY)
    assert message.verify(KEY, shortest_sha256=16)
    assert message.verify(KEY, shortest_sha256=size)
    assert not message.verify(KEY, shortest_sha256=size + 4)
    assert not message.verify(OTHER_KEY, shortest_sha256=16)


@pytest.mark.parametrize(
    ("type_", "size"),
    [
        (AttributeType.MESSAGE_INTEGRITY, 0),
        (AttributeType.MESSAGE_INTEGRITY, 16),
        (AttributeType.MESSAGE_INTEGRITY, 24),
        (AttributeType.MESSAGE_INTEGRITY_SHA256, 0),
        (AttributeType.MESSAGE_INTEGRITY_SHA256, 12),
        (AttributeType.MESSAGE_INTEGRITY_SHA256, 18),
        (AttributeType.MESSAGE_INTEGRITY_SHA256, 36),
    ],
)
def test_integrity_of_a_wrong_size_is_refused(type_: AttributeType, size: int) -> None:
    with pytest.raises(DecodeError, match=r"MESSAGE-INTEGRITY(-SHA256)? has \d+ bytes"):
        decode(with_tail(binding(), (type_, bytes(size))))


def test_nothing_but_integrity_and_fingerprint_counts_after_integrity() -> None:
    data = binding(stun.username("a:b"), key=KEY)
    tail = [
        stun.use_candidate(),
        stun.priority(9),
        (UNKNOWN_REQUIRED, b""),
        (AttributeType.MESSAGE_INTEGRITY, bytes(20)),
    ]
    message = decode(with_tail(data, *tail))
    assert not message.use_candidate
    assert message.priority is None
    assert message.unknown_required == ()
    assert message.verify(KEY)


def test_sha256_after_sha1_counts_whatever_stands_between() -> None:
    text = with_tail(binding(stun.username("a:b"), key=KEY), stun.use_candidate())
    whole = with_tail(text, (AttributeType.MESSAGE_INTEGRITY_SHA256, bytes(32)))
    message = decode(whole[:-32] + KEY.sha256(whole[: len(text)]))
    assert message.integrity is Integrity.BOTH
    assert message.verify(KEY)
    assert not message.use_candidate


def test_nothing_but_fingerprint_counts_after_sha256() -> None:
    data = binding(stun.username("a:b"), key=KEY, integrity=Integrity.SHA256)
    message = decode(with_tail(data, stun.use_candidate(), (AttributeType.MESSAGE_INTEGRITY, bytes(20))))
    assert message.integrity is Integrity.SHA256
    assert message.verify(KEY)
    assert not message.use_candidate


def test_without_integrity_nothing_verifies() -> None:
    message = decode(binding(stun.priority(1), fingerprint=True))
    assert not message.has_integrity
    assert message.integrity is Integrity.NONE
    assert not message.verify(KEY)


# FINGERPRINT


def test_a_wrong_fingerprint_is_refused() -> None:
    data = binding(stun.priority(1), fingerprint=True)
    with pytest.raises(DecodeError, match="wrong FINGERPRINT"):
        decode(data[:-1] + bytes((data[-1] ^ 1,)))


@pytest.mark.parametrize("tail", [stun.priority(1), (AttributeType.FINGERPRINT, bytes(4))])
def test_fingerprint_must_be_last(tail: tuple[int, bytes]) -> None:
    with pytest.raises(DecodeError, match="not the last"):
        decode(with_tail(binding(fingerprint=True), tail))


@pytest.mark.parametrize("size", [0, 3, 5, 8])
def test_fingerprint_of_a_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(DecodeError, match="has not 4 bytes"):
        decode(with_tail(binding(), (AttributeType.FINGERPRINT, bytes(size))))


# Misuse


@pytest.mark.parametrize(
    ("transaction_id", "method", "attributes", "problem"),
    [
        (bytes(11), 1, [], "12 bytes, not 11"),
        (bytes(12), 0x1000, [], "12 bits"),
        (bytes(12), 1, [(1 << 16, b"")], "16 bits"),
        (bytes(12), 1, [(1, bytes(1 << 16))], "16 bits"),
        (bytes(12), 1, [(1, bytes(40000)), (2, bytes(40000))], "bytes of attributes"),
    ],
)
def test_what_does_not_fit_is_not_encoded(
    transaction_id: bytes, method: int, attributes: list[tuple[int, bytes]], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        encode(MessageClass.REQUEST, method, transaction_id, attributes)


def test_repr_names_attributes_and_shows_no_values() -> None:
    data = binding(stun.username("secret:name"), (UNKNOWN_OPTIONAL, b"secret"), key=KEY)
    text = repr(decode(data))
    assert text == f"<REQUEST method=1 id={ID.hex()} USERNAME 0xbffe MESSAGE_INTEGRITY>"


# Whatever comes


VALID = [
    rfc5769.REQUEST,
    rfc5769.IPV4_RESPONSE,
    rfc5769.IPV6_RESPONSE,
    rfc5769.LONG_TERM_REQUEST,
    binding(stun.error_code(487), stun.unknown_attributes([1, 2, 3]), key=KEY, integrity=Integrity.BOTH),
]


@given(st.binary(max_size=100))
def test_random_bytes_are_decoded_or_refused(data: bytes) -> None:
    fuzz_stun.check(data)
    aligned = data[: len(data) & ~3]
    fuzz_stun.check(binding()[:3] + bytes((len(aligned),)) + binding()[4:] + aligned)


@given(inputs(VALID))
def test_changed_messages_are_decoded_or_refused(data: bytes) -> None:
    fuzz_stun.check(data)
