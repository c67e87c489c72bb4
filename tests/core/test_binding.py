"""The peer's messages: what is answered how, and what is dropped (RFC 8445 s7.3, RFC 8489 s6.3, s9.1)."""

from __future__ import annotations

import pytest

from candidates.candidate import CandidateType, TcpType
from ice_tcp import stun
from ice_tcp.core.commands import Admit, UdpPath
from ice_tcp.core.events import PairState, Role
from ice_tcp.core.trace import DropReason, MessageDropped, PeerReflexiveFound, RequestReceived
from tests.core.net import AWAY, UDP_ONLY, Net, Node, address, policy, tcp_only, udp_candidate
from tests.core.peer import PRFLX_PRIORITY, Peer

UNKNOWN_REQUIRED = 0x7777
UNKNOWN_OPTIONAL = 0xC777


@pytest.fixture
def node() -> Node:
    """A controlled node that knows its peer's parameters and no candidate."""
    node = Net().node(Role.CONTROLLED)
    node.gather()
    Peer(node).introduce(end=False)
    return node


@pytest.fixture
def peer(node: Node) -> Peer:
    return Peer(node)


def drops(node: Node) -> list[DropReason]:
    return [record.reason for record in node.traced(MessageDropped)]


def error_of(answer: stun.Message | None) -> int:
    assert answer is not None
    assert answer.message_class is stun.MessageClass.ERROR
    assert answer.error_code is not None
    return answer.error_code.code


# -- answers


def test_a_good_request_is_answered_with_the_address_that_it_came_from(node: Node, peer: Peer) -> None:
    """RFC 8489 s6.3.1.1: XOR-MAPPED-ADDRESS is the source of the request."""
    answer = peer.asks(peer.udp_path(5000))
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS
    assert answer.xor_mapped_address == (AWAY, 5000)


def test_the_answer_is_authenticated_with_our_password_and_has_a_fingerprint(node: Node, peer: Peer) -> None:
    """RFC 8445 s7.3: the short-term credential mechanism MUST be used for the response; FINGERPRINT, too."""
    answer = peer.asks(peer.udp_path())
    assert answer is not None
    assert answer.verify(stun.IntegrityKey.short_term(node.agent.local_parameters.pwd))
    assert answer.has_fingerprint


def test_the_answer_leaves_on_the_connection_that_the_request_came_on() -> None:
    """RFC 8489 s6.3.1.2."""
    node = Net().node(Role.CONTROLLED, tcp_only("passive"))
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    answer = peer.asks(path)
    assert answer is not None
    assert answer.xor_mapped_address == (AWAY, 50_000)


def test_a_request_before_the_peers_parameters_is_answered_at_once() -> None:
    """RFC 8445 s7.3: it MUST immediately generate a response; the peer's password is not required."""
    node = Net().node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    answer = peer.asks(peer.udp_path())
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS
    assert node.requests == []


