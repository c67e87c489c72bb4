"""Gathers as an agent of this policy would, and tells what is found as it comes."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from candidates.policy import Policy
from ice_tcp.agent import Agent
from ice_tcp.capsule import Capsule
from ice_tcp.core.events import Role
from ice_tcp.core.trace import Entry, TraceSink
from ice_tcp.gather.findings import Findings, Notes


class View(Protocol):
    """Shows what is found."""

    def update(self, findings: Findings, /) -> None:
        """So much is known of the gathering that runs."""

    def found(self, findings: Findings, /) -> None:
        """A gathering is over."""


class Survey:
    """Gathers, and traces to ``trace``, too; `latest` is what the last gathering found that is over.

    A ``capsule`` records one gathering.
    """

    def __init__(
        self, policy: Policy, view: View, trace: TraceSink | None = None, capsule: Capsule | None = None
    ) -> None:
        self._policy = policy
        self._view = view
        self._trace = trace
        self._capsule = capsule
        self.latest: Findings | None = None

    async def watch(self, interval: float) -> None:
        """Gather, and again ``interval`` seconds after each end, until cancelled.

        Each time anew, with an agent of its own: what a server gave before does not hide that it is gone.
        """
        while True:
            await self.once()
            await asyncio.sleep(interval)

    async def once(self) -> None:
        """Gather, and free what was gathered."""
        notes = Notes(self._policy)
        began_at = time.monotonic()

        def note(now: float, entry: Entry) -> None:
            notes.note(now, entry)
            if self._trace is not None:
                self._trace(now, entry)

        async with Agent(Role.CONTROLLING, policy=self._policy, trace=note, capsule=self._capsule) as agent:

            def findings(*, is_done: bool) -> Findings:
                seconds = round(time.monotonic() - began_at, 6)
                return notes.findings(agent.server_reports(), agent.mapping_behaviours(), seconds, is_done=is_done)

            async def show() -> None:
                async for _ in agent.events():
                    self._view.update(findings(is_done=False))

            showing = asyncio.create_task(show())
            try:
                await agent.gather()
            finally:
                showing.cancel()
            self.latest = findings(is_done=True)
            self._view.found(self.latest)
