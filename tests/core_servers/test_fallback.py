"""The relay as the last resort: checked early, used at once, nominated late (DESIGN decisions 5, 6 and 9)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from candidates.candidate import Candidate, CandidateType, TransportAddress
from ice_tcp import stun
from ice_tcp.core.commands import Path, RelayPath, UdpPath
from ice_tcp.core.events import AgentState, MappingBehaviour, PairState, PathSelected, Role
from ice_tcp.core.pairs import PairStatistics
from ice_tcp.core.trace import CheckSent, Nominated
from ice_tcp.core.verdicts import Verdict
from tests.core.net import AWAY, DELAY, HOME, Flight, udp_candidate
from tests.core.peer import Peer
from tests.core_servers.world import HOST, OTHER_HOST, Client, Nat, NatKind, Server, World, served, turn

UDP_LEG = turn(f"turn:{HOST}?transport=udp")
IPV4: dict[str, Any] = {"address_families": ["ipv4"]}
SYN_REPEATED = 1.0
"""Seconds after which a lost SYN is sent again."""
RELAY_PEER = "203.0.113.50"


def relay_candidate(port: int = 7000, *, priority: int = 100, foundation: str = "r") -> Candidate:
    return udp_candidate(port, host=RELAY_PEER, priority=priority, foundation=foundation, type_=CandidateType.RELAY)


def with_relay(*, components: int = 1, **sections: Any) -> tuple[World, Client]:
    """A client with a host and a relayed candidate, whose peer is played by the test."""
    world = World()
    world.server()
    client = world.client(served(UDP_LEG, **{**IPV4, **sections}), components=components)
    client.gather()
    world.run(0.2)
    return world, client


def kinds(client: Client, paths: list[Path]) -> list[str]:
    """Of each check: whether it went through our relay, to the peer's relay, or directly."""
    names = []
    for path in paths:
        assert isinstance(path, UdpPath | RelayPath)
        ours, theirs = isinstance(path, RelayPath), path.remote.host == RELAY_PEER
        names.append("both" if ours and theirs else "ours" if ours else "theirs" if theirs else "direct")
    return names


def check_paths(client: Client) -> list[Path]:
    return [record.path for record in client.traced(CheckSent)]


# -- the check list


def test_every_third_check_goes_to_a_relayed_pair() -> None:
    """However many direct pairs there are: no round of them is waited out."""
    world, client = with_relay()
    direct = [udp_candidate(5000 + n, foundation=str(n), priority=2**30 - n) for n in range(10)]
    peer = Peer(client)
    peer.introduce(*direct)
    world.run(0.6)
    order = kinds(client, check_paths(client))
    assert order[:3] == ["direct", "direct", "ours"]
    assert [index for index, kind in enumerate(order) if kind == "ours"][:3] == [2, 5, 8]


def test_between_two_relays_goes_first() -> None:
    """That pair needs nothing of any NAT."""
    world, client = with_relay()
    direct = [udp_candidate(5000 + n, foundation=str(n), priority=2**30 - n) for n in range(6)]
    Peer(client).introduce(*direct, relay_candidate())
    world.run(0.6)
    relayed = [kind for kind in kinds(client, check_paths(client)) if kind != "direct"]
    assert relayed[0] == "both"


def test_once_a_relayed_pair_is_valid_relays_take_no_more_slots() -> None:
    world, client = with_relay(nomination={"grace": 0.01})
    direct = [udp_candidate(5000 + n, foundation=str(n), priority=2**30 - n) for n in range(20)]
    peer = Peer(client)
    peer.introduce(relay_candidate(), *direct, end=False)
    world.run(0.11)
    (sent,) = [record for record in client.traced(CheckSent) if kinds(client, [record.path]) == ["both"]]
    answer(client, peer, sent)
    assert client.used == sent.path
    before = len(check_paths(client))
    world.run(0.5)
    assert len(check_paths(client)) > before + 5
    assert set(kinds(client, check_paths(client)[before:])) == {"direct"}


def answer(client: Client, peer: Peer, sent: CheckSent) -> None:
    """The peer answers a check that went through our relay."""
    assert isinstance(sent.path, RelayPath)
    id_ = sent.transaction_id
    relayed = next(each for each in client.agent.local_candidates if each.type is CandidateType.RELAY).address
    attributes = [stun.xor_mapped_address(relayed.host, relayed.port, id_)]
    data = stun.encode(stun.MessageClass.SUCCESS, stun.Method.BINDING, id_, attributes, key=peer.key)
    client.receive(sent.path, data)


