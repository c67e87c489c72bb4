"""Relayed candidates: how allocations are raced, redirected, refused and told (RFC 8656 s7, RFC 6062 s4.1)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Final

import pytest

from candidates.candidate import Candidate, CandidateType, TcpType, Transport
from ice_tcp import stun
from ice_tcp.core.commands import Close, Failure, LegTransport, Listen, OpenLeg, OpenUdp
from ice_tcp.core.events import AgentState, GatheringDone, Purpose, Role
from ice_tcp.core.outcomes import ServerVerdict
from ice_tcp.core.verdicts import Verdict
from ice_tcp.server.options import Limits
from tests.core.net import HOME, address
from tests.core_servers.world import (
    HOST,
    HOST6,
    OTHER_HOST,
    PORT,
    PUBLIC,
    SECRET,
    WALL,
    Client,
    Nat,
    NatKind,
    Server,
    World,
    served,
    turn,
)

HOME2 = "192.0.2.2"
HOME6 = "2001:db8::1"
RELAY_ONLY: dict[str, Any] = {"candidate_types": ["relay"]}
IPV4: dict[str, Any] = {"address_families": ["ipv4"]}


def relays(client: Client) -> list[Candidate]:
    return [each for each in client.told() if each.type is CandidateType.RELAY]


def gathers(client: Client, seconds: float = 1.0) -> list[Candidate]:
    """Its relayed candidates after some time."""
    client.gather()
    client.net.run(seconds)
    return relays(client)


def one_server(*entries: dict[str, object], **sections: Any) -> tuple[World, Server, Client]:
    world = World()
    server = world.server()
    policy = served(*(entries or (turn(),)), **{**RELAY_ONLY, **IPV4, **sections})
    return world, server, world.client(policy, nat=Nat(NatKind.INDEPENDENT))


def test_a_relayed_candidate_is_an_address_of_the_server() -> None:
    """RFC 8445 s5.1.1.2; its related address is how the server sees us (RFC 8839 s5.1)."""
    _, server, client = one_server(candidate_types=["srflx", "relay"])
    (found,) = gathers(client)
    assert [found.address] == server.relayed
    (leg,) = client.legs
    assert client.nat is not None
    assert found.related_address is not None
    assert client.nat.locals[Transport.UDP, found.related_address][0] == client.leg_locals[leg]
    (report,) = client.reports(Purpose.RELAY)
    assert report.found == (found.address,) and report.failure is None


def test_an_allocation_has_a_socket_of_its_own() -> None:
    _, _, client = one_server(candidate_types=["host", "srflx", "relay"])
    gathers(client)
    assert {client.leg_locals[leg] for leg in client.legs}.isdisjoint(client.sockets.values())


def test_tcp_relays_give_passive_and_active_candidates() -> None:
    """RFC 6544 s5.1, s5.2."""
    _, server, client = one_server(transports=["tcp"])
    found = {each.tcptype: each.address for each in gathers(client)}
    (relayed,) = server.relayed
    assert found == {TcpType.PASSIVE: relayed, TcpType.ACTIVE: address(relayed.host, 9)}


@pytest.mark.parametrize("tcptype", ["active", "passive"])
def test_the_policy_decides_the_tcp_types(tcptype: str) -> None:
    _, _, client = one_server(transports=["tcp"], tcp_types=[tcptype])
    assert [each.tcptype for each in gathers(client)] == [TcpType(tcptype)]


def test_udp_and_tcp_relays_are_allocations_of_their_own() -> None:
    _, server, client = one_server(transports=["udp", "tcp"])
    assert len(gathers(client)) == 3
    assert len(server.relayed) == 2
    assert len(client.legs) == 2


def test_without_relayed_candidates_in_the_policy_nothing_is_allocated() -> None:
    _, _, client = one_server(candidate_types=["host", "srflx"])
    assert gathers(client) == []
    assert client.asked(stun.Method.ALLOCATE) == []


def test_a_stun_server_is_not_asked_to_relay() -> None:
    _, _, client = one_server({"url": f"stun:{HOST}"}, candidate_types=["host", "relay"])
    assert gathers(client) == []
    assert client.opened_legs() == []


def test_short_lived_credentials_are_made_from_the_secret() -> None:
    """draft-uberti-behave-turn-rest-00 s2.2."""
    world = World()
    world.server(users={}, shared_secret=SECRET)
    entry = {"url": f"turn:{HOST}", "username": "bob", "secret": SECRET, "credential_lifetime": 600.0}
    client = world.client(served(entry, **RELAY_ONLY, **IPV4))
    assert len(gathers(client)) == 1
    names = {each.message.username for each in client.asked(stun.Method.ALLOCATE)} - {None}
    assert names == {f"{int(WALL + 600)}:bob"}


def test_priorities_are_all_different() -> None:
    """RFC 8445 s5.1.2: each candidate MUST have a unique priority; also between servers and families."""
    world = World()
    world.server(hosts=[HOST, HOST6])
    world.server(hosts=[OTHER_HOST, "2001:db8:203::2"])
    client = world.client(
        served(turn(), turn(f"turn:{OTHER_HOST}"), transports=["udp", "tcp"], **RELAY_ONLY),
        hosts=[HOME, HOME6],
        components=2,
    )
    found = gathers(client)
    assert len(found) == 2 * 2 * 2 * 3
    assert len({each.priority for each in found}) == len(found)


# -- relay only


@pytest.mark.parametrize("transports", [["udp"], ["tcp"], ["udp", "tcp"]])
def test_relay_only_opens_nothing_of_this_host_and_tells_nothing_of_it(transports: list[str]) -> None:
    """No host or reflexive address in candidates or raddr (RFC 8839 s5.1), no socket that a peer could reach."""
    _, _, client = one_server(transports=transports)
    assert gathers(client)
    assert {each.type for each in client.told()} == {CandidateType.RELAY}
    assert {each.related_address for each in client.told()} == {address("0.0.0.0", 9)}  # noqa: S104
    assert client.all_commands(OpenUdp) == [] and client.all_commands(Listen) == []
    assert all(leg.listener is None for leg in client.opened_legs())
    said = repr(client.told())
    assert HOME not in said and PUBLIC not in said
    assert client.sent == []


def test_relay_only_hides_ipv6_as_well() -> None:
    world = World()
    world.server(hosts=[HOST6])
    client = world.client(served(turn(f"turn:[{HOST6}]"), **RELAY_ONLY), hosts=[HOME6])
    (found,) = gathers(client)
    assert found.related_address == address("::", 9)


@pytest.mark.parametrize(
    ("sections", "hidden"),
    [
        ({"candidate_types": ["srflx", "relay"]}, False),
        ({"candidate_types": ["host", "relay"]}, True),
        ({"advertise": {"candidate_types": ["host", "relay"]}}, True),
        ({"candidate_types": ["host", "srflx", "relay"], "advertise": {"exclude": [f"{PUBLIC}/32"]}}, True),
    ],
)
def test_the_mapped_address_is_told_where_a_reflexive_candidate_would_be(
    sections: dict[str, Any], hidden: bool
) -> None:
    _, _, client = one_server(**sections)
    (found,) = gathers(client)
    assert found.related_address is not None
    assert (found.related_address.host == PUBLIC) is not hidden


def test_the_mapped_address_of_an_allocation_is_never_a_candidate() -> None:
    """That of a TCP or TLS connection is no UDP one, and that of a UDP leg is its own socket's."""
    _, _, client = one_server(turn(f"turn:{HOST}?transport=tcp"), candidate_types=["srflx", "relay"])
    gathers(client)
    assert {each.type for each in client.told()} == {CandidateType.RELAY}


