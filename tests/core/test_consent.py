"""Consent to send (RFC 7675)."""

from __future__ import annotations

from itertools import pairwise

import pytest

from candidates.candidate import TcpType
from ice_tcp import stun
from ice_tcp.core.commands import Use
from ice_tcp.core.events import AgentState, Role
from ice_tcp.core.trace import ConsentChecked, ConsentRenewed
from ice_tcp.core.verdicts import Verdict
from tests.core.net import AWAY, UDP_ONLY, Far, Flight, Net, Node, policy, tcp_candidate, tcp_only, udp_candidate
from tests.core.peer import Peer

TIMEOUT = UDP_ONLY.consent.timeout


def connected(net: Net, role: Role = Role.CONTROLLING, **sections: object) -> tuple[Node, Peer]:
    """A node whose nominated pair is selected now."""
    node = net.node(role, policy(transports=["udp"], **sections))
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    net.run(0.001)
    peer.answers_all()
    if role is Role.CONTROLLED:
        peer.asks(peer.udp_path(), use_candidate=True)
    assert node.is_in(AgentState.COMPLETED)
    return node, peer


def connected_tcp(net: Net) -> tuple[Node, Peer]:
    node = net.node(Role.CONTROLLED, tcp_only("active"))
    node.gather()
    peer = Peer(node)
    peer.introduce(tcp_candidate(TcpType.PASSIVE))
    net.run(0.001)
    node.connected(next(iter(node.dialling)))
    peer.answers_all()
    peer.asks(node.requests[0].path, use_candidate=True)
    assert node.is_in(AgentState.COMPLETED)
    return node, peer


def test_checks_are_4_to_6_seconds_apart_and_jittered() -> None:
    """RFC 7675 s5.1: each interval MUST be randomized from between 0.8 and 1.2 times the basic period."""
    net = Net()
    node, peer = connected(net)
    peer.plays_along(300, step=0.1)
    gaps = [later - sooner for sooner, later in pairwise(node.traced_at(ConsentChecked))]
    assert len(gaps) > 45
    assert min(gaps) >= 4.0
    assert max(gaps) <= 6.0
    assert max(gaps) - min(gaps) > 1.0


def test_each_check_has_its_own_transaction_and_is_sent_once() -> None:
    """RFC 7675 s5.1: MUST use a new transaction identifier; transmitted once only."""
    net = Net()
    node, peer = connected(net)
    before = len(node.requests)
    net.run(25)
    consent = node.requests[before:]
    assert len(consent) == len(node.traced(ConsentChecked)) >= 4
    assert len({sent.message.transaction_id for sent in consent}) == len(consent)
    assert all(sent.message.verify(peer.key) for sent in consent)
    assert not any(sent.message.use_candidate for sent in consent)


def test_an_answer_renews_consent() -> None:
    """RFC 7675 s5.1: 30 seconds from a valid response."""
    net = Net()
    node, peer = connected(net)
    net.run(25)
    peer.answers(peer.unanswered()[-1])
    net.run(TIMEOUT - 0.1)
    assert node.used is not None
    net.run(0.2)
    assert node.used is None


def test_an_answer_to_an_earlier_check_renews_consent() -> None:
    """RFC 7675 s5.1: a response might be for a previous request."""
    net = Net()
    node, peer = connected(net)
    net.run(25)
    peer.answers(peer.unanswered()[0])
    net.run(TIMEOUT - 0.1)
    assert node.used is not None


def test_consent_expires_after_30_seconds_without_an_answer() -> None:
    """RFC 7675 s5.1: the endpoint MUST cease transmission."""
    net = Net()
    node, _ = connected(net)
    net.run(TIMEOUT - 0.1)
    assert node.used is not None
    net.run(0.2)
    assert node.all_commands(Use)[-1] == Use(1, None)
    assert node.states[-1] == (AgentState.FAILED, Verdict.CONSENT_EXPIRED)
    assert node.agent.selected_path() is None


def test_an_answer_after_expiry_does_not_bring_consent_back() -> None:
    """RFC 7675 s5.1: responses received after consent expiry do not re-establish consent."""
    net = Net()
    node, peer = connected(net)
    net.run(TIMEOUT + 1)
    uses = node.all_commands(Use)
    for sent in peer.unanswered():
        peer.answers(sent)
    net.run(1)
    assert node.all_commands(Use) == uses
    assert node.is_in(AgentState.FAILED)


def test_after_expiry_no_more_checks_are_sent() -> None:
    net = Net()
    node, _ = connected(net)
    net.run(TIMEOUT + 1)
    sent = len(node.requests)
    net.run(60)
    assert len(node.requests) == sent
    assert node.agent.next_timer() is None


@pytest.mark.parametrize("what", ["error", "wrong password", "no integrity", "other source"])
def test_what_is_no_authenticated_success_does_not_renew_consent(what: str) -> None:
    """RFC 7675 s5.1: a matching, authenticated, non-error response from the peer's transport address."""
    net = Net()
    node, peer = connected(net)
    while net.now < 1000 + TIMEOUT + 1:
        for sent in peer.unanswered():
            data = {
                "error": peer.response(sent, code=500),
                "wrong password": peer.response(sent, password="somebodyElsesPassword1"),
                "no integrity": peer.response(sent, integrity=False),
                "other source": peer.response(sent),
            }[what]
            node.receive(peer.udp_path(5001 if what == "other source" else 5000), data)
        net.run(1)
    assert node.states[-1] == (AgentState.FAILED, Verdict.CONSENT_EXPIRED)


def test_the_peers_own_check_over_udp_does_not_renew_consent() -> None:
    """RFC 7675 s5.1: only a response does."""
    net = Net()
    node, peer = connected(net)
    for _ in range(31):
        net.run(1)
        peer.asks(peer.udp_path())
    assert node.states[-1] == (AgentState.FAILED, Verdict.CONSENT_EXPIRED)


