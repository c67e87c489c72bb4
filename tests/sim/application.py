"""A simulated application: numbered, checksummed messages both ways, and readers of all kinds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from zlib import crc32

from ice_tcp.core.commands import Path, StreamId, TcpPath, UdpPath
from ice_tcp.core.events import Event
from tests.sim.clock import Timer
from tests.sim.shell import SimShell
from tests.sim.watch import PropertyError

_MARK = 0x80  # RFC 7983: neither STUN nor anything else of ours
_HEADER = 9
_CHECKSUM = 4
_DIGEST_INTERVAL = 0.25


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What the application does. Sizes in bytes, times in seconds, rates in bytes a second.

    ``backlog`` is queued as soon as there is a path, as far as the path takes it, and refilled until it is sent.
    ``read_rate`` None reads everything at once; in ``pause`` (from, until after the first byte) nothing is read.
    An ``eager`` one sends on a connection right behind its first STUN message.
    """

    interval: float = 0.1
    size: int = 200
    backlog: int = 0
    read_rate: float | None = None
    pause: tuple[float, float] | None = None
    eager: bool = False


class Chatter:
    """Sends and checks numbered messages. On one TCP connection none may be missing, from the first one on."""

    def __init__(self, shell: SimShell, behaviour: Behaviour, on_event: Callable[[Event], None]) -> None:
        self.shell = shell
        self.behaviour = behaviour
        self.sent: dict[Path, int] = {}
        self.received_on: dict[Path, int] = {}
        self.messages_received = 0
        self.received_bytes: dict[int, int] = {}
        self.last_received_at: dict[int, float] = {}
        self.longest_silence: dict[int, float] = {}
        self.watching_silence = False
        self._on_event = on_event
        self._path: dict[int, Path | None] = {}
        self._backlog: dict[int, int] = {}
        self._unread: dict[int, int] = {}
        self._first_byte_at: float | None = None
        self._ticks: dict[int, Timer] = {}
        self._digests: dict[int, Timer] = {}
        self._stopped = False

    # -- sending -----------------------------------------------------------------------------------------------

    def used(self, component: int, path: Path | None) -> None:
        if self._stopped:
            return
        self._path[component] = path
        if path is None:
            return
        if component not in self._backlog:
            self._backlog[component] = self.behaviour.backlog
            self._tick(component)
        elif isinstance(path, TcpPath):
            self._send(component, self.behaviour.size)  # on a new path at once: the peer may not have validated it
        self._send_backlog(component)

    def writable(self, component: int) -> None:
        if not self._stopped:
            self._send_backlog(component)

    def stop(self) -> None:
        """Send nothing more."""
        self._stopped = True
        for timer in self._ticks.values():
            timer.cancel()

    def _tick(self, component: int) -> None:
        self._send(component, self.behaviour.size)
        self._ticks[component] = self.shell.clock.after(self.behaviour.interval, partial(self._tick, component))

    def _send_backlog(self, component: int) -> None:
        """Megabytes go over TCP until it is full; over UDP a message now and then is enough."""
        while isinstance(self._path.get(component), TcpPath) and self._backlog[component] > 0:
            size = min(self._backlog[component], 16000)
            if not self._send(component, size):
                self.shell.world.events["send-buffer-full"] += 1
                return
            self._backlog[component] -= size

    def _send(self, component: int, size: int) -> bool:
        path = self.shell.used.get(component)
        if path is None or not self.shell.send(component, self._message(component, path, size)):
            return False
        self.sent[path] = self.sent.get(path, 0) + 1
        return True

    def _message(self, component: int, path: Path, size: int) -> bytes:
        number = self.sent.get(path, 0)
        body = bytes((_MARK, component)) + number.to_bytes(7, "big") + bytes((number & 0xFF,)) * size
        return body + crc32(body).to_bytes(_CHECKSUM, "big")

    def stream_opened(self, component: int, stream: StreamId) -> None:
        if self.behaviour.eager and not self._stopped:
            path = TcpPath(stream)
            for _ in range(3):
                if self.shell.send_early(stream, self._message(component, path, self.behaviour.size)):
                    self.sent[path] = self.sent.get(path, 0) + 1

    # -- receiving ---------------------------------------------------------------------------------------------

    def received(self, component: int, path: Path | None, data: bytes) -> None:
        body, checksum = data[:-_CHECKSUM], data[-_CHECKSUM:]
        if len(data) < _HEADER + _CHECKSUM or crc32(body).to_bytes(_CHECKSUM, "big") != checksum or body[0] != _MARK:
            raise PropertyError(f"data: {self.shell.name} received something broken on {path}")
        if body[1] != component:
            raise PropertyError(f"data: {self.shell.name} got data of component {body[1]} for component {component}")
        self.messages_received += 1
        if path is not None:
            self._count(path, int.from_bytes(body[2:_HEADER], "big"))
        self._note_arrival(component)
        self._keep(component, len(data))

    def _count(self, path: Path, number: int) -> None:
        """On a connection every message comes, and in order; datagrams may be missing."""
        expected = self.received_on.get(path, 0)
        if isinstance(path, UdpPath):
            self.received_on[path] = max(expected, number + 1)
        elif number != expected:
            raise PropertyError(f"data: {self.shell.name} got message {number} instead of {expected} on {path}")
        else:
            self.received_on[path] = number + 1

    def _note_arrival(self, component: int) -> None:
        now = self.shell.clock.now
        if self.watching_silence and component in self.last_received_at:
            silence = now - self.last_received_at[component]
            self.longest_silence[component] = max(self.longest_silence.get(component, 0.0), silence)
        self.last_received_at[component] = now

    def _keep(self, component: int, size: int) -> None:
        self.received_bytes[component] = self.received_bytes.get(component, 0) + size
        if self._first_byte_at is None:
            self._first_byte_at = self.shell.clock.now
        if self.behaviour.read_rate is None and self.behaviour.pause is None:
            return
        self._unread[component] = self._unread.get(component, 0) + size
        if component not in self._digests:
            self._digests[component] = self.shell.clock.after(_DIGEST_INTERVAL, partial(self._digest, component))

    def is_full(self, component: int) -> bool:
        full = self._unread.get(component, 0) >= self.shell.policy.limits.receive_bytes
        if full:
            self.shell.world.events["reader-full"] += 1
        return full

    def is_overfull(self, component: int) -> bool:
        return self._unread.get(component, 0) >= 2 * self.shell.policy.limits.receive_bytes

    def _digest(self, component: int) -> None:
        """Read as slowly as this application does."""
        unread = self._unread.get(component, 0)
        if not self._pausing():
            rate = self.behaviour.read_rate
            unread = 0 if rate is None else max(0, unread - int(rate * _DIGEST_INTERVAL))
            self._unread[component] = unread
            if unread < self.shell.policy.limits.receive_bytes // 2:
                self.shell.resume_reading(component)
        if unread:
            self._digests[component] = self.shell.clock.after(_DIGEST_INTERVAL, partial(self._digest, component))
        else:
            self._digests.pop(component, None)

    def _pausing(self) -> bool:
        pause, began = self.behaviour.pause, self._first_byte_at
        return pause is not None and began is not None and pause[0] <= self.shell.clock.now - began < pause[1]

    # -- the rest ----------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        self._on_event(event)

    def stream_gone(self, stream: StreamId) -> None:
        for messages in (self.sent, self.received_on):
            messages.pop(TcpPath(stream), None)

    def due(self, component: int) -> bool:
        """Whether messages are still waiting to be sent or read here."""
        return self._unread.get(component, 0) > 0 or (
            self._backlog.get(component, 0) > 0 and isinstance(self._path.get(component), TcpPath)
        )
