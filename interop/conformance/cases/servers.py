"""What an agent asks of STUN and TURN servers (RFC 8445 s5.1, s7.2.1, RFC 6544 s5.2, s11.2), and how (RFC 8489)."""

from __future__ import annotations

from typing import Final

from interop.conformance.candidate_lines import CandidateKind
from interop.conformance.case import Level, case, require
from interop.conformance.servers import UDP_RELAYED, Method, StunServer, TurnServer
from interop.conformance.stun import Attr, Kind
from interop.conformance.target import Capability
from interop.conformance.trial import ACTIVE, NAT, PASSIVE, SO, UDP, Trial
from interop.conformance.wire import QUIET, Packet

MUST, SHOULD = Level.MUST, Level.SHOULD

_STUN: Final = (Capability.UDP, Capability.STUN)
_TURN: Final = (Capability.UDP, Capability.TURN)
_STUN_PASSIVE: Final = (Capability.TCP_PASSIVE, Capability.STUN_TCP)
_STUN_SO: Final = (Capability.TCP_SO, Capability.STUN_TCP)
_STUN_ACTIVE: Final = (Capability.TCP_ACTIVE, Capability.STUN_TCP)

_PEER: Final = ("127.0.0.66", 4711)
"""Where a peer could be that is reached through a relay only."""
_PERMITTING: Final = (Method.CREATE_PERMISSION, Method.CHANNEL_BIND)


# Server-reflexive candidates (RFC 8445 s5.1)


@case(8445, "5.1.1.2", SHOULD, "An ICE agent SHOULD gather server-reflexive and relayed candidates.", needs=_STUN)
async def a_server_reflexive_candidate(trial: Trial) -> None:
    """The mapped address that a STUN server tells becomes a candidate."""
    trial.stun_server()
    await trial.create(UDP)
    expected = NAT, trial.candidate().port
    found = trial.candidate(type="srflx")
    require(found.address == expected, f"{found.text}, but the server said {expected}")


@case(
    8445,
    "5.1.1.2",
    MUST,
    "The base of the server-reflexive candidate is the host candidate from which the Allocate or Binding request was "
    "sent.",
    needs=_STUN,
)
async def servers_are_asked_from_the_host_candidate(trial: Trial) -> None:
    """The Binding request comes from the port of the host candidate."""
    server = trial.stun_server()
    await trial.create(UDP)
    sources = {packet.far for _, packet in server.requests}
    require(sources == {trial.candidate().address}, f"the requests came from {sources}")


@case(
    8445,
    "5.1.1.2",
    MUST,
    "Binding requests to a STUN server are not authenticated, and any ALTERNATE-SERVER attribute in a response is "
    "ignored.",
    needs=_STUN,
)
async def servers_are_asked_without_credentials(trial: Trial) -> None:
    """The Binding request has neither USERNAME nor MESSAGE-INTEGRITY."""
    server = trial.stun_server()
    await trial.create(UDP)
    _, request = await server.asked(Method.BINDING)
    for attribute in (Attr.USERNAME, Attr.MESSAGE_INTEGRITY, Attr.MESSAGE_INTEGRITY_SHA256):
        require(not request.has(attribute), f"it has {attribute.name}")


@case(
    8839,
    "5.1",
    MUST,
    "<rel-addr> and <rel-port> MUST be present for server-reflexive, peer-reflexive, and relayed candidates.",
    needs=_STUN,
)
async def related_address_of_a_reflexive_candidate(trial: Trial) -> None:
    """The related address of a server-reflexive candidate is its base, or hides it with 0.0.0.0 and 9."""
    trial.stun_server()
    await trial.create(UDP)
    found = trial.candidate(type="srflx")
    require((found.raddr, found.rport) in (trial.candidate().address, ("0.0.0.0", 9)), found.text)  # noqa: S104 - hidden


@case(
    8445,
    "5.1.1.3",
    MUST,
    "Similarly, two candidates have different foundations if their types are different, [...] the STUN or TURN "
    "servers used to obtain them have different IP addresses [...], or their transport protocols are different.",
    needs=_STUN,
)
async def another_foundation_for_a_reflexive_candidate(trial: Trial) -> None:
    """The host and the server-reflexive candidate have different foundations."""
    trial.stun_server()
    await trial.create(UDP)
    host, reflexive = trial.candidate(), trial.candidate(type="srflx")
    require(host.foundation != reflexive.foundation, f"both have {host.foundation}")


