"""The core's questions after servers by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from candidates.policy.servers import ServerUri
from ice_tcp.core.commands import QueryId
from ice_tcp.driver.ports import Core
from ice_tcp.net.resolve import ResolveError, Resolver


class QueryOwner(Protocol):
    """What `Queries` calls of the `Driver`."""

    @property
    def core(self) -> Core: ...

    def feed(self, method: Callable[..., object], *args: object) -> None:
        """Call an input of the core."""


class Queries:
    """Resolutions that run, each in a task."""

    __slots__ = ("_driver", "_resolver", "_tasks", "_wanted")

    def __init__(self, driver: QueryOwner, resolver: Resolver) -> None:
        self._driver = driver
        self._resolver = resolver
        self._wanted: dict[QueryId, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()  # those that were given up, too, until they are gone

    def begin(self, query: QueryId, uri: ServerUri) -> None:
        """Resolve; the core hears what was found, or why nothing was."""
        task = self._wanted[query] = asyncio.get_running_loop().create_task(self._resolve(query, uri))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _resolve(self, query: QueryId, uri: ServerUri) -> None:
        core = self._driver.core
        try:
            endpoints = await self._resolver.resolve(uri)
        except ResolveError as error:
            del self._wanted[query]
            self._driver.feed(core.resolve_failed, query, str(error))
        else:
            del self._wanted[query]
            self._driver.feed(core.resolved, query, endpoints)

    def give_up(self, query: QueryId) -> None:
        """The core does not want to hear of it any more."""
        task = self._wanted.pop(query, None)
        if task is not None:
            task.cancel()

    async def end(self) -> None:
        """Give up all, and wait until they are gone."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