def test_a_request_before_the_peers_parameters_is_acted_upon_when_they_come() -> None:
    """RFC 8445 s7.3: once the answer is received, it MUST proceed with the remaining steps."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.asks(peer.udp_path())
    peer.introduce(end=False)
    net.run(0.001)
    assert [sent.remote.port for sent in node.requests] == [5000]


def test_early_requests_are_bounded() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, policy(transports=["udp"], limits={"peer_reflexive": 5}))
    node.gather()
    peer = Peer(node)
    for port in range(5000, 5050):
        assert peer.asks(peer.udp_path(port)) is not None
    peer.introduce(end=False)
    assert len(node.agent.pair_statistics()) == 5


def test_an_early_request_on_a_connection_that_has_ended_since_is_forgotten() -> None:
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("passive"))
    node.gather()
    peer = Peer(node)
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    peer.asks(path)
    node.ends(path.stream)
    peer.introduce(end=False)
    net.run(1)
    assert node.requests == []


def test_no_role_conflict_and_no_pair_come_of_an_unauthenticated_request(node: Node, peer: Peer) -> None:
    peer.asks(peer.udp_path(), peer.request(role=Role.CONTROLLED, integrity=False))
    assert node.agent.role is Role.CONTROLLED
    assert node.agent.remote_candidates == ()


@pytest.mark.parametrize("missing", ["username", "integrity"])
def test_a_request_without_username_or_integrity_gets_400(node: Node, peer: Peer, missing: str) -> None:
    """RFC 8489 s9.1.3: the server MUST generate an error response with 400, without MESSAGE-INTEGRITY."""
    if missing == "integrity":
        request = peer.request(integrity=False)
    else:
        key = stun.IntegrityKey.short_term(node.agent.local_parameters.pwd)
        request = stun.encode(stun.MessageClass.REQUEST, stun.Method.BINDING, peer.new_id(), [], key=key)
    answer = peer.asks(peer.udp_path(), request)
    assert error_of(answer) == 400
    assert answer is not None and not answer.has_integrity


def test_an_unknown_username_gets_401(node: Node, peer: Peer) -> None:
    """RFC 8489 s9.1.3: the username is not valid: 401."""
    assert error_of(peer.asks(peer.udp_path(), peer.request(username="nobody:peer"))) == 401


def test_a_username_without_a_colon_but_with_our_fragment_is_taken(node: Node, peer: Peer) -> None:
    """The first value decides (RFC 8445 s7.3); being lenient about the rest harms nobody."""
    answer = peer.asks(peer.udp_path(), peer.request(username=node.agent.local_parameters.ufrag))
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS


def test_a_wrong_password_gets_401(node: Node, peer: Peer) -> None:
    """RFC 8489 s9.1.3."""
    assert error_of(peer.asks(peer.udp_path(), peer.request(password="thisIsNotThePassword22"))) == 401
    assert node.agent.remote_candidates == ()
    assert node.all_commands(Admit) == []


def test_an_unknown_comprehension_required_attribute_gets_420_that_names_it(node: Node, peer: Peer) -> None:
    """RFC 8489 s6.3.1: UNKNOWN-ATTRIBUTES lists it."""
    request = peer.request(extra=[(UNKNOWN_REQUIRED, b"what")])
    answer = peer.asks(peer.udp_path(), request)
    assert error_of(answer) == 420
    assert answer is not None
    assert answer.unknown_attributes == (UNKNOWN_REQUIRED,)
    assert answer.verify(stun.IntegrityKey.short_term(node.agent.local_parameters.pwd))


def test_an_unknown_comprehension_optional_attribute_is_ignored(node: Node, peer: Peer) -> None:
    """RFC 8489 s14."""
    answer = peer.asks(peer.udp_path(), peer.request(extra=[(UNKNOWN_OPTIONAL, b"what")]))
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS


def test_a_request_without_priority_gets_400(node: Node, peer: Peer) -> None:
    """RFC 8445 s7.1.1: PRIORITY MUST be included."""
    assert error_of(peer.asks(peer.udp_path(), peer.request(priority=None))) == 400


def test_a_request_that_claims_both_roles_gets_400(node: Node, peer: Peer) -> None:
    assert error_of(peer.asks(peer.udp_path(), peer.request(extra=[stun.ice_controlled(1)]))) == 400


def test_a_repeated_request_is_answered_again_with_the_same(node: Node, peer: Peer) -> None:
    """RFC 8489 s6.3.1: a retransmission gets the same response."""
    request = peer.request()
    first, second = peer.asks(peer.udp_path(), request), peer.asks(peer.udp_path(), request)
    assert first is not None and second is not None
    assert node.responses[0].data == node.responses[1].data


def test_a_repeated_request_does_not_trigger_a_second_check(node: Node, peer: Peer) -> None:
    """docs/deviations.md: not within one Ta of a check of the pair."""
    request = peer.request()
    for _ in range(5):
        peer.asks(peer.udp_path(), request)
    assert len(node.new_requests) == 1


def test_of_duplicate_attributes_the_first_counts(node: Node, peer: Peer) -> None:
    """RFC 8489 s14: only the first occurrence needs to be processed."""
    peer.asks(peer.udp_path(), peer.request(priority=1000, extra=[stun.priority(2000)]))
    assert [candidate.priority for candidate in node.agent.remote_candidates] == [1000]


# -- what is dropped


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\x00\x01\x00\x00", id="short header"),
        pytest.param(bytes(20), id="no cookie"),
        pytest.param(b"\x00\x01\x00\x08\x21\x12\xa4\x42" + bytes(12), id="truncated"),
        pytest.param(b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(112), id="oversized"),
        pytest.param(b"\x00\x01\x00\x04\x21\x12\xa4\x42" + bytes(12) + b"\x00\x06\xff\xff", id="attribute overruns"),
        pytest.param(b"\x80\x60" + bytes(30), id="RTP"),
        pytest.param(b"\x16\xfe\xff" + bytes(30), id="DTLS"),
        pytest.param(bytes(range(256)) * 4, id="garbage"),
    ],
)
def test_garbage_is_dropped_and_traced(node: Node, data: bytes) -> None:
    """CONVENTIONS 8: peer bytes never raise out of the core."""
    node.receive(UdpPath(node.socket(), address(AWAY, 5000)), data)
    assert drops(node) == [DropReason.MALFORMED]
    assert node.sent == []


def test_every_truncation_of_a_request_is_dropped(node: Node, peer: Peer) -> None:
    request = peer.request()
    for length in range(len(request)):
        node.receive(peer.udp_path(), request[:length])
    assert node.sent == []
    assert set(drops(node)) == {DropReason.MALFORMED}


def test_no_flipped_bit_of_a_request_is_accepted(node: Node, peer: Peer) -> None:
    request = peer.request()
    for bit in range(len(request) * 8):
        broken = bytearray(request)
        broken[bit // 8] ^= 1 << bit % 8
        node.receive(peer.udp_path(), bytes(broken))
    assert node.agent.remote_candidates == ()
    assert node.all_commands(Admit) == []


def test_a_request_without_fingerprint_is_dropped(node: Node, peer: Peer) -> None:
    """RFC 8445 s7.3: it MUST utilize the FINGERPRINT mechanism."""
    assert peer.asks(peer.udp_path(), peer.request(fingerprint=False)) is None
    assert drops(node) == [DropReason.NO_FINGERPRINT]


def test_a_request_with_a_wrong_fingerprint_is_dropped(node: Node, peer: Peer) -> None:
    request = bytearray(peer.request())
    request[-1] ^= 1
    assert peer.asks(peer.udp_path(), bytes(request)) is None
    assert drops(node) == [DropReason.MALFORMED]


@pytest.mark.parametrize("kind", [stun.AttributeType.PRIORITY, stun.AttributeType.ICE_CONTROLLING])
def test_a_malformed_attribute_is_dropped(node: Node, peer: Peer, kind: int) -> None:
    local = node.agent.local_parameters
    attributes = [stun.username(f"{local.ufrag}:peer"), (int(kind), b"\x01"), stun.priority(7)]
    request = stun.encode(
        stun.MessageClass.REQUEST,
        stun.Method.BINDING,
        peer.new_id(),
        attributes,
        key=stun.IntegrityKey.short_term(local.pwd),
    )
    assert peer.asks(peer.udp_path(), request) is None
    assert drops(node) == [DropReason.MALFORMED]


def test_a_username_that_is_no_text_does_no_harm(node: Node, peer: Peer) -> None:
    request = stun.encode(
        stun.MessageClass.REQUEST,
        stun.Method.BINDING,
        peer.new_id(),
        [(stun.AttributeType.USERNAME, b"\xff\xfe\xfd")],
        key=stun.IntegrityKey.short_term(node.agent.local_parameters.pwd),
    )
    peer.asks(peer.udp_path(), request)
    assert node.agent.remote_candidates == ()


def test_an_indication_is_dropped_without_an_answer(node: Node, peer: Peer) -> None:
    """RFC 8445 s11: a keepalive has no impact."""
    node.receive(peer.udp_path(), stun.encode(stun.MessageClass.INDICATION, stun.Method.BINDING, peer.new_id()))
    assert drops(node) == [DropReason.INDICATION]
    assert node.sent == []


def test_another_method_is_dropped(node: Node, peer: Peer) -> None:
    node.receive(peer.udp_path(), stun.encode(stun.MessageClass.REQUEST, stun.Method.ALLOCATE, peer.new_id()))
    assert drops(node) == [DropReason.NOT_BINDING]


def test_a_response_to_nothing_is_dropped(node: Node, peer: Peer) -> None:
    """RFC 8489 s6.3.3: no outstanding transaction."""
    mapped = stun.xor_mapped_address(AWAY, 1, bytes(12))
    data = stun.encode(stun.MessageClass.SUCCESS, stun.Method.BINDING, bytes(12), [mapped], key=peer.key)
    node.receive(peer.udp_path(), data)
    assert drops(node) == [DropReason.UNKNOWN_TRANSACTION]


def test_an_address_that_the_policy_denies_gets_no_answer() -> None:
    """The policy's ``remote`` covers peer-reflexive candidates, too."""
    node = Net().node(Role.CONTROLLED, policy(transports=["udp"], remote={"deny": [{"cidr": "198.51.100.0/24"}]}))
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    assert peer.asks(peer.udp_path()) is None
    assert drops(node) == [DropReason.POLICY]


