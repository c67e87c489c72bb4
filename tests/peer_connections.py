"""Peer connections of both makes on the loopback: aiortc's, and ours with its interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import aiortc

from ice_tcp.compat.aiortc import RTCConfiguration, RTCPeerConnection
from tests import loops
from tests.agents import TCP, policy

_SETTLING_TIMEOUT = 5.0

NO_SERVERS: Final = RTCConfiguration(iceServers=[])
STOCK: Final = "stock"
MAKES: Final = {
    "ours": ("", ""),
    "ours over TCP": (TCP, TCP),
    "ours to stock": ("", STOCK),
    "stock to ours": (STOCK, ""),
}
"""Of the offering and the answering side: lines of policy, or aiortc's own."""


def peer_connection(make: str, configuration: RTCConfiguration = NO_SERVERS) -> aiortc.RTCPeerConnection:
    if make == STOCK:
        return aiortc.RTCPeerConnection(configuration)
    return RTCPeerConnection(configuration, policy=policy(make))


@asynccontextmanager
async def peer_connections(
    makes: tuple[str, str], configuration: RTCConfiguration = NO_SERVERS
) -> AsyncIterator[tuple[aiortc.RTCPeerConnection, aiortc.RTCPeerConnection]]:
    """The offering and the answering one; closes them at the end."""
    one, two = (peer_connection(make, configuration) for make in makes)
    try:
        yield one, two
    finally:
        await one.close()
        await two.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run ``main`` to its end, and let what aiortc leaves behind come to its own."""

    async def settled() -> None:
        await main
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=_SETTLING_TIMEOUT)

    loops.run(settled())


async def negotiate(one: aiortc.RTCPeerConnection, two: aiortc.RTCPeerConnection) -> None:
    """Offer and answer."""
    await one.setLocalDescription(await one.createOffer())
    await two.setRemoteDescription(one.localDescription)
    await two.setLocalDescription(await two.createAnswer())
    await one.setRemoteDescription(two.localDescription)


async def state(connection: aiortc.RTCPeerConnection, wanted: str) -> None:
    """Wait until the connection is in this state."""
    reached = asyncio.Event()

    def look() -> None:
        if connection.connectionState == wanted:
            reached.set()

    connection.on("connectionstatechange", look)
    look()
    await reached.wait()


async def open_channel(one: aiortc.RTCPeerConnection, two: aiortc.RTCPeerConnection) -> aiortc.RTCDataChannel:
    """A data channel of ``one``, open, whose other end sends everything back."""
    channel = one.createDataChannel("echo")
    opened = asyncio.Event()
    channel.on("open", opened.set)
    two.on("datachannel", lambda theirs: theirs.on("message", theirs.send))
    await negotiate(one, two)
    await opened.wait()
    return channel


class Messages:
    """What a data channel receives."""

    def __init__(self, channel: aiortc.RTCDataChannel) -> None:
        self._messages: asyncio.Queue[str | bytes] = asyncio.Queue()
        channel.on("message", self._messages.put_nowait)

    async def next(self) -> str | bytes:
        return await self._messages.get()
