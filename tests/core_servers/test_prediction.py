"""Ports of NATs that count, told before they are mapped (policy: simultaneous_open.predict_ports)."""

from __future__ import annotations

from random import Random

import pytest

from candidates.candidate import CandidateType, TcpType, Transport, TransportAddress
from ice_tcp.core.commands import ListenerId, SocketId
from ice_tcp.core.context import Flow
from ice_tcp.core.events import PortAllocation, Role
from ice_tcp.core.paths import Base
from ice_tcp.core.servers.prediction import Observation, Prediction, predict
from ice_tcp.core.trace import PortsPredicted
from tests.core.net import HOME, address
from tests.core_servers.world import HOST, OTHER_HOST, OTHER_PORT, PUBLIC, Client, Nat, NatKind, World, served

UDP, TCP = Transport.UDP, Transport.TCP
COUNT = 4


def so_base(port: int = 5000, *, number: int = 1) -> Base:
    base = Base(ListenerId(number), 1, HOME, 0, TCP, TcpType.SO)
    base.address = address(HOME, port)
    return base


def udp_base(port: int = 4000) -> Base:
    base = Base(SocketId(9), 1, HOME, 0, UDP, None)
    base.address = address(HOME, port)
    return base


def seen(base: Base, *ports: int, flows: tuple[int, ...] | None = None) -> list[Observation]:
    """What servers saw of a base, by default on the first flows there were."""
    return [
        Observation(flow, base, address(PUBLIC, port))
        for flow, port in zip(flows or range(len(ports)), ports, strict=True)
    ]


def to_servers(count: int, transport: Transport = TCP) -> list[Flow]:
    return [Flow(HOME, transport, None)] * count


def ports(prediction: Prediction | None, *, controlling: bool = False) -> list[int]:
    assert prediction is not None
    addresses = prediction.addresses(controlling=controlling)
    assert {each.host for each in addresses} <= {PUBLIC}
    return [each.port for each in addresses]


