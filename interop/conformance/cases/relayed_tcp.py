"""Relays for TCP (RFC 6062) and their candidates (RFC 6544 s4.1, s5.2)."""

from __future__ import annotations

import secrets
from typing import Final

from interop.conformance.candidate_lines import CandidateKind
from interop.conformance.case import Level, case, require
from interop.conformance.peer import CHECK, answer_to
from interop.conformance.servers import TCP_RELAYED, Method, ServerConnection, TurnServer
from interop.conformance.stun import Attr, Message
from interop.conformance.target import Capability
from interop.conformance.trial import ACTIVE, PASSIVE, Trial
from interop.conformance.wire import QUIET, Channel

MUST, SHOULD = Level.MUST, Level.SHOULD

_RELAYS: Final = (Capability.TCP_PASSIVE, Capability.TURN_TCP)
_DIALS: Final = (Capability.TCP_ACTIVE, *_RELAYS)

_PEER: Final = ("203.0.113.9", 4711)
"""Where a peer is that is reached through the relay only."""


async def _allocated(trial: Trial) -> tuple[TurnServer, Channel, Message]:
    """The agent has asked for a relayed address for TCP; its control connection, and the request."""
    server = trial.turn_server("tcp")
    await trial.create_able(ACTIVE, PASSIVE)
    while True:
        channel, request = await server.asked(Method.ALLOCATE)
        if (request.get(Attr.REQUESTED_TRANSPORT) or b"\0")[0] == TCP_RELAYED:
            return server, channel, request


async def _attempted(trial: Trial) -> tuple[TurnServer, Channel, bytes]:
    """A peer with a permission has connected to the relayed address; the control connection, and the identifier."""
    server, control, _ = await _allocated(trial)
    await trial.introduce(trial.peer.candidate((_PEER[0], 9), tcptype="active"), end=False)
    await server.asked(Method.CREATE_PERMISSION)
    identifier = secrets.token_bytes(4)
    server.peer_connects(control, _PEER, identifier)
    return server, control, identifier


async def _bound(trial: Trial) -> ServerConnection:
    """The same, and the agent has bound a connection to it."""
    server, _, _ = await _attempted(trial)
    channel, _ = await server.asked(Method.CONNECTION_BIND)
    assert isinstance(channel, ServerConnection)
    return channel


# Allocations (RFC 6062 s4.1)


@case(
    6544,
    "4.1",
    SHOULD,
    "Next, agents SHOULD obtain passive (and possibly S-O) relayed candidates for each component as described in "
    "Section 5.5.",
    needs=_RELAYS,
)
async def a_relayed_passive_candidate(trial: Trial) -> None:
    """The relayed address of a TCP allocation becomes a passive candidate."""
    server, _, _ = await _allocated(trial)
    found = trial.candidate(PASSIVE, type="relay")
    require(found.address == server.relayed[TCP_RELAYED], found.text)


@case(
    6544,
    "4.2",
    SHOULD,
    "It is RECOMMENDED that the host, UDP-tunneled, and relayed TCP candidates have the direction-pref assigned as "
    "follows: 6 for active, 4 for passive, and 2 for S-O.",
    needs=_RELAYS,
)
async def direction_preferences_of_relayed_candidates(trial: Trial) -> None:
    """The direction preference of relayed candidates is 6 for active and 4 for passive ones."""
    await _allocated(trial)
    wanted = {ACTIVE: 6, PASSIVE: 4}
    trial.candidate(PASSIVE, type="relay")
    for candidate in trial.candidates:
        if candidate.type == "relay":
            found = candidate.local_preference >> 13
            require(found == wanted.get(CandidateKind(candidate.kind)), f"it is {found} in {candidate.text}")


@case(
    6062,
    "4.1",
    MUST,
    "That request MUST contain a REQUESTED-TRANSPORT attribute whose value is 6, corresponding to TCP.",
    needs=_RELAYS,
)
async def allocations_for_tcp(trial: Trial) -> None:
    """There is an Allocate request with REQUESTED-TRANSPORT 6."""
    await _allocated(trial)


@case(
    6062,
    "4.1",
    MUST,
    "To create a TCP allocation, a client MUST initiate a new TCP or TLS connection to its TURN server, identical to "
    "the TCP or TLS procedures defined in [RFC5766].",
    needs=_RELAYS,
)
async def allocations_for_tcp_go_over_tcp(trial: Trial) -> None:
    """The Allocate request comes over a connection, and not from the port of a candidate."""
    _, channel, _ = await _allocated(trial)
    require(isinstance(channel, ServerConnection), "it came over UDP")
    ports = {each.port for each in trial.candidates if each.type == "host"}
    require(channel.far[1] not in ports, f"it came from port {channel.far[1]}, which is a candidate's")


