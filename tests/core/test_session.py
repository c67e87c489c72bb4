"""What adapters of other interfaces need: chosen credentials and roles, fewer components, pairs without checks."""

from __future__ import annotations

import pytest

from candidates.candidate import Candidate, TcpType
from candidates.parameters import ParametersError
from ice_tcp.core.commands import Admit, Close, Connect, UdpPath, Use
from ice_tcp.core.events import AgentState, Role
from ice_tcp.core.verdicts import Verdict
from tests.core.net import AWAY, UDP_ONLY, Net, Node, address, policy, tcp_candidate, udp_candidate
from tests.core.peer import Peer

PATIENCE = UDP_ONLY.timeouts.patience
CREDENTIALS = ("user", "password/of+22/characters")


# -- credentials


def test_credentials_can_be_chosen_until_a_restart_draws_others() -> None:
    """RFC 8445 s9: a restart changes both."""
    node = Net().node(credentials=CREDENTIALS)
    local = node.agent.local_parameters
    assert (local.ufrag, local.pwd) == CREDENTIALS
    node.do(node.agent.restart)
    local = node.agent.local_parameters
    assert local.ufrag != CREDENTIALS[0]
    assert local.pwd != CREDENTIALS[1]


def test_checks_under_chosen_credentials_are_answered() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, credentials=CREDENTIALS)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    answer = peer.asks(peer.udp_path())
    assert answer is not None
    assert answer.error_code is None


@pytest.mark.parametrize("credentials", [("abc", "x" * 22), ("abcd", "x" * 21), ("ab:d", "x" * 22)])
def test_credentials_that_break_the_grammar_are_misuse(credentials: tuple[str, str]) -> None:
    with pytest.raises(ParametersError):
        Net().node(credentials=credentials)


# -- roles


@pytest.mark.parametrize("role", list(Role))
def test_the_role_can_be_told_late(role: Role) -> None:
    """RFC 8445 s6.1.2.3: the pairs' priorities go by the role."""
    net = Net()
    node = net.node(Role.CONTROLLED if role is Role.CONTROLLING else Role.CONTROLLING)
    node.gather()
    node.hear_of(udp_candidate(priority=5))
    node.do(lambda now: node.agent.set_role(role, now))
    peer = Peer(node)
    peer.introduce()
    net.run(0)
    request = node.new_requests[0].message
    assert (request.ice_controlling is not None) is (role is Role.CONTROLLING)
    (pair,) = node.agent.pair_statistics()
    ours = pair.local.priority
    assert pair.priority == (5 << 32) + 2 * ours + (role is Role.CONTROLLING)


# -- fewer components


def two_and_one(net: Net, *, end: bool = True) -> tuple[Node, Peer]:
    """An agent with two components and a peer that tells candidates of the first only."""
    node = net.node(Role.CONTROLLED, components=2)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(), end=end)
    return node, peer


def test_components_that_the_peer_lacks_are_not_waited_for() -> None:
    """RFC 8445 s6.1.2.2: the number of components is effectively reduced."""
    net = Net()
    node, peer = two_and_one(net)
    peer.asks(peer.udp_path(), use_candidate=True)
    peer.plays_along(1)
    assert node.is_in(AgentState.COMPLETED)


def test_before_the_end_of_candidates_every_component_may_yet_come() -> None:
    net = Net()
    node, peer = two_and_one(net, end=False)
    peer.asks(peer.udp_path(), use_candidate=True)
    peer.plays_along(1)
    assert node.is_in(AgentState.CHECKING)
    node.hear_end()
    assert node.is_in(AgentState.COMPLETED)


@pytest.mark.parametrize("end", [True, False], ids=["before", "after"])
def test_what_the_lacking_component_had_is_closed_with_the_losers(end: bool) -> None:
    """RFC 8445 s8.3, whether the end of candidates comes before or after the conclusion."""
    net = Net()
    node, peer = two_and_one(net, end=end)
    first, second = node.sockets
    peer.asks(peer.udp_path(), use_candidate=True)
    peer.plays_along(1)
    if not end:
        node.hear_end()
    net.run(PATIENCE + 5)
    assert node.all_commands(Close) == [Close(second)]
    assert list(node.sockets) == [first]


