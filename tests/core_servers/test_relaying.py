"""Checks and data through UDP relays: permissions, paths, channels (RFC 8656 s9 to s12, RFC 8445 s2.2)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from candidates.candidate import CandidateType, TcpType
from ice_tcp import stun
from ice_tcp.core.commands import Admit, BindChannel, Deliver, LegTransport, RelayPath, Use
from ice_tcp.core.events import AgentState, PairState, Role
from ice_tcp.core.trace import CheckSent, PeerReflexiveFound
from ice_tcp.core.verdicts import Verdict
from ice_tcp.server.peers import PeerPolicy
from ice_tcp.stun import AttributeType
from tests.core.net import AWAY, address, tcp_candidate, udp_candidate
from tests.core.peer import Peer
from tests.core_servers.world import HOST, HOST6, Client, LegSent, Server, World, served, turn

RELAY_ONLY: dict[str, Any] = {"candidate_types": ["relay"], "address_families": ["ipv4"]}


def relay_only(*, url: str = f"turn:{HOST}?transport=udp", **sections: Any) -> tuple[World, Server, Client]:
    """A client that has nothing but a relay."""
    world = World()
    server = world.server()
    client = world.client(served(turn(url), **{**RELAY_ONLY, **sections}))
    client.gather()
    world.run(0.2)
    return world, server, client


def two_relayed(*, url: str = f"turn:{HOST}?transport=udp") -> tuple[World, Server, Client, Client]:
    """Two clients that have nothing but relays, of the same server, and have met."""
    world = World()
    server = world.server()
    one = world.client(served(turn(url), **RELAY_ONLY))
    other = world.client(served(turn(url), **RELAY_ONLY), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.connect(one, other)
    world.run(5)
    return world, server, one, other


def permitted_hosts(sent: LegSent) -> list[str]:
    return [host for host, _ in sent.message.xor_addresses(AttributeType.XOR_PEER_ADDRESS)]


def permissions(client: Client) -> list[list[str]]:
    return [permitted_hosts(sent) for sent in client.asked(stun.Method.CREATE_PERMISSION)]


# -- permissions


def test_candidates_of_one_instant_are_permitted_in_one_request() -> None:
    """RFC 8656 s9: addresses, not ports, are permitted."""
    world, _, client = relay_only()
    hosts = ["198.51.100.5", "198.51.100.6", "198.51.100.6"]
    now = world.now
    for n, host in enumerate(hosts):
        client.agent.add_remote_candidate(udp_candidate(5000 + n, host=host), now)
    client.drain()
    world.run(0.1)
    assert permissions(client) == [["198.51.100.5", "198.51.100.6"]]


def test_candidates_that_came_before_the_relay_are_permitted_when_it_is_there() -> None:
    world = World()
    world.server()
    client = world.client(served(turn(f"turn:{HOST}?transport=udp"), **RELAY_ONLY))
    client.gather()
    client.know(Peer(client).parameters)
    client.hear_of(udp_candidate())
    world.run(0.2)
    assert permissions(client) == [[AWAY]]


def test_only_candidates_that_the_relay_can_reach_are_permitted() -> None:
    """RFC 8656 s10.1: of another family MUST NOT be; of another transport there is nothing to check."""
    world, _, client = relay_only()
    client.hear_of(udp_candidate(host="2001:db8::2"), tcp_candidate(TcpType.ACTIVE), udp_candidate())
    world.run(0.2)
    assert permissions(client) == [[AWAY]]


def test_no_check_leaves_before_its_permission() -> None:
    """A server drops it, and it would cost half a second."""
    world, _, client = relay_only()
    Peer(client).introduce(udp_candidate())
    world.run(0)
    assert client.traced(CheckSent) == []
    world.run(0.019)
    assert client.traced(CheckSent) == []
    world.run(0.01)
    assert len(client.traced(CheckSent)) == 1


def test_a_refused_permission_fails_the_pair_with_its_reason() -> None:
    world = World()
    world.server(peers=PeerPolicy())  # public peers only
    client = world.client(served(turn(f"turn:{HOST}?transport=udp"), **RELAY_ONLY))
    client.gather()
    world.run(0.2)
    private, public = udp_candidate(host="10.0.0.1"), udp_candidate(host="1.2.3.4")
    Peer(client).introduce(private, public)
    world.run(1)
    assert client.pair_events(private)[-1] == (PairState.FAILED, Verdict.NO_PERMISSION)
    assert client.pair_states()[public.address] is PairState.IN_PROGRESS


def test_a_later_candidate_of_a_refused_host_fails_too() -> None:
    """A pair that waited for ever would keep the session from failing."""
    world = World()
    world.server(peers=PeerPolicy())
    client = world.client(served(turn(f"turn:{HOST}?transport=udp"), **RELAY_ONLY))
    client.gather()
    world.run(0.2)
    peer = Peer(client)
    peer.introduce(udp_candidate(host="10.0.0.1"), end=False)
    world.run(1)
    late = udp_candidate(5001, host="10.0.0.1")
    client.hear_of(late)
    client.hear_end()
    world.run(1)
    assert client.pair_events(late)[-1] == (PairState.FAILED, Verdict.NO_PERMISSION)
    world.run(60)
    assert client.state is AgentState.FAILED


def test_permissions_are_refreshed_in_time() -> None:
    """RFC 8656 s9: five minutes."""
    world, _, client = relay_only()
    Peer(client).introduce(udp_candidate())
    world.run(500)
    asked = [sent.at for sent in client.asked(stun.Method.CREATE_PERMISSION)]
    assert len(asked) == 3
    assert all(later - earlier < 300 for earlier, later in pairwise(asked))


# -- checks


def test_two_relays_meet() -> None:
    _, server, one, other = two_relayed()
    for client, peer in ((one, other), (other, one)):
        assert client.state is AgentState.COMPLETED
        assert isinstance(client.used, RelayPath)
        assert client.used.remote in server.relayed
        assert {pair.local.type for pair in client.agent.pair_statistics()} == {CandidateType.RELAY}
        assert client.used.remote == peer.told()[0].address


def test_relay_only_leaks_nothing_in_checks_either() -> None:
    """Neither host nor mapped address, nor a packet that does not go to the server."""
    _, _, one, other = two_relayed()
    assert one.sent == other.sent == []
    assert {leg.remote.host for leg in one.opened_legs()} == {HOST}
    heard = {pair.remote.address.host for pair in other.agent.pair_statistics()}
    assert heard == {HOST}


def test_a_check_through_a_relay_says_the_priority_of_a_relay() -> None:
    """Else the peer's peer-reflexive view of us would rank above direct paths (docs/deviations.md)."""
    world, _, client = relay_only()
    peer = Peer(client)
    peer.introduce(udp_candidate())
    world.run(0.1)
    sends = [
        sent
        for sent in client.leg_sent
        if sent.message.method == stun.Method.SEND and sent.message.message_class is stun.MessageClass.INDICATION
    ]
    data = sends[0].message.data
    assert data is not None
    told = client.told()[0].priority
    assert stun.decode(data).priority == told


