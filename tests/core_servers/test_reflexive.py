"""Server-reflexive candidates over UDP and TCP (RFC 8445 s5.1.1.2, RFC 6544 s5.2, s5.3)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from candidates.candidate import Candidate, CandidateType, TcpType, Transport
from ice_tcp import stun
from ice_tcp.core.commands import Close, Failure, LegTransport
from ice_tcp.core.events import AgentState, GatheringDone, Purpose, Role
from ice_tcp.core.outcomes import ServerVerdict
from ice_tcp.core.servers import servers_of
from ice_tcp.core.servers.servers import HIDDEN
from ice_tcp.core.verdicts import Verdict
from tests.core.net import AWAY, HOME, address, policy, udp_candidate
from tests.core.peer import Peer
from tests.core_servers.world import (
    HOST,
    HOST6,
    OTHER_HOST,
    PORT,
    PUBLIC,
    STUN,
    WALL,
    Client,
    Nat,
    NatKind,
    World,
    served,
)

HOME6 = "2001:db8::1"
TCP = {"transports": ["tcp"]}


def srflx(client: Client) -> list[Candidate]:
    return [each for each in client.told() if each.type is CandidateType.SRFLX]


def behind_nat(world: World, *servers: Mapping[str, object], **sections: object) -> Client:
    return world.client(served(*servers, **sections), nat=Nat(NatKind.INDEPENDENT))


def test_a_udp_base_learns_its_mapping_from_its_own_socket() -> None:
    """RFC 8445 s5.1.1.2: raddr and rport are the base's."""
    world = World()
    world.server()
    client = behind_nat(world, STUN)
    client.gather()
    world.run(1)
    (found,) = srflx(client)
    (local,) = client.sockets.values()
    assert client.nat is not None
    assert client.nat.locals[Transport.UDP, found.address][0] == local
    assert (found.address.host, found.related_address) == (PUBLIC, local)
    assert client.opened_legs() == []


def test_a_candidate_comes_one_round_trip_after_its_turn() -> None:
    world = World(delay=0.1)
    world.server()
    client = behind_nat(world, STUN)
    client.gather()
    world.run(0.201)
    assert len(srflx(client)) == 1
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


def test_without_a_nat_there_is_nothing_to_tell() -> None:
    """RFC 8445 s5.1.3: the same address and the same base is redundant."""
    world = World()
    world.server()
    client = world.client(served(STUN, transports=["udp", "tcp"]))
    client.gather()
    world.run(1)
    assert srflx(client) == []
    assert {report.found[0].host for report in client.reports(Purpose.REFLEXIVE)} == {HOME}


def test_tcp_mappings_are_those_of_the_listeners_ports() -> None:
    """RFC 6544 s5.2: what a peer's SYN will hit; active candidates have the discard port."""
    world = World()
    world.server()
    client = behind_nat(world, STUN, **TCP)
    client.gather()
    world.run(1)
    found = {each.tcptype: each for each in srflx(client)}
    assert client.nat is not None
    assert set(found) == set(TcpType)
    for tcptype in (TcpType.PASSIVE, TcpType.SO):
        listener = client.listeners[client.listener(tcptype)]
        assert client.nat.locals[Transport.TCP, found[tcptype].address][0] == listener
        assert found[tcptype].related_address == listener
    assert found[TcpType.ACTIVE].address == address(PUBLIC, 9)
    assert found[TcpType.ACTIVE].related_address == address(HOME, 9)
    assert {leg.listener for leg in client.opened_legs()} == set(client.listeners)


def test_a_nat_that_changes_only_the_port_adds_no_active_candidate() -> None:
    world = World()
    world.server()
    client = world.client(served(STUN, **TCP), nat=Nat(NatKind.INDEPENDENT, HOME))
    client.gather()
    world.run(1)
    assert {each.tcptype for each in srflx(client)} == {TcpType.PASSIVE, TcpType.SO}


