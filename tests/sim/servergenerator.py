"""Draws scenarios with servers from seeds of their own."""

from __future__ import annotations

from dataclasses import replace

from candidates.candidate import Transport
from candidates.policy.servers import Scheme
from tests.sim import nat
from tests.sim.generator import Generator
from tests.sim.nat import NatKind
from tests.sim.network import Link
from tests.sim.scenario import Fault, Scenario, Side
from tests.sim.serverkinds import Ask, Condition, ServerKind

NAT_KINDS: tuple[NatKind, ...] = (
    nat.FULL_CONE,
    nat.ADDRESS_RESTRICTED,
    nat.PORT_RESTRICTED,
    nat.NOT_PRESERVING,
    nat.SYMMETRIC,
    nat.SYMMETRIC,
    nat.SYMMETRIC_BY_ADDRESS,
    nat.SYMMETRIC_SEQUENTIAL,
)
ONLY_HTTPS = 443


class ServerGenerator(Generator):
    """Worlds in which servers tell what the NATs do, and relay."""

    nat_kinds = NAT_KINDS

    def draw(self) -> Scenario:
        scenario = super().draw()
        rng = self._rng
        servers = {f"s{number}": self._server(scenario.sides) for number in range(1, rng.randint(1, 3) + 1)}
        asked = dict(servers)
        if len(servers) > 1 and rng.random() < 0.1:
            servers["s1"] = replace(servers["s1"], redirects_to="s2")
            asked = {"s1": servers["s1"]}
        return replace(
            scenario,
            sides=(self._asking(scenario.sides[0], asked), self._asking(scenario.sides[1], asked)),
            servers=servers,
            crowd=1,
            same_host=False,
        )

    def _server(self, sides: tuple[Side, Side]) -> ServerKind:
        rng = self._rng
        families = (4, 6) if any(place.family == 6 for side in sides for place in side.places) else (4,)
        return ServerKind(
            families=families,
            condition=self._weighted({Condition.RUNNING: 14, Condition.OFF: 1, Condition.STOPPED: 1}),
            twofold=rng.random() < 0.3,
            secure_port=ONLY_HTTPS if rng.random() < 0.6 else 5349,
            udp_relay=rng.random() < 0.95,
            tcp_relay=rng.random() < 0.9,
            quota=self._weighted({64: 12, 1: 1}),
            nonce_lifetime=self._weighted({3600.0: 4, 20.0: 1}),
            forged=rng.random() < 0.04,
            delay=rng.choice((0.002, 0.005, 0.02, 0.05)),
        )

    def _asking(self, side: Side, servers: dict[str, ServerKind]) -> Side:
        rng = self._rng
        if side.lite:
            return side
        asks = [ask for name, kind in servers.items() for ask in self._asks(name, kind)]
        if Transport.UDP not in side.transports:
            asks = [ask for ask in asks if ask.transport is not Transport.UDP]  # the policy refuses it (RFC 6062 s4.1)
        if rng.random() < 0.05:
            asks.append(Ask("s9"))  # a name that nobody knows
        rng.shuffle(asks)
        relay_only = rng.random() < 0.12 and any(ask.scheme.relays for ask in asks)
        taken = side.taken if rng.random() < 0.3 else ()
        manners = side.manners
        if manners.chunking == "bytes":
            manners = replace(manners, read_delay=min(manners.read_delay, 0.002))  # or gathering takes too long
        return replace(side, asks=tuple(asks), relay_only=relay_only, taken=taken, manners=manners)

    def _asks(self, name: str, kind: ServerKind) -> list[Ask]:
        family = self._weighted({None: 5, 4: 2})
        secure = Ask(name, Scheme.TURNS, Transport.TCP, port=kind.secure_port, family=family)
        ask = self._weighted(
            {
                (): 2,
                (Ask(name, Scheme.STUN, family=family),): 3,
                (Ask(name, family=family),): 4,
                (Ask(name, transport=Transport.UDP, family=family),): 2,
                (Ask(name, transport=Transport.TCP, family=family),): 3,
                (secure,): 2,
                (Ask(name, family=family), secure): 4,
                (Ask(name, family=family, wrong_password=True),): 1,
            }
        )
        return list(ask)

    def _nat(self, name: str) -> str:
        super()._nat(name)
        kind = replace(self._nats[name], forgets_on_fin=self._rng.random() < 0.4)
        if self._rng.random() < 0.12:
            kind = replace(kind, udp_blocked=True, only_ports=(ONLY_HTTPS,), filtering=nat.PORT_RESTRICTED.filtering)
        self._nats[name] = kind
        return name

    def _link(self) -> Link:
        """Mostly such that what servers give comes in time."""
        link = super()._link()
        return replace(link, delay=min(link.delay, 0.1))

    def _fault(self) -> Fault:
        return self._weighted(
            {
                Fault.NONE: 7,
                Fault.RESTART: 4,
                Fault.RESTART_BOTH: 1,
                Fault.RESET_TCP: 2,
                Fault.ADDRESS_GONE: 1,
                Fault.NAT_REBOOT: 1,
                Fault.PEER_VANISHES: 1,
                Fault.CLOSE: 1,
                Fault.SERVER_DIES: 3,
                Fault.SERVER_RESTARTS: 3,
            }
        )
