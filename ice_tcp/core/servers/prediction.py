"""Which ports a NAT will probably map next, from those that it mapped (policy: ``simultaneous_open.predict_ports``).

A NAT that maps every connection anew shows no server the port that a peer will meet; but some keep the port of the
host, and some count. With two observations or more that is seen, and the ports to come can be told as candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import gcd
from typing import Final

from candidates.candidate import TransportAddress
from ice_tcp.core.context import Flow
from ice_tcp.core.events import PortAllocation
from ice_tcp.core.paths import Base

_LARGEST_GAP: Final = 64
"""Between two observations: other connections may have taken ports meanwhile, but a larger gap is taken for chance."""
_HIGHEST_PORT: Final = 65535
_OBSERVATIONS: Final = 2
_ROW: Final = 4
"""Dials in equal steps that are no chance, but follow what the peer predicted."""


@dataclass(frozen=True, slots=True)
class Observation:
    """A server saw ``base`` come from ``mapped``, on the flow of this number, as `Context.flows` counts."""

    flow: int
    base: Base
    mapped: TransportAddress


@dataclass(frozen=True, slots=True)
class Prediction:
    """How a NAT chooses ports, and where a base will be seen, if that is no chance.

    Attributes:
        ahead: ports that come after all that servers saw, in the order in which the NAT gives them to the base; before
            them those with which it dials already what the peer predicted.
        passed: earlier ones, that it gave while the base dialled something else.
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
        first = self.ahead[::2] if controlling else self.ahead[: (3 * len(self.ahead) + 3) // 4]
        rest = [port for port in self.ahead if port not in first]
        return tuple(TransportAddress(self.host, port) for port in (*first, *self.passed, *rest))

    def __bool__(self) -> bool:
        return bool(self.ahead or self.passed)


def predict(base: Base, observations: Iterable[Observation], flows: Sequence[Flow], count: int) -> Prediction | None:
    """Of a simultaneous-open base, ``count`` addresses at most; None if too little was observed.

    ``flows`` are all that this agent began: each took a port, those of the base what peers will meet.
    """
    ordered = sorted((each for each in observations if each.base.host == base.host), key=lambda each: each.flow)
    tcp = [each for each in ordered if each.base.transport is base.transport]
    own = [each for each in tcp if each.base is base]
    if not own:
        return _preserved(base, ordered)
    if len(own) < _OBSERVATIONS or len({each.mapped for each in own}) == 1:
        return None  # what a server saw may be what a peer meets
    # Most NATs that count do so for all connections together, some for datagrams as well, some for each port of ours.
    rules: list[Callable[[Flow], bool]]
    if gap := _common_gap(tcp):
        line, rules = tcp, [lambda flow: flow.transport is base.transport, lambda _: True]
    elif gap := _common_gap(own):
        line, rules = own, [lambda flow: flow.base is base]
    else:
        return Prediction(PortAllocation.RANDOM)
    counted = min(
        (_Counter(base, line, flows, step, rule) for step in _divisors(gap) for rule in rules),
        key=lambda each: each.misfit,
    )
    passed = counted.passed()[: count // 2]
    ahead = counted.ahead(count - len(passed))
    return Prediction(PortAllocation.SEQUENTIAL, line[-1].mapped.host, _valid(ahead), _valid(passed))


class _Counter:
    """A NAT that counts some flows in steps, seen through the eyes of servers."""

    def __init__(
        self,
        base: Base,
        line: Sequence[Observation],
        flows: Sequence[Flow],
        step: int,
        counts: Callable[[Flow], bool],
    ) -> None:
        def counted(first: int, end: int) -> list[int]:
            return [number for number in range(first, end) if flows[number].host == base.host and counts(flows[number])]

        self._step = step
        self._last = line[-1].mapped.port
        self._since = counted(line[-1].flow + 1, len(flows))
        self._gaps = [
            (
                range(earlier.mapped.port + step, later.mapped.port, step),
                counted(earlier.flow + 1, later.flow),
            )
            for earlier, later in pairwise(line)
        ]
        own = [number for number, flow in enumerate(flows) if flow.base is base]
        self._own = frozenset(own)
        self._row_at = own[row] if (row := _row([flows[number].port for number in own])) is not None else len(flows)

    @property
    def misfit(self) -> int:
        """How many ports were not given to flows that are counted, or the reverse."""
        return sum(abs(len(ports) - len(flows)) for ports, flows in self._gaps)

    def passed(self) -> list[int]:
        """What was given to the base while servers were asked, but for `ahead`; the most likely first."""
        return [port for ports, flows in self._gaps for port in self._likely(ports, flows)]

    def ahead(self, count: int) -> list[int]:
        """What the base dials with in vain until the peer dials, too: what the peer predicted, and what comes next."""
        begun = [port for ports, flows in self._gaps for port in self._begun(ports, flows)]
        own = [index for index, number in enumerate(self._since) if number in self._own]
        next_ = len(self._since)
        following = [self._last + self._step * (index + 1) for index in (*own, *range(next_, next_ + count))]
        return [*begun, *following][:count]

    def _begun(self, ports: Sequence[int], flows: Sequence[int]) -> list[int]:
        if not ports:
            return []
        places = [place for place, number in enumerate(flows) if number in self._own and number >= self._row_at]
        return [ports[round(_middle(place, ports, flows))] for place in places]

    def _likely(self, ports: Sequence[int], flows: Sequence[int]) -> list[int]:
        places = [place for place, number in enumerate(flows) if number in self._own and number < self._row_at]
        if len(ports) == len(flows):
            return [ports[place] for place in places]
        # The further from where it would be, if what else took ports did so evenly, the less likely.
        middles = [_middle(place, ports, flows) for place in places]
        distances = {port: min(abs(index - each) for each in middles) for index, port in enumerate(ports) if middles}
        return sorted(distances, key=lambda port: distances[port])


def _middle(place: int, ports: Sequence[int], flows: Sequence[int]) -> float:
    """Where in ``ports`` a flow's would be if all took them evenly."""
    return (place + 0.5) * len(ports) / len(flows) - 0.5


def _row(ports: Sequence[int]) -> int | None:
    """Where a row of dials in equal steps begins."""
    steps = [later - earlier for earlier, later in pairwise(ports)]
    for index in range(len(steps) - _ROW + 2):
        row = set(steps[index : index + _ROW - 1])
        if len(row) == 1 and 0 < abs(row.pop()) <= _LARGEST_GAP:
            return index
    return None


def _preserved(base: Base, observations: Sequence[Observation]) -> Prediction | None:
    """No server saw the base, but all saw others of the host with their own ports."""
    assert base.address is not None
    if len(observations) < _OBSERVATIONS:
        return None
    kept = all(each.base.address is not None and each.mapped.port == each.base.address.port for each in observations)
    hosts = {each.mapped.host for each in observations}
    if not kept or len(hosts) > 1 or hosts == {base.host}:
        return None
    return Prediction(PortAllocation.PRESERVED, hosts.pop(), (base.address.port,))


def _valid(ports: Iterable[int]) -> tuple[int, ...]:
    return tuple(port for port in ports if 0 < port <= _HIGHEST_PORT)


def _common_gap(line: Sequence[Observation]) -> int:
    """A multiple of the step by which the NAT counts up, or, negative, down; 0 if it does not count."""
    gaps = [later.mapped.port - earlier.mapped.port for earlier, later in pairwise(line)]
    gaps = [gap for gap in gaps if gap]
    if not gaps or any(abs(gap) > _LARGEST_GAP or gap * gaps[0] < 0 for gap in gaps):
        return 0
    return gcd(*gaps) if gaps[0] > 0 else -gcd(*gaps)


def _divisors(number: int) -> list[int]:
    """Of the same sign, the smallest first."""
    sign = 1 if number > 0 else -1
    return [sign * each for each in range(1, abs(number) + 1) if number % each == 0]
