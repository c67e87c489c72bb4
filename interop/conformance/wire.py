"""The peer's end of the network: real sockets on loopback, and a record of every packet, both ways.

A `Channel` is where the peer talks with the target: a `UdpPort`, or a `Connection` with the frames of RFC 4571. What
comes is kept in order, and `Channel.expect` takes it from there, so nothing is lost between two lines of a case.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

from interop.conformance import stun
from interop.conformance.case import NotConforming
from interop.conformance.stun import Address

T = TypeVar("T")

QUIET: Final = 0.4
"""Seconds in which something would have come that must not come."""

_LARGEST_DATAGRAM: Final = 65_535
_SO_TIMESTAMPNS: Final = 35 if sys.platform == "linux" else None
_RESET: Final = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Packet:
    """What went over the wire. ``at`` is on the clock of the event loop, and for UDP the kernel's word.

    ``event`` is "" for a packet, else what happened to the connection: "connected", "accepted", "closed", "reset".
    On TCP ``data`` is the content of one frame.
    """

    at: float
    outgoing: bool
    transport: str
    near: Address
    far: Address
    data: bytes = b""
    event: str = ""
    message: stun.Message | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Matcher:
    """What to wait for, with a name for people."""

    name: str
    matches: Callable[[Packet], bool]


class Wire:
    """Everything that the peer sent and received, in order, and whoever waits for more.

    ``patience`` is within how many seconds something must come that is due at once: much, for a busy machine.
    """

    patience = 5.0

    def __init__(self) -> None:
        self.packets: list[Packet] = []
        self._waiters: list[asyncio.Future[None]] = []

    def record(self, packet: Packet) -> None:
        self.packets.append(packet)
        self.changed()

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    def leaving(self, channel: Channel, data: bytes) -> Iterable[bytes]:  # noqa: ARG002 - for wires that are bad
        """What becomes of a packet of the peer's on its way; a good wire carries it as it is."""
        return (data,)

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:  # noqa: ARG002 - for wires that are bad
        """What becomes of a packet of the target's."""
        return (packet,)

    def changed(self) -> None:
        """Something happened that a waiter may want to see."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def span(self, within: float | None) -> str:
        """How long `find` waits, in words."""
        return f"{self.patience if within is None else within:g} s"

    async def find(self, look: Callable[[], T | None], within: float | None = None) -> T | None:
        """What ``look`` finds, as soon as it finds something; None after ``within`` seconds, or after all patience."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + (self.patience if within is None else within)
        while (found := look()) is None and (left := deadline - loop.time()) > 0:
            waiter: asyncio.Future[None] = loop.create_future()
            self._waiters.append(waiter)
            try:
                await asyncio.wait([waiter], timeout=left)
            finally:
                self._waiters.remove(waiter)
        return found


class Channel:
    """Where the peer talks with the target. ``react`` is called with each packet as it comes."""

    transport = ""

    def __init__(self, wire: Wire, near: Address, far: Address) -> None:
        self.wire = wire
        self.near = near
        self.far = far
        self.inbox: list[Packet] = []
        self.react: Callable[[Packet], None] = _ignore
        self._waiting: list[Packet] = []

    def send(self, data: bytes | stun.Draft) -> None:
        """One packet to the target."""
        raise NotImplementedError

    async def expect(self, what: Matcher, within: float | None = None) -> Packet:
        """The first packet that matches and was not expected before; others stay. Raises NotConforming."""
        found = await self.wire.find(lambda: self._next(what), within)
        if found is None:
            raise NotConforming(f"no {what.name} came to {self} within {self.wire.span(within)}")
        self._waiting.remove(found)
        return found

    async def refuse(self, what: Matcher, during: float = QUIET) -> None:
        """Nothing that matches comes from now on, for so long. Raises NotConforming."""
        self.skip()
        if await self.wire.find(lambda: self._next(what), during) is not None:
            raise NotConforming(f"{what.name} came to {self}, where nothing of the kind may come")

    def skip(self) -> None:
        """Expect nothing any more that has come."""
        self._waiting.clear()

    def received(self, what: Matcher) -> list[Packet]:
        """Everything that has come so far and matches."""
        return [packet for packet in self.inbox if what.matches(packet)]

    def __str__(self) -> str:
        return f"the peer's {self.transport} port {self.near[1]}"

    def _next(self, what: Matcher) -> Packet | None:
        return next((packet for packet in self._waiting if what.matches(packet)), None)

    def _came(self, data: bytes, far: Address, at: float) -> None:
        came = Packet(at, False, self.transport, self.near, far, data, message=message_in(data))
        for packet in self.wire.arriving(self, came):
            self.deliver(packet)

    def deliver(self, packet: Packet) -> None:
        """A packet has come to this channel."""
        self.inbox.append(packet)
        self._waiting.append(packet)
        self.wire.record(packet)
        self.react(packet)

    def _went(self, data: bytes, far: Address) -> None:
        at = asyncio.get_running_loop().time()
        self.wire.record(Packet(at, True, self.transport, self.near, far, data, message=message_in(data)))


