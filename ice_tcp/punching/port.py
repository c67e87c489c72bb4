"""One local port, and a peer that calls ``connect()`` at an agreed moment."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from types import TracebackType
from typing import Final, Self, TypeAlias

from candidates.candidate import TransportAddress
from candidates.policy import Policy
from ice_tcp.core.verdicts import Verdict
from ice_tcp.driver.punching import Connected, DialEnded, Listening, NotListening, Puncher, PunchEvent
from ice_tcp.errors import ConnectError
from ice_tcp.net.sockets import NetworkError, socket_address
from ice_tcp.punching.mapping import ask_mapping
from ice_tcp.punching.secret import SecretError, authenticate, checked_secret, new_identity

Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]

ANY_IPV4: Final = "0.0.0.0"  # noqa: S104 - whoever is not the peer is turned away
ANY_IPV6: Final = "::"

_STUN_TIMEOUT: Final = 10.0
_GLANCE: Final = 0.5
"""Longest sleep, in seconds, between two looks at the wall clock, which may be set meanwhile."""


async def punch(
    host: str,
    port: int,
    *,
    local_port: int = 0,
    local_host: str | None = None,
    at: float | None = None,
    timeout: float = 30.0,  # noqa: ASYNC109 - it counts from the moment on, and is spent on redials
    secret: bytes | None = None,
) -> Streams:
    """Connect to a peer that does the same at the same time, through the NATs of both; return a plain TCP stream.

    ``host`` and ``port`` are what the peer's NAT shows of it, ``local_port`` the port whose mapping the peer was told:
    `PunchPort` learns it. ``at`` is the moment in Unix time, None for now. Raises as `PunchPort.connect`.
    """
    local = local_host or (ANY_IPV6 if ":" in host else ANY_IPV4)
    async with PunchPort(local_port, host=local, timeout=timeout, secret=secret) as own:
        return await own.connect(host, port, at=at)


class PunchPort:
    """A local TCP port that listens and connects at once (RFC 9293 s3.5, RFC 6544 s4.1), for one peer.

    Use it with ``async with``, which raises ConnectError if the port cannot be had. Then `mapped_address`, if the peer
    has to be told what it is behind a NAT, then `connect`.

    ``local_port`` 0 is any. ``timeout`` is how many seconds `connect` tries, from its moment on. With ``secret``, of at
    least 16 bytes, only a peer that knows it gets a connection, and that may come from any port of the peer's host.
    Without it one trusts the network: whoever can send from the peer's address is the peer.
    """

    def __init__(
        self, local_port: int = 0, *, host: str = ANY_IPV4, timeout: float = 30.0, secret: bytes | None = None
    ) -> None:
        if timeout <= 0:
            raise ValueError(f"timeout {timeout} is not more than 0")
        self._place = (host, local_port)
        self._secret = None if secret is None else checked_secret(secret)
        self._identity = new_identity()
        self._puncher = Puncher(
            _policy(timeout), rng=random.SystemRandom(), any_port=secret is not None, on_event=self._happened
        )
        self._address: TransportAddress | None = None
        self._problem: Verdict | None = None
        self._peer: TransportAddress | None = None
        self._outcome: asyncio.Future[Streams] | None = None
        self._admissions: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Self:
        self._puncher.listen(*self._place)
        if self._problem is not None:
            raise ConnectError(self._problem, self._problem.remedy)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the port; a connection that was returned lives on."""
        self._puncher.close()
        await self._end_admissions()
        for server in self._servers:
            server.close()

    @property
    def address(self) -> TransportAddress:
        """Where it listens."""
        assert self._address is not None, "enter it first"
        return self._address

    async def mapped_address(self, host: str, port: int = 3478) -> TransportAddress:
        """What a STUN server sees of this port, over TCP (RFC 8489 s6.2.2): tell the peer, and `connect` soon.

        Two servers that see different addresses tell of a NAT that maps for each peer anew. The connection
        to a server stays open as long as the port, for its end could end the NAT's mapping. Raises OSError,
        TimeoutError, and ValueError if that is no STUN server.
        """
        server = await self._resolve(host, port)
        try:
            sock = self._puncher.open_sibling()
        except NetworkError as error:
            raise OSError(str(error)) from None
        async with asyncio.timeout(_STUN_TIMEOUT):
            try:
                await asyncio.get_running_loop().sock_connect(sock, socket_address(server))
            except BaseException:
                sock.close()
                raise
            reader, writer = await asyncio.open_connection(sock=sock)
            self._servers.append(writer)
            return await ask_mapping(reader, writer)

    async def connect(self, host: str, port: int, *, at: float | None = None) -> Streams:
        """Connect at the moment ``at`` (Unix time, None: now), or take the peer's connection when it comes earlier.

        Raises ConnectError with the verdict, SecretError if the other end does not know the secret, OSError if
        ``host`` does not resolve.
        """
        if self._outcome is not None:
            raise RuntimeError("a port connects once")
        self._peer = await self._resolve(host, port)
        self._outcome = asyncio.get_running_loop().create_future()
        self._puncher.expect(self._peer)
        try:
            while at is not None and (rest := at - time.time()) > 0 and not self._outcome.done():
                await asyncio.wait([self._outcome], timeout=min(rest, _GLANCE))
            if not self._outcome.done():
                self._puncher.dial()
            return await self._outcome
        finally:
            await self._end_admissions()

    # Inside

    def _happened(self, event: PunchEvent) -> None:
        match event:
            case Listening(address):
                self._address = address
            case NotListening(verdict):
                self._problem = verdict
            case Connected(stream, remote):
                admission = asyncio.create_task(self._admit(self._puncher.take(stream), remote))
                self._admissions.add(admission)
                admission.add_done_callback(self._admissions.discard)
            case DialEnded(verdict):
                self._settle(ConnectError(verdict, verdict.remedy))

    async def _admit(self, sock: socket.socket, remote: TransportAddress) -> None:
        """Hand a connection out, if it is the peer's."""
        reader, writer = await asyncio.open_connection(sock=sock)
        try:
            if self._secret is not None:
                await authenticate(reader, writer, self._secret, self._identity)
        except (SecretError, OSError, asyncio.CancelledError) as error:
            writer.transport.abort()
            if isinstance(error, asyncio.CancelledError):
                raise
            if remote == self._peer:  # a stranger at the peer's host is no reason to end
                self._settle(error)
        else:
            if not self._settle((reader, writer)):
                writer.transport.abort()

    def _settle(self, outcome: Streams | Exception) -> bool:
        """The first outcome counts."""
        if self._outcome is None or self._outcome.done():
            return False
        if isinstance(outcome, Exception):
            self._outcome.set_exception(outcome)
        else:
            self._outcome.set_result(outcome)
        return True

    async def _end_admissions(self) -> None:
        for admission in self._admissions:
            admission.cancel()
        await asyncio.gather(*self._admissions, return_exceptions=True)

    async def _resolve(self, host: str, port: int) -> TransportAddress:
        family = socket.AF_INET6 if ":" in self._place[0] else socket.AF_INET
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
        return TransportAddress(str(found[0][4][0]), port)


def _policy(timeout: float) -> Policy:
    """The rules of simultaneous open for a peer that knows one port of ours and may be late."""
    rules = Policy.default().simultaneous_open
    return Policy.model_validate(
        {
            "timeouts": {"connect": timeout},
            "simultaneous_open": {"fresh_ports": 0, "redials": rules.burst + round(timeout * rules.rate)},
        }
    )
