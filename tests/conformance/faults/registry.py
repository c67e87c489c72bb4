"""For each case an agent that fails it: ours, with one fault.

A fault is a box between the agent and the peer (`middlebox`), which breaks one rule of the bytes, or something around
the agent (`agents`), or something within it (`core`). The table `FAULTS` says by case which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from interop.conformance.stun import Draft, Kind, Message
from interop.conformance.target import Target
from interop.conformance.wire import Channel, Packet, message_in
from tests.conformance.agents import Unexcused
from tests.conformance.boxes import refused
from tests.conformance.middlebox import Middlebox, plain


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with an agent: the box that it stands behind, or the agent itself."""

    box: type[Middlebox] = Middlebox
    agent: type[Target] = Unexcused


FAULTS: dict[str, Fault] = {}
"""By case."""

Edit = Callable[[Message], Iterable[tuple[int, bytes]]]


def behind(box: type[Middlebox], *cases: str) -> None:
    """Our agent behind this box fails these cases."""
    _register(Fault(box=box), cases)


def within(agent: type[Target], *cases: str) -> None:
    """This agent fails these cases."""
    _register(Fault(agent=agent), cases)


def _register(fault: Fault, cases: Iterable[str]) -> None:
    for case in cases:
        assert case not in FAULTS, case
        FAULTS[case] = fault


def sends(kind: Kind, make: Callable[[Middlebox, Message], bytes | Draft], *cases: str) -> None:
    """A box that makes something else of the messages of one class that the agent sends."""

    class Sends(Middlebox):
        def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
            message = packet.message
            return (packet.data,) if message is None or message.kind is not kind else (bytes(make(self, message)),)

    behind(Sends, *cases)


def attributes(kind: Kind, edit: Edit, *cases: str) -> None:
    """The same, for the attributes of a message that is right otherwise."""
    sends(kind, lambda box, message: box.resealed(message, edit(message)), *cases)


def hears(make: Callable[[Middlebox, bytes, Message | None], bytes | Draft | None], *cases: str) -> None:
    """A box that makes something else of what the peer sends; None: it is lost."""

    class Hears(Middlebox):
        def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
            made = make(self, data, message_in(data))
            return () if made is None else (bytes(made),)

    behind(Hears, *cases)


def replaced(message: Message, type_: int, value: bytes) -> list[tuple[int, bytes]]:
    return [(each, value if each == type_ else old) for each, old in plain(message)]


def without(message: Message, type_: int) -> list[tuple[int, bytes]]:
    return [(each, value) for each, value in plain(message) if each != type_]


def more(message: Message, type_: int, value: bytes) -> list[tuple[int, bytes]]:
    return [*plain(message), (type_, value)]


def flipped(value: bytes | None, at: int, bits: int = 1) -> bytes:
    assert value is not None
    return value[:at] + bytes([value[at] ^ bits]) + value[at + 1 :]


def refuses(unwanted: Callable[[Message], object], *cases: str) -> None:
    """An agent that refuses requests for something that does no harm."""
    hears(lambda box, data, m: refused(box, m) if m is not None and unwanted(m) else data, *cases)
