"""aiortc's data channels, on our transport and on its own: how soon they open, and how much goes through."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from statistics import median
from types import MappingProxyType
from typing import Any, Final

import aiortc

from ice_tcp.compat.aiortc import RTCPeerConnection
from interop.bench.endpoints import gather_on_loopback, loopback_policy
from interop.bench.session import BenchError, Session

_NO_SERVERS: Final = aiortc.RTCConfiguration(iceServers=[])
_BUFFERED: Final = 2**20
"""Bytes that the sender has in its channel, at most, before it waits."""
_DONE: Final = "done"


def _stock() -> aiortc.RTCPeerConnection:
    gather_on_loopback()
    return aiortc.RTCPeerConnection(_NO_SERVERS)


def _ours(transport: str) -> Callable[[], aiortc.RTCPeerConnection]:
    policy = loopback_policy(transports=[transport])
    return lambda: RTCPeerConnection(_NO_SERVERS, policy=policy)


CONNECTIONS: Final[Mapping[str, Callable[[], aiortc.RTCPeerConnection]]] = MappingProxyType(
    {"drop-in/udp": _ours("udp"), "drop-in/tcp": _ours("tcp"), "aiortc": _stock}
)
"""What figures call a peer connection and its settings."""


async def channel_open(session: Session) -> dict[str, Any]:
    """Connect ``repeats`` times; the median in ms from the answer, set at the offering end, to its open channel."""
    times = []
    for _ in range(session.options["repeats"]):
        async with _channel(session) as (_, seconds):
            times.append(seconds)
    return {"value": median(times) * 1e3, "times": times}


async def channel_one_way(session: Session) -> dict[str, Any]:
    """Send ``count`` messages of ``size`` bytes through one channel; MB in a second of the receiver's clock."""
    size, count = session.options["size"], session.options["count"]
    async with _channel(session) as (channel, _):
        if session.first:
            begun_at = await session.start()
            await _send(channel, size, count)
            received = await session.exchange(None)
            if received["messages"] != count:
                raise BenchError(f"{received['messages']} of {count} messages came, or came in another order")
            return {"value": size * count / (received["at"] - begun_at) / 1e6}
        received = _counted(channel, size)
        await session.start()
        messages, at = await received
        await session.exchange({"messages": messages, "at": at})
        return {}


@asynccontextmanager
async def _channel(session: Session) -> AsyncIterator[tuple[Any, float]]:
    """An open channel, and the seconds that it took since the answer was set."""
    pc = CONNECTIONS[session.subject]()
    opened = asyncio.Event()
    try:
        if session.first:
            channel = pc.createDataChannel("bench")
            channel.on("open", opened.set)
            await pc.setLocalDescription(await pc.createOffer())
            answer = await session.exchange(_words(pc))
            begun_at = time.monotonic()
            await pc.setRemoteDescription(aiortc.RTCSessionDescription(*answer))
            await opened.wait()
            seconds = time.monotonic() - begun_at
        else:
            found: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            pc.on("datachannel", found.set_result)
            await pc.setRemoteDescription(aiortc.RTCSessionDescription(*await session.channel.get()))
            await pc.setLocalDescription(await pc.createAnswer())
            await session.channel.put(_words(pc))
            channel, seconds = await found, 0.0
        await session.meet()
        yield channel, seconds
        await session.meet()
    finally:
        await pc.close()


def _words(pc: aiortc.RTCPeerConnection) -> tuple[str, str]:
    return pc.localDescription.sdp, pc.localDescription.type


async def _send(channel: Any, size: int, count: int) -> None:
    drained = asyncio.Event()
    channel.bufferedAmountLowThreshold = _BUFFERED // 2
    channel.on("bufferedamountlow", drained.set)
    for number in range(count):
        if channel.bufferedAmount >= _BUFFERED:
            drained.clear()
            await drained.wait()
        channel.send(number.to_bytes(size, "big"))
    channel.send(_DONE)


def _counted(channel: Any, size: int) -> asyncio.Future[tuple[int, float]]:
    """How many messages came whole and in order until the last, and when that was."""
    result: asyncio.Future[tuple[int, float]] = asyncio.get_running_loop().create_future()
    number = 0

    def take(data: str | bytes) -> None:
        nonlocal number
        if data == _DONE:
            result.set_result((number, time.monotonic()))
        elif data == number.to_bytes(size, "big"):
            number += 1

    channel.on("message", take)
    return result
