"""How NATs map our ports, from what several servers saw of one port (RFC 5780 s4.3)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from candidates.candidate import Transport, TransportAddress
from ice_tcp.core.context import Context
from ice_tcp.core.events import MappingBehaviour, MappingFound
from ice_tcp.core.paths import Base

__all__ = ["MappingBehaviour", "Mappings"]


class Mappings:
    """What each server saw of each base, and what follows from it."""

    __slots__ = ("_behaviours", "_context", "_seen")

    def __init__(self, context: Context) -> None:
        self._context = context
        self._seen: dict[Base, dict[TransportAddress, TransportAddress]] = {}
        self._behaviours: dict[tuple[Transport, str], MappingBehaviour] = {}

    def clear(self) -> None:
        """A new gathering begins; the network may have changed."""
        self._seen.clear()

    def observe(self, base: Base, server: TransportAddress, mapped: TransportAddress) -> None:
        """``server`` saw messages from ``base`` come from ``mapped``."""
        assert base.address is not None
        seen = self._seen.setdefault(base, {})
        seen[server] = mapped
        behaviour = mapping_behaviour(base.address, seen)
        place = (base.transport, base.host)
        before = self._behaviours.get(place, MappingBehaviour.UNKNOWN)
        if behaviour is MappingBehaviour.DEPENDENT and before.is_dependent:
            return  # which kind of it is known already
        if behaviour is not before and behaviour is not MappingBehaviour.UNKNOWN:
            self._behaviours[place] = behaviour
            self._context.events.append(MappingFound(base.transport, base.host, behaviour))

    def behaviour(self, transport: Transport, host: str) -> MappingBehaviour:
        """That of the NAT before ``host``, as last seen."""
        return self._behaviours.get((transport, host), MappingBehaviour.UNKNOWN)

    def all(self) -> dict[tuple[Transport, str], MappingBehaviour]:
        return dict(self._behaviours)

    def is_dependent(self, base: Base) -> bool:
        """Whether peers will hardly meet what servers told of this base."""
        return self.behaviour(base.transport, base.host).is_dependent


def mapping_behaviour(local: TransportAddress, seen: Mapping[TransportAddress, TransportAddress]) -> MappingBehaviour:
    """What ``seen``, the mapped address by server, says of the NAT before ``local``."""
    if seen and all(mapped == local for mapped in seen.values()):
        return MappingBehaviour.NONE
    pairs = [(one.host == other.host, seen[one] == seen[other]) for one, other in combinations(seen, 2) if one != other]
    other_hosts = [same for same_host, same in pairs if not same_host]
    other_ports = [same for same_host, same in pairs if same_host]
    if not all(other_ports):
        return MappingBehaviour.ADDRESS_AND_PORT_DEPENDENT
    if not other_hosts:
        return MappingBehaviour.UNKNOWN
    if all(other_hosts):
        return MappingBehaviour.ENDPOINT_INDEPENDENT
    return MappingBehaviour.ADDRESS_DEPENDENT if other_ports else MappingBehaviour.DEPENDENT
