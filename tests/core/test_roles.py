"""Roles and their conflicts (RFC 8445 s6.1.1, s7.2.5.1, s7.3.1.1)."""

from __future__ import annotations

import pytest

from candidates.parameters import IceParameters
from ice_tcp import stun
from ice_tcp.core.events import AgentState, PairState, Role, RoleChanged
from ice_tcp.core.trace import RoleConflict
from tests.core.net import AWAY, LITE, Net, Node, udp_candidate
from tests.core.peer import PARAMETERS, Peer

HIGHEST = 2**64 - 1


def checking(net: Net, role: Role, tie_breaker: int = HIGHEST) -> tuple[Node, Peer]:
    """A node whose peer claims the same role, with one check on its way."""
    node = net.node(role)
    node.gather()
    peer = Peer(node, role=role, tie_breaker=tie_breaker)
    peer.introduce(udp_candidate(), end=False)
    net.run(0.001)
    return node, peer


def tie_breaker(message: stun.Message) -> int:
    value = message.ice_controlling if message.ice_controlling is not None else message.ice_controlled
    assert value is not None
    return value


def test_the_tie_breaker_is_random_and_has_64_bits() -> None:
    """RFC 8445 s7.3.1.1: each agent picks its own at random."""
    values = set()
    for seed in range(20):
        net = Net()
        node = net.node(seed=seed)
        node.gather()
        Peer(node).introduce(udp_candidate())
        net.run(0)
        values.add(tie_breaker(node.requests[0].message))
    assert len(values) == 20
    assert max(values) >= 2**63


def test_controlling_with_the_larger_tie_breaker_refuses_with_487_and_stays() -> None:
    """RFC 8445 s7.3.1.1."""
    node, peer = checking(Net(), Role.CONTROLLING, tie_breaker=0)
    answer = peer.asks(peer.udp_path())
    assert answer is not None and answer.error_code is not None
    assert answer.error_code.code == 487
    assert node.agent.role is Role.CONTROLLING
    assert node.traced(RoleConflict) == [RoleConflict(switched=False)]


def test_controlling_with_an_equal_tie_breaker_refuses_with_487() -> None:
    """RFC 8445 s7.3.1.1: larger than or equal."""
    node, peer = checking(Net(), Role.CONTROLLING)
    peer.tie_breaker = tie_breaker(node.requests[0].message)
    answer = peer.asks(peer.udp_path())
    assert answer is not None and answer.error_code is not None
    assert answer.error_code.code == 487


def test_controlling_with_the_smaller_tie_breaker_gives_in_and_answers_with_success() -> None:
    """RFC 8445 s7.3.1.1."""
    node, peer = checking(Net(), Role.CONTROLLING)
    answer = peer.asks(peer.udp_path())
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS
    assert node.agent.role is Role.CONTROLLED
    assert node.all_events(RoleChanged) == [RoleChanged(Role.CONTROLLED)]


def test_controlled_with_the_smaller_tie_breaker_refuses_with_487_and_stays() -> None:
    """RFC 8445 s7.3.1.1."""
    node, peer = checking(Net(), Role.CONTROLLED)
    answer = peer.asks(peer.udp_path())
    assert answer is not None and answer.error_code is not None
    assert answer.error_code.code == 487
    assert node.agent.role is Role.CONTROLLED


def test_controlled_with_the_larger_tie_breaker_takes_control() -> None:
    """RFC 8445 s7.3.1.1."""
    node, peer = checking(Net(), Role.CONTROLLED, tie_breaker=0)
    answer = peer.asks(peer.udp_path())
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS
    assert node.agent.role is Role.CONTROLLING


def test_controlled_with_an_equal_tie_breaker_takes_control() -> None:
    """RFC 8445 s7.3.1.1: larger than or equal."""
    node, peer = checking(Net(), Role.CONTROLLED)
    peer.tie_breaker = tie_breaker(node.requests[0].message)
    peer.asks(peer.udp_path())
    assert node.agent.role is Role.CONTROLLING


