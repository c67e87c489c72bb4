"""The check list: states, freezing, order, the triggered queue, the limit (RFC 8445 s6.1.2.6, s6.1.4)."""

from __future__ import annotations

import pytest

from candidates.candidate import Candidate, TcpType
from candidates.pairing import refusal
from ice_tcp.core.commands import Connect
from ice_tcp.core.events import PairChanged, PairState, Role
from ice_tcp.core.trace import CandidateIgnored, DropReason, MessageDropped
from ice_tcp.core.verdicts import Verdict
from tests.core.net import HOME, Net, Node, policy, tcp_candidate, tcp_only, udp_candidate
from tests.core.peer import Peer

STRICT = policy(transports=["udp"], pacing={"strict": True})


def states(node: Node) -> dict[tuple[int, int], PairState]:
    """By component and remote port."""
    return {(each.component, each.remote.address.port): each.state for each in node.agent.pair_statistics()}


def thawed(node: Node) -> set[tuple[int, int]]:
    """By component and remote port: the pairs that have been Waiting."""
    changes = node.all_events(PairChanged)
    return {(each.component, each.remote.address.port) for each in changes if each.state is PairState.WAITING}


def ready(net: Net, *candidates: Candidate, components: int = 1, role: Role = Role.CONTROLLING) -> tuple[Node, Peer]:
    """A node that has just begun to check these remote candidates."""
    node = net.node(role, components=components)
    node.gather()
    peer = Peer(node)
    peer.introduce(*candidates)
    return node, peer


def test_before_the_start_all_pairs_are_frozen() -> None:
    """RFC 8445 s6.1.2.6: initially all pairs are Frozen."""
    net = Net()
    node = net.node()
    node.gather()
    node.know(Peer(node).parameters)
    node.hear_of(udp_candidate(5000), udp_candidate(5001))
    assert set(states(node).values()) == {PairState.FROZEN}


def test_one_pair_of_each_foundation_is_waiting_the_others_frozen() -> None:
    """RFC 8445 s6.1.2.6: exactly one pair of each foundation."""
    node, _ = ready(
        Net(),
        udp_candidate(5000, foundation="a", priority=300),
        udp_candidate(5001, foundation="a", priority=200),
        udp_candidate(5002, foundation="b", priority=100),
    )
    assert thawed(node) == {(1, 5000), (1, 5002)}
    assert states(node)[1, 5001] is PairState.FROZEN


def test_of_one_foundation_the_lowest_component_is_waiting() -> None:
    """RFC 8445 s6.1.2.6: the pair with the lowest component ID, whatever its priority."""
    node, _ = ready(
        Net(),
        udp_candidate(5000, foundation="a", priority=100, component=1),
        udp_candidate(5001, foundation="a", priority=900, component=2),
        components=2,
    )
    assert thawed(node) == {(1, 5000)}
    assert states(node)[2, 5001] is PairState.FROZEN


def test_success_thaws_the_pairs_of_the_same_foundation() -> None:
    """RFC 8445 s7.2.5.3.3: in all components."""
    net = Net()
    node, peer = ready(
        net,
        udp_candidate(5000, foundation="a", component=1),
        udp_candidate(5001, foundation="a", component=2),
        components=2,
    )
    net.run(0)
    assert states(node)[2, 5001] is PairState.FROZEN
    peer.answers(node.requests[0])
    assert states(node)[2, 5001] is PairState.WAITING


def test_failure_leaves_the_pairs_of_the_same_foundation_frozen() -> None:
    """RFC 8445 s7.2.5.2: the agent does not change the states of other pairs with the same foundation."""
    net = Net()
    node, peer = ready(
        net, udp_candidate(5000, foundation="a", priority=300), udp_candidate(5001, foundation="a", priority=200)
    )
    net.run(0)
    peer.answers(node.requests[0], code=400)
    assert states(node) == {(1, 5000): PairState.FAILED, (1, 5001): PairState.FROZEN}


