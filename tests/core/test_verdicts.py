"""Verdicts: stable codes, each with a remedy, and each for its kind of failure."""

from __future__ import annotations

import re

import pytest

from candidates.candidate import TcpType
from ice_tcp.core.commands import Connect, Failure
from ice_tcp.core.events import AgentState, PairState, Role
from ice_tcp.core.trace import StreamEnded
from ice_tcp.core.verdicts import REMEDIES, Verdict, verdict_of
from tests.core.net import Net, policy, tcp_candidate, tcp_only, udp_candidate
from tests.core.peer import Peer


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_a_remedy_of_one_sentence(verdict: Verdict) -> None:
    assert verdict.remedy == REMEDIES[verdict]
    assert verdict.remedy.endswith(".")
    assert len(verdict.remedy) > 20


def test_remedies_are_for_verdicts_only_and_all_different() -> None:
    assert set(REMEDIES) == set(Verdict)
    assert len(set(REMEDIES.values())) == len(REMEDIES)


@pytest.mark.parametrize("failure", list(Failure))
def test_every_failure_of_the_network_is_a_verdict(failure: Failure) -> None:
    assert verdict_of(failure).value == failure.value


@pytest.mark.parametrize("verdict", list(Verdict))
def test_codes_are_fit_for_reports_and_metrics(verdict: Verdict) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", verdict.value)


def test_the_codes_are_stable() -> None:
    """They stand in reports and dashboards: renaming one breaks somebody."""
    assert {verdict.value for verdict in Verdict} >= {
        *("refused", "reset", "timed-out", "unreachable", "closed", "not-stun", "no-response", "asymmetric"),
        *("error-400", "error-401", "error-420", "error-487", "idle", "superseded", "pruned", "consent-expired"),
        *("no-local-candidates", "no-remote-candidates", "no-pairs", "all-pairs-failed", "path-lost"),
    }


def pair_verdict(code: int | None) -> Verdict | None:
    """What becomes of a UDP pair whose check gets this error, or nothing."""
    net = Net()
    node = net.node()
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(), end=False)
    net.run(0)
    if code is None:
        net.run(39.6)
    else:
        peer.answers(code=code)
    state, verdict = node.pair_events(udp_candidate())[-1]
    assert state is PairState.FAILED
    return verdict


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (None, Verdict.NO_RESPONSE),
        (400, Verdict.BAD_REQUEST),
        (401, Verdict.UNAUTHORIZED),
        (403, Verdict.ERROR_RESPONSE),
        (420, Verdict.UNKNOWN_ATTRIBUTE),
        (500, Verdict.ERROR_RESPONSE),
    ],
)
def test_a_failed_check_says_why(code: int | None, verdict: Verdict) -> None:
    assert pair_verdict(code) is verdict


def test_a_pair_that_lost_its_place_to_a_better_one_says_pruned() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, policy(transports=["udp"], limits={"pairs": 1}))
    node.gather()
    worse, better = udp_candidate(5000, priority=5), udp_candidate(5001, priority=9, foundation="b")
    node.hear_of(worse, better)
    assert node.pair_events(worse) == [(PairState.FROZEN, None), (None, Verdict.PRUNED)]
    assert node.pair_events(better) == [(PairState.FROZEN, None)]


def test_losers_say_superseded() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("passive"))
    node.gather()
    peer = Peer(node)
    peer.introduce()
    listener = node.listener(TcpType.PASSIVE)
    winner, loser = peer.dials(node, listener, 50_000), peer.dials(node, listener, 50_001)
    for path in (winner, loser):
        peer.asks(path)
    peer.answers_all()
    peer.asks(winner, use_candidate=True)
    net.run(3.1)
    assert node.traced(StreamEnded) == [StreamEnded(loser.stream, Verdict.SUPERSEDED)]


def test_the_verdict_of_a_pair_stands_in_its_statistics_and_goes_when_it_succeeds() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(), end=False)
    net.run(0)
    peer.answers(code=401)
    assert [pair.verdict for pair in node.agent.pair_statistics()] == [Verdict.UNAUTHORIZED]
    peer.asks(peer.udp_path())
    peer.answers()
    assert [pair.verdict for pair in node.agent.pair_statistics()] == [None]


def test_a_session_that_failed_says_one_thing_and_a_closed_one_nothing() -> None:
    net = Net()
    node = net.node(policy=tcp_only("active"))
    node.gather()
    Peer(node).introduce(tcp_candidate(TcpType.PASSIVE))
    net.run(0)
    assert len(node.all_commands(Connect)) == 1
    node.fails(next(iter(node.dialling)), Failure.REFUSED)
    node.close()
    assert node.states[-2:] == [(AgentState.FAILED, Verdict.ALL_PAIRS_FAILED), (AgentState.CLOSED, None)]