@case(
    6062,
    "4.1",
    MUST,
    "The request MUST NOT include a DONT-FRAGMENT, RESERVATION-TOKEN, or EVEN-PORT attribute.",
    needs=_RELAYS,
)
async def allocations_for_tcp_ask_for_nothing_of_udp(trial: Trial) -> None:
    """The Allocate request has none of the attributes that are for UDP."""
    _, _, request = await _allocated(trial)
    for attribute in (Attr.DONT_FRAGMENT, Attr.RESERVATION_TOKEN, Attr.EVEN_PORT):
        require(not request.has(attribute), f"it has {attribute.name}")


# Permissions (RFC 6544 s5.2)


@case(
    6544,
    "5.2",
    MUST,
    "Furthermore, some techniques (e.g., TURN relaying) require knowing the IP address of the peer's active candidates "
    "beforehand, so active server reflexive candidates are needed for such techniques to function properly.",
    needs=_RELAYS,
)
async def active_candidates_of_the_peer_get_permissions(trial: Trial) -> None:
    """The server is asked to let in the address of the peer's active candidate, though it makes no pair to dial."""
    server, _, _ = await _allocated(trial)
    await trial.introduce(trial.peer.candidate((_PEER[0], 9), tcptype="active"), end=False)
    _, request = await server.asked(Method.CREATE_PERMISSION)
    hosts = {peer[0] for peer in request.peers if peer is not None}
    require(_PEER[0] in hosts, f"it is for {sorted(hosts)}")


# Connections to the peer (RFC 6062 s4.3)


@case(
    6062,
    "4.3",
    MUST,
    "To initiate a TCP connection to a peer, a client MUST send a Connect request over the control connection for the "
    "desired allocation.",
    needs=_DIALS,
)
async def a_connect_request_on_the_control_connection(trial: Trial) -> None:
    """A passive candidate of the peer is dialled by a Connect request on the connection of the allocation."""
    server, control, _ = await _allocated(trial)
    channel, _ = await _dialled(trial, server)
    require(channel is control, "it came on another connection")


@case(
    6062,
    "4.3",
    MUST,
    "The Connect request MUST include an XOR-PEER-ADDRESS attribute containing the transport address of the peer to "
    "which a connection is desired.",
    needs=_DIALS,
)
async def a_connect_request_names_the_peer(trial: Trial) -> None:
    """It has the address and the port of the candidate."""
    server, _, _ = await _allocated(trial)
    _, request = await _dialled(trial, server)
    require(request.peers == [_PEER], f"it has {request.peers}")


@case(
    6062,
    "4.3",
    MUST,
    "The client MUST initiate a new TCP connection to the server, utilizing the same destination transport address to "
    "which the control connection was established.",
    needs=_DIALS,
)
async def the_bind_comes_on_a_new_connection(trial: Trial) -> None:
    """After the Connect response a ConnectionBind request comes on a connection of its own."""
    server, control, _ = await _allocated(trial)
    await _dialled(trial, server)
    channel, _ = await server.asked(Method.CONNECTION_BIND)
    require(channel is not control, "it came on the control connection")


@case(
    6062,
    "4.3",
    MUST,
    "That request MUST include the CONNECTION-ID attribute, echoed from the Connect Success response.",
    needs=_DIALS,
)
async def the_bind_echoes_the_identifier(trial: Trial) -> None:
    """The ConnectionBind request has the CONNECTION-ID of the Connect response."""
    server, _, _ = await _allocated(trial)
    _, request = await _dialled(trial, server)
    _, bind = await server.asked(Method.CONNECTION_BIND)
    found = bind.get(Attr.CONNECTION_ID)
    require(found == server.connection_id(request), f"it has {found!r}")


@case(
    6062,
    "4.3",
    MUST,
    "The client MAY retry with the same XOR-PEER-ADDRESS attribute, but MUST wait at least 10 seconds.",
    needs=_DIALS,
)
async def a_failed_connect_is_not_repeated_at_once(trial: Trial) -> None:
    """After the error 447 no other Connect request for the peer comes in the next seconds."""
    server, _, _ = await _allocated(trial)
    server.refuses[Method.CONNECT] = 447
    await _dialled(trial, server)
    await trial.pause(3.0)
    again = [each for _, each in server.requests if each.message and each.message.method == Method.CONNECT]
    heeded = [each for each in again if each.message and server.heeds(each.message)]
    require(len(heeded) == 1, f"{len(heeded)} came within 3 s")


async def _dialled(trial: Trial, server: TurnServer) -> tuple[Channel, Message]:
    """The Connect request for a passive candidate of the peer."""
    await trial.introduce(trial.peer.candidate(_PEER, tcptype="passive"), end=False)
    return await server.asked(Method.CONNECT)


