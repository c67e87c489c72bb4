"""The state of the session, the paths in use, and when it fails (RFC 8445 s8.1.2, RFC 8863, RFC 8838 s8)."""

from __future__ import annotations

import pytest

from candidates.candidate import TcpType
from candidates.parameters import IceParameters
from ice_tcp.core.commands import Admit, Connect, Failure, TcpPath, UdpPath, Use
from ice_tcp.core.events import AgentState, PairState, Role, StateChanged
from ice_tcp.core.trace import ConsentChecked
from ice_tcp.core.verdicts import Verdict
from tests.core.net import (
    AWAY,
    LITE,
    UDP_ONLY,
    Net,
    Node,
    address,
    policy,
    tcp_candidate,
    tcp_only,
    udp_candidate,
)
from tests.core.peer import PARAMETERS, Peer

PATIENCE = UDP_ONLY.timeouts.patience
LITE_PEER = IceParameters(PARAMETERS.ufrag, PARAMETERS.pwd, ("ice2",), lite=True)


# -- states


def test_a_new_agent_is_new() -> None:
    assert Net().node().is_in(AgentState.NEW)


def test_the_states_of_a_session_that_works() -> None:
    net = Net()
    one, other = net.node(), net.node(Role.CONTROLLED, hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(1)
    one.close()
    assert one.states == [
        (AgentState.CHECKING, None),
        (AgentState.CONNECTED, None),
        (AgentState.COMPLETED, None),
        (AgentState.CLOSED, None),
    ]


def test_a_state_is_told_when_it_changes_only() -> None:
    net = Net()
    one, other = net.node(), net.node(Role.CONTROLLED, hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(60)
    told = one.all_events(StateChanged)
    assert len(told) == len({event.state for event in told})


# -- failure and patience


def test_no_failure_before_the_pac_timer_ends() -> None:
    """RFC 8863 s4: MUST NOT update a checklist state to Failed while the timer is still running."""
    net = Net()
    node = net.node()
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    net.run(0)
    peer.answers(code=400)
    net.run(PATIENCE - 0.1)
    assert node.is_in(AgentState.CHECKING)
    net.run(0.2)
    assert node.states[-1] == (AgentState.FAILED, Verdict.ALL_PAIRS_FAILED)


def test_the_pac_timer_begins_with_the_checks_even_without_candidates() -> None:
    """RFC 8863 s4: even if it has not sent or received any ICE candidates."""
    net = Net()
    node = net.node()
    node.gather()
    node.start()
    net.run(100)
    assert node.is_in(AgentState.CHECKING)
    node.know(PARAMETERS)
    net.run(PATIENCE - 0.1)
    assert node.is_in(AgentState.CHECKING)
    net.run(0.2)
    assert node.states[-1] == (AgentState.FAILED, Verdict.NO_REMOTE_CANDIDATES)


def test_a_peer_reflexive_candidate_saves_a_session_whose_pairs_all_failed() -> None:
    """RFC 8863 s3: what the PAC timer is for."""
    net = Net()
    node = net.node()
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    net.run(0)
    peer.answers(code=400)
    net.run(30)
    peer.asks(peer.udp_path(5999))
    peer.plays_along(1)
    assert node.is_in(AgentState.COMPLETED)


def test_a_pair_that_is_still_checked_outlives_the_pac_timer() -> None:
    """RFC 8863 s4: only those with no pairs left to check fail."""
    net = Net()
    node = net.node()
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    net.run(20)
    node.hear_of(udp_candidate())
    net.run(PATIENCE - 1)
    assert node.is_in(AgentState.CHECKING)
    peer.answers_all()
    assert node.is_in(AgentState.COMPLETED)


def test_where_nobody_can_reach_us_hopelessness_is_told_at_once() -> None:
    """docs/deviations.md: only active candidates, both ends of candidates, every pair failed."""
    net = Net()
    node = net.node(policy=tcp_only("active"))
    node.gather()
    Peer(node).introduce(tcp_candidate(TcpType.PASSIVE))
    net.run(0)
    node.fails(next(iter(node.dialling)), Failure.REFUSED)
    assert node.states[-1] == (AgentState.FAILED, Verdict.ALL_PAIRS_FAILED)
    assert net.now < 1001


@pytest.mark.parametrize("missing", ["end of candidates", "reachability"])
def test_without_all_of_it_nothing_is_hopeless(missing: str) -> None:
    net = Net()
    node = net.node(policy=tcp_only("active") if missing != "reachability" else tcp_only("active", "passive"))
    node.gather()
    Peer(node).introduce(tcp_candidate(TcpType.PASSIVE), end=missing != "end of candidates")
    net.run(0)
    node.fails(next(iter(node.dialling)), Failure.REFUSED)
    net.run(10)
    assert node.is_in(AgentState.CHECKING)


@pytest.mark.parametrize(
    ("hosts", "candidates", "verdict"),
    [
        ((), (udp_candidate(),), Verdict.NO_LOCAL_CANDIDATES),
        (("192.0.2.1",), (), Verdict.NO_REMOTE_CANDIDATES),
        (("192.0.2.1",), (udp_candidate(host="2001:db8::9"),), Verdict.NO_PAIRS),
        (("192.0.2.1",), (udp_candidate(),), Verdict.ALL_PAIRS_FAILED),
    ],
    ids=["no local", "no remote", "no pairs", "all failed"],
)
def test_a_failed_session_says_why(hosts: tuple[str, ...], candidates: tuple[object, ...], verdict: Verdict) -> None:
    net = Net()
    node = net.node(hosts=hosts)
    node.gather()
    Peer(node).introduce(*candidates)  # type: ignore[arg-type]
    net.run(85)
    assert node.states[-1] == (AgentState.FAILED, verdict)


def test_one_component_without_a_path_fails_the_session() -> None:
    """RFC 8445 s12.1: unless it can produce a selected pair for each component, it MUST NOT continue sending data."""
    net = Net()
    node = net.node(Role.CONTROLLED, components=2)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(5000, component=1), udp_candidate(5001, component=2, foundation="2"))
    net.run(0.06)
    peer.answers(node.new_requests[1], code=400)
    for _ in range(45):
        for sent in peer.unanswered():
            peer.answers(sent, code=400 if sent.remote.port == 5001 else None)
        net.run(1)
    assert node.states[-1] == (AgentState.FAILED, Verdict.ALL_PAIRS_FAILED)
    assert node.used is None


def test_after_a_failure_nothing_is_sent_but_answers() -> None:
    net = Net()
    node = net.node()
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    net.run(85)
    assert node.is_in(AgentState.FAILED)
    sent = len(node.requests)
    assert peer.asks(peer.udp_path()) is not None
    net.run(60)
    assert len(node.requests) == sent


def test_after_a_failure_no_connection_is_open() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("passive"))
    node.gather()
    peer = Peer(node)
    peer.introduce()
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    peer.asks(path)
    net.run(85)
    assert node.is_in(AgentState.FAILED)
    assert node.streams == {}


