"""Runs one exchange: two processes in a network of their own, what they say to each other, and what came of it."""

from __future__ import annotations

import asyncio
import json
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from interop.natlab.internet import LADDER_FILE
from interop.natlab.kinds import Site
from interop.natlab.namespaces import run
from interop.natlab.scenario import Scenario, ServerKind, Weather
from interop.natlab.topology import LEFT, RIGHT
from interop.natlab.world import World
from interop.peers.exchange import EXPECTED, MESSAGES

_END_TIMEOUT: Final = 10.0
_CROSSING: Final = 0.2
"""Seconds of a round trip in which SYNs cross."""
_NO_RESETS: Final = """table inet silent {
 chain output {
  type filter hook output priority 0
  tcp flags & rst == rst drop
 }
}"""
"""A host that has bound a port and does not listen answers with RST, as a NAT in between would not."""


class ExchangeError(Exception):
    """An exchange did not come to what it has to."""


@dataclass(frozen=True, slots=True)
class End:
    """One process: its command, and its plan without who offers."""

    command: tuple[str, ...]
    plan: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """Two ends. The left one is the other implementation, the right one ours, unless both are ours.

    ``check`` is told the results of the left and of the right end, and returns what is wrong. Where both connect by
    ``simultaneous`` open, no host answers a SYN with RST, and the packets have to show one from each side.
    """

    left: End
    right: End
    left_offers: bool
    left_closes: bool
    sites: tuple[str, str] = ("direct", "direct")
    simultaneous: bool = False
    check: Callable[[dict[str, Any], dict[str, Any]], Sequence[str]] = lambda _left, _right: ()
    timeout: float = 60.0


async def run_exchange(exchange: Exchange, name: Callable[[str], str], directory: Path) -> dict[str, dict[str, Any]]:
    """The results by side. Raises ExchangeError, LabError."""
    left, right = (Site.parse(each) for each in exchange.sites)
    weather = Weather(rtt=_CROSSING if exchange.simultaneous else 0.0)
    scenario = Scenario(left=left, right=right, weather=weather, servers=ServerKind.NONE)
    async with World(scenario, directory, name) as world:
        world.log_zero = time.monotonic()
        if exchange.simultaneous:
            for side in (LEFT, RIGHT):
                run("nft", "-f", "-", text=_NO_RESETS, namespace=world.nodes[side].namespace)
        results = await _run(exchange, world)
    if exchange.simultaneous:
        _both_opened(directory, results)
    return results


async def _run(exchange: Exchange, world: World) -> dict[str, dict[str, Any]]:
    async with AsyncExitStack() as stack:
        ends = {}
        for side, end, offers in (
            (LEFT, exchange.left, exchange.left_offers),
            (RIGHT, exchange.right, not exchange.left_offers),
        ):
            process = await world.spawn(side, *end.command)
            stack.push_async_callback(_end, process)
            ends[side] = _Pipe(process, side, world)
            ends[side].send({**end.plan, "offers": offers})
        try:
            async with asyncio.timeout(exchange.timeout):
                return await _carry(exchange, ends[LEFT], ends[RIGHT])
        except TimeoutError:
            told = {side: pipe.told[-1:] for side, pipe in ends.items()}
            raise ExchangeError(f"time was up after {exchange.timeout:g} s; last told: {told}") from None


def _both_opened(directory: Path, results: Mapping[str, Mapping[str, Any]]) -> None:
    """The selected pair's ports have each sent a SYN to the other."""
    pair = results[LEFT]["pair"]
    ports = [pair[end]["port"] for end in ("local", "remote")]
    opened = set()
    for line in directory.joinpath(LADDER_FILE).read_text("utf-8").splitlines():
        if line.endswith(" TCP SYN"):
            ends = line.split()[-5:-2:2]
            opened.add(tuple(int(end.rpartition(":")[2]) for end in ends))
    missing = {tuple(ports), tuple(reversed(ports))} - opened
    if missing:
        raise ExchangeError(f"no SYN went between the ports {missing}; these did: {sorted(opened)}")


class _Pipe:
    """A process that talks JSON lines."""

    def __init__(self, process: Process, side: str, world: World) -> None:
        self._process = process
        self._side = side
        self._world = world
        self.told: list[str] = []

    def send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")

    async def receive(self) -> dict[str, Any]:
        """Raises ExchangeError if it failed or is gone."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise ExchangeError(f"the process on the {self._side} ended: {self._world.last_words(self._side)}")
        message: dict[str, Any] = json.loads(line)
        self.told.append(message["type"])
        if message["type"] == "failed":
            raise ExchangeError(f"the {self._side} failed: {message['error']}")
        return message


async def _carry(exchange: Exchange, left: _Pipe, right: _Pipe) -> dict[str, dict[str, Any]]:
    offering, answering = (left, right) if exchange.left_offers else (right, left)
    offer = await offering.receive()
    answering.send(offer)
    answer = await answering.receive()
    offering.send(answer)
    left_result, right_result = await asyncio.gather(left.receive(), right.receive())
    left_result["sdp"], right_result["sdp"] = (
        each["sdp"] for each in ((offer, answer) if exchange.left_offers else (answer, offer))
    )
    wrong = [
        f"{side}: {result['received']} messages with checksum {result['checksum']}"
        for side, result in ((LEFT, left_result), (RIGHT, right_result))
        if (result["received"], result["checksum"]) != (MESSAGES, EXPECTED)
    ]
    wrong += exchange.check(left_result, right_result)
    if wrong:
        raise ExchangeError("; ".join(wrong))
    closing, waiting = (left, right) if exchange.left_closes else (right, left)
    waiting.send({"type": "wait"})
    closing.send({"type": "close"})
    await asyncio.gather(closing.receive(), waiting.receive())
    return {LEFT: left_result, RIGHT: right_result}


async def _end(process: Process) -> None:
    assert process.stdin is not None
    process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), _END_TIMEOUT)
    except TimeoutError:
        process.kill()
        await process.wait()