def test_only_the_kinds_of_the_policy_are_asked_for() -> None:
    world = World()
    world.server()
    client = behind_nat(world, STUN, transports=["tcp"], tcp_types=["active", "so"])
    client.gather()
    world.run(1)
    assert {each.tcptype for each in srflx(client)} == {TcpType.ACTIVE, TcpType.SO}


def test_without_server_reflexive_candidates_in_the_policy_nobody_is_asked() -> None:
    world = World()
    world.server()
    client = behind_nat(world, STUN, candidate_types=["host", "relay"], transports=["udp", "tcp"])
    client.gather()
    world.run(1)
    assert client.sent == [] and client.opened_legs() == []


def test_foundations_tell_type_base_server_and_transport_apart() -> None:
    """RFC 8445 s5.1.1.3."""
    world = World()
    world.server()
    client = behind_nat(world, STUN, transports=["udp", "tcp"])
    client.gather()
    world.run(1)
    assert len({each.foundation for each in client.told()}) == len(client.told()) == 8


def test_the_same_mapping_from_two_servers_is_one_candidate() -> None:
    world = World()
    world.server(hosts=[HOST, OTHER_HOST])
    client = behind_nat(world, STUN, {"url": f"stun:{OTHER_HOST}"})
    client.gather()
    world.run(1)
    assert len(srflx(client)) == 1
    assert len(client.reports(Purpose.REFLEXIVE)) == 2


def test_different_mappings_are_candidates_of_different_priority() -> None:
    """RFC 8445 s5.1.2: each candidate has a unique priority."""
    world = World()
    world.server(hosts=[HOST, OTHER_HOST])
    client = world.client(
        served(STUN, {"url": f"stun:{OTHER_HOST}"}, transports=["udp", "tcp"]), nat=Nat(NatKind.ADDRESS_DEPENDENT)
    )
    client.gather()
    world.run(1)
    assert len(srflx(client)) == 2 + 2 + 2 + 1
    assert len({each.priority for each in client.told()}) == len(client.told())


def test_each_address_and_component_asks_for_itself() -> None:
    world = World()
    world.server(hosts=[HOST, HOST6])
    hosts = [HOME, "192.0.2.2", HOME6]
    client = world.client(
        served(STUN, {"url": f"stun:[{HOST6}]"}), hosts=hosts, components=2, nat=Nat(NatKind.INDEPENDENT)
    )
    client.gather()
    world.run(1)
    reports = client.reports(Purpose.REFLEXIVE)
    assert {(report.host, report.component) for report in reports} == {(host, n) for host in hosts for n in (1, 2)}
    assert all(report.failure is None for report in reports)
    assert len({each.priority for each in client.told()}) == len(client.told())


def test_a_base_asks_servers_of_its_own_family_only() -> None:
    world = World()
    world.server(hosts=[HOST, HOST6])
    client = world.client(served(STUN, {"url": f"stun:[{HOST6}]"}), nat=Nat(NatKind.INDEPENDENT))
    client.gather()
    world.run(1)
    assert {sent.remote.host for sent in client.sent} == {HOST}


def test_a_server_that_no_address_of_this_host_reaches_is_reported() -> None:
    world = World()
    client = behind_nat(world, {"url": f"stun:[{HOST6}]"})
    client.gather()
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    (report,) = client.reports()
    assert (report.server, report.purpose) == (f"stun:[{HOST6}]", Purpose.RESOLUTION)
    assert report.failure is not None
    assert report.failure.cause is Verdict.NO_ADDRESS and HOST6 in report.failure.text


def test_a_stun_and_a_turn_server_at_one_address_are_asked_once_and_both_reported() -> None:
    world = World()
    world.server()
    client = behind_nat(world, STUN, {"url": f"turn:{HOST}", "username": "a", "password": "b"})
    client.gather()
    world.run(1)
    assert len(client.sent) == 1
    assert [each.server for each in client.reports(Purpose.REFLEXIVE)] == [f"stun:{HOST}", f"turn:{HOST}"]


