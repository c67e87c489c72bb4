"""Time from "gathered, remote candidates handed over" to a path on both sides."""

from __future__ import annotations

import time
from statistics import median
from typing import Any

from interop.bench.session import BenchError, Session

_GREETING = b"is this path real?"


async def connect(session: Session) -> dict[str, Any]:
    """Connect ``repeats`` times; the median in ms until both ends are ``until`` "valid" or "nominated"."""
    times = [await _connect_once(session) for _ in range(session.options["repeats"])]
    return {"value": median(times) * 1e3, "times": times}


async def _connect_once(session: Session) -> float:
    endpoint = session.endpoint()
    await endpoint.prepare(session.channel)
    await session.meet()
    start_at = await session.start()
    await endpoint.connect()
    if session.options["until"] == "nominated":
        await endpoint.nominated()
    end_at = time.monotonic()
    other_end_at = await session.exchange(end_at)
    await endpoint.send(_GREETING)
    if await endpoint.recv() != _GREETING:
        raise BenchError("the path carries something else than what was sent")
    await session.meet()
    await endpoint.close()
    await session.meet()
    return float(max(end_at, other_end_at) - start_at)
