"""A Redis of the test's own, on any free port of the loopback."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from interop.coturn import free_ports


class RedisServer:
    """Runs until `stop`, or the end of `redis_server`."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self.port = port

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def redis_server(directory: Path) -> AsyncIterator[RedisServer]:
    """It keeps nothing on disk."""
    port, _ = free_ports("127.0.0.1")
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory))
    process = await asyncio.create_subprocess_exec(
        "redis-server", *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    server = RedisServer(process, port)
    try:
        await _answering(port)
        yield server
    finally:
        await server.stop()


async def _answering(port: int) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                return
            await asyncio.sleep(0.05)
