"""Which ports a NAT will probably map next, from those that it mapped (policy: ``simultaneous_open.predict_ports``).

A NAT that maps every connection anew shows no server the port that a peer will meet; but some keep the port of the
host, and some count. With two observations or more that is seen, and the ports to come can be told as candidates.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import Final

from candidates.candidate import TransportAddress
from ice_tcp.core.events import PortAllocation
from ice_tcp.core.paths import Base

_LARGEST_GAP: Final = 64
"""Between two observations: other connections may have taken ports meanwhile, but a larger gap is taken for chance."""
_HIGHEST_PORT: Final = 65535
_OBSERVATIONS: Final = 2


@dataclass(frozen=True, slots=True)
class Observation:
    """A server saw ``base`` come from ``mapped``, on the connection of this number, as `Context.connects` counts."""

    ordinal: int
    base: Base
    mapped: TransportAddress


@dataclass(frozen=True, slots=True)
class Prediction:
    """How a NAT chooses ports, and where a base will be seen, if that is no chance.

    Attributes:
        ahead: ports that come after all that servers saw, in the order in which the NAT gives them to the base.
        passed: earlier ones, that it gave while the base dialled already.
    """

    allocation: PortAllocation
    host: str = ""
    ahead: tuple[int, ...] = ()
    passed: tuple[int, ...] = ()

    def addresses(self, *, controlling: bool) -> tuple[TransportAddress, ...]:
        """In the order in which the peer shall try them.

        Where both NATs count, each connection that one side tries moves on what the other side has to try. If one side
        tries the ports in steps of one, and the other in steps of two, they meet, however many others each NAT has
        given meanwhile; the more of these, the later. So the controlling side tells every second one first.
        """
        step = 2 if controlling else 1
        half = (len(self.ahead) + 1) // 2
        first = self.ahead[::step][:half]
        rest = [port for port in self.ahead if port not in first]
        return tuple(TransportAddress(self.host, port) for port in (*first, *self.passed, *rest))

    def __bool__(self) -> bool:
        return bool(self.ahead or self.passed)


def predict(
    base: Base, observations: Iterable[Observation], connects: Sequence[object], count: int
) -> Prediction | None:
    """Of a simultaneous-open base, ``count`` addresses at most; None if too little was observed.

    ``connects`` are all connections that this host began: each took a port, those of the base what peers will meet.
    """
    ordered = sorted(observations, key=lambda each: each.ordinal)
    tcp = [each for each in ordered if each.base.transport is base.transport]
    own = [each for each in tcp if each.base is base]
    if not own:
        return _preserved(base, ordered)
    if len(own) < _OBSERVATIONS or len({each.mapped for each in own}) == 1:
        return None  # what a server saw may be what a peer meets
    # Most NATs that count do so for all connections together.
    line = next((each for each in (tcp, own) if _step(each)), None)
    if line is None:
        return Prediction(PortAllocation.RANDOM)
    step, last = _step(line), line[-1]
    since = connects[last.ordinal + 1 :]
    passed = [port for pair in pairwise(line) for port in _between(base, *pair, connects, step)][: count // 2]
    ports = (last.mapped.port + step * number for number in itertools.count(1))
    ahead = [port for port, connect in zip(ports, [*since, *[base] * count]) if connect is base]  # noqa: B905 - endless
    ahead = ahead[: count - len(passed)]
    return Prediction(PortAllocation.SEQUENTIAL, last.mapped.host, _valid(ahead), _valid(passed))


def _preserved(base: Base, observations: Sequence[Observation]) -> Prediction | None:
    """No server saw the base, but all saw others of the host with their own ports."""
    assert base.address is not None
    others = [each for each in observations if each.base.host == base.host]
    if len(others) < _OBSERVATIONS:
        return None
    kept = all(each.base.address is not None and each.mapped.port == each.base.address.port for each in others)
    hosts = {each.mapped.host for each in others}
    if not kept or len(hosts) > 1 or hosts == {base.host}:
        return None
    return Prediction(PortAllocation.PRESERVED, hosts.pop(), (base.address.port,))


def _between(base: Base, earlier: Observation, later: Observation, connects: Sequence[object], step: int) -> list[int]:
    """Ports between two observations that connections of the base were mapped to, the most likely first."""
    ports = range(earlier.mapped.port + step, later.mapped.port, step)
    begun = connects[earlier.ordinal + 1 : later.ordinal]
    places = [place for place, connect in enumerate(begun) if connect is base]
    if len(ports) == len(begun):
        return [ports[place] for place in places]
    # Something else took ports, too: the further from where it would be, had that been spread evenly, the less likely.
    likely = [(place + 0.5) * len(ports) / len(begun) - 0.5 for place in places]
    distances = {port: min(abs(index - each) for each in likely) for index, port in enumerate(ports) if likely}
    return sorted(distances, key=lambda port: distances[port])


def _valid(ports: Iterable[int]) -> tuple[int, ...]:
    return tuple(port for port in ports if 0 < port <= _HIGHEST_PORT)


def _step(line: Sequence[Observation]) -> int:
    """By how much the NAT counts up, or, negative, down; 0 if it does not count."""
    gaps = [later.mapped.port - earlier.mapped.port for earlier, later in pairwise(line)]
    gaps = [gap for gap in gaps if gap]
    if not gaps or any(abs(gap) > _LARGEST_GAP or gap * gaps[0] < 0 for gap in gaps):
        return 0
    return gcd(*gaps) if gaps[0] > 0 else -gcd(*gaps)
