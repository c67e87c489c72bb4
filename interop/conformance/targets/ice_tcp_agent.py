"""Our own agent as a target: `ice_tcp.Agent`, driven through its public interface like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from importlib.metadata import version
from typing import Final, TypeVar

from candidates.candidate import CandidateError
from candidates.sdp import format_candidate, parse_candidate
from ice_tcp import Agent, IceError, IceParameters, Role, load_policy
from interop.conformance.candidate_lines import CandidateKind
from interop.conformance.target import Capability, Description, Server, Setup, TargetAgent, TargetError

T = TypeVar("T")

_LINE = 65_536
"""Bytes that one read of a byte stream takes at most."""


DEVIATIONS: Final = {
    "7675-5.1-the-peers-checks-do-not-renew-it-over-tcp": "An authenticated request on a TCP connection renews consent",
    "8445-8.1.1-the-best-of-several-nominations-counts": "The first nomination counts",
    "8445-6.1.2.5-the-worst-pairs-are-discarded": "Of more remote candidates than the limit the first ones count",
    "8445-6.1.4.2-a-foundation-waits-for-its-check": "A hanging check does not keep its foundation frozen",
    "8489-6.1-software-in-requests": "No SOFTWARE",
    "8489-6.3.1.1-software-in-responses": "No SOFTWARE",
    "8489-6.3.3-unknown-attribute-ends-the-transaction": "Responses that cannot be used do not end the transaction",
    "8489-9.1.4-a-forged-answer-over-tcp-ends-it": "Responses that cannot be used do not end the transaction",
}
"""By case: the heading in docs/deviations.md that tells what we do instead, and why."""


class IceTcpTarget:
    """``ice_tcp.Agent``."""

    name = "ice-tcp"
    version = version("ice-tcp")
    capabilities = frozenset(Capability)
    deviations: Mapping[str, str] = {id_: f"{heading} (docs/deviations.md)" for id_, heading in DEVIATIONS.items()}

    async def create(self, setup: Setup) -> TargetAgent:
        return IceTcpAgent(setup, self.policy(setup))

    def policy(self, setup: Setup) -> str:
        return policy_of(setup)

    async def close(self) -> None:
        pass


def policy_of(setup: Setup) -> str:
    """The policy file of an agent: it gathers what the setup asks for, with scaled timers."""
    tcp_types = [kind.removeprefix("tcp-") for kind in setup.kinds if kind is not CandidateKind.UDP]
    transports = (["udp"] if CandidateKind.UDP in setup.kinds else []) + (["tcp"] if tcp_types else [])
    scale = setup.scale
    return f"""
        address_families: [{"ipv6" if ":" in setup.host else "ipv4"}]
        interfaces: {{include: ["lo*"], loopback: true}}
        addresses: {{include: ["{setup.host}"]}}
        transports: [{", ".join(transports)}]
        {f"tcp_types: [{', '.join(tcp_types)}]" if tcp_types else ""}
        lite: {str(setup.lite).lower()}
        servers: [{", ".join(map(_server, setup.servers))}]
        candidate_types: [{"host" if setup.lite else "host, srflx, prflx, relay"}]
        timeouts:
          tcp_check: {39.5 * scale}
          idle: {10 * scale}
          linger: {3 * scale}
          patience: {39.5 * scale}
          reopen: {30 * scale}
        consent: {{interval: {5 * scale}, timeout: {30 * scale}}}
    """


def _server(server: Server) -> str:
    if not server.turn:
        return f'{{url: "stun:{server.host}:{server.port}"}}'
    url = f"turn:{server.host}:{server.port}?transport={server.transport}"
    return f'{{url: "{url}", username: "{server.username}", password: "{server.password}"}}'


class IceTcpAgent:
    """See `interop.conformance.target.TargetAgent`."""

    def __init__(self, setup: Setup, policy: str) -> None:
        role = Role.CONTROLLING if setup.controlling else Role.CONTROLLED
        loaded = load_policy(policy, environ={}, read_file=lambda _: "")
        self._agent = Agent(role, policy=loaded, components=setup.components)
        self._in_stream = setup.stream
        self._streams: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

    async def gather(self) -> Description:
        await _told(self._agent.gather())
        return await self._description()

    async def set_remote(self, description: Description) -> None:
        parameters = IceParameters(
            description.ufrag, description.pwd, description.options, description.lite, description.pacing
        )
        self._agent.set_remote_parameters(parameters)

    async def add_remote_candidate(self, line: str) -> None:
        try:
            self._agent.add_remote_candidate(parse_candidate(line))
        except CandidateError:
            return  # what an application does with a line that it cannot use (RFC 8839 s5.1)

    async def end_of_candidates(self) -> None:
        self._agent.end_of_candidates()

    async def connect(self) -> None:
        await _told(self._agent.connect())
        if self._in_stream:
            await _told(self._agent.nominated())

    async def send(self, data: bytes, component: int) -> None:
        if self._in_stream:
            _, writer = await self._stream(component)
            writer.write(data)
            await _told(writer.drain())
        else:
            await _told(self._agent.send(data, component))

    async def receive(self, component: int) -> bytes:
        if not self._in_stream:
            return await _told(self._agent.recv(component))
        reader, _ = await self._stream(component)
        data = await _told(reader.read(_LINE))
        if not data:
            raise TargetError("the stream has ended")
        return data

    async def selected_pair(self, component: int) -> tuple[str, str] | None:
        selected = self._agent.selected_path(component)
        return None if selected is None else (format_candidate(selected.local), format_candidate(selected.remote))

    async def restart(self) -> Description:
        await _told(self._agent.restart())
        return await self._description()

    async def close(self) -> None:
        await self._agent.close()

    async def _description(self) -> Description:
        local = self._agent.local_parameters
        candidates = [format_candidate(candidate) async for candidate in self._agent.local_candidates()]
        return Description(local.ufrag, local.pwd, local.options, local.lite, local.pacing, tuple(candidates))

    async def _stream(self, component: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if component not in self._streams:
            self._streams[component] = await _told(self._agent.open_stream(component))
        return self._streams[component]


async def _told(doing: Awaitable[T]) -> T:
    """What the agent raises, as a target does."""
    try:
        return await doing
    except (IceError, OSError) as error:
        raise TargetError(str(error)) from error
