"""Winning back a selected TCP connection that was lost (RFC 6544 s11.1)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from candidates.candidate import TcpType
from ice_tcp.core.commands import Close, Connect, Failure, ListenerId, StreamId, TcpPath, Use
from ice_tcp.core.events import AgentState, PathSelected, Role
from ice_tcp.core.trace import Reopening, StreamEnded
from ice_tcp.core.verdicts import Verdict
from tests.core.net import AWAY, TCP_ONLY, Net, Node, policy, tcp_candidate, tcp_only
from tests.core.peer import Peer

REOPEN = TCP_ONLY.timeouts.reopen


def dialled(net: Net, tcptype: TcpType, role: Role = Role.CONTROLLED) -> tuple[Node, Peer, StreamId]:
    """A node that has selected a connection that it dialled from an active or a simultaneous-open candidate."""
    node = net.node(role, tcp_only(tcptype.value))
    node.gather()
    peer = Peer(node)
    peer.introduce(tcp_candidate(TcpType.PASSIVE if tcptype is TcpType.ACTIVE else TcpType.SO))
    net.run(0.001)
    stream = node.connected(next(iter(node.dialling)))
    peer.answers_all()
    if role is Role.CONTROLLED:
        peer.asks(TcpPath(stream), use_candidate=True)
    assert node.is_in(AgentState.COMPLETED)
    return node, peer, stream


def accepted(net: Net, role: Role = Role.CONTROLLED) -> tuple[Node, Peer, StreamId]:
    """A node that has selected a connection that its passive candidate accepted."""
    node = net.node(role, tcp_only("passive"))
    node.gather()
    peer = Peer(node)
    peer.introduce(tcp_candidate(TcpType.ACTIVE))
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    peer.asks(path)
    peer.answers_all()
    if role is Role.CONTROLLED:
        peer.asks(path, use_candidate=True)
    assert node.is_in(AgentState.COMPLETED)
    return node, peer, path.stream


def comes_back(node: Node, peer: Peer, port: int) -> TcpPath:
    """The peer dials again."""
    return peer.dials(node, next(iter(node.listeners)), port)


@pytest.mark.parametrize("tcptype", [TcpType.ACTIVE, TcpType.SO])
def test_the_side_that_dials_reopens_and_checks(tcptype: TcpType) -> None:
    """RFC 6544 s11.1: it MUST reopen a connection, and MUST send a connectivity check."""
    net = Net()
    node, peer, stream = dialled(net, tcptype)
    net.run(10)
    node.fails(stream, Failure.RESET)
    assert node.states[-1] == (AgentState.DISCONNECTED, Verdict.RESET)
    assert node.all_commands(Use)[-1] == Use(1, None)
    net.run(0.1)
    again = node.connected(next(iter(node.dialling)))
    assert node.requests[-1].path == TcpPath(again)
    assert node.used is None
    peer.answers()
    assert node.used == TcpPath(again)
    assert node.is_in(AgentState.COMPLETED)
    assert node.traced(Reopening) == [Reopening(1, dialling=True)]


@pytest.mark.parametrize("end", ["fin", "reset"])
def test_a_fin_is_a_loss_as_a_reset_is(end: str) -> None:
    """RFC 7675 s5.2: attempt to re-establish the connection."""
    net = Net()
    node, _, stream = dialled(net, TcpType.ACTIVE)
    net.run(1)
    if end == "fin":
        node.ends(stream)
    else:
        node.fails(stream, Failure.RESET)
    net.run(0.1)
    assert len(node.dialling) == 1


def test_a_reopened_so_connection_comes_from_the_same_port() -> None:
    net = Net()
    node, _, stream = dialled(net, TcpType.SO)
    net.run(10)
    node.fails(stream, Failure.RESET)
    net.run(0.1)
    assert {connect.listener for connect in node.all_commands(Connect)} == {ListenerId(next(iter(node.listeners)))}


def test_a_refused_reopening_is_tried_again_with_jitter() -> None:
    net = Net()
    node, _, stream = dialled(net, TcpType.ACTIVE)
    net.run(10)
    node.fails(stream, Failure.RESET)
    starts = []
    for _ in range(100):
        net.run(0.05)
        if node.dialling:
            starts.append(net.now)
            node.fails(next(iter(node.dialling)), Failure.REFUSED)
    gaps = [later - sooner for sooner, later in pairwise(starts)]
    assert 5 <= len(starts) <= 15
    assert min(gaps) >= 0.35


def test_a_reopening_that_succeeds_later_is_as_good() -> None:
    net = Net()
    node, peer, stream = dialled(net, TcpType.ACTIVE)
    net.run(10)
    node.fails(stream, Failure.RESET)
    net.run(0.1)
    node.fails(next(iter(node.dialling)), Failure.REFUSED)
    net.run(1)
    again = node.connected(next(iter(node.dialling)))
    peer.answers()
    assert node.used == TcpPath(again)


def test_the_passive_side_waits_and_takes_the_new_connection() -> None:
    """RFC 6544 s11.1: MUST await an incoming connection request."""
    net = Net()
    node, peer, stream = accepted(net)
    net.run(10)
    node.fails(stream, Failure.RESET)
    assert node.traced(Reopening) == [Reopening(1, dialling=False)]
    net.run(2)
    assert node.all_commands(Connect) == []
    path = comes_back(node, peer, 50_777)
    peer.asks(path)
    assert node.requests[-1].path == path
    peer.answers()
    assert node.used == path
    assert node.is_in(AgentState.COMPLETED)


def test_the_passive_side_takes_the_new_connection_before_it_has_noticed_the_loss() -> None:
    """A NAT rebooted: no FIN and no RST came."""
    net = Net()
    node, peer, stream = accepted(net)
    net.run(10)
    path = comes_back(node, peer, 50_777)
    peer.asks(path)
    peer.answers()
    assert node.used == path
    assert Close(stream) in node.all_commands(Close)


def test_a_connection_from_another_host_does_not_replace_the_selected_one() -> None:
    net = Net()
    node, peer, stream = accepted(net)
    net.run(10)
    other = peer.dials(node, next(iter(node.listeners)), 50_777, "203.0.113.9")
    peer.asks(other)
    peer.answers_all()
    assert node.used == TcpPath(stream)


def test_an_unauthenticated_connection_does_not_replace_the_selected_one() -> None:
    net = Net()
    node, peer, stream = accepted(net)
    net.run(10)
    path = comes_back(node, peer, 50_777)
    peer.asks(path, peer.request(password="thisIsNotThePassword22"))
    net.run(11)
    assert node.used == TcpPath(stream)
    assert StreamEnded(path.stream, Verdict.IDLE) in node.traced(StreamEnded)


@pytest.mark.parametrize("side", ["active", "so", "passive"])
def test_after_30_seconds_the_path_is_given_up(side: str) -> None:
    """Then only a restart helps."""
    net = Net()
    node, _, stream = accepted(net) if side == "passive" else dialled(net, TcpType(side))
    net.run(1)
    node.fails(stream, Failure.RESET)
    net.run(REOPEN - 0.1)
    assert node.is_in(AgentState.DISCONNECTED)
    net.run(0.2)
    assert node.states[-1] == (AgentState.FAILED, Verdict.PATH_LOST)
    assert node.dialling == {}


def test_the_end_of_patience_does_not_cut_a_reopening_short() -> None:
    """The PAC timer ends between two attempts: that is no reason to fail."""
    net = Net()
    node, peer, stream = dialled(net, TcpType.ACTIVE)
    while net.now < 1000 + TCP_ONLY.timeouts.patience - 2:
        peer.plays_along(0.5, step=0.25)
    node.fails(stream, Failure.RESET)
    for _ in range(80):
        net.run(0.05)
        if node.dialling:
            node.fails(next(iter(node.dialling)), Failure.REFUSED)
    assert net.now > 1000 + TCP_ONLY.timeouts.patience
    assert node.is_in(AgentState.DISCONNECTED)


def test_end_of_candidates_between_two_attempts_does_not_end_the_session() -> None:
    net = Net()
    node, peer, stream = dialled(net, TcpType.ACTIVE)
    while net.now < 1000 + TCP_ONLY.timeouts.patience + 1:
        peer.plays_along(0.5, step=0.25)
    node.fails(stream, Failure.RESET)
    net.run(0.1)
    node.fails(next(iter(node.dialling)), Failure.REFUSED)
    node.hear_end()
    assert node.is_in(AgentState.DISCONNECTED)


def test_both_sides_of_a_so_connection_come_back() -> None:
    net = Net()
    one = net.node(policy=tcp_only("so"))
    other = net.node(Role.CONTROLLED, tcp_only("so"), hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(10)
    one.break_stream()
    net.run(5)
    assert one.state is other.state is AgentState.COMPLETED
    assert isinstance(one.used, TcpPath) and isinstance(other.used, TcpPath)
    assert one.streams[one.used.stream].far == (other, other.used.stream)


@pytest.mark.parametrize("again", range(3))
def test_an_active_and_a_passive_side_come_back_as_often_as_needed(again: int) -> None:
    net = Net()
    one = net.node(policy=tcp_only("active"))
    other = net.node(Role.CONTROLLED, tcp_only("passive"), hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(10)
    for _ in range(again + 1):
        one.break_stream()
        net.run(5)
        assert one.state is other.state is AgentState.COMPLETED
    assert len(one.streams) == len(other.streams) == 1
    assert len(other.agent.remote_candidates) <= 2


def test_a_pending_reopening_goes_when_the_peer_came_first() -> None:
    """From another port, as a NAT may map it: the accepted connection is used and the dial is closed."""
    net = Net()
    node, peer, stream = dialled(net, TcpType.SO)
    net.run(10)
    node.fails(stream, Failure.RESET)
    net.run(0.1)
    (pending,) = node.dialling
    path = comes_back(node, peer, 50_777)
    peer.asks(path)
    peer.answers()
    assert node.used == path
    assert Close(pending) in node.all_commands(Close)
    assert node.dialling == {}


def test_the_new_path_is_told() -> None:
    net = Net()
    node, peer, stream = dialled(net, TcpType.ACTIVE)
    net.run(10)
    node.fails(stream, Failure.RESET)
    net.run(0.1)
    again = node.connected(next(iter(node.dialling)))
    peer.answers()
    last = node.all_events(PathSelected)[-1].selected
    assert (last.path, last.nominated) == (TcpPath(again), True)


def test_consent_goes_on_along_the_reopened_connection() -> None:
    """RFC 7675 s5.1: consent must be regained before data is sent; the check does it."""
    net = Net()
    one = net.node(policy=tcp_only("active"))
    other = net.node(Role.CONTROLLED, tcp_only("passive"), hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(10)
    one.break_stream()
    net.run(70)
    assert one.state is other.state is AgentState.COMPLETED


def test_a_lost_selected_udp_socket_is_not_reopened() -> None:
    """It fails with the network's word: only a restart gathers anew."""
    net = Net()
    node = net.node(Role.CONTROLLED, policy(transports=["udp"]))
    other = net.node(hosts=[AWAY], seed=2)
    net.meet(node, other)
    net.run(5)
    node.socket_fails(node.socket(), Failure.ADDRESS_UNAVAILABLE)
    assert node.states[-1] == (AgentState.FAILED, Verdict.ADDRESS_UNAVAILABLE)
