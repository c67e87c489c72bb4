"""A server played by hand: what the machine sent is read, what it hears is written, time is moved.

A ``Script`` holds one machine on one path. ``last`` is the newest message that left; ``answer`` and ``refuse`` reply to
it; ``told`` has every callback, as a tuple of its name and arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Generic, TypeAlias, TypeVar

from candidates.candidate import TransportAddress
from candidates.policy import Policy
from ice_tcp import stun
from ice_tcp.core.context import Context
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.turn import (
    Allocated,
    Credentials,
    DataConnection,
    Mapping,
    ServerFailure,
    ServerRecord,
    TcpAllocation,
    UdpAllocation,
    Wishes,
)
from ice_tcp.stun import (
    AlgorithmParameters,
    Attribute,
    Icmp,
    Integrity,
    IntegrityKey,
    Message,
    MessageClass,
    Method,
    PasswordAlgorithm,
    SecurityFeature,
)

START = 1000.0
REALM = "example.org"
ALICE = Credentials("alice", "open sesame")
KEY = IntegrityKey.long_term(ALICE.username, REALM, ALICE.password)
SHA256_KEY = IntegrityKey.long_term(ALICE.username, REALM, ALICE.password, PasswordAlgorithm.SHA256)

MAPPED = TransportAddress("203.0.113.9", 40000)
RELAYED = TransportAddress("198.51.100.1", 50000)
RELAYED6 = TransportAddress("2001:db8::1", 50000)
PEER = TransportAddress("192.0.2.33", 7000)
PEER6 = TransportAddress("2001:db8::33", 7000)

BOTH_ALGORITHMS = (AlgorithmParameters(PasswordAlgorithm.MD5), AlgorithmParameters(PasswordAlgorithm.SHA256))

Told: TypeAlias = tuple[object, ...]


class Wire:
    """A path that keeps what is sent on it."""

    def __init__(self, reliable: bool) -> None:
        self.reliable = reliable
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)


class Recorder:
    """A listener of every machine."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        self.channels: dict[TransportAddress, int] = {}

    def allocated(self, allocated: Allocated, now: float) -> None:
        self.told.append(("allocated", allocated))

    def allocation_failed(self, failure: ServerFailure, now: float) -> None:
        self.told.append(("failed", failure))

    def allocation_lost(self, failure: ServerFailure, now: float) -> None:
        self.told.append(("lost", failure))

    def allocation_closed(self, now: float) -> None:
        self.told.append(("closed",))

    def permission_granted(self, host: str, now: float) -> None:
        self.told.append(("granted", host))

    def permission_refused(self, host: str, failure: ServerFailure, now: float) -> None:
        self.told.append(("refused", host, failure.cause))

    def data_received(self, peer: TransportAddress, data: bytes, now: float) -> None:
        self.told.append(("data", peer, data))

    def channel_bound(self, peer: TransportAddress, number: int, now: float) -> None:
        self.told.append(("bound", peer))
        self.channels[peer] = number

    def channel_lost(self, peer: TransportAddress, now: float) -> None:
        self.channels.pop(peer)

    def icmp_received(self, peer: TransportAddress, icmp: Icmp, now: float) -> None:
        self.told.append(("icmp", peer, icmp))

    def connected(self, peer: TransportAddress, connection_id: int, now: float) -> None:
        self.told.append(("connected", peer, connection_id))

    def connect_failed(self, peer: TransportAddress, failure: ServerFailure, now: float) -> None:
        self.told.append(("connect failed", peer, failure))

    def connection_attempt(self, peer: TransportAddress, connection_id: int, now: float) -> None:
        self.told.append(("attempt", peer, connection_id))

    def data_connection_bound(self, now: float) -> None:
        self.told.append(("data connection bound",))

    def data_connection_failed(self, failure: ServerFailure, now: float) -> None:
        self.told.append(("data connection failed", failure))

    def binding_succeeded(self, mapping: Mapping, now: float) -> None:
        self.told.append(("mapped", mapping))

    def binding_failed(self, failure: ServerFailure, now: float) -> None:
        self.told.append(("binding failed", failure))


class Clock:
    """Virtual time and the context of the machines in it."""

    def __init__(self, seed: int = 7) -> None:
        self.now = START
        self.context = Context(Policy.default(), Random(seed), Pacer(), None)

    def advance(self, seconds: float) -> None:
        """Move on, stopping at each timer."""
        until = self.now + seconds
        while (at := self.context.timers.next_at()) is not None and at <= until:
            self.now = max(self.now, at)
            self.context.timers.expire(self.now)
        self.now = until


M = TypeVar("M")


