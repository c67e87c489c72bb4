"""How a connection comes to be: active, passive, simultaneous open, redials, limits (RFC 6544 s7, s12)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest

from candidates.candidate import TcpType
from ice_tcp import stun
from ice_tcp.core.commands import Close, Connect, Failure, Listen, StreamId, TcpPath
from ice_tcp.core.events import AgentState, PairState, Role
from ice_tcp.core.trace import AcceptWon, DialFailed, DialStarted, FreshPort, StreamEnded, StreamOpened
from ice_tcp.core.verdicts import Verdict
from tests.core.net import AWAY, START, TCP_ONLY, Net, Node, address, policy, tcp_candidate, tcp_only
from tests.core.peer import Peer

SO = tcp_candidate(TcpType.SO)
RULES = TCP_ONLY.simultaneous_open


def dialling(net: Net, policy_: object = None, *, role: Role = Role.CONTROLLED) -> tuple[Node, Peer]:
    """A node whose first simultaneous open is under way."""
    node = net.node(role, policy_ or tcp_only("so"))  # type: ignore[arg-type]
    node.gather()
    peer = Peer(node)
    peer.introduce(SO, end=False)
    net.run(0)
    return node, peer


def attempts(node: Node) -> list[float]:
    return [at for at, command in node.commands if isinstance(command, Connect)]


def refusals(node: Node, count: int, after: float = 0.1) -> Iterator[int]:
    """Refuse one attempt after the other, each ``after`` seconds of its SYN, as soon as it is made."""
    for number in range(count):
        for _ in range(1000):
            if node.dialling:
                break
            node.net.run(0.01)
        else:
            return
        node.net.run(after)
        if node.dialling:
            node.fails(next(iter(node.dialling)), Failure.REFUSED)
        yield number


# -- simultaneous open: outcomes


def test_a_connect_that_succeeds_is_checked_at_once() -> None:
    """RFC 6544 s7.1; crossing SYNs look so on both sides."""
    net = Net()
    node, _ = dialling(net)
    stream = node.connected(next(iter(node.dialling)))
    assert [sent.path for sent in node.requests] == [TcpPath(stream)]


def test_a_refused_simultaneous_open_is_dialled_again_at_once() -> None:
    """FACTS: the SYN met a NAT that answers with RST; at once finds the peer's hole within an RTT."""
    net = Net()
    node, _ = dialling(net)
    net.run(0.1)
    node.fails(next(iter(node.dialling)), Failure.REFUSED)
    assert attempts(node) == pytest.approx([START, START + 0.1])
    assert node.pair_events(SO)[-1] == (PairState.IN_PROGRESS, None)
    assert [record.paced for record in node.traced(DialStarted)] == [True, False]


def test_redials_come_from_the_same_port() -> None:
    net = Net()
    node, _ = dialling(net)
    list(refusals(node, 4))
    assert {connect.listener for connect in node.all_commands(Connect)} == {node.listener(TcpType.SO)}


def test_after_a_burst_redials_are_rate_limited_and_jittered() -> None:
    """FACTS: on a LAN an unbounded redial is a SYN flood, and equal delays of both sides would phase-lock."""
    net = Net()
    node, _ = dialling(net, tcp_only("so", simultaneous_open={"fresh_ports": 0}))
    list(refusals(node, 30, after=0.0))
    starts = attempts(node)
    assert len(starts) > 20
    assert starts[RULES.burst - 1] == pytest.approx(START)
    for index, at in enumerate(starts):
        within = [each for each in starts[: index + 1] if each > at - 1.0]
        assert len(within) <= RULES.burst + RULES.rate + 1
    limited = [later - sooner for sooner, later in pairwise(starts[RULES.burst :])]
    assert len({round(gap, 6) for gap in limited}) > 5


def test_the_number_of_redials_is_bounded() -> None:
    net = Net()
    node, _ = dialling(net, tcp_only("so", simultaneous_open={"redials": 5, "fresh_ports": 0}))
    list(refusals(node, 50, after=0.0))
    assert len(attempts(node)) == 6
    assert node.pair_events(SO)[-1] == (PairState.FAILED, Verdict.REFUSED)


