"""Time until candidates are there, with STUN servers of which one may be dead."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from statistics import median
from typing import Any, Final

from candidates.candidate import Candidate, CandidateType, TcpType
from candidates.policy import Policy
from ice_tcp import Agent, Role
from ice_tcp.stun import DecodeError, MessageClass, Method, decode, encode, is_stun, xor_mapped_address
from interop.bench.endpoints import LOOPBACK
from interop.bench.session import BenchError, Session

_SERVERS: Final = 3
_DEAD: Final = 1  # the one in the middle: who comes after it might wait for it
_ENOUGH: Final = 5.0  # seconds

_Kind = tuple[str, str, TcpType | None]


async def gathering(session: Session) -> dict[str, Any]:
    """Gather ``repeats`` times; the median in ms until ``until``: a first "host" candidate, or all of "live" servers.

    Live are the first and the last server, whether the one between them is dead or not.
    """
    if not session.first:
        return {}
    dead = _DEAD if session.subject == "one of three dead" else None
    async with _servers(dead) as ports:
        policy = Policy.default().revised(
            address_families=["ipv4"],
            interfaces={"include": ["lo"], "loopback": True},
            servers=[{"url": f"stun:{LOOPBACK}:{port}"} for port in ports],
        )
        times = [await _gather_once(policy, session.options["until"]) for _ in range(session.options["repeats"])]
    return {"value": median(times) * 1e3, "times": times}


async def _gather_once(policy: Policy, until: str) -> float:
    wanted = set(_of_live_servers(policy)) if until == "live" else None
    async with Agent(Role.CONTROLLING, policy=policy) as agent, asyncio.timeout(_ENOUGH):
        start_at = time.monotonic()
        task = asyncio.create_task(agent.gather())
        async for candidate in agent.local_candidates():
            if wanted is None:
                break
            wanted.discard(_kind(candidate))
            if not wanted:
                break
        else:
            raise BenchError(f"gathering ended without {wanted}")
        took = time.monotonic() - start_at
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    return took


def _of_live_servers(policy: Policy) -> Iterator[_Kind]:
    for number in range(_SERVERS):
        if number != _DEAD:
            yield _public(number), "udp", None
            for tcptype in policy.tcp_types:
                if tcptype is not TcpType.ACTIVE:
                    yield _public(number), "tcp", tcptype


def _kind(candidate: Candidate) -> _Kind | None:
    if candidate.type is not CandidateType.SRFLX:
        return None
    return candidate.address.host, candidate.transport.value, candidate.tcptype


def _public(number: int) -> str:
    """As whom a server sees everybody: one each, so that its candidates are no one else's."""
    return f"203.0.113.{number + 1}"


@asynccontextmanager
async def _servers(dead: int | None) -> AsyncIterator[list[int]]:
    """Three STUN servers over UDP and TCP; their ports. A dead one takes everything and says nothing."""
    loop = asyncio.get_running_loop()
    ports, closing = [], []
    for number in range(_SERVERS):
        mapped = _public(number) if number != dead else None
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener = socket.create_server((LOOPBACK, 0))
        port = listener.getsockname()[1]
        sock.bind((LOOPBACK, port))
        transport, _ = await loop.create_datagram_endpoint(partial(_UdpServer, mapped), sock=sock)
        server = await loop.create_server(partial(_TcpServer, mapped), sock=listener)
        ports.append(port)
        closing += [transport.close, server.close]
    try:
        yield ports
    finally:
        for close in closing:
            close()


def _answer(data: bytes, mapped: str | None, port: int) -> bytes | None:
    if mapped is None or not is_stun(data):
        return None
    try:
        request = decode(data)
    except DecodeError:
        return None
    id_ = request.transaction_id
    return encode(MessageClass.SUCCESS, Method.BINDING, id_, [xor_mapped_address(mapped, port, id_)])


class _UdpServer(asyncio.DatagramProtocol):
    def __init__(self, mapped: str | None) -> None:
        self._mapped = mapped

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = _answer(data, self._mapped, addr[1])
        if answer is not None:
            self._transport.sendto(answer, addr)


class _TcpServer(asyncio.Protocol):
    """A request comes in one piece over loopback."""

    def __init__(self, mapped: str | None) -> None:
        self._mapped = mapped

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        answer = _answer(data, self._mapped, self._transport.get_extra_info("peername")[1])
        if answer is not None:
            self._transport.write(answer)