def test_each_component_gets_its_relayed_pair_checked() -> None:
    world, client = with_relay(components=2)
    direct = [
        udp_candidate(5000 + 100 * n + component, foundation=str(n), priority=2**30 - n, component=component)
        for n in range(10)
        for component in (1, 2)
    ]
    Peer(client).introduce(*direct)
    world.run(1)
    through = {
        pair.component
        for pair in client.agent.pair_statistics()
        if pair.requests_sent and isinstance(pair.path, RelayPath)
    }
    assert through == {1, 2}


# -- use and nomination


def filtered(flight: Flight) -> bool:
    """Between the two hosts nothing passes."""
    return isinstance(flight.path, UdpPath) and flight.path.remote.host in (HOME, AWAY)


def behind_filters(
    world: World, *, role: Role = Role.CONTROLLING, kind: NatKind | None = None, **sections: Any
) -> tuple[Client, Client]:
    """Two clients with host and relayed candidates that reach each other through the relay only."""
    world.loses = filtered
    keys = {**IPV4, **sections}
    nats = [Nat(kind, f"198.51.100.{70 + n}") if kind else None for n in range(2)]
    one = world.client(served(UDP_LEG, **keys), role, nat=nats[0])
    theirs = Role.CONTROLLED if role is Role.CONTROLLING else Role.CONTROLLING
    other = world.client(served(UDP_LEG, **keys), theirs, hosts=[AWAY], seed=2, nat=nats[1])
    world.connect(one, other)
    return one, other


def first_used_at(client: Client) -> float:
    return next(at for at, event in client.events if isinstance(event, PathSelected)) - 1000


def test_the_relay_carries_data_long_before_direct_checks_have_failed() -> None:
    """The time to data is a number of round trips: Allocate twice, permission, check."""
    world = World()
    world.server()
    one, other = behind_filters(world)
    world.run(1)
    assert one.state is other.state is AgentState.CONNECTED
    assert max(first_used_at(one), first_used_at(other)) < 0.3
    assert first_used_at(one) < 20 * DELAY


@pytest.mark.parametrize("rtt", [0.1, 0.4])
def test_on_a_long_way_too(rtt: float) -> None:
    world = World(delay=rtt / 2)
    world.server()
    one, other = behind_filters(world)
    world.run(20)
    assert first_used_at(one) < 5.5 * rtt + 0.2
    assert first_used_at(other) < 5.5 * rtt + 0.2


def test_the_relay_is_nominated_only_after_its_grace() -> None:
    world = World()
    world.server()
    one, _ = behind_filters(world)
    grace = one.policy.nomination.relay_grace
    world.run(grace)
    assert one.is_in(AgentState.CONNECTED) and one.traced(Nominated) == []
    world.run(0.5)
    assert one.is_in(AgentState.COMPLETED)
    (nominated,) = one.traced_at(Nominated)
    assert nominated - 1000 - first_used_at(one) == pytest.approx(grace)


def test_a_direct_pair_that_was_begun_late_may_lose_its_first_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    """The relay has the nomination only when that would have been repaired."""
    monkeypatch.setattr(Client, "hear_end", lambda _client: None)  # more candidates may come
    world = World()
    world.server()
    one, other = behind_filters(world)
    grace = one.policy.nomination.relay_grace
    world.run(1.0)
    world.run(first_used_at(one) + grace - 1.3)
    late = replace(other.told()[0], foundation="late", address=TransportAddress(AWAY, 9))
    one.do(lambda now: one.agent.add_remote_candidate(late, now))
    world.run(1.0)
    assert one.is_in(AgentState.CONNECTED) and one.traced(Nominated) == []
    world.run(1.0)
    (nominated,) = one.traced_at(Nominated)
    assert first_used_at(one) + grace < nominated - 1000 < first_used_at(one) + grace + 1.5


def test_a_direct_pair_that_comes_within_the_grace_takes_over_at_once() -> None:
    world = World()
    server = world.server()
    one, other = behind_filters(world)
    world.run(1.0)
    assert one.agent.selected_path() is not None and one.agent.selected_path().is_relayed  # type: ignore[union-attr]
    world.loses = lambda _: False  # the filters open
    world.run(2.0)
    for client in (one, other):
        path = client.agent.selected_path()
        assert path is not None and not path.is_relayed and path.nominated
    world.run(5)
    assert server.relayed == []  # freed after the conclusion


def test_one_nomination_is_enough_for_relay_first_and_direct_later() -> None:
    """RFC 8445 s8.1.1: no renomination."""
    world = World()
    world.server()
    one, _ = behind_filters(world)
    world.run(1.0)
    world.loses = lambda _: False
    world.run(10)
    assert len(one.traced(Nominated)) == 1


