"""Runs one cell: builds its world, starts an agent on each host, carries their signaling, and watches."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

from ice_tcp import Role
from ice_tcp.signaling import Channel, EndOfCandidates, Message, Note, SignalingError
from interop.natlab.kinds import LabError, Site
from interop.natlab.results import CellResult, SideResult
from interop.natlab.scenario import Scenario
from interop.natlab.servers import policy_entries, serving
from interop.natlab.topology import LEFT, RIGHT
from interop.natlab.world import World

_HEADSTART: Final = 0.2
"""Seconds until the first side starts its checks, where the start is arranged: the order must reach both before."""
_END_TIMEOUT: Final = 5.0

Script = Callable[["Session"], Awaitable[None]]
"""What a cell does once its agents run."""


class Host:
    """One host's agent process, and what it has told so far."""

    def __init__(self, name: str, channel: Channel, result: SideResult) -> None:
        self.name = name
        self.channel = channel
        self.result = result
        self.is_described = asyncio.Event()
        """The other side knows its credentials and all its candidates."""
        self.changed = asyncio.Event()

    async def begin(self, scenario: Scenario, directory: Path, policy: dict[str, Any]) -> None:
        """Let it gather, and, unless the start is arranged, check as soon as it can."""
        controls = (self.name == RIGHT) is scenario.right_controls
        trace = str(directory / f"{self.name}.jsonl")
        role = Role.CONTROLLING if controls else Role.CONTROLLED
        eager = scenario.skew is None
        await self.ask("begin", policy=policy, role=role, trace=trace, eager=eager, streams=scenario.streams)

    async def ask(self, name: str, **fields: Any) -> None:
        await self.channel.send(Note(name, fields))

    def told(self, note: Note) -> None:
        """Take down what the process reports."""
        at = float(note.data["at"])
        self.result.told.append((at, note.name, note.data))
        match note.name:
            case "checking":
                self.result.checking_at = at
            case "selected":
                self.result.local, self.result.remote = note.data["local"], note.data["remote"]
                if note.data["nominated"]:
                    self.result.moments.setdefault("nominated", at)
            case "state":
                self.result.states.append(note.data["state"])
            case "failed":
                self.result.failure = f"{note.data['verdict']}: {note.data['remedy']}"
            case moment:
                self.result.moments.setdefault(moment, at)
        self.changed.set()


class Session:
    """The two agents of a cell, and the signaling between them."""

    def __init__(self, scenario: Scenario, world: World, left: Host, right: Host) -> None:
        self.scenario = scenario
        self.world = world
        self.left = left
        self.right = right

    @property
    def hosts(self) -> tuple[Host, Host]:
        return self.left, self.right

    async def connect(self) -> None:
        """Start the checks as the scenario says, and wait until data has come over both sides' final path."""
        if self.scenario.skew is not None:
            await asyncio.gather(*(host.is_described.wait() for host in self.hosts))
            begin = time.monotonic() + _HEADSTART
            await self.left.ask("check", at=begin + max(0.0, -self.scenario.skew))
            await self.right.ask("check", at=begin + max(0.0, self.scenario.skew))
        await self.until(lambda side: "settled" in side.moments)

    async def until(self, holds: Callable[[SideResult], bool]) -> None:
        """Wait until something holds for both sides. Raises LabError if both agents give up."""
        await self._wait(lambda: all(holds(host.result) for host in self.hosts))

    async def until_one(self, host: Host, holds: Callable[[SideResult], bool]) -> None:
        """As `until`, for one side."""
        await self._wait(lambda: holds(host.result))

    async def _wait(self, holds: Callable[[], bool]) -> None:
        while not holds():
            if all(host.result.failure is not None for host in self.hosts):
                raise LabError("both agents gave up")
            for host in self.hosts:
                host.changed.clear()
            waiting = [asyncio.create_task(host.changed.wait()) for host in self.hosts]
            try:
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in waiting:
                    task.cancel()

    async def carry(self, source: Host, target: Host) -> None:
        """Take down what one host reports, and bring to the other what is for it, late but in order."""
        loop = asyncio.get_running_loop()
        pending: asyncio.Queue[tuple[float, Message]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due_at, message = await pending.get()
                await asyncio.sleep(due_at - loop.time())
                await target.channel.send(message)
                if isinstance(message, EndOfCandidates):
                    source.is_described.set()

        delivering = asyncio.create_task(deliver())
        try:
            async for message in source.channel:
                if isinstance(message, Note):
                    source.told(message)
                else:
                    pending.put_nowait((loop.time() + self.scenario.signaling, message))
        finally:
            delivering.cancel()
        raise LabError(f"the agent on the {source.name} ended: {self.world.last_words(source.name)}")


async def run_cell(
    scenario: Scenario,
    name: Callable[[str], str],
    directory: Path,
    certificates: Path,
    script: Script = Session.connect,
) -> CellResult:
    """Run a scenario; what goes wrong stands in the result. ``name`` makes a namespace's name of a node's.

    Traces and the packet log go to ``directory``.
    """
    result = CellResult(scenario, SideResult(), SideResult(), directory)
    try:
        async with World(scenario, directory, name) as world, serving(scenario.servers, world, certificates):
            await _with_agents(scenario, world, result, certificates, script)
    except TimeoutError:
        result.error = f"time was up after {scenario.timeout:g} s"
    except (LabError, OSError, SignalingError) as error:
        result.error = str(error)
    return result


async def _with_agents(
    scenario: Scenario, world: World, result: CellResult, certificates: Path, script: Script
) -> None:
    async with AsyncExitStack() as stack:
        left = Host(LEFT, await _start(stack, world, LEFT), result.left)
        right = Host(RIGHT, await _start(stack, world, RIGHT), result.right)
        session = Session(scenario, world, left, right)
        await left.begin(scenario, world.directory, _policy(scenario, scenario.left, certificates))
        await right.begin(scenario, world.directory, _policy(scenario, scenario.sites[1], certificates))
        try:
            await _act(session, script)
        finally:
            world.log_zero = result.zero
            await asyncio.gather(*(host.ask("end") for host in session.hosts), return_exceptions=True)


async def _act(session: Session, script: Script) -> None:
    """Run the script while signaling goes on."""
    left, right = session.hosts
    running = (script(session), session.carry(left, right), session.carry(right, left))
    tasks = [asyncio.ensure_future(each) for each in running]
    try:
        async with asyncio.timeout(session.scenario.timeout):
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _start(stack: AsyncExitStack, world: World, name: str) -> Channel:
    """An agent's process on a host; it is ended when the stack is."""
    process = await world.fork(name)

    async def end() -> None:
        try:
            await asyncio.wait_for(process.wait(), _END_TIMEOUT)
        except TimeoutError:
            process.kill()
            await process.wait()

    stack.push_async_callback(end)
    return Channel(process.stdout, process.stdin)


def _policy(scenario: Scenario, site: Site, certificates: Path) -> dict[str, Any]:
    legs = scenario.legs if scenario.servers.is_there else ()
    servers = policy_entries(certificates, legs, ipv6=4 not in site.families)
    return {"transports": list(scenario.transports.names), "servers": servers, **scenario.policy}
