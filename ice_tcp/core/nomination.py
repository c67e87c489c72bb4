"""Which valid pair carries data, and which is nominated, and when (RFC 8445 s8.1, s12.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol

from candidates.candidate import CandidateType, TcpType, Transport
from candidates.pairing import refusal
from ice_tcp.core.context import Context
from ice_tcp.core.events import PairState
from ice_tcp.core.generation import Generation
from ice_tcp.core.pairs import Pair
from ice_tcp.core.roles import Roles
from ice_tcp.core.timers import Timer
from ice_tcp.core.trace import Nominated

_LEANING_ROUND_TRIPS = 4
"""A peer that is reached in spite of our NAT is reached within about two."""
_LOSS_REPAIR = 1.0
"""Seconds after which TCP repeats a SYN (RFC 6298 s2), and a check over UDP is on its way again, too."""


class Choices(Protocol):
    """Who acts on what is chosen here."""

    def use(self, generation: Generation, pair: Pair, now: float) -> None:
        """Data goes this way from now on."""

    def conclude(self, generation: Generation, pair: Pair, now: float) -> None:
        """The pair is the nominated one of its component."""


class Nomination:
    """The nomination of one generation.

    Data flows on the best valid pair from the first one on. The controlling side nominates once a component: when
    no better pair is still alive, or ``nomination.grace`` seconds after the first valid one. A relayed pair carries
    data meanwhile, but is nominated only ``nomination.relay_grace`` seconds after it became valid, for a direct one to
    come: a little more where one has only just been begun, whose first packet may have been lost; less where
    ``leans_on_relay``, for a NAT has shown that a direct one is unlikely.
    """

    __slots__ = (
        "_choices",
        "_context",
        "_generation",
        "_grace",
        "_grace_over",
        "_leans_on_relay",
        "_roles",
        "selected",
        "used",
    )

    def __init__(
        self,
        context: Context,
        roles: Roles,
        generation: Generation,
        choices: Choices,
        leans_on_relay: Callable[[Pair], bool],
    ) -> None:
        self._context = context
        self._roles = roles
        self._generation = generation
        self._choices = choices
        self._leans_on_relay = leans_on_relay
        self._grace: dict[tuple[int, bool], Timer] = {}
        self._grace_over: set[tuple[int, bool]] = set()
        self.used: dict[int, Pair] = {}
        """By component: the pair that carries data."""
        self.selected: dict[int, Pair] = {}
        """By component: the nominated pair."""

    def valid(self, pair: Pair, now: float) -> None:
        """A check of the pair succeeded."""
        if pair.nominated or (pair.requested and not self._roles.controlling):
            self._nominated(pair, now)
            return
        component = pair.component
        if component in self.selected:
            return
        best = self._best(component)
        if best is not None and best is not self.used.get(component):
            self.used[component] = best
            self._choices.use(self._generation, best, now)
        self.consider(component, now)

    def requested(self, pair: Pair, now: float) -> None:
        """The peer's check of the pair carried USE-CANDIDATE (RFC 8445 s7.3.1.5)."""
        pair.requested = True
        if pair.state is PairState.SUCCEEDED and not self._roles.controlling:
            self._nominated(pair, now)

    def failed(self, pair: Pair, now: float) -> None:
        """A pair is no longer valid, or never will be."""
        pair.nominating = pair.requested = False
        component = pair.component
        if self.used.get(component) is pair and component not in self.selected:
            del self.used[component]
            best = self._best(component)
            if best is not None:
                self.used[component] = best
                self._choices.use(self._generation, best, now)
        self.consider(component, now)

    def lost(self, pair: Pair, now: float) -> None:
        """As `failed`, even if the pair was nominated."""
        if self.selected.get(pair.component) is pair:
            del self.selected[pair.component]
        self.failed(pair, now)

    def consider(self, component: int, now: float) -> None:
        """Nominate, if we are to and it is time."""
        if not self._roles.controlling or component in self.selected:
            return
        best = self._best(component)
        if best is None or any(pair.nominating for pair in self._pairs(component)):
            return
        kind = (component, best.is_relayed)
        if kind in self._grace_over or not self._better_may_come(best):
            self._nominate(best, now)
        elif kind not in self._grace:
            self._grace[kind] = self._context.timers.set(
                now + self._grace_of(best), lambda at: self._end_grace(kind, at)
            )

    def consider_all(self, now: float) -> None:
        """Something else changed that nomination waits for."""
        for component in list(self.used):
            self.consider(component, now)

    def stop(self) -> None:
        for timer in self._grace.values():
            timer.cancel()
        self._grace.clear()

    def _grace_of(self, best: Pair) -> float:
        """Seconds that a better pair is waited for."""
        policy = self._context.policy.nomination
        if not best.is_relayed:
            return policy.grace
        if not self._leans_on_relay(best):
            return policy.relay_grace
        return min(policy.relay_grace, max(policy.grace, _one_loss(best)))

    def _end_grace(self, kind: tuple[int, bool], now: float) -> None:
        best = self._best(kind[0])
        if best is not None and best.is_relayed and not self._leans_on_relay(best):
            repaired_at = self._latest_begun_at(best.component) + _one_loss(best)
            if repaired_at > now:
                self._grace[kind] = self._context.timers.set(repaired_at, lambda at: self._give_up_better(kind, at))
                return
        self._give_up_better(kind, now)

    def _give_up_better(self, kind: tuple[int, bool], now: float) -> None:
        self._grace_over.add(kind)
        self.consider(kind[0], now)

    def _latest_begun_at(self, component: int) -> float:
        """When a direct pair that may yet become valid was tried for the first time, the latest of them."""
        young = (pair.begun_at for pair in self._pairs(component) if pair.alive and not pair.is_relayed)
        return max((begun_at for begun_at in young if begun_at is not None), default=float("-inf"))

    def _better_may_come(self, best: Pair) -> bool:
        if _is_unbeatable(best):
            return False
        if not (self._generation.remote_done and self._generation.gathered):
            return True
        return (best.is_relayed and self._peer_may_connect(best.component)) or any(
            pair.alive and pair.priority > best.priority and not _is_same_path(pair, best)
            for pair in self._pairs(best.component)
        )

    def _peer_may_connect(self, component: int) -> bool:
        """Whether it has a pair of one of its active candidates and a passive one of ours: of these we have none."""
        return any(
            local.candidate.component == component
            and local.candidate.tcptype is TcpType.PASSIVE
            and CandidateType.RELAY not in (local.candidate.type, remote.type)
            and refusal(remote, local.candidate) is None
            for local in self._generation.local_candidates
            for remote in self._generation.remote_candidates.values()
        )

    def _nominate(self, pair: Pair, now: float) -> None:
        pair.nominating = True
        self._context.note(now, Nominated(pair.id, pair.component))
        # The path carried an authenticated message: a check on it makes no new binding.
        self._generation.checklist.trigger(pair, now, at_once=True)

    def _nominated(self, pair: Pair, now: float) -> None:
        component = pair.component
        if component in self.selected:
            return
        pair.nominated = True
        pair.nominating = False
        self.selected[component] = pair
        self.used[component] = pair
        self._choices.conclude(self._generation, pair, now)

    def _best(self, component: int) -> Pair | None:
        return next((pair for pair in self._pairs(component) if pair.state is PairState.SUCCEEDED), None)

    def _pairs(self, component: int) -> Iterator[Pair]:
        return (pair for pair in self._generation.checklist if pair.component == component)


def _one_loss(best: Pair) -> float:
    """Seconds in which what lost its first packet gets through, on ways as long as this pair's."""
    return _LEANING_ROUND_TRIPS * best.answered_in + _LOSS_REPAIR


def _is_same_path(one: Pair, other: Pair) -> bool:
    """Two connections between the same hosts, whoever dials: neither is worth waiting for the other."""
    return (
        one.is_tcp
        and other.is_tcp
        and one.base.host == other.base.host
        and one.remote.address.host == other.remote.address.host
    )


def _is_unbeatable(pair: Pair) -> bool:
    """A direct UDP path between host candidates: whatever may still come is no better kind of path."""
    local, remote = pair.local.candidate, pair.remote
    return local.transport is Transport.UDP and local.type is remote.type is CandidateType.HOST
