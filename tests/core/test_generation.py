"""Generations: credentials, trickled candidates, and ICE restarts (RFC 8445 s5.3, s9, RFC 8838, RFC 6544 s9.2)."""

from __future__ import annotations

import string

import pytest

from candidates.candidate import TcpType
from candidates.parameters import IceParameters
from ice_tcp import stun
from ice_tcp.core.commands import Close, Connect, Failure, Listen, OpenUdp, TcpPath, UdpPath, Use
from ice_tcp.core.events import (
    AgentState,
    GatheringDone,
    LocalCandidateFound,
    PathSelected,
    Restarted,
    RestartFailed,
    Role,
)
from ice_tcp.core.trace import CandidateIgnored, ConsentChecked
from ice_tcp.core.verdicts import Verdict
from tests.core.net import AWAY, LITE, TCP_ONLY, UDP_ONLY, Net, Node, policy, tcp_candidate, tcp_only, udp_candidate
from tests.core.peer import PARAMETERS, Peer

ICE_CHARS = set(string.ascii_letters + string.digits + "+/")
SECOND = IceParameters("peer2", "peersSecondPasswordIsHere", ("trickle", "ice2"))


def rules(node: Node) -> list[str]:
    return [record.rule for record in node.traced(CandidateIgnored)]


def two(net: Net, policy_: object = UDP_ONLY) -> tuple[Node, Node]:
    """Two nodes that are connected."""
    one = net.node(policy=policy_)  # type: ignore[arg-type]
    other = net.node(Role.CONTROLLED, policy_, hosts=[AWAY], seed=2)  # type: ignore[arg-type]
    net.meet(one, other)
    net.run(5)
    assert one.state is other.state is AgentState.COMPLETED
    return one, other


def exchange(one: Node, other: Node) -> None:
    """Signal the current generations both ways."""
    one.learn(other)
    other.learn(one)


# -- credentials


def test_the_fragment_and_the_password_are_long_enough_and_of_ice_chars() -> None:
    """RFC 8445 s5.3: at least 24 bits and 128 bits of randomness."""
    local = Net().node().agent.local_parameters
    assert len(local.ufrag) * 6 >= 24
    assert len(local.pwd) * 6 >= 128
    assert set(local.ufrag + local.pwd) <= ICE_CHARS


def test_credentials_are_random() -> None:
    drawn = {Net().node(seed=seed).agent.local_parameters for seed in range(100)}
    assert len({each.ufrag for each in drawn}) == len({each.pwd for each in drawn}) == 100


def test_we_announce_trickle_and_ice2() -> None:
    """RFC 8445 s10: MUST inform the peer using 'ice2'; RFC 8838 s3."""
    assert Net().node().agent.local_parameters.options == ("trickle", "ice2")


def test_a_full_agent_is_not_lite_and_a_lite_one_is() -> None:
    assert not Net().node().agent.local_parameters.lite
    assert Net().node(policy=LITE).agent.local_parameters.lite


def test_a_lite_agent_tells_no_pacing() -> None:
    """RFC 8839 s4.3.1: a lite implementation MUST NOT include "ice-pacing", as it performs no checks."""
    assert Net().node(policy=LITE).agent.local_parameters.pacing is None


def test_the_password_is_not_in_the_repr() -> None:
    node = Net().node()
    assert node.agent.local_parameters.pwd not in repr(node.agent.local_parameters)


# -- candidates of the peer


def test_candidates_may_come_before_the_parameters() -> None:
    net = Net()
    node = net.node()
    node.gather()
    node.hear_of(udp_candidate())
    node.start()
    node.know(PARAMETERS)
    net.run(0)
    assert len(node.requests) == 1


def test_candidates_may_come_before_we_gathered() -> None:
    net = Net()
    node = net.node()
    node.know(PARAMETERS)
    node.hear_of(udp_candidate())
    node.start()
    node.gather()
    net.run(0.1)
    assert len(node.requests) == 1


def test_a_candidate_of_a_component_that_we_lack_is_ignored() -> None:
    node = Net().node()
    node.gather()
    node.hear_of(udp_candidate(component=2))
    assert rules(node) == ["component"]


