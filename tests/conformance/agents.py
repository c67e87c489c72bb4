"""Our agent as a target for tests of the suite: without excuses, and with something wrong around it."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from textwrap import dedent

from interop.conformance.target import Description, Setup, TargetAgent, TargetError
from interop.conformance.targets.ice_tcp_agent import IceTcpTarget

Wrap = Callable[[TargetAgent], TargetAgent]


class Unexcused(IceTcpTarget):
    """A case that it fails is failed: no deviations."""

    deviations: Mapping[str, str] = {}


class Wrapped:
    """An agent that hands everything on; override what is to be different."""

    def __init__(self, agent: TargetAgent) -> None:
        self.agent = agent

    async def gather(self) -> Description:
        return await self.agent.gather()

    async def set_remote(self, description: Description) -> None:
        await self.agent.set_remote(description)

    async def add_remote_candidate(self, line: str) -> None:
        await self.agent.add_remote_candidate(line)

    async def end_of_candidates(self) -> None:
        await self.agent.end_of_candidates()

    async def connect(self) -> None:
        await self.agent.connect()

    async def send(self, data: bytes, component: int) -> None:
        await self.agent.send(data, component)

    async def receive(self, component: int) -> bytes:
        return await self.agent.receive(component)

    async def selected_pair(self, component: int) -> tuple[str, str] | None:
        return await self.agent.selected_pair(component)

    async def restart(self) -> Description:
        return await self.agent.restart()

    async def close(self) -> None:
        await self.agent.close()


def wrapping(wrapper: Wrap) -> type[IceTcpTarget]:
    """A target whose agents are wrapped."""

    class Wrapping(Unexcused):
        async def create(self, setup: Setup) -> TargetAgent:
            return wrapper(await super().create(setup))

    return Wrapping


def following(change: Callable[[str], str]) -> type[IceTcpTarget]:
    """A target whose agents follow another policy."""

    class Following(Unexcused):
        def policy(self, setup: Setup) -> str:
            return change(super().policy(setup))

    return Following


def adding(section: str) -> type[IceTcpTarget]:
    """A target whose agents' policy has one more section."""
    return following(lambda policy: f"{dedent(policy)}\n{section}\n")


def telling(edit: Callable[[Description], Description]) -> type[IceTcpTarget]:
    """A target whose agents tell something else of themselves."""

    class Telling(Wrapped):
        async def gather(self) -> Description:
            return edit(await super().gather())

        async def restart(self) -> Description:
            return edit(await super().restart())

    return wrapping(Telling)


def listing(edit: Callable[[str], str]) -> type[IceTcpTarget]:
    """A target whose agents' candidates are edited; an empty line is left out."""

    def edited(told: Description) -> Description:
        return replace(told, candidates=tuple(filter(None, map(edit, told.candidates))))

    return telling(edited)


def scaled(factor: float) -> type[IceTcpTarget]:
    """A target whose timers take longer, or not so long."""

    class Scaled(Unexcused):
        async def create(self, setup: Setup) -> TargetAgent:
            return await super().create(replace(setup, scale=factor * setup.scale))

    return Scaled


class Boasts(Wrapped):
    """It says that it has connected, whatever happens."""

    async def connect(self) -> None:
        starting = asyncio.create_task(super().connect())
        await asyncio.wait([starting], timeout=0.2)
        starting.cancel()


class GivesUp(Wrapped):
    """It says that it has failed if it has not connected within 300 ms."""

    async def connect(self) -> None:
        try:
            async with asyncio.timeout(0.3):
                await super().connect()
        except TimeoutError:
            raise TargetError("no candidate works") from None


class NeverConnects(Wrapped):
    """It does not say so when it has connected."""

    async def connect(self) -> None:
        await super().connect()
        await asyncio.get_running_loop().create_future()


class Mute(Wrapped):
    """What it is told to send does not go anywhere."""

    async def send(self, data: bytes, component: int) -> None:
        pass


class Mangles(Wrapped):
    """What comes is delivered backwards."""

    async def receive(self, component: int) -> bytes:
        return (await super().receive(component))[::-1]


