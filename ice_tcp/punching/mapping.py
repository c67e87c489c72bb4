"""A Binding request over TCP: what does the server see of this port? (RFC 8489 s2, s6.2.2)"""

from __future__ import annotations

import asyncio
import secrets

from candidates.candidate import TransportAddress
from ice_tcp.stun import DecodeError, MessageClass, Method, decode, encode

_HEADER_BYTES = 20
_MOST_BYTES = 2048


async def ask_mapping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> TransportAddress:
    """Ask on a new connection to the server. Raises OSError, and ValueError for what is no answer."""
    transaction_id = secrets.token_bytes(12)
    writer.write(encode(MessageClass.REQUEST, Method.BINDING, transaction_id))
    try:
        header = await reader.readexactly(_HEADER_BYTES)
        size = int.from_bytes(header[2:4], "big")
        answer = decode(header + await reader.readexactly(min(size, _MOST_BYTES)))
        mapped = answer.xor_mapped_address or answer.mapped_address
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("the STUN server closed the connection without an answer") from None
    except DecodeError as error:
        raise ValueError(f"what answers is no STUN server: {error}") from None
    if answer.transaction_id != transaction_id or answer.message_class is not MessageClass.SUCCESS or mapped is None:
        raise ValueError("the STUN server does not tell the mapped address")
    return TransportAddress(*mapped)