class Script(Generic[M]):
    """One machine, and the test as its server; subclasses make the machine."""

    machine: M

    def __init__(self, *, reliable: bool = False, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self.wire = Wire(reliable)
        self.listener = Recorder()
        self.records: list[ServerRecord] = []
        self.key: IntegrityKey | None = None
        self.integrity = Integrity.SHA1

    @property
    def now(self) -> float:
        return self.clock.now

    @property
    def told(self) -> list[Told]:
        return self.listener.told

    @property
    def last(self) -> Message:
        return stun.decode(self.wire.sent[-1])

    @property
    def sent(self) -> list[Message]:
        return [stun.decode(data) for data in self.wire.sent]

    def note(self, now: float, record: ServerRecord) -> None:
        assert now == self.clock.now
        self.records.append(record)

    def hear(self, data: bytes) -> None:
        raise NotImplementedError

    def failure(self) -> ServerFailure:
        """That of the newest callback."""
        failure = self.told[-1][-1]
        assert isinstance(failure, ServerFailure)
        return failure

    def response(
        self,
        attributes: Iterable[Attribute] = (),
        *,
        to: Message | None = None,
        message_class: MessageClass = MessageClass.SUCCESS,
        **overrides: object,
    ) -> bytes:
        """A response to ``to``, or to the last message; ``overrides``: method, transaction_id, key."""
        request = to or self.last
        method = overrides.get("method", request.method)
        id_ = overrides.get("transaction_id", request.transaction_id)
        key = overrides.get("key", self.key)
        assert isinstance(method, int) and isinstance(id_, bytes)
        assert key is None or isinstance(key, IntegrityKey)
        return stun.encode(message_class, method, id_, list(attributes), key=key, integrity=self.integrity)

    def answer(
        self,
        attributes: Iterable[Attribute] = (),
        *,
        to: Message | None = None,
        message_class: MessageClass = MessageClass.SUCCESS,
        **overrides: object,
    ) -> None:
        self.hear(self.response(attributes, to=to, message_class=message_class, **overrides))

    def refuse(
        self, code: int, attributes: Iterable[Attribute] = (), *, to: Message | None = None, **overrides: object
    ) -> None:
        found = [stun.error_code(code, "no"), *attributes]
        self.answer(found, to=to, message_class=MessageClass.ERROR, **overrides)

    def challenge(
        self,
        code: int = 401,
        *,
        nonce: bytes = b"nonce-1",
        realm: str | None = REALM,
        algorithms: Sequence[AlgorithmParameters] | None = None,
        features: SecurityFeature | None = None,
        to: Message | None = None,
    ) -> None:
        """401 or 438, without integrity as servers send it."""
        if features is not None:
            nonce = stun.nonce_cookie(features) + nonce
        attributes = [stun.nonce(nonce)]
        if realm is not None:
            attributes.append(stun.realm(realm))
        if algorithms is not None:
            attributes.append(stun.password_algorithms(algorithms))
        self.refuse(code, attributes, to=to, key=None)

    def indicate(self, method: Method, attributes: Iterable[Attribute] = (), id_: bytes = bytes(12)) -> None:
        self.hear(stun.encode(MessageClass.INDICATION, method, id_, list(attributes)))


def gave(
    id_: bytes,
    relayed: Iterable[TransportAddress] = (RELAYED,),
    *,
    lifetime: int | None = 600,
    mapped: TransportAddress | None = MAPPED,
    more: Iterable[Attribute] = (),
) -> list[Attribute]:
    """The attributes of an Allocate success response."""
    attributes = [stun.xor_relayed_address(address.host, address.port, id_) for address in relayed]
    if mapped is not None:
        attributes.append(stun.xor_mapped_address(mapped.host, mapped.port, id_))
    if lifetime is not None:
        attributes.append(stun.lifetime(lifetime))
    return [*attributes, *more]


A = TypeVar("A", UdpAllocation, TcpAllocation)


class AllocationScript(Script[A]):
    """What both kinds of allocation have in common."""

    def hear(self, data: bytes) -> None:
        self.machine.received(data, self.now)

    def start(self) -> None:
        self.machine.start(self.now)

    def give(self, relayed: Iterable[TransportAddress] = (RELAYED,), *, lifetime: int | None = 600) -> None:
        self.answer(gave(self.last.transaction_id, relayed, lifetime=lifetime))

    def allocate(self, relayed: Iterable[TransportAddress] = (RELAYED,), *, lifetime: int = 600) -> None:
        """All that is usual: start, 401, success."""
        self.start()
        self.challenge()
        self.key = KEY
        self.give(relayed, lifetime=lifetime)
        assert self.told[-1][0] == "allocated"

    def permit(self, *hosts: str) -> None:
        """Ask for permissions, and grant them."""
        self.machine.permit(hosts, self.now)
        self.answer()


class UdpScript(AllocationScript[UdpAllocation]):
    def __init__(
        self,
        *,
        reliable: bool = False,
        credentials: Credentials | None = ALICE,
        wishes: Wishes | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(reliable=reliable, clock=clock)
        self.machine = UdpAllocation(
            self.clock.context,
            self.wire,
            self.listener,
            credentials=credentials,
            wishes=wishes,
            server="turn:test",
            note=self.note,
        )


class TcpScript(AllocationScript[TcpAllocation]):
    def __init__(self, *, wishes: Wishes | None = None, clock: Clock | None = None) -> None:
        super().__init__(reliable=True, clock=clock)
        self.machine = TcpAllocation(
            self.clock.context,
            self.wire,
            self.listener,
            credentials=ALICE,
            wishes=wishes,
            server="turn:test",
            note=self.note,
        )


class DataScript(Script[DataConnection]):
    """A data connection of a TCP allocation; ``received`` collects the peer's bytes."""

    def __init__(self, allocation: TcpScript, connection_id: int = 77) -> None:
        super().__init__(reliable=True, clock=allocation.clock)
        self.key = allocation.key
        self.received = b""
        self.machine = allocation.machine.data_connection(self.wire, connection_id, self.listener)

    def hear(self, data: bytes) -> None:
        self.received += self.machine.received(data, self.now)
