"""Local candidates from this host's addresses (RFC 8445 s5.1.1, RFC 6544 s4.1, s5.1, RFC 8838 s9, s13)."""

from __future__ import annotations

import pytest

from candidates.candidate import DISCARD_PORT, CandidateType, TcpType
from candidates.parameters import IceParameters
from ice_tcp.core.commands import Close, Failure, Listen, OpenUdp, SocketId
from ice_tcp.core.events import AgentState, GatheringDone, LocalCandidateFound, Role
from ice_tcp.core.trace import AddressIgnored, CandidateIgnored, LocalCandidateKept
from ice_tcp.core.verdicts import Verdict
from tests.core.net import HOME, LITE, TCP_ONLY, UDP_ONLY, Net, Node, policy, tcp_candidate, tcp_only, udp_candidate
from tests.core.peer import PARAMETERS, Peer


def gathered(node: Node) -> list[tuple[str, str | None]]:
    return [(each.transport.value, each.tcptype.value if each.tcptype else None) for each in node.told()]


def test_each_address_gives_a_udp_and_three_tcp_candidates() -> None:
    """RFC 6544 s5.1: active, passive and simultaneous-open; RFC 8445 s5.1.1.1."""
    node = Net().node(policy=policy())
    node.gather()
    assert sorted(gathered(node), key=str) == [("tcp", "active"), ("tcp", "passive"), ("tcp", "so"), ("udp", None)]
    assert {each.type for each in node.told()} == {CandidateType.HOST}


def test_passive_and_so_have_ports_of_their_own() -> None:
    """RFC 6544 s5.1: two host candidates on different ports."""
    node = Net().node(policy=TCP_ONLY)
    node.gather()
    ports = {each.tcptype: each.address.port for each in node.told()}
    assert ports[TcpType.PASSIVE] != ports[TcpType.SO]
    assert len(node.all_commands(Listen)) == 2


def test_active_has_the_discard_port_and_no_socket() -> None:
    """RFC 6544 s4.5: port 9, since it never listens."""
    node = Net().node(policy=tcp_only("active"))
    node.gather()
    assert [each.address.port for each in node.told()] == [DISCARD_PORT]
    assert node.all_commands(Listen) == []


def test_priorities_are_all_different() -> None:
    """RFC 8445 s5.1.2: each candidate MUST have a unique priority."""
    node = Net().node(policy=policy(), hosts=[HOME, "192.0.2.2", "2001:db8::1"], components=2)
    node.gather()
    priorities = [each.priority for each in node.told()]
    assert len(priorities) == 24
    assert len(set(priorities)) == 24


def test_the_transport_and_the_tcptype_are_part_of_the_foundation() -> None:
    """RFC 8445 s5.1.1.3; RFC 6544 Appendix C: a hanging active dial must not keep so pairs frozen."""
    node = Net().node(policy=policy())
    node.gather()
    assert len({each.foundation for each in node.told()}) == 4


def test_components_share_foundations() -> None:
    """RFC 8445 s5.1.1.3: type, base, server and transport count, not the component."""
    node = Net().node(components=2)
    node.gather()
    one, other = node.told()
    assert (one.component, other.component) == (1, 2)
    assert one.foundation == other.foundation
    assert one.address != other.address


def test_dual_stack_addresses_are_interleaved() -> None:
    """RFC 8421 s4: neither family waits for the other."""
    node = Net().node(hosts=["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"])
    node.gather()
    by_priority = sorted(node.told(), key=lambda each: -each.priority)
    assert [each.address.family for each in by_priority] in ([6, 6, 4, 4], [6, 4, 6, 4])


def test_candidates_come_as_their_sockets_open() -> None:
    """RFC 8838 s9: each is trickled when it is found."""
    node = Net().node(policy=policy(transports=["udp", "tcp"], tcp_types=["passive"]), opens_sockets=False)
    node.gather()
    assert node.told() == []
    node.answer_open(next(iter(node.listeners)))
    node.drain()
    assert gathered(node) == [("tcp", "passive")]
    assert node.all_events(GatheringDone) == []
    node.answer_open(next(iter(node.sockets)))
    node.drain()
    assert gathered(node) == [("tcp", "passive"), ("udp", None)]
    assert node.all_events(GatheringDone) == [GatheringDone(0)]