def test_a_name_is_ignored() -> None:
    """RFC 8839 s5.1: an FQDN MAY be ignored; `.local` names are resolved before they come here."""
    node = Net().node()
    node.gather()
    node.hear_of(udp_candidate(host="peer.example"))
    assert rules(node) == ["name (RFC 8839 s5.1)"]
    assert node.agent.remote_candidates == ()


def test_a_duplicate_is_ignored() -> None:
    node = Net().node()
    node.gather()
    node.hear_of(udp_candidate(), udp_candidate())
    assert rules(node) == ["duplicate"]


def test_a_candidate_after_the_end_is_ignored() -> None:
    """RFC 8838 s14: MUST ignore any newly received candidates."""
    node = Net().node()
    node.gather()
    node.know(PARAMETERS)
    node.hear_end()
    node.hear_of(udp_candidate())
    assert rules(node) == ["end-of-candidates (RFC 8838 s14)"]
    assert node.agent.remote_candidates == ()


def test_a_denied_candidate_is_ignored_and_its_rule_traced() -> None:
    node = Net().node(policy=policy(transports=["udp"], remote={"deny": [{"cidr": "198.51.100.0/24"}]}))
    node.gather()
    node.hear_of(udp_candidate(), udp_candidate(host="203.0.113.1"))
    assert [each.address.host for each in node.agent.remote_candidates] == ["203.0.113.1"]
    assert rules(node)[0].startswith("remote.deny[0]")


def test_a_candidate_that_pairs_with_nothing_is_kept() -> None:
    """RFC 8838 s11: it is merely added to the list of remote candidates."""
    node = Net().node()
    node.gather()
    node.hear_of(udp_candidate(host="2001:db8::9"))
    assert len(node.agent.remote_candidates) == 1
    assert node.agent.pair_statistics() == []


def test_a_candidate_of_a_generation_to_come_waits_for_its_parameters() -> None:
    """RFC 8838 s9: the ufrag correlates candidates with a session; signaling may bring them in any order."""
    net = Net()
    node = net.node()
    node.gather()
    Peer(node).introduce(udp_candidate(5000), end=False)
    node.hear_of(udp_candidate(5001, ufrag=SECOND.ufrag))
    assert [each.address.port for each in node.agent.remote_candidates] == [5000]
    node.know(SECOND)
    assert [each.address.port for each in node.agent.remote_candidates] == [5001]


def test_a_candidate_of_the_generation_before_is_ignored() -> None:
    """RFC 8838 s9: delayed updates for a previous session can be recognized as such and ignored."""
    net = Net()
    one, other = two(net)
    old = other.agent.local_parameters.ufrag
    one.restart()
    other.restart()
    exchange_parameters_only = other.agent.local_parameters
    one.know(exchange_parameters_only)
    one.hear_of(udp_candidate(5999, ufrag=old))
    assert [each for each in one.agent.remote_candidates if each.address.port == 5999] == []


def test_candidates_of_generations_to_come_are_bounded() -> None:
    node = Net().node(policy=policy(transports=["udp"], limits={"remote_candidates": 3}))
    node.gather()
    Peer(node).introduce(end=False)
    node.hear_of(*[udp_candidate(5000 + n, ufrag=SECOND.ufrag) for n in range(50)])
    node.know(SECOND)
    assert len(node.agent.remote_candidates) == 3


def test_the_same_parameters_again_change_nothing() -> None:
    node = Net().node()
    node.gather()
    Peer(node).introduce(udp_candidate())
    node.know(PARAMETERS)
    assert node.agent.generation == 0
    assert node.all_events(Restarted) == []


# -- restart


def test_a_restart_changes_fragment_and_password() -> None:
    """RFC 8445 s9: an agent MUST change both."""
    node = Net().node()
    node.gather()
    before = node.agent.local_parameters
    node.restart()
    after = node.agent.local_parameters
    assert after.ufrag != before.ufrag
    assert after.pwd != before.pwd
    assert node.all_events(Restarted) == [Restarted(after, 1)]
    assert node.agent.generation == 1


def test_a_restart_gathers_again_on_the_open_sockets() -> None:
    """RFC 8445 s9: the candidate set might include all of the candidates used before."""
    node = Net().node()
    node.gather()
    before = node.told()
    node.restart()
    assert [each.address for each in node.told()] == [each.address for each in before]
    assert len(node.all_commands(OpenUdp)) == 1
    assert node.all_events(GatheringDone) == [GatheringDone(0), GatheringDone(1)]


