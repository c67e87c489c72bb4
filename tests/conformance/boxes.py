"""Boxes that more than one case meets: each makes an agent that has one bad habit."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import replace

from interop.conformance.stun import UNKNOWN_REQUIRED, Attr, Draft, Kind, Message
from interop.conformance.trial import Trial
from interop.conformance.wire import Channel, Connection, Packet, UdpPort, message_in
from tests.conformance.middlebox import Middlebox, plain

ANSWERS = (Kind.SUCCESS, Kind.ERROR)
ROLES = (Attr.ICE_CONTROLLED, Attr.ICE_CONTROLLING)


def is_request(packet: Packet) -> bool:
    return packet.message is not None and packet.message.kind is Kind.REQUEST


def is_data(packet: Packet) -> bool:
    return packet.message is None and bool(packet.data)


# What the agent hears


class Deaf(Middlebox):
    """Answers do not come through."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        return () if message is not None and message.kind in ANSWERS else (data,)


class IgnoresChecks(Middlebox):
    """Requests do not come through."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        return () if message is not None and message.kind is Kind.REQUEST else (data,)


class IgnoresData(Middlebox):
    """Data does not come through."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        return () if message_in(data) is None else (data,)


class IgnoresNominations(Middlebox):
    """USE-CANDIDATE does not come through."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        if message is None or not message.has(Attr.USE_CANDIDATE):
            return (data,)
        kept = [(type_, value) for type_, value in plain(message) if type_ != Attr.USE_CANDIDATE]
        return (bytes(self.resealed(message, kept, of_agent=False)),)


class Shy(Middlebox):
    """It hears nobody whom it has not asked before."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._asked: set[tuple[str, int]] = set()

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        self._asked.add(channel.near)
        return (packet.data,)

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        return (data,) if channel.near in self._asked else ()


class Retired(Middlebox):
    """After a nomination it hears no more requests."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._nominated = False

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        if message is None or message.kind is not Kind.REQUEST:
            return (data,)
        before, self._nominated = self._nominated, self._nominated or message.has(Attr.USE_CANDIDATE)
        return () if before else (data,)


class Gullible(Middlebox):
    """Whatever comes is taken for a right request, if it is no answer to one of the agent's."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._asked: set[bytes] = set()

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        self._asked.add(packet.data[8:20])
        return (packet.data,)

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        if data[8:20] in self._asked:
            return (data,)
        return (bytes(self.trial.peer.request(transaction_id=data[8:20])),)


class Trusting(Middlebox):
    """Whatever answer comes is taken for a right one."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._last: Packet | None = None

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        if is_request(packet):
            self._last = packet
        return (packet.data,)

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        if message is None or self._last is None or message.kind not in ANSWERS:
            return (data,)
        if message.error is not None:
            return (bytes(self.trial.peer.error(self._last, message.error)),)
        return (bytes(self.trial.peer.success(self._last)),)


class Forgets(Middlebox):
    """Only the answer to the last request counts."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._last = b""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        if is_request(packet):
            self._last = packet.data[8:20]
        return (packet.data,)

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        stale = message is not None and message.kind in ANSWERS and message.transaction_id != self._last
        return () if stale else (data,)


class Repeats(Middlebox):
    """A request is refused when it comes again."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._seen: set[bytes] = set()

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        if message is None or message.kind is not Kind.REQUEST:
            return (data,)
        again = message.transaction_id in self._seen
        self._seen.add(message.transaction_id)
        return (bytes(refused(self, message)) if again else data,)


def refused(box: Middlebox, message: Message) -> Draft:
    """What the agent refuses, in place of a request."""
    return box.resealed(message, [*plain(message), (UNKNOWN_REQUIRED, b"what")], of_agent=False)


class Agrees(Middlebox):
    """Whatever role the peer claims, it is the other one."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        setup = self.trial.setup
        if message is None or message.kind is not Kind.REQUEST or setup is None:
            return (data,)
        claim = Attr.ICE_CONTROLLED if setup.controlling else Attr.ICE_CONTROLLING
        changed = [(claim if type_ in ROLES else type_, value) for type_, value in plain(message)]
        return (bytes(self.resealed(message, changed, of_agent=False)),)


