"""The receiving process of the demonstration; the sender starts it."""

from __future__ import annotations

import asyncio
import sys
from typing import IO

from candidates.policy import Policy
from ice_tcp.agent import Agent
from ice_tcp.core.events import Role
from ice_tcp.core.trace import TraceSink
from ice_tcp.demo.plan import Choices, demo_policies
from ice_tcp.demo.record import Record
from ice_tcp.demo.server import Access
from ice_tcp.demo.side import FAILED, REPORT, DemoError, Side, explained
from ice_tcp.signaling import Channel, ChannelClosed, Note, connect_loopback
from ice_tcp.transfer import FileOffer, Receipt, receive_file


def read_invitation(stdin: IO[str]) -> tuple[int, str, Access]:
    """The signaling channel's port and token, and the server, written where no other user can read them."""
    port, token, access = stdin.readline().split(maxsplit=2)
    return int(port), token, Access.from_json(access)


async def receive(policy: Policy, port: int, token: str, trace: TraceSink | None = None) -> bool:
    """Meet the sender, receive its file and tell it what arrived. False if that failed; the sender knows why.

    Raises SignalingError if the sender is not there.
    """
    channel = await connect_loopback(port, token)
    try:
        await channel.send(await _outcome(policy, channel, trace))
        await _hang_up(channel)
    except ChannelClosed:
        return False
    finally:
        await channel.close()
    return True


async def _outcome(policy: Policy, channel: Channel, trace: TraceSink | None) -> Note:
    record = Record(Role.CONTROLLED)
    try:
        async with Agent(Role.CONTROLLED, policy=policy, trace=trace) as agent:
            side = Side(agent, channel, record, is_sender=False)
            receipt = await side.supervise(_receive(side, record))
    except ChannelClosed:
        raise
    except (ConnectionError, DemoError) as error:
        failure = explained(error)
        return Note(FAILED, {"verdict": failure.verdict, "remedy": failure.remedy})
    return Note(REPORT, {**record.to_json(), "bytes": receipt.offer.size, "sha256": receipt.sha256_received})


async def _receive(side: Side, record: Record) -> Receipt:
    async with side.stream() as (reader, writer):
        receipt = await receive_file(reader, writer, _Nowhere)
        record.stop()
    await side.gathered()
    return receipt


class _Nowhere:
    """Takes the file and forgets it: what arrived is told by its SHA-256, and the disk need not hold it twice."""

    def __init__(self, _: FileOffer) -> None:
        pass

    def write(self, data: bytes, /) -> None:
        pass


async def _hang_up(channel: Channel) -> None:
    """Wait for the sender to read the last note and close."""
    async for _ in channel:
        continue


def run_receiver(choices: Choices, trace: TraceSink | None = None) -> int:
    """The whole process; returns its exit status."""
    try:
        port, token, access = read_invitation(sys.stdin)
    except (ValueError, TypeError, LookupError):
        sys.stderr.write("this is the other half of `ice-tcp demo`, which starts it by itself\n")
        return 2
    policy = demo_policies(choices, access).receiver
    try:
        return 0 if asyncio.run(receive(policy, port, token, trace)) else 1
    except ConnectionError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130  # the sender was interrupted, too, and tells
