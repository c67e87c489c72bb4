"""Which valid pair carries data, and which is nominated, and when (RFC 8445 s8.1, s12.1, RFC 6544 s8)."""

from __future__ import annotations

import pytest

from candidates.candidate import Candidate, CandidateType, TcpType, Transport
from ice_tcp.core.commands import Failure, TcpPath, UdpPath, Use
from ice_tcp.core.events import AgentState, PairChanged, PairState, PathSelected, Role
from ice_tcp.core.trace import Nominated
from ice_tcp.core.verdicts import Verdict
from tests.core.net import AWAY, TCP_ONLY, UDP_ONLY, Net, Node, policy, tcp_candidate, udp_candidate
from tests.core.peer import Peer

GRACE = UDP_ONLY.nomination.grace
ELSEWHERE = "198.51.100.3"


def srflx(port: int, priority: int, foundation: str, host: str = AWAY) -> Candidate:
    """Not unbeatable, so a better pair is waited for."""
    return udp_candidate(port, host=host, priority=priority, foundation=foundation, type_=CandidateType.SRFLX)


def two_pairs(net: Net, role: Role = Role.CONTROLLING, *, end: bool = True) -> tuple[Node, Peer]:
    """A node that checks a better pair at port 5000 and a worse one at port 5001 of another address."""
    node = net.node(role)
    node.gather()
    peer = Peer(node)
    peer.introduce(srflx(5000, 900, "a"), srflx(5001, 100, "b", ELSEWHERE), end=end)
    net.run(0.06)
    return node, peer


def nominating(node: Node) -> list[int]:
    """The ports that were asked with USE-CANDIDATE."""
    return [sent.remote.port for sent in node.new_requests if sent.message.use_candidate]


def test_data_flows_on_the_first_valid_pair_before_nomination() -> None:
    """RFC 8445 s12.1: an agent MAY send data on any valid pair."""
    node, peer = two_pairs(Net())
    peer.answers(node.new_requests[1])
    selected = node.agent.selected_path()
    assert selected is not None
    assert not selected.nominated
    assert node.used == peer.udp_path(5001, ELSEWHERE)
    assert node.is_in(AgentState.CONNECTED)


def test_a_better_valid_pair_takes_the_data_over_before_nomination() -> None:
    node, peer = two_pairs(Net())
    peer.answers(node.new_requests[1])
    peer.answers(node.new_requests[0])
    assert node.used == peer.udp_path(5000)


def test_a_worse_valid_pair_does_not_take_the_data() -> None:
    node, peer = two_pairs(Net(), Role.CONTROLLED)
    peer.answers(node.new_requests[0])
    peer.answers(node.new_requests[1])
    assert node.all_commands(Use) == [Use(1, peer.udp_path(5000))]


def test_the_best_pair_is_nominated_at_once() -> None:
    """Nothing better is alive, so there is nothing to wait for."""
    node, peer = two_pairs(Net())
    peer.answers(node.new_requests[0])
    assert nominating(node) == [5000]
    assert node.requests[-1].at == node.net.now


def test_a_worse_pair_waits_its_grace_for_a_better_one() -> None:
    net = Net()
    node, peer = two_pairs(net)
    peer.answers(node.new_requests[1])
    net.run(GRACE - 0.001)
    assert nominating(node) == []
    net.run(0.002)
    assert nominating(node) == [5001]


def test_the_better_pair_ends_the_grace_when_it_becomes_valid() -> None:
    net = Net()
    node, peer = two_pairs(net)
    peer.answers(node.new_requests[1])
    net.run(0.1)
    peer.answers(node.new_requests[0])
    assert nominating(node) == [5000]


def test_the_better_pair_ends_the_grace_when_it_fails() -> None:
    net = Net()
    node, peer = two_pairs(net)
    peer.answers(node.new_requests[1])
    net.run(0.1)
    peer.answers(node.new_requests[0], code=400)
    assert nominating(node) == [5001]


def test_another_connection_between_the_same_two_hosts_is_not_waited_for() -> None:
    """It would be the same path, whoever dials and whatever its ports."""
    net = Net()
    node = net.node(policy=policy(transports=["tcp"], tcp_types=["active"]))
    node.gather()
    peer = Peer(node)
    peer.introduce(
        tcp_candidate(TcpType.PASSIVE, 6000, foundation="a", priority=900),
        tcp_candidate(TcpType.PASSIVE, 6001, foundation="b", priority=100),
    )
    net.run(0.06)
    _, worse = list(node.dialling)
    node.connected(worse)
    peer.answers()
    assert node.requests[-1].path == TcpPath(worse)
    assert node.requests[-1].message.use_candidate