def test_an_authenticated_403_revokes_consent_at_once() -> None:
    """RFC 7675 s5.2."""
    net = Net()
    node, peer = connected(net)
    net.run(6)
    peer.answers(code=403)
    assert node.used is None
    assert node.states[-1] == (AgentState.FAILED, Verdict.CONSENT_EXPIRED)


def test_a_403_without_integrity_does_not_revoke() -> None:
    """RFC 7675 s5.2: valid and authenticated."""
    net = Net()
    node, peer = connected(net)
    net.run(6)
    node.receive(peer.udp_path(), peer.response(peer.last(), code=403, integrity=False))
    assert node.used is not None


def test_a_round_trip_of_2_seconds_does_no_harm() -> None:
    net = Net(delay=1.0)
    one, other = net.node(), net.node(Role.CONTROLLED, hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(120)
    assert one.state is other.state is AgentState.COMPLETED
    assert AgentState.DISCONNECTED not in [state for state, _ in one.states + other.states]


def test_every_second_check_lost_does_no_harm() -> None:
    net = Net()
    one, other = net.node(), net.node(Role.CONTROLLED, hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(1)
    seen: dict[Far, int] = {one: 0, other: 0}

    def loses(flight: Flight) -> bool:
        if flight.data is None or flight.message.message_class is not stun.MessageClass.REQUEST:
            return False
        seen[flight.sender] += 1
        return seen[flight.sender] % 2 == 0

    net.loses = loses
    net.run(120)
    assert min(seen.values()) > 20
    assert one.state is other.state is AgentState.COMPLETED


def test_silence_is_told_as_disconnected_before_consent_expires() -> None:
    """Two and a half intervals without an answer; data may still be sent."""
    net = Net()
    node, _ = connected(net)
    net.run(20)
    assert node.states[-1] == (AgentState.DISCONNECTED, Verdict.NO_RESPONSE)
    assert node.used is not None


def test_an_answer_brings_a_silent_path_back() -> None:
    net = Net()
    node, peer = connected(net)
    net.run(20)
    peer.answers()
    assert node.states[-1] == (AgentState.COMPLETED, None)


def test_a_peer_that_vanishes_is_noticed() -> None:
    net = Net()
    one, other = net.node(), net.node(Role.CONTROLLED, hosts=[AWAY], seed=2)
    net.meet(one, other)
    net.run(1)
    net.loses = lambda _: True
    net.run(60)
    for node in (one, other):
        assert [state for state, _ in node.states[-2:]] == [AgentState.DISCONNECTED, AgentState.FAILED]


def test_consent_is_kept_on_a_valid_pair_before_nomination() -> None:
    """RFC 7675 s5.1: whenever the endpoint sends application data on that pair."""
    net = Net()
    node = net.node(Role.CONTROLLED)
    node.gather()
    peer = Peer(node)
    peer.introduce(udp_candidate())
    net.run(0.001)
    peer.answers()
    net.run(7)
    assert len(node.traced(ConsentChecked)) == 1
    net.run(30)
    assert node.used is None


def test_over_tcp_consent_is_asked_too() -> None:
    """RFC 7675 s5.1: MUST be performed over all transport connections, including TCP."""
    net = Net()
    node, _ = connected_tcp(net)
    net.run(12)
    assert len(node.traced(ConsentChecked)) >= 2
    net.run(20)
    assert node.states[-1] == (AgentState.FAILED, Verdict.CONSENT_EXPIRED)


def test_over_tcp_an_authenticated_request_of_the_peer_renews_consent() -> None:
    """docs/deviations.md: an answer may wait behind megabytes that the peer has still to read."""
    net = Net()
    node, peer = connected_tcp(net)
    for _ in range(60):
        net.run(1)
        peer.asks(node.requests[0].path)
    assert node.is_in(AgentState.COMPLETED)
    assert any(record.by_request for record in node.traced(ConsentRenewed))


def test_a_lost_consent_on_tcp_closes_the_connection() -> None:
    net = Net()
    node, _ = connected_tcp(net)
    net.run(TIMEOUT + 1)
    assert node.streams == {}


def test_disabled_consent_never_expires() -> None:
    """The policy may say so, for a peer that does not answer consent."""
    net = Net()
    node, _ = connected(net, consent={"enabled": False})
    net.run(300)
    assert node.is_in(AgentState.COMPLETED)
    assert node.traced(ConsentChecked) == []


def test_without_consent_checks_keepalives_hold_the_nat_binding() -> None:
    """RFC 8445 s11: an agent MUST send a keepalive if no packet has been sent in the last Tr (15) seconds."""
    net = Net()
    node, peer = connected(net, consent={"enabled": False})
    before = len(node.sent)
    net.run(61)
    keepalives = node.sent[before:]
    assert len(keepalives) >= 3
    for sent in keepalives:
        assert sent.message.message_class is stun.MessageClass.INDICATION
        assert sent.path == peer.udp_path()
        assert not sent.message.has_integrity


def test_consent_ends_with_the_session() -> None:
    net = Net()
    node, _ = connected(net)
    node.close()
    sent = len(node.requests)
    net.run(60)
    assert len(node.requests) == sent


def test_policy_sets_interval_and_timeout() -> None:
    net = Net()
    node, _ = connected(net, consent={"interval": 10.0, "timeout": 60.0})
    net.run(59)
    gaps = [later - sooner for sooner, later in pairwise(node.traced_at(ConsentChecked))]
    assert all(8.0 <= gap <= 12.0 for gap in gaps)
    assert node.used is not None
    net.run(2)
    assert node.used is None
