"""What a client and the server say to each other: JSON objects, one in each text message of a WebSocket.

The client begins with one of

    {"type": "open"}                                             a new mailbox, whose number it gets
    {"type": "join", "mailbox": "7"}                             the other side of one
    {"type": "resume", "mailbox": "7", "token": "...", "after": 3}   its own side again; it has entry 3

and is answered with ``{"type": "welcome", "mailbox": "7", "token": "...", "had": 2}``: the server has its texts up to
number 2. Then it says ``{"type": "tell", "number": 3, "text": "..."}`` as often as it likes, and at the end ``{"type":
"leave"}``. The server says ``{"type": "entry", "number": 4, "event": "told", "text": "..."}``, with the events ``met``
(the other side is there), ``told`` and ``gone`` (it will not come back). Whatever it refuses ends the connection with
``{"type": "refused", "reason": "...", "text": "..."}``.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from ice_tcp.errors import IceError

WIRE_LOGGER: Final = logging.getLogger(__name__).getChild("websockets")
"""For websockets, on both sides."""
WIRE_LOGGER.addFilter(lambda record: record.levelno > logging.DEBUG)  # there it shows frames, and so mailboxes' tokens

MAX_TEXT_BYTES: Final = 32 * 1024
"""Of one text that a side tells the other."""
MAX_MESSAGE_BYTES: Final = 2 * MAX_TEXT_BYTES + 256
"""Of one message: JSON may need two characters for one of the text."""
MAX_TEXTS: Final = 512
"""Of each side of a mailbox: more than any negotiation needs."""


class Refusal(StrEnum):
    """Why the server ends a connection. The values are part of the protocol."""

    MALFORMED = "malformed"
    NO_SUCH_MAILBOX = "no-such-mailbox"
    TAKEN = "taken"
    TOO_LARGE = "too-large"
    TOO_MANY = "too-many"
    TOO_FAST = "too-fast"
    TOO_SLOW = "too-slow"
    FULL = "full"
    EXPIRED = "expired"
    UNAVAILABLE = "unavailable"


class RendezvousError(IceError, ConnectionError):
    """The rendezvous refused, is gone, or does not keep to its rules; ``reason`` is its word for it, if it gave one."""

    def __init__(self, text: str, reason: Refusal | None = None) -> None:
        super().__init__(text)
        self.reason = reason


class Event(StrEnum):
    """What an entry of a side's log says."""

    MET = "met"
    TOLD = "told"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of what a side is told; its number is its place, from 1."""

    event: Event
    text: str = ""


def encode(type_: str, **fields: object) -> str:
    return json.dumps({"type": type_, **fields}, separators=(",", ":"))


def decode(message: str | bytes) -> Mapping[str, Any]:
    """An object with a type. Raises RendezvousError with the reason MALFORMED."""
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        raise _malformed("a message is not JSON") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise _malformed("a message is not an object with a type")
    return fields


def text_of(fields: Mapping[str, Any], key: str, limit: int) -> str:
    """A field that is text of so many bytes at most. Raises RendezvousError."""
    value = fields.get(key)
    if not isinstance(value, str):
        raise _malformed(f"{key} is not text")
    if len(value.encode("utf-8", "surrogatepass")) > limit:
        raise RendezvousError(f"{key} has more than {limit} bytes", Refusal.TOO_LARGE)
    return value


def number_of(fields: Mapping[str, Any], key: str) -> int:
    """A field that is a number, not negative. Raises RendezvousError."""
    value = fields.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _malformed(f"{key} is not a number")
    return value


def _malformed(text: str) -> RendezvousError:
    return RendezvousError(text, Refusal.MALFORMED)
