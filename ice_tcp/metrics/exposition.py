"""``GET /metrics``: answered by Prometheus' client in a thread, from what the event loop's thread collects."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry, Metric, make_wsgi_app, start_http_server
from prometheus_client.registry import Collector

if TYPE_CHECKING:  # they exist for type checkers only
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_PATH: Final = "/metrics"
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
    """Answer on this address as long as the context lasts; gives the port, if ``port`` is 0.

    Nothing but ``GET /metrics`` is answered. Raises OSError, which names the address.
    """
    loop = asyncio.get_running_loop()
    collected = CollectorRegistry(auto_describe=False)
    try:
        server, thread = await loop.run_in_executor(None, lambda: start_http_server(port, host, collected))
    except OSError as error:
        raise OSError(error.errno, f"metrics cannot be had at {host} port {port}: {error.strerror}") from None
    server.set_app(_only_metrics(make_wsgi_app(collected)))
    collected.register(_InLoop(registry, loop))  # last: the client's own application answers on any path
    try:
        yield server.server_port
    finally:
        # The thread may be waiting for this loop to collect: so this loop does not wait for the thread.
        await loop.run_in_executor(None, server.shutdown)
        server.server_close()
        await loop.run_in_executor(None, thread.join)


def _only_metrics(answer: WSGIApplication) -> WSGIApplication:
    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] != _PATH:
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"only /metrics is here\n"]
        if environ["REQUEST_METHOD"] != "GET":
            start_response("405 Method Not Allowed", [("Allow", "GET"), ("Content-Type", "text/plain")])
            return [b"only GET is answered\n"]
        return answer(environ, start_response)

    return application