# -- peer-reflexive candidates


def test_an_unknown_source_becomes_a_peer_reflexive_candidate(node: Node, peer: Peer) -> None:
    """RFC 8445 s7.3.1.3: type, priority of PRIORITY, and a foundation of its own."""
    peer.asks(peer.udp_path(5000))
    (candidate,) = node.agent.remote_candidates
    assert candidate.type is CandidateType.PRFLX
    assert candidate.priority == PRFLX_PRIORITY
    assert candidate.address == address(AWAY, 5000)
    assert node.traced(PeerReflexiveFound) == [PeerReflexiveFound(candidate, remote=True)]


def test_peer_reflexive_candidates_have_different_foundations(node: Node, peer: Peer) -> None:
    """RFC 8445 s7.3.1.3: different from the foundations of all other remote candidates."""
    for port in (5000, 5001, 5002):
        peer.asks(peer.udp_path(port))
    assert len({candidate.foundation for candidate in node.agent.remote_candidates}) == 3


def test_a_peer_reflexive_candidate_pairs_only_where_it_was_seen() -> None:
    """RFC 8445 s7.3.1.3: the agent does not pair this candidate with any local candidates."""
    net = Net()
    node = net.node(Role.CONTROLLED, UDP_ONLY, hosts=["192.0.2.1", "192.0.2.2"])
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    peer.asks(peer.udp_path())
    assert len(node.agent.pair_statistics()) == 1


