"""How much of a processor a TURN server takes for what it relays."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from interop.bench.endpoints import LOOPBACK, TURN_PASSWORD, TURN_USER, TurnServer, make_endpoint
from interop.bench.scenarios.traffic import receive_messages, send_messages
from interop.bench.session import BenchError, Session
from interop.coturn import Coturn, free_ports

_AGENTS = "ice-tcp/udp"
_SERVER = "import sys; from ice_tcp.server.command import command; command()"


async def relaying(session: Session) -> dict[str, Any]:
    """Send ``count`` messages of ``size`` bytes through a server; packets for each second that it has run.

    They go from a relay to a host candidate: each crosses the server once. What comes back, the acknowledgements of
    half a ``window``, is not counted.
    """
    count, size, window = (int(session.options[name]) for name in ("count", "size", "window"))
    if not session.first:
        endpoint = await session.connected(make_endpoint(_AGENTS, False))
        await receive_messages(endpoint, count, size, window)
        await session.meet()
        await endpoint.close()
        return {}
    async with _server(session.subject) as (turn, pid):
        endpoint = await session.connected(make_endpoint(_AGENTS, True, turn))
        before = _seconds_run(pid)
        await send_messages(endpoint, count, size, window)
        await session.meet()
        seconds = _seconds_run(pid) - before
        await endpoint.close()
    return {"value": count / seconds, "messages": count, "seconds run": seconds}


def _seconds_run(pid: int) -> float:
    """Of all threads, on all processors."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text(encoding="ascii").split()[0]) for task in tasks) / 1e9


@asynccontextmanager
async def _server(subject: str) -> AsyncIterator[tuple[TurnServer, int]]:
    if subject == "coturn":
        with (
            tempfile.TemporaryDirectory() as directory,
            Coturn(Path(directory), users={TURN_USER: TURN_PASSWORD}) as coturn,
        ):
            yield TurnServer(*coturn.address), coturn.pid
        return
    port = free_ports(LOOPBACK)[0]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _SERVER, "--listen", LOOPBACK, "--port", str(port), "--allow-loopback"),
        *("--user", f"{TURN_USER}:{TURN_PASSWORD}"),
        stdout=asyncio.subprocess.PIPE,
        env=dict(os.environ),
    )
    assert process.stdout is not None
    try:
        if not await process.stdout.readline():
            raise BenchError("the embedded server did not start; its error stands above")
        yield TurnServer(LOOPBACK, port), process.pid
    finally:
        process.terminate()
        await process.wait()
