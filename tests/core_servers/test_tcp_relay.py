"""Relayed TCP candidates in the check list: Connect, ConnectionAttempt and ConnectionBind (RFC 6062)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from candidates.candidate import CandidateType, TcpType
from candidates.parameters import IceParameters
from ice_tcp import stun
from ice_tcp.core.commands import (
    Close,
    LegId,
    LegTransport,
    OpenLeg,
    SendStream,
    StreamId,
    TcpPath,
    TurnIntoStream,
    Use,
)
from ice_tcp.core.events import AgentState, PairState, Role
from ice_tcp.core.trace import RequestReceived
from ice_tcp.core.verdicts import Verdict
from ice_tcp.server.peers import PeerPolicy
from ice_tcp.stun import AttributeType, ErrorNumber, MessageClass, Method
from tests.core.net import AWAY, DELAY, address, tcp_candidate, tcp_only
from tests.core.peer import Peer
from tests.core_servers.world import HOST, Client, Scripted, Server, World, served, turn

OTHER_PARAMETERS = IceParameters("again", "anotherPasswordOfThePeer", ("trickle", "ice2"))
ENTRY = turn(f"turn:{HOST}?transport=tcp")
RELAY_ONLY: dict[str, Any] = {
    "candidate_types": ["relay"],
    "address_families": ["ipv4"],
    "transports": ["tcp"],
}


def relay_only(*tcptypes: str, **sections: Any) -> tuple[World, Server, Client]:
    """A client that has nothing but a TCP relay, and knows what it is."""
    world = World()
    server = world.server()
    keys = {**RELAY_ONLY, "tcp_types": list(tcptypes) or ["active", "passive"], **sections}
    client = world.client(served(ENTRY, **keys))
    client.gather()
    world.run(0.2)
    return world, server, client


def data_legs(client: Client) -> list[OpenLeg]:
    """The connections that became, or were to become, those of peers."""
    bound = {sent.leg for sent in client.asked(Method.CONNECTION_BIND)}
    return [each for each in client.opened_legs() if each.leg in bound]


def spare_legs(client: Client) -> list[LegId]:
    """Those that are open for a peer to come."""
    bound = {each.leg for each in data_legs(client)}
    return [each.leg for each in client.opened_legs()[1:] if each.leg not in bound and each.leg in client.legs]


def meets(
    world: World, ours: list[str], theirs: list[str], *, direct: bool, role: Role = Role.CONTROLLED
) -> tuple[Client, Client]:
    """A client with a TCP relay only, and one with either the same or host candidates only."""
    one = world.client(served(ENTRY, **{**RELAY_ONLY, "tcp_types": ours}))
    policy = (
        served(transports=["tcp"], tcp_types=theirs) if direct else served(ENTRY, **{**RELAY_ONLY, "tcp_types": theirs})
    )
    other = world.client(policy, role, hosts=[AWAY], seed=2)
    world.connect(one, other)
    world.run(8)
    return one, other


@pytest.mark.parametrize(
    ("ours", "theirs"), [("active", "passive"), ("passive", "active")], ids=["connect", "connection attempt"]
)
@pytest.mark.parametrize("direct", [True, False], ids=["peer direct", "peer relayed"])
def test_relayed_connections_carry_the_session(ours: str, theirs: str, direct: bool) -> None:
    world = World()
    server = world.server()
    one, other = meets(world, [ours], [theirs], direct=direct)
    assert one.state is other.state is AgentState.COMPLETED
    for client in (one, other):
        assert isinstance(client.used, TcpPath)
    path = one.agent.selected_path()
    assert path is not None
    assert path.local.type is CandidateType.RELAY and path.local.tcptype is TcpType(ours)
    assert path.remote.tcptype is TcpType(theirs)
    assert len(server.connects) == (1 if ours == "active" or not direct else 0)


def test_all_types_at_once_meet_too() -> None:
    """Both servers' Connects may cross: whatever the server says of the second (446), one of them carries the data."""
    world = World()
    world.server()
    one, other = meets(world, ["active", "passive"], ["active", "passive"], direct=False)
    assert one.state is other.state is AgentState.COMPLETED


