"""An ICE agent as a target of the conformance suite: aioice, behind lines of JSON on standard input and output.

    ice-tcp conformance --target "pipe:python docs/examples/conformance_adapter.py" --section 8445-7

Take it as the frame for an agent of your own: what is aioice's here stands in `Agent`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from importlib.metadata import version
from typing import Any

import aioice
import aioice.ice


class Agent:
    """One agent: a coroutine for each thing that it is asked for."""

    connection: aioice.Connection
    host = ""

    async def create(self, *, controlling: bool, components: int, host: str, **_others: Any) -> None:
        self.host = host
        self.connection = aioice.Connection(ice_controlling=controlling, components=components)

    async def gather(self) -> dict[str, Any]:
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: [self.host]
        await self.connection.gather_candidates()
        return {
            "ufrag": self.connection.local_username,
            "pwd": self.connection.local_password,
            "candidates": [f"candidate:{each.to_sdp()}" for each in self.connection.local_candidates],
        }

    async def set_remote(self, *, ufrag: str, pwd: str, lite: bool, **_others: Any) -> None:
        self.connection.remote_username = ufrag
        self.connection.remote_password = pwd
        self.connection.remote_is_lite = lite

    async def add_remote_candidate(self, *, line: str) -> None:
        try:
            candidate = aioice.Candidate.from_sdp(line.removeprefix("candidate:"))
            await self.connection.add_remote_candidate(candidate)
        except ValueError:
            pass  # a candidate that cannot be used is ignored

    async def end_of_candidates(self) -> None:
        await self.connection.add_remote_candidate(None)

    async def connect(self) -> None:
        await self.connection.connect()

    async def send(self, *, data: str, component: int) -> None:
        await self.connection.sendto(bytes.fromhex(data), component)

    async def receive(self, *, component: int) -> dict[str, str]:
        data, _component = await self.connection.recvfrom()
        return {"data": data.hex()}


async def answer(agent: Agent, question: dict[str, Any]) -> None:
    """Do what is asked for, and say so; what takes its time, such as connect, keeps nobody else waiting."""
    number = question.pop("id")
    told: dict[str, Any] = {"id": number}
    try:
        method = getattr(agent, question.pop("do").replace("-", "_"))
        told["result"] = await method(**question)
    except Exception as error:
        told["error"] = str(error) or type(error).__name__
    print(json.dumps(told), flush=True)


async def main() -> None:
    hello = {"name": "aioice", "version": version("aioice"), "capabilities": ["udp", "trickle", "lite-peer"]}
    print(json.dumps(hello), flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    agent = Agent()
    answers = set()
    while line := await reader.readline():
        answers.add(asyncio.create_task(answer(agent, json.loads(line))))


asyncio.run(main())