@case(
    8445,
    "5.1.3",
    SHOULD,
    "The agent SHOULD eliminate the redundant candidate with the lower priority.",
    needs=_STUN,
)
async def without_a_nat_there_is_no_reflexive_candidate(trial: Trial) -> None:
    """Where the mapped address is the host candidate's, there is one candidate."""
    server = trial.stun_server(natted=False)
    await trial.create(UDP)
    await server.asked(Method.BINDING)
    require(len(trial.candidates) == 1, f"{trial.told.candidates}")


@case(
    8445,
    "5.1.2.2",
    SHOULD,
    "The RECOMMENDED values for type preferences are 126 for host candidates, 110 for peer-reflexive candidates, 100 "
    "for server-reflexive candidates, and 0 for relayed candidates.",
    needs=_STUN,
)
async def type_preference_of_a_reflexive_candidate(trial: Trial) -> None:
    """The type preference of a server-reflexive candidate over UDP is 100."""
    trial.stun_server()
    await trial.create(UDP)
    found = trial.candidate(type="srflx")
    require(found.type_preference == 100, f"it is {found.type_preference} in {found.text}")


# Relayed candidates (RFC 8445 s5.1.1.2, s7.2.1)


@case(8445, "5.1.1.2", SHOULD, "An ICE agent SHOULD gather server-reflexive and relayed candidates.", needs=_TURN)
async def a_relayed_candidate(trial: Trial) -> None:
    """The relayed address of an allocation becomes a candidate."""
    server = trial.turn_server()
    await trial.create(UDP)
    found = trial.candidate(type="relay")
    require(found.address == server.relayed[UDP_RELAYED], found.text)


@case(8445, "5.1.1.2", SHOULD, "An ICE agent SHOULD gather server-reflexive and relayed candidates.", needs=_TURN)
async def a_relayed_candidate_of_a_server_over_tcp(trial: Trial) -> None:
    """The same for a server that is reached over TCP."""
    server = trial.turn_server("tcp")
    await trial.create(UDP)
    found = trial.candidate(type="relay")
    require(found.address == server.relayed[UDP_RELAYED], found.text)


@case(
    8445,
    "5.1.1.2",
    SHOULD,
    "Allocate requests SHOULD be authenticated using a long-term credential obtained by the client through some other "
    "means.",
    needs=_TURN,
)
async def allocations_are_authenticated(trial: Trial) -> None:
    """After the server's realm and nonce, the Allocate request has them, the user name, and integrity made of all."""
    server = trial.turn_server()
    await trial.create(UDP)
    _, request = await server.asked(Method.ALLOCATE)
    for attribute in (Attr.USERNAME, Attr.REALM, Attr.NONCE):
        require(request.has(attribute), f"it has no {attribute.name}")


@case(
    6544,
    "4.2",
    SHOULD,
    "However, it is RECOMMENDED that the relayed candidates are still preferred lower than the other candidate types.",
    needs=(*_TURN, Capability.STUN),
)
async def relayed_candidates_come_last(trial: Trial) -> None:
    """The relayed candidate has the lowest priority of all."""
    trial.stun_server()
    trial.turn_server()
    await trial.create(UDP)
    relayed, reflexive = trial.candidate(type="relay"), trial.candidate(type="srflx")
    require(relayed.priority < reflexive.priority, f"{relayed.text} comes before {reflexive.text}")


@case(
    8839,
    "5.1",
    MUST,
    "If the candidate is relayed, <rel-addr> and <rel-port> are equal to the mapped address in the Allocate response "
    "that provided the client with that relayed candidate",
    needs=_TURN,
)
async def related_address_of_a_relayed_candidate(trial: Trial) -> None:
    """The related address of a relayed candidate is the mapped one of its allocation, or hides it."""
    server = trial.turn_server()
    server.mapped = lambda _: (NAT, 9876)
    await trial.create(UDP)
    found = trial.candidate(type="relay")
    require((found.raddr, found.rport) in ((NAT, 9876), ("0.0.0.0", 9)), found.text)  # noqa: S104 - hidden


