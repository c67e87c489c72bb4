"""Agents' processes, started fast: forked from one that has imported everything, each into a namespace of its own.

``python -m interop.natlab.nursery DESCRIPTOR`` is that one. It forks for each message on the socket that it was given:
a namespace's name, with the descriptors of what shall be standard input, output and errors. It answers with the process
id, and ends with the socket.
"""

from __future__ import annotations

import asyncio
import atexit
import ctypes
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, NoReturn

from interop.natlab.namespaces import enter

_ROOT: Final = Path(__file__).resolve().parents[2]
_NAME_BYTES: Final = 255
_PID_BYTES: Final = 4
_PR_SET_PDEATHSIG: Final = 1


class Child:
    """A process that the nursery forked: what `asyncio.subprocess.Process` offers and the lab needs."""

    def __init__(self, pid: int, stdin: asyncio.StreamWriter, stdout: asyncio.StreamReader) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self._descriptor = os.pidfd_open(pid)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_reader(self._descriptor, self._end)

    async def wait(self) -> None:
        """Return when it has ended."""
        await asyncio.shield(self._ended)

    def kill(self) -> None:
        if not self._ended.done():
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        os.close(self._descriptor)
        self.stdin.close()
        self._ended.set_result(None)


class Nursery:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - our own program
                [sys.executable, "-m", "interop.natlab.nursery", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                cwd=_ROOT,
            )

    def close(self) -> None:
        """End it, and with it all that it forked."""
        self._socket.close()
        self._process.wait()

    async def fork(self, namespace: str, errors: Path) -> Child:
        """An agent's process in a namespace, with pipes; what goes wrong in it is written to ``errors``."""
        input_read, input_write = os.pipe()
        output_read, output_write = os.pipe()
        error_write = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        given = [input_read, output_write, error_write]
        try:
            socket.send_fds(self._socket, [namespace.encode()], given)
            pid = int.from_bytes(self._socket.recv(_PID_BYTES), "big")
        finally:
            for descriptor in given:
                os.close(descriptor)
        if not pid:
            raise OSError("the nursery is gone")
        return Child(pid, *await _streams(input_write, output_read))


@cache
def nursery() -> Nursery:
    """The one of this process."""
    found = Nursery()
    atexit.register(found.close)
    return found


async def _streams(write: int, read: int) -> tuple[asyncio.StreamWriter, asyncio.StreamReader]:
    from ice_tcp.signaling.channel import MAX_MESSAGE_BYTES

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=MAX_MESSAGE_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read, "rb", 0))
    transport, protocol = await loop.connect_write_pipe(asyncio.streams.FlowControlMixin, os.fdopen(write, "wb", 0))
    return asyncio.StreamWriter(transport, protocol, None, loop), reader


def main(descriptor: int) -> None:
    """Fork until the socket ends."""
    from interop.natlab import worker

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started the lab ends the lab, and that ends this
    gc.freeze()
    with socket.socket(fileno=descriptor) as orders:
        while True:
            name, descriptors, _, _ = socket.recv_fds(orders, _NAME_BYTES, 3)
            if not name:
                return
            _clear_away()
            pid = os.fork()
            if pid == 0:
                orders.close()
                _live(name.decode(), descriptors, worker.main)
            orders.send(pid.to_bytes(_PID_BYTES, "big"))
            for each in descriptors:
                os.close(each)


def _clear_away() -> None:
    """Children that have ended. Not sooner: until the next is asked for, a process id is what it was told to be."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _live(namespace: str, descriptors: list[int], body: Callable[[], Coroutine[Any, Any, None]]) -> NoReturn:
    """Be an agent's process; never returns."""
    status = 1
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # without the nursery there is no lab
        for target, source in enumerate(descriptors):
            os.dup2(source, target)
            os.close(source)
        enter(namespace)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        random.seed()
        asyncio.run(body())
        status = 0
    except BaseException:  # noqa: BLE001 - the last words of a process
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main(int(sys.argv[1]))
