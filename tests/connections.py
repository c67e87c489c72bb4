"""Connections of both makes on the loopback: aioice's, and ours with its interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import aioice
import pytest

from ice_tcp.compat.aioice import Connection
from tests.agents import policy

AnyConnection: TypeAlias = Connection | aioice.Connection
Make: TypeAlias = Callable[..., AnyConnection]

HOST: Final = "127.0.0.1"


def ours(ice_controlling: bool, *, extra: str = "", **how: Any) -> Connection:
    """Ours on 127.0.0.1, with ``extra`` lines of policy."""
    return Connection(ice_controlling, policy=policy(extra), **how)


def stock(ice_controlling: bool, **how: Any) -> aioice.Connection:
    """aioice's; on 127.0.0.1 in tests that use the fixture `loopback`."""
    return aioice.Connection(ice_controlling, **how)


@pytest.fixture
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice leaves loopback addresses out; here it has no others."""
    monkeypatch.setattr("aioice.ice.get_host_addresses", lambda **_: [HOST])


MAKES: Final[dict[str, Make]] = {"ours": ours, "stock": stock}


async def tell(sender: AnyConnection, receiver: AnyConnection, *, end: bool = True) -> None:
    """What signaling does."""
    receiver.remote_username = sender.local_username
    receiver.remote_password = sender.local_password
    for candidate in sender.local_candidates:
        await receiver.add_remote_candidate(aioice.Candidate.from_sdp(candidate.to_sdp()))
    if end:
        await receiver.add_remote_candidate(None)


async def connect(one: AnyConnection, two: AnyConnection) -> None:
    """Gather, tell each other, connect."""
    await asyncio.gather(one.gather_candidates(), two.gather_candidates())
    await tell(one, two)
    await tell(two, one)
    await asyncio.gather(one.connect(), two.connect())


@asynccontextmanager
async def open_connections(*connections: AnyConnection) -> AsyncIterator[tuple[AnyConnection, ...]]:
    """Closes them at the end."""
    try:
        yield connections
    finally:
        for connection in connections:
            await connection.close()


async def talk(one: AnyConnection, two: AnyConnection, component: int = 1) -> None:
    """Data in both directions."""
    for sender, receiver in ((one, two), (two, one)):
        await sender.sendto(b"how are you?", component)
        assert await receiver.recvfrom() == (b"how are you?", component)


async def attempt(outcome: Awaitable[object]) -> object:
    """What it returns, or the error with its text."""
    try:
        return await outcome
    except (ConnectionError, ValueError, AssertionError) as error:
        return type(error).__name__, str(error)


def udp_port(connection: AnyConnection) -> int:
    return next(each.port for each in connection.local_candidates if each.transport == "udp")