def test_a_frozen_pair_thaws_when_nothing_else_is_left_to_check() -> None:
    """RFC 8445 s6.1.4.2 step 2."""
    net = Net()
    node, peer = ready(
        net, udp_candidate(5000, foundation="a", priority=300), udp_candidate(5001, foundation="a", priority=200)
    )
    net.run(0)
    peer.answers(node.requests[0], code=400)
    net.run(0.06)
    assert states(node)[1, 5001] is PairState.IN_PROGRESS


def test_a_frozen_pair_stays_frozen_while_others_are_waiting() -> None:
    """RFC 8445 s6.1.4.2: step 2 is for when no pair is Waiting."""
    net = Net()
    node, _ = ready(
        net,
        udp_candidate(5000, foundation="a", priority=300),
        udp_candidate(5001, foundation="a", priority=200),
        udp_candidate(5002, foundation="b", priority=100),
    )
    net.run(0.06)
    assert [sent.remote.port for sent in node.new_requests] == [5000, 5002]
    assert states(node)[1, 5001] is PairState.FROZEN


def test_a_hanging_check_does_not_keep_its_foundation_frozen() -> None:
    """docs/deviations.md: when nothing else is left to do, the best Frozen pair is checked."""
    net = Net()
    node, _ = ready(
        net, udp_candidate(5000, foundation="a", priority=300), udp_candidate(5001, foundation="a", priority=200)
    )
    net.run(0.2)
    assert states(node) == {(1, 5000): PairState.IN_PROGRESS, (1, 5001): PairState.IN_PROGRESS}


def test_checks_go_out_by_priority_whatever_the_order_of_signaling() -> None:
    """RFC 8445 s6.1.4.2 step 3."""
    net = Net()
    node, _ = ready(
        net,
        udp_candidate(5001, foundation="b", priority=100),
        udp_candidate(5002, foundation="c", priority=300),
        udp_candidate(5000, foundation="a", priority=200),
    )
    net.run(0.3)
    assert [sent.remote.port for sent in node.new_requests] == [5002, 5000, 5001]


def test_a_trickled_pair_of_a_new_foundation_is_waiting_at_once() -> None:
    """RFC 8838 s12."""
    net = Net()
    node = net.node()
    node.gather()
    Peer(node).introduce(udp_candidate(5000, foundation="a"), end=False)
    node.hear_of(udp_candidate(5001, foundation="b"))
    assert states(node)[1, 5001] is PairState.WAITING


def test_a_trickled_pair_of_a_foundation_under_check_is_frozen() -> None:
    """RFC 8838 s12."""
    net = Net()
    node = net.node()
    node.gather()
    Peer(node).introduce(udp_candidate(5000, foundation="a"), end=False)
    net.run(0)
    node.hear_of(udp_candidate(5001, foundation="a", priority=5))
    assert states(node)[1, 5001] is PairState.FROZEN


def test_a_trickled_pair_of_a_foundation_that_has_succeeded_is_waiting() -> None:
    """RFC 8838 s12: a Succeeded pair of the foundation has unfrozen the column."""
    net = Net()
    node = net.node(Role.CONTROLLED, components=2)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(5000, foundation="a"), end=False)
    net.run(0)
    peer.answers()
    node.hear_of(udp_candidate(5001, foundation="a", component=2))
    assert states(node)[2, 5001] is PairState.WAITING


def test_triggered_checks_leave_in_the_order_in_which_they_were_triggered() -> None:
    """RFC 8445 s6.1.4.1: the triggered-check queue is FIFO, and goes before ordinary checks."""
    net = Net()
    node = net.node(Role.CONTROLLED, STRICT)
    node.gather()
    peer = Peer(node)
    peer.introduce(*[udp_candidate(5000 + n, foundation=str(n), priority=1000 - n) for n in range(6)], end=False)
    net.run(0.001)
    for port in (5004, 5002, 5005):
        peer.asks(peer.udp_path(port))
    net.run(0.5)
    assert [sent.remote.port for sent in node.new_requests] == [5000, 5004, 5002, 5005, 5001, 5003]