def test_a_peer_without_any_candidates_reduces_nothing() -> None:
    """It may yet be learned from its checks, of every component."""
    net = Net()
    node = net.node(Role.CONTROLLED, components=2)
    node.gather()
    Peer(node).introduce()
    net.run(PATIENCE + 1)
    assert node.states[-1] == (AgentState.FAILED, Verdict.NO_REMOTE_CANDIDATES)


# -- patience until the end of candidates


def test_who_awaits_the_end_of_candidates_does_not_fail_before() -> None:
    """RFC 8838 s8: failed only if the remote agent has conveyed an end-of-candidates indication."""
    net = Net()
    node = net.node(awaits_end=True)
    node.gather()
    Peer(node).introduce(end=False)
    net.run(10 * PATIENCE)
    assert node.is_in(AgentState.CHECKING)
    node.hear_end()
    assert node.states[-1] == (AgentState.FAILED, Verdict.NO_REMOTE_CANDIDATES)


def test_a_late_candidate_still_connects_who_awaits_the_end() -> None:
    net = Net()
    node = net.node(awaits_end=True)
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    net.run(3 * PATIENCE)
    node.hear_of(udp_candidate())
    peer.plays_along(1)
    assert node.is_in(AgentState.COMPLETED)


# -- pairs without checks


def local_of(node: Node, component: int = 1) -> Candidate:
    return next(each for each in node.agent.local_candidates if each.component == component)


def select(node: Node, remote: Candidate, local: Candidate | None = None) -> None:
    node.do(lambda now: node.agent.select(local or local_of(node, remote.component), remote, now))


def test_a_pair_without_checks_carries_data_at_once() -> None:
    net = Net()
    node = net.node()
    node.gather()
    select(node, udp_candidate())
    path = UdpPath(node.socket(), address(AWAY, 5000))
    assert node.used == path
    assert node.all_commands(Admit) == [Admit(path)]
    assert node.is_in(AgentState.COMPLETED)
    selected = node.agent.selected_path()
    assert selected is not None
    assert selected.nominated


def test_a_peer_without_ice_gets_nothing_but_data() -> None:
    """No checks, no consent, no keepalives: it would not know them."""
    net = Net()
    node = net.node()
    node.gather()
    select(node, udp_candidate())
    net.run(120)
    assert node.sent == []
    assert node.is_in(AgentState.COMPLETED)


def test_signaling_that_goes_on_does_not_fail_a_session_without_checks() -> None:
    net = Net()
    node = net.node(components=2)
    node.gather()
    peer = Peer(node)
    select(node, udp_candidate())
    node.know(peer.parameters)
    node.hear_end()
    select(node, udp_candidate(5001, component=2))
    net.run(60)
    assert node.is_in(AgentState.COMPLETED)


def test_another_pair_can_be_selected_instead() -> None:
    net = Net()
    node = net.node()
    node.gather()
    select(node, udp_candidate())
    select(node, udp_candidate(5001))
    path = UdpPath(node.socket(), address(AWAY, 5001))
    assert node.used == path
    assert node.all_commands(Use)[-1] == Use(1, path)


def test_a_pair_that_cannot_be_is_misuse() -> None:
    node = Net().node(policy=policy(tcp_types=["active", "passive"]), components=2)
    node.gather()
    stranger = udp_candidate(host="192.0.2.77")
    tcp = next(each for each in node.agent.local_candidates if each.tcptype is TcpType.ACTIVE)
    for remote, local in (
        (udp_candidate(), stranger),
        (udp_candidate(host="2001:db8::9"), None),
        (udp_candidate(component=2), local_of(node)),
        (tcp_candidate(TcpType.PASSIVE), tcp),
    ):
        with pytest.raises(ValueError, match=r"local candidate|without checks"):
            select(node, remote, local)
    assert node.all_commands(Connect) == []
    assert node.used is None


def test_who_checks_leaves_selection_to_the_checks() -> None:
    net = Net()
    node = net.node()
    node.gather()
    Peer(node).introduce(udp_candidate())
    with pytest.raises(RuntimeError, match="checks have begun"):
        select(node, udp_candidate())