# -- races


def test_udp_and_tcp_to_a_server_race_and_the_first_wins() -> None:
    _, server, client = one_server()
    gathers(client)
    assert {leg.transport for leg in client.opened_legs()} == {LegTransport.UDP, LegTransport.TCP}
    assert [leg.transport for leg in client.legs.values()] == [LegTransport.UDP]
    assert len(server.relayed) == 1


def test_blocked_udp_costs_no_waiting() -> None:
    world, _, client = one_server()
    world.blocks = lambda leg: leg.transport is LegTransport.UDP
    client.gather()
    world.run(0.1)  # a turn, three ways for the connection, two round trips for Allocate
    assert len(relays(client)) == 1
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    assert [leg.transport for leg in client.legs.values()] == [LegTransport.UDP, LegTransport.TCP]
    world.run(3)  # the loser's Allocate may yet be answered
    assert [leg.transport for leg in client.legs.values()] == [LegTransport.TCP]
    assert not client.agent.closing


def test_every_address_of_this_host_is_tried_until_one_has_won() -> None:
    world = World()
    world.server()
    client = world.client(served(turn(), **RELAY_ONLY, **IPV4), hosts=[HOME, HOME2])
    world.blocks = lambda leg: leg.host == HOME
    assert len(gathers(client, 0.2)) == 1
    world.run(3)
    assert [leg.host for leg in client.legs.values()] == [HOME2]