def test_a_pair_stands_in_the_triggered_queue_once() -> None:
    """RFC 8445 s7.3.1.4: enqueued if not already present."""
    net = Net()
    node = net.node(Role.CONTROLLED, STRICT)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(5000, priority=9), udp_candidate(5001, foundation="2"), end=False)
    net.run(0.001)
    for _ in range(3):
        peer.asks(peer.udp_path(5002))
    net.run(0.5)
    assert [sent.remote.port for sent in node.new_requests].count(5002) == 1


def test_a_check_that_the_peer_made_brings_a_failed_pair_back() -> None:
    """RFC 8445 s7.3.1.4: Failed becomes Waiting."""
    net = Net()
    node, peer = ready(net, udp_candidate(), role=Role.CONTROLLED)
    net.run(0)
    peer.answers(code=400)
    assert states(node)[1, 5000] is PairState.FAILED
    peer.asks(peer.udp_path())
    peer.answers()
    assert states(node)[1, 5000] is PairState.SUCCEEDED


def test_a_pair_of_equal_ends_is_not_made_twice() -> None:
    """RFC 8445 s6.1.2.4."""
    net = Net()
    node = net.node()
    node.gather()
    Peer(node).introduce(udp_candidate(foundation="a"), udp_candidate(foundation="b"))
    assert len(node.agent.pair_statistics()) == 1
    assert [ignored.rule for ignored in node.traced(CandidateIgnored)] == ["duplicate"]


@pytest.mark.parametrize("remote", [TcpType.ACTIVE, TcpType.SO])
def test_tcp_types_that_do_not_fit_make_no_pair(remote: TcpType) -> None:
    """RFC 6544 s6.2: active pairs with passive only."""
    net = Net()
    node = net.node(policy=tcp_only("active"))
    node.gather()
    Peer(node).introduce(tcp_candidate(remote))
    assert node.agent.pair_statistics() == []
    assert refusal(node.agent.local_candidates[0], tcp_candidate(remote)) is not None


def test_a_local_passive_candidate_makes_no_pair_of_its_own() -> None:
    """RFC 6544 s6.2: such pairs are pruned; the peer's connection makes one."""
    net = Net()
    node = net.node(policy=tcp_only("passive"))
    node.gather()
    Peer(node).introduce(tcp_candidate(TcpType.ACTIVE))
    net.run(1)
    assert node.agent.pair_statistics() == []
    assert node.all_commands(Connect) == []


def test_remote_active_candidates_are_kept() -> None:
    """RFC 6544 s5.2: their addresses are needed, though nobody can connect to them."""
    net = Net()
    node = net.node(policy=tcp_only("passive"))
    node.gather()
    Peer(node).introduce(tcp_candidate(TcpType.ACTIVE))
    assert node.agent.remote_candidates == (tcp_candidate(TcpType.ACTIVE),)


def test_our_own_address_as_a_remote_candidate_is_ignored() -> None:
    net = Net()
    node = net.node()
    node.gather()
    (own,) = node.agent.local_candidates
    Peer(node).introduce(udp_candidate(own.address.port, host=HOME))
    assert node.agent.pair_statistics() == []
    assert node.traced(CandidateIgnored)[0].rule == Verdict.SELF_CONNECT.value
    net.run(1)
    assert node.requests == []


def test_our_own_listeners_as_remote_candidates_do_no_harm() -> None:
    """What dials itself from another port gets its own 401, and that is all."""
    net = Net()
    node = net.node(policy=tcp_only("active", "passive"))
    node.gather()
    passive = next(each for each in node.agent.local_candidates if each.tcptype is TcpType.PASSIVE)
    Peer(node).introduce(tcp_candidate(TcpType.PASSIVE, passive.address.port, host=HOME))
    net.run(1)
    assert (PairState.FAILED, Verdict.UNAUTHORIZED) in node.pair_events(
        tcp_candidate(TcpType.PASSIVE, passive.address.port, host=HOME)
    )


