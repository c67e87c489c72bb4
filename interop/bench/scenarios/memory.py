"""What a connected agent costs a process that has many.

Sockets are set aside: the descriptors that the agents hold are counted by kind, as many bare sockets, watched by the
loop, are opened in another fresh interpreter, and what they cost there is subtracted. So an agent is charged with
everything of its own, its transports' and its data paths' objects and buffers included.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import socket
import stat
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from interop.bench.endpoints import LOOPBACK, Endpoint
from interop.bench.session import BenchError, Session
from interop.bench.task import Task, run_in_fresh_interpreter

_AT_ONCE = 20
"""Pairs that connect at the same time."""

_SETTLING = 5.0
"""Seconds after the last nomination until losing paths are closed (policy: timeouts.linger) and all is quiet."""

KiB = 1024


async def memory(session: Session) -> dict[str, Any]:
    """KiB of each of ``agents`` connected ones in this process, sockets aside, by ``measure``: tracemalloc or rss."""
    _raise_descriptor_limit()
    agents = int(session.options["agents"])
    # Of a pair both ends are in this process, or one
    pairs = agents // 2 if session.processes == 1 else agents
    warm = await _connect(session, _AT_ONCE)  # fills caches, pools and imports
    await session.meet()  # an end that closed first would leave the other without a path
    for endpoint in warm:
        await endpoint.close()
    await session.meet()
    used = _meter(session.options["measure"])
    descriptors = Counter(_socket_kinds())
    before = used()
    await session.meet()
    held = await _connect(session, pairs)
    await asyncio.sleep(_SETTLING)
    await session.meet()
    gross = (used() - before) / agents
    sockets = Counter(_socket_kinds())
    sockets.subtract(descriptors)
    await session.meet()
    for endpoint in held:
        await endpoint.close()
    if not session.first:
        return {}
    bare = await run_in_fresh_interpreter(
        Task("bare_sockets", "ice-tcp", 1, {"measure": session.options["measure"], "sockets": dict(sockets)})
    )
    aside = bare["value"] * KiB / agents
    return {
        "value": (gross - aside) / KiB,
        "gross": gross / KiB,
        "sockets aside": aside / KiB,
        "sockets": {kind: count / agents for kind, count in sockets.items()},
    }


async def bare_sockets(session: Session) -> dict[str, Any]:
    """KiB of ``sockets``, a number for each kind that `memory` tells, all watched by the loop."""
    if not session.first:
        return {}
    _raise_descriptor_limit()
    wanted: dict[str, int] = session.options["sockets"]
    with _bare_sockets(dict.fromkeys(wanted, 2)):
        await asyncio.sleep(0)  # fills pools, as `memory` does
    used = _meter(session.options["measure"])
    before = used()
    with _bare_sockets(wanted):
        cost = used() - before
        if Counter(_socket_kinds()) != Counter(wanted):
            raise BenchError(f"opened other sockets than {wanted}")
    return {"value": cost / KiB}


async def _connect(session: Session, pairs: int) -> list[Endpoint]:
    """This end's endpoints of as many connected pairs."""
    endpoints: list[Endpoint] = []
    while len(endpoints) < pairs:
        batch = [session.endpoint() for _ in range(min(_AT_ONCE, pairs - len(endpoints)))]
        for endpoint in batch:
            await endpoint.prepare(session.channel)
        await asyncio.gather(*(endpoint.connect() for endpoint in batch))
        await asyncio.gather(*(endpoint.nominated() for endpoint in batch))
        endpoints += batch
    return endpoints


def _meter(measure: str) -> Callable[[], int]:
    """A function that gives the bytes in use."""
    if measure == "tracemalloc":
        tracemalloc.start()
        return _traced_bytes
    return _resident_bytes


def _traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def _resident_bytes() -> int:
    """What tracemalloc cannot see counts here, such as the hash objects of keys."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def _raise_descriptor_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _socket_kinds() -> Iterator[str]:
    """The kind of each IP socket of this process."""
    for name in os.listdir("/proc/self/fd"):
        descriptor = int(name)
        with suppress(OSError):  # the directory's own descriptor is closed by now
            if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                continue
            with socket.socket(fileno=os.dup(descriptor)) as sock:
                if sock.family in (socket.AF_INET, socket.AF_INET6):
                    yield _kind(sock)


def _kind(sock: socket.socket) -> str:
    if sock.type == socket.SOCK_DGRAM:
        return "datagram"
    return "listening" if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else "connected"


@contextmanager
def _bare_sockets(wanted: Mapping[str, int]) -> Iterator[None]:
    """As many sockets of each kind as ``wanted`` says, each watched by the loop as a data path watches its own."""
    sockets = [_bound(socket.SOCK_DGRAM) for _ in range(wanted.get("datagram", 0))]
    sockets += [_listening() for _ in range(wanted.get("listening", 0))]
    sockets += _connected(wanted.get("connected", 0))
    loop = asyncio.get_running_loop()
    for sock in sockets:
        sock.setblocking(False)
        loop.add_reader(sock, sock.fileno)
    try:
        yield
    finally:
        for sock in sockets:
            loop.remove_reader(sock)
            sock.close()


def _bound(kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind)
    sock.bind((LOOPBACK, 0))
    return sock


def _listening() -> socket.socket:
    sock = _bound(socket.SOCK_STREAM)
    sock.listen()
    return sock


def _connected(count: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    with _listening() as listener:
        while len(sockets) < count:
            client = socket.create_connection(listener.getsockname())
            sockets += (client, listener.accept()[0])
    if len(sockets) > count:
        sockets.pop().close()
    return sockets