def test_who_has_not_begun_when_the_race_is_over_never_does() -> None:
    world = World(delay=0.001)
    world.server()
    hosts = [f"192.0.2.{n}" for n in range(1, 20)]
    client = world.client(served(turn(), **RELAY_ONLY, **IPV4), hosts=hosts)
    gathers(client)
    assert len(client.opened_legs()) <= 2


def test_what_a_loser_has_allocated_is_deleted() -> None:
    """RFC 8656 s8: a Refresh with LIFETIME 0."""
    world = World(delay=0.05)
    server = world.server()
    client = world.client(served(turn(), **RELAY_ONLY, **IPV4), hosts=[HOME, HOME2])
    gathers(client)
    assert len(client.opened_legs()) == 4
    assert len(client.legs) == len(server.relayed) == 1
    deletes = [sent for sent in client.asked(stun.Method.REFRESH) if sent.message.lifetime == 0]
    assert len(deletes) > 0
    assert not client.agent.closing


def test_several_turn_servers_are_asked_at_once_and_all_kept() -> None:
    world = World()
    first, second = world.server(), world.server(hosts=[OTHER_HOST])
    client = world.client(served(turn(), turn(f"turn:{OTHER_HOST}"), **RELAY_ONLY, **IPV4))
    assert len(gathers(client)) == 2
    assert len(first.relayed) == len(second.relayed) == 1


def test_a_dead_turn_server_delays_no_other() -> None:
    world = World()
    world.server(hosts=[OTHER_HOST])
    client = world.client(served(turn(), turn(f"turn:{OTHER_HOST}"), **RELAY_ONLY, **IPV4))
    assert len(gathers(client, 0.1)) == 1
    assert client.all_events(GatheringDone) == []
    world.run(5)
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    failed = {report.server for report in client.reports() if report.failure is not None}
    assert failed == {f"turn:{HOST}"}
    assert {failure.cause for failure in client.failures()} == {Verdict.TIMED_OUT}
    world.run(5)
    assert len(client.legs) == 1


SLOW: Final = 1.5
"""Seconds of one way to a server: a relay takes two round trips, so more than ``timeouts.gather``."""


def test_a_first_relay_may_come_after_the_end_of_gathering_for_all_else() -> None:
    world = World(delay=SLOW)
    world.server()
    client = world.client(served(turn(), **IPV4))
    assert gathers(client, client.policy.timeouts.gather + 0.1) == []
    assert client.all_events(GatheringDone) == []
    world.run(SLOW)
    assert len(relays(client)) == 1
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


def test_with_that_one_the_others_are_no_longer_waited_for() -> None:
    world = World(delay=SLOW)
    world.server()
    client = world.client(served(turn(), turn(f"turn:{OTHER_HOST}"), **IPV4))
    assert len(gathers(client, 4 * SLOW + 0.1)) == 1
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    failed = [report for report in client.reports() if report.failure is not None]
    assert {report.server for report in failed} == {f"turn:{OTHER_HOST}"}