def test_what_the_peer_sees_through_a_relay_is_the_relayed_candidate() -> None:
    """Nothing is learned as peer reflexive on our own side, whatever a NAT before the peer makes of it."""
    _, _, one, other = two_relayed()
    assert one.traced(PeerReflexiveFound) == other.traced(PeerReflexiveFound) == []


def test_data_goes_by_indication_until_the_channel_is_bound_and_by_channel_then() -> None:
    world, _, one, other = two_relayed()
    path = one.used
    assert isinstance(path, RelayPath)
    (bound,) = one.all_commands(BindChannel)
    assert (bound.leg, bound.peer) == (path.leg, path.remote)
    uses = [at for at, command in one.commands if isinstance(command, Use)]
    bounds = [at for at, command in one.commands if isinstance(command, BindChannel)]
    assert 0 < bounds[0] - uses[0] < 0.03
    one.send_data(b"by channel")
    world.run(0.1)
    assert [data for _, data in other.delivered] == [b"by channel"]
    assert one.leg_sent[-1].data[0] == 0x40


@pytest.mark.parametrize("url", [f"turn:{HOST}?transport=udp", f"turn:{HOST}?transport=tcp"])
def test_data_of_an_indication_is_handed_on(url: str) -> None:
    world, _, one, other = two_relayed(url=url)
    assert isinstance(one.used, RelayPath) and isinstance(other.used, RelayPath)
    del other.channels[other.used.leg, other.used.remote]
    other.send_data(b"by indication")
    world.run(0.1)
    (delivered,) = one.delivered
    assert delivered == (one.used, b"by indication")