def test_a_connection_to_the_server_becomes_the_peers_right_when_it_is_bound() -> None:
    """RFC 6062 s4.3: what follows the response is the peer's: no message of ours may come before it, none of the
    server's may be taken for the peer's."""
    world = World()
    world.server()
    one, _ = meets(world, ["active"], ["passive"], direct=True)
    (turned,) = one.all_commands(TurnIntoStream)
    commands = [command for _, command in one.commands]
    at = commands.index(turned)
    first = next(each for each in commands if isinstance(each, SendStream))
    assert first.stream == turned.stream
    assert at < commands.index(first)
    assert commands[at - 1] != first
    assert not [each for each in commands[at:] if isinstance(each, Close) and each.handle == turned.leg]


def test_what_a_peer_says_before_the_connection_is_bound_is_not_lost() -> None:
    """The peer's check waits in the server until ConnectionBind, and comes right behind its response."""
    world = World()
    world.server()
    one, other = meets(world, ["passive"], ["active"], direct=True)
    (stream,) = one.streams.keys() - one.legs.keys()
    bound_at = next(at for at, command in one.commands if isinstance(command, TurnIntoStream))
    answered = next(sent for sent in one.sent if sent.is_response)
    assert answered.at == pytest.approx(bound_at)
    assert one.used == TcpPath(stream)
    assert other.state is AgentState.COMPLETED


