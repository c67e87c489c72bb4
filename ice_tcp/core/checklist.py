"""The check list: which pair is checked next (RFC 8445 s6.1.2.6, s6.1.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterator

from candidates.pairing import PairList
from ice_tcp.core.context import Context
from ice_tcp.core.events import PairChanged, PairState
from ice_tcp.core.pairs import Pair
from ice_tcp.core.timers import Timer
from ice_tcp.core.verdicts import Verdict

_RELAY_EVERY = 3
"""So many-th of the paced checks goes to a relayed pair, until one is valid."""

_ACTIVE = (PairState.WAITING, PairState.IN_PROGRESS)


def _held(pair: Pair) -> bool:
    return pair.state in (PairState.IN_PROGRESS, PairState.SUCCEEDED)


def _spent(pair: Pair) -> bool:
    return pair.state is PairState.FAILED


class CheckList:
    """Pairs in order, their states, the triggered-check queue, and the pace.

    ``perform(pair, now)`` starts the check of a pair; ``startable(pair)`` tells whether that is possible now, which
    for TCP depends on the outstanding connection attempts. ``ta`` is the agent's pace in seconds.
    """

    def __init__(
        self, context: Context, perform: Callable[[Pair, float], None], startable: Callable[[Pair], bool]
    ) -> None:
        self._context = context
        self._perform = perform
        self._startable = startable
        self._pairs: PairList[Pair] = PairList(context.policy.limits.pairs, held=_held, spent=_spent)
        self._triggered: list[Pair] = []  # a deque would be larger than all the rest
        self._active: Counter[tuple[str, str]] = Counter()
        self._succeeded: set[tuple[str, str]] = set()
        self._tick: Timer | None = None
        self._checked_at = float("-inf")
        self._ordinary_checks = 0
        self.concluded: set[int] = set()
        """Components that have their nominated pair, and get no new ones (RFC 8445 s8.1.2)."""
        self._spared: dict[int, Timer] = {}
        self.running = False
        self.ta = context.policy.pacing.ta

    def __iter__(self) -> Iterator[Pair]:
        return iter(self._pairs)

    def __len__(self) -> int:
        return len(self._pairs)

    def get(self, key: Hashable) -> Pair | None:
        return self._pairs.get(key)

    def add(self, pair: Pair, now: float) -> bool:
        """Whether the pair found its place; for lack of room or of priority it may not."""
        added = self._pairs.add(pair)
        for dropped in added.dropped:
            self._leave(dropped, Verdict.PRUNED)
        if not added.kept:
            return False
        self._tell(pair)
        if self.running:
            if pair.foundation in self._succeeded or not self._active[pair.foundation]:
                self._move(pair, PairState.WAITING)
            self.wake(now)
        return True

    def start(self, now: float) -> None:
        """Set the initial states (RFC 8445 s6.1.2.6) and begin, with the first check at once if the pace allows."""
        self.running = True
        for pair in sorted(self._pairs, key=lambda pair: pair.component):
            if pair.state is PairState.FROZEN and not self._active[pair.foundation]:
                self._move(pair, PairState.WAITING)
        self.wake(now)
        if self._tick is not None and self._tick.at <= now:
            self._tick.expire(now)

    def stop(self) -> None:
        self.running = False
        self._triggered.clear()
        for timer in self._spared.values():
            timer.cancel()
        self._spared.clear()
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None

    def trigger(self, pair: Pair, now: float, *, at_once: bool) -> None:
        """Put the pair at the end of the triggered-check queue (RFC 8445 s6.1.4.1).

        ``at_once``: its path has carried an authenticated message, so a check makes no new NAT binding and
        does not wait for the pace (docs/deviations.md).
        """
        if pair.state is not PairState.SUCCEEDED:
            self._move(pair, PairState.WAITING)
        if not self.running:
            return
        if at_once and not self._context.policy.pacing.strict:
            self._perform(pair, now)
            return
        if pair.nominating:
            # It ends the work of the others that wait (docs/deviations.md).
            self._triggered.insert(0, pair)
        elif pair not in self._triggered:
            self._triggered.append(pair)
        self.wake(now)

    def begin(self, pair: Pair, now: float) -> None:
        """The pair's check is under way."""
        if pair.begun_at is None:
            pair.begun_at = now
        if pair.state is not PairState.SUCCEEDED:
            self._move(pair, PairState.IN_PROGRESS)

    def succeed(self, pair: Pair, now: float) -> None:
        """The check succeeded; pairs of the same foundation thaw (RFC 8445 s7.2.5.3.3)."""
        pair.verdict = None
        self._spare(pair.component, now)
        self._succeeded.add(pair.foundation)
        self._move(pair, PairState.SUCCEEDED)
        for other in self._pairs:
            if other.state is PairState.FROZEN and other.foundation == pair.foundation:
                self._move(other, PairState.WAITING)
        self.wake(now)

    def _spare(self, component: int, now: float) -> None:
        """With a valid pair, worse ones are not checked of our own accord for ``nomination.grace`` seconds.

        Nobody would nominate them; the peer's checks still trigger ours (docs/deviations.md).
        """
        if component in self._spared or any(
            pair.component == component and pair.state is PairState.SUCCEEDED for pair in self._pairs
        ):
            return

        def resume(at: float) -> None:
            del self._spared[component]
            self.wake(at)

        self._spared[component] = self._context.timers.set(now + self._context.policy.nomination.grace, resume)

    def fail(self, pair: Pair, verdict: Verdict, now: float) -> None:
        pair.verdict = verdict
        self._move(pair, PairState.FAILED)
        self.wake(now)

    def wait(self, pair: Pair) -> None:
        """The pair will be checked again: its connection was lost."""
        self._move(pair, PairState.WAITING)

    def conclude(self, component: int, keep: Pair) -> list[Pair]:
        """Remove all other pairs of a component, which has its nominated pair (RFC 8445 s8.1.2)."""
        self.concluded.add(component)
        removed = self._pairs.remove_where(lambda pair: pair.component == component and pair is not keep)
        for pair in removed:
            self._leave(pair, Verdict.SUPERSEDED)
        self._active = Counter(pair.foundation for pair in self._pairs if pair.state in _ACTIVE)  # and no zeros
        return removed

    def clear(self) -> None:
        """The generation has ended."""
        self.stop()
        for pair in list(self._pairs):
            self.remove(pair, Verdict.SUPERSEDED)

    def remove(self, pair: Pair, verdict: Verdict) -> None:
        self._pairs.remove(pair)
        self._leave(pair, verdict)

    def rerank(self, *, controlling: bool) -> None:
        """Recompute the priorities after a role switch (RFC 8445 s7.2.5.1)."""
        for pair in self._pairs:
            pair.rank(controlling=controlling)
        self._pairs.reprioritise()

    def wake(self, now: float) -> None:
        """See to it that the next check goes out when it may."""
        if not self.running or self._tick is not None or not self._has_work():
            return
        earliest = self._checked_at + self.ta
        if earliest > now:
            self._tick = self._context.timers.set(earliest, self._reserve)
        else:
            self._tick = self._context.timers.set(self._context.pacer.reserve(now), self._check_next)

    def _reserve(self, now: float) -> None:
        self._tick = None
        if self._has_work():  # else others of the process need the slot more
            self._tick = self._context.timers.set(self._context.pacer.reserve(now), self._check_next)

    def _check_next(self, now: float) -> None:
        self._tick = None
        later = self._context.pacer.next_at(now)
        if later > now:
            self._tick = self._context.timers.set(later, self._check_next)
            return
        pair = self._choose()
        if pair is not None:
            self._context.pacer.take(now)
            self._checked_at = now
            self._perform(pair, now)
            self.wake(now)

    def _has_work(self) -> bool:
        return any(self._due(pair) and self._startable(pair) for pair in self._triggered) or any(
            self._startable_in(PairState.WAITING, PairState.FROZEN)
        )

    def _choose(self) -> Pair | None:
        """Triggered first, then Waiting by priority; where nothing is Waiting, Frozen ones thaw (RFC 8445 s6.1.4.2)."""
        for _ in range(len(self._triggered)):
            pair = self._triggered.pop(0)
            if self._due(pair):
                if self._startable(pair):
                    return pair
                self._triggered.append(pair)
        self._ordinary_checks += 1
        if self._ordinary_checks % _RELAY_EVERY == 0 and (relayed := self._relayed()) is not None:
            return relayed
        waiting = self._waiting()
        if waiting is None:
            self._thaw()
            waiting = self._waiting()
        return waiting

    def _relayed(self) -> Pair | None:
        """The relayed pair to check before its turn, so that the last resort costs no idle time (docs/deviations.md).

        Between two relays first: that one needs nothing of any NAT. None where a relayed pair is valid already.
        """
        resting = {pair.component for pair in self._pairs if pair.state is PairState.SUCCEEDED and pair.is_relayed}
        candidates = [
            pair
            for pair in self._startable_in(PairState.WAITING, PairState.FROZEN)
            if pair.is_relayed and pair.component not in resting
        ]
        return next((pair for pair in candidates if pair.is_relayed_twice), candidates[0] if candidates else None)

    def _due(self, pair: Pair) -> bool:
        return pair.state is PairState.WAITING or pair.nominating

    def _waiting(self) -> Pair | None:
        return next(self._startable_in(PairState.WAITING), None)

    def _startable_in(self, *states: PairState) -> Iterator[Pair]:
        """Pairs in one of these states that may be checked now, the best first.

        While `spare` holds, none that is worse than a valid pair of its component.
        """
        satisfied: set[int] = set()
        for pair in self._pairs:
            if pair.state is PairState.SUCCEEDED:
                satisfied.add(pair.component)
            elif pair.component in self._spared and pair.component in satisfied:
                continue
            elif pair.state in states and self._startable(pair):
                yield pair

    def _thaw(self) -> None:
        """Thaw each Frozen pair whose foundation is idle, or else the best one.

        A check that hangs, as behind a filter that waits for our own next packet, must not keep its foundation
        frozen for the 15 or 39 seconds that it takes to fail (docs/deviations.md).
        """
        frozen = list(self._startable_in(PairState.FROZEN))
        idle = [pair for pair in frozen if not self._active[pair.foundation]]
        for pair in idle or frozen[:1]:
            if not (idle and self._active[pair.foundation]):
                self._move(pair, PairState.WAITING)

    def _move(self, pair: Pair, state: PairState) -> None:
        if pair.state is state or self._pairs.get(pair.key) is not pair:
            return
        if pair.state in _ACTIVE:
            self._active[pair.foundation] -= 1
        if state in _ACTIVE:
            self._active[pair.foundation] += 1
        pair.state = state
        self._tell(pair)

    def _leave(self, pair: Pair, verdict: Verdict) -> None:
        if pair.state in _ACTIVE:
            self._active[pair.foundation] -= 1
        if pair in self._triggered:
            self._triggered.remove(pair)
        pair.verdict = pair.verdict or verdict
        self._context.events.append(
            PairChanged(pair.id, pair.component, pair.local.candidate, pair.remote, None, pair.verdict)
        )

    def _tell(self, pair: Pair) -> None:
        self._context.events.append(
            PairChanged(pair.id, pair.component, pair.local.candidate, pair.remote, pair.state, pair.verdict)
        )