def test_the_end_of_gathering_is_told_once_and_last() -> None:
    """RFC 8838 s13."""
    node = Net().node(policy=policy())
    node.gather()
    told = [event for _, event in node.events if isinstance(event, LocalCandidateFound | GatheringDone)]
    assert told[-1] == GatheringDone(0)
    assert told.count(GatheringDone(0)) == 1


def test_port_ranges_go_with_the_commands() -> None:
    node = Net().node(policy=policy(ports={"udp": "40000-40100", "tcp": "50000-50100"}))
    node.gather()
    assert {command.ports for command in node.all_commands(OpenUdp)} == {(40000, 40100)}
    assert {command.ports for command in node.all_commands(Listen)} == {(50000, 50100)}


def test_a_lite_agent_has_host_candidates_over_udp_and_passive_tcp_only() -> None:
    """RFC 8445 s5.2, RFC 6544 s4.4."""
    node = Net().node(Role.CONTROLLED, LITE)
    node.gather()
    assert sorted(gathered(node), key=str) == [("tcp", "passive"), ("udp", None)]


@pytest.mark.parametrize(
    ("sections", "left"),
    [
        ({"transports": ["udp"]}, {("udp", None)}),
        ({"tcp_types": ["so"]}, {("udp", None), ("tcp", "so")}),
        ({"transports": ["tcp"], "tcp_types": ["active", "passive"]}, {("tcp", "active"), ("tcp", "passive")}),
    ],
)
def test_policy_decides_the_kinds(sections: dict[str, object], left: set[tuple[str, str | None]]) -> None:
    node = Net().node(policy=policy(**sections))
    node.gather()
    assert set(gathered(node)) == left


def test_an_excluded_interface_gives_nothing_and_the_rule_is_traced() -> None:
    node = Net().node(policy=policy(interfaces={"exclude": ["eth*"]}))
    node.gather()
    assert node.told() == []
    assert node.traced(AddressIgnored) == [AddressIgnored(HOME, "interfaces.exclude[0]: eth*")]
    assert node.all_events(GatheringDone) == [GatheringDone(0)]
    assert node.opened() == set()


def test_loopback_is_used_only_if_the_policy_says_so() -> None:
    plain, allowed = Net(), policy(transports=["udp"], interfaces={"loopback": True})
    for wanted, given in ((0, UDP_ONLY), (1, allowed)):
        node = plain.node(policy=given, hosts=["127.0.0.1"])
        node.gather("lo")
        assert len(node.told()) == wanted


def test_a_candidate_that_is_not_advertised_is_used_all_the_same() -> None:
    """The advertise filter is apart from the gather filter."""
    net = Net()
    node = net.node(policy=policy(transports=["udp"], advertise={"exclude": ["192.0.2.0/24"]}))
    node.gather()
    assert node.told() == []
    assert len(node.agent.local_candidates) == 1
    (kept,) = node.traced(LocalCandidateKept)
    assert (kept.advertised, kept.rule) == (False, "advertise.exclude[0]: 192.0.2.0/24")
    Peer(node).introduce(udp_candidate())
    net.run(0)
    assert len(node.requests) == 1


@pytest.mark.parametrize(
    "failure", [Failure.PORTS_TAKEN, Failure.ADDRESS_UNAVAILABLE, Failure.NO_RESOURCES, Failure.NOT_PERMITTED]
)
def test_a_socket_that_cannot_be_opened_is_traced_and_the_rest_goes_on(failure: Failure) -> None:
    """Ports all taken, an unusable interface: never an exception and never a silent nothing."""
    node = Net().node(hosts=[HOME, "192.0.2.2"], opens_sockets=False)
    node.gather()
    bad, good = list(node.sockets)
    node.socket_fails(bad, failure)
    node.answer_open(good)
    node.drain()
    assert node.traced(AddressIgnored) == [AddressIgnored(HOME, failure.value)]
    assert [each.address.host for each in node.told()] == ["192.0.2.2"]
    assert node.all_events(GatheringDone) == [GatheringDone(0)]


def test_when_no_socket_can_be_opened_the_session_fails_with_no_local_candidates() -> None:
    net = Net()
    node = net.node(opens_sockets=False)
    node.gather()
    Peer(node).introduce(udp_candidate())
    node.socket_fails(next(iter(node.sockets)), Failure.PORTS_TAKEN)
    net.run(1)
    assert node.states[-1] == (AgentState.FAILED, Verdict.NO_LOCAL_CANDIDATES)


def test_no_addresses_end_the_gathering_at_once() -> None:
    node = Net().node(hosts=[])
    node.gather()
    assert node.all_events(GatheringDone) == [GatheringDone(0)]


def test_a_socket_that_never_answers_does_not_hold_gathering_up() -> None:
    """timeouts.gather: gathering ends with what there is."""
    net = Net()
    node = net.node(hosts=[HOME, "192.0.2.2"], opens_sockets=False)
    node.gather()
    node.answer_open(next(iter(node.sockets)))
    node.drain()
    net.run(UDP_ONLY.timeouts.gather + 0.01)
    assert len(node.told()) == 1
    assert node.all_events(GatheringDone) == [GatheringDone(0)]


def test_a_link_local_base_keeps_its_zone_and_its_candidate_has_none() -> None:
    """RFC 8445 s5.1.1.1; a zone means nothing to the peer."""
    node = Net().node(policy=policy(transports=["udp"], interfaces={"link_local": True}), hosts=["fe80::1%eth0"])
    node.gather()
    assert [command.host for command in node.all_commands(OpenUdp)] == ["fe80::1%eth0"]
    assert [each.address.host for each in node.told()] == ["fe80::1"]


def test_what_the_policy_does_not_keep_is_traced_with_its_rule() -> None:
    node = Net().node(policy=policy(candidate_types=["srflx"], servers=[{"url": "stun:192.0.2.9"}]))
    node.gather()
    assert node.told() == []
    assert {record.rule for record in node.traced(CandidateIgnored)} == {
        "candidate_types: host is not among them",
    }


def test_with_relayed_candidates_only_nothing_of_this_host_is_opened() -> None:
    """RFC 8828 s5.2, mode 4: only what a relay gives; what cannot become a candidate is not opened."""
    server = {"url": "turn:192.0.2.9", "username": "someone", "password": "something"}
    node = Net().node(policy=policy(candidate_types=["relay"], servers=[server]))
    node.gather()
    assert node.opened() == set()
    assert node.all_events(GatheringDone) == [GatheringDone(0)]


def test_gathering_twice_is_a_mistake() -> None:
    node = Net().node()
    node.gather()
    with pytest.raises(RuntimeError, match="gathered already"):
        node.gather()


def test_a_peer_that_restarts_before_we_gathered_does_not_keep_us_from_it() -> None:
    node = Net().node()
    node.know(PARAMETERS)
    node.know(IceParameters("other", "anotherPasswordOfThePeer"))
    node.gather()
    assert len(node.told()) == 1


def test_an_answer_for_a_socket_that_was_closed_is_ignored() -> None:
    net = Net()
    node = net.node(opens_sockets=False)
    node.gather()
    (socket,) = node.sockets
    local = node.sockets[socket]
    node.close()
    assert Close(socket) in node.all_commands(Close)
    node.do(lambda now: node.agent.socket_opened(SocketId(socket), local, now))
    assert node.told() == []


def test_a_socket_that_dies_takes_its_candidate_and_its_pairs_along() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(), end=False)
    net.run(0)
    node.socket_fails(node.socket(), Failure.ADDRESS_UNAVAILABLE)
    assert node.agent.local_candidates == ()
    assert node.pair_events(udp_candidate())[-1][1] is Verdict.ADDRESS_UNAVAILABLE


def test_a_dead_socket_is_not_sent_on() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(), end=False)
    net.run(0)
    node.socket_fails(node.socket(), Failure.ADDRESS_UNAVAILABLE)
    sent = len(node.sent)
    net.run(30)
    assert len(node.sent) == sent


def test_a_dead_listener_is_not_dialled_from() -> None:
    """Its number means nothing to the shell any more."""
    net = Net()
    node = net.node(policy=tcp_only("so"))
    node.gather()
    node.know(PARAMETERS)
    node.hear_of(tcp_candidate(TcpType.SO))
    node.socket_fails(node.listener(TcpType.SO), Failure.OTHER)
    node.start()
    net.run(5)
    assert node.dialling == {}
