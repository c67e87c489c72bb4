"""The simulated world does what was measured of Linux and of NATs (the tables of the design's TCP facts)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from candidates.candidate import Transport
from ice_tcp.core.commands import Failure
from tests.sim.clock import Clock
from tests.sim.host import BindError, Host
from tests.sim.nat import (
    ADDRESS_RESTRICTED,
    FIREWALL,
    FULL_CONE,
    NOT_PRESERVING,
    PORT_RESTRICTED,
    SYMMETRIC,
    SYMMETRIC_BY_ADDRESS,
    SYMMETRIC_SEQUENTIAL,
    NatKind,
)
from tests.sim.network import Link
from tests.sim.packets import Endpoint, Origin
from tests.sim.tcp import EXPONENTIAL_SYN_SCHEDULE, LINEAR_SYN_SCHEDULE, MSS, TcpSocket
from tests.sim.tcpstack import AddressTakenError
from tests.sim.world import World

RTT = 0.1
QUARTER = Link(delay=RTT / 4)  # each end's half of a way


@dataclass
class Peer:
    """A scripted endpoint on one port: listens, connects, and connects again as told."""

    clock: Clock
    host: Host
    local: Endpoint
    redial_after: float | None = None
    up_at: float | None = None
    up_by: str = ""
    socket: TcpSocket | None = None
    failures: list[Failure] = field(default_factory=list)
    received: bytearray = field(default_factory=bytearray)
    ended: bool = False
    read_limit: int = 1 << 20
    remote: Endpoint | None = None

    def listen(self) -> None:
        self.host.tcp.listen(self.local, self._accepted)

    def connect(self, remote: Endpoint) -> None:
        self.remote = remote
        self.socket = self.host.tcp.connect(self.local, remote, self)

    def punch(self, remote: Endpoint) -> None:
        """Connect, unless the listener has accepted the very connection."""
        try:
            self.connect(remote)
        except AddressTakenError:
            assert self.up_by == "accept"

    def _accepted(self, socket: TcpSocket) -> None:
        socket.owner = self
        self.socket = socket
        self._up("accept")

    def _up(self, how: str) -> None:
        if self.up_at is None:
            self.up_at, self.up_by = self.clock.now, how

    def tcp_connected(self) -> None:
        self._up("connect")

    def tcp_readable(self) -> None:
        assert self.socket is not None
        self.received += self.socket.read(self.read_limit)
        self.ended = self.socket.at_end

    def tcp_writable(self) -> None:
        pass

    def tcp_failed(self, failure: Failure) -> None:
        self.failures.append(failure)
        if self.redial_after is not None and self.up_at is None and self.remote is not None:
            self.clock.after(self.redial_after, partial(self.connect, self.remote))


def unread(data: bytes, source: Endpoint, origin: Origin | None) -> None:
    """Nobody looks at this socket."""


def unaccepted(socket: TcpSocket) -> None:
    """Nobody takes this connection."""


def note_source(seen: list[Endpoint], data: bytes, source: Endpoint, origin: Origin | None) -> None:
    seen.append(source)


def note_data(seen: list[bytes], data: bytes, source: Endpoint, origin: Origin | None) -> None:
    seen.append(data)


def peer(world: World, host: Host, address: str, port: int = 5000, *, listening: bool = True,
         redial_after: float | None = None) -> Peer:  # fmt: skip
    made = Peer(world.clock, host, Endpoint(address, port), redial_after)
    if listening:
        made.listen()
    return made


def two_hosts(seed: int = 1, *, listening: bool = True, link: Link = QUARTER) -> tuple[World, Peer, Peer]:
    """Two hosts on the Internet, with a round trip of 100 ms."""
    world = World(seed)
    peers = []
    for name, address in (("a", "203.0.113.1"), ("b", "203.0.113.2")):
        host = world.host(name)
        host.attach(world.internet, address, link)
        peers.append(peer(world, host, address, listening=listening))
    return world, peers[0], peers[1]


def behind(world: World, name: str, kind: NatKind | None, number: int, *, redial_after: float | None = None) -> Peer:
    """A peer on the Internet (``kind`` None) or behind a NAT of its own."""
    host = world.host(name)
    if kind is None:
        address = f"203.0.113.{number}"
        host.attach(world.internet, address, QUARTER)
    else:
        address = f"10.0.{number}.2"
        inner = world.nat(f"nat-{name}", kind, f"203.0.113.{number}", world.internet, QUARTER)
        host.attach(inner, address, Link(delay=1e-4))
    return peer(world, host, address, redial_after=redial_after)


def reflexive(of: Peer) -> Endpoint:
    found = of.host.reflexive(Transport.TCP, of.local)
    assert found is not None
    return found


class TestSockets:
    def test_crossing_syns_both_connect_and_the_listeners_see_nothing(self) -> None:
        world, a, b = two_hosts()
        a.connect(b.local)
        b.connect(a.local)
        world.clock.run(1)
        assert (a.up_by, b.up_by) == ("connect", "connect")
        assert a.host.tcp.crossings + b.host.tcp.crossings == 2

    def test_uncrossed_syns_one_connects_the_other_accepts_and_its_own_connect_finds_the_address_taken(self) -> None:
        world, a, b = two_hosts()
        a.connect(b.local)
        world.clock.run(0.2)
        assert (a.up_by, b.up_by) == ("connect", "accept")
        with pytest.raises(AddressTakenError):
            b.connect(a.local)

    def test_a_half_open_connection_takes_the_address_until_it_is_forgotten(self) -> None:
        world, a, b = two_hosts()
        a.connect(b.local)
        world.clock.run(0.06)
        assert a.socket is not None
        a.socket.abandon()
        a.host.attachments[a.local.host].up = False  # and no RST goes back
        world.clock.run(0.2)
        with pytest.raises(AddressTakenError):
            b.connect(a.local)
        world.clock.run(70)
        b.connect(a.local)
        assert b.up_at is None

    def test_uncrossed_syns_without_listeners_are_refused_on_both_sides(self) -> None:
        world, a, b = two_hosts(listening=False)
        a.connect(b.local)
        world.clock.run(0.2)
        b.connect(a.local)
        world.clock.run(1)
        assert (a.failures, b.failures) == ([Failure.REFUSED], [Failure.REFUSED])

    @pytest.mark.parametrize("established", [False, True])
    def test_a_second_connect_on_the_same_addresses_finds_them_taken(self, established: bool) -> None:
        world, a, b = two_hosts()
        a.connect(b.local)
        world.clock.run(1 if established else 0.01)
        with pytest.raises(AddressTakenError):
            a.connect(b.local)

    def test_addresses_in_time_wait_connect(self) -> None:
        world, a, b = two_hosts()
        a.connect(b.local)
        world.clock.run(0.3)
        for socket in (a.socket, b.socket):
            assert socket is not None
            socket.close()
        world.clock.run(1)
        a.up_at = b.up_at = None
        a.connect(b.local)
        world.clock.run(2)
        assert a.up_at is not None
        assert b.up_by == "accept"

    def test_a_socket_connects_to_itself(self) -> None:
        world, a, _ = two_hosts()
        a.connect(a.local)
        world.clock.run(1)
        assert a.up_by == "connect"
        assert a.socket is not None
        assert a.socket.local == a.socket.remote
        a.socket.write(b"echo")
        world.clock.run(2)
        assert a.received == b"echo"

    def test_closing_a_pending_socket_and_redialling_ruins_the_attempt_behind_a_nat(self) -> None:
        world = World(1)
        a, b = behind(world, "a", PORT_RESTRICTED, 1), behind(world, "b", PORT_RESTRICTED, 2)
        reflexive_a, reflexive_b = reflexive(a), reflexive(b)
        a.connect(reflexive_b)
        world.clock.run(0.01)
        b.connect(reflexive_a)
        world.clock.run(0.075)  # b's SYN is there: a's socket is in SYN-RECEIVED
        assert a.socket is not None
        a.socket.close()
        with pytest.raises(AddressTakenError):
            a.connect(reflexive_b)
        world.clock.run(0.3)
        assert b.up_at is not None
        assert b.ended
        assert a.up_at is None

    @pytest.mark.parametrize("schedule", [LINEAR_SYN_SCHEDULE, EXPONENTIAL_SYN_SCHEDULE])
    def test_syns_are_repeated_on_the_kernels_schedule(self, schedule: tuple[float, ...]) -> None:
        world = World(1, traced=True)
        host = world.host("a", schedule)
        host.attach(world.internet, "203.0.113.1", QUARTER)
        a = peer(world, host, "203.0.113.1")
        a.connect(Endpoint("203.0.113.99", 5000))
        world.clock.run(200)
        sent = [float(line.split()[0]) for line in world.ladder if line.endswith("SYN") and " a " in line]
        assert sent == list(schedule)
        assert a.failures == [Failure.TIMED_OUT]

    def test_ports_all_taken_and_unusable_addresses(self) -> None:
        _, a, _ = two_hosts()
        a.host.taken.update((Transport.UDP, port) for port in (7000, 7001))
        with pytest.raises(BindError) as taken:
            a.host.bind_udp(a.local.host, (7000, 7001), unread)
        assert taken.value.failure is Failure.PORTS_TAKEN
        a.host.lose_address(a.local.host)
        with pytest.raises(BindError) as gone:
            a.host.listen(a.local.host, None, unaccepted)
        assert gone.value.failure is Failure.ADDRESS_UNAVAILABLE


class TestData:
    def test_bytes_arrive_in_order_through_loss(self) -> None:
        world, a, b = two_hosts(link=replace(QUARTER, loss=0.1, jitter=0.02))
        a.connect(b.local)
        world.clock.run(20)
        assert a.socket is not None
        payload = bytes(range(256)) * 120
        assert a.socket.write(payload) == len(payload)
        a.socket.close()
        world.clock.run(80)
        assert bytes(b.received) == payload
        assert b.ended

    def test_a_slow_reader_stops_the_sender(self) -> None:
        world, a, b = two_hosts()
        a.connect(b.local)
        world.clock.run(1)
        assert a.socket is not None
        assert b.socket is not None
        b.read_limit = 0
        written = 0
        for step in range(20):
            written += a.socket.write(bytes(MSS))
            world.clock.run(2 + step)
        assert written < 20 * MSS
        assert a.socket.room == 0
        b.read_limit = 1 << 20
        b.tcp_readable()
        world.clock.run(40)
        assert a.socket.room > 0

    def test_closing_with_unread_bytes_resets(self) -> None:
        world, a, b = two_hosts()
        a.connect(b.local)
        world.clock.run(1)
        assert a.socket is not None
        assert b.socket is not None
        b.read_limit = 0
        a.socket.write(b"never read")
        world.clock.run(2)
        b.socket.close()
        world.clock.run(3)
        assert a.failures == [Failure.RESET]

    def test_datagrams_are_lost_duplicated_and_reordered(self) -> None:
        world, a, b = two_hosts(link=replace(QUARTER, loss=0.05, reorder=0.2, duplicate=0.1))
        got: list[int] = []

        def take(data: bytes, source: Endpoint, origin: Origin | None) -> None:
            got.append(int.from_bytes(data, "big"))

        target = b.host.bind_udp(b.local.host, None, take)
        source = a.host.bind_udp(a.local.host, None, unread)
        for number in range(500):
            a.host.send_udp(source, target, number.to_bytes(2, "big"), 0, "a")
        world.clock.run(1)
        assert len(set(got)) < 500
        assert len(got) > len(set(got))
        assert got != sorted(got)


class TestSimultaneousOpenThroughDroppingNats:
    """Both port-restricted and dropping; round trip 100 ms; one connect a side."""

    @pytest.mark.parametrize("skew", [0.0, 0.1, 0.5, 1.5])
    def test_up_one_round_trip_after_the_late_side(self, skew: float) -> None:
        world = World(1)
        a, b = behind(world, "a", PORT_RESTRICTED, 1), behind(world, "b", PORT_RESTRICTED, 2)
        reflexive_a, reflexive_b = reflexive(a), reflexive(b)
        a.connect(reflexive_b)
        world.clock.run(skew)
        b.connect(reflexive_a)
        world.clock.run(skew + 5)
        assert a.up_at is not None
        assert b.up_at is not None
        assert b.up_at - skew == pytest.approx(RTT, abs=2e-3)
        assert a.up_at == pytest.approx(skew + (1.5 if skew else 1.0) * RTT, abs=4e-3)

    def test_ten_percent_loss_a_link_twenty_of_twenty(self) -> None:
        for seed in range(20):
            world = World(seed)
            peers = []
            for number, name in enumerate("ab", 1):
                inner = world.nat(
                    f"nat-{name}",
                    PORT_RESTRICTED,
                    f"203.0.113.{number}",
                    world.internet,
                    replace(QUARTER, loss=0.1),
                )
                host = world.host(name)
                host.attach(inner, f"10.0.{number}.2", Link(delay=1e-4))
                peers.append(peer(world, host, f"10.0.{number}.2"))
            a, b = peers
            reflexive_a, reflexive_b = reflexive(a), reflexive(b)
            a.connect(reflexive_b)
            b.connect(reflexive_a)
            world.clock.run(30)
            assert a.up_at is not None, seed
            assert b.up_at is not None, seed

    def test_firewalls_without_nat_need_simultaneous_open(self) -> None:
        for both in (False, True):
            world = World(1)
            peers = []
            for number, name in enumerate("ab", 1):
                address = f"2001:db8::{number}"
                inner = world.firewall(f"wall-{name}", FIREWALL, world.internet, QUARTER, [address])
                host = world.host(name)
                host.attach(inner, address, Link(delay=1e-4))
                peers.append(peer(world, host, address))
            a, b = peers
            a.connect(b.local)
            if both:
                b.connect(a.local)
            world.clock.run(5)
            assert (a.up_at is not None) is both

    def test_a_listener_after_a_dead_punch_answers_with_a_new_sequence_number_and_is_not_translated(self) -> None:
        world = World(1)
        a, b = behind(world, "a", PORT_RESTRICTED, 1), behind(world, "b", PORT_RESTRICTED, 2)
        reflexive_a, reflexive_b = reflexive(a), reflexive(b)
        b.connect(reflexive_a)
        world.clock.run(0.01)
        assert b.socket is not None
        b.socket.close()
        world.clock.run(0.2)
        a.connect(reflexive_b)
        world.clock.run(1)
        assert a.up_at is None
        assert world.events["pinned-isn"] > 0

    @pytest.mark.parametrize("blocking", [1, 2])
    def test_nats_that_drop_a_bare_syn_one_works_two_do_not(self, blocking: int) -> None:
        world = World(1)
        deaf = replace(PORT_RESTRICTED, drops_bare_syn=True)
        a = behind(world, "a", deaf, 1)
        b = behind(world, "b", deaf if blocking == 2 else PORT_RESTRICTED, 2)
        reflexive_a, reflexive_b = reflexive(a), reflexive(b)
        a.connect(reflexive_b)
        b.connect(reflexive_a)
        world.clock.run(10)
        assert (a.up_at is not None) is (b.up_at is not None) is (blocking == 1)


class TestNatsThatAnswerRst:
    """Both answer unsolicited SYNs with RST; redial on ECONNREFUSED."""

    KIND = replace(PORT_RESTRICTED, answers_rst=True)

    def attempt(self, seed: int, redial_after: float) -> float | None:
        """Seconds from the late side's start until both are up; None if not within 6 s."""
        world = World(seed)
        a = behind(world, "a", self.KIND, 1, redial_after=redial_after)
        b = behind(world, "b", self.KIND, 2, redial_after=redial_after)
        reflexive_a, reflexive_b = reflexive(a), reflexive(b)
        skew = world.rng.uniform(0.06, 1.0)
        a.connect(reflexive_b)
        world.clock.run(skew)
        b.connect(reflexive_a)
        world.clock.run(skew + 6)
        return None if a.up_at is None or b.up_at is None else max(a.up_at, b.up_at) - skew

    def test_redial_at_once_connects_twelve_of_twelve_within_two_round_trips(self) -> None:
        taken = [self.attempt(seed, 0.0) for seed in range(12)]
        assert all(time is not None and time < 2 * RTT for time in taken)

    def test_equal_fixed_delays_do_worse(self) -> None:
        slow = [self.attempt(seed, 0.2) for seed in range(24)]
        assert any(time is None for time in slow)
        assert any(time is not None for time in slow)

    def test_without_redial_nothing_connects_once_the_skew_exceeds_half_a_round_trip(self) -> None:
        world = World(1)
        a, b = behind(world, "a", self.KIND, 1), behind(world, "b", self.KIND, 2)
        reflexive_a, reflexive_b = reflexive(a), reflexive(b)
        a.connect(reflexive_b)
        world.clock.run(0.15)
        b.connect(reflexive_a)
        world.clock.run(10)
        assert a.up_at is None
        assert a.failures == b.failures == [Failure.REFUSED]