class UdpPort(Channel):
    """A UDP socket of the peer. ``far`` is where `send` goes, the target's candidate."""

    transport = "udp"

    def __init__(self, wire: Wire, host: str, far: Address = ("", 0), port: int = 0) -> None:
        self.socket = _socket(host, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if _SO_TIMESTAMPNS is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.socket.bind((host, port))
        super().__init__(wire, self.socket.getsockname()[:2], far)
        asyncio.get_running_loop().add_reader(self.socket, self._readable)

    def send(self, data: bytes | stun.Draft) -> None:
        self.send_to(data, self.far)

    def send_to(self, data: bytes | stun.Draft, far: Address) -> None:
        for packet in self.wire.leaving(self, bytes(data)):
            self._went(packet, far)
            # A full buffer and a refusal of a moment ago are a loss, as on any network.
            with suppress(BlockingIOError, ConnectionRefusedError):
                self.socket.sendto(packet, far)

    def close(self) -> None:
        _close(self.socket)

    def _readable(self) -> None:
        while True:
            try:
                data, ancillary, _, far = self.socket.recvmsg(_LARGEST_DATAGRAM, 64)
            except BlockingIOError:
                return
            except ConnectionRefusedError:
                continue
            self._came(data, far[:2], _instant(ancillary))


class Connection(Channel):
    """A TCP connection of the peer, cut into frames of RFC 4571 (`send`), or raw (`write`).

    ``ended`` is "" while it lives, then "closed" (a FIN came) or "reset".
    """

    transport = "tcp"

    def __init__(self, wire: Wire, connected: socket.socket, how: str) -> None:
        super().__init__(wire, connected.getsockname()[:2], connected.getpeername()[:2])
        self.socket = connected
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ended = ""
        self.stream = bytearray()
        """Everything that came, frames and all."""
        self._cut = 0
        self._tell(how)
        self._reading = asyncio.create_task(self._read())

    def send(self, data: bytes | stun.Draft) -> None:
        for packet in self.wire.leaving(self, bytes(data)):
            self._went(packet, self.far)
            self.write(struct.pack("!H", len(packet)) + packet)

    def write(self, data: bytes) -> None:
        """Bytes as they are, without a frame; what does not fit into the buffer of the system is lost."""
        with suppress(OSError):
            self.socket.send(data)

    async def write_all(self, data: bytes) -> None:
        """As `write`, but wait for room."""
        with suppress(OSError):
            await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def end(self, within: float | None = None) -> str:
        """How the target ended it: "closed" or "reset"; "" if it did not."""
        return await self.wire.find(lambda: self.ended or None, within) or ""

    def close(self, *, reset: bool = False) -> None:
        if self.socket.fileno() < 0:
            return
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._reading.cancel()
        _close(self.socket)

    async def _read(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self.socket, 1 << 18):
                self.stream += data
                self._cut_frames(loop.time())
        except OSError:
            self._over("reset")
        else:
            self._over("closed")

    def _cut_frames(self, at: float) -> None:
        while len(self.stream) - self._cut >= 2:
            start = self._cut + 2
            end = start + int.from_bytes(self.stream[self._cut : start], "big")
            if end > len(self.stream):
                return
            self._cut = end
            self._came(bytes(self.stream[start:end]), self.far, at)

    def _over(self, how: str) -> None:
        self.ended = how
        self._tell(how)

    def _tell(self, event: str) -> None:
        at = asyncio.get_running_loop().time()
        self.wire.record(Packet(at, event == "connected", "tcp", self.near, self.far, event=event))


class Listener:
    """A listening TCP socket of the peer. ``greet`` is called with each connection that comes."""

    def __init__(
        self,
        wire: Wire,
        host: str,
        *,
        port: int = 0,
        backlog: int = 64,
        connection: Callable[[Wire, socket.socket, str], Connection] = Connection,
    ) -> None:
        self.wire = wire
        self._connection = connection
        self.socket = _shared_port(host)
        self.socket.bind((host, port))
        self.socket.listen(backlog)
        self.near: Address = self.socket.getsockname()[:2]
        self.connections: list[Connection] = []
        self.greet: Callable[[Connection], None] = _ignore
        self._taken = 0
        self._accepting = asyncio.create_task(self._accept())

    async def accepted(self, within: float | None = None) -> Connection:
        """The next connection of the target. Raises NotConforming."""
        found = await self.wire.find(lambda: self.connections[self._taken :] or None, within)
        if found is None:
            raise NotConforming(
                f"no connection came to the peer's TCP port {self.near[1]} within {self.wire.span(within)}"
            )
        self._taken += 1
        return found[0]

    async def refuse(self, during: float = QUIET) -> None:
        """No further connection comes in this time."""
        found = await self.wire.find(lambda: self.connections[self._taken :] or None, during)
        if found:
            raise NotConforming(f"a connection from {found[0].far} came to the peer's TCP port {self.near[1]}")

    def close(self) -> None:
        self._accepting.cancel()
        _close(self.socket)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            accepted, _ = await loop.sock_accept(self.socket)
            connection = self._connection(self.wire, accepted, "accepted")
            self.connections.append(connection)
            self.greet(connection)
            self.wire.changed()


async def connect(wire: Wire, far: Address, *, host: str, port: int = 0) -> Connection | None:
    """Connect to the target from ``host`` and ``port``, which a listener may share. None if it is refused."""
    outgoing = _shared_port(host)
    outgoing.bind((host, port))
    try:
        async with asyncio.timeout(wire.patience):
            await asyncio.get_running_loop().sock_connect(outgoing, far)
    except (OSError, TimeoutError):
        _close(outgoing)
        return None
    return Connection(wire, outgoing, "connected")


def _close(open_socket: socket.socket) -> None:
    """Close a socket that the loop may still watch: the next one may get its number. A second time does no harm."""
    if open_socket.fileno() < 0:
        return
    loop = asyncio.get_running_loop()
    loop.remove_reader(open_socket)
    loop.remove_writer(open_socket)
    open_socket.close()


def _socket(host: str, kind: socket.SocketKind) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind)
    made.setblocking(False)
    return made


def _shared_port(host: str) -> socket.socket:
    made = _socket(host, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    return made


def _instant(ancillary: list[tuple[int, int, bytes]]) -> float:
    """When the kernel took the datagram, on the clock of the loop: it does not wait for our turn."""
    now = asyncio.get_running_loop().time()
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(value) >= 16:
            seconds, nanoseconds = struct.unpack_from("qq", value)
            came_at: float = seconds + nanoseconds / 1e9
            return now - (time.time() - came_at)
    return now


def message_in(data: bytes) -> stun.Message | None:
    """The STUN message that the bytes are, or None."""
    try:
        return stun.read(data)
    except stun.NotStunError:
        return None


def _ignore(_what: object) -> None:
    pass