class TestPrediction:
    """What follows from what servers saw."""

    @pytest.mark.parametrize(
        ("observed", "ahead"),
        [
            ((60_000, 60_001), [60_002, 60_003, 60_004, 60_005]),
            ((60_000, 60_002, 60_004), [60_006, 60_008, 60_010, 60_012]),
            ((60_010, 60_009), [60_008, 60_007, 60_006, 60_005]),
            ((65_533, 65_534), [65_535]),
            ((2, 1), []),
        ],
    )
    def test_a_constant_step_goes_on(self, observed: tuple[int, ...], ahead: list[int]) -> None:
        base = so_base()
        prediction = predict(base, seen(base, *observed), to_servers(len(observed)), COUNT)
        assert prediction is not None
        assert prediction.allocation is PortAllocation.SEQUENTIAL
        assert ports(prediction) == ahead

    @pytest.mark.parametrize(
        "observed", [(60_000, 61_000), (60_000, 59_000), (60_000, 60_001, 60_000), (60_000, 60_001, 12_345)]
    )
    def test_without_a_rule_nothing_is_told(self, observed: tuple[int, ...]) -> None:
        base = so_base()
        prediction = predict(base, seen(base, *observed), to_servers(len(observed)), COUNT)
        assert prediction == Prediction(PortAllocation.RANDOM)
        assert not prediction

    @pytest.mark.parametrize("observed", [(), (60_000,), (60_000, 60_000)])
    def test_one_mapping_is_no_rule(self, observed: tuple[int, ...]) -> None:
        base = so_base()
        assert predict(base, seen(base, *observed), to_servers(2), COUNT) is None

    def test_flows_to_other_servers_since_then_are_counted(self) -> None:
        base = so_base()
        assert ports(predict(base, seen(base, 60_000, 60_001), to_servers(5), COUNT)) == [
            60_005,
            60_006,
            60_007,
            60_008,
        ]

    def test_what_the_base_dialled_already_comes_first(self) -> None:
        base = so_base()
        flows = [*to_servers(2), Flow(HOME, TCP, base), *to_servers(1), Flow(HOME, TCP, so_base(number=2))]
        assert ports(predict(base, seen(base, 60_000, 60_001), flows, COUNT)) == [60_002, 60_005, 60_006, 60_007]

    def test_what_it_dialled_between_two_answers_is_known_exactly(self) -> None:
        base = so_base()
        flows = [*to_servers(2), Flow(HOME, TCP, base), *to_servers(2)]
        observed = seen(base, 60_000, 60_004, flows=(0, 4))
        prediction = predict(base, observed, flows, COUNT)
        assert prediction is not None
        assert prediction.passed == (60_002,)
        assert prediction.ahead == (60_005, 60_006, 60_007)

    def test_if_others_took_ports_meanwhile_it_is_guessed(self) -> None:
        """One of two own flows, and eight ports between: probably the second or third."""
        base = so_base()
        flows = [*to_servers(1), Flow(HOME, TCP, base), *to_servers(2)]
        observed = seen(base, 60_000, 60_009, flows=(0, 3))
        prediction = predict(base, [*observed, *seen(base, 60_010, flows=(4,))], [*flows, *to_servers(1)], COUNT)
        assert prediction is not None
        assert set(prediction.passed) == {60_002, 60_003}

    def test_datagrams_count_where_the_nat_counts_them(self) -> None:
        base = so_base()
        flows = [*to_servers(1), *to_servers(2, UDP), *to_servers(1), *to_servers(3, UDP)]
        assert ports(predict(base, seen(base, 60_000, 60_003, flows=(0, 3)), flows, COUNT))[0] == 60_007
        assert ports(predict(base, seen(base, 60_000, 60_001, flows=(0, 3)), flows, COUNT))[0] == 60_002

    def test_what_dials_the_ports_that_the_peer_predicted_comes_first(self) -> None:
        """Though a server was asked, and answered, in the midst of it."""
        base = so_base()
        dials = [Flow(HOME, TCP, base, port) for port in (700, 703, 704, 705, 706)]
        flows = [*to_servers(2), *dials[:3], *to_servers(1), *dials[3:]]
        prediction = predict(base, seen(base, 60_000, 60_001, 60_005, flows=(0, 1, 5)), flows, 6)
        assert prediction is not None
        assert prediction.passed == (60_002,)
        assert prediction.ahead == (60_003, 60_004, 60_006, 60_007, 60_008)
        assert ports(prediction, controlling=True) == [60_003, 60_006, 60_008, 60_002, 60_004, 60_007]

    def test_where_others_took_ports_in_the_midst_of_it_it_is_guessed(self) -> None:
        base = so_base()
        dials = [Flow(HOME, TCP, base, 700 + 2 * number) for number in range(4)]
        flows = [*to_servers(2), *dials, *to_servers(1)]
        prediction = predict(base, seen(base, 60_000, 60_001, 60_010, flows=(0, 1, 6)), flows, 6)
        assert prediction is not None
        assert prediction.passed == ()
        assert prediction.ahead[:4] == (60_002, 60_004, 60_006, 60_008)
        assert prediction.ahead[4:] == (60_011, 60_012)

    @pytest.mark.parametrize(
        "dialled", [(700, 701, 702), (700, 900, 1100, 1300), (700, 700, 700, 700), (700, 702, 703)]
    )
    def test_dials_of_other_ports_are_no_such_row(self, dialled: tuple[int, ...]) -> None:
        base = so_base()
        flows = [*to_servers(1), *(Flow(HOME, TCP, base, port) for port in dialled), *to_servers(1)]
        last = 60_001 + len(dialled)
        prediction = predict(base, seen(base, 60_000, last, flows=(0, len(flows) - 1)), flows, 2 * len(dialled))
        assert prediction is not None
        assert prediction.passed == tuple(range(60_001, last))
        assert prediction.ahead[0] == last + 1

    def test_flows_of_another_address_go_through_another_nat(self) -> None:
        base = so_base()
        flows = [*to_servers(2), Flow("192.0.2.9", TCP, None)]
        assert ports(predict(base, seen(base, 60_000, 60_001), flows, COUNT))[0] == 60_002

    def test_what_servers_saw_of_other_bases_is_no_port_of_ours(self) -> None:
        base, other = so_base(), so_base(5001, number=2)
        observed = [*seen(base, 60_000, 60_002, flows=(0, 2)), *seen(other, 60_001, 60_003, flows=(1, 3))]
        assert ports(predict(base, observed, to_servers(4), COUNT)) == [60_004, 60_005, 60_006, 60_007]

    def test_a_nat_may_count_for_each_port_of_the_host(self) -> None:
        base, other = so_base(), so_base(5001, number=2)
        observed = [*seen(base, 60_000, 60_001, flows=(0, 2)), *seen(other, 20_000, 20_001, flows=(1, 3))]
        prediction = predict(base, observed, to_servers(4), COUNT)
        assert prediction is not None
        assert prediction.allocation is PortAllocation.SEQUENTIAL