class Quarrels(Middlebox):
    """Whatever role the peer claims, it is the agent's own, and the agent has the larger tie-breaker."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        if message is None or message.kind is not Kind.REQUEST:
            return (data,)
        changed = [
            (Attr.ICE_CONTROLLING, bytes(8)) if type_ in ROLES else (type_, value) for type_, value in plain(message)
        ]
        return (bytes(self.resealed(message, changed, of_agent=False)),)


class Fragile(Middlebox):
    """It dies of anything but well-made messages and data, and of too much of them."""

    CROWD = 60
    REPETITIONS = 100

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._dead = False
        self._ports: set[tuple[str, int]] = set()
        self._times: dict[bytes, int] = {}

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        self._ports.add(channel.near)
        self._times[data] = self._times.get(data, 0) + 1
        crowded = len(self._ports) > self.CROWD or self._times[data] > self.REPETITIONS
        self._dead = self._dead or crowded or not self._is_well_made(data)
        return () if self._dead else (data,)

    def _is_well_made(self, data: bytes) -> bool:
        message = message_in(data)
        if message is None:
            return data[:1] >= b"\x40"
        sizes = {Attr.PRIORITY: (4,), Attr.USE_CANDIDATE: (0,), Attr.XOR_MAPPED_ADDRESS: (8, 20)}
        sizes |= dict.fromkeys(ROLES, (8,))
        return (
            len(data) < 1000
            and message.integrity_holds(self.password(message, of_agent=False))
            and all(len(each.value) in sizes.get(Attr(each.type), (len(each.value),)) for each in message.attributes)
        )


# What the agent says


class NeverAsks(Middlebox):
    """It sends no requests."""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        return () if is_request(packet) else (packet.data,)


class AsksOnce(Middlebox):
    """It asks each port once, and never again."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._asked: dict[tuple[str, int], bytes] = {}

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        if not is_request(packet):
            return (packet.data,)
        first = self._asked.setdefault(channel.near, packet.data[8:20])
        return (packet.data,) if first == packet.data[8:20] else ()


class AsksOnePort(Middlebox):
    """It asks the port that it has asked first, and no other."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._first: Channel | None = None

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        if self._first is None:
            self._first = channel
        return (packet.data,) if channel is self._first else ()


class Stutters(Middlebox):
    """Every request comes nine times."""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        return [packet.data] * (9 if is_request(packet) else 1)


class DeafStutterer(Stutters, Deaf):
    """Both."""


class LosesTheSecond(Middlebox):
    """The second sending of a request is lost."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._sendings = 0

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        self._sendings += 1
        return () if self._sendings == 2 else (packet.data,)


class Insists(Middlebox):
    """Every request comes again and again, as a new one each time."""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        return [packet.data[:8] + bytes([n]) * 12 + packet.data[20:] for n in range(20)]


class Nags(Middlebox):
    """After everything that it says on a port it repeats its first request."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._first: dict[Channel, bytes] = {}

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        first = self._first.setdefault(channel, packet.data)
        return [packet.data, first]


class Overeager(Middlebox):
    """With every answer comes a check with USE-CANDIDATE."""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        if packet.message is None or packet.message.kind is not Kind.SUCCESS:
            return (packet.data,)
        return packet.data, bytes(Draft(Kind.REQUEST).add(Attr.USE_CANDIDATE).fingerprint())


class Aggressive(Middlebox):
    """Every request has USE-CANDIDATE."""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        message = packet.message
        if message is None or message.kind is not Kind.REQUEST or message.has(Attr.USE_CANDIDATE):
            return (packet.data,)
        return (bytes(self.resealed(message, [*plain(message), (Attr.USE_CANDIDATE, b"")])),)


class Prefaces(Middlebox):
    """Before the first packet comes another one, which is no STUN."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._begun = False

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        begun, self._begun = self._begun, True
        return (packet.data,) if begun else (b"\x80 hello", packet.data)


