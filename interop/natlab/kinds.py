"""What stands between a host and the internet: the table of NAT kinds, their options, and how both are written.

A *kind* says how a box maps and filters (RFC 4787, RFC 5382), an *option* changes one more thing, and a *site* is a
kind with options: ``port-restricted+rst``, ``full-cone+cgn=symmetric-random``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum, StrEnum
from typing import Final


class LabError(Exception):
    """The lab was asked for something that it cannot do, or is not what it has to be."""


class Dependence(IntEnum):
    """What a mapping or a filter depends on (RFC 4787 s4.1, s5); the more, the stricter."""

    ENDPOINT_INDEPENDENT = 0
    ADDRESS_DEPENDENT = 1
    ADDRESS_AND_PORT_DEPENDENT = 2

    def __str__(self) -> str:
        return self.name.lower().replace("_", "-")


class Ports(StrEnum):
    """Which external port a mapping gets."""

    PRESERVED = "preserved"
    OTHER = "other"
    """A function of the connection: the same again after the NAT forgot it."""
    SEQUENTIAL = "sequential"
    RANDOM = "random"


class Box(Enum):
    """What kind of box it is, if any."""

    NONE = "none"
    NAT = "nat"
    IPV6_FIREWALL = "ipv6-firewall"


@dataclass(frozen=True, slots=True)
class NatKind:
    """One row of the table. Everything it says about mapping and filtering is measured before it is trusted."""

    name: str
    title: str
    mapping: Dependence
    filtering: Dependence
    ports: Ports = Ports.PRESERVED
    box: Box = Box.NAT


_EI = Dependence.ENDPOINT_INDEPENDENT
_AD = Dependence.ADDRESS_DEPENDENT
_APD = Dependence.ADDRESS_AND_PORT_DEPENDENT

KINDS: Final[Mapping[str, NatKind]] = {
    kind.name: kind
    for kind in (
        NatKind("direct", "A public address, nothing in between", _EI, _EI, box=Box.NONE),
        NatKind("full-cone", "Whoever knows the mapping gets in", _EI, _EI),
        NatKind("address-restricted", "Hosts that were sent to get in", _EI, _AD),
        NatKind("port-restricted", "Endpoints that were sent to get in, ports preserved", _EI, _APD),
        NatKind("port-changing", "As port-restricted, with another port outside", _EI, _APD, Ports.OTHER),
        NatKind("address-dependent", "A mapping for each remote host", _AD, _APD, Ports.OTHER),
        NatKind("address-and-port-dependent", "A mapping for each remote endpoint", _APD, _APD, Ports.OTHER),
        NatKind("symmetric-sequential", "A mapping for each connection, counted up", _APD, _APD, Ports.SEQUENTIAL),
        NatKind("symmetric-random", "A mapping for each connection, at random", _APD, _APD, Ports.RANDOM),
        NatKind("ipv6-firewall", "IPv6, stateful firewall, no translation", _EI, _APD, box=Box.IPV6_FIREWALL),
    )
}
"""What a site can be. ``rules.py`` says in nftables what each of them means."""


class Option(StrEnum):
    """What can be different about a box, whatever its kind."""

    RST = "rst"
    OWN_STACK = "own-stack"
    NO_SO = "no-so"
    NO_UDP = "no-udp"
    ONLY_443 = "only-443"
    HAIRPIN = "hairpin"
    SHORT = "short"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS: Final[Mapping[Option, str]] = {
    Option.RST: "Answers an unsolicited SYN with RST",
    Option.OWN_STACK: "Unsolicited packets reach the box's own stack, which answers",
    Option.NO_SO: "Drops every SYN without ACK from outside: no simultaneous open, no accept",
    Option.NO_UDP: "Lets no UDP out",
    Option.ONLY_443: "Lets nothing out but TCP to port 443",
    Option.HAIRPIN: "Hosts inside reach each other by their outer addresses",
    Option.SHORT: "Forgets idle mappings soon: UDP after 3 s, TCP after 4 s",
}

CARRIER: Final = "cgn"
"""Written as an option: the box is at home, behind another one of a carrier (RFC 6598)."""
DEFAULT_CARRIER: Final = "port-changing"


@dataclass(frozen=True, slots=True)
class Site:
    """A host's place in the world: a kind, its options, and perhaps a carrier's box behind the one at home."""

    kind: NatKind
    options: frozenset[Option] = field(default_factory=frozenset)
    carrier: NatKind | None = None

    @classmethod
    def parse(cls, text: str) -> Site:
        """Read ``KIND[+OPTION]...``, where ``cgn`` or ``cgn=KIND`` is the carrier's box. Raises LabError."""
        name, *words = text.split("+")
        options = set()
        carrier = None
        for word in words:
            key, _, value = word.partition("=")
            if key == CARRIER:
                carrier = _kind(value or DEFAULT_CARRIER)
            else:
                options.add(_option(word))
        return cls(_kind(name), frozenset(options), carrier)

    def __post_init__(self) -> None:
        if self.kind.box is Box.NONE and (self.options or self.carrier is not None):
            raise LabError(f"{self.kind.name} has no box, so it takes no options")
        if self.carrier is not None and (self.kind.box is not Box.NAT or self.carrier.box is not Box.NAT):
            raise LabError(f"{CARRIER} wants a NAT at home and a NAT behind it")
        if self.kind.box is Box.IPV6_FIREWALL and Option.HAIRPIN in self.options:
            raise LabError(f"{self.kind.name} translates nothing, so there is nothing to {Option.HAIRPIN}")

    def __str__(self) -> str:
        carrier = [] if self.carrier is None else [f"{CARRIER}={self.carrier.name}"]
        return "+".join([self.kind.name, *sorted(self.options), *carrier])

    @property
    def is_special(self) -> bool:
        """Whether it is more than its kind."""
        return bool(self.options) or self.carrier is not None

    @property
    def boxes(self) -> tuple[NatKind, ...]:
        """From the inside outwards; the options belong to the first."""
        if self.kind.box is Box.NONE:
            return ()
        return (self.kind,) if self.carrier is None else (self.kind, self.carrier)

    @property
    def mapping(self) -> Dependence:
        """Of all boxes together: the most dependent one decides."""
        return max((box.mapping for box in self.boxes), default=self.kind.mapping)

    @property
    def counts(self) -> bool:
        """Whether the ports that connections are mapped to follow from those before."""
        return all(box.mapping is _EI or box.ports is Ports.SEQUENTIAL for box in self.boxes)

    @property
    def filtering(self) -> Dependence:
        """Of all boxes together: the strictest one decides."""
        return max((box.filtering for box in self.boxes), default=self.kind.filtering)

    @property
    def families(self) -> frozenset[int]:
        """The IP versions that reach the internet from here."""
        match self.kind.box:
            case Box.NONE:
                return frozenset({4, 6})
            case Box.NAT:
                return frozenset({4})
            case Box.IPV6_FIREWALL:
                return frozenset({6})


def _kind(name: str) -> NatKind:
    if name not in KINDS:
        raise LabError(f"there is no kind {name!r}; there are {', '.join(KINDS)}")
    return KINDS[name]


def _option(name: str) -> Option:
    try:
        return Option(name)
    except ValueError:
        raise LabError(f"there is no option {name!r}; there are {', '.join([*Option, CARRIER])}") from None