class Truncates(Wrapped):
    """Of what comes it delivers 40000 bytes at most."""

    async def receive(self, component: int) -> bytes:
        return (await super().receive(component))[:40_000]


class AddsEmptyMessages(Wrapped):
    """Between any two messages there is an empty one."""

    def __init__(self, agent: TargetAgent) -> None:
        super().__init__(agent)
        self._empty = False

    async def receive(self, component: int) -> bytes:
        self._empty = not self._empty
        return b"" if self._empty else await super().receive(component)


class Leaks(Wrapped):
    """It sends to the peer's candidate whether it may or not."""

    def __init__(self, agent: TargetAgent) -> None:
        super().__init__(agent)
        self._peer = ("", 0)

    async def add_remote_candidate(self, line: str) -> None:
        fields = line.split(" ")
        self._peer = (fields[4], int(fields[5]))
        await super().add_remote_candidate(line)

    async def send(self, data: bytes, component: int) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as leak:
            leak.sendto(data, self._peer)


class Dials(Wrapped):
    """It connects to every TCP candidate of the peer."""

    sessions = 1
    """In how many sessions it does not yet, from the first one on: a restart begins another."""

    def __init__(self, agent: TargetAgent) -> None:
        super().__init__(agent)
        self._sessions = 0

    async def set_remote(self, description: Description) -> None:
        self._sessions += 1
        await super().set_remote(description)

    async def add_remote_candidate(self, line: str) -> None:
        fields = line.split(" ")
        if fields[2] == "TCP" and self._sessions >= self.sessions:
            with socket.create_connection((fields[4], int(fields[5]))):
                pass
        await super().add_remote_candidate(line)


class DialsAgain(Dials):
    """It does so after a restart."""

    sessions = 2


class NoTrickle(Wrapped):
    """It ignores candidates that come after it has begun to connect."""

    def __init__(self, agent: TargetAgent) -> None:
        super().__init__(agent)
        self._connecting = False

    async def connect(self) -> None:
        self._connecting = True
        await super().connect()

    async def add_remote_candidate(self, line: str) -> None:
        if not self._connecting:
            await super().add_remote_candidate(line)


class NoEnd(Wrapped):
    """It does not know an end of candidates."""

    async def end_of_candidates(self) -> None:
        pass


class ForgetsFragments(Wrapped):
    """It does not look at the fragment that a candidate names."""

    async def add_remote_candidate(self, line: str) -> None:
        await super().add_remote_candidate(re.sub(r" ufrag \S+", "", line))


class IgnoresPacing(Wrapped):
    """It does not look at the peer's pacing."""

    async def set_remote(self, description: Description) -> None:
        await super().set_remote(replace(description, pacing=None))


class Picky(Wrapped):
    """It fails at every candidate but the most usual ones, and at unusual credentials."""

    USUAL = re.compile(r"candidate:[0-9a-z]{1,8} 1 (UDP|TCP) (\d{2,9}|21\d{8}) [\d.]+ \d{1,5} typ \w+( tcptype \w+)?\Z")

    async def add_remote_candidate(self, line: str) -> None:
        if not self.USUAL.match(line) or "dream" in line or "300." in line:
            raise TargetError(f"{line!r} is no candidate")
        await super().add_remote_candidate(line)

    async def set_remote(self, description: Description) -> None:
        if not 8 <= len(description.ufrag) <= 32:
            raise TargetError(f"{description.ufrag!r} is no fragment")
        await super().set_remote(description)


class KeepsItsPassword(Wrapped):
    """A restart does not change its password."""

    def __init__(self, agent: TargetAgent) -> None:
        super().__init__(agent)
        self._pwd = ""

    async def gather(self) -> Description:
        told = await super().gather()
        self._pwd = told.pwd
        return told

    async def restart(self) -> Description:
        return replace(await super().restart(), pwd=self._pwd)


class SelectsHosts(Wrapped):
    """It says that its selected pair has a host candidate, whatever it has."""

    async def selected_pair(self, component: int) -> tuple[str, str] | None:
        selected = await super().selected_pair(component)
        return selected and (selected[0].replace("prflx", "host"), selected[1].replace("prflx", "host"))