class TestPreservation:
    """No server saw the base; the others say what its NAT does."""

    def test_a_kept_port_is_told(self) -> None:
        base, other = so_base(), udp_base()
        prediction = predict(base, seen(other, 4000, 4000), to_servers(2, UDP), COUNT)
        assert prediction is not None
        assert prediction.allocation is PortAllocation.PRESERVED
        assert ports(prediction) == [5000]

    @pytest.mark.parametrize("observed", [(4000,), (4000, 4001), (60_000, 60_000)])
    def test_unless_it_is_seen_once_or_not_kept(self, observed: tuple[int, ...]) -> None:
        assert predict(so_base(), seen(udp_base(), *observed), to_servers(2, UDP), COUNT) is None

    def test_without_a_nat_there_is_nothing_to_tell(self) -> None:
        other = udp_base()
        observed = [Observation(flow, other, address(HOME, 4000)) for flow in range(2)]
        assert predict(so_base(), observed, to_servers(2, UDP), COUNT) is None

    def test_two_outer_addresses_are_no_rule(self) -> None:
        other = udp_base()
        observed = [Observation(flow, other, address(f"198.51.100.{flow}", 4000)) for flow in range(2)]
        assert predict(so_base(), observed, to_servers(2, UDP), COUNT) is None


@pytest.mark.parametrize("offset", range(4))
@pytest.mark.parametrize("other_offset", range(4))
def test_two_nats_that_count_meet_whatever_else_they_mapped(offset: int, other_offset: int) -> None:
    """Each dials what the other told, in that order; they meet where both dial the ports that they were mapped to."""
    count = 24
    controlling = Prediction(PortAllocation.SEQUENTIAL, PUBLIC, tuple(range(100, 100 + count)))
    controlled = Prediction(PortAllocation.SEQUENTIAL, PUBLIC, tuple(range(500, 500 + count)))
    dialled = {
        (100 + offset + n, port) for n, port in enumerate(ports(controlled, controlling=False))
    }  # by the controlling side: the port that it gets, the port that it wants
    wanted = {(port, 500 + other_offset + n) for n, port in enumerate(ports(controlling, controlling=True))}
    assert dialled & wanted


# Agents


class RandomNat(Nat):
    """Its ports follow no rule."""

    def maps(self, local: TransportAddress, remote: TransportAddress, transport: Transport) -> TransportAddress:
        self._ports = Random(f"{local} {remote} {transport}").randint(1024, 60_000)
        return super().maps(local, remote, transport)


def gathered(nat: Nat, *, count: int = COUNT, role: Role = Role.CONTROLLED, **sections: object) -> Client:
    """It asked a server that tells of its other address, too."""
    world = World()
    world.server(hosts=[HOST, OTHER_HOST], alternate_port=OTHER_PORT)
    policy = served(
        {"url": f"stun:{HOST}"},
        **{"transports": ["tcp"], "simultaneous_open": {"predict_ports": count}, **sections},
    )
    client = world.client(policy, role, nat=nat)
    client.gather()
    world.run(10)
    return client


def told(client: Client) -> list[int]:
    """The ports of simultaneous-open candidates behind the NAT, in the order of their priorities."""
    reflexive = [each for each in client.told() if each.type is CandidateType.SRFLX and each.tcptype is TcpType.SO]
    return [each.address.port for each in sorted(reflexive, key=lambda each: -each.priority)]


def test_predicted_ports_are_candidates_below_what_servers_saw() -> None:
    nat = Nat(NatKind.PORT_DEPENDENT)
    client = gathered(nat)
    real, *predicted = told(client)
    mapped = [outer.port for transport, outer in nat.locals if transport is Transport.TCP]
    assert real in mapped
    assert predicted == [max(mapped) + 1 + n for n in range(COUNT)]


def test_each_has_a_foundation_of_its_own() -> None:
    """RFC 8445 s6.1.4.2: a pair that hangs would keep the others of its foundation frozen."""
    client = gathered(Nat(NatKind.PORT_DEPENDENT))
    reflexive = [each.foundation for each in client.told() if each.type is CandidateType.SRFLX]
    assert len(reflexive) == len(set(reflexive))


def test_the_controlling_side_tells_every_second_one_first() -> None:
    _, *controlled = told(gathered(Nat(NatKind.PORT_DEPENDENT)))
    _, *controlling = told(gathered(Nat(NatKind.PORT_DEPENDENT), role=Role.CONTROLLING))
    first = controlled[0]
    assert controlled == [first, first + 1, first + 2, first + 3]
    assert controlling == [first, first + 2, first + 1, first + 3]


def test_it_is_off_by_default() -> None:
    client = gathered(Nat(NatKind.PORT_DEPENDENT), count=0)
    assert len(told(client)) == 1
    assert client.traced(PortsPredicted) == []


@pytest.mark.parametrize("nat", [Nat(NatKind.INDEPENDENT), RandomNat(NatKind.PORT_DEPENDENT)])
def test_nothing_is_told_where_nothing_follows(nat: Nat) -> None:
    client = gathered(nat)
    assert len(told(client)) == 1
    assert [record.addresses for record in client.traced(PortsPredicted)] in ([], [()])


def test_a_restart_predicts_from_what_is_known() -> None:
    client = gathered(Nat(NatKind.PORT_DEPENDENT))
    before = told(client)
    client.restart()
    client.net.run(10)
    assert told(client)[-COUNT:] == before[-COUNT:]