class FallsSilent(Middlebox):
    """Once the nomination is answered and its own first check has been sent, it says nothing more."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._nomination: bytes | None = None
        self._answered = self._asked = False

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        if message is not None and message.kind is Kind.REQUEST and message.has(Attr.USE_CANDIDATE):
            self._nomination = message.transaction_id
        return (data,)

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        if self._answered and self._asked:
            return ()
        if packet.message is not None:
            self._asked |= packet.message.kind is Kind.REQUEST
            self._answered |= packet.message.transaction_id == self._nomination
        return (packet.data,)


class Halves(Middlebox):
    """Data comes in halves."""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        if not is_data(packet):
            return (packet.data,)
        middle = (len(packet.data) + 1) // 2
        return [half for half in (packet.data[:middle], packet.data[middle:]) if half]


class Joins(Middlebox):
    """Data that makes a STUN message together comes as one."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._joined = b""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        if not is_data(packet):
            return (packet.data,)
        self._joined += packet.data
        return () if message_in(self._joined) is None else (self._joined,)


# Where and when it says it


class Elsewhere(Middlebox):
    """What it says comes from another port than its own."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        return (replace(packet, far=(packet.far[0], packet.far[1] ^ 1)),)


class DataFromElsewhere(Middlebox):
    """Data comes from another port than its own."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        return (replace(packet, far=(packet.far[0], packet.far[1] ^ 1)) if is_data(packet) else packet,)


class Misroutes(Middlebox):
    """Data comes to every port of the peer but the right one."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        if not is_data(packet):
            return (packet,)
        for other in self.trial.peer.sockets:
            if isinstance(other, UdpPort) and other is not channel:
                other.deliver(packet)
        return ()


class Wanders(Middlebox):
    """An error sends it to all ports of the peer."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        message = message_in(data)
        if message is not None and message.kind is Kind.ERROR:
            for other in self.trial.peer.sockets:
                if isinstance(other, UdpPort) and other is not channel:
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stray:
                        stray.sendto(bytes(Draft(Kind.REQUEST).fingerprint()), other.near)
        return (data,)


class CallsBack(Middlebox):
    """To every packet over TCP it opens a connection to where that came from."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        with socket.create_connection(channel.near):
            return (data,)


class Redials(Middlebox):
    """Where it hears data it opens another connection to the same port."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        if message_in(data) is None:
            with socket.create_connection(channel.near):
                pass
        return (data,)


class HangsUp(Middlebox):
    """A connection ends with the first thing that is said on it."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        if isinstance(channel, Connection):
            channel.ended = "closed"
        return (packet,)


class Backwards(Middlebox):
    """It does everything in the opposite order."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        return (replace(packet, at=-packet.at),)


class Hasty(Middlebox):
    """It does everything in half the time."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        return (replace(packet, at=packet.at / 2),)


class Sluggish(Middlebox):
    """It takes twice its time for everything."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        return (replace(packet, at=packet.at * 2),)


class Metronome(Middlebox):
    """Its requests come at equal intervals."""

    def __init__(self, trial: Trial) -> None:
        super().__init__(trial)
        self._count = 0

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        self._count += 1
        return (replace(packet, at=self._count * self.trial.seconds(5.0)),)


# Frames


class LittleEndian(Middlebox):
    """The two bytes of LENGTH have changed places."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        if isinstance(channel, Connection):
            at = _frame_of(channel, packet)
            channel.stream[at : at + 2] = channel.stream[at : at + 2][::-1]
        return (packet,)


class Unframed(Middlebox):
    """There is no LENGTH."""

    def arriving(self, channel: Channel, packet: Packet) -> Iterable[Packet]:
        if isinstance(channel, Connection):
            at = _frame_of(channel, packet)
            del channel.stream[at : at + 2]
        return (packet,)


def _frame_of(connection: Connection, packet: Packet) -> int:
    return connection.stream.rfind(len(packet.data).to_bytes(2, "big") + packet.data)