@pytest.mark.parametrize("role", list(Role))
def test_a_487_switches_the_role_and_repeats_the_check_with_a_new_tie_breaker(role: Role) -> None:
    """RFC 8445 s7.2.5.1: switch, enqueue the pair, and MUST change the tie-breaker value."""
    node, peer = checking(Net(), role)
    first = node.requests[0].message
    peer.answers(code=487)
    other = Role.CONTROLLED if role is Role.CONTROLLING else Role.CONTROLLING
    assert node.agent.role is other
    second = node.requests[-1].message
    assert second.transaction_id != first.transaction_id
    assert (second.ice_controlling is not None) is (other is Role.CONTROLLING)
    assert tie_breaker(second) != tie_breaker(first)
    assert node.pair_events(udp_candidate())[-1] == (PairState.IN_PROGRESS, None)


def test_several_487_to_checks_of_the_same_role_switch_once() -> None:
    """RFC 8445 s7.2.5.1: the role that counts is the one that the request claimed."""
    net = Net()
    node = net.node(Role.CONTROLLING)
    node.gather()
    peer = Peer(node)
    peer.introduce(*[udp_candidate(5000 + n, foundation=str(n)) for n in range(3)], end=False)
    net.run(0.2)
    for sent in node.new_requests[:3]:
        peer.answers(sent, code=487)
    assert node.agent.role is Role.CONTROLLED
    assert len(node.all_events(RoleChanged)) == 1
    assert all(sent.message.ice_controlled is not None for sent in node.new_requests[3:])


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("seed", range(5))
def test_two_agents_of_one_role_settle_it(role: Role, seed: int) -> None:
    net = Net()
    one = net.node(role, seed=seed)
    other = net.node(role, hosts=[AWAY], seed=100 + seed)
    net.meet(one, other)
    net.run(3)
    assert {one.agent.role, other.agent.role} == set(Role)
    assert one.state is other.state is AgentState.COMPLETED


def test_after_a_switch_the_other_side_nominates() -> None:
    """RFC 8445 s7.3.1.1: the change impacts whether the agent is responsible for nominating."""
    net = Net()
    node, peer = checking(net, Role.CONTROLLED, tie_breaker=0)
    peer.role = Role.CONTROLLED
    peer.asks(peer.udp_path())
    assert node.agent.role is Role.CONTROLLING
    peer.plays_along(1)
    assert node.new_requests[-1].message.use_candidate
    assert node.is_in(AgentState.COMPLETED)


def test_a_nomination_that_meets_a_conflict_is_not_our_business_any_more() -> None:
    net = Net()
    node, peer = checking(net, Role.CONTROLLING)
    peer.answers()
    nominating = node.new_requests[-1]
    assert nominating.message.use_candidate
    peer.answers(nominating, code=487)
    assert node.agent.role is Role.CONTROLLED
    assert not node.new_requests[-1].message.use_candidate
    peer.answers()
    selected = node.agent.selected_path()
    assert selected is not None
    assert not selected.nominated


@pytest.mark.parametrize("role", list(Role))
def test_towards_a_lite_peer_we_control(role: Role) -> None:
    """RFC 8445 s6.1.1: the full agent MUST take the controlling role."""
    node = Net().node(role)
    node.gather()
    node.know(IceParameters(PARAMETERS.ufrag, PARAMETERS.pwd, lite=True))
    assert node.agent.role is Role.CONTROLLING


@pytest.mark.parametrize("role", list(Role))
def test_a_lite_agent_is_controlled(role: Role) -> None:
    """RFC 8445 s6.1.1."""
    node = Net().node(role, LITE)
    node.gather()
    node.know(PARAMETERS)
    assert node.agent.role is Role.CONTROLLED


def test_a_restart_keeps_the_roles() -> None:
    """RFC 8445 s6.1.1: they persist throughout the lifetime of the session."""
    net = Net()
    node, _ = checking(net, Role.CONTROLLED, tie_breaker=0)
    node.net.nodes[0].receive(Peer(node).udp_path(), Peer(node, role=Role.CONTROLLED, tie_breaker=0).request())
    assert node.agent.role is Role.CONTROLLING
    node.restart()
    assert node.agent.role is Role.CONTROLLING
