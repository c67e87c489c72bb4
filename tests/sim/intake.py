"""Reading from a simulated TCP connection: late, and cut anywhere, as the machine's manners are."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.sim.tcp import TcpSocket

if TYPE_CHECKING:
    from tests.sim.shell import SimShell

TINY_BYTES = 400
"""A stream that is read byte by byte is so for its first bytes only."""


class Intake:
    """Gives ``take`` the chunks of a socket, and calls ``ended`` behind the last; set ``socket`` first."""

    def __init__(self, shell: SimShell, take: Callable[[bytes], None], ended: Callable[[], None]) -> None:
        self.socket: TcpSocket | None = None
        self.paused = False
        self.stopped = False
        self._shell = shell
        self._take = take
        self._ended = ended
        self._total = 0
        self._reading = False

    def wake(self) -> None:
        """Read soon, unless that is on its way."""
        if not self._reading and not self.stopped:
            self._reading = True
            self._shell.clock.after(self._shell.rng.random() * self._shell.manners.read_delay, self._read)

    def _read(self) -> None:
        self._reading = False
        socket = self.socket
        if self.stopped or self.paused or socket is None or self._shell.dead:
            return
        chunk = socket.read(self._cut())
        if chunk:
            self._total += len(chunk)
            self._take(chunk)
            if socket.readable or socket.at_end:
                self.wake()
        elif socket.at_end:
            self.stopped = True
            self._ended()

    def _cut(self) -> int:
        """How much to read: the world may cut a stream anywhere."""
        rng = self._shell.rng
        match self._shell.manners.chunking:
            case "bytes" if self._total < TINY_BYTES:
                return rng.choice((1, 1, 2, 3))
            case "random" | "bytes":
                return rng.choice((1, 2, 3, 20, 64, 500, 5000, 1 << 20))
            case _:
                return 1 << 20