@case(
    8445,
    "7.2.1",
    MUST,
    "If the connectivity check is being sent using a relayed local candidate, the client MUST create a permission "
    "first if it has not already created one previously.",
    needs=_TURN,
)
async def a_permission_comes_before_the_check(trial: Trial) -> None:
    """Nothing is sent to a peer through the relay before there is a permission for it."""
    server = await _relaying(trial)
    await server.asked(*_PERMITTING)
    sent = [packet for packet in server.udp.inbox if _is_for_a_peer(packet)]
    asked = [packet for packet in server.udp.inbox if packet.message and packet.message.method in _PERMITTING]
    require(not sent or sent[0].at > asked[0].at, "a check went out without a permission")


@case(
    8445,
    "7.2.1",
    MUST,
    "The permission MUST be created towards the IP address of the remote candidate.",
    needs=_TURN,
)
async def the_permission_is_for_the_remote_candidate(trial: Trial) -> None:
    """The permission is for the address of the peer's candidate."""
    server = await _relaying(trial)
    _, request = await server.asked(*_PERMITTING)
    hosts = {peer[0] for peer in request.peers if peer is not None}
    require(_PEER[0] in hosts, f"it is for {sorted(hosts)}")


@case(
    8445,
    "7.2.4",
    MUST,
    "A connectivity check is generated by sending a Binding request from the base associated with a local candidate to "
    "a remote candidate.",
    needs=_TURN,
)
async def checks_go_through_the_relay(trial: Trial) -> None:
    """A check is sent from the relayed candidate to the peer's: by a Send indication, or on a channel."""
    server = await _relaying(trial)
    found = await trial.wire.find(lambda: next((each for each in server.udp.inbox if _is_for_a_peer(each)), None))
    require(found is not None, "no check came to the server for the peer")


async def _relaying(trial: Trial) -> TurnServer:
    """The agent has a relayed candidate, and a peer that only a relay reaches."""
    server = trial.turn_server()
    await trial.create(UDP, controlling=True)
    trial.candidate(type="relay")
    await trial.introduce(trial.peer.candidate(_PEER), end=False)
    return server


def _is_for_a_peer(packet: Packet) -> bool:
    """A Send indication, or ChannelData."""
    if packet.message is None:
        return bool(packet.data) and packet.data[0] >> 6 == 1
    return packet.message.method == Method.SEND


# Server-reflexive TCP candidates (RFC 6544 s4.2, s5.1, s5.2, s11.2)

_FROM_THE_PORT: Final = (
    "In particular, ICE requires an agent to obtain a local TCP candidate, bound to a local IP and port, then initiate "
    "a TCP connection from that local port (e.g., to the STUN server in order to obtain server reflexive candidates, "
)


async def _reflexive_from_its_port(trial: Trial, kind: CandidateKind) -> None:
    server = trial.stun_server()
    await trial.create(kind)
    host, reflexive = trial.candidate(kind), trial.candidate(kind, type="srflx")
    sources = {connection.far for connection in server.connections}
    require(host.address in sources, f"the connections came from {sources}, the candidate is {host.text}")
    require(reflexive.address == (NAT, host.port), f"{reflexive.text}, but the server said {NAT}:{host.port}")


@case(6544, "5.2", MUST, _FROM_THE_PORT + "[...])", needs=_STUN_PASSIVE)
async def the_passive_port_asks_the_server(trial: Trial) -> None:
    """The server is asked over TCP from the passive candidate's own port, and what it says is a candidate."""
    await _reflexive_from_its_port(trial, PASSIVE)


@case(6544, "5.2", MUST, _FROM_THE_PORT + "[...])", needs=_STUN_SO)
async def the_so_port_asks_the_server(trial: Trial) -> None:
    """The same for the simultaneous-open candidate."""
    await _reflexive_from_its_port(trial, SO)


