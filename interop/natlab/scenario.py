"""What one cell of the lab is: two sites, the internet between them, what the agents may use, and when they start."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from interop.natlab.kinds import LabError, Site
from interop.natlab.line import Link


class Transports(StrEnum):
    """Whose candidates the agents gather."""

    UDP = "udp"
    TCP = "tcp"
    BOTH = "both"

    @property
    def names(self) -> tuple[str, ...]:
        return ("udp", "tcp") if self is Transports.BOTH else (self.value,)


class ServerKind(StrEnum):
    """Which STUN and TURN server stands in the internet."""

    COTURN = "coturn"
    EMBEDDED = "embedded"
    NONE = "none"

    @property
    def is_there(self) -> bool:
        return self is not ServerKind.NONE


class Leg(StrEnum):
    """A way to the server that the agents are told of."""

    STUN = "stun"
    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How packets fare between the sites. Times in seconds: ``rtt`` is that between any two places of the internet.

    ``jitter`` is added to each way at most, ``loss`` and ``reorder`` are probabilities on the way from one site to
    another, ``bandwidth`` is of each site, in bits a second, 0 for no limit.
    """

    rtt: float = 0.1
    jitter: float = 0.0
    loss: float = 0.0
    reorder: float = 0.0
    bandwidth: float = 0.0

    @property
    def link(self) -> Link:
        """Of each site; a way from site to site passes two."""
        return Link(self.rtt / 4, self.jitter, self.loss, self.reorder, self.bandwidth)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One cell. ``right`` None puts both hosts behind the left site's box.

    ``signaling`` is the seconds that a message between the agents takes. ``skew`` None lets each side start its checks
    as soon as it knows the peer's credentials; a number makes both wait until they know everything, and then the right
    side starts so many seconds after the left. ``legs`` are the ways to the server that the agents are told of.
    ``policy`` is added to what transports and servers make of the agents' policies. With ``streams`` the agents send
    numbers over QUIC, else datagrams. The left side controls unless ``right_controls``. ``timeout`` None lets it take
    for ever.
    """

    left: Site
    right: Site | None
    transports: Transports = Transports.BOTH
    weather: Weather = Weather()
    signaling: float = 0.1
    skew: float | None = None
    servers: ServerKind = ServerKind.COTURN
    legs: tuple[Leg, ...] = tuple(Leg)
    policy: Mapping[str, Any] = field(default_factory=dict)
    streams: bool = False
    right_controls: bool = False
    timeout: float | None = 60.0
    seed: int = 1

    def __post_init__(self) -> None:
        if self.right is None and not self.left.boxes:
            raise LabError(f"{self.left} has no box that both hosts could be behind")

    @property
    def sites(self) -> tuple[Site, Site]:
        return self.left, self.left if self.right is None else self.right

    @property
    def title(self) -> str:
        right = "same box" if self.right is None else str(self.right)
        late = (
            "" if self.skew is None else f", {'right' if self.skew >= 0 else 'left'} {1000 * abs(self.skew):g} ms later"
        )
        predicting = ", predicting ports" if self.predicts else ""
        return f"{self.left} / {right}, {self.transports}{late}{predicting}"

    @property
    def predicts(self) -> bool:
        """Whether the agents predict the ports of NATs that count."""
        return bool(self.policy.get("simultaneous_open", {}).get("predict_ports"))

    @property
    def is_plain(self) -> bool:
        """Whether it is a cell of the matrix of kinds."""
        special = self.skew is not None or self.predicts or any(site.is_special for site in self.sites)
        return self.right is not None and not special

    def as_json(self) -> dict[str, Any]:
        return {
            "left": str(self.left),
            "right": None if self.right is None else str(self.right),
            "transports": self.transports,
            "weather": asdict(self.weather),
            "signaling": self.signaling,
            "skew": self.skew,
            "servers": self.servers,
            "legs": list(self.legs),
            "policy": dict(self.policy),
            "streams": self.streams,
            "right_controls": self.right_controls,
            "seed": self.seed,
        }
