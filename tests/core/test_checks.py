"""Our side of connectivity checks: what is asked, and what becomes of the answer (RFC 8445 s7.2)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from candidates.candidate import CandidateType, TcpType
from candidates.priority import candidate_priority
from ice_tcp import stun
from ice_tcp.core.commands import Admit, Connect, Failure
from ice_tcp.core.events import PairState, Role
from ice_tcp.core.trace import CheckAnswered, CheckSent, DropReason, MessageDropped, PeerReflexiveFound
from ice_tcp.core.verdicts import Verdict
from tests.core.net import AWAY, Net, Node, address, tcp_candidate, tcp_only, udp_candidate
from tests.core.peer import PARAMETERS, Peer

UNKNOWN_REQUIRED = 0x7777


def checking(net: Net, role: Role = Role.CONTROLLED) -> tuple[Node, Peer]:
    """A node with one UDP check on its way."""
    node = net.node(role)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(), end=False)
    net.run(0.001)
    return node, peer


def checking_tcp(net: Net, *tcptypes: str) -> tuple[Node, Peer]:
    """A node with one check on its way on an active connection."""
    node = net.node(Role.CONTROLLED, tcp_only(*tcptypes or ("active",)))
    node.gather()
    peer = Peer(node)
    peer.introduce(tcp_candidate(TcpType.PASSIVE), end=False)
    net.run(0.001)
    node.connected(next(iter(node.dialling)))
    return node, peer


def outcome(node: Node) -> tuple[PairState | None, Verdict | None]:
    return node.pair_events(udp_candidate())[-1]


# -- the request


def test_username_is_the_peers_fragment_and_ours() -> None:
    """RFC 8445 s7.2.2."""
    node, _ = checking(Net())
    assert node.requests[0].message.username == f"{PARAMETERS.ufrag}:{node.agent.local_parameters.ufrag}"


def test_the_request_is_authenticated_with_the_peers_password_and_has_a_fingerprint() -> None:
    """RFC 8445 s7.2.2, s7.1."""
    node, peer = checking(Net())
    assert node.requests[0].message.verify(peer.key)
    assert node.requests[0].message.has_fingerprint


def test_priority_is_that_of_a_peer_reflexive_candidate() -> None:
    """RFC 8445 s7.1.1: the local candidate's, but with the type preference for peer-reflexive candidates."""
    node, _ = checking(Net())
    local = node.agent.local_candidates[0]
    assert node.requests[0].message.priority == candidate_priority(
        type=CandidateType.PRFLX, transport=local.transport, tcptype=None, component=1
    )


@pytest.mark.parametrize("role", list(Role))
def test_the_request_says_our_role(role: Role) -> None:
    """RFC 8445 s7.1.3."""
    node, _ = checking(Net(), role)
    message = node.requests[0].message
    assert (message.ice_controlling is not None) is (role is Role.CONTROLLING)
    assert (message.ice_controlled is not None) is (role is Role.CONTROLLED)


@pytest.mark.parametrize("role", list(Role))
def test_ordinary_checks_do_not_nominate(role: Role) -> None:
    """RFC 8445 s8.1.1: regular nomination only, which RFC 6544 s8 makes a MUST."""
    node, _ = checking(Net(), role)
    assert not node.requests[0].message.use_candidate


def test_transaction_ids_are_all_different() -> None:
    net = Net()
    node = net.node()
    node.gather()
    Peer(node).introduce(*[udp_candidate(5000 + n, foundation=str(n)) for n in range(50)])
    net.run(3)
    assert len({sent.message.transaction_id for sent in node.requests}) == 50


def test_nothing_is_asked_before_the_start() -> None:
    net = Net()
    node = net.node()
    node.gather()
    node.know(PARAMETERS)
    node.hear_of(udp_candidate())
    net.run(1)
    assert node.requests == []


def test_nothing_is_asked_before_the_peers_parameters() -> None:
    net = Net()
    node = net.node()
    node.gather()
    node.start()
    node.hear_of(udp_candidate())
    net.run(1)
    assert node.requests == []
    node.know(PARAMETERS)
    net.run(0)
    assert len(node.requests) == 1


# -- the answer


