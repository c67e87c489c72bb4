"""Two people behind two NATs of the lab, with nothing but the commands: a pipe, a web page, and a NAT that reboots."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from interop.natlab.kinds import Site
from interop.natlab.namespaces import Run
from interop.natlab.scenario import Leg, Scenario, ServerKind, Weather
from interop.natlab.servers import make_certificate, policy_entries, serving
from interop.natlab.topology import LEFT, RIGHT, SERVER, SERVER_ADDRESSES
from interop.natlab.world import World

pytestmark = pytest.mark.natlab

URL: Final = f"ws://{SERVER_ADDRESSES[0]}:8765"
WATCHFUL: Final = {"consent": {"interval": 0.5, "timeout": 3.0}}
PAGE: Final = """
import http.server, pathlib
pathlib.Path("index.html").write_text("<h1>hello from the left</h1>")
http.server.test(http.server.SimpleHTTPRequestHandler, port=8000, bind="127.0.0.1")
"""
FETCH: Final = "import urllib.request; print(urllib.request.urlopen('http://localhost:8080/').read().decode())"


@dataclass(slots=True)
class People:
    """The world, and how programs are started in it."""

    world: World
    policy: Path
    stack: AsyncExitStack

    async def start(self, side: str, *command: str | Path) -> asyncio.subprocess.Process:
        """A program on a host; it is ended with the world."""
        process = await self.world.spawn(side, sys.executable, *map(str, command))
        self.stack.push_async_callback(_ended, process)
        return process

    async def ice_tcp(self, side: str, *arguments: str) -> asyncio.subprocess.Process:
        return await self.start(side, "-m", "ice_tcp.cli", *arguments, "--rendezvous", URL, "--policy", self.policy)

    async def told(self, side: str, words: str) -> str:
        """The rest of the line with these words that a program of this side has written to its standard error."""
        file = self.world.directory / f"{side}.err"
        while True:
            for line in file.read_text("utf-8").splitlines():
                if words in line:
                    return line.partition(words)[2].strip()
            await asyncio.sleep(0.05)


async def _ended(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


@asynccontextmanager
async def people(run: Run, directory: Path, left: str, right: str, **policy: Any) -> AsyncIterator[People]:
    scenario = Scenario(left=Site.parse(left), right=Site.parse(right), weather=Weather(rtt=0.05))
    make_certificate(directory)
    servers = policy_entries(directory, (Leg.STUN, Leg.UDP, Leg.TCP), ipv6=False)
    file = directory / "policy.yaml"
    file.write_text(yaml.safe_dump({"servers": servers, **policy}), "utf-8")
    async with World(scenario, directory / "world", run.name) as world, AsyncExitStack() as stack:
        await stack.enter_async_context(serving(ServerKind.COTURN, world, directory))
        found = People(world, file, stack)
        rendezvous = await found.start(SERVER, "-m", "ice_tcp.cli", "rendezvous", "--host", SERVER_ADDRESSES[0])
        assert rendezvous.stdout is not None
        assert (await rendezvous.stdout.readline()).decode().strip() == URL
        yield found


def go(body: Coroutine[Any, Any, None]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(90):
            await body

    asyncio.run(bounded())


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("port-restricted", "port-restricted"),
        ("symmetric-random", "symmetric-random"),
        ("port-restricted+no-udp", "direct"),
    ],
)
def test_two_pipes_are_joined_through_nats(run: Run, tmp_path: Path, left: str, right: str) -> None:
    async def body() -> None:
        async with people(run, tmp_path, left, right) as them:
            listening = await them.ice_tcp(LEFT, "listen")
            code = await them.told(LEFT, "code: ")
            connecting = await them.ice_tcp(RIGHT, "connect", code)
            data = bytes(range(256)) * 2000
            answers = await asyncio.gather(connecting.communicate(b"question"), listening.communicate(data))
            assert [output for output, _ in answers] == [data, b"question"]
            assert (connecting.returncode, listening.returncode) == (0, 0)

    go(body())


def test_a_web_page_is_shown_through_two_nats(run: Run, tmp_path: Path) -> None:
    async def body() -> None:
        async with people(run, tmp_path, "port-restricted", "port-restricted") as them:
            await them.start(LEFT, "-c", PAGE)
            await them.ice_tcp(LEFT, "listen", "--forward", "localhost:8000")
            await them.ice_tcp(RIGHT, "forward", "-L", "8080:localhost:8000", await them.told(LEFT, "code: "))
            assert await them.told(RIGHT, "connected over") == "UDP, directly"
            await them.told(RIGHT, "leads to")
            fetching = await them.start(RIGHT, "-c", FETCH)
            output, _ = await fetching.communicate()
            assert output == b"<h1>hello from the left</h1>\n"

    go(body())


async def numbers(writer: asyncio.StreamWriter, stop: asyncio.Event) -> int:
    """Lines with numbers, until told to stop; how many."""
    number = 0
    while not stop.is_set():
        writer.write(b"%d\n" % number)
        await writer.drain()
        number += 1
        await asyncio.sleep(0.02)
    writer.close()
    return number


def test_a_pipe_survives_a_nat_that_reboots(run: Run, tmp_path: Path) -> None:
    """The path is gone; the side that connected restarts, over the rendezvous, and nothing is lost."""

    async def body() -> None:
        how = {"transports": ["udp"], "candidate_types": ["host", "srflx", "prflx"], **WATCHFUL}
        async with people(run, tmp_path, "symmetric-sequential", "full-cone", **how) as them:
            listening = await them.ice_tcp(LEFT, "listen")
            connecting = await them.ice_tcp(RIGHT, "connect", await them.told(LEFT, "code: "))
            assert connecting.stdin is not None and connecting.stdout is not None
            assert listening.stdout is not None and listening.stdin is not None
            listening.stdin.close()
            stop = asyncio.Event()
            sending = asyncio.create_task(numbers(connecting.stdin, stop))
            assert await listening.stdout.readline() == b"0\n"
            them.world.reboot(LEFT)
            await asyncio.sleep(8.0)
            stop.set()
            sent = await sending
            received = (await listening.stdout.read()).split()
            assert received == [b"%d" % number for number in range(1, sent)]
            assert sent > 100
            await asyncio.gather(connecting.wait(), listening.wait())
            assert (connecting.returncode, listening.returncode) == (0, 0)

    go(body())


@pytest.mark.parametrize(
    ("left", "right", "how"),
    [
        ("port-restricted", "port-restricted", "over UDP, directly"),
        ("symmetric-random", "symmetric-random", "over UDP, through a relay"),
        ("port-restricted+no-udp", "port-restricted+no-udp", "over TCP, directly"),
    ],
)
def test_a_file_goes_through_two_nats(run: Run, tmp_path: Path, left: str, right: str, how: str) -> None:
    data = bytes(range(256)) * 4000
    file, into = tmp_path / "file.bin", tmp_path / "into"
    file.write_bytes(data)
    into.mkdir()

    async def body() -> None:
        async with people(run, tmp_path, left, right) as them:
            sending = await them.ice_tcp(LEFT, "send", str(file))
            receiving = await them.ice_tcp(RIGHT, "receive", await them.told(LEFT, "code: "), "--into", str(into))
            await asyncio.gather(sending.wait(), receiving.wait())
            assert (sending.returncode, receiving.returncode) == (0, 0)
            assert how in await them.told(RIGHT, "received file.bin")

    go(body())
    assert (into / "file.bin").read_bytes() == data
