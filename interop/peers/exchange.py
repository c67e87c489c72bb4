"""What both ends of an exchange send, and the sum of it; `peer.js` has the same for browsers and Node."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

MESSAGES: Final = 64
MESSAGE_BYTES: Final = 1024
DONE: Final = "done"


def message(number: int) -> bytes:
    """The n-th message of either side."""
    return bytes((31 * number + 7 * index) & 0xFF for index in range(MESSAGE_BYTES))


def checksum(chunks: Iterable[bytes]) -> int:
    """FNV-1a, 32 bits."""
    found = 0x811C9DC5
    for chunk in chunks:
        for byte in chunk:
            found = ((found ^ byte) * 0x01000193) & 0xFFFFFFFF
    return found


EXPECTED: Final = checksum(map(message, range(MESSAGES)))