def test_an_authenticated_success_makes_the_pair_valid() -> None:
    """RFC 8445 s7.2.5.3."""
    node, peer = checking(Net())
    peer.answers()
    assert outcome(node) == (PairState.SUCCEEDED, None)
    assert node.all_commands(Admit) == [Admit(peer.udp_path())]


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (400, Verdict.BAD_REQUEST),
        (401, Verdict.UNAUTHORIZED),
        (420, Verdict.UNKNOWN_ATTRIBUTE),
        (500, Verdict.ERROR_RESPONSE),
    ],
)
def test_an_error_fails_the_pair_with_its_verdict(code: int, verdict: Verdict) -> None:
    """RFC 8445 s7.2.5.2.4: the agent SHOULD set the pair to Failed."""
    node, peer = checking(Net())
    peer.answers(code=code)
    assert outcome(node) == (PairState.FAILED, verdict)
    assert [answer.code for answer in node.traced(CheckAnswered)] == [code]


@pytest.mark.parametrize("code", [400, 401])
def test_errors_that_cannot_be_authenticated_are_taken_without(code: int) -> None:
    """docs/deviations.md: their sender cannot authenticate them (RFC 8489 s9.1.3)."""
    node, peer = checking(Net())
    node.receive(peer.udp_path(), peer.response(peer.last(), code=code, integrity=False))
    assert outcome(node)[0] is PairState.FAILED


def test_other_errors_without_integrity_are_dropped() -> None:
    """RFC 8489 s9.1.4: the response MUST be discarded as if it had never been received."""
    node, peer = checking(Net())
    node.receive(peer.udp_path(), peer.response(peer.last(), code=487, integrity=False))
    assert outcome(node) == (PairState.IN_PROGRESS, None)
    assert node.traced(MessageDropped)[-1].reason is DropReason.BAD_INTEGRITY
    assert node.agent.role is Role.CONTROLLED


@pytest.mark.parametrize("how", ["none", "wrong"])
def test_a_success_that_is_not_authenticated_is_dropped_and_the_check_goes_on(how: str) -> None:
    """RFC 8489 s9.1.4."""
    node, peer = checking(Net())
    if how == "none":
        forged = peer.response(peer.last(), integrity=False)
    else:
        forged = peer.response(peer.last(), password="somebodyElsesPassword1")
    node.receive(peer.udp_path(), forged)
    assert outcome(node) == (PairState.IN_PROGRESS, None)
    assert node.all_commands(Admit) == []
    peer.answers()
    assert outcome(node) == (PairState.SUCCEEDED, None)


def test_a_success_with_another_integrity_algorithm_than_the_request_is_dropped() -> None:
    """RFC 8489 s9.1.4: the algorithm in the response has to match; otherwise, it MUST be discarded."""
    node, peer = checking(Net())
    transaction_id = peer.last().message.transaction_id
    data = stun.encode(
        stun.MessageClass.SUCCESS,
        stun.Method.BINDING,
        transaction_id,
        [stun.xor_mapped_address(AWAY, 1, transaction_id)],
        key=peer.key,
        integrity=stun.Integrity.SHA256,
    )
    node.receive(peer.udp_path(), data)
    assert outcome(node) == (PairState.IN_PROGRESS, None)
    assert node.traced(MessageDropped)[-1].reason is DropReason.BAD_INTEGRITY


def test_a_success_from_another_address_fails_the_pair() -> None:
    """RFC 8445 s7.2.5.2.1: addresses must be symmetric."""
    node, peer = checking(Net())
    peer.answers(path=peer.udp_path(5001))
    assert outcome(node) == (PairState.FAILED, Verdict.ASYMMETRIC)


def test_a_forged_response_from_another_address_does_not_fail_the_pair() -> None:
    """Who cannot authenticate shall not end a check."""
    node, peer = checking(Net())
    node.receive(peer.udp_path(5001), peer.response(peer.last(), password="somebodyElsesPassword1"))
    assert outcome(node) == (PairState.IN_PROGRESS, None)


def test_a_success_with_an_unknown_required_attribute_is_dropped() -> None:
    """RFC 8489 s6.3.3: the transaction is considered failed, or the response is discarded."""
    node, peer = checking(Net())
    node.receive(peer.udp_path(), peer.response(peer.last(), extra=[(UNKNOWN_REQUIRED, b"")]))
    assert outcome(node)[0] is not PairState.SUCCEEDED