def test_while_a_pair_is_valid_worse_ones_are_not_checked_for_the_grace() -> None:
    """docs/deviations.md: nobody would nominate them."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(srflx(5000, 900, "a"), srflx(5001, 100, "b", ELSEWHERE))
    net.run(0)
    peer.answers()
    net.run(GRACE - 0.01)
    assert [sent.remote.port for sent in node.new_requests] == [5000]
    net.run(0.02)
    assert [sent.remote.port for sent in node.new_requests] == [5000, 5001]


def test_while_a_pair_is_valid_better_ones_are_still_checked() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(srflx(5001, 100, "b", ELSEWHERE), end=False)
    net.run(0)
    peer.answers()
    node.hear_of(srflx(5000, 900, "a"))
    net.run(0.06)
    assert [sent.remote.port for sent in node.new_requests] == [5001, 5000]


def test_while_a_pair_is_valid_the_peers_check_of_a_worse_one_triggers_ours() -> None:
    """RFC 8445 s7.3.1.4."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(srflx(5000, 900, "a"), srflx(5001, 100, "b", ELSEWHERE))
    net.run(0)
    peer.answers()
    peer.asks(peer.udp_path(5001, ELSEWHERE))
    assert [sent.remote.port for sent in node.new_requests] == [5000, 5001]


def test_before_end_of_candidates_a_better_pair_may_still_come() -> None:
    """RFC 8838 s14: end-of-candidates speeds the conclusion up."""
    net = Net()
    node, peer = two_pairs(net, end=False)
    peer.answers(node.new_requests[0])
    net.run(0.1)
    assert nominating(node) == []
    node.hear_end()
    assert nominating(node) == [5000]


def test_without_end_of_candidates_the_grace_bounds_the_wait() -> None:
    net = Net()
    node, peer = two_pairs(net, end=False)
    peer.answers(node.new_requests[0])
    net.run(GRACE + 0.001)
    assert nominating(node) == [5000]


def test_a_direct_udp_path_is_nominated_at_once_whatever_may_come() -> None:
    """Between host candidates over UDP: no better kind of path exists."""
    net = Net()
    node = net.node()
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(), end=False)
    net.run(0)
    peer.answers()
    assert nominating(node) == [5000]


def test_policy_sets_the_grace() -> None:
    net = Net()
    node = net.node(policy=policy(transports=["udp"], nomination={"grace": 2.0}))
    node.gather()
    peer = Peer(node)
    peer.introduce(srflx(5000, 900, "a"), end=False)
    net.run(0)
    peer.answers()
    net.run(1.99)
    assert nominating(node) == []
    net.run(0.02)
    assert nominating(node) == [5000]


def test_the_nominated_pair_is_selected_when_its_check_succeeds() -> None:
    """RFC 8445 s7.2.5.3.4, s8.1.1."""
    node, peer = two_pairs(Net())
    peer.answers(node.new_requests[0])
    assert node.is_in(AgentState.CONNECTED)
    peer.answers()
    selected = node.agent.selected_path()
    assert selected is not None
    assert selected.nominated
    assert node.is_in(AgentState.COMPLETED)
    assert [record.component for record in node.traced(Nominated)] == [1]


def test_the_conclusion_removes_all_other_pairs_of_the_component() -> None:
    """RFC 8445 s8.1.2: from the check list and from the triggered-check queue."""
    net = Net()
    node, peer = two_pairs(net)
    peer.answers(node.new_requests[0])
    peer.answers()
    assert len(node.agent.pair_statistics()) == 1
    removed = [event for event in node.all_events(PairChanged) if event.state is None]
    assert [(event.remote.address.port, event.verdict) for event in removed] == [(5001, Verdict.SUPERSEDED)]
    before = len(node.requests)
    net.run(3)
    assert [sent for sent in node.requests[before:] if sent.remote.port == 5001] == []


def test_after_the_conclusion_the_losers_are_still_answered() -> None:
    """RFC 8445 s8.1.2: MUST continue to respond."""
    node, peer = two_pairs(Net())
    peer.answers(node.new_requests[0])
    peer.answers()
    assert peer.asks(peer.udp_path(5001, ELSEWHERE)) is not None
    assert len(node.agent.pair_statistics()) == 1


