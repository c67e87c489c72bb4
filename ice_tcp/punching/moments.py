"""When to begin: at a time of day, or together with a peer that one can already talk to."""

from __future__ import annotations

import asyncio
import math
import re
import time
from datetime import datetime, timedelta
from typing import Final

NEXT_MINUTE: Final = "next-minute"

_CLOCK = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d))?\Z", re.ASCII)
_PING, _GO = b"?", b"!"


def next_minute(now: float) -> float:
    """The next full minute after ``now``, both in Unix time."""
    return (math.floor(now / 60) + 1) * 60.0


def parse_moment(text: str, now: float) -> float:
    """``next-minute``, or a time of day such as 12:34 or 12:34:56, the next one after ``now``, as Unix time.

    Times of day are local. Raises ValueError.
    """
    if text == NEXT_MINUTE:
        return next_minute(now)
    match = _CLOCK.match(text)
    if match is None:
        raise ValueError(f"{text!r} is neither {NEXT_MINUTE} nor a time of day such as 12:34:00")
    hour, minute, second = (int(part or 0) for part in match.groups())
    today = datetime.fromtimestamp(now).astimezone()
    moment = today.replace(hour=hour, minute=minute, second=second, microsecond=0)
    if moment.timestamp() <= now:
        moment = (moment.replace(tzinfo=None) + timedelta(days=1)).astimezone()
    return moment.timestamp()


async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, first: bool) -> None:
    """Return on both ends of a connection at nearly the same moment: then both call `punch`.

    The side that is ``first`` measures the round trip, says go, and waits half of it (as DCUtR of libp2p does); the
    other returns when go arrives. Raises ConnectionError if the other end does something else.
    """
    try:
        if first:
            began = time.monotonic()
            writer.write(_PING)
            await _expect(reader, _PING)
            half = (time.monotonic() - began) / 2
            writer.write(_GO)
            await writer.drain()
            await asyncio.sleep(half)
        else:
            await _expect(reader, _PING)
            writer.write(_PING)
            await _expect(reader, _GO)
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("the other end left before the moment came") from None


async def _expect(reader: asyncio.StreamReader, what: bytes) -> None:
    if await reader.readexactly(1) != what:
        raise ConnectionError("the other end does not synchronise")