def test_each_component_waits_for_its_own() -> None:
    world = World(delay=SLOW)
    world.server()
    client = world.client(served(turn(), **IPV4), components=2)
    assert {each.component for each in gathers(client, 4 * SLOW + 0.1)} == {1, 2}


@pytest.mark.parametrize("relay", [1.0, 5.0])
def test_the_policy_may_grant_no_more_time(relay: float) -> None:
    world = World(delay=SLOW)
    world.server()
    client = world.client(served(turn(), timeouts={"relay": relay}, **IPV4))
    assert gathers(client, 2 * client.policy.timeouts.gather) == []
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    assert {failure.cause for failure in client.failures()} == {Verdict.TIMED_OUT}


def test_a_conclusion_ends_that_wait() -> None:
    world = World(delay=0.01)
    one = world.client(served(turn(), **IPV4), Role.CONTROLLING)
    other = world.client(served(**IPV4), Role.CONTROLLED, hosts=["198.51.100.2"], seed=2)
    world.connect(one, other)
    world.run(one.policy.timeouts.gather)
    assert one.is_in(AgentState.COMPLETED)
    assert one.all_events(GatheringDone) == [GatheringDone(0)]


def test_a_second_address_of_a_turn_server_is_tried_after_rto() -> None:
    world = World()
    world.server(hosts=[OTHER_HOST])
    client = world.client(served(turn("turn:turn.example.org"), **RELAY_ONLY, **IPV4))
    client.gather()
    client.resolves(HOST, OTHER_HOST)
    world.run(client.policy.timeouts.rto - 0.01)
    assert {leg.remote.host for leg in client.opened_legs()} == {HOST}
    world.run(0.1)
    assert len(relays(client)) == 1


def test_a_second_address_of_a_turn_server_is_tried_at_once_when_the_first_refuses() -> None:
    world = World()
    world.server(hosts=[OTHER_HOST])
    world.scripted(address(HOST, PORT)).refuses = True
    client = world.client(served(turn("turn:turn.example.org?transport=tcp"), **RELAY_ONLY, **IPV4))
    client.gather()
    client.resolves(HOST, OTHER_HOST, transports=[LegTransport.TCP])
    world.run(0.2)
    assert len(relays(client)) == 1


def test_both_families_of_a_server_race() -> None:
    """RFC 8421: a broken family must not cost a time-out."""
    world = World()
    world.server(hosts=[HOST, HOST6])
    client = world.client(served(turn("turn:turn.example.org"), **RELAY_ONLY), hosts=[HOME, HOME6])
    world.blocks = lambda leg: leg.remote.host == HOST6
    client.gather()
    client.resolves(HOST6, HOST)
    world.run(0.1)
    assert {each.address.family for each in relays(client)} == {4, 6}


def test_ports_of_the_policy_go_with_the_legs() -> None:
    _, _, client = one_server(ports={"udp": "40000-40100", "tcp": "50000-50100"})
    gathers(client)
    assert {leg.transport: leg.ports for leg in client.opened_legs()} == {
        LegTransport.UDP: (40000, 40100),
        LegTransport.TCP: (50000, 50100),
    }


def test_tls_options_go_with_tls_legs_only() -> None:
    _, _, client = one_server(turn(f"turns:{HOST}", tls={"server_name": "turn.example.org", "verify": False}))
    client.gather()
    client.net.run(0.1)
    (leg,) = client.opened_legs()
    assert leg.transport is LegTransport.TLS and leg.tls is not None
    assert (leg.tls.server_name, leg.tls.verify) == ("turn.example.org", False)
    _, _, plain = one_server()
    gathers(plain)
    assert {leg.tls for leg in plain.opened_legs()} == {None}


# -- families


def test_one_allocation_has_both_families() -> None:
    """RFC 8656 s7.1, ADDITIONAL-ADDRESS-FAMILY."""
    world = World()
    server = world.server(hosts=[HOST, HOST6])
    client = world.client(served(turn(), **RELAY_ONLY))
    found = gathers(client)
    assert {each.address.family for each in found} == {4, 6}
    assert len(client.legs) == 1
    assert {each.related_address for each in found} == {address("0.0.0.0", 9), address("::", 9)}  # noqa: S104
    assert set(server.relayed) == {each.address for each in found}