def test_a_local_candidate_that_comes_later_does_not_pair_with_a_peer_reflexive_one() -> None:
    """RFC 8445 s7.3.1.3."""
    net = Net()
    node = net.node(Role.CONTROLLED, UDP_ONLY, hosts=["192.0.2.1", "192.0.2.2"], opens_sockets=False)
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    first, second = node.sockets
    node.answer_open(first)
    peer.asks(UdpPath(first, address(AWAY, 5000)))
    node.answer_open(second)
    node.drain()
    assert len(node.agent.local_candidates) == 2
    assert len(node.agent.pair_statistics()) == 1


@pytest.mark.parametrize(
    ("base", "remote"), [(TcpType.PASSIVE, TcpType.ACTIVE), (TcpType.SO, TcpType.SO)], ids=["passive", "so"]
)
def test_a_connection_makes_a_candidate_of_the_type_that_fits_its_base(base: TcpType, remote: TcpType) -> None:
    """RFC 6544 s7.2: accepted on passive and on simultaneous-open bases."""
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("passive", "so"))
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    path = peer.dials(node, node.listener(base))
    peer.asks(path)
    (candidate,) = node.agent.remote_candidates
    assert (candidate.type, candidate.tcptype) == (CandidateType.PRFLX, remote)
    assert [sent.path for sent in node.requests] == [path]


def test_signaling_identifies_a_peer_reflexive_candidate_later(node: Node, peer: Peer) -> None:
    """RFC 8445 s7.3.1.3: a later exchange signals the actual foundation; RFC 8838 s11."""
    peer.asks(peer.udp_path(5000))
    signaled = udp_candidate(5000, foundation="real")
    node.hear_of(signaled)
    assert node.agent.remote_candidates == (signaled,)
    assert [pair.remote for pair in node.agent.pair_statistics()] == [signaled]


def test_an_identified_candidate_frees_its_place_in_the_limit() -> None:
    node = Net().node(Role.CONTROLLED, policy(transports=["udp"], limits={"peer_reflexive": 1}))
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    peer.asks(peer.udp_path(5000))
    node.hear_of(udp_candidate(5000))
    peer.asks(peer.udp_path(5001))
    assert len(node.agent.remote_candidates) == 2


def test_the_pair_of_an_identified_candidate_keeps_the_priority_that_both_sides_agree_on(
    node: Node, peer: Peer
) -> None:
    """RFC 8838 s11 4.A: the pair gets the priority of the signaled candidate, and the list is sorted again."""
    peer.asks(peer.udp_path(5000), peer.request(priority=1000))
    node.hear_of(udp_candidate(5000, priority=2_130_706_431))
    (pair,) = node.agent.pair_statistics()
    assert pair.priority >> 32 == min(2_130_706_431, node.agent.local_candidates[0].priority)


# -- triggered checks


def test_a_request_triggers_a_check_of_its_pair(node: Node, peer: Peer) -> None:
    """RFC 8445 s7.3.1.4."""
    peer.asks(peer.udp_path(5000))
    assert [sent.remote.port for sent in node.requests] == [5000]
    assert node.pair_events(node.agent.remote_candidates[0])[-1] == (PairState.IN_PROGRESS, None)