def test_a_server_that_is_found_later_where_another_was_asked_is_reported_at_once() -> None:
    world = World()
    world.server()
    client = behind_nat(world, STUN, {"url": "stun:stun.example.org"})
    client.gather()
    world.run(0.1)
    client.resolves(HOST)
    assert [each.found[0].host for each in client.reports(Purpose.REFLEXIVE)] == [PUBLIC, PUBLIC]
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


def test_a_tls_server_is_asked_over_tls_with_its_name() -> None:
    world = World()
    client = behind_nat(world, {"url": f"stuns:{HOST}", "tls": {"server_name": "stun.example.org"}}, **TCP)
    client.gather()
    world.run(0.1)
    legs = client.opened_legs()
    assert [leg.transport for leg in legs] == [LegTransport.TLS] * 2
    assert {leg.tls.server_name for leg in legs if leg.tls} == {"stun.example.org"}
    for leg in legs:
        client.loses_leg(leg.leg, Failure.TLS_CERTIFICATE, "expired")
    assert {failure.cause for failure in client.failures()} == {Verdict.TLS_CERTIFICATE}
    assert {failure.text for failure in client.failures()} == {"expired"}


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (Failure.REFUSED, Verdict.REFUSED),
        (Failure.NOT_STUN, ServerVerdict.NOT_STUN),
        (Failure.TLS, Verdict.TLS),
        (Failure.CLOSED, Verdict.CLOSED),
        (Failure.TIMED_OUT, Verdict.TIMED_OUT),
    ],
)
@pytest.mark.parametrize("opened", [False, True])
def test_a_lost_connection_to_a_server_is_told_in_words_for_servers(
    failure: Failure, cause: Verdict | ServerVerdict, opened: bool
) -> None:
    world = World()
    world.scripted().refuses = not opened
    world.refuses = lambda _: None
    client = behind_nat(world, STUN, transports=["tcp"], tcp_types=["passive"])
    client.gather()
    world.run(0.025 if opened else 0.015)
    (leg,) = client.legs
    client.loses_leg(leg, failure, "so it was")
    (report,) = client.reports()
    assert report.failure is not None
    assert (report.failure.cause, report.failure.text) == (cause, "so it was")
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


# -- several addresses of one server


def test_a_second_address_of_a_server_is_asked_after_rto_only() -> None:
    """RFC 8489 s8: the addresses of a name are tried in turn; here they overlap."""
    world = World()
    world.server(hosts=[OTHER_HOST])
    client = behind_nat(world, {"url": "stun:stun.example.org"})
    client.gather()
    client.resolves(HOST, OTHER_HOST)
    world.run(client.policy.timeouts.rto - 0.01)
    assert {sent.remote.host for sent in client.sent} == {HOST}
    world.run(0.1)
    assert len(srflx(client)) == 1
    assert client.all_events(GatheringDone) == []  # the first one may yet answer


def test_a_second_address_is_not_asked_where_the_first_answers() -> None:
    world = World()
    world.server(hosts=[HOST, OTHER_HOST])
    client = behind_nat(world, {"url": "stun:stun.example.org"})
    client.gather()
    client.resolves(HOST, OTHER_HOST)
    world.run(10)
    assert {sent.remote.host for sent in client.requests} == {HOST}


def test_a_second_address_is_asked_at_once_when_the_first_fails() -> None:
    world = World()
    world.server(hosts=[OTHER_HOST])
    refusing = world.scripted(address(HOST, PORT))
    refusing.refuses = True
    client = behind_nat(world, {"url": "stun:stun.example.org"}, transports=["tcp"], tcp_types=["passive"])
    client.gather()
    client.resolves(HOST, OTHER_HOST, transports=[LegTransport.TCP])
    world.run(0.1)
    assert len(srflx(client)) == 1
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


# -- the dead, and the deadline


def test_a_dead_server_delays_nobody() -> None:
    world = World()
    world.server(hosts=[HOST, OTHER_HOST])
    dead = {"url": "stun:203.0.113.99"}
    client = behind_nat(world, dead, STUN, {"url": f"stun:{OTHER_HOST}"})
    client.gather()
    assert [each.type for each in client.told()] == [CandidateType.HOST]
    world.run(0.04)
    assert len(client.reports()) == 2
    assert len(srflx(client)) == 1
    assert client.all_events(GatheringDone) == []


def test_at_the_deadline_gathering_ends_with_what_there_is() -> None:
    world = World()
    world.server()
    dead = {"url": "stun:203.0.113.99"}
    client = behind_nat(world, dead, STUN, {"url": "stun:no.answer.example.org"}, transports=["udp", "tcp"])
    client.gather()
    gather = client.policy.timeouts.gather
    world.run(gather - 0.01)
    assert client.all_events(GatheringDone) == []
    world.run(0.02)
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    failures = {(each.server, each.failure.cause) for each in client.reports() if each.failure is not None}
    assert failures == {
        ("stun:203.0.113.99", Verdict.TIMED_OUT),
        ("stun:no.answer.example.org", Verdict.TIMED_OUT),
    }
    assert len([each for each in client.reports() if each.failure is not None]) == 3 + 1
    late = next(iter(client.legs.values()), None)
    assert late is not None and late.remote.host == HOST  # those to the dead are closed


def test_what_comes_after_the_deadline_is_ignored() -> None:
    world = World(delay=3)
    world.server()
    client = behind_nat(world, STUN)
    client.gather()
    world.run(10)
    assert srflx(client) == []
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


def test_a_deadline_belongs_to_its_gathering() -> None:
    """A restart in the middle of one begins another, with its whole time."""
    world = World()
    client = behind_nat(world, STUN)
    client.gather()
    gather = client.policy.timeouts.gather
    world.run(gather - 1)
    client.restart()
    world.run(gather - 0.01)
    assert client.all_events(GatheringDone) == []
    world.run(0.02)
    assert client.all_events(GatheringDone) == [GatheringDone(1)]


def test_the_death_of_a_base_ends_its_questions() -> None:
    world = World()
    client = behind_nat(world, STUN)
    client.gather()
    world.run(0.1)
    client.socket_fails(client.socket(), Failure.OTHER)
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    world.run(10)
    assert len(client.sent) == 1


# -- names


def test_a_name_is_resolved_beside_everything_else() -> None:
    world = World()
    world.server()
    client = behind_nat(world, {"url": "stun:stun.example.org"}, STUN)
    client.gather()
    assert [str(each.uri) for each in client.queries.values()] == ["stun:stun.example.org"]
    world.run(0.1)
    assert len(srflx(client)) == 1
    assert client.all_events(GatheringDone) == []


def test_a_name_that_does_not_resolve_is_reported() -> None:
    world = World()
    client = behind_nat(world, {"url": "stun:stun.example.org"})
    client.gather()
    client.resolve_fails("NXDOMAIN")
    (report,) = client.reports()
    assert report.purpose is Purpose.RESOLUTION
    assert report.failure is not None
    assert (report.failure.cause, report.failure.text) == (Verdict.NO_ADDRESS, "NXDOMAIN")
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


def test_a_name_that_resolves_to_nothing_that_fits_is_reported() -> None:
    world = World()
    client = behind_nat(world, {"url": "stun:stun.example.org"}, {"url": "stun:other.example.org"})
    client.gather()
    client.resolves()
    client.resolves(HOST6)
    assert [failure.cause for failure in client.failures(Purpose.RESOLUTION)] == [Verdict.NO_ADDRESS] * 2
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


def test_answers_to_dead_queries_are_ignored() -> None:
    world = World()
    client = behind_nat(world, {"url": "stun:stun.example.org"})
    client.gather()
    (query,) = client.queries
    world.run(10)
    assert client.queries == {}  # closed at the deadline
    before = len(client.events)
    client.do(lambda now: client.agent.resolved(query, [], now))
    client.do(lambda now: client.agent.resolve_failed(query, "late", now))
    assert len(client.events) == before


def test_a_name_with_very_many_addresses_is_cut_off() -> None:
    world = World()
    client = behind_nat(world, {"url": "stun:stun.example.org"}, timeouts={"gather": 60.0})
    client.gather()
    client.resolves(*(f"203.0.113.{n}" for n in range(10, 100)))
    world.run(30)
    assert len({sent.remote for sent in client.sent}) == 16


# -- keeping mappings, conclusion and restart


def concluded(*servers: Mapping[str, object], **sections: object) -> tuple[World, Client, Client]:
    """Two clients that have met directly, the first one with servers, its losers released."""
    world = World()
    world.server()
    one = world.client(served(*servers, **sections))
    other = world.client(policy(transports=sections.get("transports", ["udp"])), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.meet(one, other)
    world.run(10)
    return world, one, other


def test_udp_mappings_are_kept_alive_until_ice_has_concluded() -> None:
    """RFC 8445 s5.1.1.4: candidates of a server are kept alive, every Tr seconds."""
    world = World()
    world.server()
    client = behind_nat(world, STUN)
    client.gather()
    world.run(50)
    kept = [sent for sent in client.sent if sent.message.message_class is stun.MessageClass.INDICATION]
    assert [round(sent.at - client.sent[0].at) for sent in kept] == [15, 30, 45]
    assert {sent.remote for sent in kept} == {address(HOST, PORT)}


def test_without_a_candidate_there_is_nothing_to_keep_alive() -> None:
    world = World()
    client = behind_nat(world, STUN)
    client.gather()
    world.run(100)
    assert {sent.message.message_class for sent in client.sent} == {stun.MessageClass.REQUEST}


def test_at_the_conclusion_keepalives_end_and_connections_are_closed() -> None:
    """RFC 6544 s5.2: the connections to servers are kept until then; s11.2."""
    world, one, _ = concluded(STUN, transports=["udp", "tcp"])
    legs = {leg.leg for leg in one.opened_legs()}
    assert len(legs) == 2
    assert one.legs == {}
    assert legs <= {command.handle for command in one.all_commands(Close)}
    world.run(100)
    keepalives = [each for each in one.sent if each.message.message_class is stun.MessageClass.INDICATION]
    assert keepalives == []


def test_while_checks_run_the_connections_stay_open() -> None:
    world = World()
    world.server()
    client = behind_nat(world, STUN, **TCP)
    client.gather()
    world.run(100)
    assert len(client.legs) == 2


def test_a_restart_before_the_conclusion_asks_again_on_the_same_connections() -> None:
    world = World()
    world.server()
    client = behind_nat(world, STUN, transports=["udp", "tcp"])
    client.gather()
    world.run(1)
    before, candidates = dict(client.legs), client.told()
    client.restart()
    world.run(1)
    assert client.legs == before and len(client.opened_legs()) == 2
    assert {each.address for each in client.told()} == {each.address for each in candidates}
    assert client.all_events(GatheringDone) == [GatheringDone(0), GatheringDone(1)]
    assert len(client.asked(stun.Method.BINDING)) == 4


def test_a_connection_that_a_server_closed_is_opened_again_for_a_restart() -> None:
    world = World()
    server = world.server()
    client = behind_nat(world, STUN, transports=["tcp"], tcp_types=["passive"])
    client.gather()
    world.run(1)
    server.drops(client, next(iter(client.legs)))
    world.run(1)
    assert client.legs == {} and client.failures() == []
    client.restart()
    world.run(1)
    assert len(client.opened_legs()) == 2
    assert len(srflx(client)) == 1


def test_a_restart_after_the_conclusion_asks_from_the_bases_that_are_left_and_new_ones() -> None:
    world, one, other = concluded(STUN, transports=["udp", "tcp"])
    one.restart()
    other.restart()
    world.run(1)
    asked = {(report.transport, report.tcptype) for report in one.reports(Purpose.REFLEXIVE)}
    assert asked == {(Transport.UDP, None), (Transport.TCP, TcpType.PASSIVE), (Transport.TCP, TcpType.SO)}
    assert one.all_events(GatheringDone) == [GatheringDone(0), GatheringDone(1)]


def test_new_servers_may_come_with_a_restart() -> None:
    world = World()
    world.server(hosts=[OTHER_HOST])
    client = behind_nat(world, STUN)
    client.gather()
    world.run(0.1)
    servers = servers_of(served({"url": f"stun:{OTHER_HOST}"}), WALL)
    client.do(lambda now: client.agent.restart(now, servers=servers))
    world.run(1)
    assert [report.server for report in client.reports()] == [f"stun:{OTHER_HOST}"]
    assert len(srflx(client)) == 1


def test_a_conclusion_in_the_middle_of_gathering_ends_it() -> None:
    """RFC 8838 s13: nothing can come any more."""
    _, one, _ = concluded({"url": "stun:203.0.113.99"}, timeouts={"gather": 60.0})
    assert one.all_events(GatheringDone) == [GatheringDone(0)]


def test_closing_ends_everything_and_says_nothing_more() -> None:
    world = World()
    world.server()
    client = behind_nat(world, STUN, {"url": "stun:stun.example.org"}, transports=["udp", "tcp"])
    client.gather()
    world.run(0.012)
    client.close()
    assert client.opened() == set() and client.queries == {} and client.legs == {}
    assert client.agent.next_timer() is None and not client.agent.closing
    told = len(client.events)
    world.run(10)
    assert len(client.events) == told
    assert client.all_events(GatheringDone) == []


# -- what the peer may learn


@pytest.mark.parametrize(
    ("sections", "hidden"),
    [
        ({}, False),
        ({"candidate_types": ["srflx"]}, True),
        ({"advertise": {"candidate_types": ["srflx", "relay"]}}, True),
        ({"advertise": {"exclude": [f"{HOME}/32"]}}, True),
        ({"advertise": {"exclude": ["10.0.0.0/8"]}}, False),
    ],
)
def test_the_related_address_is_hidden_where_the_host_candidate_is(sections: dict[str, object], hidden: bool) -> None:
    """RFC 8839 s5.1: 0.0.0.0 and port 9."""
    world = World()
    world.server()
    client = behind_nat(world, STUN, **sections)
    client.gather()
    world.run(1)
    (found,) = srflx(client)
    assert (found.related_address == HIDDEN[4]) is hidden


def test_reflexive_candidates_pair_by_their_base() -> None:
    """RFC 8445 s6.1.2.4: one pair a base and remote candidate."""
    world = World()
    world.server()
    client = behind_nat(world, STUN)
    client.gather()
    world.run(1)
    Peer(client).introduce(udp_candidate())
    (pair,) = client.agent.pair_statistics()
    assert pair.local.type is CandidateType.HOST


def test_without_host_candidates_reflexive_ones_pair_themselves() -> None:
    world = World()
    world.server()
    client = behind_nat(world, STUN, candidate_types=["srflx"])
    client.gather()
    peer = Peer(client)
    peer.introduce(udp_candidate(), end=False)
    world.run(1)
    (pair,) = client.agent.pair_statistics()
    assert pair.local.type is CandidateType.SRFLX
    sent = client.requests[-1]
    assert sent.remote == udp_candidate().address
    peer.answers(sent, mapped=pair.local.address)
    assert client.state is AgentState.CONNECTED