def test_a_family_that_the_server_does_not_relay_is_reported_apart() -> None:
    world = World()
    world.server()
    client = world.client(served(turn(), **RELAY_ONLY))
    (found,) = gathers(client)
    by_family = {report.family: report for report in client.reports(Purpose.RELAY)}
    assert by_family[None].found == (found.address,) and by_family[None].failure is None
    assert by_family[6].failure is not None
    assert by_family[6].failure.cause is ServerVerdict.FAMILY_NOT_SUPPORTED


def test_the_family_of_the_policy_is_asked_for() -> None:
    world = World()
    world.server(hosts=[HOST, HOST6])
    client = world.client(served(turn(f"turn:[{HOST6}]"), address_families=["ipv6"], **RELAY_ONLY), hosts=[HOME6])
    (found,) = gathers(client)
    assert found.address.family == 6


# -- two components


def test_two_components_get_an_even_port_and_the_next() -> None:
    """RFC 8656 s7.2: EVEN-PORT and RESERVATION-TOKEN."""
    world = World()
    server = world.server()
    policy = served(turn(), relay={"even_port": True}, **RELAY_ONLY)
    client = world.client(policy, components=2, hosts=[HOME, HOME2])
    ports = {each.component: each.address.port for each in gathers(client)}
    assert ports[1] % 2 == 0 and ports[2] == ports[1] + 1
    world.run(61)  # what a loser has reserved
    assert len(server.relayed) == 2


def test_without_a_reservation_the_second_component_gets_any_port() -> None:
    _, server, _ = world_with_limit(allocations_per_user=16)
    client = server.world.client(served(turn(), **RELAY_ONLY, **IPV4), components=2)
    assert {each.component for each in gathers(client)} == {1, 2}


def world_with_limit(**limits: int) -> tuple[World, Server, Client]:
    world = World()
    server = world.server(limits=Limits(**limits))
    return world, server, world.client(served(turn(f"turn:{HOST}?transport=tcp"), **RELAY_ONLY, **IPV4))


def test_a_second_component_asks_again_after_a_restart_without_its_first() -> None:
    """The first one's relay lives on, the second one's was lost."""
    world = World()
    server = world.server()
    client = world.client(served(turn(), relay={"even_port": True}, **RELAY_ONLY), components=2)
    second = next(each for each in gathers(client) if each.component == 2)
    leg = next(leg for leg, command in client.legs.items() if command.component == 2)
    client.loses_leg(leg)
    client.restart()
    world.run(1)
    assert {each.component for each in relays(client)} == {1, 2}
    assert second.address not in {each.address for each in relays(client)}
    assert len(server.relayed) >= 2


# -- what servers say


def test_a_wrong_password_is_told_for_each_way() -> None:
    _, _, client = one_server(turn(password="wrong"))
    assert gathers(client) == []
    assert {failure.cause for failure in client.failures()} == {ServerVerdict.UNAUTHENTICATED}
    assert {report.leg for report in client.reports()} == {LegTransport.UDP, LegTransport.TCP}
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    assert client.legs == {}


def test_a_quota_is_told() -> None:
    world, _, client = world_with_limit(allocations_per_user=1)
    world.client(client.policy, hosts=[HOME2], seed=2).gather()
    world.run(1)
    assert gathers(client) == []
    assert [failure.cause for failure in client.failures()] == [ServerVerdict.QUOTA_REACHED]


def test_a_redirection_is_followed() -> None:
    """RFC 8489 s10, RFC 8656 s7.4."""
    world = World()
    world.server(alternate_servers=((OTHER_HOST, PORT),))
    second = world.server(hosts=[OTHER_HOST])
    client = world.client(served(turn(), **RELAY_ONLY, **IPV4))
    (found,) = gathers(client)
    assert found.address in second.relayed
    assert {report.address for report in client.reports()} == {address(OTHER_HOST, PORT)}
    assert {report.server for report in client.reports()} == {f"turn:{HOST}"}