def test_a_request_for_a_succeeded_pair_triggers_nothing(node: Node, peer: Peer) -> None:
    """RFC 8445 s7.3.1.4: nothing further is done."""
    peer.asks(peer.udp_path(5000))
    peer.answers()
    sent = len(node.requests)
    peer.asks(peer.udp_path(5000))
    assert len(node.requests) == sent


def test_a_request_for_a_pair_in_progress_makes_a_new_check(node: Node, peer: Peer) -> None:
    """RFC 8445 s7.3.1.4: cancel the one in progress and trigger another, rather than wait for a retransmission."""
    node.hear_of(udp_candidate())
    node.net.run(0.2)
    peer.asks(peer.udp_path())
    assert len(node.new_requests) == 2
    assert node.new_requests[1].at == node.net.now


def test_a_relay_may_have_swallowed_even_a_check_of_just_now(node: Node, peer: Peer) -> None:
    """RFC 8656 s9: without a permission the server discards the datagram."""
    node.hear_of(udp_candidate(type_=CandidateType.RELAY))
    node.net.run(0.01)
    peer.asks(peer.udp_path())
    assert [request.at for request in node.new_requests] == [node.net.now - 0.01, node.net.now]


def test_on_tcp_a_request_does_not_repeat_a_check_in_progress() -> None:
    """docs/deviations.md: TCP has not lost the one in progress."""
    net = Net()
    node = net.node(Role.CONTROLLED, tcp_only("passive"))
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    path = peer.dials(node, node.listener(TcpType.PASSIVE))
    for _ in range(3):
        peer.asks(path)
        net.run(1)
    assert len(node.requests) == 1


def test_use_candidate_in_the_first_check_nominates_when_the_triggered_check_succeeds(node: Node, peer: Peer) -> None:
    """RFC 8445 s7.3.1.5: once the check that it triggered succeeds; so a peer of RFC 5245 may do."""
    peer.asks(peer.udp_path(), use_candidate=True)
    assert node.agent.selected_path() is None
    peer.answers()
    selected = node.agent.selected_path()
    assert selected is not None
    assert selected.nominated
    (received,) = node.traced(RequestReceived)
    assert (received.path, received.code, received.use_candidate) == (peer.udp_path(), None, True)


def test_use_candidate_of_a_controlled_peer_is_ignored() -> None:
    """RFC 8445 s7.1.2: only the controlling agent may include it."""
    node = Net().node(Role.CONTROLLING)
    node.gather()
    peer = Peer(node)
    peer.introduce(end=False)
    peer.asks(peer.udp_path(), use_candidate=True)
    assert [record.use_candidate for record in node.traced(RequestReceived)] == [False]


def test_an_authenticated_request_admits_the_data_of_its_path(node: Node, peer: Peer) -> None:
    """RFC 8445 s12.2: data may come as soon as the peer has a valid pair."""
    peer.asks(peer.udp_path(5000))
    peer.asks(peer.udp_path(5000))
    assert node.all_commands(Admit) == [Admit(peer.udp_path(5000))]


def test_a_flood_of_bad_requests_leaves_nothing_behind(node: Node, peer: Peer) -> None:
    for port in range(1024, 1424):
        peer.asks(peer.udp_path(port), peer.request(password="thisIsNotThePassword22"))
    assert node.agent.remote_candidates == ()
    assert node.agent.pair_statistics() == []


@pytest.mark.parametrize(
    ("asked", "answered"),
    [
        (stun.Integrity.SHA1, stun.Integrity.SHA1),
        (stun.Integrity.SHA256, stun.Integrity.SHA256),
        (stun.Integrity.BOTH, stun.Integrity.SHA256),
    ],
)
def test_the_answer_has_the_integrity_of_the_request(
    node: Node, peer: Peer, asked: stun.Integrity, answered: stun.Integrity
) -> None:
    """RFC 8489 s9.1.3: SHA-256 if the request has it, and only one of the two attributes."""
    local = node.agent.local_parameters
    key = stun.IntegrityKey.short_term(local.pwd)
    request = stun.encode(
        stun.MessageClass.REQUEST,
        stun.Method.BINDING,
        peer.new_id(),
        [stun.username(f"{local.ufrag}:peer"), stun.priority(7), stun.ice_controlling(1)],
        key=key,
        integrity=asked,
    )
    answer = peer.asks(peer.udp_path(), request)
    assert answer is not None
    assert answer.message_class is stun.MessageClass.SUCCESS
    assert answer.integrity is answered
    assert answer.verify(key)