def test_candidates_after_a_restart_say_whose_they_are() -> None:
    """RFC 8839 s5.1, RFC 8838 s9: generation and ufrag, so that late ones can be told apart."""
    node = Net().node()
    node.gather()
    node.restart()
    (candidate,) = node.told()
    assert (candidate.generation, candidate.ufrag) == (1, node.agent.local_parameters.ufrag)


def test_after_the_losers_were_freed_a_restart_opens_new_sockets() -> None:
    net = Net()
    one, _ = two(net, TCP_ONLY)
    listened = len(one.all_commands(Listen))
    one.restart()
    assert len(one.all_commands(Listen)) > listened
    assert len(one.told()) == 3


def test_data_stays_on_the_old_path_until_the_new_generation_has_one() -> None:
    """RFC 8445 s9: during the restart, data can continue to be sent using existing data sessions."""
    net = Net()
    one, other = two(net)
    uses = list(one.all_commands(Use))
    one.restart()
    net.run(2)
    assert one.all_commands(Use) == uses
    assert one.state is AgentState.COMPLETED
    other.know(one.agent.local_parameters)
    exchange(one, other)
    net.run(2)
    selected = one.agent.selected_path()
    assert selected is not None
    assert selected.generation == 1
    assert Use(1, None) not in one.all_commands(Use)


def test_the_old_path_keeps_its_consent_during_a_restart() -> None:
    """RFC 7675 s5.1: an endpoint MUST continue to perform consent freshness on that pair."""
    net = Net()
    one, other = two(net)
    one.restart()
    asked = len(one.traced(ConsentChecked))
    net.run(60)
    assert len(one.traced(ConsentChecked)) > asked + 8
    assert one.state is other.state is AgentState.COMPLETED


