"""aioice as a target: an ICE agent for Python over UDP, and the reference that aiortc uses. And the drop-in for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from importlib.metadata import version
from typing import Any, TypeVar

import aioice
import aioice.ice

from candidates.sdp import format_candidate
from ice_tcp import load_policy
from ice_tcp.compat.aioice import Connection
from interop.conformance.target import Capability, Description, Setup, TargetAgent, TargetError
from interop.conformance.targets.ice_tcp_agent import IceTcpTarget, policy_of

T = TypeVar("T")


class AioiceTarget:
    """``aioice.Connection``. Its timers are constants of a module, and so are not scaled."""

    name = "aioice"
    version = version("aioice")
    capabilities = frozenset(
        {
            Capability.UDP,
            Capability.COMPONENTS,
            Capability.IPV6,
            Capability.LITE_PEER,
            Capability.TRICKLE,
            Capability.STUN,
            Capability.TURN,
        }
    )
    deviations: Mapping[str, str] = {}

    async def create(self, setup: Setup) -> TargetAgent:
        return AioiceAgent(setup)

    async def close(self) -> None:
        pass


class DropInTarget:
    """``ice_tcp.compat.aioice.Connection``: aioice's interface on our agent."""

    name = "ice-tcp-aioice"
    version = version("ice-tcp")
    capabilities = AioiceTarget.capabilities | {
        Capability.TCP_ACTIVE,
        Capability.TCP_PASSIVE,
        Capability.TCP_SO,
        Capability.TCP_KINDS,
        Capability.SCALED,
        Capability.STUN_TCP,
        Capability.TURN_TCP,
    }
    deviations: Mapping[str, str] = IceTcpTarget.deviations

    async def create(self, setup: Setup) -> TargetAgent:
        return DropInAgent(setup)

    async def close(self) -> None:
        pass


class AioiceAgent:
    """See `interop.conformance.target.TargetAgent`."""

    def __init__(self, setup: Setup) -> None:
        self._host = setup.host
        self._connection = self._connect_as(setup)
        self._inboxes: dict[int, asyncio.Queue[bytes]] = {n: asyncio.Queue() for n in range(1, setup.components + 1)}

    def _connect_as(self, setup: Setup) -> Any:
        # It takes one server of each kind.
        stun = next(((each.host, each.port) for each in setup.servers if not each.turn), None)
        turn = next((each for each in setup.servers if each.turn), None)
        relaying: dict[str, Any] = (
            {}
            if turn is None
            else {
                "turn_server": (turn.host, turn.port),
                "turn_username": turn.username,
                "turn_password": turn.password,
                "turn_transport": turn.transport,
            }
        )
        return aioice.Connection(
            ice_controlling=setup.controlling, components=setup.components, stun_server=stun, **relaying
        )

    def _open_loopback(self) -> None:
        """It leaves out loopback addresses by itself. It asks for them before it waits for anything."""
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [self._host]  # noqa: ARG005 - its caller names them

    async def gather(self) -> Description:
        self._open_loopback()
        await self._connection.gather_candidates()
        candidates = tuple(f"candidate:{each.to_sdp()}" for each in self._connection.local_candidates)
        return Description(self._connection.local_username, self._connection.local_password, candidates=candidates)

    async def set_remote(self, description: Description) -> None:
        self._connection.remote_username = description.ufrag
        self._connection.remote_password = description.pwd
        self._connection.remote_is_lite = description.lite

    async def add_remote_candidate(self, line: str) -> None:
        try:
            candidate = aioice.Candidate.from_sdp(line.removeprefix("candidate:"))
        except ValueError:
            return
        # ValueError says that it is of no use, or that it comes too late.
        try:
            await self._connection.add_remote_candidate(candidate)
        except ValueError:
            return

    async def end_of_candidates(self) -> None:
        await self._connection.add_remote_candidate(None)

    async def connect(self) -> None:
        await _told(self._connection.connect())

    async def send(self, data: bytes, component: int) -> None:
        await _told(self._connection.sendto(data, component))

    async def receive(self, component: int) -> bytes:
        inbox = self._inboxes[component]
        while inbox.empty():
            data, came_to = await _told(self._connection.recvfrom())
            self._inboxes[came_to].put_nowait(data)
        return inbox.get_nowait()

    async def selected_pair(self, component: int) -> tuple[str, str] | None:
        pair = self._connection._nominated.get(component)  # noqa: SLF001 - it has no public name
        if pair is None:
            return None
        return f"candidate:{pair.local_candidate.to_sdp()}", f"candidate:{pair.remote_candidate.to_sdp()}"

    async def restart(self) -> Description:
        raise TargetError("aioice cannot restart")

    async def close(self) -> None:
        await self._connection.close()


class DropInAgent(AioiceAgent):
    """The same calls, answered by our agent."""

    def _connect_as(self, setup: Setup) -> Any:
        policy = load_policy(policy_of(setup), environ={}, read_file=lambda _: "")
        return Connection(ice_controlling=setup.controlling, components=setup.components, policy=policy)

    def _open_loopback(self) -> None:
        """The policy does."""

    async def selected_pair(self, component: int) -> tuple[str, str] | None:
        selected = self._connection.selected_path(component)
        return None if selected is None else (format_candidate(selected.local), format_candidate(selected.remote))


async def _told(doing: Awaitable[T]) -> T:
    try:
        return await doing
    except ConnectionError as error:
        raise TargetError(str(error)) from error
