"""The application data of one component: where it goes, and what came and was not yet asked for."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from ice_tcp.datapath import RelayedPeer, Traffic
from ice_tcp.errors import NoPathError
from ice_tcp.net.arrival import Arrival
from ice_tcp.net.datagrams import DatagramSocket
from ice_tcp.net.sockets import SocketAddress

_MESSAGE_COST = 64
"""Bytes counted for a waiting message beside its own: a flood of tiny ones is bounded, too."""


class Route(Protocol):
    """Where the data of a component is sent."""

    def send_data(self, data: bytes) -> int:
        """Send one message; return how many went since the loop last had its turn, this one included.

        0, and nothing done, if too much waits already.
        """


class DatagramRoute:
    """One remote address behind a UDP socket; a `Connection` is a route by itself."""

    __slots__ = ("_remote", "_socket", "send_data")

    def __init__(self, sock: DatagramSocket, remote: SocketAddress, traffic: Traffic) -> None:
        self._socket = sock
        self._remote = remote
        self.send_data: Callable[[bytes], int] = partial(sock.send_data, remote, traffic)

    def discard(self) -> None:
        """Forget what waits to be sent here."""
        self._socket.discard(self._remote)


class RelayRoute:
    """One peer behind a TURN server; ``send`` and ``discard`` are those of the leg to the server."""

    __slots__ = ("_send", "_traffic", "_wrap", "discard")

    def __init__(self, peer: RelayedPeer, send: Callable[[bytes], int], discard: Callable[[], None]) -> None:
        self._wrap = peer.wrap
        self._traffic = peer.traffic
        self._send = send
        self.discard = discard

    def send_data(self, data: bytes) -> int:
        sent = self._send(self._wrap(data))
        if sent:
            traffic = self._traffic
            traffic.packets_sent += 1
            traffic.bytes_sent += len(data)
        return sent


class Inbox:
    """Messages that wait for the application, bounded; one reader at a time.

    A source that can be stopped is asked to stop at ``limit`` bytes (`is_full`), and must stop at twice that
    (`is_overfull`); ``resume`` is called when half of ``limit`` is free again. What cannot be stopped is dropped.
    """

    __slots__ = ("_bytes", "_end", "_limit", "_low", "_resume", "discarded", "messages", "reader")

    def __init__(self, limit: int, resume: Callable[[], None]) -> None:
        self.messages: deque[bytes] = deque()
        """Oldest first; remove with `take`."""
        self._bytes = 0
        self._limit = limit
        self._low = limit // 2
        self._resume = resume
        self.reader = Arrival(asyncio.get_running_loop())
        """What `recv` awaits; while it does, a lone message may be delivered there, past `messages`."""
        self._end: Callable[[], Exception] | None = None
        self.discarded = 0
        """Datagrams that were dropped because the application did not read."""

    @property
    def is_full(self) -> bool:
        return self._bytes >= self._limit

    @property
    def is_overfull(self) -> bool:
        return self._bytes >= 2 * self._limit

    def put(self, messages: list[bytes], *, at_once: bool = False) -> None:
        """Keep messages for the application, and wake it; ``at_once`` within this call, as `Arrival.deliver` does."""
        self.messages += messages
        self._bytes += sum(map(len, messages)) + _MESSAGE_COST * len(messages)
        if at_once:
            self.reader.deliver(None)
        else:
            self.reader.notify()

    def offer(self, messages: list[bytes], *, at_once: bool = False) -> None:
        """As `put`, until too many wait."""
        room = self._limit - self._bytes
        if sum(map(len, messages)) + _MESSAGE_COST * len(messages) > room:
            kept = 0
            while kept < len(messages) and room > 0:
                room -= len(messages[kept]) + _MESSAGE_COST
                kept += 1
            self.discarded += len(messages) - kept
            messages = messages[:kept]
        self.put(messages, at_once=at_once)

    def arrival(self) -> Arrival:
        """While there are no `messages`, await this: it gives the next one, or None if there are some now.

        Raises the error given to `end`; RuntimeError if someone else waits already.
        """
        if self._end is not None:
            raise self._end()
        if self.reader.is_awaited:
            raise RuntimeError("another recv() waits on this component already")
        return self.reader

    def take(self) -> bytes:
        """Remove and return the oldest of `messages`."""
        message = self.messages.popleft()
        before = self._bytes
        self._bytes = after = before - len(message) - _MESSAGE_COST
        if after <= self._low < before:
            self._resume()
        return message

    def take_all(self) -> list[bytes]:
        """Remove and return all messages."""
        messages = list(self.messages)
        self.messages.clear()
        self._bytes = 0
        return messages

    def end(self, error: Callable[[], Exception] | None) -> None:
        """Nothing more will come, and this is why; None: something may come again."""
        self._end = error
        if error is not None:
            self.reader.notify()


class Outlet:
    """Sends the application's messages on whatever route there is."""

    __slots__ = ("_end", "_writers", "route", "transmit")

    def __init__(self) -> None:
        self._writers: list[asyncio.Future[None]] = []
        self._end: Callable[[], Exception] | None = None
        self.route: Route | None = None
        self.transmit: Callable[[bytes], int] = self._refuse
        """As `Route.send_data`.

        Raises NoPathError, or the error given to `end`, while there is no route; ValueError for a message that the
        route cannot carry.
        """

    def use(self, route: Route | None) -> None:
        """Send on this route from now on. Messages that wait for a UDP route that is left are dropped."""
        if isinstance(self.route, DatagramRoute | RelayRoute):
            self.route.discard()
        self.route = route
        self.transmit = self._refuse if route is None else route.send_data
        self.wake()

    def end(self, error: Callable[[], Exception] | None) -> None:
        """What sending raises while there is no route; None: NoPathError."""
        self._end = error
        self.wake()

    def _refuse(self, data: bytes) -> int:  # noqa: ARG002 - stands for a route's
        raise self._end() if self._end else NoPathError("there is no path; await connect() first")

    async def send(self, data: bytes) -> None:
        """Send one message, after waiting for room if too much waits already. Raises as `transmit`."""
        while not self.transmit(data):
            writer = asyncio.get_running_loop().create_future()
            self._writers.append(writer)
            try:
                await writer
            finally:
                self._writers.remove(writer)

    def wake(self) -> None:
        """There may be room again, or none will come."""
        for writer in self._writers:
            if not writer.done():
                writer.set_result(None)
