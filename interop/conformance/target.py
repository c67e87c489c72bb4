"""What is tested: the adapter that an ICE agent needs to be driven by the cases.

Implement `Target` and `TargetAgent` for an agent in Python, or speak the protocol of `interop.conformance.targets.pipe`
for one in anything else. Candidates are lines of SDP everywhere, from ``candidate:`` on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from interop.conformance.candidate_lines import CandidateKind


class Capability(StrEnum):
    """What a target can do. A case that needs more does not apply to it, and is not counted as passed."""

    UDP = "udp"
    TCP_ACTIVE = "tcp-active"
    TCP_PASSIVE = "tcp-passive"
    TCP_SO = "tcp-so"
    TCP_KINDS = "tcp-kinds"
    """It can have TCP candidates of one kind without those of the others."""
    LITE = "lite"
    """It can be created as a lite agent (RFC 8445 s2.5)."""
    COMPONENTS = "components"
    """It can have more than one component."""
    IPV6 = "ipv6"
    TRICKLE = "trickle"
    """It takes remote candidates after `TargetAgent.connect` was called (RFC 8838)."""
    RESTART = "restart"
    LITE_PEER = "lite-peer"
    """It can be told that its peer is lite."""
    OPTIONS = "options"
    """It tells its own ``ice-options``; otherwise they are its application's."""
    PACING = "pacing"
    """It tells its own ``ice-pacing`` and can be told its peer's (RFC 8839 s5.5)."""
    STREAM = "stream"
    """It can use a TCP path as a byte stream (RFC 6544 s10.1): `TargetAgent.send` takes any number of bytes."""
    STUN = "stun"
    """It gathers server-reflexive candidates over UDP from `Setup.servers` (RFC 8445 s5.1.1.2)."""
    STUN_TCP = "stun-tcp"
    """The same over TCP, for its TCP candidates (RFC 6544 s5.2)."""
    TURN = "turn"
    """It gathers relayed candidates for UDP, from servers that it reaches over UDP or TCP (RFC 8656)."""
    TURN_TCP = "turn-tcp"
    """The same for TCP (RFC 6062)."""
    SCALED = "scaled"
    """Its timers can be shortened by `Setup.scale`."""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that an agent is to use: STUN, or with ``turn`` TURN, reached over ``transport``, "udp" or "tcp".

    A STUN server is there over both, for candidates of either.
    """

    host: str
    port: int
    turn: bool = False
    transport: str = "udp"
    username: str = ""
    password: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """How an agent is to be created.

    ``kinds`` are the candidates that it is to gather, on ``host`` alone, which is a loopback address. All timers whose
    length the RFCs leave to configuration are multiplied by ``scale``: the interval and the expiry of consent, Ti, the
    patience of RFC 8863, the waits at the conclusion; not RTO and Tr, which have a minimum.
    """

    controlling: bool
    kinds: frozenset[CandidateKind]
    components: int = 1
    lite: bool = False
    host: str = "127.0.0.1"
    scale: float = 1.0
    stream: bool = False
    servers: tuple[Server, ...] = ()


@dataclass(frozen=True, slots=True)
class Description:
    """What one side tells the other in the beginning, and again with a restart."""

    ufrag: str
    pwd: str
    options: tuple[str, ...] = ()
    lite: bool = False
    pacing: int | None = None
    """Milliseconds; None where nothing is said."""
    candidates: tuple[str, ...] = ()


class TargetError(Exception):
    """The agent says that something cannot be done or did not work: what a `TargetAgent` raises."""


class TargetAgent(Protocol):
    """One agent under test, in one ICE session. Every method raises TargetError when the agent says no."""

    async def gather(self) -> Description:
        """Gather all candidates, and tell them with the credentials."""

    async def set_remote(self, description: Description) -> None:
        """Take the peer's credentials, options, mode and pacing. Its candidates follow by themselves."""

    async def add_remote_candidate(self, line: str) -> None:
        """Take one candidate of the peer; one that cannot be used is ignored, as RFC 8839 wants."""

    async def end_of_candidates(self) -> None: ...

    async def connect(self) -> None:
        """Check pairs, and return when data can flow."""

    async def send(self, data: bytes, component: int) -> None:
        """Send one message; with `Setup.stream`, so many bytes of the stream."""

    async def receive(self, component: int) -> bytes:
        """The next message; with `Setup.stream`, the next bytes, however many."""

    async def selected_pair(self, component: int) -> tuple[str, str] | None:
        """The local and the remote candidate that carry the data."""

    async def restart(self) -> Description:
        """Begin a restart (RFC 8445 s9), gather, and tell the new credentials and candidates."""

    async def close(self) -> None: ...


class Target(Protocol):
    """A kind of agent: creates those that the cases drive."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def deviations(self) -> Mapping[str, str]:
        """By case: why the agent knowingly does something else. Such a failure is shown as what it is."""

    async def create(self, setup: Setup) -> TargetAgent: ...

    async def close(self) -> None:
        """No more agents are wanted."""
