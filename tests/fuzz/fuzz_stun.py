"""STUN messages.

Invariant: any bytes are either refused with DecodeError or decoded into a message of which every property can be
read, giving a value or DecodeError; `is_stun` is true of all that is decoded. What was decoded and is encoded again
from its attributes has the same attributes.
"""

from __future__ import annotations

from ice_tcp.stun import (
    AlgorithmParameters,
    AttributeType,
    DecodeError,
    Integrity,
    IntegrityKey,
    Message,
    MessageClass,
    Method,
    SecurityFeature,
    decode,
    encode,
    error_code,
    is_stun,
    nonce,
    nonce_cookie,
    password_algorithms,
    priority,
    realm,
    unknown_attributes,
    username,
    xor_mapped_address,
    xor_relayed_address,
)
from tests.fuzz.harness import main

_KEY = IntegrityKey.short_term("VOkJxbRl1RmTxUk/WvJxBt")
_PROPERTIES = [name for name in dir(Message) if not name.startswith("_") and not callable(getattr(Message, name))]
_ADDED_BY_ENCODE = {AttributeType.MESSAGE_INTEGRITY, AttributeType.MESSAGE_INTEGRITY_SHA256, AttributeType.FINGERPRINT}

SEEDS = [
    encode(
        MessageClass.REQUEST,
        Method.BINDING,
        bytes(12),
        [username("a:b"), priority(1)],
        key=_KEY,
        integrity=Integrity.BOTH,
    ),
    encode(
        MessageClass.ERROR,
        Method.ALLOCATE,
        bytes(12),
        [
            error_code(401),
            unknown_attributes([1, 2]),
            realm("example.org"),
            nonce(nonce_cookie(SecurityFeature.PASSWORD_ALGORITHMS) + b"abc"),
            password_algorithms([AlgorithmParameters(1), AlgorithmParameters(2, b"x")]),
            xor_mapped_address("192.0.2.1", 1, bytes(12)),
            xor_relayed_address("2001:db8::1", 1, bytes(12)),
        ],
    ),
]


def check(data: bytes) -> None:
    try:
        message = decode(data)
    except DecodeError:
        return
    assert is_stun(data)
    for name in _PROPERTIES:
        try:
            getattr(message, name)
        except DecodeError:
            continue
    for type_ in message.attributes:
        try:
            message.xor_addresses(type_)
        except DecodeError:
            continue
    message.verify(_KEY, shortest_sha256=16)
    repr(message)
    plain = [attribute for attribute in message.attributes.items() if attribute[0] not in _ADDED_BY_ENCODE]
    again = decode(encode(message.message_class, message.method, message.transaction_id, plain, fingerprint=False))
    assert list(again.attributes.items()) == plain
    assert (again.message_class, again.method) == (message.message_class, message.method)


if __name__ == "__main__":
    main(check, SEEDS)
