"""Transactions: RTO and retransmission over UDP, Ti over TCP (RFC 8489 s6.2, RFC 8445 s14.3)."""

from __future__ import annotations

import pytest

from candidates.candidate import TcpType
from candidates.parameters import IceParameters
from ice_tcp.core.commands import Connect
from ice_tcp.core.events import PairState, Role
from ice_tcp.core.trace import CheckAnswered
from ice_tcp.core.verdicts import Verdict
from tests.core.net import START, Net, Node, policy, tcp_candidate, tcp_only, udp_candidate
from tests.core.peer import PARAMETERS, Peer


def check_one(node: Node) -> Peer:
    """The node begins to check one UDP pair of a silent peer."""
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(), end=False)
    return peer


def test_a_request_is_sent_7_times_with_doubling_intervals() -> None:
    """RFC 8489 s6.2.1: with RTO 500 ms and Rc 7: 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s."""
    net = Net()
    node = net.node()
    check_one(node)
    net.run(60)
    assert [sent.at - START for sent in node.requests] == pytest.approx([0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5])


def test_all_sendings_of_a_request_are_the_same_bytes() -> None:
    net = Net()
    node = net.node()
    check_one(node)
    net.run(60)
    assert len({sent.data for sent in node.requests}) == 1


def test_an_unanswered_request_fails_after_39_5_seconds() -> None:
    """RFC 8489 s6.2.1: 31.5 s, and Rm 16 times RTO more."""
    net = Net()
    node = net.node()
    check_one(node)
    net.run(39.49)
    assert node.pair_events(udp_candidate())[-1] == (PairState.IN_PROGRESS, None)
    net.run(0.02)
    assert node.pair_events(udp_candidate())[-1] == (PairState.FAILED, Verdict.NO_RESPONSE)


def test_policy_sets_the_schedule() -> None:
    net = Net()
    node = net.node(policy=policy(transports=["udp"], timeouts={"rto": 1.0, "rc": 3, "rm": 2}))
    check_one(node)
    net.run(4.99)
    assert [sent.at - START for sent in node.requests] == pytest.approx([0, 1, 3])
    assert node.pair_events(udp_candidate())[-1] == (PairState.IN_PROGRESS, None)
    net.run(0.02)
    assert node.pair_events(udp_candidate())[-1] == (PairState.FAILED, Verdict.NO_RESPONSE)


def test_rto_grows_with_the_number_of_waiting_and_running_checks() -> None:
    """RFC 8445 s14.3, see docs/deviations.md: Ta times (Num-Waiting + Num-In-Progress), here 50 ms times 40."""
    net = Net()
    node = net.node()
    node.gather()
    Peer(node).introduce(*[udp_candidate(5000 + n, foundation=str(n), priority=1000 - n) for n in range(40)])
    net.run(3)
    first = [sent.at for sent in node.requests if sent.remote.port == 5000]
    assert first[1] - first[0] == pytest.approx(2.0)


def test_rto_is_never_less_than_500_ms() -> None:
    """RFC 8445 s14.3: MUST NOT, even with the quickest pacing."""
    net = Net()
    node = net.node()
    node.gather()
    quick = IceParameters(PARAMETERS.ufrag, PARAMETERS.pwd, pacing=5)
    Peer(node, parameters=quick).introduce(udp_candidate())
    net.run(1)
    assert node.requests[1].at - node.requests[0].at == pytest.approx(0.5)


def test_an_answer_ends_the_retransmissions() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED)
    peer = check_one(node)
    net.run(0.7)
    assert len(node.requests) == 2
    peer.answers()
    net.run(3)
    assert len(node.requests) == 2


def test_an_answer_to_the_first_sending_that_comes_after_the_second_counts() -> None:
    """All sendings are one transaction (RFC 8489 s6.2.1)."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    peer = check_one(node)
    net.run(0.7)
    peer.answers(node.requests[0])
    assert node.pair_events(udp_candidate())[-1] == (PairState.SUCCEEDED, None)


def test_the_round_trip_time_of_a_retransmitted_request_is_not_counted() -> None:
    """RFC 8489 s6.2.1: Karn's algorithm, it is ambiguous."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    peer = check_one(node)
    net.run(0.7)
    peer.answers()
    (pair,) = node.agent.pair_statistics()
    assert pair.responses_received == 1
    assert pair.current_round_trip_time is None


def test_the_round_trip_time_of_a_request_sent_once_is_counted() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED)
    peer = check_one(node)
    net.run(0.2)
    peer.answers()
    (pair,) = node.agent.pair_statistics()
    assert pair.current_round_trip_time == pytest.approx(0.2)
    assert [answer.rtt for answer in node.traced(CheckAnswered)] == pytest.approx([0.2])


def test_over_tcp_the_request_is_sent_once_and_gets_39_5_seconds() -> None:
    """RFC 8489 s6.2.2: Ti from the sending; RFC 6544 s7.1: no retransmission."""
    net = Net()
    node = net.node(policy=tcp_only("active"))
    node.gather()
    peer = Peer(node)
    peer.introduce(tcp_candidate(TcpType.PASSIVE), end=False)
    net.run(2)
    (connect,) = node.all_commands(Connect)
    node.connected(connect.stream)
    net.run(39.49)
    assert len(node.requests) == 1
    assert node.pair_events(tcp_candidate(TcpType.PASSIVE))[-1] == (PairState.IN_PROGRESS, None)
    net.run(0.02)
    assert node.pair_events(tcp_candidate(TcpType.PASSIVE))[-1] == (PairState.FAILED, Verdict.NO_RESPONSE)
    assert len(node.requests) == 1


def test_a_cancelled_request_is_not_repeated_but_its_late_answer_counts() -> None:
    """RFC 8445 s7.3.1.4: a triggered check cancels the one in progress, which may still succeed."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    peer = check_one(node)
    net.run(0.1)
    first = node.requests[0]
    peer.asks(peer.udp_path())
    second = node.requests[-1]
    assert second.message.transaction_id != first.message.transaction_id
    net.run(2)
    assert [sent for sent in node.requests if sent.data == first.data] == [first]
    peer.answers(first)
    assert node.pair_events(udp_candidate())[-1] == (PairState.SUCCEEDED, None)


def test_a_cancelled_request_does_not_fail_its_pair() -> None:
    """RFC 8445 s7.3.1.4: will not treat the lack of response to be a failure."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    peer = check_one(node)
    net.run(0.1)
    peer.asks(peer.udp_path())
    net.run(30)
    assert node.pair_events(udp_candidate())[-1] == (PairState.IN_PROGRESS, None)
