"""The preferences section: how candidates are ranked (RFC 8445 s5.1.2, RFC 6544 s4.2)."""

from __future__ import annotations

from fnmatch import fnmatchcase
from functools import cached_property
from typing import Annotated

from pydantic import Field

from candidates import priority
from candidates.policy.sections import Section
from candidates.policy.values import Glob

TypePreference = Annotated[int, Field(strict=True, ge=0, le=126)]
DirectionPreference = Annotated[int, Field(strict=True, ge=0, le=7)]


class UdpTypePreferences(Section):
    """Type preferences of UDP candidates, 0 to 126, all different (RFC 8445 s5.1.2.1)."""

    host: TypePreference = Field(default=126, description="Host candidates.")
    prflx: TypePreference = Field(default=110, description="Peer-reflexive candidates; higher than `srflx`.")
    srflx: TypePreference = Field(default=100, description="Server-reflexive candidates.")
    relay: TypePreference = Field(default=1, description="Relayed candidates.")


class TcpTypePreferences(Section):
    """Type preferences of TCP candidates, 0 to 126, all different; below UDP's (RFC 6544 s4.2)."""

    host: TypePreference = Field(default=90, description="Host candidates.")
    prflx: TypePreference = Field(default=80, description="Peer-reflexive candidates; higher than `srflx`.")
    srflx: TypePreference = Field(default=70, description="Server-reflexive candidates.")
    relay: TypePreference = Field(default=0, description="Relayed candidates.")


class TypePreferences(Section):
    """Type preferences by transport."""

    udp: UdpTypePreferences = Field(default=UdpTypePreferences(), description="Type preferences of UDP candidates.")
    tcp: TcpTypePreferences = Field(default=TcpTypePreferences(), description="Type preferences of TCP candidates.")


class DirectDirections(Section):
    """Direction preferences of the other TCP candidates, 0 to 7, all different (RFC 6544 s4.2)."""

    active: DirectionPreference = Field(default=6, description="Active candidates.")
    passive: DirectionPreference = Field(default=4, description="Passive candidates.")
    so: DirectionPreference = Field(default=2, description="Simultaneous-open candidates.")


class NatDirections(Section):
    """Direction preferences of server-reflexive TCP candidates, 0 to 7, all different (RFC 6544 s4.2)."""

    active: DirectionPreference = Field(default=4, description="Active candidates.")
    passive: DirectionPreference = Field(default=2, description="Passive candidates.")
    so: DirectionPreference = Field(default=6, description="Simultaneous-open candidates.")


class Directions(Section):
    """Direction preferences by how a TCP candidate was obtained."""

    direct: DirectDirections = Field(
        default=DirectDirections(), description="Of host, peer-reflexive and relayed candidates."
    )
    nat: NatDirections = Field(default=NatDirections(), description="Of server-reflexive candidates.")


class Preferences(Section):
    """How candidates are ranked (RFC 8445 s5.1.2.1, RFC 6544 s4.2)."""

    types: TypePreferences = Field(default=TypePreferences(), description="Type preferences by transport.")
    directions: Directions = Field(default=Directions(), description="Direction preferences of TCP candidates.")
    interfaces: tuple[Glob, ...] = Field(
        default=(),
        max_length=256,
        description="Interface names, the best first; names that match no pattern come last.",
    )

    @cached_property
    def ranking(self) -> priority.Preferences:
        """What ``candidates.priority`` computes with; the same object each time."""
        return priority.Preferences(
            udp=priority.TypePreferences(**self.types.udp.model_dump()),
            tcp=priority.TypePreferences(**self.types.tcp.model_dump()),
            direct=priority.DirectionPreferences(**self.directions.direct.model_dump()),
            nat=priority.DirectionPreferences(**self.directions.nat.model_dump()),
        )

    def interface_rank(self, name: str) -> int:
        """Position of an interface in ``interfaces``, 0 the best: sort by it before ``priority.rank_addresses``."""
        matches = (index for index, glob in enumerate(self.interfaces) if fnmatchcase(name, glob))
        return next(matches, len(self.interfaces))
