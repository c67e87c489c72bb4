"""The work on a Binding request and its response at both agents, without any network."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

from aioice import stun as aioice_stun

from ice_tcp import stun
from interop.bench.session import BenchError, Session

USERNAME = "evtj:h6vY"
PASSWORD = "VOkJxbRl1RmTxUk/WvJxBt"
PRIORITY = 1845501695
TIE_BREAKER = 0x932FF9B151263B36
ADDRESSES = [(f"192.0.2.{number}", 32853 + number) for number in range(16)]

Address = tuple[str, int]
Exchange = Callable[[bytes, Address], Address]
"""Encode, decode, verify and read a request with this transaction id and a response with this mapped address, and
return the address that was read."""


async def stun_exchange(session: Session) -> dict[str, Any]:
    """Do ``count`` exchanges; us for one: two encodes, two decodes, two verifications, and all values read."""
    exchange = {"ice-tcp": _ice_tcp, "aioice": _aioice}[session.subject]()
    count = int(session.options["count"])
    rng = random.Random(1)
    ids = [rng.randbytes(12) for _ in range(256)]
    if not session.first:
        return {}
    start_at = time.perf_counter()
    for number in range(count):
        address = ADDRESSES[number % 16]
        if exchange(ids[number % 256], address) != address:
            raise BenchError("the response maps another address")
    end_at = time.perf_counter()
    return {"value": (end_at - start_at) / count * 1e6}


def _ice_tcp() -> Exchange:
    key = stun.IntegrityKey.short_term(PASSWORD)

    def exchange(transaction_id: bytes, address: Address) -> Address:
        request = stun.decode(
            stun.encode(
                stun.MessageClass.REQUEST,
                stun.Method.BINDING,
                transaction_id,
                [
                    stun.username(USERNAME),
                    stun.priority(PRIORITY),
                    stun.ice_controlling(TIE_BREAKER),
                    stun.use_candidate(),
                ],
                key=key,
            )
        )
        if (
            not request.verify(key)
            or request.unknown_required
            or request.username != USERNAME
            or request.priority != PRIORITY
            or request.ice_controlling != TIE_BREAKER
            or not request.use_candidate
        ):
            raise BenchError("the request is not what was encoded")
        response = stun.decode(
            stun.encode(
                stun.MessageClass.SUCCESS,
                stun.Method.BINDING,
                request.transaction_id,
                [stun.xor_mapped_address(*address, request.transaction_id)],
                key=key,
            )
        )
        mapped = response.xor_mapped_address
        if not response.verify(key) or response.unknown_required or mapped is None:
            raise BenchError("the response is not what was encoded")
        return mapped

    return exchange


def _aioice() -> Exchange:
    key = PASSWORD.encode()

    def exchange(transaction_id: bytes, address: Address) -> Address:
        outgoing = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.REQUEST, transaction_id)
        outgoing.attributes["USERNAME"] = USERNAME
        outgoing.attributes["PRIORITY"] = PRIORITY
        outgoing.attributes["ICE-CONTROLLING"] = TIE_BREAKER
        outgoing.attributes["USE-CANDIDATE"] = None
        outgoing.add_message_integrity(key)
        request = aioice_stun.parse_message(bytes(outgoing))
        attributes = request.attributes
        if (
            not request.check_message_integrity(key)
            or attributes["USERNAME"] != USERNAME
            or attributes["PRIORITY"] != PRIORITY
            or attributes["ICE-CONTROLLING"] != TIE_BREAKER
            or "USE-CANDIDATE" not in attributes
        ):
            raise BenchError("the request is not what was encoded")
        answer = aioice_stun.Message(aioice_stun.Method.BINDING, aioice_stun.Class.RESPONSE, request.transaction_id)
        answer.attributes["XOR-MAPPED-ADDRESS"] = address
        answer.add_message_integrity(key)
        response = aioice_stun.parse_message(bytes(answer))
        if not response.check_message_integrity(key):
            raise BenchError("the response is not what was encoded")
        mapped: Address = response.attributes["XOR-MAPPED-ADDRESS"]
        return mapped

    return exchange