def test_after_the_conclusion_a_new_candidate_makes_no_pair() -> None:
    """RFC 8445 s8.1.2: the component's list has its one pair."""
    net = Net()
    node, peer = two_pairs(net, end=False)
    peer.answers(node.new_requests[0])
    net.run(GRACE + 0.01)
    peer.answers()
    assert node.is_in(AgentState.COMPLETED)
    node.hear_of(srflx(5002, 2_000_000_000, "c", ELSEWHERE))
    net.run(1)
    assert len(node.agent.pair_statistics()) == 1


def test_one_and_only_one_pair_is_nominated() -> None:
    """RFC 8445 s8.1.1: MUST NOT nominate another pair for the same component within the ICE session."""
    net = Net()
    node, peer = two_pairs(net)
    peer.answers_all()
    peer.plays_along(5)
    assert nominating(node) == [5000]


def test_a_failed_nomination_passes_to_the_next_best_valid_pair() -> None:
    """docs/deviations.md: RFC 8445 s7.2.5.3.4 would fail the check list."""
    node, peer = two_pairs(Net())
    peer.answers(node.new_requests[1])
    peer.answers(node.new_requests[0])
    assert nominating(node) == [5000]
    peer.answers(code=400)
    assert nominating(node) == [5000, 5001]
    assert node.used == peer.udp_path(5001, ELSEWHERE)


def test_the_controlled_side_waits_for_the_nomination() -> None:
    net = Net()
    node, peer = two_pairs(net, Role.CONTROLLED)
    peer.answers_all()
    net.run(5)
    assert nominating(node) == []
    assert node.is_in(AgentState.CONNECTED)


def test_the_controlled_side_selects_a_valid_pair_when_it_is_nominated() -> None:
    """RFC 8445 s7.3.1.5: the state is Succeeded: the nominated flag is set."""
    node, peer = two_pairs(Net(), Role.CONTROLLED)
    peer.answers_all()
    peer.asks(peer.udp_path(5001, ELSEWHERE), use_candidate=True)
    assert node.used == peer.udp_path(5001, ELSEWHERE)
    assert node.is_in(AgentState.COMPLETED)


def test_the_controlled_side_fails_a_nominated_pair_whose_check_fails() -> None:
    """RFC 8445 s7.3.1.5: it sets the state of the pair to Failed."""
    node, peer = two_pairs(Net(), Role.CONTROLLED)
    peer.asks(peer.udp_path(5001, ELSEWHERE), use_candidate=True)
    peer.answers(code=400)
    assert node.agent.selected_path() is None
    assert node.pair_events(udp_candidate(5001, host=ELSEWHERE))[-1] == (PairState.FAILED, Verdict.BAD_REQUEST)


def test_only_the_first_nomination_of_a_peer_that_nominates_aggressively_counts() -> None:
    """docs/deviations.md: we announce ice2, so a peer of RFC 5245 does not (RFC 8445 s8.1.1)."""
    node, peer = two_pairs(Net(), Role.CONTROLLED)
    peer.asks(peer.udp_path(5001, ELSEWHERE), use_candidate=True)
    peer.answers()
    peer.asks(peer.udp_path(5000), use_candidate=True)
    peer.answers_all()
    assert node.used == peer.udp_path(5001, ELSEWHERE)


def test_a_path_is_told_once_when_it_is_used_and_once_when_it_is_nominated() -> None:
    node, peer = two_pairs(Net())
    peer.answers(node.new_requests[0])
    peer.answers()
    told = [event.selected for event in node.all_events(PathSelected)]
    assert [selected.nominated for selected in told] == [False, True]
    assert node.all_commands(Use) == [Use(1, peer.udp_path(5000))]


# -- several components


def two_components(net: Net, role: Role = Role.CONTROLLING) -> tuple[Node, Peer]:
    node = net.node(role, components=2)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(5000, component=1), udp_candidate(5001, component=2, foundation="2"))
    net.run(0.06)
    return node, peer


def test_connected_means_that_every_component_has_a_valid_pair() -> None:
    """RFC 8445 s12.1."""
    node, peer = two_components(Net(), Role.CONTROLLED)
    peer.answers(node.new_requests[0])
    assert node.is_in(AgentState.CHECKING)
    peer.answers(node.new_requests[1])
    assert node.is_in(AgentState.CONNECTED)


