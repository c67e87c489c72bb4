"""The messages of several components as one sequence."""

from __future__ import annotations

import asyncio

from ice_tcp.agent import Agent


class Inflow:
    """What an agent's components receive, whichever comes first; `close` it before the agent is forgotten."""

    def __init__(self, agent: Agent, components: int) -> None:
        self._agent = agent
        self._components = components
        self._waiting: dict[int, asyncio.Task[bytes]] = {}
        self._turn = asyncio.Lock()

    async def recv(self) -> tuple[bytes, int]:
        """The next message and its component. Several may wait; they are served in their order.

        Raises as `Agent.recv`.
        """
        async with self._turn:
            if self._components == 1:
                return await self._agent.recv(), 1
            return await self._recv_any()

    async def _recv_any(self) -> tuple[bytes, int]:
        for component in range(1, self._components + 1):
            if component not in self._waiting:
                self._waiting[component] = asyncio.create_task(self._agent.recv(component))
        # A receiver that waits on is kept for the next call: it may have taken a message by then.
        await asyncio.wait(self._waiting.values(), return_when=asyncio.FIRST_COMPLETED)
        component = next(component for component, task in self._waiting.items() if task.done())
        return self._waiting.pop(component).result(), component

    async def close(self) -> None:
        """Nobody asks for messages any more."""
        tasks = list(self._waiting.values())
        self._waiting.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
