"""The implementations that are measured, each behind the same few calls.

``send`` and ``recv`` are the implementation's own bound methods: nothing of the bench stands between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

import aioice
import aioice.ice

from candidates.policy import Policy
from candidates.sdp import IceDescription, format_description, parse_description
from ice_tcp import Agent, Role
from interop.bench.reference import ReferenceConnection

LOOPBACK: Final = "127.0.0.1"
TURN_USER: Final = "bench"
TURN_PASSWORD: Final = "correct-horse"


class Signaling(Protocol):
    async def put(self, message: Any) -> None: ...
    async def get(self) -> Any: ...


class Endpoint(Protocol):
    """One end of a connection."""

    @property
    def send(self) -> Callable[[bytes], Awaitable[None]]: ...
    @property
    def recv(self) -> Callable[[], Awaitable[bytes]]: ...

    async def prepare(self, signaling: Signaling) -> None:
        """Do all that comes before the checks: gather, tell the peer, take what it tells."""

    async def connect(self) -> None:
        """Return when data can flow."""

    async def nominated(self) -> None:
        """Return when the path is final."""

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class TurnServer:
    """Where an endpoint's relay is. ``transport`` is to the server, "udp" or "tcp"."""

    host: str
    port: int
    transport: str = "udp"

    def policy(self) -> dict[str, object]:
        """Sections of a policy that allows nothing but its relays."""
        server = {
            "url": f"turn:{self.host}:{self.port}?transport={self.transport}",
            "username": TURN_USER,
            "password": TURN_PASSWORD,
        }
        return {"servers": [server], "candidate_types": ["relay"]}


class IceTcpEndpoint:
    """An agent of this project."""

    def __init__(self, controlling: bool, policy: Policy) -> None:
        self._agent = Agent(Role.CONTROLLING if controlling else Role.CONTROLLED, policy=policy)
        self.send = self._agent.send
        self.recv = self._agent.recv

    async def prepare(self, signaling: Signaling) -> None:
        agent = self._agent
        await agent.gather()
        candidates = tuple([candidate async for candidate in agent.local_candidates()])
        own = IceDescription(agent.local_parameters, candidates, end_of_candidates=True)
        await signaling.put(format_description(own))
        remote = parse_description(await signaling.get())
        agent.set_remote_parameters(remote.parameters)
        for candidate in remote.candidates:
            agent.add_remote_candidate(candidate)
        agent.end_of_candidates()

    async def connect(self) -> None:
        await self._agent.connect()

    async def nominated(self) -> None:
        await self._agent.nominated()

    async def close(self) -> None:
        await self._agent.close()


def gather_on_loopback() -> None:
    """Let aioice gather on the loopback, and only there."""
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [LOOPBACK]  # noqa: ARG005 - its caller names them


class AioiceEndpoint:
    """A connection of aioice, made to gather on loopback, which it never does by itself."""

    def __init__(self, controlling: bool, turn: TurnServer | None = None) -> None:
        gather_on_loopback()
        self._connection = aioice.Connection(ice_controlling=controlling, **_relayed(turn))
        self.send = self._connection.send
        self.recv = self._connection.recv

    async def prepare(self, signaling: Signaling) -> None:
        connection = self._connection
        await connection.gather_candidates()
        lines = [candidate.to_sdp() for candidate in connection.local_candidates]
        await signaling.put([connection.local_username, connection.local_password, lines])
        connection.remote_username, connection.remote_password, lines = await signaling.get()
        for line in lines:
            await connection.add_remote_candidate(aioice.Candidate.from_sdp(line))
        await connection.add_remote_candidate(None)

    async def connect(self) -> None:
        await self._connection.connect()

    async def nominated(self) -> None:
        """aioice connects with a nominated pair."""

    async def close(self) -> None:
        await self._connection.close()


def _relayed(turn: TurnServer | None) -> dict[str, Any]:
    if turn is None:
        return {}
    return {
        "turn_server": (turn.host, turn.port),
        "turn_username": TURN_USER,
        "turn_password": TURN_PASSWORD,
        "turn_transport": turn.transport,
        "transport_policy": aioice.TransportPolicy.RELAY,
    }


class ReferenceEndpoint:
    """A bare TCP connection with framing, without ICE; see `interop.bench.reference`."""

    def __init__(self, controlling: bool) -> None:
        self._connects = controlling
        self._connection = ReferenceConnection()
        self.send = self._connection.send
        self.recv = self._connection.recv

    async def prepare(self, signaling: Signaling) -> None:
        loop = asyncio.get_running_loop()
        if self._connects:
            port = await signaling.get()
            await loop.create_connection(lambda: self._connection, LOOPBACK, port)
            return
        server = await loop.create_server(lambda: self._connection, LOOPBACK, 0)
        await signaling.put(server.sockets[0].getsockname()[1])
        await self._connection.made()
        server.close()

    async def connect(self) -> None:
        """`prepare` has connected."""

    async def nominated(self) -> None:
        """There is only one path."""

    async def close(self) -> None:
        self._connection.close()


_LOOPBACK_ONLY: Final = MappingProxyType(
    {"address_families": ["ipv4"], "interfaces": {"include": ["lo"], "loopback": True}}
)
_STRICT: Final = MappingProxyType({"pacing": {"strict": True}})


def loopback_policy(**changes: object) -> Policy:
    """The default policy with these changes, on the loopback and IPv4 only."""
    return Policy.default().revised(**_LOOPBACK_ONLY, **changes)


Maker: TypeAlias = Callable[[bool, TurnServer | None], Endpoint]
"""Makes an endpoint, given whether it controls, and the server if relays are measured."""


def _ice_tcp(**changes: object) -> Maker:
    """Agents that share the default policy with these changes."""
    policy = Policy.default().revised(**changes)

    def make(controlling: bool, turn: TurnServer | None) -> Endpoint:
        return IceTcpEndpoint(controlling, policy.revised(**turn.policy()) if turn is not None else policy)

    return make


SUBJECTS: Final[Mapping[str, Maker]] = MappingProxyType(
    {
        "ice-tcp": _ice_tcp(interfaces={"loopback": True}),
        "ice-tcp/udp": _ice_tcp(transports=["udp"], **_LOOPBACK_ONLY),
        "ice-tcp/tcp": _ice_tcp(transports=["tcp"], **_LOOPBACK_ONLY),
        "ice-tcp/udp/strict": _ice_tcp(transports=["udp"], **_LOOPBACK_ONLY, **_STRICT),
        "ice-tcp/tcp/strict": _ice_tcp(transports=["tcp"], **_LOOPBACK_ONLY, **_STRICT),
        "aioice": AioiceEndpoint,
        "reference": lambda controlling, _: ReferenceEndpoint(controlling),
    }
)
"""What figures call an implementation and its settings."""


def make_endpoint(subject: str, controlling: bool, turn: TurnServer | None = None) -> Endpoint:
    """A new endpoint of the implementation that figures call ``subject``. Call it in a running event loop."""
    return SUBJECTS[subject](controlling, turn)
