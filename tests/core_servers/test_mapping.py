"""How NATs map our ports, as servers see it (RFC 4787 s4.1, RFC 5780 s4.3), for UDP and for TCP."""

from __future__ import annotations

import pytest

from candidates.candidate import Transport
from ice_tcp import stun
from ice_tcp.core.events import GatheringDone, MappingBehaviour, MappingFound, Purpose
from ice_tcp.core.servers.mapping import mapping_behaviour
from tests.core.net import HOME, address
from tests.core_servers.world import (
    HOST,
    OTHER_HOST,
    OTHER_PORT,
    PORT,
    STUN,
    Client,
    Nat,
    NatKind,
    World,
    served,
)

LOCAL = address(HOME, 5000)
ONE, ONE_PORT, OTHER, OTHER_PORT_TOO = (
    address(host, port) for host in (HOST, OTHER_HOST) for port in (PORT, OTHER_PORT)
)
SEEN, SEEN_DIFFERENTLY, AND_AGAIN = (address("198.51.100.77", port) for port in (60_001, 60_002, 60_003))

Behaviour = MappingBehaviour


@pytest.mark.parametrize(
    ("seen", "behaviour"),
    [
        ({}, Behaviour.UNKNOWN),
        ({ONE: LOCAL}, Behaviour.NONE),
        ({ONE: LOCAL, OTHER: LOCAL}, Behaviour.NONE),
        ({ONE: SEEN}, Behaviour.UNKNOWN),
        ({ONE: SEEN, ONE_PORT: SEEN}, Behaviour.UNKNOWN),
        ({ONE: SEEN, OTHER: SEEN}, Behaviour.ENDPOINT_INDEPENDENT),
        ({ONE: SEEN, OTHER: SEEN_DIFFERENTLY}, Behaviour.DEPENDENT),
        ({ONE: SEEN, ONE_PORT: SEEN_DIFFERENTLY}, Behaviour.ADDRESS_AND_PORT_DEPENDENT),
        ({ONE: SEEN, OTHER: SEEN_DIFFERENTLY, OTHER_PORT_TOO: SEEN_DIFFERENTLY}, Behaviour.ADDRESS_DEPENDENT),
        ({ONE: SEEN, OTHER: SEEN_DIFFERENTLY, OTHER_PORT_TOO: AND_AGAIN}, Behaviour.ADDRESS_AND_PORT_DEPENDENT),
        ({ONE: LOCAL, OTHER: SEEN}, Behaviour.DEPENDENT),
    ],
)
def test_the_table_of_rfc_5780(seen: dict[object, object], behaviour: MappingBehaviour) -> None:
    assert mapping_behaviour(LOCAL, seen) is behaviour  # type: ignore[arg-type]


def gathered(
    *urls: str, kind: NatKind | None, behaviour_server: bool = False, transports: tuple[str, ...] = ("udp", "tcp")
) -> Client:
    world = World()
    world.server(hosts=[HOST, OTHER_HOST], alternate_port=OTHER_PORT if behaviour_server else None)
    client = world.client(
        served(*({"url": url} for url in urls), transports=list(transports)), nat=Nat(kind) if kind else None
    )
    client.gather()
    world.run(10)
    return client


TWO_SERVERS = (f"stun:{HOST}", f"stun:{OTHER_HOST}")


@pytest.mark.parametrize(
    ("kind", "behaviour"),
    [
        (None, Behaviour.NONE),
        (NatKind.INDEPENDENT, Behaviour.ENDPOINT_INDEPENDENT),
        (NatKind.ADDRESS_DEPENDENT, Behaviour.DEPENDENT),
        (NatKind.PORT_DEPENDENT, Behaviour.DEPENDENT),
    ],
)
def test_two_servers_tell_dependent_from_independent(kind: NatKind | None, behaviour: MappingBehaviour) -> None:
    client = gathered(*TWO_SERVERS, kind=kind)
    assert client.agent.mapping_behaviours() == {
        (Transport.UDP, HOME): behaviour,
        (Transport.TCP, HOME): behaviour,
    }
    assert {event.behaviour for event in client.all_events(MappingFound)} == {behaviour}
    assert len(client.all_events(MappingFound)) == 2


def test_one_plain_server_tells_nothing_of_a_nat() -> None:
    client = gathered(f"stun:{HOST}", kind=NatKind.PORT_DEPENDENT)
    assert client.agent.mapping_behaviours() == {}


