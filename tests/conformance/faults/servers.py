"""Faults for what agents ask of STUN and TURN servers, and for relayed TCP (RFC 6062)."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from dataclasses import replace

from ice_tcp.core.commands import ListenerId
from ice_tcp.core.servers.legs import Legs
from interop.conformance.servers import PASSWORD, UDP_RELAYED, Method
from interop.conformance.stun import Attr, Kind, xor_address
from interop.conformance.target import Description
from interop.conformance.wire import Channel, Connection, Packet, UdpPort, message_in
from tests.conformance.agents import following, listing, telling
from tests.conformance.faults.registry import attributes, behind, more, replaced, within
from tests.conformance.inside import Method as Change
from tests.conformance.inside import with_fault
from tests.conformance.middlebox import Middlebox, plain


def _keeps(*methods: Method) -> type[Middlebox]:
    """A box that loses requests and indications with these methods."""

    class Keeps(Middlebox):
        def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
            message = packet.message
            return () if message is not None and message.method in methods else (packet.data,)

    return Keeps


def _twice(method: Method) -> type[Middlebox]:
    """A box that makes two requests with this method of one."""

    class Twice(Middlebox):
        def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
            message = packet.message
            if message is None or message.method != method:
                return (packet.data,)
            again = replace(message, transaction_id=secrets.token_bytes(12))
            return packet.data, bytes(self.resealed(again, plain(message)))

    return Twice


# Server-reflexive candidates


def _another_priority(line: str, preference: int) -> str:
    return re.sub(r"(candidate:\S+ \d+ \S+) \d+", rf"\1 {preference << 24}", line)


def _and_the_same_again(told: Description) -> Description:
    host, port = told.candidates[0].split(" ")[4:6]
    twin = told.candidates[0].replace("typ host", f"typ srflx raddr {host} rport {port}")
    return replace(told, candidates=(*told.candidates, twin))


within(listing(lambda line: "" if " srflx " in line else line), "8445-5.1.1.2-a-server-reflexive-candidate")
within(
    listing(lambda line: re.sub(r" \d+ typ host", " 4711 typ host", line)),
    "8445-5.1.1.2-servers-are-asked-from-the-host-candidate",
    "6544-5.2-the-passive-port-asks-the-server",
    "6544-5.2-the-so-port-asks-the-server",
)
attributes(
    Kind.REQUEST,
    lambda m: more(m, Attr.USERNAME, b"me"),
    "8445-5.1.1.2-servers-are-asked-without-credentials",
)
within(
    listing(lambda line: re.sub(r" rport \d+", " rport 4711", line)),
    "8839-5.1-related-address-of-a-reflexive-candidate",
    "8839-5.1-related-address-of-a-relayed-candidate",
)
within(
    listing(lambda line: re.sub(r"candidate:\S+", "candidate:1", line)),
    "8445-5.1.1.3-another-foundation-for-a-reflexive-candidate",
)
within(telling(_and_the_same_again), "8445-5.1.3-without-a-nat-there-is-no-reflexive-candidate")
within(listing(lambda line: _another_priority(line, 110)), "8445-5.1.2.2-type-preference-of-a-reflexive-candidate")

# Relayed candidates

within(
    listing(lambda line: "" if " relay " in line else line),
    "8445-5.1.1.2-a-relayed-candidate",
    "8445-5.1.1.2-a-relayed-candidate-of-a-server-over-tcp",
    "6544-4.1-a-relayed-passive-candidate",
)
within(following(lambda policy: policy.replace(PASSWORD, "wrong")), "8445-5.1.1.2-allocations-are-authenticated")
within(
    listing(lambda line: _another_priority(line, 120) if " relay " in line else line),
    "6544-4.2-relayed-candidates-come-last",
)
behind(_keeps(Method.CREATE_PERMISSION, Method.CHANNEL_BIND), "8445-7.2.1-a-permission-comes-before-the-check")
attributes(
    Kind.REQUEST,
    lambda m: replaced(m, Attr.XOR_PEER_ADDRESS, xor_address(("192.0.2.99", 9), m.transaction_id)),
    "8445-7.2.1-the-permission-is-for-the-remote-candidate",
    "6544-5.2-active-candidates-of-the-peer-get-permissions",
    "6062-4.3-a-connect-request-names-the-peer",
)


class Withholds(Middlebox):
    """Nothing goes through relays."""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        message = packet.message
        relayed = message is None or message.method == Method.SEND
        return () if relayed and isinstance(channel, UdpPort) else (packet.data,)


behind(Withholds, "8445-7.2.4-checks-go-through-the-relay")

# Server-reflexive TCP candidates


def _lower(line: str) -> str:
    fields = line.split(" ")
    fields[3] = str(int(fields[3]) - (1 << 21))
    return " ".join(fields)


class FramesAll(Middlebox):
    """What goes to servers is framed, too."""

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        return (len(packet.data).to_bytes(2, "big") + packet.data,)


class LeavesServers(Middlebox):
    """A connection to a server ends when it has been answered."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        assert isinstance(channel, Connection)
        channel.ended = "closed"
        return (data,)


