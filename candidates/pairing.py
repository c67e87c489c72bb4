"""Which candidates form pairs, and the ordered, pruned and limited list of pairs (RFC 8445 s6.1.2, RFC 6544 s6.2)."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from operator import attrgetter
from types import MappingProxyType
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from candidates.candidate import Candidate, TcpType, TransportAddress
from candidates.priority import pair_priority

PAIRABLE: Final[Mapping[TcpType, TcpType]] = MappingProxyType(
    {
        TcpType.SO: TcpType.SO,
        TcpType.ACTIVE: TcpType.PASSIVE,
        TcpType.PASSIVE: TcpType.ACTIVE,
    }
)
"""For each local tcptype the remote one that it pairs with (the table of RFC 6544 s6.2)."""

DEFAULT_LIMIT: Final = 100
"""Pairs in all check lists together (RFC 8445 s6.1.2.5)."""


class Refusal(StrEnum):
    """Why two candidates make no pair, or a pair did not stay in the list."""

    COMPONENT = "component"
    """They belong to different components (RFC 8445 s6.1.2.2)."""
    TRANSPORT = "transport"
    """One is UDP and the other TCP."""
    NAME = "name"
    """The remote address is a name that nobody has resolved (RFC 8839 s5.1)."""
    ADDRESS = "address"
    """The remote address is no single host's: unspecified or multicast."""
    FAMILY = "family"
    """One address is IPv4 and the other IPv6 (RFC 8445 s6.1.2.2)."""
    LINK_LOCAL = "link-local"
    """An IPv6 link-local address pairs only with another one (RFC 8445 s6.1.2.2)."""
    TCPTYPE = "tcptype"
    """Their tcptypes do not fit together (RFC 6544 s6.2)."""
    LOCAL_PASSIVE = "local-passive"
    """The local candidate only waits for connections: removed when pruning (RFC 6544 s6.2)."""
    REDUNDANT = "redundant"
    """A pair with the same base and the same remote candidate has a higher priority (RFC 8445 s6.1.2.4)."""
    LIMIT = "limit"
    """The list is full, and all its pairs have higher priorities (RFC 8445 s6.1.2.5)."""


def refusal(local: Candidate, remote: Candidate) -> Refusal | None:
    """Why these two make no pair on which to send checks; None if they make one.

    It answers neither REDUNDANT nor LIMIT, which depend on the other pairs: see PairList.
    """
    if local.component != remote.component:
        return Refusal.COMPONENT
    if local.transport is not remote.transport:
        return Refusal.TRANSPORT
    return _address_refusal(local.address, remote.address) or _tcptype_refusal(local.tcptype, remote.tcptype)


def _address_refusal(local: TransportAddress, remote: TransportAddress) -> Refusal | None:
    if remote.ip is None:
        return Refusal.NAME
    if remote.ip.is_unspecified or remote.ip.is_multicast:
        return Refusal.ADDRESS
    if local.family != remote.family:
        return Refusal.FAMILY
    if remote.family == 6 and local.is_link_local is not remote.is_link_local:
        return Refusal.LINK_LOCAL
    return None


def _tcptype_refusal(local: TcpType | None, remote: TcpType | None) -> Refusal | None:
    if local is None:
        return None
    if PAIRABLE[local] is not remote:
        return Refusal.TCPTYPE
    if local is TcpType.PASSIVE:
        return Refusal.LOCAL_PASSIVE
    return None


def pair_key(local: Candidate, base: TransportAddress, remote: Candidate) -> Hashable:
    """What redundant pairs have in common (RFC 8445 s6.1.2.4): the base, and the remote candidate.

    ``base`` is the transport address that the local candidate sends from: for host and relayed candidates its own.
    """
    return local.component, local.transport, base, local.tcptype, remote.address, remote.tcptype


class Pair(Protocol):
    """What PairList needs of its items. ``priority`` may change, followed by ``PairList.reprioritise``."""

    @property
    def priority(self) -> int: ...

    @property
    def key(self) -> Hashable: ...


PairT = TypeVar("PairT", bound=Pair)


class PairAdded(NamedTuple, Generic[PairT]):
    """What ``PairList.add`` did: whether the item is now in the list, and which ones had to go for it."""

    kept: bool
    dropped: tuple[PairT, ...]


def _never(_item: Pair) -> bool:
    return False