# Connections of the peer (RFC 6062 s4.4)


@case(
    6062,
    "4.4",
    MUST,
    "If the client wishes to accept this connection, it MUST initiate a new TCP connection to the server, utilizing "
    "the same destination transport address to which the control connection was established.",
    needs=_RELAYS,
)
async def an_attempt_is_accepted_on_a_new_connection(trial: Trial) -> None:
    """After a ConnectionAttempt indication a ConnectionBind request comes on a connection of its own."""
    server, control, _ = await _attempted(trial)
    channel, _ = await server.asked(Method.CONNECTION_BIND)
    require(channel is not control, "it came on the control connection")


@case(
    6062,
    "4.4",
    MUST,
    "That request MUST include the CONNECTION-ID attribute, echoed from the ConnectionAttempt indication.",
    needs=_RELAYS,
)
async def the_bind_echoes_the_attempt(trial: Trial) -> None:
    """The ConnectionBind request has the CONNECTION-ID of the indication."""
    server, _, identifier = await _attempted(trial)
    _, bind = await server.asked(Method.CONNECTION_BIND)
    require(bind.get(Attr.CONNECTION_ID) == identifier, f"it has {bind.get(Attr.CONNECTION_ID)!r}")


# Data (RFC 6062 s4.5)

_AS_IS: Final = (
    "Once a client data connection is established, data sent on it by the client will be relayed as-is to the peer by "
    "the server."
)


@case(6062, "4.5", MUST, _AS_IS, needs=_RELAYS)
async def the_peer_is_answered_on_the_data_connection(trial: Trial) -> None:
    """A check of the peer that comes on the data connection is answered there, framed as on any other (RFC 6544)."""
    connection = await _bound(trial)
    await trial.succeeds(connection)


@case(6062, "4.5", MUST, _AS_IS, needs=_RELAYS)
async def the_peer_is_checked_on_the_data_connection(trial: Trial) -> None:
    """The agent's own check goes on the data connection, and their pair can be selected."""
    connection = await _bound(trial)
    trial.peer.answers(connection)
    await trial.succeeds(connection)
    await connection.expect(CHECK)
    await trial.select(connection)
    await trial.flows(connection)


@case(
    6544,
    "11.2",
    MUST,
    "If the agent opened a connection to a TURN server for the purposes of gathering a relayed candidate, that "
    "connection MUST be kept open by the client for the duration of the media session if a relayed candidate from the "
    "TURN server was selected by ICE.",
    needs=_RELAYS,
    scaled=True,
)
async def the_control_connection_of_a_selected_relay_stays(trial: Trial) -> None:
    """Long after a pair of the relayed candidate was selected, the connection of its allocation is open."""
    server, control, identifier = await _attempted(trial)
    channel, bind = await server.asked(Method.CONNECTION_BIND)
    require(bind.get(Attr.CONNECTION_ID) == identifier, f"it has {bind.get(Attr.CONNECTION_ID)!r}")
    trial.peer.answers(channel)
    await trial.select(channel)
    await trial.pause(trial.seconds(10))
    assert isinstance(control, ServerConnection)
    require(not control.ended, f"the connection was {control.ended}")


@case(
    6062,
    "4.5",
    MUST,
    "Similarly, data sent by the peer to the server will be relayed as-is to the client over the data connection.",
    needs=_RELAYS,
)
async def what_comes_with_the_binding_is_not_lost(trial: Trial) -> None:
    """A check of the peer right behind the ConnectionBind response, in the same segment, is answered."""
    server, _, _ = await _attempted(trial)
    request = trial.peer.request()
    server.after_binding = len(bytes(request)).to_bytes(2, "big") + bytes(request)
    channel, _ = await server.asked(Method.CONNECTION_BIND)
    assert isinstance(channel, ServerConnection)
    await channel.expect(answer_to(request))


@case(
    6062,
    "4.3",
    MUST,
    "However, Connect requests with the same XOR-PEER-ADDRESS parameter MUST NOT be sent simultaneously.",
    needs=_DIALS,
)
async def one_connect_request_at_a_time(trial: Trial) -> None:
    """While a Connect request is not answered, no other for the same peer comes."""
    server, _, _ = await _allocated(trial)
    server.ignores.add(Method.CONNECT)
    await _dialled(trial, server)
    await trial.introduce(trial.peer.candidate(_PEER, tcptype="passive", foundation="2"), end=False, connect=False)
    await trial.pause(2 * QUIET)
    sent = {
        each.message.transaction_id
        for _, each in server.requests
        if each.message and each.message.method == Method.CONNECT and server.heeds(each.message)
    }
    require(len(sent) == 1, f"{len(sent)} are under way")