within(
    listing(lambda line: "" if re.search(r" srflx .*tcptype active", line) else line),
    "6544-4.1-a-reflexive-active-candidate",
)
behind(FramesAll, "8489-6.2.2-servers-get-no-frames")
within(
    listing(_lower),
    "6544-4.2-direction-preferences-of-reflexive-candidates",
    "6544-4.2-direction-preferences-of-relayed-candidates",
)
behind(
    LeavesServers,
    "6544-4.1-connections-to-servers-stay-open",
    "6544-11.2-the-control-connection-of-a-selected-relay-stays",
)
within(
    following(lambda policy: re.sub(r"linger: [\d.]+", "linger: 60.0", policy)),
    "6544-11.2-connections-to-servers-are-closed-at-the-end",
    "6544-11.2-connections-to-relays-are-closed-at-the-end",
)

# Relayed TCP (RFC 6062)


def _from_a_candidate(original: Change) -> Change:
    """Allocations are asked for from the port of the passive candidate."""
    return lambda self, *args, **named: original(self, *args, **named | {"listener": named.get("listener") or LISTENER})


LISTENER = ListenerId(2)
"""The second socket of an agent with an active and a passive candidate."""

within(with_fault(Legs, "open", _from_a_candidate), "6062-4.1-allocations-for-tcp-go-over-tcp")


attributes(
    Kind.REQUEST,
    lambda m: replaced(m, Attr.REQUESTED_TRANSPORT, bytes([UDP_RELAYED, 0, 0, 0])),
    "6062-4.1-allocations-for-tcp",
)
attributes(
    Kind.REQUEST,
    lambda m: more(m, Attr.DONT_FRAGMENT, b""),
    "6062-4.1-allocations-for-tcp-ask-for-nothing-of-udp",
)
behind(_keeps(Method.CONNECT), "6062-4.3-a-connect-request-on-the-control-connection")
behind(
    _keeps(Method.CONNECTION_BIND),
    "6062-4.3-the-bind-comes-on-a-new-connection",
    "6062-4.4-an-attempt-is-accepted-on-a-new-connection",
)
attributes(
    Kind.REQUEST,
    lambda m: replaced(m, Attr.CONNECTION_ID, b"last"),
    "6062-4.3-the-bind-echoes-the-identifier",
    "6062-4.4-the-bind-echoes-the-attempt",
)
behind(
    _twice(Method.CONNECT),
    "6062-4.3-a-failed-connect-is-not-repeated-at-once",
    "6062-4.3-one-connect-request-at-a-time",
)


class Mute(Middlebox):
    """It says nothing to the peer."""

    said: tuple[Kind, ...] = (Kind.REQUEST, Kind.SUCCESS)

    def from_agent(self, channel: Channel, packet: Packet) -> Iterable[bytes]:
        message = packet.message
        to_peer = message is not None and message.method == Method.BINDING and message.has(Attr.MESSAGE_INTEGRITY)
        return () if to_peer and message is not None and message.kind in self.said else (packet.data,)


class NeverChecks(Mute):
    """It answers the peer, and does not ask."""

    said = (Kind.REQUEST,)


behind(Mute, "6062-4.5-the-peer-is-answered-on-the-data-connection")
behind(NeverChecks, "6062-4.5-the-peer-is-checked-on-the-data-connection")


class LosesWhatFollows(Middlebox):
    """What comes right behind a message of the server is lost."""

    def to_agent(self, channel: Channel, data: bytes) -> Iterable[bytes]:
        return () if message_in(data) is None else (data,)


behind(LosesWhatFollows, "6062-4.5-what-comes-with-the-binding-is-not-lost")