def test_each_component_is_nominated_and_completed_means_all() -> None:
    """RFC 8445 s8.1.2."""
    node, peer = two_components(Net())
    peer.answers(node.new_requests[0])
    peer.answers()
    assert node.is_in(AgentState.CHECKING)
    peer.answers(node.new_requests[1])
    peer.answers()
    assert node.is_in(AgentState.COMPLETED)
    assert nominating(node) == [5000, 5001]
    assert {node.agent.selected_path(component) is not None for component in (1, 2)} == {True}


def test_one_nominated_component_of_two_is_not_yet_completed() -> None:
    """RFC 8445 s8.1.2: once pairs for each component have been nominated."""
    node, peer = two_components(Net(), Role.CONTROLLED)
    peer.answers_all()
    peer.asks(peer.udp_path(5000), use_candidate=True)
    assert node.is_in(AgentState.CONNECTED)
    peer.asks(UdpPath(list(node.sockets)[1], udp_candidate(5001).address), use_candidate=True)
    assert node.is_in(AgentState.COMPLETED)


def test_two_agents_agree_on_both_components() -> None:
    net = Net()
    one = net.node(components=2)
    other = net.node(Role.CONTROLLED, hosts=[AWAY], components=2, seed=2)
    net.meet(one, other)
    net.run(3)
    assert one.state is other.state is AgentState.COMPLETED
    for component in (1, 2):
        ours, theirs = one.agent.selected_path(component), other.agent.selected_path(component)
        assert ours is not None and theirs is not None
        assert ours.local.address == theirs.remote.address
        assert ours.remote.address == theirs.local.address
        assert ours.component == component


# -- transports


def test_udp_wins_over_tcp() -> None:
    """RFC 6544 s4.2: UDP is preferred through the type preference."""
    net = Net()
    one = net.node(policy=policy())
    other = net.node(Role.CONTROLLED, policy(), hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(5)
    selected = one.agent.selected_path()
    assert selected is not None
    assert selected.local.transport is Transport.UDP


def test_tcp_is_used_where_udp_is_blocked() -> None:
    net = Net()
    net.loses = lambda flight: isinstance(flight.path, UdpPath)
    one = net.node(policy=policy())
    other = net.node(Role.CONTROLLED, policy(), hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(5)
    assert isinstance(one.used, TcpPath)
    assert isinstance(other.used, TcpPath)
    assert one.state is other.state is AgentState.COMPLETED


@pytest.mark.parametrize("tcptype", ["active", "passive", "so"])
def test_both_ends_of_a_tcp_path_select_the_same_connection(tcptype: str) -> None:
    opposite = {"active": "passive", "passive": "active", "so": "so"}[tcptype]
    net = Net()
    one = net.node(policy=policy(transports=["tcp"], tcp_types=[tcptype]))
    other = net.node(Role.CONTROLLED, policy(transports=["tcp"], tcp_types=[opposite]), hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(5)
    assert isinstance(one.used, TcpPath) and isinstance(other.used, TcpPath)
    assert one.streams[one.used.stream].far == (other, other.used.stream)


def test_with_all_tcp_types_both_ends_select_the_same_connection() -> None:
    net = Net()
    one = net.node(policy=TCP_ONLY)
    other = net.node(Role.CONTROLLED, TCP_ONLY, hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(5)
    assert isinstance(one.used, TcpPath) and isinstance(other.used, TcpPath)
    assert one.streams[one.used.stream].far == (other, other.used.stream)


def test_a_lost_valid_connection_gives_way_to_the_next_best_pair() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, policy(transports=["tcp"], tcp_types=["active"]))
    node.gather()
    peer = Peer(node)
    peer.introduce(
        tcp_candidate(TcpType.PASSIVE, 6000, foundation="a", priority=900),
        tcp_candidate(TcpType.PASSIVE, 6001, foundation="b", priority=100),
        end=False,
    )
    net.run(0.1)
    first, second = (node.connected(stream) for stream in list(node.dialling))
    peer.answers_all()
    assert node.used == TcpPath(first)
    node.fails(first, Failure.RESET)
    assert node.used == TcpPath(second)
    assert node.is_in(AgentState.CONNECTED)