def test_the_old_generation_still_answers() -> None:
    """RFC 8445 s9: the peer may not have heard of the restart yet."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    net.run(0.001)
    peer.answers_all()
    old = node.agent.local_parameters
    node.restart()
    answer = peer.asks(peer.udp_path(), peer.request(generation=old))
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS


def test_a_restart_that_we_begin_reaches_the_same_two_ends() -> None:
    net = Net()
    one, other = two(net)
    one.restart()
    exchange_restart(one, other)
    net.run(5)
    assert one.state is other.state is AgentState.COMPLETED
    assert (one.agent.generation, other.agent.generation) == (1, 1)
    assert_same_path(one, other)


def exchange_restart(initiator: Node, answerer: Node) -> None:
    """The offer brings new parameters, which make the answerer restart, and the answer brings its own."""
    answerer.learn(initiator)
    initiator.learn(answerer)


def assert_same_path(one: Node, other: Node) -> None:
    ours, theirs = one.agent.selected_path(), other.agent.selected_path()
    assert ours is not None and theirs is not None
    if isinstance(ours.path, UdpPath):
        assert (ours.local.address, ours.remote.address) == (theirs.remote.address, theirs.local.address)
    else:
        assert isinstance(ours.path, TcpPath) and isinstance(theirs.path, TcpPath)
        assert one.streams[ours.path.stream].far == (other, theirs.path.stream)


def test_new_parameters_of_the_peer_restart_us_too() -> None:
    """RFC 8445 s9, RFC 8839 s4.4.1.1.1."""
    net = Net()
    node = net.node()
    node.gather()
    Peer(node).introduce(udp_candidate())
    node.know(SECOND)
    assert node.agent.generation == 1
    assert node.all_events(Restarted) == [Restarted(node.agent.local_parameters, 1)]
    assert node.agent.remote_candidates == ()


def test_a_restart_of_both_at_once_reaches_the_same_two_ends() -> None:
    net = Net()
    one, other = two(net)
    one.restart()
    other.restart()
    exchange(one, other)
    net.run(5)
    assert (one.agent.generation, other.agent.generation) == (1, 1)
    assert one.state is other.state is AgentState.COMPLETED
    assert_same_path(one, other)


@pytest.mark.parametrize("policy_", [UDP_ONLY, TCP_ONLY, policy()], ids=["udp", "tcp", "both"])
def test_restarts_can_follow_each_other(policy_: object) -> None:
    net = Net()
    one, other = two(net, policy_)
    for number in (1, 2, 3):
        one.restart()
        exchange_restart(one, other)
        net.run(5)
        assert one.agent.generation == other.agent.generation == number
        assert one.state is other.state is AgentState.COMPLETED
        assert_same_path(one, other)


def test_a_restart_during_checks_begins_anew() -> None:
    net = Net()
    node = net.node()
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    net.run(1)
    node.restart()
    sent = len(node.requests)
    net.run(5)
    assert len(node.requests) == sent
    node.know(SECOND)
    node.hear_of(udp_candidate())
    net.run(0.1)
    assert node.requests[-1].message.username == f"{SECOND.ufrag}:{node.agent.local_parameters.ufrag}"


def test_an_answer_to_a_check_of_a_generation_that_is_gone_does_nothing() -> None:
    net = Net()
    node = net.node()
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    net.run(0)
    late = node.requests[0]
    node.restart()
    peer.answers(late)
    assert node.agent.selected_path() is None
    assert node.agent.pair_statistics() == []


def test_a_restart_before_the_losers_are_freed_keeps_their_sockets() -> None:
    net = Net()
    one = net.node(policy=TCP_ONLY)
    other = net.node(Role.CONTROLLED, TCP_ONLY, hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(1)
    one.restart()
    net.run(10)
    assert len(one.listeners) == 2
    exchange_restart(one, other)
    net.run(5)
    assert_same_path(one, other)


def restarted_in_vain(net: Net) -> tuple[Node, Node]:
    """The new generation of the first node finds no path; the old path lives."""
    one, other = two(net)
    one.restart()
    one.know(SECOND)
    one.hear_of(udp_candidate(5999, host="203.0.113.9"))
    one.hear_end()
    net.run(45)
    return one, other


def test_a_restart_that_fails_leaves_the_old_path_in_use() -> None:
    """RFC 8445 s12.1: equal to the previous selected pair while there is no new one."""
    one, _ = restarted_in_vain(Net())
    assert one.all_events(RestartFailed) == [RestartFailed(1, Verdict.ALL_PAIRS_FAILED)]
    assert one.used is not None
    assert one.is_in(AgentState.COMPLETED)


def test_a_failed_restart_is_told_once() -> None:
    net = Net()
    one, _ = restarted_in_vain(net)
    one.hear_end()
    net.run(60)
    assert len(one.all_events(RestartFailed)) == 1


def test_when_the_old_path_goes_after_a_failed_restart_the_session_fails() -> None:
    """Nothing is left that could bring a path: only another restart helps."""
    net = Net()
    one, _ = restarted_in_vain(net)
    net.loses = lambda _: True
    net.run(60)
    assert one.states[-1][0] is AgentState.FAILED
    assert one.used is None


def test_after_a_failed_restart_another_may_succeed() -> None:
    net = Net()
    one, other = restarted_in_vain(net)
    one.restart()
    exchange_restart(one, other)
    net.run(5)
    assert one.state is other.state is AgentState.COMPLETED
    assert_same_path(one, other)


def test_a_failed_session_comes_back_by_a_restart() -> None:
    net = Net()
    one, other = two(net)
    net.loses = lambda _: True
    net.run(60)
    assert one.is_in(AgentState.FAILED)
    net.loses = lambda _: False
    one.restart()
    assert one.is_in(AgentState.CHECKING)
    exchange_restart(one, other)
    net.run(5)
    assert one.state is other.state is AgentState.COMPLETED


def test_losing_the_old_path_during_a_restart_is_no_failure_yet() -> None:
    net = Net()
    one, other = two(net)
    one.restart()
    net.loses = lambda _: True
    net.run(35)
    assert one.used is None
    assert one.state in (AgentState.DISCONNECTED, AgentState.CHECKING)
    net.loses = lambda _: False
    exchange_restart(one, other)
    net.run(5)
    assert one.is_in(AgentState.COMPLETED)


def test_a_restart_reuses_the_connection_of_a_so_candidate_with_the_selected_address() -> None:
    """RFC 6544 s9.2: MUST NOT attempt to open a new connection; STUN checks are performed on the existing one."""
    net = Net()
    one, other = two(net, tcp_only("so"))
    (stream,) = one.streams
    dialled = len(one.all_commands(Connect)) + len(other.all_commands(Connect))
    one.restart()
    exchange_restart(one, other)
    net.run(5)
    assert len(one.all_commands(Connect)) + len(other.all_commands(Connect)) == dialled
    selected = one.agent.selected_path()
    assert selected is not None
    assert (selected.path, selected.generation) == (TcpPath(stream), 1)
    assert Close(stream) not in one.all_commands(Close)
    assert Use(1, None) not in one.all_commands(Use)


def test_a_restart_does_not_close_the_selected_connection() -> None:
    """RFC 6544 s9.2: the agents MUST NOT close the connections after the restart."""
    net = Net()
    one, _ = two(net, TCP_ONLY)
    (stream,) = one.streams
    one.restart()
    net.run(30)
    assert stream in one.streams
    assert one.is_in(AgentState.COMPLETED)


def test_a_restart_between_active_and_passive_uses_the_connection_that_stands() -> None:
    """RFC 6544 s7.1: a connection is opened if none yet exists for the pair."""
    net = Net()
    one, other = two(net, tcp_only("active", "passive"))
    (old,) = one.streams
    one.restart()
    exchange_restart(one, other)
    net.run(10)
    assert one.used == TcpPath(old)
    assert set(one.streams) == {old}
    assert_same_path(one, other)


def test_a_restart_moves_from_tcp_to_udp_and_closes_the_old_connection() -> None:
    """RFC 6544 s9.2: if the selected pair is another one, the old connection SHOULD be closed."""
    net = Net()
    net.loses = lambda flight: isinstance(flight.path, UdpPath)
    one, other = two(net, policy())
    assert isinstance(one.used, TcpPath)
    net.loses = lambda _: False
    one.restart()
    exchange_restart(one, other)
    net.run(6)
    assert isinstance(one.used, UdpPath)
    assert one.streams == other.streams == {}


def test_the_selected_path_names_its_generation() -> None:
    net = Net()
    one, other = two(net)
    one.restart()
    exchange_restart(one, other)
    net.run(5)
    assert [event.selected.generation for event in one.all_events(PathSelected)] == [0, 0, 1, 1]


def test_a_failure_of_the_new_generations_path_before_nomination_falls_back_to_the_old_path() -> None:
    """RFC 8445 s12.1: the previous selected pair is what there is while the check list runs."""
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("active"))
    node.gather()
    peer = Peer(node)
    peer.introduce(tcp_candidate(TcpType.PASSIVE, 6000))
    net.run(0.001)
    old = node.connected(next(iter(node.dialling)))
    peer.answers_all()
    peer.asks(TcpPath(old), use_candidate=True)
    node.restart()
    again = Peer(node, parameters=SECOND)
    again.introduce(tcp_candidate(TcpType.PASSIVE, 6001))
    net.run(0.1)
    new = node.connected(next(iter(node.dialling)))
    again.answers()
    assert node.used == TcpPath(new)
    node.fails(new, Failure.RESET)
    assert node.used == TcpPath(old)


def test_a_restart_of_a_restart_keeps_the_path_in_use_and_forgets_the_generation_before() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    first = Peer(node)
    first.introduce(udp_candidate())
    net.run(0.001)
    first.answers_all()
    first.asks(first.udp_path(), use_candidate=True)
    forgotten = node.agent.local_parameters
    node.restart()
    second = Peer(node, parameters=SECOND)
    second.introduce(udp_candidate(5001))
    net.run(0.1)
    second.answers_all()
    assert node.used == second.udp_path(5001)
    node.restart()
    assert node.used == second.udp_path(5001)
    answer = first.asks(first.udp_path(), first.request(generation=forgotten))
    assert answer is not None and answer.error_code is not None
    assert answer.error_code.code == 401


def test_local_candidates_are_told_per_generation() -> None:
    node = Net().node(policy=policy())
    node.gather()
    node.restart()
    generations = [event.generation for event in node.all_events(LocalCandidateFound)]
    assert generations == [0] * 4 + [1] * 4