def test_data_of_an_unbound_peer_is_asked_to_be_delivered() -> None:
    """It came inside a Data indication: the core unpacks it, the shell admits it."""
    world, _, client = relay_only()
    Peer(client).introduce(udp_candidate())
    world.run(0.1)
    (leg,) = client.legs
    id_ = bytes(12)
    attributes = [stun.xor_peer_address(AWAY, 5000, id_), stun.data(b"early")]
    client.leg_receives(leg, stun.encode(stun.MessageClass.INDICATION, stun.Method.DATA, id_, attributes))
    assert client.all_commands(Deliver) == [Deliver(RelayPath(leg, address(AWAY, 5000)), b"early")]


def test_a_path_through_a_relay_is_admitted_once_authenticated() -> None:
    _, _, one, other = two_relayed()
    for client in (one, other):
        assert client.used is not None
        assert client.all_commands(Admit) == [Admit(client.used)]


def test_consent_keeps_a_relayed_path() -> None:
    """RFC 7675, for ten minutes of virtual time, with all refreshes."""
    world, _, one, other = two_relayed()
    world.run(1200)
    for client in (one, other):
        assert client.state is AgentState.COMPLETED
    one.send_data(b"still")
    world.run(1)
    assert [data for _, data in other.delivered] == [b"still"]


def test_consent_over_a_relay_expires_as_elsewhere() -> None:
    world, _, one, other = two_relayed()
    other.net = World()  # nobody there
    world.nodes.remove(other)
    world.blocks = lambda leg: leg in other.legs.values()
    world.run(40)
    assert one.state is AgentState.FAILED


@pytest.mark.parametrize("leg", [LegTransport.UDP, LegTransport.TCP])
def test_one_relay_is_enough_where_the_other_side_can_be_reached(leg: LegTransport) -> None:
    world = World()
    server = world.server()
    one = world.client(served(turn(f"turn:{HOST}?transport={leg}"), **RELAY_ONLY))
    other = world.client(served(), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.connect(one, other)
    world.run(5)
    assert one.state is other.state is AgentState.COMPLETED
    assert isinstance(one.used, RelayPath) and one.used.remote.host == AWAY
    path = other.agent.selected_path()
    assert path is not None and path.remote.type is CandidateType.RELAY
    assert path.remote.address in server.relayed


def test_ipv6_peers_are_reached_through_the_ipv6_address_of_a_dual_allocation() -> None:
    world = World()
    world.server(hosts=[HOST, HOST6])
    one = world.client(served(turn(f"turn:{HOST}?transport=udp"), candidate_types=["relay"]))
    other = world.client(served(), Role.CONTROLLED, hosts=["2001:db8::2"], seed=2)
    world.connect(one, other)
    world.run(5)
    path = one.agent.selected_path()
    assert path is not None and path.local.address.family == 6
    assert other.state is AgentState.COMPLETED


def test_a_peer_that_only_its_own_check_shows_is_permitted_too() -> None:
    """A peer-reflexive remote candidate gets a permission of its own on every relay that fits."""
    world = World()
    world.server()
    client = world.client(served(turn(f"turn:{HOST}?transport=udp"), address_families=["ipv4"]))
    client.gather()
    world.run(0.2)
    peer = Peer(client)
    peer.introduce()
    peer.asks(peer.udp_path(host="198.51.100.9"))
    world.run(0.1)
    assert permissions(client) == [["198.51.100.9"]]


def test_the_policy_may_forbid_fragments_and_set_a_lifetime() -> None:
    _, _, client = relay_only(relay={"dont_fragment": True, "lifetime": 1200})
    allocate = client.asked(stun.Method.ALLOCATE)[-1].message
    assert AttributeType.DONT_FRAGMENT in allocate.attributes
    assert allocate.lifetime == 1200


def test_a_403_for_one_peer_does_not_hurt_the_others() -> None:
    world = World()
    world.server(peers=PeerPolicy())
    client = world.client(served(turn(f"turn:{HOST}?transport=udp"), **RELAY_ONLY))
    client.gather()
    world.run(0.2)
    client.agent.add_remote_candidate(udp_candidate(host="10.0.0.1"), world.now)
    client.agent.add_remote_candidate(udp_candidate(host="1.2.3.4"), world.now)
    client.drain()
    world.run(0.2)
    assert sorted(map(len, permissions(client))) == [1, 1, 2]
