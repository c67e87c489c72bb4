"""Winning back a selected TCP connection that was lost (RFC 6544 s11.1)."""

from __future__ import annotations

from collections.abc import Callable

from ice_tcp.core.binding import InboundCheck
from ice_tcp.core.context import Context
from ice_tcp.core.generation import Generation
from ice_tcp.core.nomination import Nomination
from ice_tcp.core.pairs import Pair
from ice_tcp.core.timers import Timer
from ice_tcp.core.trace import Reopening
from ice_tcp.core.usage import Usage
from ice_tcp.core.verdicts import Verdict

_RETRY_INTERVAL = 0.5
"""Seconds, jittered, between attempts to reopen a connection that was refused."""


class _Loss:
    """A selected connection that is gone, and until when it is waited for."""

    __slots__ = ("deadline", "generation", "pair", "retry")

    def __init__(self, generation: Generation, pair: Pair, deadline: Timer) -> None:
        self.generation = generation
        self.pair = pair
        self.deadline = deadline
        self.retry: Timer | None = None

    def stop(self) -> None:
        self.deadline.cancel()
        if self.retry is not None:
            self.retry.cancel()


class Recovery:
    """By component: the loss that is being mended.

    An active or simultaneous-open side dials again and checks; a passive one awaits the connection. After
    ``timeouts.reopen`` seconds ``give_up`` is called.
    """

    __slots__ = ("_concluded", "_context", "_drop", "_give_up", "_losses", "_usage")

    def __init__(
        self,
        context: Context,
        usage: Usage,
        give_up: Callable[[Generation, Pair, Verdict, float], None],
        drop: Callable[[Generation, Pair, Verdict, float], None],
    ) -> None:
        """``drop`` ends what is under way for a pair that another one replaces, and its connection."""
        self._context = context
        self._usage = usage
        self._give_up = give_up
        self._drop = drop
        self._losses: dict[int, _Loss] = {}
        self._concluded = False

    def concluded(self, now: float) -> None:  # noqa: ARG002 - an input, as all others
        """The losers are closed: from now on a new connection of the peer can only be a reopened one."""
        self._concluded = True

    def lost(self, generation: Generation, pair: Pair, verdict: Verdict, now: float, *, nominate: bool) -> None:
        """The selected pair's connection is gone. ``nominate``: say USE-CANDIDATE again, as lite peers expect."""
        component = pair.component
        self._context.note(now, Reopening(component, pair.dials))
        self._forget(component)
        used = self._usage.path(component)
        if used is not None and used.generation == generation.number:
            self._usage.lose(component, verdict)
        deadline = self._context.timers.set(
            now + self._context.policy.timeouts.reopen,
            lambda at: self._give_up(generation, pair, Verdict.PATH_LOST, at),
        )
        self._losses[component] = _Loss(generation, pair, deadline)
        if pair.dials:
            pair.nominating = nominate
            generation.checklist.wait(pair)
            generation.checklist.wake(now)

    def is_lost(self, component: int) -> bool:
        return component in self._losses

    def awaits(self, pair: Pair) -> bool:
        """Whether this very pair is waited for: the peer may dial from the same port again, as relays do."""
        loss = self._losses.get(pair.component)
        return loss is not None and loss.pair is pair

    def retry(self, generation: Generation, pair: Pair, now: float) -> bool:
        """A check failed: if it was to reopen a lost path, it is tried again, and True is returned."""
        loss = self._losses.get(pair.component)
        if loss is None or loss.pair is not pair:
            return False

        def again(at: float) -> None:
            generation.checklist.wait(pair)
            generation.checklist.wake(at)

        wait = _RETRY_INTERVAL * self._context.rng.uniform(0.8, 1.2)
        loss.retry = self._context.timers.set(now + wait, again)
        return True

    def regained(self, generation: Generation, nomination: Nomination, pair: Pair, now: float) -> bool:
        """A check succeeded: if it mends or replaces a selected connection, use it, and return True."""
        selected = nomination.selected.get(pair.component)
        if selected is None or (selected is pair and pair.component not in self._losses):
            return False
        if not _same_ends(selected, pair):
            return False
        self._forget(pair.component)
        pair.nominating = False
        if selected is not pair:
            pair.nominated = True
            nomination.selected[pair.component] = nomination.used[pair.component] = pair
            for loser in generation.checklist.conclude(pair.component, pair):
                self._drop(generation, loser, Verdict.SUPERSEDED, now)
        self._usage.use(generation, pair, now)
        return True

    def may_replace(self, selected: Pair, check: InboundCheck, now: float) -> bool:  # noqa: ARG002 - as all inputs
        """Whether a check on another connection may belong to the selected path, reopened by the peer."""
        if check.stream is None or check.base is not selected.base or check.source.host != selected.remote.address.host:
            return False
        return selected.component in self._losses or self._concluded

    def stop(self, generation: Generation) -> None:
        """The generation's losses are no longer mended."""
        for component, loss in list(self._losses.items()):
            if loss.generation is generation:
                self._forget(component)
        self._concluded = False

    def _forget(self, component: int) -> None:
        loss = self._losses.pop(component, None)
        if loss is not None:
            loss.stop()


def _same_ends(selected: Pair, pair: Pair) -> bool:
    return pair is selected or (pair.base is selected.base and pair.remote.address.host == selected.remote.address.host)