@pytest.mark.parametrize(
    ("kind", "behaviour"),
    [
        (None, Behaviour.NONE),
        (NatKind.INDEPENDENT, Behaviour.ENDPOINT_INDEPENDENT),
        (NatKind.ADDRESS_DEPENDENT, Behaviour.ADDRESS_DEPENDENT),
        (NatKind.PORT_DEPENDENT, Behaviour.ADDRESS_AND_PORT_DEPENDENT),
    ],
)
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_one_server_of_rfc_5780_tells_all(kind: NatKind | None, behaviour: MappingBehaviour, transport: str) -> None:
    """RFC 5780 s4.3: its other address, then, where that matters, its other port."""
    client = gathered(f"stun:{HOST}", kind=kind, behaviour_server=True, transports=(transport,))
    assert client.agent.mapping_behaviours() == {(Transport(transport), HOME): behaviour}


def test_the_tests_of_rfc_5780_go_to_the_right_addresses() -> None:
    """RFC 5780 s4.3: test II to the other address and the first port, test III to both others."""
    client = gathered(f"stun:{HOST}", kind=NatKind.PORT_DEPENDENT, behaviour_server=True, transports=("udp",))
    asked = [sent.remote for sent in client.sent if sent.message.message_class is stun.MessageClass.REQUEST]
    assert asked == [ONE, OTHER, OTHER_PORT_TOO]


def test_probes_give_no_candidates_of_their_own_and_are_reported_apart() -> None:
    client = gathered(f"stun:{HOST}", kind=NatKind.PORT_DEPENDENT, behaviour_server=True, transports=("udp",))
    assert len(client.told()) == 2
    assert [report.address for report in client.reports(Purpose.REFLEXIVE)] == [ONE]
    assert [report.address for report in client.reports(Purpose.MAPPING)] == [OTHER, OTHER_PORT_TOO]


def test_a_server_that_is_the_other_address_of_one_gives_its_candidate_too() -> None:
    client = gathered(*TWO_SERVERS, kind=NatKind.PORT_DEPENDENT, behaviour_server=True, transports=("udp",))
    assert len(client.told()) == 3
    assert [report.address for report in client.reports(Purpose.REFLEXIVE)] == [ONE, OTHER]


def test_gathering_does_not_wait_for_probes() -> None:
    world = World(delay=0.1)
    world.server(hosts=[HOST, OTHER_HOST], alternate_port=OTHER_PORT)
    client = world.client(served(STUN), nat=Nat(NatKind.PORT_DEPENDENT))
    client.gather()
    world.run(0.21)
    assert client.all_events(GatheringDone) == [GatheringDone(0)]
    assert client.agent.mapping_behaviours() == {}
    world.run(1)
    assert client.agent.mapping_behaviours() == {(Transport.UDP, HOME): Behaviour.ADDRESS_AND_PORT_DEPENDENT}


def test_more_precise_knowledge_is_told_and_less_precise_is_not() -> None:
    """The passive and the so port show the same NAT, one after the other."""
    client = gathered(f"stun:{HOST}", kind=NatKind.ADDRESS_DEPENDENT, behaviour_server=True, transports=("tcp",))
    told = [event.behaviour for event in client.all_events(MappingFound)]
    assert told == [Behaviour.DEPENDENT, Behaviour.ADDRESS_DEPENDENT]


def test_no_candidate_is_withheld() -> None:
    """An address-restricted peer opens its filter only if the symmetric side still tries."""
    client = gathered(*TWO_SERVERS, kind=NatKind.PORT_DEPENDENT, transports=("udp",))
    assert len(client.told()) == 3


def test_an_other_address_that_nobody_could_mean_is_not_asked() -> None:
    world = World()
    server = world.scripted()

    def answer(request: stun.Message) -> bytes:
        id_ = request.transaction_id
        attributes = [stun.xor_mapped_address("198.51.100.77", 60_001, id_), stun.other_address("127.0.0.1", 80)]
        return stun.encode(stun.MessageClass.SUCCESS, stun.Method.BINDING, id_, attributes)

    server.answer = answer
    client = world.client(served(STUN), nat=Nat(NatKind.INDEPENDENT))
    client.gather()
    world.run(10)
    assert {sent.remote.host for sent in client.sent} == {HOST}
