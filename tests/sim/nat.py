"""NATs and firewalls: mapping x filtering x answer to unsolicited SYNs, with the connection tracking of Linux."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from random import Random
from typing import TypeAlias

from candidates.candidate import Transport
from tests.sim.clock import Clock
from tests.sim.conntrack import Connection, Tracked, follow
from tests.sim.network import Attachment, Observer, describe
from tests.sim.packets import Endpoint, Packet, Segment

STUN_SERVER = Endpoint("198.51.100.1", 3478)
"""Where server-reflexive candidates are learned; nobody is there, the mapping is all that matters."""

CLOSED_TIMEOUT = 10.0
"""Seconds for which a connection that was reset stays known (conntrack's CLOSE)."""
FIN_TIMEOUT = 1.0
"""Seconds for which one that both ends closed stays known, for what may have to be sent again."""
ESTABLISHED_TIMEOUT = 7440.0


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
    """How a NAT behaves. ``translates`` False makes it a stateful firewall. Times in seconds of idleness.

    ``only_ports`` are the ports outside to which connections may be opened, any if there are none. One that
    ``forgets_on_fin`` drops the mapping of a TCP port with the last of its connections.
    """

    mapping: Mapping = Mapping.ENDPOINT_INDEPENDENT
    ports: Ports = Ports.PRESERVED
    filtering: Filtering = Filtering.ADDRESS_AND_PORT_DEPENDENT
    answers_rst: bool = False
    drops_bare_syn: bool = False
    hairpin: bool = False
    udp_blocked: bool = False
    only_ports: tuple[int, ...] = ()
    forgets_on_fin: bool = False
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


@dataclass(slots=True, eq=False)
class _Binding:
    """A mapping of an inner endpoint to an outer one, with the permissions and connections that use it."""

    transport: Transport
    inner: Endpoint
    outer: Endpoint
    contacts: dict[object, float] = field(default_factory=dict)
    connections: dict[Endpoint, Connection] = field(default_factory=dict)
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
        elif self._is_forbidden(packet, segment):
            self._say(f"forbids {packet.source} -> {remote} {describe(segment)}")
            return None
        else:
            connection = self._track_outbound(packet, segment)
            if connection is None:
                self._untranslated(packet)
                return None
            binding = self._bind(Transport.TCP, packet.source, remote)
            binding.expires_at = max(binding.expires_at, connection.expires_at)
            lives_until = self._clock.now + self.kind.transitory_timeout
        contact = self._contact(remote)
        binding.contacts[contact] = max(binding.contacts.get(contact, 0.0), lives_until)
        binding.expires_at = max(binding.expires_at, lives_until)
        if isinstance(segment, Segment) and segment.fin:
            self._note_fin(binding, remote, from_inside=True)
        return Packet(binding.outer, remote, segment, packet.origin)

    def _is_forbidden(self, packet: Packet, segment: Segment) -> bool:
        opens = segment.syn and segment.ack is None
        return opens and bool(self.kind.only_ports) and packet.destination.port not in self.kind.only_ports

    def _note_fin(self, binding: _Binding, remote: Endpoint, *, from_inside: bool) -> None:
        """Both ends have closed a connection: a NAT may think that with it the mapping is of no use any more."""
        connection = binding.connections.get(remote)
        if connection is None or not self.kind.forgets_on_fin:
            return
        connection.ended.add(from_inside)
        if len(connection.ended) == 2:
            self._clock.after(FIN_TIMEOUT, lambda: self._forget(binding, remote))

    def _forget(self, binding: _Binding, remote: Endpoint) -> None:
        connection = binding.connections.get(remote)
        if connection is None or len(connection.ended) < 2:
            return
        del binding.connections[remote]
        binding.expires_at = max((each.expires_at for each in binding.connections.values()), default=self._clock.now)

    def _track_outbound(self, packet: Packet, segment: Segment) -> Connection | None:
        """Follow a segment of the inside; None if it is invalid, whereupon it leaves untranslated."""
        binding = self._binding_to(Transport.TCP, packet.source, packet.destination)
        connection = self._connection(binding, packet.destination)
        if connection is None:
            # An RST, or the answer to a SYN that nobody remembers, makes no connection; anything else is picked up.
            if segment.rst or (segment.syn and segment.ack is not None):
                return None
            state = Tracked.SYN_SENT if segment.syn else Tracked.ESTABLISHED
            connection = Connection(state, from_inside=True, inner_isn=segment.seq if segment.syn else None)
            self._bind(Transport.TCP, packet.source, packet.destination).connections[packet.destination] = connection
        elif not follow(connection, segment, from_inside=True):
            return None
        self._keep(connection)
        return connection

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
        connection = self._connection(binding, remote)
        if connection is None:
            if not bare_syn or not self._permitted(binding, remote):
                return False
            connection = Connection(Tracked.SYN_SENT, from_inside=False, outer_isn=segment.seq)
            binding.connections[remote] = connection
        elif not follow(connection, segment, from_inside=False):
            return False
        self._keep(connection)
        binding.expires_at = max(binding.expires_at, connection.expires_at)
        if segment.fin:
            self._note_fin(binding, remote, from_inside=False)
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

    def _connection(self, binding: _Binding | None, remote: Endpoint) -> Connection | None:
        if binding is None:
            return None
        connection = binding.connections.get(remote)
        if connection is not None and connection.expires_at < self._clock.now:
            del binding.connections[remote]
            return None
        return connection

    def _keep(self, connection: Connection) -> None:
        lifetime = {Tracked.ESTABLISHED: ESTABLISHED_TIMEOUT, Tracked.CLOSED: CLOSED_TIMEOUT}
        connection.expires_at = self._clock.now + lifetime.get(connection.state, self.kind.transitory_timeout)

    def _say(self, text: str) -> None:
        if self._observer is not None:
            self._observer(self.name, text)


def answer_rst(segment: Segment) -> Segment:
    """The RST that answers a segment for which there is no connection (RFC 9293 s3.5.2, group 1)."""
    if segment.ack is not None:
        return Segment(seq=segment.ack, rst=True)
    return Segment(seq=0, ack=segment.end, rst=True)