def test_an_attempt_ends_with_its_deadline_whatever_its_redials() -> None:
    net = Net()
    node, _ = dialling(net, tcp_only("so", simultaneous_open={"redials": 10_000, "fresh_ports": 0}))
    list(refusals(node, 1000, after=0.0))
    timeout = TCP_ONLY.timeouts.connect
    assert attempts(node)[-1] < START + timeout
    assert node.pair_events(SO)[-1][0] is PairState.FAILED
    assert net.now <= START + timeout + 11


def test_each_redial_gets_only_what_is_left_of_the_deadline() -> None:
    net = Net()
    node, _ = dialling(net)
    net.run(5)
    node.fails(next(iter(node.dialling)), Failure.REFUSED)
    assert [connect.timeout for connect in node.all_commands(Connect)] == pytest.approx([15.0, 10.0])


def test_a_timed_out_simultaneous_open_is_not_dialled_again() -> None:
    """The kernel did the waiting; a new socket would start it all over."""
    net = Net()
    node, _ = dialling(net)
    net.run(15.1)
    assert node.pair_events(SO)[-1] == (PairState.FAILED, Verdict.TIMED_OUT)
    assert len(attempts(node)) == 1


def test_no_pending_socket_is_made_anew_on_a_timer() -> None:
    """FACTS: closing a pending socket and redialling usually ruins the attempt."""
    net = Net()
    node, _ = dialling(net)
    net.run(14.9)
    assert len(attempts(node)) == 1
    assert node.all_commands(Close) == []


def test_a_refused_active_attempt_is_not_dialled_again() -> None:
    """RFC 6544 s7.1: the connection cannot be established, so the check has failed."""
    net = Net()
    node = net.node(policy=tcp_only("active"))
    node.gather()
    Peer(node).introduce(tcp_candidate(TcpType.PASSIVE), end=False)
    net.run(0)
    node.fails(next(iter(node.dialling)), Failure.REFUSED)
    net.run(10)
    assert len(attempts(node)) == 1


def test_an_accepted_connection_wins_over_the_pending_attempt() -> None:
    """The peer's SYN came first: the listener has the connection, the pending socket goes."""
    net = Net()
    node, _ = dialling(net)
    (pending,) = node.dialling
    stream = node.accept(node.listener(TcpType.SO), SO.address)
    assert stream is not None
    assert node.traced(AcceptWon) == [AcceptWon(node.agent.pair_statistics()[0].pair, stream)]
    assert node.all_commands(Close) == [Close(pending)]
    assert [sent.path for sent in node.requests] == [TcpPath(stream)]


def test_address_taken_waits_for_the_accept() -> None:
    """FACTS: EADDRNOTAVAIL: our listener probably has this very connection."""
    net = Net()
    node, _ = dialling(net)
    node.fails(next(iter(node.dialling)), Failure.ADDRESS_TAKEN)
    net.run(0.5)
    assert len(attempts(node)) == 1
    stream = node.accept(node.listener(TcpType.SO), SO.address)
    assert stream is not None
    assert [sent.path for sent in node.requests] == [TcpPath(stream)]
    net.run(5)
    assert len(attempts(node)) == 1


def test_address_taken_without_an_accept_is_dialled_again_after_a_bounded_wait() -> None:
    """FACTS: a half-open connection on the listener gives it, too, and may never be accepted."""
    net = Net()
    node, _ = dialling(net)
    node.fails(next(iter(node.dialling)), Failure.ADDRESS_TAKEN)
    net.run(TCP_ONLY.timeouts.accept_wait + 0.01)
    assert attempts(node) == pytest.approx([START, START + TCP_ONLY.timeouts.accept_wait])
    assert node.traced(DialFailed)[0].redial_after == TCP_ONLY.timeouts.accept_wait


def test_a_connection_that_was_accepted_before_the_check_is_used_by_it() -> None:
    """RFC 6544 s7.1: it opens a connection if none yet exists."""
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("so"))
    node.gather()
    stream = node.accept(node.listener(TcpType.SO), SO.address)
    assert stream is not None
    Peer(node).introduce(SO, end=False)
    net.run(1)
    assert attempts(node) == []
    assert [sent.path for sent in node.requests] == [TcpPath(stream)]


