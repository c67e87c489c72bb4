"""Draws a scenario from a seed."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import TypeAlias, TypeVar

from candidates.candidate import TcpType, Transport
from ice_tcp.core.events import Role
from tests.sim import nat
from tests.sim.application import Behaviour
from tests.sim.nat import NatKind
from tests.sim.network import Link
from tests.sim.scenario import Fault, Place, Scenario, Side
from tests.sim.shell import Manners
from tests.sim.signaling import Latency
from tests.sim.tcp import EXPONENTIAL_SYN_SCHEDULE, LINEAR_SYN_SCHEDULE

T = TypeVar("T")
Places: TypeAlias = tuple[Place, ...]

ALL_TYPES = (TcpType.ACTIVE, TcpType.PASSIVE, TcpType.SO)

NAT_KINDS: tuple[NatKind, ...] = (
    nat.FULL_CONE,
    nat.ADDRESS_RESTRICTED,
    nat.PORT_RESTRICTED,
    nat.PORT_RESTRICTED,
    nat.NOT_PRESERVING,
    nat.SYMMETRIC,
    nat.SYMMETRIC_BY_ADDRESS,
    nat.SYMMETRIC_SEQUENTIAL,
)


class Generator:
    """Worlds without servers."""

    nat_kinds = NAT_KINDS

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._rng = Random(f"scenario {seed}")
        self._nats: dict[str, NatKind] = {}

    def draw(self) -> Scenario:
        rng = self._rng
        shape = self._weighted({"internet": 20, "lan": 15, "nats": 60, "carrier": 15, "walls": 15})
        places = self._places(shape)
        lite = rng.randrange(2) if shape == "internet" and rng.random() < 0.3 else None
        transports = self._transports()
        sides = [self._side(places[index], transports, lite=index == lite) for index in range(2)]
        return Scenario(
            seed=self._seed,
            sides=self._roles(sides[0], sides[1], lite),
            nats=self._nats,
            link=self._link(),
            components=2 if rng.random() < 0.2 else 1,
            same_host=shape == "lan" and rng.random() < 0.2,
            crowd=2 if rng.random() < 0.1 else 1,
            same_private_addresses=rng.random() < 0.3,
            syn_schedule=rng.choice((LINEAR_SYN_SCHEDULE, EXPONENTIAL_SYN_SCHEDULE)),
            fault=self._fault(),
            fault_side=rng.randrange(2),
            load=self._weighted({3.0: 6, 12.0: 3, 45.0: 2}),
        )

    def _fault(self) -> Fault:
        return self._weighted(
            {
                Fault.NONE: 8,
                Fault.RESTART: 5,
                Fault.RESTART_BOTH: 1,
                Fault.RESET_TCP: 3,
                Fault.ADDRESS_GONE: 1,
                Fault.NAT_REBOOT: 1,
                Fault.PEER_VANISHES: 1,
                Fault.CLOSE: 1,
            }
        )

    def _weighted(self, weights: dict[T, int]) -> T:
        return self._rng.choices(list(weights), list(weights.values()))[0]

    # -- topology ----------------------------------------------------------------------------------------------

    def _places(self, shape: str) -> tuple[Places, Places]:
        match shape:
            case "internet":
                pair: tuple[Places, Places] = ((Place(),), (Place(),))
            case "lan":
                home = (Place((self._nat("home"),)),)
                pair = (home, home)
            case "carrier":
                carrier = self._nat("carrier")
                left = Place((self._nat("home-a"), carrier))
                right = self._rng.choice(
                    (Place((self._nat("home-b"), carrier)), Place((carrier,)), Place((self._nat("nat-b"),)), Place())
                )
                pair = ((left,), (right,))
            case "walls":
                pair = (self._walled("a"), self._walled("b"))
            case _:
                pair = (self._behind("a"), self._behind("b"))
        return self._with_noise(pair[0]), self._with_noise(pair[1])

    def _behind(self, name: str) -> Places:
        return (Place(),) if self._rng.random() < 0.15 else (Place((self._nat(f"nat-{name}"),)),)

    def _walled(self, name: str) -> Places:
        """IPv6 behind a stateful firewall, perhaps IPv4 behind a NAT as well."""
        wall = f"wall-{name}"
        self._nats[wall] = replace(nat.FIREWALL, udp_blocked=self._rng.random() < 0.3)
        places: Places = (Place((wall,), family=6),) if self._rng.random() < 0.85 else (Place(family=6),)
        return (*places, *self._behind(name)) if self._rng.random() < 0.3 else places

    def _with_noise(self, places: Places) -> Places:
        """Perhaps an address of no use, and in a random order."""
        noisy = list(places)
        if self._rng.random() < 0.25:
            noisy.append(Place(family=self._rng.choice((4, 6)), isolated=True))
        self._rng.shuffle(noisy)
        return tuple(noisy)

    def _nat(self, name: str) -> str:
        rng = self._rng
        kind = rng.choice(self.nat_kinds)
        quirk = self._weighted({"none": 6, "rst": 2, "no-so": 1, "no-udp": 2})
        self._nats[name] = replace(
            kind,
            answers_rst=quirk == "rst",
            drops_bare_syn=quirk == "no-so",
            udp_blocked=quirk == "no-udp",
            hairpin=rng.random() < 0.3,
            udp_timeout=rng.choice((30.0, 60.0, 180.0)),
            transitory_timeout=rng.choice((60.0, 120.0, 240.0)),
        )
        return name

    def _link(self) -> Link:
        """Of each host or NAT on the Internet: a quarter of the round trip, and its quality."""
        rng = self._rng
        delay = rng.choice((0.0005, 0.005, 0.0125, 0.025, 0.025, 0.04, 0.1, 0.5))
        quality = self._weighted({"good": 5, "fair": 4, "poor": 1})
        if quality == "good":
            return Link(delay=delay)
        if quality == "fair":
            return Link(delay, jitter=delay * 0.2, loss=0.01, reorder=0.02, duplicate=0.01)
        return Link(delay, jitter=delay * 0.5, loss=0.03, reorder=0.1, duplicate=0.03)

    # -- agents ------------------------------------------------------------------------------------------------

    def _transports(self) -> tuple[Transport, ...]:
        return self._weighted({(Transport.UDP, Transport.TCP): 5, (Transport.TCP,): 5, (Transport.UDP,): 1})

    def _side(self, places: Places, transports: tuple[Transport, ...], *, lite: bool) -> Side:
        rng = self._rng
        types: tuple[TcpType, ...] = ALL_TYPES
        if lite:
            types = (TcpType.PASSIVE,)
        elif rng.random() < 0.2:
            types = tuple(rng.sample(ALL_TYPES, rng.choice((1, 2))))
        taken: tuple[Transport, ...] = ()
        if rng.random() < 0.05:
            taken = (rng.choice(transports),)
        return Side(
            role=Role.CONTROLLED,
            places=places,
            transports=transports,
            tcp_types=types,
            lite=lite,
            proposed_pacing=self._weighted({0.005: 6, 0.02: 2, 0.05: 2}),
            strict_pacing=rng.random() < 0.15,
            taken=taken,
            ghost=rng.random() < 0.05,
            starts_at=rng.random() * self._weighted({0.0: 3, 0.2: 4, 2.0: 2}),
            behaviour=self._behaviour(),
            manners=Manners(
                read_delay=self._weighted({0.0: 4, 0.002: 3, 0.05: 1}),
                timer_lateness=self._weighted({0.0: 6, 0.002: 3, 0.03: 1}),
                chunking=self._weighted({"whole": 3, "random": 4, "bytes": 2}),
            ),
            latency=Latency(
                base=rng.choice((0.01, 0.05, 0.2)),
                jitter=self._weighted({0.01: 2, 0.1: 3, 0.5: 1}),
                parameters=self._weighted({0.0: 3, 0.3: 1, 1.0: 1}),
                restart=self._weighted({0.0: 6, 2.0: 1, 33.0: 1}),
            ),
        )

    def _behaviour(self) -> Behaviour:
        rng = self._rng
        return Behaviour(
            interval=rng.choice((0.05, 0.2, 1.0)),
            size=rng.choice((1, 100, 1200)),
            backlog=self._weighted({0: 6, 100_000: 2, 2_000_000: 1}),
            read_rate=self._weighted({None: 5, 40_000.0: 1, 200_000.0: 1}),
            pause=self._weighted({None: 6, (0.0, 18.0): 1}),
            eager=rng.random() < 0.15,
        )

    def _roles(self, left: Side, right: Side, lite: int | None) -> tuple[Side, Side]:
        """Mostly one of each; both alike is a conflict, which the agents resolve."""
        wanted = self._weighted({"ab": 5, "ba": 5, "both controlling": 2, "both controlled": 2})
        roles = {
            "ab": (Role.CONTROLLING, Role.CONTROLLED),
            "ba": (Role.CONTROLLED, Role.CONTROLLING),
            "both controlling": (Role.CONTROLLING, Role.CONTROLLING),
            "both controlled": (Role.CONTROLLED, Role.CONTROLLED),
        }[wanted]
        if lite is not None:
            roles = (Role.CONTROLLED, Role.CONTROLLING) if lite == 0 else (Role.CONTROLLING, Role.CONTROLLED)
        return replace(left, role=roles[0]), replace(right, role=roles[1])