NATS: dict[str, NatKind | None] = {
    "direct": None,
    "full cone": FULL_CONE,
    "addr-restricted": ADDRESS_RESTRICTED,
    "port-restricted": PORT_RESTRICTED,
    "not preserving": NOT_PRESERVING,
    "symmetric": SYMMETRIC,
}
CONNECTS = {
    "full cone": ("yes", "yes", "yes", "yes", "yes", "yes"),
    "addr-restricted": ("yes", "yes", "yes", "yes", "yes", "yes"),
    "port-restricted": ("yes", "yes", "yes", "yes", "yes", "relay"),
    "not preserving": ("yes", "yes", "yes", "yes", "yes", "relay"),
    "symmetric": ("yes", "yes", "yes", "relay", "relay", "relay"),
}
"""Same-port STUN, listener, no prediction; the columns are those of NATS."""


class TestWhichNatsConnect:
    @pytest.mark.parametrize("column", NATS)
    @pytest.mark.parametrize("row", CONNECTS)
    def test_table(self, row: str, column: str) -> None:
        expected = CONNECTS[row][list(NATS).index(column)] == "yes"
        for transport in (Transport.TCP, Transport.UDP):
            assert self.connects(transport, NATS[row], NATS[column]) is expected, transport

    @pytest.mark.parametrize("kind", [SYMMETRIC_BY_ADDRESS, SYMMETRIC_SEQUENTIAL])
    def test_every_symmetric_nat_behaves_alike_without_prediction(self, kind: NatKind) -> None:
        assert self.connects(Transport.TCP, kind, ADDRESS_RESTRICTED)
        assert not self.connects(Transport.TCP, kind, PORT_RESTRICTED)

    @staticmethod
    def connects(transport: Transport, left: NatKind | None, right: NatKind | None) -> bool:
        world = World(1)
        a, b = behind(world, "a", left, 1), behind(world, "b", right, 2)
        if transport is Transport.UDP:
            return _datagrams_pass(world, a, b)
        reflexive_a, reflexive_b = reflexive(a), reflexive(b)
        a.punch(reflexive_b)
        world.clock.run(0.2)
        b.punch(reflexive_a)
        world.clock.run(10)
        return a.up_at is not None and b.up_at is not None


