"""Planted faults: each patches the core in memory, and the properties must catch it.

They tell whether the simulator would notice. A mutant that survives is a property that is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeAlias
from unittest.mock import patch

from candidates import pairing
from candidates.candidate import CandidateType, TcpType, Transport
from ice_tcp import framing
from ice_tcp.core import binding, checklist, consent, generation, nomination, pacing, paths, recovery, roles, session
from ice_tcp.core import transaction as transactions
from ice_tcp.core.commands import Failure
from ice_tcp.core.events import PairState
from ice_tcp.core.verdicts import Verdict
from ice_tcp.datapath import stream as stream_paths

Mutant: TypeAlias = Callable[[], AbstractContextManager[object]]

MUTANTS: dict[str, Mutant] = {}
"""By name: what to enter to plant the fault."""


def mutant_into(mutants: dict[str, Mutant]) -> Callable[[Callable[[], Iterator[None]]], None]:
    """A decorator that registers a fault by the name of the function that plants it."""

    def register(function: Callable[[], Iterator[None]]) -> None:
        mutants[function.__name__.removeprefix("_").replace("_", "-")] = contextmanager(function)

    return register


def replace_into(mutants: dict[str, Mutant]) -> Callable[[str, object, str, object], None]:
    """Registers a mutant that replaces one attribute."""

    def register(name: str, owner: object, attribute: str, replacement: object) -> None:
        mutants[name] = lambda: patch.object(owner, attribute, replacement)

    return register


_mutant = mutant_into(MUTANTS)
_replace = replace_into(MUTANTS)


def original(owner: object, attribute: str) -> Any:
    """What a mutant wraps; the attribute may well be private."""
    return getattr(owner, attribute)


def nothing(*_args: Any, **_named: Any) -> None:
    """Instead of a method: do nothing."""


def always(value: object) -> Callable[..., object]:
    return lambda *_args, **_named: value


# Roles and nomination

_replace("no-role-switch", session.Session, "switch_role", nothing)
_replace("never-nominates", nomination.Nomination, "consider", nothing)
_replace("use-candidate-ignored", nomination.Nomination, "requested", nothing)
_replace("losers-never-closed", session.Session, "_release_losers", nothing)


_replace("nobody-gives-in", roles.Roles, "keeps_role_against", always(True))


@_mutant
def _nominates_twice() -> Iterator[None]:
    def consider(self: Any, component: int, now: float) -> None:
        if self._roles.controlling:
            for pair in list(self._pairs(component)):
                if pair.state is PairState.SUCCEEDED and not pair.nominating and not pair.nominated:
                    self._nominate(pair, now)

    with patch.object(nomination.Nomination, "consider", consider):
        yield


# Pairs and checks

_replace(
    "wrong-pairing-table",
    pairing,
    "PAIRABLE",
    {TcpType.SO: TcpType.PASSIVE, TcpType.ACTIVE: TcpType.SO, TcpType.PASSIVE: TcpType.ACTIVE},
)
_replace("so-never-pairs", pairing, "PAIRABLE", {**pairing.PAIRABLE, TcpType.SO: None})
_replace("triggered-checks-not-sent", checklist.CheckList, "trigger", nothing)
_replace("never-thaws", checklist.CheckList, "_thaw", nothing)


@_mutant
def _peer_reflexive_remote_not_learned() -> Iterator[None]:
    def find(self: Any, base: Any, source: Any, *_rest: Any) -> Any:
        return self.find_remote(base, source)

    with patch.object(generation.Generation, "learn_remote", find):
        yield


@_mutant
def _trickled_candidates_not_paired() -> Iterator[None]:
    pair = original(generation.Generation, "_pair")

    def only_before_the_start(self: Any, local: Any, remote: Any, now: float) -> None:
        if not self.checklist.running:
            pair(self, local, remote, now)

    with patch.object(generation.Generation, "_pair", only_before_the_start):
        yield


@_mutant
def _concluded_components_get_new_pairs() -> Iterator[None]:
    conclude = checklist.CheckList.conclude

    def forgetful(self: Any, component: int, keep: Any) -> Any:
        losers = conclude(self, component, keep)
        self.concluded.discard(component)
        return losers

    with patch.object(checklist.CheckList, "conclude", forgetful):
        yield


# Pace and patience


@_mutant
def _no_pacing() -> Iterator[None]:
    with (
        patch.object(pacing.Pacer, "reserve", lambda _pacer, now: now),
        patch.object(pacing.Pacer, "next_at", lambda _pacer, now: now),
        patch.object(checklist.CheckList, "ta", property(always(0.0), nothing), create=True),
    ):
        yield


_replace("pacer-not-shared", pacing.Pacer, "next_at", lambda _pacer, now: now)


@_mutant
def _pac_timer_ignored() -> Iterator[None]:
    judge = original(session.Session, "_judge")

    def impatient(self: Any, now: float) -> None:
        self._patience = None
        judge(self, now)

    with patch.object(session.Session, "_judge", impatient):
        yield


# Connections


@_mutant
def _unbounded_redial() -> Iterator[None]:
    def at_once(self: Any, dial: Any, failure: Failure, now: float) -> float | None:
        return 0.0 if dial.base.tcptype is TcpType.SO and now < dial.deadline else None

    with patch.object(paths.Connections, "_redial_after", at_once):
        yield


_replace("no-redial", paths.Connections, "_redial_after", always(None))
_replace(
    "unlimited-connects", paths.Connections, "may_dial", lambda self, base, remote: (base, remote) not in self._dials
)
_replace("so-from-any-port", paths.Base, "listener", property(always(None)))


@_mutant
def _no_accept_wins() -> Iterator[None]:
    accepted = paths.Connections.accepted

    def refuses(self: Any, base: Any, remote: Any, now: float) -> Any:
        return None if base.tcptype is TcpType.SO else accepted(self, base, remote, now)

    with patch.object(paths.Connections, "accepted", refuses):
        yield


@_mutant
def _retransmission_on_tcp() -> Iterator[None]:
    def send(self: Any, transaction: Any, now: float) -> None:
        self._transmit(transaction, now)
        wait = transaction.rto * 2 ** (transaction.requests_sent - 1)
        then = self._send if transaction.requests_sent < 7 else self._give_up
        transaction.timer = self._context.timers.set(now + wait, lambda at: then(transaction, at))

    with patch.object(transactions.Transactions, "_send", send):
        yield


_replace("lost-connection-not-reopened", recovery.Recovery, "lost", nothing)
_replace("dial-not-abandoned", paths.Connections, "cancel", nothing)

# Consent, restart, data


_replace("consent-dropped", consent.Consent, "start", nothing)
_replace("consent-never-renewed", consent.Consent, "_answered", nothing)


@_mutant
def _answers_only_before_conclusion() -> Iterator[None]:
    request = original(binding.Binding, "_request")

    def deaf(self: Any, message: Any, base: Any, path: Any, *rest: Any) -> None:
        if not self._checked.usage.paths():
            request(self, message, base, path, *rest)

    with patch.object(binding.Binding, "_request", deaf):
        yield


@_mutant
def _old_generation_dropped_at_restart() -> Iterator[None]:
    restart = session.Session.restart

    def careless(self: Any, addresses: Any, servers: Any, now: float) -> None:
        for stream in self.connections:
            self.connections.close(stream, Verdict.SUPERSEDED, now)
        for component in range(1, self._components + 1):
            self.usage.lose(component, Verdict.SUPERSEDED)
        restart(self, addresses, servers, now)

    with patch.object(session.Session, "restart", careless):
        yield


@_mutant
def _old_credentials_refused_at_restart() -> Iterator[None]:
    def current_only(self: Any, ufrag: str) -> Any:
        return self.current if self.current.local.ufrag == ufrag else None

    with patch.object(session.Session, "generation_of", current_only):
        yield


@_mutant
def _streams_left_open_at_close() -> Iterator[None]:
    close = session.Session.close

    def sloppy(self: Any, now: float) -> None:
        with patch.object(paths.Connections, "close", nothing):
            close(self, now)

    with patch.object(session.Session, "close", sloppy):
        yield


@_mutant
def _early_data_lost() -> Iterator[None]:
    admit = stream_paths.StreamPath.admit

    def lose(self: stream_paths.StreamPath) -> list[bytes]:
        admit(self)
        return []

    with patch.object(stream_paths.StreamPath, "admit", lose):
        yield


@_mutant
def _length_field_taken_whole() -> Iterator[None]:
    feed = framing.FrameSplitter.feed

    def careless(self: framing.FrameSplitter, chunk: Any) -> list[bytes]:
        return feed(self, chunk) if len(chunk) > 1 or self.unfinished else []

    with patch.object(stream_paths, "FrameSplitter", type("Careless", (framing.FrameSplitter,), {"feed": careless})):
        yield


_replace(
    "stun-behind-data", stream_paths.StreamPath, "send_stun", lambda self, message: self._queue.put(message) or True
)


@_mutant
def _udp_never_used() -> Iterator[None]:
    refusal = pairing.refusal

    def refuse(local: Any, remote: Any) -> Any:
        return pairing.Refusal.TRANSPORT if local.transport is Transport.UDP else refusal(local, remote)

    with patch.object(generation, "refusal", refuse):
        yield


@_mutant
def _reflexive_candidates_ignored() -> Iterator[None]:
    refusal = pairing.refusal

    def refuse(local: Any, remote: Any) -> Any:
        return pairing.Refusal.ADDRESS if remote.type is CandidateType.SRFLX else refusal(local, remote)

    with patch.object(generation, "refusal", refuse):
        yield