def test_a_redirection_over_tls_is_judged_by_the_domain_that_it_names() -> None:
    """RFC 8489 s10: ALTERNATE-DOMAIN."""
    world = World()
    world.server(tls_port=443, alternate_servers=((OTHER_HOST, 443),), alternate_domain="two.example.org")
    entry = turn(f"turns:{HOST}:443", tls={"server_name": "one.example.org", "ca_file": "/etc/ca.pem"})
    client = world.client(served(entry, **RELAY_ONLY, **IPV4))
    gathers(client)
    names = [leg.tls.server_name for leg in client.opened_legs() if leg.tls]
    assert names == ["one.example.org", "two.example.org"]
    assert {leg.tls.ca_file for leg in client.opened_legs() if leg.tls} == {"/etc/ca.pem"}


def test_servers_that_redirect_in_circles_are_given_up() -> None:
    world = World()
    world.server(alternate_servers=((OTHER_HOST, PORT),))
    world.server(hosts=[OTHER_HOST], alternate_servers=((HOST, PORT),))
    client = world.client(served(turn(), **RELAY_ONLY, **IPV4))
    assert gathers(client) == []
    assert {failure.cause for failure in client.failures()} == {ServerVerdict.REDIRECT_LOOP}
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


def test_a_redirection_waits_for_its_turn() -> None:
    """RFC 8445 s14.2: it makes a NAT binding as the first one did."""
    world = World()
    world.server(alternate_servers=((OTHER_HOST, PORT),))
    world.server(hosts=[OTHER_HOST])
    client = world.client(served(turn(), **RELAY_ONLY, **IPV4), hosts=[HOME, HOME2])
    gathers(client)
    opened = sorted(at for at, command in client.commands if isinstance(command, OpenLeg))
    assert len(opened) > 4
    assert min(later - earlier for earlier, later in pairwise(opened)) > 0.0049


def scripted_allocation(world: World, *codes: int) -> Client:
    """A server that refuses with these codes, one after the other, then allocates."""
    server, left = world.scripted(), list(codes)

    def answer(request: stun.Message) -> bytes:
        id_ = request.transaction_id
        if request.method == stun.Method.ALLOCATE and left:
            return stun.encode(stun.MessageClass.ERROR, request.method, id_, [stun.error_code(left.pop(0))])
        attributes = [stun.xor_relayed_address("198.51.100.9", 50_000, id_), stun.lifetime(600)]
        return stun.encode(stun.MessageClass.SUCCESS, request.method, id_, attributes)

    server.answer = answer
    return world.client(served(turn(f"turn:{HOST}?transport=udp"), **RELAY_ONLY, **IPV4))


def test_after_a_437_another_socket_is_tried_three_in_all() -> None:
    """RFC 8656 s7.4."""
    client = scripted_allocation(World(), 437, 437)
    assert len(gathers(client)) == 1
    legs = [leg.leg for leg in client.opened_legs()]
    assert len({client.leg_locals[leg] for leg in legs}) == 3
    assert list(client.legs) == legs[2:]


def test_after_three_of_them_it_is_given_up() -> None:
    client = scripted_allocation(World(), 437, 437, 437)
    assert gathers(client) == []
    assert len(client.opened_legs()) == 3
    assert [failure.cause for failure in client.failures()] == [ServerVerdict.ALLOCATION_MISMATCH]


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        (403, ServerVerdict.FORBIDDEN),
        (441, ServerVerdict.WRONG_CREDENTIALS),
        (442, ServerVerdict.TRANSPORT_NOT_SUPPORTED),
        (486, ServerVerdict.QUOTA_REACHED),
        (500, ServerVerdict.SERVER_ERROR),
        (508, ServerVerdict.INSUFFICIENT_CAPACITY),
    ],
)
def test_errors_are_told_as_they_are(code: int, cause: ServerVerdict) -> None:
    client = scripted_allocation(World(), *[code] * 9)
    gathers(client, 60)
    (failure,) = client.failures()
    assert failure.cause is cause and failure.text.startswith(str(code))
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


# -- no TCP relay


