"""A box between the peer and the agent under test that breaks one rule for it: the cheapest of all bad agents.

A box sees every packet both ways, knows both passwords, and may drop, change, double or invent: for the case, what
comes out of it is what the agent does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TypeVar

from interop.conformance.case import Case
from interop.conformance.servers import TurnServer
from interop.conformance.stun import Attr, Draft, Kind, Message
from interop.conformance.trial import Trial
from interop.conformance.wire import Channel, Packet, Wire, message_in

T = TypeVar("T")

SEALS = (Attr.MESSAGE_INTEGRITY, Attr.MESSAGE_INTEGRITY_SHA256, Attr.FINGERPRINT)


class Middlebox(Wire):
    """Override `from_agent` and `to_agent`; by default all passes."""

    patience = 1.0

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self.trial = trial

    async def sleep(self, seconds: float) -> None:
        """A pause of minutes, which only a slow case makes, is none: the box does what would happen meanwhile."""
        await super().sleep(seconds if seconds < 5 else 0.2)

    async def find(self, look: Callable[[], T | None], within: float | None = None) -> T | None:
        """Nobody waits for more than a few seconds."""
        return await super().find(look, within if within is None else min(within, 4.0))

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        return (packet.data,)

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        return (data,)

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        return [replace(packet, data=data, message=message_in(data)) for data in self.from_agent(channel, packet)]

    def leaving(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        return self.to_agent(channel, data)

    # -- what boxes do to messages

    def password(self, message: Message, *, of_agent: bool) -> str | bytes:
        """Whose password protects a message that the agent, or the peer, sent; the key of a server for one to it."""
        if message.has(Attr.REALM):
            return next(server.key for server in self.trial.servers if isinstance(server, TurnServer))
        is_request = message.kind in (Kind.REQUEST, Kind.INDICATION)
        return self.trial.peer.pwd if is_request is of_agent else self.trial.told.pwd

    def resealed(self, message: Message, attributes: Iterable[tuple[int, bytes]], *, of_agent: bool = True) -> Draft:
        """The message with other attributes, and with the integrity and the fingerprint that it had."""
        draft = Draft(message.kind, message.transaction_id, method=message.method)
        for type_, value in attributes:
            draft.add(type_, value)
        password = self.password(message, of_agent=of_agent)
        if message.has(Attr.MESSAGE_INTEGRITY):
            draft.integrity(password)
        if message.has(Attr.MESSAGE_INTEGRITY_SHA256):
            assert isinstance(password, str)
            draft.integrity_sha256(password)
        return draft.fingerprint() if message.has(Attr.FINGERPRINT) else draft


def plain(message: Message) -> list[tuple[int, bytes]]:
    """The attributes without the seals."""
    return [(each.type, each.value) for each in message.attributes if each.type not in SEALS]


def case_behind(box: Callable[[Trial], Middlebox], case: Case) -> Case:
    """The case with the agent behind a box."""

    async def run(trial: Trial) -> str | None:
        trial.wire = trial.peer.wire = box(trial)
        return await case.run(trial)

    return replace(case, run=run)
