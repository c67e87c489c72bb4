"""The peer's candidates, as the application tells them: before or after gathering, names included."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Hashable

import aioice

from candidates.candidate import Candidate
from ice_tcp.agent import Agent
from ice_tcp.compat.aioice.conversion import from_aioice
from ice_tcp.mdns import MdnsNames, is_mdns_name

logger = logging.getLogger(__name__)


class RemoteCandidates:
    """Keeps what it is told for an agent that comes later (`attach`), or passes it on.

    ``names`` looks up names under .local; None: such candidates are ignored.
    """

    def __init__(self, names: MdnsNames | None) -> None:
        self._names = names
        self._agent: Agent | None = None
        self._resolving = 0
        self._ended = self._detached = False
        self.complete = asyncio.Event()
        """Set when no more will come."""
        self._usable: dict[Hashable, tuple[aioice.Candidate, Candidate]] = {}

    @property
    def told(self) -> list[aioice.Candidate]:
        """The usable ones as the application told them: with names, where there were names."""
        return [theirs for theirs, _ in self._usable.values()]

    def find(self, component: int, foundation: str) -> Candidate | None:
        """The last one with this foundation."""
        found = [ours for theirs, ours in self._usable.values() if theirs.foundation == foundation]
        return next((ours for ours in reversed(found) if ours.component == component), None)

    def attach(self, agent: Agent) -> None:
        """Tell an agent everything, now and from now on."""
        self._agent = agent
        for _, candidate in self._usable.values():
            agent.add_remote_candidate(candidate)
        self._end_if_complete()

    def detach(self) -> None:
        """Nobody wants to know any more; what is still told is ignored."""
        self._agent = None
        self._detached = True
        self.complete.set()

    async def add(self, candidate: aioice.Candidate | None) -> None:
        """Take a candidate, or None for their end. One that cannot be used is ignored.

        Raises ValueError for anything after the end.
        """
        if self._ended:
            raise ValueError("Cannot add remote candidate after end-of-candidates.")
        if self._detached:
            return
        if candidate is None:
            self._ended = True
            self._end_if_complete()
            return
        candidate = copy.copy(candidate)  # the application may change its own
        if not is_mdns_name(candidate.host):
            self._take(candidate, candidate.host)
            return
        self._resolving += 1
        try:
            host = await self._names.resolve(candidate.host) if self._names is not None else None
            if host is None:
                logger.info("Remote candidate %s is ignored: its name is not known", candidate.host)
            elif not self._detached:
                self._take(candidate, host)
        finally:
            self._resolving -= 1
            self._end_if_complete()

    def _take(self, theirs: aioice.Candidate, host: str) -> None:
        try:
            ours = from_aioice(theirs, host)
        except (ValueError, TypeError, AttributeError) as error:
            logger.info("Remote candidate %s is ignored: %s", theirs.host, error)
            return
        key = (ours.component, ours.transport, ours.tcptype, ours.address)
        if key in self._usable:
            return  # told again (RFC 8838 s9)
        self._usable[key] = (theirs, ours)
        if self._agent is not None:
            self._agent.add_remote_candidate(ours)

    def _end_if_complete(self) -> None:
        """Names that are still looked up came before the end."""
        if self._ended and not self._resolving:
            self.complete.set()
            if self._agent is not None:
                self._agent.end_of_candidates()