def test_a_success_without_a_mapped_address_fails_the_pair() -> None:
    node, peer = checking(Net())
    data = stun.encode(
        stun.MessageClass.SUCCESS, stun.Method.BINDING, peer.last().message.transaction_id, [], key=peer.key
    )
    node.receive(peer.udp_path(), data)
    assert outcome(node) == (PairState.FAILED, Verdict.BAD_REQUEST)


@pytest.mark.parametrize(
    "mapped",
    [
        lambda _: (stun.AttributeType.XOR_MAPPED_ADDRESS, b"\x00\x01"),
        lambda id_: stun.xor_mapped_address("::ffff:192.0.2.1", 5000, id_),
        lambda id_: stun.xor_mapped_address("192.0.2.1", 0, id_),
    ],
    ids=["cut short", "IPv4-mapped IPv6", "port 0"],
)
def test_a_success_with_a_malformed_mapped_address_is_dropped_and_the_check_goes_on(
    mapped: Callable[[bytes], tuple[int, bytes]],
) -> None:
    node, peer = checking(Net())
    transaction_id = peer.last().message.transaction_id
    data = stun.encode(
        stun.MessageClass.SUCCESS, stun.Method.BINDING, transaction_id, [mapped(transaction_id)], key=peer.key
    )
    node.receive(peer.udp_path(), data)
    assert outcome(node) == (PairState.IN_PROGRESS, None)
    assert node.traced(MessageDropped)[-1].reason is DropReason.MALFORMED


def test_a_second_answer_to_a_request_is_dropped() -> None:
    node, peer = checking(Net())
    sent = peer.last()
    peer.answers(sent)
    peer.answers(sent, code=400)
    assert outcome(node) == (PairState.SUCCEEDED, None)
    assert node.traced(MessageDropped)[-1].reason is DropReason.UNKNOWN_TRANSACTION


def test_an_unknown_mapped_address_makes_a_local_peer_reflexive_candidate() -> None:
    """RFC 8445 s7.2.5.3.1: its priority is that of PRIORITY, its base the pair's local candidate."""
    node, peer = checking(Net())
    outside = address("203.0.113.7", 7000)
    peer.answers(mapped=outside)
    selected = node.agent.selected_path()
    assert selected is not None
    local = node.agent.local_candidates[0]
    assert (selected.local.type, selected.local.address) == (CandidateType.PRFLX, outside)
    assert selected.local.related_address == local.address
    assert selected.local.priority == node.requests[0].message.priority
    assert node.traced(PeerReflexiveFound) == [PeerReflexiveFound(selected.local, remote=False)]


def test_a_mapped_address_that_is_another_candidate_of_ours_makes_no_new_one() -> None:
    """RFC 8445 s7.2.5.3.2: the valid pair may have another local candidate than the pair that was checked."""
    net = Net()
    node = net.node(Role.CONTROLLED, hosts=["192.0.2.1", "192.0.2.2"])
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate(), end=False)
    net.run(0)
    used, other = node.agent.local_candidates
    peer.answers(mapped=other.address)
    selected = node.agent.selected_path()
    assert selected is not None
    assert selected.local == other != used
    assert node.traced(PeerReflexiveFound) == []


def test_an_active_connection_is_seen_from_its_port_not_from_port_9() -> None:
    """RFC 6544 s7.1: typically peer reflexive; no news where the address is the connection's own."""
    node, peer = checking_tcp(Net())
    peer.answers()
    selected = node.agent.selected_path()
    assert selected is not None
    assert selected.local == node.agent.local_candidates[0]
    assert node.traced(PeerReflexiveFound) == []


def test_the_counters_count() -> None:
    net = Net()
    node, peer = checking(net)
    peer.asks(peer.udp_path())
    net.run(0.06)
    peer.asks(peer.udp_path())
    peer.answers()
    (pair,) = node.agent.pair_statistics()
    assert (pair.requests_sent, pair.responses_received) == (2, 1)
    assert (pair.requests_received, pair.responses_sent) == (2, 2)


# -- TCP


def test_a_tcp_check_connects_from_an_unallocated_port_of_the_interface() -> None:
    """RFC 6544 s7.1: from the interface of the active candidate, without a listener's port."""
    net = Net()
    node = net.node(policy=tcp_only("active"))
    node.gather()
    Peer(node).introduce(tcp_candidate(TcpType.PASSIVE))
    net.run(0)
    (connect,) = node.all_commands(Connect)
    assert (connect.host, connect.remote, connect.listener) == (node.hosts[0], address(AWAY, 6000), None)
    assert connect.timeout == node.policy.timeouts.connect