@pytest.mark.parametrize("failure", [Failure.UNREACHABLE, Failure.NOT_PERMITTED, Failure.NO_RESOURCES])
def test_a_failure_that_a_redial_cannot_mend_is_final(failure: Failure) -> None:
    net = Net()
    node, _ = dialling(net)
    node.fails(next(iter(node.dialling)), failure)
    net.run(5)
    assert len(attempts(node)) == 1
    assert node.pair_events(SO)[-1] == (PairState.FAILED, Verdict(failure.value))


def test_several_fast_refusals_open_a_fresh_port() -> None:
    """FACTS: after a host's RST the NAT lets no second attempt of this port through."""
    net = Net()
    node, _ = dialling(net)
    before = len(node.all_commands(Listen))
    list(refusals(node, RULES.fresh_port_after, after=0.001))
    assert node.traced(FreshPort) == [FreshPort(node.hosts[0])]
    assert len(node.all_commands(Listen)) == before + 1
    ports = {each.address.port for each in node.agent.local_candidates if each.tcptype is TcpType.SO}
    assert len(ports) == 2


def test_the_fresh_port_is_dialled_from() -> None:
    net = Net()
    node, _ = dialling(net)
    list(refusals(node, RULES.fresh_port_after, after=0.001))
    net.run(1)
    assert len({connect.listener for connect in node.all_commands(Connect)}) == 2


def test_slow_refusals_open_no_fresh_port() -> None:
    """They come from across the Internet: a NAT's RST, after which the same port may go through."""
    net = Net()
    node, _ = dialling(net)
    list(refusals(node, 20, after=0.1))
    assert node.traced(FreshPort) == []


def test_fresh_ports_are_bounded() -> None:
    net = Net()
    node, _ = dialling(net)
    list(refusals(node, 200, after=0.001))
    assert len(node.traced(FreshPort)) == RULES.fresh_ports


def test_an_established_connection_that_resets_is_no_reason_to_redial_before_selection() -> None:
    net = Net()
    node, _ = dialling(net)
    stream = node.connected(next(iter(node.dialling)))
    node.fails(stream, Failure.RESET)
    net.run(5)
    assert node.pair_events(SO)[-1] == (PairState.FAILED, Verdict.RESET)
    assert len(attempts(node)) == 1


# -- limits


def black_holes(net: Net, *tcptypes: TcpType, count: int = 8, **sections: object) -> Node:
    """A node with many remote candidates of one address that answer nothing."""
    node = net.node(Role.CONTROLLED, policy(transports=["tcp"], **sections))
    node.gather()
    Peer(node).introduce(
        *[
            tcp_candidate(tcptype, 6000 + 100 * n + index, foundation=f"{tcptype}{n}", priority=10_000 - n)
            for index, tcptype in enumerate(tcptypes)
            for n in range(count)
        ],
        end=False,
    )
    return node


def test_at_most_5_attempts_to_one_address_are_outstanding() -> None:
    """RFC 6544 s12: SHOULD NOT have more than 5."""
    net = Net()
    node = black_holes(net, TcpType.PASSIVE, TcpType.SO)
    most = 0
    for _ in range(140):
        net.run(0.1)
        most = max(most, len(node.dialling))
    assert most == 5


def test_one_place_of_the_5_is_kept_for_simultaneous_open() -> None:
    """Black-holed active attempts must not starve it."""
    net = Net()
    node = black_holes(net, TcpType.PASSIVE)
    net.run(5)
    assert len(node.dialling) == 4
    node.hear_of(tcp_candidate(TcpType.SO, 7000, priority=1, foundation="so"))
    net.run(0.5)
    assert len(node.dialling) == 5


def test_a_place_that_becomes_free_is_taken() -> None:
    net = Net()
    node = black_holes(net, TcpType.PASSIVE)
    net.run(5)
    first = next(iter(node.dialling))
    node.fails(first, Failure.REFUSED)
    net.run(0.1)
    assert first not in node.dialling
    assert len(node.dialling) == 4


def test_the_limit_is_for_each_address() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("active"))
    node.gather()
    Peer(node).introduce(
        *[
            tcp_candidate(TcpType.PASSIVE, 6000 + n, host=host, foundation=f"{index}{n}")
            for index, host in enumerate((AWAY, "198.51.100.3"))
            for n in range(8)
        ],
        end=False,
    )
    net.run(5)
    assert len(node.dialling) == 8


def test_every_black_hole_gets_its_turn() -> None:
    net = Net()
    node = black_holes(net, TcpType.PASSIVE)
    net.run(31)
    assert len({connect.remote for connect in node.all_commands(Connect)}) == 8


def test_policy_may_lower_the_limit() -> None:
    net = Net()
    node = black_holes(net, TcpType.PASSIVE, limits={"connects_per_ip": 2})
    net.run(5)
    assert len(node.dialling) == 1


def test_ports_that_a_peer_may_have_predicted_are_counted_apart() -> None:
    """One so dial and four active ones are within the 5 of RFC 6544 s12; further so ports have their own bound."""
    net = Net()
    node = black_holes(net, TcpType.PASSIVE, TcpType.SO, simultaneous_open={"predict_ports": 3})
    net.run(5)
    dialling = [connect.listener for connect in node.all_commands(Connect) if connect.stream in node.dialling]
    openers = [listener for listener in dialling if listener is not None]
    assert len(openers) == 1 + 3
    assert len(dialling) - len(openers) == 4


# -- accepted connections


def listening(net: Net, **sections: object) -> tuple[Node, Peer]:
    node = net.node(Role.CONTROLLED, tcp_only("passive", **sections))
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    return node, peer


def test_a_connection_is_accepted_before_anything_is_known_of_the_peer() -> None:
    """RFC 6544 s7.2: MUST be prepared to receive incoming connections on any so or passive base."""
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("passive", "so"))
    node.gather()
    for tcptype in (TcpType.PASSIVE, TcpType.SO):
        assert node.accept(node.listener(tcptype), address(AWAY, 50_000)) is not None
    assert len(node.traced(StreamOpened)) == 2


def test_a_connection_that_never_authenticates_is_closed() -> None:
    """timeouts.idle: a connection that sends nothing."""
    net = Net()
    node, peer = listening(net)
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    net.run(9.9)
    assert path.stream in node.streams
    net.run(0.2)
    assert node.streams == {}
    assert node.traced(StreamEnded) == [StreamEnded(path.stream, Verdict.IDLE)]


def test_bad_requests_do_not_keep_a_connection_open() -> None:
    net = Net()
    node, peer = listening(net)
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    for _ in range(11):
        if path.stream in node.streams:
            peer.asks(path, peer.request(password="thisIsNotThePassword22"))
        net.run(1)
    assert node.streams == {}


def test_an_authenticated_connection_is_not_idle() -> None:
    net = Net()
    node, peer = listening(net)
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    peer.asks(path)
    net.run(20)
    assert path.stream in node.streams


def test_connections_that_nobody_authenticated_are_bounded() -> None:
    """limits.accepted_streams."""
    net = Net()
    node, _ = listening(net, limits={"accepted_streams": 3})
    listener = node.listener(TcpType.PASSIVE)
    taken = [node.accept(listener, address(AWAY, 50_000 + n)) for n in range(10)]
    assert [stream is not None for stream in taken] == [True] * 3 + [False] * 7
    net.run(10.1)
    assert node.accept(listener, address(AWAY, 51_000)) is not None


def test_authenticated_connections_do_not_count_towards_that_bound() -> None:
    """The policy's words: accepted connections that are not yet authenticated."""
    net = Net()
    node, peer = listening(net, limits={"accepted_streams": 2})
    listener = node.listener(TcpType.PASSIVE)
    for n in range(2):
        peer.asks(peer.dials(node, listener, 50_000 + n))
    assert node.accept(listener, address(AWAY, 51_000)) is not None


def test_a_connection_from_our_own_port_is_refused() -> None:
    """FACTS: a socket that connects to its own address and port connects to itself, and echoes."""
    net = Net()
    node, _ = listening(net)
    listener = node.listener(TcpType.PASSIVE)
    assert node.accept(listener, node.listeners[listener]) is None


