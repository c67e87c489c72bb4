"""Two ICE agents on loopback, driven by the conformance suite's adapters: gather, connect, swap messages, restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from interop.conformance.candidate_lines import CandidateKind
from interop.conformance.target import Capability, Description, Server, Setup, Target, TargetAgent
from interop.conformance.targets import open_target
from interop.conformance.targets.ice_tcp_agent import IceTcpTarget
from interop.coturn import Coturn
from interop.peers.exchange import EXPECTED, MESSAGES, checksum, message

_HOST: Final = "127.0.0.1"
_TIMEOUT: Final = 30.0
_ONE: Final = 1
"""The component."""


class SessionError(Exception):
    """A session did not come to what it has to."""


class _ReachedByRelay(IceTcpTarget):
    """Takes nothing from its peer but relayed candidates."""

    def policy(self, setup: Setup) -> str:
        return f"{super().policy(setup)}\n        remote: {{allow: [{{type: relay}}]}}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """The peer, by its adapter's name, and our agent. ``expected`` is what has to stand in the peer's selected pair."""

    peer: str
    ours: str = "ice-tcp"
    peer_kinds: frozenset[CandidateKind]
    our_kinds: frozenset[CandidateKind]
    peer_controls: bool
    expected: str
    relayed_over: str | None = None
    """The peer has a relay that it reaches over this transport, and is met nowhere else."""


async def run_session(session: Session, directory: Path) -> str:
    """Connect, swap, restart where the peer can, swap again, close. Returns the peer's local candidate."""
    peer, ours = open_target(session.peer), _ours(session)
    try:
        async with asyncio.timeout(_TIMEOUT):
            if session.relayed_over is None:
                return await _meet(session, peer, ours, ())
            with Coturn(directory) as server:
                host, port = server.address
                entry = Server(host, port, True, session.relayed_over, "user", server.users["user"])
                return await _meet(session, peer, ours, (entry,))
    except TimeoutError:
        raise SessionError(f"time was up after {_TIMEOUT:g} s") from None
    finally:
        await peer.close()
        await ours.close()


def _ours(session: Session) -> Target:
    return _ReachedByRelay() if session.relayed_over is not None else open_target(session.ours)


async def _meet(session: Session, peer: Target, ours: Target, servers: tuple[Server, ...]) -> str:
    setup = Setup(controlling=session.peer_controls, kinds=session.peer_kinds, host=_HOST, servers=servers)
    agents = [
        await peer.create(setup),
        await ours.create(replace(setup, controlling=not session.peer_controls, kinds=session.our_kinds, servers=())),
    ]
    try:
        await _introduce(agents, [agent.gather for agent in agents])
        local = await _swap(agents)
        if session.expected not in local.lower():
            raise SessionError(f"it went by {local!r}, not by {session.expected}")
        if Capability.RESTART in peer.capabilities & ours.capabilities:
            await _introduce(agents, [agent.restart for agent in agents])
            await _swap(agents)
        return local
    finally:
        for agent in agents if session.peer_controls else reversed(agents):
            await agent.close()


async def _introduce(
    agents: Iterable[TargetAgent], describing: Iterable[Callable[[], Coroutine[Any, Any, Description]]]
) -> None:
    one, other = agents
    descriptions = await asyncio.gather(*(describe() for describe in describing))
    for agent, description in ((one, descriptions[1]), (other, descriptions[0])):
        await agent.set_remote(description)
        for line in description.candidates:
            await agent.add_remote_candidate(line)
        await agent.end_of_candidates()
    await asyncio.gather(one.connect(), other.connect())


async def _swap(agents: Iterable[TargetAgent]) -> str:
    """Messages both ways, and their sums. Returns the peer's local candidate."""
    one, other = agents
    for sender, receiver in ((one, other), (other, one)):
        chunks = []
        for number in range(MESSAGES):
            await sender.send(message(number), _ONE)
            chunks.append(await receiver.receive(_ONE))
        if checksum(chunks) != EXPECTED:
            raise SessionError("what came is not what was sent")
    pair = await one.selected_pair(_ONE)
    return pair[0] if pair is not None else ""
