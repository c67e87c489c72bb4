"""How relays end: concluded, closed, lost; and what the session makes of it (RFC 6544 s11.2, RFC 8656 s8)."""

from __future__ import annotations

from typing import Any

import pytest

from candidates.candidate import CandidateType, TcpType
from candidates.parameters import IceParameters
from ice_tcp import stun
from ice_tcp.core.commands import Failure, LegTransport, RelayPath, UdpPath, Use
from ice_tcp.core.events import AgentState, GatheringDone, PathSelected, RelayLost, Restarted, Role, StateChanged
from ice_tcp.core.outcomes import Advice, ServerVerdict
from ice_tcp.core.verdicts import Verdict
from tests.core.net import AWAY, HOME, udp_candidate
from tests.core.peer import Peer
from tests.core_servers.world import HOST, OTHER_HOST, Client, Server, World, served, turn

UDP_LEG, TCP_LEG = (turn(f"turn:{HOST}?transport={transport}") for transport in ("udp", "tcp"))
IPV4: dict[str, Any] = {"address_families": ["ipv4"]}
RELAY_ONLY: dict[str, Any] = {"candidate_types": ["relay"], **IPV4}


def met(
    *entries: dict[str, object],
    trickles: bool = True,
    seconds: float = 5.0,
    options: dict[str, Any] | None = None,
    **sections: Any,
) -> tuple[World, Server, Client, Client]:
    """A relay-only client and a direct one have met."""
    world = World()
    server = world.server(**(options or {}))
    one = world.client(served(*(entries or (UDP_LEG,)), **{**RELAY_ONLY, **sections}))
    direct = {"transports": sections.get("transports", ["udp"])}
    other = world.client(served(**direct), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.connect(one, other)
    world.run(seconds)
    if not trickles:
        one.partner = other.partner = None
    return world, server, one, other


def states(client: Client) -> list[tuple[AgentState, Verdict | None]]:
    return [(event.state, event.verdict) for event in client.all_events(StateChanged)]


# -- conclusion


def test_the_conclusion_deletes_the_relays_that_are_not_selected() -> None:
    """RFC 6544 s11.2: TURN allocations not in use SHOULD be freed."""
    world = World()
    server = world.server()
    one = world.client(served(turn(), transports=["udp", "tcp"], **IPV4))
    other = world.client(served(transports=["udp", "tcp"]), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.connect(one, other)
    world.run(2)
    assert len(server.relayed) == 2
    world.run(8)
    assert one.state is AgentState.COMPLETED and not isinstance(one.used, RelayPath)
    assert server.relayed == [] and one.legs == {}
    deletes = [sent.message for sent in one.asked(stun.Method.REFRESH)]
    assert [message.lifetime for message in deletes] == [0, 0]
    assert not one.agent.closing


def test_the_selected_relay_is_kept_and_only_for_its_peer() -> None:
    world, server, one, other = met(UDP_LEG, turn(f"turn:{OTHER_HOST}?transport=udp"))
    one.hear_of()
    world.run(5)
    assert len(server.relayed) == 1
    assert isinstance(one.used, RelayPath)
    assert list(one.legs) == [one.used.leg]
    world.run(600)
    assert one.state is other.state is AgentState.COMPLETED


def test_permissions_of_the_others_run_out_after_the_conclusion() -> None:
    world = World()
    world.server()
    one = world.client(served(UDP_LEG, **RELAY_ONLY))
    other = world.client(served(), Role.CONTROLLED, hosts=[AWAY], seed=2)
    one.gather()
    other.gather()
    world.run(0.2)
    one.learn(other)
    other.learn(one)
    one.start()
    other.start()
    world.run(0.1)
    one.restart()  # a candidate more for the next generation, at another host
    other.restart()
    one.know(other.agent.local_parameters)
    one.hear_of(*other.told(), udp_candidate(host="198.51.100.99"))
    one.hear_end()
    other.learn(one)
    world.run(500)
    hosts = [
        {host for host, _ in sent.message.xor_addresses(stun.AttributeType.XOR_PEER_ADDRESS)}
        for sent in one.asked(stun.Method.CREATE_PERMISSION)
    ]
    assert {"198.51.100.99"} <= set().union(*hosts[:3])
    assert hosts[-1] == {AWAY}


def test_a_restart_after_the_conclusion_allocates_again_what_was_deleted() -> None:
    world = World()
    server = world.server()
    one = world.client(served(turn(), **IPV4))
    other = world.client(served(), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.connect(one, other)
    world.run(10)
    assert server.relayed == []
    one.restart()
    world.run(1)
    assert len(server.relayed) == 1
    assert {each.type for each in one.told()} == {CandidateType.HOST, CandidateType.RELAY}


# -- close


@pytest.mark.parametrize("entry", [UDP_LEG, TCP_LEG])
def test_closing_deletes_allocations(entry: dict[str, object]) -> None:
    world, server, one, _ = met(entry)
    one.close()
    assert one.state is AgentState.CLOSED
    assert one.agent.closing
    last = one.asked(stun.Method.REFRESH)[-1].message
    assert last.lifetime == 0
    world.run(0.05)
    assert not one.agent.closing
    assert server.relayed == [] and one.legs == {}
    assert one.agent.next_timer() is None


def test_closing_waits_two_seconds_for_the_answer() -> None:
    world, server, one, _ = met()
    server.silent = True
    one.close()
    world.run(1.99)
    assert one.agent.closing and len(one.legs) == 1
    world.run(0.02)
    assert not one.agent.closing and one.legs == {}
    assert one.agent.next_timer() is None


def test_closing_while_a_loser_is_being_deleted_ends_too() -> None:
    """The race was lost, its deletion is under way, and its answer never comes."""
    world = World()
    server = world.server()
    one = world.client(served(turn(), **RELAY_ONLY))
    one.gather()
    world.run(0.04)
    assert len(one.told()) == 1
    server.silent = True
    one.close()
    assert one.agent.closing
    world.run(2.1)
    assert not one.agent.closing and one.legs == {}
    assert one.agent.next_timer() is None


def test_a_leg_that_breaks_while_closing_ends_it() -> None:
    _, server, one, _ = met(TCP_LEG)
    server.silent = True
    one.close()
    (leg,) = one.legs
    one.loses_leg(leg)
    assert not one.agent.closing
    assert one.all_events(RelayLost) == []


def test_closing_before_the_leg_is_open_has_nothing_to_wait_for() -> None:
    world = World()
    world.server()
    one = world.client(served(TCP_LEG, **RELAY_ONLY))
    one.gather()
    world.run(0.001)
    assert len(one.legs) == 1
    one.close()
    assert one.legs == {} and not one.agent.closing


def test_nothing_is_said_after_closing() -> None:
    world, _, one, _ = met()
    one.close()
    told = len(one.events)
    (leg,) = one.legs
    one.leg_receives(leg, b"\x40\x00\x00\x04data")
    one.do(lambda now: one.agent.relayed(leg, udp_candidate().address, b"\0" * 20, now))
    world.run(100)
    assert len(one.events) == told


# -- lost


def test_an_allocation_that_is_lost_unused_is_told_and_that_is_all() -> None:
    world = World()
    world.server()
    one = world.client(served(UDP_LEG, **IPV4))
    other = world.client(served(), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.connect(one, other)
    world.run(1)
    (leg,) = one.legs
    one.loses_leg(leg, Failure.REFUSED, "ICMP")
    (lost,) = one.all_events(RelayLost)
    assert lost.server == f"turn:{HOST}?transport=udp"
    assert (lost.failure.cause, lost.failure.text) == (Verdict.REFUSED, "ICMP")
    assert lost.failure.advice is Advice.RECONNECT
    assert one.state is AgentState.COMPLETED
    assert one.all_events(Restarted) == []
    assert {each.type for each in one.agent.local_candidates} == {CandidateType.HOST}
    assert one.failures()[-1] == lost.failure


def test_pairs_of_a_lost_relay_fail_with_that_reason() -> None:
    world = World()
    world.server()
    one = world.client(served(UDP_LEG, **IPV4))
    one.gather()
    world.run(0.2)
    remote = udp_candidate()
    Peer(one).introduce(remote)
    world.run(0.2)
    one.loses_leg(next(iter(one.legs)))
    verdicts = {(each.local.type, each.verdict) for each in one.agent.pair_statistics() if each.verdict is not None}
    assert verdicts == {(CandidateType.RELAY, Verdict.RELAY_LOST)}


@pytest.mark.parametrize("entry", [UDP_LEG, TCP_LEG], ids=["udp", "tcp"])
def test_losing_the_selected_relay_restarts_with_a_new_allocation(entry: dict[str, object]) -> None:
    """RFC 6544 s11.2."""
    world, server, one, other = met(entry)
    before = one.told(0)[0].address
    server.restart()
    if entry is UDP_LEG:
        one.loses_leg(next(iter(one.legs)), Failure.REFUSED)
    else:
        world.run(0)
    assert states(one)[-2:] == [(AgentState.DISCONNECTED, Verdict.RELAY_LOST), (AgentState.CHECKING, None)]
    assert one.all_commands(Use)[-1] == Use(1, None)
    assert len(one.all_events(RelayLost)) == len(one.all_events(Restarted)) == 1
    world.run(1)
    assert one.state is AgentState.COMPLETED
    path = one.agent.selected_path()
    assert path is not None and path.generation == 1
    assert path.local.type is CandidateType.RELAY and path.local.address != before
    assert other.state is AgentState.COMPLETED


def test_an_allocation_that_the_server_forgot_is_lost_with_its_refresh() -> None:
    """437 (Allocation Mismatch): a server that restarted."""
    world, server, one, _ = met(options={"default_lifetime": 60.0, "max_lifetime": 60.0})
    server.restart()
    world.run(60)
    lost = one.all_events(RelayLost)[0]
    assert lost.failure.cause is ServerVerdict.ALLOCATION_MISMATCH
    world.run(10)
    assert one.state is AgentState.COMPLETED


def test_losing_the_relay_that_carries_data_before_nomination_restarts_too() -> None:
    world = World()
    world.server()
    one = world.client(served(UDP_LEG, **IPV4))
    other = world.client(served(), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.loses = lambda flight: isinstance(flight.path, UdpPath) and flight.path.remote.host in (HOME, AWAY)
    world.connect(one, other)
    world.run(0.3)
    assert one.state is AgentState.CONNECTED
    assert not one.all_events(PathSelected)[-1].selected.nominated
    one.loses_leg(next(iter(one.legs)))
    assert len(one.all_events(Restarted)) == 1
    world.run(1)
    assert one.state is AgentState.CONNECTED


def test_where_another_pair_is_valid_it_takes_over_without_a_restart() -> None:
    world = World()
    first = world.server()
    world.server(hosts=[OTHER_HOST])
    one = world.client(served(UDP_LEG, turn(f"turn:{OTHER_HOST}?transport=udp"), **RELAY_ONLY))
    other = world.client(served(), Role.CONTROLLED, hosts=[AWAY], seed=2)
    one.gather()
    other.gather()
    world.run(0.2)
    other.learn(one)
    one.know(other.agent.local_parameters)
    one.hear_of(*other.told())  # and no end: so nothing is nominated yet
    one.start()
    other.start()
    world.run(0.3)
    used = one.agent.selected_path()
    assert used is not None and not used.nominated and used.local.address in first.relayed
    one.loses_leg(used.path.leg if isinstance(used.path, RelayPath) else next(iter(one.legs)))
    assert one.all_events(Restarted) == []
    assert one.state is AgentState.CONNECTED
    now_used = one.agent.selected_path()
    assert now_used is not None and now_used.local.address.host == OTHER_HOST


def test_a_policy_with_several_turn_servers_falls_over() -> None:
    world, server, one, _ = met(UDP_LEG, turn(f"turn:{OTHER_HOST}?transport=udp"))
    world.server(hosts=[OTHER_HOST])
    server.silent = True
    server.refuses = True
    one.loses_leg(next(iter(one.legs)))
    world.run(2)
    path = one.agent.selected_path()
    assert path is not None and path.local.address.host == OTHER_HOST
    assert one.state is AgentState.COMPLETED or path.nominated is False


def test_a_peer_that_does_not_answer_the_restart_ends_the_session_after_patience() -> None:
    world, _, one, _ = met(trickles=False)
    one.loses_leg(next(iter(one.legs)))
    patience = one.policy.timeouts.patience
    world.run(patience - 0.1)
    assert one.state is AgentState.CHECKING
    world.run(0.2)
    assert states(one)[-1] == (AgentState.FAILED, Verdict.RELAY_LOST)
    late = IceParameters("late", "p" * 22, ("trickle",))
    one.do(lambda now: one.agent.set_remote_parameters(late, now))
    world.run(60)
    assert states(one)[-1] == (AgentState.FAILED, Verdict.RELAY_LOST)


def test_a_relay_that_is_lost_while_the_restart_is_under_way_begins_no_other() -> None:
    world, _, one, _ = met(trickles=False)
    one.loses_leg(next(iter(one.legs)))
    world.run(0.2)
    one.loses_leg(next(iter(one.legs)))
    assert len(one.all_events(Restarted)) == 1
    assert len(one.all_events(RelayLost)) == 2


def test_the_other_component_goes_on_until_the_restart_is_done() -> None:
    world = World()
    world.server()
    one = world.client(served(UDP_LEG, **RELAY_ONLY), components=2)
    other = world.client(served(), Role.CONTROLLED, hosts=[AWAY], seed=2, components=2)
    world.connect(one, other)
    world.run(5)
    assert one.state is AgentState.COMPLETED
    paths = [one.agent.selected_path(component) for component in (1, 2)]
    assert paths[0] is not None and isinstance(paths[0].path, RelayPath)
    one.partner = other.partner = None
    one.loses_leg(paths[0].path.leg)
    assert one.agent.selected_path(1) is None
    assert one.agent.selected_path(2) == paths[1]
    world.run(25)  # consent on the other one's path is kept, both ways
    assert one.agent.selected_path(2) == paths[1]
    assert other.agent.selected_path(2) is not None
    one.partner, other.partner = other, one
    one.restart()
    world.run(5)
    assert one.state is AgentState.COMPLETED


@pytest.mark.parametrize("what", ["passive", "active"])
def test_a_lost_control_connection_takes_its_peers_along(what: str) -> None:
    """RFC 6062 s4: the data connections end with the allocation."""
    theirs = "active" if what == "passive" else "passive"
    world = World()
    server = world.server()
    keys = {**RELAY_ONLY, "transports": ["tcp"], "tcp_types": [what]}
    one = world.client(served(TCP_LEG, **keys))
    other = world.client(served(transports=["tcp"], tcp_types=[theirs]), Role.CONTROLLED, hosts=[AWAY], seed=2)
    world.connect(one, other)
    world.run(5)
    assert one.state is AgentState.COMPLETED
    path = one.agent.selected_path()
    assert path is not None and path.local.tcptype is TcpType(what)
    server.drops(one, next(iter(one.legs)))
    world.run(3)
    assert len(one.all_events(RelayLost)) == 1
    assert one.state is AgentState.COMPLETED
    again = one.agent.selected_path()
    assert again is not None and again.generation == 1


def test_gathering_that_is_lost_before_anything_began_is_no_reason_to_restart() -> None:
    world = World()
    world.server()
    one = world.client(served(UDP_LEG, **RELAY_ONLY))
    one.gather()
    world.run(0.2)
    one.loses_leg(next(iter(one.legs)))
    assert one.all_events(Restarted) == []
    assert len(one.all_events(RelayLost)) == 1
    assert one.all_events(GatheringDone) == [GatheringDone(0)]


# -- a long life


def test_an_hour_of_refreshes() -> None:
    """Allocation, permissions and channels outlive their lifetimes many times over."""
    world, server, one, other = met()
    relayed = server.relayed
    world.run(3600)
    assert server.relayed == relayed
    assert one.state is other.state is AgentState.COMPLETED
    assert one.all_events(RelayLost) == []
    one.send_data(b"after an hour")
    world.run(1)
    assert isinstance(one.used, RelayPath)
    assert one.legs[one.used.leg].transport is LegTransport.UDP
