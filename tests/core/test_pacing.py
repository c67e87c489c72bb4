"""Pacing: Ta of an agent, and the 5 ms of a process (RFC 8445 s14.2, RFC 8839 s5.5)."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from candidates.candidate import TcpType
from candidates.parameters import IceParameters
from ice_tcp.core.commands import Connect
from ice_tcp.core.events import Role
from ice_tcp.core.pacing import MINIMUM_INTERVAL, Pacer
from ice_tcp.core.trace import CheckSent
from tests.core.net import AWAY, START, UDP_ONLY, Net, Node, policy, tcp_candidate, udp_candidate
from tests.core.peer import PARAMETERS, Peer

EPSILON = 1e-9


def silent_peer(node: Node, count: int, *, pacing: int | None, options: tuple[str, ...] = ("ice2",)) -> None:
    """The node begins to check ``count`` UDP pairs; nobody answers."""
    node.gather()
    parameters = IceParameters(PARAMETERS.ufrag, PARAMETERS.pwd, options, pacing=pacing)
    peer = Peer(node, parameters=parameters)
    peer.introduce(*[udp_candidate(5000 + n, foundation=str(n)) for n in range(count)])


def gaps(node: Node) -> list[float]:
    return [later.at - sooner.at for sooner, later in pairwise(node.new_requests)]


def test_the_first_check_leaves_at_once() -> None:
    """RFC 8445 s6.1.4.2: a check is performed as soon as the initial states have been set."""
    net = Net()
    node = net.node()
    silent_peer(node, 1, pacing=None)
    net.run(0)
    assert [sent.at for sent in node.requests] == [START]


def test_without_the_peers_pacing_checks_are_50_ms_apart() -> None:
    """RFC 8839 s5.5: absent means 50 ms, whatever we propose."""
    net = Net()
    node = net.node()
    silent_peer(node, 5, pacing=None)
    net.run(0.4)
    assert gaps(node) == pytest.approx([0.05] * 4)


@pytest.mark.parametrize(("ours", "theirs", "ta"), [(0.005, 20, 0.02), (0.03, 10, 0.03), (0.005, 5, 0.005)])
def test_both_sides_use_the_larger_proposed_pacing(ours: float, theirs: int, ta: float) -> None:
    """RFC 8445 s14.2: both agents MUST use the higher of the proposed values."""
    net = Net()
    node = net.node(policy=policy(transports=["udp"], pacing={"proposed": ours}))
    silent_peer(node, 4, pacing=theirs)
    net.run(0.3)
    assert gaps(node) == pytest.approx([ta] * 3)


def test_a_peer_that_proposes_less_than_5_ms_does_not_hurry_us() -> None:
    """RFC 8445 s14.2: never more often than once every 5 ms."""
    net = Net()
    node = net.node()
    silent_peer(node, 4, pacing=0)
    net.run(0.3)
    assert gaps(node) == pytest.approx([MINIMUM_INTERVAL] * 3)


def test_we_tell_the_pacing_that_we_propose_in_milliseconds() -> None:
    net = Net()
    node = net.node(policy=policy(pacing={"proposed": 0.02}))
    assert node.agent.local_parameters.pacing == 20


def test_agents_that_share_a_pacer_never_start_two_transactions_within_5_ms() -> None:
    """RFC 8445 s14.2: the combination of all transactions from all agents."""
    net = Net()
    pacer = Pacer()
    nodes = [net.node(hosts=[f"192.0.2.{n}"], seed=n, pacer=pacer) for n in range(1, 5)]
    for node in nodes:
        silent_peer(node, 6, pacing=5)
    net.run(0.4)
    starts = sorted(sent.at for node in nodes for sent in node.new_requests)
    assert len(starts) == 24
    assert min(later - sooner for sooner, later in pairwise(starts)) >= MINIMUM_INTERVAL - EPSILON


def test_agents_that_share_a_pacer_take_turns() -> None:
    net = Net()
    pacer = Pacer()
    one, other = (net.node(hosts=[f"192.0.2.{n}"], seed=n, pacer=pacer) for n in (1, 2))
    for node in (one, other):
        silent_peer(node, 10, pacing=5)
    net.run(0.05)
    assert abs(len(one.new_requests) - len(other.new_requests)) <= 1


def test_a_late_timer_does_not_bring_transactions_together() -> None:
    """A process that was busy for 40 ms does not catch up on what it missed."""
    net = Net()
    node = net.node()
    silent_peer(node, 6, pacing=5)
    node.do(node.agent.timer_expired)
    net.now += 0.04
    node.do(node.agent.timer_expired)
    net.run(0.3)
    assert len(node.new_requests) == 6
    assert min(gaps(node)) >= MINIMUM_INTERVAL - EPSILON


def test_late_timers_of_two_agents_do_not_bring_their_transactions_together() -> None:
    net = Net()
    pacer = Pacer()
    nodes = [net.node(hosts=[f"192.0.2.{n}"], seed=n, pacer=pacer) for n in (1, 2, 3)]
    for node in nodes:
        silent_peer(node, 3, pacing=5)
    net.now += 0.03
    for node in reversed(nodes):
        node.do(node.agent.timer_expired)
    net.run(0.2)
    starts = sorted(sent.at for node in nodes for sent in node.new_requests)
    assert len(starts) == 9
    assert min(later - sooner for sooner, later in pairwise(starts)) >= MINIMUM_INTERVAL - EPSILON


def test_attempts_to_connect_are_paced_as_checks_are() -> None:
    """The SYN of a TCP check makes the new NAT binding, so it is what waits for its turn."""
    net = Net()
    node = net.node(policy=policy(transports=["tcp"], tcp_types=["active"]))
    node.gather()
    Peer(node).introduce(
        *[tcp_candidate(TcpType.PASSIVE, 6000 + n, foundation=str(n)) for n in range(4)],
    )
    net.run(0.3)
    starts = [at for at, command in node.commands if isinstance(command, Connect)]
    assert [later - sooner for sooner, later in pairwise(starts)] == pytest.approx([0.05] * 3)


def test_a_triggered_check_on_an_authenticated_path_does_not_wait() -> None:
    """docs/deviations.md: it makes no new NAT binding."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(*[udp_candidate(5000 + n, foundation=str(n)) for n in range(4)], end=False)
    net.run(0.001)
    peer.asks(peer.udp_path(5003))
    assert node.new_requests[-1].remote.port == 5003
    assert node.new_requests[-1].at == net.now
    assert [(check.triggered, check.paced) for check in node.traced(CheckSent)] == [(False, True), (True, False)]


