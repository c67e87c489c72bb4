"""Pairs of agents on the loopback, for tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from candidates.policy import Policy, load_policy
from ice_tcp import Agent, Role

LOOPBACK = """
address_families: [ipv4]
interfaces:
  include: [lo]
  loopback: true
"""


def policy(extra: str = "") -> Policy:
    """The default policy on 127.0.0.1 only, with ``extra`` lines of YAML."""
    return load_policy(LOOPBACK + extra, environ={}, read_file=lambda _: "")


UDP = "transports: [udp]\n"
TCP = "transports: [tcp]\n"
SO = TCP + "tcp_types: [so]\n"


@asynccontextmanager
async def agents(extra: str = "", components: int = 1) -> AsyncIterator[tuple[Agent, Agent]]:
    """A controlling and a controlled agent, which know nothing of each other."""
    roles = (Role.CONTROLLING, Role.CONTROLLED)
    one, two = (Agent(role, policy=policy(extra), components=components) for role in roles)
    async with one, two:
        yield one, two


@asynccontextmanager
async def connected(extra: str = "", components: int = 1) -> AsyncIterator[tuple[Agent, Agent]]:
    """Two agents with nominated paths."""
    async with agents(extra, components) as (one, two):
        await signal(one, two)
        await asyncio.gather(one.connect(), two.connect())
        await asyncio.gather(one.nominated(), two.nominated())
        yield one, two


async def signal(one: Agent, two: Agent) -> None:
    """Gather, and tell each agent what the other has."""
    await asyncio.gather(one.gather(), two.gather())
    await exchange(one, two)


async def exchange(one: Agent, two: Agent) -> None:
    for sender, receiver in ((one, two), (two, one)):
        receiver.set_remote_parameters(sender.local_parameters)
    for sender, receiver in ((one, two), (two, one)):
        async for candidate in sender.local_candidates():
            receiver.add_remote_candidate(candidate)
        receiver.end_of_candidates()