class PairList(Generic[PairT]):
    """The pairs of a check list: the highest priority first, none redundant, at most ``limit`` of them.

    Of pairs with equal priorities the one that came earlier stands first. An insertion takes O(log n) comparisons
    of priorities.

    ``held`` tells pairs that an addition may not drop: their checks are in flight or have succeeded. ``spent``
    tells pairs that go first when the list is full: their checks have failed (RFC 8838 s11).
    """

    def __init__(
        self,
        limit: int = DEFAULT_LIMIT,
        *,
        held: Callable[[PairT], bool] = _never,
        spent: Callable[[PairT], bool] = _never,
    ) -> None:
        if limit < 1:
            raise ValueError(f"a list limited to {limit} pairs cannot work")
        self._limit = limit
        self._held = held
        self._spent = spent
        self._ascending: list[PairT] = []
        self._by_key: dict[Hashable, PairT] = {}

    def __len__(self) -> int:
        return len(self._ascending)

    def __iter__(self) -> Iterator[PairT]:
        """The highest priority first. Iterate over a ``list`` of it to change it meanwhile."""
        return reversed(self._ascending)

    def __contains__(self, item: object) -> bool:
        return any(kept is item for kept in self._ascending)

    def get(self, key: Hashable) -> PairT | None:
        """The pair with this key, if there is one."""
        return self._by_key.get(key)

    def add(self, item: PairT) -> PairAdded[PairT]:
        """Add a pair, unless a redundant one of at least its priority is there, or better ones fill the list.

        It takes the place of a redundant pair of lower priority, and in a full list of a spent pair or else of
        the one with the lowest priority.
        """
        twin = self._by_key.get(item.key)
        if twin is not None:
            if self._held(twin) or not twin.priority < item.priority:
                return PairAdded(False, ())
            self.remove(twin)
            self._insert(item)
            return PairAdded(True, (twin,))
        if len(self._ascending) < self._limit:
            self._insert(item)
            return PairAdded(True, ())
        victim = self._least_wanted()
        if victim is None or not (self._spent(victim) or victim.priority < item.priority):
            return PairAdded(False, ())
        self.remove(victim)
        self._insert(item)
        return PairAdded(True, (victim,))

    def remove(self, item: PairT) -> None:
        """Take a pair out. Raises KeyError if it is not in the list."""
        if self._by_key.get(item.key) is not item:
            raise KeyError(item.key)
        del self._by_key[item.key]
        del self._ascending[next(index for index, kept in enumerate(self._ascending) if kept is item)]

    def remove_where(self, unwanted: Callable[[PairT], bool]) -> list[PairT]:
        """Take out and return pairs, the highest priority first, with the memory that they took."""
        removed = [item for item in self if unwanted(item)]
        gone = set(map(id, removed))
        self._ascending = [item for item in self._ascending if id(item) not in gone]
        self._by_key = {item.key: item for item in self._ascending}
        return removed

    def reprioritise(self) -> None:
        """Restore the order after priorities have changed, as with a switch of roles (RFC 8445 s7.3.1.1)."""
        self._ascending.sort(key=_priority_of)

    def _insert(self, item: PairT) -> None:
        self._by_key[item.key] = item
        # Left of its equals, which came earlier and so stand first when read from the right.
        self._ascending.insert(bisect_left(self._ascending, item.priority, key=_priority_of), item)

    def _least_wanted(self) -> PairT | None:
        candidates = [item for item in self._ascending if not self._held(item)]
        spent = (item for item in candidates if self._spent(item))
        return next(spent, candidates[0] if candidates else None)


_priority_of: Callable[[Pair], int] = attrgetter("priority")


@dataclass(frozen=True, slots=True)
class CandidatePair:
    """Two candidates and what orders and identifies their pair; ``base`` is what the local one sends from."""

    local: Candidate
    base: TransportAddress
    remote: Candidate
    priority: int

    @property
    def key(self) -> Hashable:
        return pair_key(self.local, self.base, self.remote)


@dataclass(frozen=True, slots=True)
class DroppedPair:
    """Two candidates that make no pair of the check list, and why."""

    local: Candidate
    remote: Candidate
    reason: Refusal


@dataclass(frozen=True, slots=True)
class FormedPairs:
    """A check list as it is first formed, highest priority first, and what was dropped on the way."""

    pairs: tuple[CandidatePair, ...]
    dropped: tuple[DroppedPair, ...]


def form_pairs(
    local: Iterable[tuple[Candidate, TransportAddress]],
    remote: Iterable[Candidate],
    *,
    controlling: bool,
    limit: int = DEFAULT_LIMIT,
) -> FormedPairs:
    """Form the check list of whole candidate lists at once (RFC 8445 s6.1.2, RFC 6544 s6.2).

    ``local`` gives each candidate with its base. ``controlling`` is the local agent's role. For each combination
    that is not in ``pairs``, ``dropped`` has the reason.
    """
    pairs: PairList[CandidatePair] = PairList(limit)
    dropped: list[DroppedPair] = []
    remotes = list(remote)
    for candidate, base in local:
        for other in remotes:
            reason = refusal(candidate, other)
            if reason is not None:
                dropped.append(DroppedPair(candidate, other, reason))
                continue
            ours, theirs = candidate.priority, other.priority
            priority = pair_priority(ours, theirs) if controlling else pair_priority(theirs, ours)
            pair = CandidatePair(candidate, base, other, priority)
            added = pairs.add(pair)
            for loser in added.dropped if added.kept else (pair,):
                redundant = pairs.get(loser.key) is not None
                reason = Refusal.REDUNDANT if redundant else Refusal.LIMIT
                dropped.append(DroppedPair(loser.local, loser.remote, reason))
    return FormedPairs(tuple(pairs), tuple(dropped))