def test_strict_pacing_makes_triggered_checks_wait_for_their_turn() -> None:
    """RFC 8445 s6.1.4.2: triggered checks are governed by timer Ta, too; the policy can insist on it."""
    net = Net()
    node = net.node(Role.CONTROLLED, policy(transports=["udp"], pacing={"strict": True}))
    node.gather()
    peer = Peer(node)
    peer.introduce(*[udp_candidate(5000 + n, foundation=str(n)) for n in range(4)], end=False)
    net.run(0.001)
    peer.asks(peer.udp_path(5003))
    assert len(node.new_requests) == 1
    net.run(0.1)
    assert [sent.remote.port for sent in node.new_requests[:2]] == [5000, 5003]
    assert gaps(node)[0] == pytest.approx(0.05)


def test_strict_pacing_makes_the_nominating_check_wait_for_its_turn() -> None:
    net = Net()
    strict = policy(transports=["udp"], pacing={"strict": True})
    one, other = net.node(policy=strict), net.node(Role.CONTROLLED, strict, hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(1)
    assert [sent.message.use_candidate for sent in one.new_requests].count(True) == 1
    assert one.new_requests[-1].message.use_candidate
    assert min(gaps(one)) >= MINIMUM_INTERVAL - EPSILON


def test_under_strict_pacing_the_nominating_check_goes_before_other_triggered_ones() -> None:
    """It ends their work (docs/deviations.md)."""
    net = Net()
    node = net.node(policy=policy(transports=["udp"], pacing={"strict": True}))
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(5000))
    net.run(0)
    peer.asks(peer.udp_path(5001))
    peer.answers(node.new_requests[0])
    net.run(0.1)
    assert [(sent.path, sent.message.use_candidate) for sent in node.new_requests[1:2]] == [(peer.udp_path(5000), True)]


class TestPacer:
    """The pacer by itself."""

    def test_gives_the_slots_in_the_order_of_asking(self) -> None:
        pacer = Pacer()
        assert [pacer.reserve(10.0) for _ in range(3)] == pytest.approx([10.0, 10.005, 10.01])

    def test_does_not_hoard_slots_of_the_past(self) -> None:
        pacer = Pacer()
        pacer.reserve(10.0)
        assert pacer.reserve(20.0) == 20.0

    def test_sends_who_comes_too_early_away_until_it_is_time(self) -> None:
        pacer = Pacer()
        assert pacer.next_at(10.0) == 10.0
        pacer.take(10.0)
        assert pacer.next_at(10.003) == pytest.approx(10.005)
        assert pacer.next_at(10.006) == 10.006

    @pytest.mark.parametrize("seed", range(20))
    def test_never_lets_two_pass_within_5_ms_however_late_they_come(self, seed: int) -> None:
        rng = Random(seed)
        pacer = Pacer()
        waiting = sorted(pacer.reserve(rng.random() / 100) + rng.random() / 50 for _ in range(50))
        taken = []
        while waiting:
            at = waiting.pop(0)
            later = pacer.next_at(at)
            if later == at:
                pacer.take(at)
                taken.append(at)
            else:
                waiting.append(later + rng.random() / 50)
                waiting.sort()
        assert len(taken) == 50
        assert min(later - sooner for sooner, later in pairwise(taken)) >= MINIMUM_INTERVAL - EPSILON


def test_the_default_policy_is_not_strict() -> None:
    assert not UDP_ONLY.pacing.strict