@pytest.mark.parametrize("transports", [["tcp"], ["udp", "tcp"]])
def test_a_server_without_tcp_relays_relays_udp_over_the_connection(transports: list[str]) -> None:
    """442 and 'no TCP relay'."""
    world = World()
    server = world.server(tcp_relay=False)
    client = world.client(served(turn(f"turn:{HOST}?transport=tcp"), **RELAY_ONLY, **IPV4, transports=transports))
    (found,) = gathers(client)
    assert (found.transport, found.tcptype) == (Transport.UDP, None)
    assert found.address in server.relayed
    assert [leg.transport for leg in client.legs.values()] == [LegTransport.TCP]
    failures = {report.transport: report.failure for report in client.reports()}
    refused = failures[Transport.TCP]
    assert refused is not None and refused.cause is ServerVerdict.TRANSPORT_NOT_SUPPORTED
    assert failures[Transport.UDP] is None


def test_the_fallback_lives_through_a_restart() -> None:
    world = World()
    server = world.server(tcp_relay=False)
    client = world.client(served(turn(f"turn:{HOST}?transport=tcp"), **RELAY_ONLY, **IPV4, transports=["tcp"]))
    (before,) = gathers(client)
    client.restart()
    world.run(1)
    (after,) = relays(client)
    assert after.address == before.address
    assert len(server.relayed) == 1


def test_the_fallback_goes_where_the_server_answered() -> None:
    """Not to its other address, which is dead."""
    world = World()
    world.server(tcp_relay=False)
    world.scripted(address(OTHER_HOST, PORT)).refuses = True
    client = world.client(served(turn("turn:turn.example.org?transport=tcp"), **RELAY_ONLY, **IPV4, transports=["tcp"]))
    client.gather()
    client.resolves(HOST, OTHER_HOST, transports=[LegTransport.TCP])
    world.run(2)
    assert len(relays(client)) == 1


# -- restart


def test_a_restart_uses_living_allocations_again() -> None:
    _, server, client = one_server(transports=["udp", "tcp"], candidate_types=["srflx", "relay"])
    before = gathers(client)
    client.restart()
    client.net.run(1)
    after = relays(client)
    assert {(each.address, each.related_address) for each in after} == {
        (each.address, each.related_address) for each in before
    }
    assert len(server.relayed) == 2
    assert len(client.reports(Purpose.RELAY)) == 2


@pytest.mark.parametrize("after", [0.0, 0.012, 0.022, 0.04])
def test_a_restart_in_the_middle_of_a_race_begins_it_again(after: float) -> None:
    world, server, client = one_server()
    client.gather()
    world.run(after)
    client.restart()
    world.run(5)
    assert len(relays(client)) == 1
    assert client.all_events(GatheringDone)[-1] == GatheringDone(1)
    assert len(server.relayed) == 1
    assert len(client.legs) == 1


def test_an_answer_to_a_dismissed_race_is_nothing_but_deleted() -> None:
    world, server, client = one_server(turn(f"turn:{HOST}?transport=udp"))
    client.gather()
    world.run(0.031)  # the authenticated Allocate is on its way
    client.close()
    assert client.agent.closing
    world.run(1)
    assert server.relayed == [] and client.legs == {}
    assert not client.agent.closing and client.agent.next_timer() is None


# -- the shell's part


def test_a_leg_that_cannot_be_opened_is_told_with_its_reason() -> None:
    _, _, client = one_server(turn(f"turns:{HOST}"))
    client.gather()
    client.net.run(0.001)
    (leg,) = client.legs
    client.loses_leg(leg, Failure.TLS_CERTIFICATE, "self-signed")
    (failure,) = client.failures()
    assert (failure.cause, failure.text) == (Verdict.TLS_CERTIFICATE, "self-signed")
    assert client.all_events(GatheringDone) == [GatheringDone(0)]


def test_lost_legs_are_not_closed_again() -> None:
    _, _, client = one_server(turn(f"turn:{HOST}?transport=tcp"))
    gathers(client)
    (leg,) = client.legs
    client.loses_leg(leg)
    client.close()
    assert leg not in {command.handle for command in client.all_commands(Close)}