def test_a_second_connection_of_the_same_ends_replaces_the_first() -> None:
    """The system would not have accepted it had the old one not died."""
    net = Net()
    node, peer = listening(net)
    listener = node.listener(TcpType.PASSIVE)
    old = peer.dials(node, listener)
    peer.asks(old)
    new = peer.dials(node, listener)
    assert StreamEnded(old.stream, Verdict.SUPERSEDED) in node.traced(StreamEnded)
    peer.asks(new)
    assert node.requests[-1].path == new


def test_a_fin_before_anything_was_said_leaves_nothing() -> None:
    net = Net()
    node, peer = listening(net)
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    node.ends(path.stream)
    net.run(30)
    assert node.all_commands(Close) == []
    assert node.agent.pair_statistics() == []


@pytest.mark.parametrize("fault", [Failure.NOT_STUN, Failure.TOO_MUCH_EARLY_DATA])
def test_a_connection_that_is_misused_is_over(fault: Failure) -> None:
    """The shell has closed it; its number is dead, and nothing is asked of it any more."""
    net = Net()
    node, peer = listening(net)
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    node.fails(path.stream, fault)
    node.receive(path, peer.request())
    net.run(30)
    assert node.traced(StreamEnded) == [StreamEnded(path.stream, Verdict(fault.value))]
    assert node.sent == []
    assert node.all_commands(Close) == []


def test_a_closed_connection_frees_its_peer_reflexive_candidate() -> None:
    net = Net()
    node, peer = listening(net, limits={"peer_reflexive": 2})
    listener = node.listener(TcpType.PASSIVE)
    for port in range(50_000, 50_010):
        path = peer.dials(node, listener, port)
        peer.asks(path)
        assert len(node.agent.remote_candidates) == 1
        node.ends(path.stream)
    assert node.agent.remote_candidates == ()


# -- after the conclusion


def concluded(net: Net) -> tuple[Node, Node]:
    one = net.node(policy=TCP_ONLY)
    other = net.node(Role.CONTROLLED, TCP_ONLY, hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(1)
    assert one.state is other.state is AgentState.COMPLETED
    return one, other


def test_the_losers_are_closed_3_seconds_after_the_conclusion() -> None:
    """RFC 8445 s8.3.1, RFC 6544 s8."""
    net = Net()
    one, other = concluded(net)
    assert len(one.streams) > 1
    net.run(1.5)
    assert len(one.streams) > 1
    net.run(1.5)
    for node in (one, other):
        assert isinstance(node.used, TcpPath)
        assert set(node.streams) == {node.used.stream}


def test_the_listener_of_the_selected_base_is_kept_and_no_other() -> None:
    """RFC 6544 s11.1: the passive side awaits the reconnection."""
    net = Net()
    one, other = concluded(net)
    net.run(5)
    for node in (one, other):
        selected = node.agent.selected_path()
        assert selected is not None
        expected = 0 if selected.local.tcptype is TcpType.ACTIVE else 1
        assert len(node.listeners) == expected


def test_attempts_that_are_still_pending_at_the_conclusion_are_given_up() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("active"))
    node.gather()
    peer = Peer(node)
    peer.introduce(
        tcp_candidate(TcpType.PASSIVE, 6000, foundation="a", priority=900),
        tcp_candidate(TcpType.PASSIVE, 6001, foundation="b", priority=100),
        end=False,
    )
    net.run(0.1)
    pending, winner = list(node.dialling)
    node.connected(winner)
    peer.answers_all()
    peer.asks(TcpPath(winner), use_candidate=True)
    assert node.is_in(AgentState.COMPLETED)
    assert Close(pending) in node.all_commands(Close)
    assert node.dialling == {}


def test_ids_are_never_used_twice() -> None:
    net = Net()
    node, _ = dialling(net)
    list(refusals(node, 10))
    names = [connect.stream for connect in node.all_commands(Connect)]
    assert len(set(names)) == len(names)
    assert not set(names) & {StreamId(listen.listener) for listen in node.all_commands(Listen)}


def test_a_message_on_a_stream_is_answered_on_that_stream_only() -> None:
    net = Net()
    node, peer = listening(net)
    listener = node.listener(TcpType.PASSIVE)
    paths = [peer.dials(node, listener, 50_000 + n) for n in range(3)]
    answer = peer.asks(paths[1])
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS
    assert {sent.path for sent in node.sent} == {paths[1]}