def test_data_connections_go_to_the_same_server_the_same_way() -> None:
    """RFC 6062 s4.3: the transport of the control connection."""
    world = World()
    world.server()
    keys = {**RELAY_ONLY, "tcp_types": ["active"], "ports": {"tcp": "50000-50100"}}
    one = world.client(served(ENTRY, **keys))
    other = world.client(served(transports=["tcp"], tcp_types=["passive"]), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.connect(one, other)
    world.run(1)
    control, data = one.opened_legs()
    assert (data.host, data.remote, data.transport, data.tls) == (
        *(control.host, control.remote, control.transport, control.tls),
    )
    assert data.ports == control.ports == (50000, 50100)
    assert one.leg_locals[data.leg] != one.leg_locals[control.leg]


def test_permissions_are_asked_for_active_remotes_too() -> None:
    """RFC 6544 s5.2: or the relay refuses their connections."""
    world, _, client = relay_only("passive")
    client.hear_of(tcp_candidate(TcpType.ACTIVE))
    world.run(0.1)
    (asked,) = client.asked(Method.CREATE_PERMISSION)
    assert asked.message.xor_peer_address == (AWAY, 0)


def test_no_connect_before_the_permission() -> None:
    world, _, client = relay_only("active")
    Peer(client).introduce(tcp_candidate(TcpType.PASSIVE))
    world.run(0.015)
    assert client.asked(Method.CONNECT) == []
    world.run(0.015)
    assert len(client.asked(Method.CONNECT)) == 1


def test_a_refused_permission_fails_the_pair() -> None:
    world = World()
    world.server(peers=PeerPolicy())
    client = world.client(served(ENTRY, **{**RELAY_ONLY, "tcp_types": ["active"]}))
    client.gather()
    world.run(0.2)
    remote = tcp_candidate(TcpType.PASSIVE, host="10.0.0.1")
    Peer(client).introduce(remote)
    world.run(0.2)
    assert client.pair_events(remote)[-1] == (PairState.FAILED, Verdict.NO_PERMISSION)
    assert client.asked(Method.CONNECT) == []


def test_a_peer_that_refuses_fails_the_pair_with_its_reason() -> None:
    """447 (Connection Timeout or Failure)."""
    world, _, client = relay_only("active")
    other = world.client(tcp_only("passive"), hosts=[AWAY], seed=2)
    remote = tcp_candidate(TcpType.PASSIVE)
    Peer(client).introduce(remote)
    world.run(0.5)
    assert other.streams == {}
    assert client.pair_events(remote)[-1] == (PairState.FAILED, Verdict.RELAY_NOT_CONNECTED)


def test_a_peer_that_does_not_answer_costs_the_time_of_a_connection_attempt() -> None:
    world, server, client = relay_only("active")
    remote = tcp_candidate(TcpType.PASSIVE)
    Peer(client).introduce(remote)
    world.run(client.policy.timeouts.connect + 1)
    assert client.pair_events(remote)[-1] == (PairState.FAILED, Verdict.TIMED_OUT)
    assert server.connects == [remote.address]


def test_after_a_447_the_next_connect_to_the_peer_waits_ten_seconds() -> None:
    """RFC 6062 s4.3, MUST; here after a restart."""
    world, _, client = relay_only("active")
    world.client(tcp_only("passive"), hosts=[AWAY], seed=2)
    remote = tcp_candidate(TcpType.PASSIVE)
    Peer(client).introduce(remote)
    world.run(1)
    client.restart()
    again = Peer(client, parameters=OTHER_PARAMETERS)
    again.introduce(remote)
    world.run(14)
    first, second = (sent.at for sent in client.asked(Method.CONNECT))
    assert second - first >= 10


def test_never_two_connects_to_one_peer_at_once() -> None:
    """RFC 6062 s4.3: also where two generations want it; the one that runs is the new one's."""
    world, server, client = relay_only("active")
    remote = tcp_candidate(TcpType.PASSIVE)
    Peer(client).introduce(remote)
    world.run(1)
    client.restart()
    Peer(client, parameters=OTHER_PARAMETERS).introduce(remote)
    world.run(10)
    assert len(client.asked(Method.CONNECT)) == 1
    assert server.connects == [remote.address]


def test_a_passive_relay_takes_whom_it_permitted_only() -> None:
    world, server, client = relay_only("passive")
    Peer(client).introduce(tcp_candidate(TcpType.ACTIVE))
    world.run(0.1)
    (relayed,) = server.relayed
    assert server.take_syn(relayed, address("198.51.100.99", 1234)) is None
    assert server.take_syn(relayed, address(AWAY, 1234)) is not None
    world.run(0.2)
    assert len(data_legs(client)) == 1


def test_a_peer_that_the_policy_denies_gets_no_connection() -> None:
    world = World()
    server = world.server()
    keys = {**RELAY_ONLY, "tcp_types": ["passive"], "remote": {"deny": [{"type": "prflx"}]}}
    client = world.client(served(ENTRY, **keys))
    client.gather()
    world.run(0.2)
    Peer(client).introduce(tcp_candidate(TcpType.ACTIVE))
    world.run(0.1)
    (relayed,) = server.relayed
    server.take_syn(relayed, address(AWAY, 1234))
    world.run(0.2)
    assert data_legs(client) == []


def test_peers_that_nobody_authenticates_are_closed() -> None:
    """``limits.accepted_streams`` and ``timeouts.idle`` hold for relayed connections, too."""
    world, server, client = relay_only("passive", limits={"accepted_streams": 2})
    Peer(client).introduce(tcp_candidate(TcpType.ACTIVE))
    world.run(0.1)
    (relayed,) = server.relayed
    for port in (1, 2, 3):
        assert server.take_syn(relayed, address(AWAY, port)) is not None
        world.run(0.2)
    assert len(client.all_commands(TurnIntoStream)) == 2
    world.run(client.policy.timeouts.idle + 1)
    assert client.streams.keys() == set(map(StreamId, client.legs))


# -- a server that the test speaks for


def scripted() -> tuple[World, Scripted, Client, dict[int, Callable[[stun.Message], list[bytes]]]]:
    """A server whose answers by method the test may replace, and a client with an active relay there."""
    world = World()
    server = world.scripted()

    def ok(*attributes: stun.Attribute) -> Callable[[stun.Message], list[bytes]]:
        return lambda request: [
            stun.encode(MessageClass.SUCCESS, request.method, request.transaction_id, list(attributes))
        ]

    def allocated(request: stun.Message) -> list[bytes]:
        id_ = request.transaction_id
        attributes = [stun.xor_relayed_address("198.51.100.9", 50_000, id_), stun.lifetime(600)]
        return [stun.encode(MessageClass.SUCCESS, request.method, id_, attributes)]

    answers: dict[int, Callable[[stun.Message], list[bytes]]] = {
        Method.ALLOCATE: allocated,
        Method.CREATE_PERMISSION: ok(),
        Method.REFRESH: ok(),
        Method.CONNECT: ok(stun.connection_id(7)),
        Method.CONNECTION_BIND: ok(),
    }
    server.answer = lambda request: answers[request.method](request)
    client = world.client(served(ENTRY, **{**RELAY_ONLY, "tcp_types": ["active"]}))
    client.gather()
    world.run(0.2)
    return world, server, client, answers


def refusing(code: int) -> Callable[[stun.Message], list[bytes]]:
    return lambda request: [
        stun.encode(MessageClass.ERROR, request.method, request.transaction_id, [stun.error_code(code)])
    ]


def nothing(_request: stun.Message) -> list[bytes]:
    return []


@pytest.mark.parametrize(
    ("method", "code", "verdict"),
    [
        (Method.CONNECT, ErrorNumber.CONNECTION_ALREADY_EXISTS, Verdict.RELAY_NOT_CONNECTED),
        (Method.CONNECT, ErrorNumber.FORBIDDEN, Verdict.NO_PERMISSION),
        (Method.CONNECT, ErrorNumber.CONNECTION_TIMEOUT_OR_FAILURE, Verdict.RELAY_NOT_CONNECTED),
        (Method.CONNECTION_BIND, ErrorNumber.SERVER_ERROR, Verdict.RELAY_NOT_CONNECTED),
    ],
)
def test_refusals_fail_the_pair(method: Method, code: int, verdict: Verdict) -> None:
    world, _, client, answers = scripted()
    answers[method] = refusing(code)
    remote = tcp_candidate(TcpType.PASSIVE)
    Peer(client).introduce(remote)
    world.run(1)
    assert client.pair_events(remote)[-1] == (PairState.FAILED, verdict)
    assert len(client.legs) - len(spare_legs(client)) == 1  # the control connection


def test_a_connection_bind_that_nobody_answers_fails_with_the_attempt() -> None:
    world, _, client, answers = scripted()
    answers[Method.CONNECTION_BIND] = nothing
    remote = tcp_candidate(TcpType.PASSIVE)
    Peer(client).introduce(remote)
    world.run(client.policy.timeouts.connect + 1)
    assert client.pair_events(remote)[-1] == (PairState.FAILED, Verdict.TIMED_OUT)
    assert len(client.legs) == 1


def test_a_data_connection_that_the_server_closes_fails_the_pair() -> None:
    world, _, client, answers = scripted()
    answers[Method.CONNECTION_BIND] = nothing
    remote = tcp_candidate(TcpType.PASSIVE)
    Peer(client).introduce(remote)
    world.run(0.2)
    (data,) = data_legs(client)
    client.ends(StreamId(data.leg))
    assert client.pair_events(remote)[-1] == (PairState.FAILED, Verdict.CLOSED)


def test_losing_the_control_connection_fails_what_is_under_way() -> None:
    world, _, client, answers = scripted()
    answers[Method.CONNECTION_BIND] = nothing
    remote = tcp_candidate(TcpType.PASSIVE)
    Peer(client).introduce(remote)
    world.run(0.2)
    control, data = list(client.legs)
    client.loses_leg(control)
    assert client.pair_events(remote)[-1] == (PairState.FAILED, Verdict.RELAY_LOST)
    assert client.legs == {}
    assert Close(data) in client.all_commands(Close)


def test_a_pair_that_is_not_wanted_any_more_frees_its_connection() -> None:
    world, _, client, answers = scripted()
    answers[Method.CONNECTION_BIND] = nothing
    Peer(client).introduce(tcp_candidate(TcpType.PASSIVE))
    world.run(0.2)
    assert len(client.legs) == 2
    client.close()
    world.run(1)
    assert client.legs == {} and client.agent.next_timer() is None


def attempt(id_: int, port: int = 1234) -> bytes:
    transaction_id = id_.to_bytes(12, "big")
    attributes = [stun.xor_peer_address(AWAY, port, transaction_id), stun.connection_id(id_)]
    return stun.encode(MessageClass.INDICATION, Method.CONNECTION_ATTEMPT, transaction_id, attributes)


def test_connection_attempts_are_bound_but_for_too_many_at_once() -> None:
    world, _, client, answers = scripted()
    client.close()
    client = world.client(served(ENTRY, **{**RELAY_ONLY, "tcp_types": ["passive"]}), seed=5)
    client.gather()
    world.run(0.2)
    answers[Method.CONNECTION_BIND] = nothing
    Peer(client).introduce(tcp_candidate(TcpType.ACTIVE))
    world.run(0.1)
    control, _ = client.legs
    for n in range(100):
        client.leg_receives(control, attempt(n, 1000 + n))
    world.run(1)
    assert 1 < len(data_legs(client)) <= 32
    assert {leg.transport for leg in data_legs(client)} == {LegTransport.TCP}
    binds = client.asked(Method.CONNECTION_BIND)
    ids = {sent.message.attributes[AttributeType.CONNECTION_ID] for sent in binds}
    assert len(ids) == len(data_legs(client))


@pytest.mark.parametrize("data", [attempt(1)[:-4], b"", b"\x40\x00\x00\x04abcd", attempt(1)[:24]])
def test_malformed_attempts_are_ignored(data: bytes) -> None:
    world, _, client, _ = scripted()
    Peer(client).introduce(tcp_candidate(TcpType.ACTIVE))
    world.run(0.1)
    control, _ = client.legs
    client.leg_receives(control, data)
    world.run(0.1)
    assert data_legs(client) == []


def test_the_round_trips_of_a_relayed_connection_are_few() -> None:
    """Permission, Connect and the peer's handshake, connection, ConnectionBind, check: nothing waits for a timer."""
    world = World()
    world.server()
    one = world.client(served(ENTRY, **{**RELAY_ONLY, "tcp_types": ["active"]}))
    other = world.client(served(transports=["tcp"], tcp_types=["passive"]), Role.CONTROLLED, hosts=[AWAY], seed=2)
    one.gather()
    other.gather()
    world.run(1)
    begun = world.now
    one.learn(other)
    other.learn(one)
    one.start()
    other.start()
    world.run(1)
    used_at = next(at for at, command in one.commands if isinstance(command, Use))
    assert used_at - begun <= 14 * DELAY


# The connection that waits for the first peer


def test_the_connection_for_the_first_peer_is_open_before_it_comes() -> None:
    world, server, client = relay_only("passive")
    Peer(client).introduce(tcp_candidate(TcpType.ACTIVE))
    world.run(0.1)
    (spare,) = spare_legs(client)
    (relayed,) = server.relayed
    server.take_syn(relayed, address(AWAY, 1234))
    world.run(3 * DELAY)  # the indication, the request, its answer
    (turned,) = client.all_commands(TurnIntoStream)
    assert turned.leg == spare
    assert spare_legs(client) == []


def test_without_a_peer_there_is_none() -> None:
    _, _, client = relay_only("passive")
    assert len(client.opened_legs()) == 1


def test_it_may_be_lost() -> None:
    """Another one is opened when a peer comes."""
    world, server, client = relay_only("passive")
    Peer(client).introduce(tcp_candidate(TcpType.ACTIVE))
    world.run(0.1)
    (spare,) = spare_legs(client)
    client.loses_leg(spare)
    (relayed,) = server.relayed
    server.take_syn(relayed, address(AWAY, 1234))
    world.run(0.3)
    (turned,) = client.all_commands(TurnIntoStream)
    assert turned.leg != spare


def test_a_second_peer_gets_a_connection_of_its_own() -> None:
    world, server, client = relay_only("passive")
    Peer(client).introduce(tcp_candidate(TcpType.ACTIVE))
    world.run(0.1)
    (relayed,) = server.relayed
    for port in (1234, 1235):
        server.take_syn(relayed, address(AWAY, port))
    world.run(0.3)
    assert len(data_legs(client)) == len(client.all_commands(TurnIntoStream)) == 2


def test_it_is_closed_at_the_conclusion() -> None:
    world = World()
    world.server()
    policies = [served(ENTRY, **{**RELAY_ONLY, "transports": ["udp", "tcp"]}) for _ in range(2)]
    one, other = (
        world.client(policy, role, hosts=[host], seed=seed)
        for policy, role, host, seed in zip(
            policies, (Role.CONTROLLING, Role.CONTROLLED), ("192.0.2.1", AWAY), (1, 2), strict=True
        )
    )
    world.connect(one, other)
    world.run(8)
    assert one.state is other.state is AgentState.COMPLETED
    for client in (one, other):
        assert spare_legs(client) == []


# Whom a relay of the peer brings


def test_a_connection_from_a_relay_of_the_peer_is_checked_at_once() -> None:
    """The peer's own check is still on its way; the answer to ours comes a round trip sooner."""
    world = World()
    world.server()
    one, other = meets(world, ["passive"], ["active"], direct=False)
    assert one.state is other.state is AgentState.COMPLETED
    accepted_at = min(at for at, each in one.commands if isinstance(each, TurnIntoStream))
    asked_at = min(sent.at for sent in one.sent if not sent.is_response)
    heard_at = min(at for at, record in one.trace if isinstance(record, RequestReceived))
    assert asked_at - accepted_at < DELAY
    assert asked_at < heard_at


def test_a_stranger_from_elsewhere_is_not() -> None:
    """Only who comes from where the peer has told a relay is asked before it asks."""
    world, server, client = relay_only("passive")
    Peer(client).introduce(tcp_candidate(TcpType.ACTIVE))
    world.run(0.1)
    (relayed,) = server.relayed
    server.take_syn(relayed, address(AWAY, 1234))
    world.run(0.3)
    assert client.sent == []