def test_the_list_keeps_the_best_pairs_up_to_its_limit() -> None:
    """RFC 8445 s6.1.2.5."""
    net = Net()
    node = net.node(policy=policy(transports=["udp"], limits={"pairs": 3}))
    node.gather()
    Peer(node).introduce(*[udp_candidate(5000 + n, foundation=str(n), priority=100 + n) for n in range(6)])
    assert sorted(pair.remote.address.port for pair in node.agent.pair_statistics()) == [5003, 5004, 5005]
    pruned = [event for event in node.all_events(PairChanged) if event.state is None]
    assert [event.verdict for event in pruned] == [Verdict.PRUNED] * 3


def test_a_full_list_drops_failed_pairs_first() -> None:
    """RFC 8838 s11: the agent SHOULD discard any pairs in the Failed state to make room."""
    net = Net()
    node = net.node(policy=policy(transports=["udp"], limits={"pairs": 2}))
    node.gather()
    peer = Peer(node)
    peer.introduce(
        udp_candidate(5000, foundation="a", priority=900),
        udp_candidate(5001, foundation="b", priority=500),
        end=False,
    )
    net.run(0)
    peer.answers(node.requests[0], code=400)
    node.hear_of(udp_candidate(5002, foundation="c", priority=100))
    assert sorted(pair.remote.address.port for pair in node.agent.pair_statistics()) == [5001, 5002]


def test_a_pair_in_progress_is_not_dropped_for_a_better_one() -> None:
    """RFC 8838 s10: pairs whose checks are in flight stay."""
    net = Net()
    node = net.node(policy=policy(transports=["udp"], limits={"pairs": 1}))
    node.gather()
    Peer(node).introduce(udp_candidate(5000, foundation="a", priority=100), end=False)
    net.run(0)
    node.hear_of(udp_candidate(5001, foundation="b", priority=900))
    assert [pair.remote.address.port for pair in node.agent.pair_statistics()] == [5000]


def test_a_thousand_candidates_are_cut_to_the_limit_and_the_agent_works_on() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(*[udp_candidate(5000 + n, foundation=str(n), priority=1000 + n) for n in range(1000)])
    assert len(node.agent.remote_candidates) == 100
    assert len(node.agent.pair_statistics()) == 100
    assert {record.rule for record in node.traced(CandidateIgnored)} == {"limits.remote_candidates"}
    net.run(0)
    peer.answers()
    assert node.agent.selected_path() is not None


def test_peer_reflexive_candidates_have_their_own_limit() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, policy(transports=["udp"], limits={"peer_reflexive": 3}))
    node.gather()
    peer = Peer(node)
    peer.introduce()
    for port in range(5000, 5010):
        assert peer.asks(peer.udp_path(port)) is not None
    assert len(node.agent.remote_candidates) == 3
    assert [record.reason for record in node.traced(MessageDropped)] == [DropReason.LIMIT] * 7


def test_pairs_get_new_priorities_with_a_new_role() -> None:
    """RFC 8445 s7.3.1.1: G is the controlling agent's priority, so the last bit of the pair's depends on the role."""
    net = Net()
    node = net.node()
    node.gather()
    peer = Peer(node, tie_breaker=2**64 - 1)
    peer.introduce(udp_candidate(priority=77))
    own = node.agent.local_candidates[0].priority
    assert [each.priority for each in node.agent.pair_statistics()] == [(77 << 32) + 2 * own + 1]
    peer.asks(peer.udp_path(), peer.request(role=Role.CONTROLLING))
    assert node.agent.role is Role.CONTROLLED
    assert [each.priority for each in node.agent.pair_statistics()] == [(77 << 32) + 2 * own]


def test_checks_go_to_the_remote_address_from_the_base() -> None:
    """RFC 8445 s6.1.4.2: from the base of the local candidate, here one of two hosts."""
    net = Net()
    node = net.node(hosts=[HOME, "2001:db8::1"])
    node.gather()
    Peer(node).introduce(udp_candidate(), udp_candidate(host="2001:db8::2"))
    net.run(0.2)
    pairs = {(node.sockets[sent.path.socket].host, sent.remote.host) for sent in node.requests}  # type: ignore[union-attr]
    assert pairs == {(HOME, udp_candidate().address.host), ("2001:db8::1", "2001:db8::2")}
