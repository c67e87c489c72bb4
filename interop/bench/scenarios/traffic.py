"""Messages one way, and there and back."""

from __future__ import annotations

import time
from typing import Any

from interop.bench.endpoints import Endpoint
from interop.bench.session import BenchError, Session

_DISTINCT = 64
"""Messages that differ from each other; then they repeat."""
_ACKNOWLEDGEMENT = b"so far"


def _messages(size: int) -> list[bytes]:
    """Messages of ``size`` bytes that a lost, doubled or reordered one would stand out of."""
    return [bytes((index,)) * size for index in range(_DISTINCT)]


async def one_way(session: Session) -> dict[str, Any]:
    """Send ``count`` messages of ``size`` bytes; messages a second, from the first sent to the last received.

    With a ``window`` at most that many are in flight: the receiver acknowledges each half of it.
    """
    endpoint = await session.connected()
    count, size, window = (int(session.options[name]) for name in ("count", "size", "window"))
    start_at = await session.start()
    if session.first:
        await send_messages(endpoint, count, size, window)
        received = await session.channel.get()
    else:
        await receive_messages(endpoint, count, size, window)
        received = {"end_at": time.monotonic(), "messages": count, "bytes": count * size}
        await session.channel.put(received)
    await session.meet()
    await endpoint.close()
    return {"value": count / (received["end_at"] - start_at), **received}


async def send_messages(endpoint: Endpoint, count: int, size: int, window: int) -> None:
    """Send, but never have more than ``window`` messages in flight, if it is not 0."""
    send, recv = endpoint.send, endpoint.recv
    messages = _messages(size)
    allowed = window or count
    for number in range(count):
        if number == allowed:
            if await recv() != _ACKNOWLEDGEMENT:
                raise BenchError("an acknowledgement was changed on the way")
            allowed += window // 2
        await send(messages[number % _DISTINCT])


async def receive_messages(endpoint: Endpoint, count: int, size: int, window: int) -> None:
    """Receive what `send_messages` sends. Raises BenchError for the first message that is not what was sent."""
    send, recv = endpoint.send, endpoint.recv
    messages = _messages(size)
    every = window // 2 or count + 1
    for number in range(count):
        if await recv() != messages[number % _DISTINCT]:
            raise BenchError(f"message {number} was lost, reordered or changed on the way")
        if not (number + 1) % every:
            await send(_ACKNOWLEDGEMENT)


async def round_trip(session: Session) -> dict[str, Any]:
    """Send ``count`` messages of ``size`` bytes, each after the answer to the one before; us for one."""
    endpoint = await session.connected()
    count, size = int(session.options["count"]), int(session.options["size"])
    send, recv = endpoint.send, endpoint.recv
    messages = _messages(size)
    start_at = await session.start()
    if session.first:
        for number in range(count):
            message = messages[number % _DISTINCT]
            await send(message)
            if await recv() != message:
                raise BenchError(f"answer {number} is not what was sent")
    else:
        for _ in range(count):
            await send(await recv())
    end_at = time.monotonic()
    await session.meet()
    await endpoint.close()
    return {"value": (end_at - start_at) / count * 1e6, "messages": count}
