"""NATs and firewalls: mapping x filtering x answer to unsolicited SYNs, with the connection tracking of Linux."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from math import inf
from random import Random
from typing import TypeAlias

from candidates.candidate import Transport
from tests.sim.clock import Clock
from tests.sim.network import Attachment, Observer, describe
from tests.sim.packets import Endpoint, Packet, Segment

STUN_SERVER = Endpoint("198.51.100.1", 3478)
"""Where server-reflexive candidates are learned; nobody is there, the mapping is all that matters."""

CLOSED_TIMEOUT = 10.0
"""Seconds for which a connection that was reset stays known (conntrack's CLOSE)."""
ESTABLISHED_TIMEOUT = 7440.0
PLAUSIBLE_BYTES = 1 << 20
"""How far a sequence number may be from the initial one in the first moments of a connection."""


class Mapping(StrEnum):
    """What a mapping depends on (RFC 4787 s4.1); sequential ports are those of a dependent mapping."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


class Ports(StrEnum):
    """Which external port a new mapping gets."""

    PRESERVED = "preserved"
    RANDOM = "random"
    SEQUENTIAL = "sequential"


class Filtering(StrEnum):
    """Who may answer through a mapping (RFC 4787 s5)."""

    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ADDRESS_DEPENDENT = "address-dependent"
    ADDRESS_AND_PORT_DEPENDENT = "address-and-port-dependent"


@dataclass(frozen=True, slots=True)
class NatKind:
    """How a NAT behaves. ``translates`` False makes it a stateful firewall. Times in seconds of idleness."""

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    ports: Ports = Ports.PRESERVED
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    answers_rst: bool = False
    drops_bare_syn: bool = False
    hairpin: bool = False
    udp_blocked: bool = False
    translates: bool = True
    udp_timeout: float = 60.0
    transitory_timeout: float = 120.0


FULL_CONE = NatKind(filtering=Filtering.ENDPOINT_INDEPENDENT)
ADDRESS_RESTRICTED = NatKind(filtering=Filtering.ADDRESS_DEPENDENT)
PORT_RESTRICTED = NatKind()
NOT_PRESERVING = NatKind(ports=Ports.RANDOM)
SYMMETRIC = NatKind(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=Ports.RANDOM)
SYMMETRIC_BY_ADDRESS = NatKind(mapping=Mapping.ADDRESS_DEPENDENT, ports=Ports.RANDOM)
SYMMETRIC_SEQUENTIAL = NatKind(mapping=Mapping.ADDRESS_AND_PORT_DEPENDENT, ports=Ports.SEQUENTIAL)
FIREWALL = NatKind(translates=False)


class Tracked(Enum):
    """Connection tracking's view of a TCP connection."""

    SYN_SENT = "one side sent a SYN"
    SYN_SENT2 = "both sides sent a SYN; both initial sequence numbers are pinned"
    ESTABLISHED = "a SYN-ACK came, or traffic was picked up in its middle"
    CLOSED = "an RST came"


@dataclass(slots=True)
class _Session:
    """One connection through a mapping."""

    state: Tracked
    from_inside: bool
    inner_isn: int | None = None
    outer_isn: int | None = None
    expires_at: float = 0.0
    ignored_syn: int | None = None


@dataclass(slots=True, eq=False)
class _Binding:
    """A mapping of an inner endpoint to an outer one, with the permissions and connections that use it."""

    transport: Transport
    inner: Endpoint
    outer: Endpoint
    contacts: dict[object, float] = field(default_factory=dict)
    sessions: dict[Endpoint, _Session] = field(default_factory=dict)
    expires_at: float = 0.0


_Key: TypeAlias = tuple[Transport, Endpoint, object]


class Nat:
    """A box between an inside and an outside realm. Set ``inside`` and ``outside``, the attachments to them."""

    inside: Attachment
    outside: Attachment

    def __init__(
        self,
        name: str,
        kind: NatKind,
        public: str | None,
        clock: Clock,
        rng: Random,
        events: Counter[str],
        observer: Observer | None = None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.public = public
        self._clock = clock
        self._rng = rng
        self._events = events
        self._observer = observer
        self._bindings: dict[_Key, _Binding] = {}
        self._outer: dict[tuple[Transport, Endpoint], _Binding] = {}
        self._came_in_by: dict[_Key, _Binding] = {}
        self._last_port = rng.randint(20000, 50000)

    def receive(self, packet: Packet, via: Attachment) -> None:
        """A packet came from the inside or from the outside."""
        if via is self.inside:
            self._outbound(packet)
        else:
            self._inbound(packet)

    def reboot(self) -> None:
        """Forget every mapping and connection."""
        self._say("reboot")
        self._bindings.clear()
        self._came_in_by.clear()
        self._outer.clear()

    def reflexive(self, transport: Transport, inner: Endpoint) -> Endpoint | None:
        """The outer endpoint that a STUN server would see; the mapping then lives as long as the NAT does.

        None where the NAT lets nothing of this transport out.
        """
        if transport is Transport.UDP and self.kind.udp_blocked:
            return None
        binding = self._bind(transport, inner, STUN_SERVER)
        binding.expires_at = inf
        binding.contacts[self._contact(STUN_SERVER)] = inf
        gateway = self.outside.realm.gateway
        if gateway is not None and isinstance(gateway.node, Nat):
            return gateway.node.reflexive(transport, binding.outer)
        return binding.outer

    # -- from the inside ---------------------------------------------------------------------------------------

    def _outbound(self, packet: Packet) -> None:
        if packet.destination.host == self.public:
            self._hairpin(packet)
            return
        translated = self._translate_outbound(packet)
        if translated is not None:
            self.outside.send(translated)

    def _translate_outbound(self, packet: Packet) -> Packet | None:
        segment = packet.payload
        remote = packet.destination
        if isinstance(segment, bytes):
            if self.kind.udp_blocked:
                return None
            binding = self._bind(Transport.UDP, packet.source, remote)
            lives_until = self._clock.now + self.kind.udp_timeout
        else:
            session = self._track_outbound(packet, segment)
            if session is None:
                self._untranslated(packet)
                return None
            binding = self._bind(Transport.TCP, packet.source, remote)
            binding.expires_at = max(binding.expires_at, session.expires_at)
            lives_until = self._clock.now + self.kind.transitory_timeout
        contact = self._contact(remote)
        binding.contacts[contact] = max(binding.contacts.get(contact, 0.0), lives_until)
        binding.expires_at = max(binding.expires_at, lives_until)
        return Packet(binding.outer, remote, segment, packet.origin)

    def _track_outbound(self, packet: Packet, segment: Segment) -> _Session | None:
        """Follow a segment of the inside; None if it is invalid, whereupon it leaves untranslated."""
        binding = self._binding_to(Transport.TCP, packet.source, packet.destination)
        session = self._session(binding, packet.destination)
        if session is None:
            # An RST, or the answer to a SYN that nobody remembers, makes no connection; anything else is picked up.
            if segment.rst or (segment.syn and segment.ack is not None):
                return None
            state = Tracked.SYN_SENT if segment.syn else Tracked.ESTABLISHED
            session = _Session(state, from_inside=True, inner_isn=segment.seq if segment.syn else None)
            self._bind(Transport.TCP, packet.source, packet.destination).sessions[packet.destination] = session
        elif not _follow(session, segment, from_inside=True):
            return None
        self._keep(session)
        return session

    def _untranslated(self, packet: Packet) -> None:
        self._events["pinned-isn"] += 1
        self._say(f"invalid, leaves untranslated: {packet.source} -> {packet.destination} {describe(packet.payload)}")

    def _hairpin(self, packet: Packet) -> None:
        """A packet of the inside to our own outer address."""
        if not self.kind.hairpin:
            self._reject(packet, back=self.inside)
            return
        translated = self._translate_outbound(packet)
        if translated is not None:
            self._inbound(translated)

    # -- from the outside --------------------------------------------------------------------------------------

    def _inbound(self, packet: Packet) -> None:
        segment = packet.payload
        transport = Transport.UDP if isinstance(segment, bytes) else Transport.TCP
        binding = self._outer.get((transport, packet.destination))
        if binding is None or binding.expires_at < self._clock.now:
            self._reject(packet, back=self.outside)
            return
        if isinstance(segment, bytes):
            allowed = not self.kind.udp_blocked and self._permitted(binding, packet.source)
        else:
            allowed = self._track_inbound(binding, packet.source, segment)
        if not allowed:
            self._reject(packet, back=self.outside)
            return
        if self.kind.mapping is not Mapping.ENDPOINT_INDEPENDENT:
            self._came_in_by[transport, binding.inner, packet.source] = binding
        self.inside.send(Packet(packet.source, binding.inner, segment, packet.origin))

    def _track_inbound(self, binding: _Binding, remote: Endpoint, segment: Segment) -> bool:
        bare_syn = segment.syn and segment.ack is None
        if bare_syn and self.kind.drops_bare_syn:
            return False
        session = self._session(binding, remote)
        if session is None:
            if not bare_syn or not self._permitted(binding, remote):
                return False
            session = _Session(Tracked.SYN_SENT, from_inside=False, outer_isn=segment.seq)
            binding.sessions[remote] = session
        elif not _follow(session, segment, from_inside=False):
            return False
        self._keep(session)
        binding.expires_at = max(binding.expires_at, session.expires_at)
        return True

    def _permitted(self, binding: _Binding, remote: Endpoint) -> bool:
        if self.kind.filtering is Filtering.ENDPOINT_INDEPENDENT:
            return True
        return binding.contacts.get(self._contact(remote), 0.0) >= self._clock.now

    def _reject(self, packet: Packet, back: Attachment) -> None:
        segment = packet.payload
        if isinstance(segment, bytes) or segment.rst or not self.kind.answers_rst:
            self._say(f"drops {packet.source} -> {packet.destination} {describe(segment)}")
            return
        self._events["rst-of-nat"] += 1
        self._say(f"answers RST to {packet.source} -> {packet.destination} {describe(segment)}")
        back.send(Packet(packet.destination, packet.source, answer_rst(segment)))

    # -- state -------------------------------------------------------------------------------------------------

    def _bind(self, transport: Transport, inner: Endpoint, remote: Endpoint) -> _Binding:
        binding = self._binding_to(transport, inner, remote)
        if binding is None:
            outer = inner if self.public is None else Endpoint(self.public, self._free_port(transport, inner.port))
            binding = _Binding(transport, inner, outer)
            self._bindings[self._key(transport, inner, remote)] = binding
            self._outer[transport, outer] = binding
            self._say(f"maps {transport} {inner} to {outer} for {remote}")
        return binding

    def _binding_to(self, transport: Transport, inner: Endpoint, remote: Endpoint) -> _Binding | None:
        """The mapping that a packet to ``remote`` leaves by: for a connection from outside the one it came in by."""
        key = self._key(transport, inner, remote)
        binding = self._came_in_by.get((transport, inner, remote)) or self._bindings.get(key)
        if binding is not None and 0 < binding.expires_at < self._clock.now:
            self._came_in_by.pop((transport, inner, remote), None)
            self._bindings.pop(key, None)
            self._outer.pop((transport, binding.outer), None)
            return None
        return binding

    def _key(self, transport: Transport, inner: Endpoint, remote: Endpoint) -> _Key:
        if self.kind.mapping is Mapping.ENDPOINT_INDEPENDENT or not self.kind.translates:
            return transport, inner, None
        if self.kind.mapping is Mapping.ADDRESS_DEPENDENT:
            return transport, inner, remote.host
        return transport, inner, remote

    def _contact(self, remote: Endpoint) -> object:
        return remote.host if self.kind.filtering is Filtering.ADDRESS_DEPENDENT else remote

    def _free_port(self, transport: Transport, preferred: int) -> int:
        port = preferred
        if self.kind.ports is Ports.RANDOM:
            port = self._rng.randint(1024, 65535)
        elif self.kind.ports is Ports.SEQUENTIAL:
            self._last_port += 1
            port = self._last_port
        while (transport, Endpoint(self.public or "", port)) in self._outer:
            port = self._rng.randint(1024, 65535)
        return port

    def _session(self, binding: _Binding | None, remote: Endpoint) -> _Session | None:
        if binding is None:
            return None
        session = binding.sessions.get(remote)
        if session is not None and session.expires_at < self._clock.now:
            del binding.sessions[remote]
            return None
        return session

    def _keep(self, session: _Session) -> None:
        lifetime = {Tracked.ESTABLISHED: ESTABLISHED_TIMEOUT, Tracked.CLOSED: CLOSED_TIMEOUT}
        session.expires_at = self._clock.now + lifetime.get(session.state, self.kind.transitory_timeout)

    def _say(self, text: str) -> None:
        if self._observer is not None:
            self._observer(self.name, text)


def _follow(session: _Session, segment: Segment, *, from_inside: bool) -> bool:
    """Move a known connection's state by one segment; False if connection tracking calls the segment invalid.

    Once both SYNs were seen each side's initial sequence number is pinned: a re-created socket, or a listener after
    a dead punch, answers with another one.
    """
    opener = session.from_inside is from_inside
    if segment.rst:
        if not _rst_fits(session, segment, from_inside):
            return False
        session.state = Tracked.CLOSED
        return True
    if not segment.syn:
        return _follow_data(session, segment, from_inside)
    if segment.ack is None:
        return _follow_syn(session, segment, opener=opener, from_inside=from_inside)
    return _follow_syn_ack(session, segment, opener=opener, from_inside=from_inside)


def _rst_fits(session: _Session, segment: Segment, from_inside: bool) -> bool:
    """Whether an RST belongs to a connection that is being opened; an old one's, or a crossed SYN's, does not."""
    if session.state not in (Tracked.SYN_SENT, Tracked.SYN_SENT2):
        return True
    own, other = session.inner_isn, session.outer_isn
    if not from_inside:
        own, other = other, own
    if own is not None and segment.seq == own + 1:
        return True
    return session.state is Tracked.SYN_SENT and other is not None and segment.ack == other + 1


def _follow_data(session: _Session, segment: Segment, from_inside: bool) -> bool:
    """Neither SYN nor RST: of a connection that is being opened only what follows its own SYN is valid."""
    if session.state is Tracked.SYN_SENT2:
        isn = session.inner_isn if from_inside else session.outer_isn
        if isn is None or not isn < segment.seq <= isn + PLAUSIBLE_BYTES:
            return False
        if segment.data:
            session.state = Tracked.ESTABLISHED
        return True
    return session.state is Tracked.ESTABLISHED


def _follow_syn(session: _Session, segment: Segment, *, opener: bool, from_inside: bool) -> bool:
    match session.state:
        case Tracked.ESTABLISHED:
            # Perhaps a new connection on the old ports: the answer will tell.
            session.ignored_syn = segment.seq
            return True
        case Tracked.SYN_SENT2:
            return _matches(session, segment, from_inside)
        case Tracked.CLOSED:
            if not opener and not from_inside:
                return False
            session.from_inside = from_inside
            session.state = Tracked.SYN_SENT
            session.inner_isn = session.outer_isn = None
        case Tracked.SYN_SENT if not opener:
            session.state = Tracked.SYN_SENT2
    _pin(session, segment, from_inside)
    return True


def _follow_syn_ack(session: _Session, segment: Segment, *, opener: bool, from_inside: bool) -> bool:
    match session.state:
        case Tracked.CLOSED:
            return False
        case Tracked.SYN_SENT if opener:
            return False
        case Tracked.ESTABLISHED if segment.ack is not None and session.ignored_syn == segment.ack - 1:
            session.inner_isn = session.outer_isn = None
        case _ if not _matches(session, segment, from_inside):
            return False
    _pin(session, segment, from_inside)
    # Of a simultaneous open both SYN-ACKs are still to pass; pinned they stay.
    if session.state is Tracked.SYN_SENT:
        session.state = Tracked.ESTABLISHED
    return True


def _matches(session: _Session, segment: Segment, from_inside: bool) -> bool:
    pinned = session.inner_isn if from_inside else session.outer_isn
    return pinned is None or pinned == segment.seq


def _pin(session: _Session, segment: Segment, from_inside: bool) -> None:
    if from_inside:
        session.inner_isn = segment.seq
    else:
        session.outer_isn = segment.seq


def answer_rst(segment: Segment) -> Segment:
    """The RST that answers a segment for which there is no connection (RFC 9293 s3.5.2, group 1)."""
    if segment.ack is not None:
        return Segment(seq=segment.ack, rst=True)
    return Segment(seq=0, ack=segment.end, rst=True)
