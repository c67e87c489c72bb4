"""A meeting without a rendezvous: each side prints one line, and the people carry it, by chat or mail.

The lines hold ICE credentials, candidates and the fingerprint of a certificate. They are no secret, but whoever can
change them on their way can take the place of the other side: carry them where you know who writes.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import os
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from candidates.policy import Policy
from ice_tcp.agent import Agent
from ice_tcp.capsule import Capsule
from ice_tcp.core.events import Role
from ice_tcp.core.trace import TraceSink
from ice_tcp.meeting.meeting import Meeting
from ice_tcp.meeting.sealed import MeetingError
from ice_tcp.quic import Certificate, connect_quic
from ice_tcp.signaling import CandidateFound, Description, EndOfCandidates, Message, MessageError, apply, decode, encode

_PREFIX: Final = "ice-tcp-1."
_PATIENCE: Final = 600.0
"""Seconds that people may take to carry a line."""
_MAX_LINE_BYTES: Final = 64 * 1024
_MAX_BYTES: Final = 256 * 1024
"""Of what a line holds, unpacked."""


class LineError(MeetingError, ValueError):
    """A line is not what the other side printed."""


@asynccontextmanager
async def meet_by_hand(
    tell: Callable[[str], None],
    ask: Callable[[], Awaitable[str]],
    *,
    listens: bool,
    policy: Policy | None = None,
    trace: TraceSink | None = None,
    capsule: Capsule | None = None,
) -> AsyncIterator[Meeting]:
    """Give ``tell`` our line, and take the other side's from ``ask``; who ``listens`` tells first, the other asks.

    Raises LineError for a line that is none, and what `Agent.connect` and `connect_quic` raise.
    """
    policy = _patient(policy or Policy.default())
    async with AsyncExitStack() as stack:
        role = Role.CONTROLLED if listens else Role.CONTROLLING
        agent = await stack.enter_async_context(Agent(role, policy=policy, trace=trace, capsule=capsule))
        certificate = Certificate.generate()
        theirs = None if listens else unpack_line(await ask())
        await agent.gather()
        mine: list[Message] = [Description(agent.local_parameters, certificate.fingerprint)]
        mine += [CandidateFound(candidate) async for candidate in agent.local_candidates()]
        tell(pack_line(mine))
        fingerprint = _taken(agent, unpack_line(await ask()) if theirs is None else theirs)
        await agent.connect()
        session = await connect_quic(
            agent, is_client=not listens, certificate=certificate, peer_fingerprint=fingerprint
        )
        await stack.enter_async_context(session)
        yield Meeting(agent, session, listens=listens)


def _patient(policy: Policy) -> Policy:
    """The side that asked first begins while its line is still being carried."""
    timeouts = policy.timeouts.model_dump()
    return policy.revised(timeouts={**timeouts, "patience": max(_PATIENCE, policy.timeouts.patience)})


def _taken(agent: Agent, messages: list[Message]) -> str:
    """Give the agent all of them; the fingerprint that they hold. Raises LineError."""
    fingerprint = None
    for message in (*messages, EndOfCandidates()):
        if isinstance(message, Description):
            fingerprint = message.fingerprint
        apply(agent, message)
    if fingerprint is None:
        raise LineError("the line names no certificate")
    return fingerprint


def pack_line(messages: list[Message]) -> str:
    """The messages as one line of letters, digits, hyphens and underscores."""
    data = zlib.compress(json.dumps([encode(message) for message in messages]).encode(), 9)
    return _PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def unpack_line(text: str) -> list[Message]:
    """What `pack_line` packed: first a description. Raises LineError."""
    text = text.strip()
    if not text.startswith(_PREFIX) or len(text) > _MAX_LINE_BYTES:
        raise LineError(f"this is no line of the other side, which begins with {_PREFIX}")
    try:
        packed = base64.urlsafe_b64decode(text.removeprefix(_PREFIX) + "===")
        unpacker = zlib.decompressobj()
        data: Any = json.loads(unpacker.decompress(packed, _MAX_BYTES))
        messages = [decode(each) for each in data if unpacker.eof]
    except (binascii.Error, zlib.error, MessageError, ValueError, TypeError, RecursionError):
        raise LineError("the line is damaged: copy all of it, and nothing else") from None
    if not messages or not isinstance(messages[0], Description):
        raise LineError("the line is damaged: copy all of it, and nothing else")
    return messages


async def read_line(descriptor: int = 0) -> str:
    """One line of a descriptor, and no byte more: what follows is somebody else's. Raises LineError at the end."""
    return await asyncio.to_thread(_read_line, descriptor)


def _read_line(descriptor: int) -> str:
    line = bytearray()
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            raise LineError("there was no line")
        line += byte
        if len(line) > _MAX_LINE_BYTES:
            raise LineError("the line is too long")
    return line.decode("ascii", "replace")