@case(
    6544,
    "4.1",
    SHOULD,
    "The agent SHOULD then obtain server reflexive, NAT-assisted, and/or UDP-tunneled candidates (see Section 5.2, "
    "Section 5.3, and Section 5.4).",
    needs=(*_STUN_ACTIVE, Capability.TCP_SO),
)
async def a_reflexive_active_candidate(trial: Trial) -> None:
    """There is an active candidate with the address of the NAT, and port 9."""
    trial.stun_server()
    await trial.create(ACTIVE, SO)
    found = trial.candidate(ACTIVE, type="srflx")
    require(found.address == (NAT, 9), found.text)


@case(
    8489,
    "6.2.2",
    MUST,
    "Consequently, no framing protocols are used in connections to those servers.",
    needs=_STUN_PASSIVE,
)
async def servers_get_no_frames(trial: Trial) -> None:
    """What comes to a STUN server over TCP begins with the STUN header, not with a length."""
    server = trial.stun_server()
    await trial.create(PASSIVE)
    channel, _ = await server.asked(Method.BINDING)
    first = channel.inbox[0]
    require(first.message is not None and first.message.kind is Kind.REQUEST, f"it begins with {first.data[:8].hex()}")


@case(
    6544,
    "4.2",
    SHOULD,
    "For the NAT-assisted and server reflexive candidates, the RECOMMENDED values are: 6 for S-O, 4 for active, and 2 "
    "for passive.",
    needs=_STUN_PASSIVE,
)
async def direction_preferences_of_reflexive_candidates(trial: Trial) -> None:
    """The direction preference of server-reflexive candidates is 6 for so, 4 for active and 2 for passive ones."""
    trial.stun_server()
    await trial.create_able(ACTIVE, PASSIVE, SO)
    wanted = {SO: 6, ACTIVE: 4, PASSIVE: 2}
    reflexive = [each for each in trial.candidates if each.type == "srflx"]
    require(reflexive, f"no server-reflexive candidate in {trial.told.candidates}")
    for candidate in reflexive:
        found = candidate.local_preference >> 13
        require(found == wanted.get(CandidateKind(candidate.kind)), f"it is {found} in {candidate.text}")


@case(
    6544,
    "4.1",
    MUST,
    "Once the candidates have been obtained, the agent MUST keep the TCP connections open until ICE processing has "
    "completed.",
    needs=_STUN_PASSIVE,
)
async def connections_to_servers_stay_open(trial: Trial) -> None:
    """Before ICE has completed, no connection to a STUN server is closed."""
    server = trial.stun_server()
    await trial.create(PASSIVE)
    trial.candidate(PASSIVE, type="srflx")
    await trial.pause(2 * QUIET)
    ended = [connection.ended for connection in server.connections if connection.ended]
    require(not ended, f"of {len(server.connections)} connections {len(ended)} have ended")


@case(
    6544,
    "11.2",
    SHOULD,
    "If the agent opened a connection to a STUN server, or another similar server, for the purposes of gathering a "
    "server reflexive candidate, that connection SHOULD be closed by the client once ICE processing has completed.",
    needs=_STUN_PASSIVE,
    scaled=True,
)
async def connections_to_servers_are_closed_at_the_end(trial: Trial) -> None:
    """When a pair has been selected, the connections to the STUN server are closed."""
    server = trial.stun_server()
    await trial.join_tcp(PASSIVE)
    require(server.connections, "there were none")
    await _all_end(trial, server)


async def _all_end(trial: Trial, server: StunServer) -> None:
    """The connections to a server are closed within the time that an agent lets pass after the conclusion."""
    for connection in server.connections:
        require(await connection.end(trial.seconds(10) + trial.wire.patience), f"{connection.far} is still connected")


@case(
    6544,
    "11.2",
    SHOULD,
    "Otherwise, the connection to the TURN server SHOULD be closed once ICE processing completes.",
    needs=(Capability.TCP_PASSIVE, Capability.UDP, Capability.TURN),
    scaled=True,
)
async def connections_to_relays_are_closed_at_the_end(trial: Trial) -> None:
    """When a pair without relays has been selected, the connection to the TURN server is closed."""
    server = trial.turn_server("tcp")
    await trial.join()
    require(server.connections, "there were none")
    await _all_end(trial, server)
