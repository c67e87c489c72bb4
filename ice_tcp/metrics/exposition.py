"""``GET /metrics``: answered by Prometheus' client in a thread, from what the event loop's thread collects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Metric, start_http_server
from prometheus_client.registry import Collector

_COLLECT_SECONDS: Final = 5.0


class _InLoop(Collector):
    """Collects in the event loop's thread: what is counted there is not changed meanwhile."""

    def __init__(self, registry: CollectorRegistry, loop: asyncio.AbstractEventLoop) -> None:
        self._registry = registry
        self._loop = loop

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterable[Metric]:
        return asyncio.run_coroutine_threadsafe(self._collected(), self._loop).result(_COLLECT_SECONDS)

    async def _collected(self) -> list[Metric]:
        return list(self._registry.collect())


@asynccontextmanager
async def serve(registry: CollectorRegistry, host: str, port: int) -> AsyncIterator[int]:
    """Answer on this address as long as the context lasts; gives the port, if ``port`` is 0. Raises OSError."""
    loop = asyncio.get_running_loop()
    collected = CollectorRegistry(auto_describe=False)
    collected.register(_InLoop(registry, loop))
    server, thread = await loop.run_in_executor(None, lambda: start_http_server(port, host, collected))
    try:
        yield server.server_port
    finally:
        # The thread may be waiting for this loop to collect: so this loop does not wait for the thread.
        await loop.run_in_executor(None, server.shutdown)
        server.server_close()
        await loop.run_in_executor(None, thread.join)