def _datagrams_pass(world: World, a: Peer, b: Peer) -> bool:
    """Each side sends to the other's reflexive address and answers what comes to where it came from."""
    answered: set[str] = set()
    sockets: dict[str, Endpoint] = {}

    def take(me: Peer, data: bytes, source: Endpoint, origin: Origin | None) -> None:
        if data == b"request":
            me.host.send_udp(sockets[me.host.name], source, b"response", 0, me.host.name)
        else:
            answered.add(me.host.name)

    for me in (a, b):
        sockets[me.host.name] = me.host.bind_udp(me.local.host, None, partial(take, me))
    targets = {me.host.name: me.host.reflexive(Transport.UDP, sockets[me.host.name]) for me in (a, b)}
    for _ in range(3):
        for me, other in ((a, b), (b, a)):
            target = targets[other.host.name]
            assert target is not None
            me.host.send_udp(sockets[me.host.name], target, b"request", 0, me.host.name)
        world.clock.run(world.clock.now + 0.5)
    return bool(answered)


class TestNatDetails:
    def test_hairpin(self) -> None:
        for hairpin in (False, True):
            world = World(1)
            inner = world.nat("nat", replace(FULL_CONE, hairpin=hairpin), "203.0.113.1", world.internet, QUARTER)
            peers = []
            for number in (2, 3):
                host = world.host(f"h{number}")
                host.attach(inner, f"10.0.0.{number}", Link(delay=1e-3))
                peers.append(peer(world, host, f"10.0.0.{number}", 5000 + number))
            a, b = peers
            a.connect(reflexive(b))
            world.clock.run(1)
            assert (a.up_at is not None) is hairpin
            assert (b.up_by == "accept") is hairpin

    def test_two_hosts_with_one_port_get_different_outer_ports(self) -> None:
        world = World(1)
        inner = world.nat("nat", PORT_RESTRICTED, "203.0.113.1", world.internet, QUARTER)
        outer = set()
        for number in (2, 3):
            host = world.host(f"h{number}")
            host.attach(inner, f"10.0.0.{number}", Link(delay=1e-3))
            outer.add(reflexive(peer(world, host, f"10.0.0.{number}")))
        assert len(outer) == 2

    def test_a_mapping_dies_of_idleness_and_of_a_reboot(self) -> None:
        world = World(1)
        a, b = behind(world, "a", replace(NOT_PRESERVING, udp_timeout=30.0), 1), behind(world, "b", None, 2)
        seen: list[Endpoint] = []
        target = b.host.bind_udp(b.local.host, None, partial(note_source, seen))
        source = a.host.bind_udp(a.local.host, None, unread)
        for at in (0.0, 20.0, 60.0):
            world.clock.run(at)
            a.host.send_udp(source, target, b"x", 0, "a")
        world.clock.run(61.0)
        world.nats[0].reboot()
        a.host.send_udp(source, target, b"x", 0, "a")
        world.clock.run(62.0)
        assert seen[0] == seen[1]
        assert len(set(seen)) == 3

    def test_udp_blocked(self) -> None:
        world = World(1)
        a, b = behind(world, "a", replace(PORT_RESTRICTED, udp_blocked=True), 1), behind(world, "b", None, 2)
        assert not _blocked_gets_out(world, a, b)
        assert a.host.reflexive(Transport.UDP, Endpoint(a.local.host, 6000)) is None
        a.connect(b.local)
        world.clock.run(2)
        assert a.up_at is not None

    def test_a_carrier_grade_nat_over_a_home_nat(self) -> None:
        world = World(1)
        carrier = world.nat("carrier", NOT_PRESERVING, "203.0.113.1", world.internet, QUARTER)
        home = world.nat("home", PORT_RESTRICTED, "100.64.0.2", carrier, Link(delay=1e-3))
        host = world.host("a")
        host.attach(home, "192.168.1.2", Link(delay=1e-4))
        a, b = peer(world, host, "192.168.1.2"), behind(world, "b", PORT_RESTRICTED, 2)
        reflexive_a, reflexive_b = reflexive(a), reflexive(b)
        assert reflexive_a.host == "203.0.113.1"
        a.connect(reflexive_b)
        b.connect(reflexive_a)
        world.clock.run(2)
        assert a.up_at is not None
        assert b.up_at is not None

    def test_data_of_the_inside_is_picked_up_after_a_reboot(self) -> None:
        world = World(1)
        a, b = behind(world, "a", PORT_RESTRICTED, 1), behind(world, "b", None, 2)
        a.connect(b.local)
        world.clock.run(1)
        world.nats[0].reboot()
        assert a.socket is not None
        a.socket.write(b"still here")
        world.clock.run(2)
        assert b.received == b"still here"


def _blocked_gets_out(world: World, a: Peer, b: Peer) -> bool:
    seen: list[bytes] = []
    target = b.host.bind_udp(b.local.host, None, partial(note_data, seen))
    source = a.host.bind_udp(a.local.host, None, unread)
    a.host.send_udp(source, target, b"x", 0, "a")
    world.clock.run(1)
    return bool(seen)