def test_the_controlled_side_carries_data_over_its_relay_meanwhile() -> None:
    world = World()
    world.server()
    one, other = behind_filters(world, role=Role.CONTROLLED)
    world.run(1)
    for client in (one, other):
        path = client.agent.selected_path()
        assert path is not None and path.is_relayed and not path.nominated


def test_where_nothing_better_can_come_the_relay_is_nominated_at_once() -> None:
    world = World()
    world.server()
    one = world.client(served(UDP_LEG, candidate_types=["relay"], **IPV4))
    other = world.client(served(), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.connect(one, other)
    world.run(0.5)
    assert one.is_in(AgentState.COMPLETED)


def leaning(kind: NatKind, *, rtt: float = 2 * DELAY) -> tuple[World, Client, Client]:
    """Two clients behind NATs of one kind, with two servers that show it."""
    world = World(delay=rtt / 2)
    world.server()
    world.server(hosts=[OTHER_HOST])
    clients = []
    for n, role in enumerate((Role.CONTROLLING, Role.CONTROLLED)):
        policy = served(UDP_LEG, {"url": f"stun:{OTHER_HOST}"}, **IPV4)
        nat = Nat(kind, f"198.51.100.{70 + n}")
        clients.append(world.client(policy, role, hosts=[HOME if not n else AWAY], seed=n + 1, nat=nat))
    world.connect(*clients)
    return world, clients[0], clients[1]


def test_behind_a_dependent_nat_the_relay_is_leant_on_early() -> None:
    world, one, _ = leaning(NatKind.PORT_DEPENDENT)
    world.run(2)
    assert MappingBehaviour.DEPENDENT in one.agent.mapping_behaviours().values()
    assert one.is_in(AgentState.COMPLETED)
    (nominated,) = one.traced_at(Nominated)
    assert nominated - 1000 - first_used_at(one) == pytest.approx(4 * 4 * DELAY + SYN_REPEATED)


def test_but_not_before_a_direct_path_has_had_its_round_trips() -> None:
    """Four of those through the relay, which are longer than direct ones, and time to repair one loss."""
    world, one, _ = leaning(NatKind.PORT_DEPENDENT, rtt=0.5)
    world.run(15)
    (nominated,) = one.traced_at(Nominated)
    assert nominated - 1000 - first_used_at(one) == pytest.approx(4 * 1.0 + SYN_REPEATED)


def test_behind_an_independent_nat_it_is_not() -> None:
    """Here the direct path is there at once; where it is not, the whole grace is waited."""
    world, one, _ = leaning(NatKind.INDEPENDENT)
    world.run(1)
    path = one.agent.selected_path()
    assert path is not None and not path.is_relayed


def test_what_is_not_known_is_no_reason_to_lean() -> None:
    """One plain server cannot tell."""
    world = World()
    world.server()
    one, _ = behind_filters(world, kind=NatKind.PORT_DEPENDENT)
    world.run(4)
    assert one.agent.mapping_behaviours() == {}
    assert one.is_in(AgentState.CONNECTED)


def test_both_behind_symmetric_nats_the_relay_carries_the_session_and_says_so() -> None:
    """The mission's own case: every direct check fails, and each has its reason."""
    world = World()
    server: Server = world.server()
    clients = []
    for n, role in enumerate((Role.CONTROLLING, Role.CONTROLLED)):
        nat = Nat(NatKind.PORT_DEPENDENT, f"198.51.100.{70 + n}")
        hosts = [HOME if not n else AWAY]
        policy = served(turn(), transports=["udp", "tcp"], nomination={"relay_grace": 39.0}, **IPV4)
        clients.append(world.client(policy, role, hosts=hosts, seed=n + 1, nat=nat))
    world.connect(*clients)
    world.run(0.3)
    assert all(client.state is AgentState.CONNECTED for client in clients)
    world.run(38)
    one = clients[0]
    direct = [each for each in one.agent.pair_statistics() if not is_relayed(each)]
    assert {pair.verdict for pair in direct if pair.state is PairState.FAILED} == {Verdict.TIMED_OUT}
    assert [pair for pair in direct if pair.state is PairState.SUCCEEDED] == []
    world.run(10)
    assert all(client.is_in(AgentState.COMPLETED) for client in clients)
    path = one.agent.selected_path()
    assert path is not None and path.is_relayed
    assert len(server.relayed) == 1


def is_relayed(pair: PairStatistics) -> bool:
    return CandidateType.RELAY in (pair.local.type, pair.remote.type)