def test_a_late_answer_does_not_make_a_failed_session_use_a_path() -> None:
    """FAILED is left by a restart only."""
    net = Net()
    node = net.node(Role.CONTROLLED, components=2)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(5001, component=2, foundation="2"), end=False)
    net.run(20)
    node.hear_of(udp_candidate(5000, component=1))
    net.run(25)
    assert node.is_in(AgentState.FAILED)
    late = next(sent for sent in node.new_requests if sent.remote.port == 5000)
    peer.answers(late)
    assert [use for use in node.all_commands(Use) if use.path is not None] == []
    assert node.agent.selected_path() is None


# -- towards a lite peer


def test_a_lite_peer_is_checked_and_nominated() -> None:
    """RFC 8445 s6.1.1: the full agent forms check lists, generates checks and nominates."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node, parameters=LITE_PEER)
    peer.introduce(udp_candidate())
    peer.plays_along(1)
    assert node.is_in(AgentState.COMPLETED)
    assert node.new_requests[-1].message.use_candidate


def test_a_full_and_a_lite_agent_connect_over_udp_and_over_tcp() -> None:
    for lite in (LITE, policy(lite=True, transports=["tcp"], candidate_types=["host"], tcp_types=["passive"])):
        net = Net()
        full = net.node(policy=policy())
        other = net.node(Role.CONTROLLED, lite, hosts=[AWAY], seed=2)
        net.meet(full, other)
        net.run(10)
        assert full.state is other.state is AgentState.COMPLETED
        assert isinstance(other.used, UdpPath if lite is LITE else TcpPath)


# -- as a lite agent


def lite(net: Net) -> tuple[Node, Peer]:
    node = net.node(Role.CONTROLLED, LITE)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    return node, peer


def test_a_lite_agent_answers_and_never_asks() -> None:
    """RFC 8445 s6.2, s7.3.2."""
    net = Net()
    node, peer = lite(net)
    assert peer.asks(peer.udp_path()) is not None
    net.run(30)
    assert node.requests == []
    assert node.all_commands(Connect) == []


def test_a_lite_agent_selects_what_the_peer_nominates() -> None:
    """RFC 8445 s7.3.2: the pair is placed into the valid list, and its nominated flag set."""
    node, peer = lite(Net())
    peer.asks(peer.udp_path())
    assert node.used is None
    peer.asks(peer.udp_path(), use_candidate=True)
    assert node.used == peer.udp_path()
    assert node.is_in(AgentState.COMPLETED)


def test_a_lite_agent_does_not_ask_for_consent() -> None:
    """docs/deviations.md, RFC 7675 s2: a full implementation obtains consent."""
    net = Net()
    node, peer = lite(net)
    peer.asks(peer.udp_path(), use_candidate=True)
    net.run(60)
    assert node.is_in(AgentState.COMPLETED)
    assert node.traced(ConsentChecked) == []


def test_a_lite_agent_takes_a_nominated_connection() -> None:
    """RFC 6544 s7.2: full or lite, MUST be prepared to receive incoming connections."""
    net = Net()
    node, peer = lite(net)
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    peer.asks(path, use_candidate=True)
    assert node.used == path


# -- both lite


def both_lite(net: Net, *candidates: object, role: Role = Role.CONTROLLED) -> Node:
    node = net.node(role, LITE, hosts=["192.0.2.1"])
    node.gather()
    Peer(node, parameters=LITE_PEER).introduce(*candidates)  # type: ignore[arg-type]
    return node


@pytest.mark.parametrize("role", list(Role))
def test_two_lite_agents_choose_without_checks(role: Role) -> None:
    """RFC 8445 s8.2: the pair is added to the valid list; no checks are ever sent (s6.1.1)."""
    net = Net()
    node = both_lite(net, udp_candidate(), role=role)
    assert node.used == UdpPath(node.socket(), address(AWAY, 5000))
    assert node.is_in(AgentState.COMPLETED)
    assert node.all_commands(Admit) == [Admit(UdpPath(node.socket(), address(AWAY, 5000)))]
    net.run(60)
    assert node.requests == []


def test_two_lite_agents_choose_the_best_pair() -> None:
    """docs/deviations.md: by priority, not by RFC 6724."""
    node = both_lite(Net(), udp_candidate(5001, priority=5, foundation="2"), udp_candidate(5000, priority=9))
    assert node.used == UdpPath(node.socket(), address(AWAY, 5000))


def test_two_lite_agents_choose_whatever_comes_first() -> None:
    """That the peer is lite may be known after its candidates."""
    net = Net()
    node = net.node(Role.CONTROLLED, LITE)
    node.gather()
    node.hear_of(udp_candidate())
    node.start()
    node.know(LITE_PEER)
    node.hear_end()
    assert node.used == UdpPath(node.socket(), address(AWAY, 5000))


def test_two_lite_agents_choose_when_both_have_all_candidates() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, LITE)
    node.gather()
    Peer(node, parameters=LITE_PEER).introduce(udp_candidate(), end=False)
    assert node.used is None
    node.hear_end()
    assert node.used is not None


def test_two_lite_agents_agree() -> None:
    net = Net()
    one = net.node(policy=LITE)
    other = net.node(Role.CONTROLLED, LITE, hosts=[AWAY], seed=2)
    net.meet(one, other)
    assert one.state is other.state is AgentState.COMPLETED
    ours, theirs = one.agent.selected_path(), other.agent.selected_path()
    assert ours is not None and theirs is not None
    assert ours.local.address == theirs.remote.address


def test_a_failed_lite_agent_uses_no_path() -> None:
    """The peer nominated after our patience had ended: a path while FAILED would be no state at all."""
    net = Net()
    node = net.node(Role.CONTROLLED, LITE)
    node.gather()
    peer = Peer(node)
    peer.introduce()
    net.run(PATIENCE + 1)
    assert node.is_in(AgentState.FAILED)
    peer.asks(peer.udp_path(), use_candidate=True)
    assert node.used is None


# -- use of paths


def test_use_follows_admit() -> None:
    """The data path must take the data of a path before it is told to send there."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    net.run(0)
    peer.answers()
    order = [command for _, command in node.commands if isinstance(command, Admit | Use)]
    assert order == [Admit(peer.udp_path()), Use(1, peer.udp_path())]


def test_a_pair_has_its_states_in_order() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    net.run(0)
    peer.answers()
    assert [state for state, _ in node.pair_events(udp_candidate())] == [
        PairState.FROZEN,
        PairState.WAITING,
        PairState.IN_PROGRESS,
        PairState.SUCCEEDED,
    ]
