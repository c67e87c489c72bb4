"""The paths in use, consent on them, and the state of the session that follows from both."""

from __future__ import annotations

from ice_tcp.core.commands import Path, Use
from ice_tcp.core.consent import Consent, ConsentKeeper
from ice_tcp.core.context import Context
from ice_tcp.core.events import AgentState, PathSelected, SelectedPath, StateChanged
from ice_tcp.core.generation import Generation
from ice_tcp.core.pairs import Pair
from ice_tcp.core.transaction import Transactions
from ice_tcp.core.verdicts import Verdict

_FINAL = (AgentState.FAILED, AgentState.CLOSED)


class Usage:
    """By component: the pair whose path carries data, in whichever generation.

    Owns the session's state. CONNECTED and COMPLETED come from the paths in use, DISCONNECTED from a path that is
    lost or silent; FAILED and CLOSED are set from outside, and only ``begin`` leads out of FAILED.
    """

    __slots__ = ("_consents", "_context", "_in_doubt", "_keeper", "_transactions", "_used", "components", "state")

    def __init__(self, context: Context, transactions: Transactions, components: int, keeper: ConsentKeeper) -> None:
        self._context = context
        self._transactions = transactions
        self.components = components
        """How many must have a path."""
        self._keeper = keeper
        self._used: dict[int, SelectedPath] = {}
        self._consents: dict[int, Consent] = {}
        self._in_doubt: dict[int, Verdict] = {}
        self.state = AgentState.NEW

    def path(self, component: int) -> SelectedPath | None:
        return self._used.get(component)

    def paths(self) -> tuple[Path, ...]:
        return tuple(used.path for used in self._used.values())

    def consent(self, component: int) -> Consent | None:
        return self._consents.get(component)

    @property
    def carries_all(self) -> bool:
        """Every component has a path."""
        return len(self._used) >= self.components

    def use(self, generation: Generation, pair: Pair, now: float) -> None:
        """Send the component's data on the pair's path."""
        path = pair.path
        assert path is not None
        component = pair.component
        before = self._used.get(component)
        local = pair.seen or pair.local.candidate
        selected = SelectedPath(component, local, pair.remote, path, pair.nominated, generation.number)
        if selected == before:
            return
        self._used[component] = selected
        self._in_doubt.pop(component, None)
        if before is None or before.path != path:
            if pair.base.relay is not None:
                pair.base.relay.use(pair.remote.address, now)
            self._context.commands.append(Use(component, path))
        consent = self._consents.get(component)
        if consent is None or consent.path != path or consent.pair is not pair:
            if consent is not None:
                consent.stop()
            consent = Consent(self._context, self._transactions, self._keeper, generation, pair, path)
            self._consents[component] = consent
            consent.start(now)
        self._context.events.append(PathSelected(selected))
        self.update()

    def lose(self, component: int, verdict: Verdict) -> None:
        """The component's path is gone: nothing more may be sent on it."""
        if component not in self._used:
            return
        del self._used[component]
        self._consents.pop(component).stop()
        self._context.commands.append(Use(component, None))
        self._in_doubt[component] = verdict
        self.update()

    def doubt(self, component: int, verdict: Verdict) -> None:
        """The component's path is silent."""
        self._in_doubt[component] = verdict
        self.update()

    def trust(self, component: int) -> None:
        """The component's path has been heard of again."""
        self._in_doubt.pop(component, None)
        self.update()

    def update(self) -> None:
        """Draw the state from the paths in use."""
        if self.state in _FINAL or self.state is AgentState.NEW:
            return
        if self._in_doubt:
            self.enter(AgentState.DISCONNECTED, next(iter(self._in_doubt.values())))
        elif not self.carries_all:
            self.enter(AgentState.CHECKING)
        elif all(used.nominated for used in self._used.values()):
            self.enter(AgentState.COMPLETED)
        else:
            self.enter(AgentState.CONNECTED)

    def begin(self) -> None:
        """Checks have begun, for the first time or once more."""
        if self.state in (AgentState.NEW, AgentState.FAILED):
            self.enter(AgentState.CHECKING)
        if not self._used:
            self._in_doubt.clear()
        self.update()

    def end(self, state: AgentState, verdict: Verdict | None) -> None:
        """FAILED or CLOSED: no path is used any more."""
        for component in list(self._used):
            del self._used[component]
            self._consents.pop(component).stop()
            self._context.commands.append(Use(component, None))
        self._in_doubt.clear()
        self.enter(state, verdict)

    def enter(self, state: AgentState, verdict: Verdict | None = None) -> None:
        if state is not self.state:
            self.state = state
            self._context.events.append(StateChanged(state, verdict))