def test_an_so_check_connects_from_the_port_of_its_listener() -> None:
    """RFC 6544 s4.1: the simultaneous-open candidate has one port for both."""
    net = Net()
    node = net.node(policy=tcp_only("so"))
    node.gather()
    Peer(node).introduce(tcp_candidate(TcpType.SO))
    net.run(0)
    (connect,) = node.all_commands(Connect)
    assert connect.listener == node.listener(TcpType.SO)


def test_the_request_follows_as_soon_as_the_connection_stands() -> None:
    """docs/deviations.md: the connection attempt was what waited for its turn."""
    net = Net()
    node, _ = checking_tcp(net)
    assert [sent.at for sent in node.requests] == [net.now]
    assert [(check.triggered, check.paced) for check in node.traced(CheckSent)] == [(False, False)]


def test_a_tcp_pair_is_in_progress_while_it_connects() -> None:
    net = Net()
    node = net.node(policy=tcp_only("active"))
    node.gather()
    Peer(node).introduce(tcp_candidate(TcpType.PASSIVE))
    net.run(1)
    assert node.pair_events(tcp_candidate(TcpType.PASSIVE))[-1] == (PairState.IN_PROGRESS, None)


@pytest.mark.parametrize(
    "failure",
    [
        Failure.REFUSED,
        Failure.RESET,
        Failure.TIMED_OUT,
        Failure.UNREACHABLE,
        Failure.NOT_PERMITTED,
        Failure.ADDRESS_TAKEN,
        Failure.ADDRESS_UNAVAILABLE,
        Failure.NO_RESOURCES,
        Failure.SELF_CONNECT,
        Failure.OTHER,
    ],
)
def test_a_failed_active_attempt_fails_its_pair_with_the_networks_word(failure: Failure) -> None:
    """RFC 6544 s7.1: the check is considered to have failed."""
    net = Net()
    node = net.node(policy=tcp_only("active"))
    node.gather()
    remote = tcp_candidate(TcpType.PASSIVE)
    Peer(node).introduce(remote, end=False)
    net.run(0)
    node.fails(next(iter(node.dialling)), failure)
    assert node.pair_events(remote)[-1] == (PairState.FAILED, Verdict(failure.value))
    net.run(5)
    assert len(node.all_commands(Connect)) == 1


def test_a_connection_that_closes_during_its_check_fails_the_pair() -> None:
    node, _ = checking_tcp(Net())
    node.ends(next(iter(node.streams)))
    assert node.pair_events(tcp_candidate(TcpType.PASSIVE))[-1] == (PairState.FAILED, Verdict.CLOSED)


def test_what_is_no_stun_fails_all_pairs_with_that_remote_candidate() -> None:
    """RFC 6544 s7.1: close the connection and consider all pairs with that remote candidate as failed."""
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("active"), hosts=["192.0.2.1", "192.0.2.2"])
    node.gather()
    good, bad = tcp_candidate(TcpType.PASSIVE, 6001, foundation="g"), tcp_candidate(TcpType.PASSIVE, 6000)
    Peer(node).introduce(good, bad, end=False)
    net.run(0.5)
    streams = [stream for stream, connect in node.dialling.items() if connect.remote == bad.address]
    node.connected(streams[0])
    node.fails(streams[0], Failure.NOT_STUN)
    states = {(pair.remote.address.port, pair.state, pair.verdict) for pair in node.agent.pair_statistics()}
    assert states == {(6000, PairState.FAILED, Verdict.NOT_STUN), (6001, PairState.IN_PROGRESS, None)}
    assert streams[1] not in node.dialling


def test_too_much_early_data_closes_the_connection() -> None:
    node, _ = checking_tcp(Net())
    node.fails(next(iter(node.streams)), Failure.TOO_MUCH_EARLY_DATA)
    assert node.pair_events(tcp_candidate(TcpType.PASSIVE))[-1] == (PairState.FAILED, Verdict.TOO_MUCH_EARLY_DATA)


def test_the_peers_check_on_a_connection_that_we_opened_is_answered() -> None:
    """RFC 6544 s11.1: prepared to receive a check over a connection it opened or accepted."""
    node, peer = checking_tcp(Net())
    answer = peer.asks(node.requests[0].path)
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS
