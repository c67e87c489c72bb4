"""One ICE session without its inputs and outputs: composes the machines and carries word between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from candidates.candidate import Candidate, InterfaceAddress, Transport, TransportAddress
from candidates.pairing import refusal
from candidates.parameters import IceParameters
from ice_tcp.core.binding import Binding, InboundCheck
from ice_tcp.core.checks import Checks
from ice_tcp.core.commands import Admit, Path, RelayPath, StreamId, UdpPath
from ice_tcp.core.context import Context
from ice_tcp.core.events import (
    AgentState,
    GatheringDone,
    LocalCandidateFound,
    PairState,
    Restarted,
    RestartFailed,
    Role,
)
from ice_tcp.core.gather import Gathering
from ice_tcp.core.generation import Generation, peer_reflexive
from ice_tcp.core.nomination import Nomination
from ice_tcp.core.pairs import LocalCandidate, Pair, key_of
from ice_tcp.core.paths import Base, Connections, Stream
from ice_tcp.core.recovery import Recovery
from ice_tcp.core.roles import Roles
from ice_tcp.core.servers import Server
from ice_tcp.core.timers import Timer
from ice_tcp.core.trace import CandidateIgnored, DropReason, LocalCandidateKept, MessageDropped
from ice_tcp.core.transaction import Transactions
from ice_tcp.core.usage import Usage
from ice_tcp.core.verdicts import Verdict


class Session:
    """What the machines of one agent tell each other, and the generations they work in.

    ``current`` is the generation of now; ``previous`` keeps its path while a restart looks for a new one.
    """

    __slots__ = (
        "_authenticated",
        "_awaits_end",
        "_checks",
        "_components",
        "_context",
        "_early",
        "_nominations",
        "_patience",
        "_recovery",
        "_release",
        "binding",
        "connections",
        "current",
        "gathering",
        "previous",
        "roles",
        "started",
        "transactions",
        "usage",
    )

    def __init__(
        self,
        context: Context,
        role: Role,
        components: int,
        credentials: tuple[str, str] | None = None,
        *,
        awaits_end: bool = False,
    ) -> None:
        self._context = context
        self._components = components
        self._awaits_end = awaits_end
        self._patience: Timer | None = None
        self._release: Timer | None = None
        self._authenticated: set[Path] = set()
        self._early: list[tuple[Generation, InboundCheck]] = []
        self._nominations: dict[Generation, Nomination] = {}
        self.started = False
        self.roles = Roles(context, role)
        self.transactions = Transactions(context)
        self.connections = Connections(context, self.stream_ended, self._open_fresh_port)
        self._checks = Checks(context, self.roles, self.transactions, self.connections, self)
        self.binding = Binding(context, self.roles, self.transactions, self.generation_of, self)
        self.gathering = Gathering(context, components, self.roles, self, self._candidate_found, self._gathering_done)
        self.usage = Usage(context, self.transactions, components, self)
        self._recovery = Recovery(context, self.usage, self._path_given_up, self._drop)
        self.previous: Generation | None = None
        self.current = self._new_generation(0, credentials)

    # -- generations

    def generations(self) -> list[Generation]:
        return [self.current] if self.previous is None else [self.current, self.previous]

    def generation_of(self, ufrag: str) -> Generation | None:
        """The generation that answers to a username fragment; a failed one does no more."""
        return next((each for each in self.generations() if each.local.ufrag == ufrag and not each.failed), None)

    def restart(
        self, addresses: Sequence[InterfaceAddress] | None, servers: Sequence[Server] | None, now: float
    ) -> None:
        """Begin a new generation beside, or, without a path, instead of the current one (RFC 8445 s9)."""
        old = self.current
        if self.usage.paths() and self._nominations[old].used:
            if self.previous is not None:
                self._retire(self.previous)
            self.previous = old
            self._quiet(old)
        else:
            self._retire(old)
        self._stop_timers()
        self.current = self._new_generation(old.number + 1)
        self._context.events.append(Restarted(self.current.local, self.current.number))
        if self.started:
            self.usage.begin()
        if addresses is not None or self.gathering.started:
            self.gathering.start(addresses, servers, now)

    @property
    def components(self) -> int:
        """As many as both sides have, once the peer has told all its candidates (RFC 8445 s6.1.2.2)."""
        generation = self.current
        theirs = [candidate.component for candidate in generation.remote_candidates.values()]
        return min(self._components, max(theirs)) if generation.remote_done and theirs else self._components

    def remote_ended(self, now: float) -> None:
        """The peer has no more candidates in this generation."""
        self.current.remote_done = True
        self.usage.components = self.components
        self.usage.update()
        if self.components < self._components and self._is_concluded():
            self._release_at(now, now + self._context.policy.timeouts.patience)
        self.settle(now)

    def set_remote(self, parameters: IceParameters, now: float) -> None:
        """The peer's parameters for the current generation, and what waited for them."""
        generation = self.current
        generation.set_remote(parameters)
        if parameters.lite is not generation.local.lite:
            self._take_role(Role.CONTROLLING if parameters.lite else Role.CONTROLLED, now)
        if generation.both_lite:
            generation.pair_all(now)
        if self.started:
            self.begin_checks(now)

    def act_on_early_checks(self, now: float) -> None:
        """The peer's checks that came before its parameters (RFC 8445 s7.3)."""
        early, self._early = self._early, []
        for owner, check in early:
            if owner is self.current:
                self.checked(owner, check, now)

    def close(self, now: float) -> None:
        """Close everything; only allocations live on, while they are being deleted."""
        for generation in self.generations():
            self._retire(generation)
        for stream in self.connections:
            self.connections.close(stream, Verdict.CLOSED, now)
        self._stop_timers()
        self.gathering.close(now)
        self.usage.end(AgentState.CLOSED, None)
        self.transactions.clear()

    def socket_lost(self, base: Base, verdict: Verdict, now: float) -> None:
        """A base is gone, and its candidates with it. Connections that it opened or accepted live on."""
        for generation in self.generations():
            generation.local_candidates = [each for each in generation.local_candidates if each.base is not base]
            for pair in list(generation.checklist):
                if pair.base is base and pair.stream is None:
                    self._lose_pair(generation, pair, verdict, now)

    def begin_checks(self, now: float) -> None:
        generation = self.current
        if generation.unchecked or generation.failed:  # what failed is left by a restart only
            return
        self.usage.begin()
        if self._patience is not None:
            self._patience.cancel()
        self._patience = self._context.timers.set(now + self._context.policy.timeouts.patience, self._lose_patience)
        if not generation.local.lite:
            generation.checklist.start(now)
        self.settle(now)

    def settle(self, now: float) -> None:
        """Something ended: nominate, fail, or, between lite agents, choose."""
        generation = self.current
        if generation.both_lite and generation.gathered and generation.remote_done and self.started:
            self._choose_as_lite(generation, now)
        self._nominations[generation].consider_all(now)
        self._judge(now)

    def _take_role(self, role: Role, now: float) -> None:
        """With one lite agent, the full one controls (RFC 8445 s6.1.1)."""
        if self.roles.role is not role:
            self.switch_role(now)

    def set_role(self, role: Role, now: float) -> None:
        """The application knows better than when it made the agent."""
        if self.roles.role is not role:
            self.roles.role = role
            self._rerank(now)

    # -- without checks

    def select(self, local: Candidate, remote: Candidate, now: float) -> None:
        """Use a pair towards a peer that does not speak ICE."""
        generation = self.current
        if generation.checklist.running:
            raise RuntimeError("checks have begun, and select the pair")
        known = next((each for each in generation.local_candidates if each.candidate == local), None)
        if known is None:
            raise ValueError("the local candidate is not one of this generation")
        if local.transport is not Transport.UDP or refusal(local, remote) is not None:
            raise ValueError("without checks only UDP candidates of one family and component pair")
        pair = generation.triggered_pair(known.base, remote, now)
        path = pair.path if pair is not None else None
        if pair is None or path is None:
            raise ValueError("there is no room for the pair")
        generation.unchecked = self.started = True
        self.usage.begin()
        self._remote_known(remote, now)
        self.authenticated(path)
        generation.checklist.succeed(pair, now)
        pair.nominated = True
        self._nominations[generation].selected.pop(pair.component, None)
        self._nominations[generation].valid(pair, now)

    # -- checks, ours and the peer's

    def is_authenticated(self, path: Path) -> bool:
        return path in self._authenticated

    def authenticated(self, path: Path) -> None:
        """A message that only the peer can have sent came on this path."""
        limits = self._context.policy.limits
        if path in self._authenticated or len(self._authenticated) >= limits.remote_candidates + limits.peer_reflexive:
            return  # one who has our password may send from any number of sources
        self._authenticated.add(path)
        self._context.commands.append(Admit(path))

    def switch_role(self, now: float) -> None:
        """A role conflict was resolved against us."""
        self.roles.switch(now)
        self._rerank(now)

    def _rerank(self, now: float) -> None:
        for generation in self.generations():
            for pair in generation.checklist:
                pair.nominating = False
            generation.checklist.rerank(controlling=self.roles.controlling)
            self._nominations[generation].consider_all(now)

    def permits(self, base: Base, source: TransportAddress) -> bool:
        """Binding: whether the policy lets this address be a remote candidate."""
        rules = self._context.policy.remote
        if not (rules.allow or rules.deny) or self.current.find_remote(base, source) is not None:
            return True
        return self._context.policy.keeps_remote(peer_reflexive(base, source, "prflx", 1)).kept

    def checked(self, generation: Generation, check: InboundCheck, now: float) -> None:
        """The peer checked a path (RFC 8445 s7.3.1)."""
        consent = self.usage.consent(check.base.component)
        if consent is not None and consent.path == check.path and check.stream is not None:
            consent.heard_request(now)
        if generation.remote is None:
            # RFC 8445 s7.3: answered already, and acted upon once the peer's parameters are known.
            if len(self._early) < self._context.policy.limits.peer_reflexive:
                self._early.append((generation, check))
                if check.stream is not None:
                    check.stream.keep()
            return
        if check.stream is not None and self.connections.find(check.stream.id) is None:
            return
        pair = self._pair_of(generation, check, now)
        if pair is None:
            return
        pair.requests_received += 1
        pair.responses_sent += 1
        if check.stream is not None and pair.stream is not check.stream:
            self._checks.abandon(pair)
            pair.stream = check.stream
            check.stream.keep()
        if generation.local.lite:
            self._accept_as_lite(generation, pair, check, now)
            return
        if check.use_candidate:
            self._nominations[generation].requested(pair, now)
        if pair.state is PairState.SUCCEEDED and self._recovery.awaits(pair):
            generation.checklist.wait(pair)
        if self._wants_check(generation, pair, now):
            self._checks.cancel(pair)
            generation.checklist.trigger(pair, now, at_once=True)

    def check_succeeded(self, generation: Generation, pair: Pair, now: float) -> None:
        if generation not in self._nominations:
            return
        if pair.stream is not None:
            pair.stream.keep()
        nomination = self._nominations[generation]
        if self._recovery.regained(generation, nomination, pair, now):
            return
        nomination.valid(pair, now)

    def check_failed(self, generation: Generation, pair: Pair, now: float) -> None:
        if generation not in self._nominations:
            return
        if self._recovery.retry(generation, pair, now):
            return
        self._nominations[generation].failed(pair, now)
        self._usage_follows(generation, pair, now)
        self.settle(now)

    # -- nomination and consent

    def use(self, generation: Generation, pair: Pair, now: float) -> None:
        """Nomination: data goes this way from now on."""
        if self._may_use(generation, pair.component):
            self.usage.use(generation, pair, now)

    def conclude(self, generation: Generation, pair: Pair, now: float) -> None:
        """Nomination: the pair is the nominated one of its component (RFC 8445 s8.1.2)."""
        for loser in generation.checklist.conclude(pair.component, pair):
            self._checks.abandon(loser)
        if generation is not self.current:
            return
        self.usage.use(generation, pair, now)
        if self._is_concluded():
            self._release_at(now, now + self._context.policy.timeouts.patience)

    def _is_concluded(self) -> bool:
        return len(self._nominations[self.current].selected) >= self.components

    def request(self, generation: Generation, pair: Pair, transaction_id: bytes, *, nominating: bool) -> bytes:
        """Consent: the request to send."""
        return self._checks.request(generation, pair, transaction_id, nominating=nominating)

    def path_silent(self, component: int, now: float) -> None:
        """Consent: no answer for some time. It may be the relay that is gone, not the peer."""
        self.usage.doubt(component, Verdict.NO_RESPONSE)
        for _, pair in self._carriers(component):
            self.gathering.servers.relays.probe(pair.base, now)

    def path_heard(self, component: int, now: float) -> None:  # noqa: ARG002 - the keeper's protocol
        self.usage.trust(component)

    def consent_lost(self, component: int, verdict: Verdict, now: float) -> None:
        """RFC 7675 s5.1: nothing more is sent on this path."""
        for generation, pair in self._carriers(component):
            if not self.gathering.servers.relays.give_up_doubtful(pair.base, now):
                self._lose_pair(generation, pair, verdict, now)

    def _carriers(self, component: int) -> list[tuple[Generation, Pair]]:
        """The pair whose path carries the component's data, with its generation."""
        used = self.usage.path(component)
        return [
            (generation, pair)
            for generation in self.generations()
            for pair in generation.checklist
            if used is not None and pair.path == used.path and generation.number == used.generation
        ]

    # -- relays

    def message_relayed(self, base: Base, path: RelayPath, data: bytes, now: float) -> None:
        """A STUN message of the peer came through a relay."""
        if self.usage.state is not AgentState.CLOSED:
            self.binding.received(data, base, path, path.remote, None, now)

    def wants_peer(self, base: Base, peer: TransportAddress) -> bool:
        """Whether a connection of this peer through a relay is worth one to the server."""
        wanted = self.usage.state not in (AgentState.FAILED, AgentState.CLOSED)
        return wanted and self.connections.has_room() and self.permits(base, peer)

    def peer_connected(self, base: Base, peer: TransportAddress, now: float) -> StreamId | None:
        stream = self.connections.accepted(base, peer, now)
        if stream is None:
            return None
        self._context.timers.set(now, lambda at: self._ask_relayed_peer(stream, at))
        return stream.id

    def dial_succeeded(self, stream: StreamId, local: TransportAddress, now: float) -> None:
        self.connections.connected(stream, local, now)

    def dial_failed(self, stream: StreamId, verdict: Verdict, now: float) -> None:
        self.connections.relay_failed(stream, verdict, now)

    def _ask_relayed_peer(self, stream: Stream, now: float) -> None:
        """Ask who comes from a relay of the peer before it asks us (docs/deviations.md)."""
        generation = self.current
        priority = generation.priority_of_relay(stream.remote.host, stream.base)
        selected = self._nominations[generation].selected
        if priority is None or generation.remote_key is None or stream.base.component in selected:
            return
        remote = generation.learn_remote(stream.base, stream.remote, priority, now)
        pair = generation.triggered_pair(stream.base, remote, now) if remote is not None else None
        if pair is not None and pair.stream is None and self.connections.find(stream.id) is stream:
            pair.stream = stream
            generation.checklist.trigger(pair, now, at_once=False)

    def permissions_changed(self, now: float) -> None:
        """Pairs that waited for a permission may be checked."""
        for generation in self.generations():
            generation.checklist.wake(now)

    def peer_refused(self, bases: tuple[Base, ...], host: str, now: float) -> None:
        """A TURN server relays nothing to this address of the peer."""
        for generation in self.generations():
            for pair in list(generation.checklist):
                if pair.base in bases and pair.remote.address.host == host and pair.state is not PairState.FAILED:
                    self._lose_pair(generation, pair, Verdict.NO_PERMISSION, now)

    def relay_lost(self, bases: tuple[Base, ...], now: float) -> None:
        """A relay is gone. Where it carried data that no other pair can carry, restart (RFC 6544 s11.2)."""
        relied_on = any(each.base in bases for each in self.current.local_candidates)
        was_in_use = False
        for generation in self.generations():
            generation.local_candidates = [each for each in generation.local_candidates if each.base not in bases]
            for pair in [pair for pair in generation.checklist if pair.base in bases]:
                was_in_use |= self._lose_relayed(generation, pair, now)
        if relied_on and not self.current.gathered:
            self.gathering.servers.relays.ask_again(now)
        elif relied_on and was_in_use:
            self.restart(None, None, now)
            self._patience = self._context.timers.set(
                now + self._context.policy.timeouts.patience, self._lose_patience_with_peer
            )
            return
        self.settle(now)

    def _lose_relayed(self, generation: Generation, pair: Pair, now: float) -> bool:
        """As `_lose_pair`, but nothing is the end; returns whether the component has no path now."""
        nomination, component = self._nominations[generation], pair.component
        had_path = self.usage.path(component) is not None or self._recovery.awaits(pair)
        self._drop(generation, pair, Verdict.RELAY_LOST, now)
        if pair.state is not PairState.FAILED:
            generation.checklist.fail(pair, Verdict.RELAY_LOST, now)
        nomination.lost(pair, now)
        self._usage_follows(generation, pair, now)
        return had_path and self.usage.path(component) is None

    def _lose_patience_with_peer(self, now: float) -> None:
        """The peer did not answer the restart."""
        self._patience = None
        if self.current.remote is None:
            self._fail(Verdict.RELAY_LOST, now)

    # -- candidates

    def _candidate_found(self, base: Base, candidate: Candidate, now: float) -> None:
        generation = self.current
        ruling = self._context.policy.keeps_local(candidate)
        if not ruling.kept and not self._replaces_tcp(base):
            self.ignore(candidate, ruling.rule, now)
            return
        generation.add_local(LocalCandidate(candidate, base, generation.check_priority(base)), now)
        if base.is_relayed:
            for each in self.generations():
                for remote in each.remote_candidates.values():
                    self._remote_known(remote, now)
        ruling = self._context.policy.advertises(candidate)
        told = ruling.kept and not generation.gathered
        self._context.note(now, LocalCandidateKept(candidate, told, ruling.rule))
        if told:
            if generation.number:
                # Tells the peer, where candidates and parameters may overtake each other (RFC 8839 s5.1).
                candidate = replace(candidate, generation=generation.number, ufrag=generation.local.ufrag)
            self._context.events.append(LocalCandidateFound(candidate, generation.number))

    def _replaces_tcp(self, base: Base) -> bool:
        """A relay of UDP stands in for one of TCP that the server does not have (`Relays`)."""
        return base.relay is not None and Transport.UDP not in self._context.policy.transports

    def _leans_on_relay(self, pair: Pair) -> bool:
        """Whether our NATs map by destination, so that a direct pair of the component is unlikely (RFC 4787 s4.1)."""
        generation, servers = self.current, self.gathering.servers
        hoped_for = [
            each.base
            for each in generation.checklist
            if each.component == pair.component and each.alive and not each.is_relayed
        ]
        ours = [each.base for each in generation.local_candidates if not each.base.is_relayed]
        return all(servers.is_hopeless(base) for base in hoped_for or ours)

    def _remote_known(self, candidate: Candidate, now: float) -> None:
        """Relays let through whom we know."""
        self.gathering.servers.relays.permit(candidate, now)

    def _gathering_done(self, now: float) -> None:
        if not self.current.gathered:
            self.current.gathered = True
            self._context.events.append(GatheringDone(self.current.number))
            self.settle(now)

    def _open_fresh_port(self, base: Base, now: float) -> None:  # noqa: ARG002 - the callback's shape
        self.gathering.open_sibling(base)

    def ignore(self, candidate: Candidate, rule: str, now: float) -> None:
        self._context.note(now, CandidateIgnored(candidate, rule))

    # -- inside

    def _new_generation(self, number: int, credentials: tuple[str, str] | None = None) -> Generation:
        generation = Generation(
            *(self._context, self.roles, number, self._checks.perform, self._checks.startable, self._remote_known),
            credentials,
        )
        self._nominations[generation] = Nomination(self._context, self.roles, generation, self, self._leans_on_relay)
        return generation

    def _pair_of(self, generation: Generation, check: InboundCheck, now: float) -> Pair | None:
        """The pair of an inbound check; once its component has concluded, only a known one, or a reopened path's."""
        base = check.base
        nomination = self._nominations[generation]
        selected = nomination.selected.get(base.component)
        if selected is not None and not self._recovery.may_replace(selected, check, now):
            known = generation.find_remote(base, check.source)
            return generation.checklist.get(key_of(base, known)) if known is not None else None
        remote = generation.learn_remote(base, check.source, check.priority, now)
        pair = generation.triggered_pair(base, remote, now) if remote is not None else None
        if pair is None:
            self._context.note(
                now, MessageDropped(check.path, DropReason.LIMIT, "limits.peer_reflexive or limits.pairs")
            )
        return pair

    def _wants_check(self, generation: Generation, pair: Pair, now: float) -> bool:
        """Whether a triggered check goes out (RFC 8445 s7.3.1.4).

        Not where one is on its way that nothing can have swallowed: on the same connection, or within one Ta. A relay
        swallows what comes before it has the permission, which its side may ask for only now.
        """
        if pair.state is PairState.SUCCEEDED:
            return False
        if pair.state is not PairState.IN_PROGRESS or pair.transaction is None:
            return True
        return not pair.is_tcp and (pair.is_relayed or now - pair.transaction.last_sent_at >= generation.checklist.ta)

    def _accept_as_lite(self, generation: Generation, pair: Pair, check: InboundCheck, now: float) -> None:
        """RFC 8445 s7.3.2: the peer's check with USE-CANDIDATE makes a valid and nominated pair.

        On a connection in place of a lost one any check does: the pair was nominated already.
        """
        if not check.use_candidate and not self._recovery.is_lost(pair.component):
            return
        if pair.state is not PairState.SUCCEEDED:
            generation.checklist.succeed(pair, now)
        if not self._recovery.regained(generation, self._nominations[generation], pair, now):
            self._nominations[generation].requested(pair, now)

    def _choose_as_lite(self, generation: Generation, now: float) -> None:
        """RFC 8445 s8.2: nobody checks; each component takes its best pair."""
        for component in range(1, self._components + 1):
            best = next(
                (each for each in generation.checklist if each.component == component and not each.is_tcp), None
            )
            if best is not None and best.state is not PairState.SUCCEEDED:
                self.authenticated(UdpPath(best.base.socket, best.remote.address))
                generation.checklist.succeed(best, now)
                best.nominated = True
                self._nominations[generation].valid(best, now)

    def _may_use(self, generation: Generation, component: int) -> bool:
        """The old generation's path is left only for one of the new (RFC 8445 s9)."""
        used = self.usage.path(component)
        return used is None or used.generation <= generation.number

    def _usage_follows(self, generation: Generation, pair: Pair, now: float) -> None:
        """A pair failed: if data went that way and nomination knows no other, it goes the old way or nowhere."""
        component = pair.component
        used = self.usage.path(component)
        if used is None or used.generation != generation.number or component in self._nominations[generation].used:
            return
        old = self._nominations[self.previous].selected.get(component) if self.previous is not None else None
        if self.previous is not None and generation is not self.previous and old is not None and old.path is not None:
            # RFC 8445 s12.1: while a restart is under way, the previous selected pair is there to fall back on.
            self.usage.use(self.previous, old, now)
        else:
            self.usage.lose(component, pair.verdict or Verdict.OTHER)

    def stream_ended(self, stream: Stream, verdict: Verdict, now: float) -> None:
        """Connections: a connection is over."""
        self._authenticated.discard(stream.path)
        for generation in self.generations():
            for pair in list(generation.checklist):
                if pair.stream is stream:
                    if not self._checks.knocks_again(generation, pair, verdict, now):
                        self._lose_pair(generation, pair, verdict, now)
                elif verdict is Verdict.NOT_STUN and not stream.accepted and pair.remote.address == stream.remote:
                    # RFC 6544 s7.1: whatever is there, it is not the peer.
                    self._checks.abandon(pair)
                    generation.checklist.fail(pair, verdict, now)
                    self.check_failed(generation, pair, now)

    def _lose_pair(self, generation: Generation, pair: Pair, verdict: Verdict, now: float) -> None:
        """The pair's path is gone: win it back if it was selected, else give it up."""
        nomination = self._nominations[generation]
        self._drop(generation, pair, verdict, now)
        if nomination.selected.get(pair.component) is pair:
            if verdict is not Verdict.CONSENT_EXPIRED and pair.is_tcp:
                self._recovery.lost(generation, pair, verdict, now, nominate=self.roles.controlling)
                self.gathering.servers.relays.probe(pair.base, now)
            else:
                self._path_given_up(generation, pair, verdict, now)
            return
        if pair.is_tcp and not pair.dials:
            generation.checklist.remove(pair, verdict)
        elif pair.alive or pair.state is PairState.SUCCEEDED:
            generation.checklist.fail(pair, verdict, now)
        pair.verdict = verdict
        self.check_failed(generation, pair, now)

    def _drop(self, generation: Generation, pair: Pair, verdict: Verdict, now: float) -> None:
        """End what is under way for a pair, and its connection."""
        self._checks.abandon(pair)
        stream, pair.stream = pair.stream, None
        if stream is not None and self.connections.find(stream.id) is stream:
            self.connections.close(stream, verdict, now)
        if pair.is_tcp and not pair.dials:
            generation.forget_remote(pair.remote)

    def _path_given_up(self, generation: Generation, pair: Pair, verdict: Verdict, now: float) -> None:
        """The selected path cannot be had back: only a restart helps."""
        if generation is self.current:
            self._fail(verdict, now)
            return
        used = self.usage.path(pair.component)
        if used is not None and used.generation == generation.number:
            self.usage.lose(pair.component, verdict)
        self._retire(generation)
        if self.current.failed:
            self._fail(verdict, now)

    def _lose_patience(self, now: float) -> None:
        """RFC 8863 s4: the PAC timer ended, so failures may be believed."""
        self._patience = None
        self._judge(now)

    def _judge(self, now: float) -> None:
        """Fail, if a component has no pair left that could yet work, and patience is over or pointless."""
        generation = self.current
        if not self.started or generation.remote is None or generation.failed or generation.unchecked:
            return
        if self._awaits_end and not generation.remote_done:
            return
        hopeful = {pair.component for pair in generation.checklist if pair.alive or pair.state is PairState.SUCCEEDED}
        hopeful |= self._nominations[generation].selected.keys()  # a lost one of these is recovery's
        if len(hopeful) >= self.components or (self._patience is not None and not self._is_hopeless()):
            return
        self._fail(self._cause(), now)

    def _is_hopeless(self) -> bool:
        """No candidate can come any more, and nobody can reach us to be learned as peer reflexive."""
        generation = self.current
        reachable = any(base.handle is not None for base in self.gathering.bases) or any(self.gathering.servers.relays)
        return generation.gathered and generation.remote_done and not reachable

    def _cause(self) -> Verdict:
        generation = self.current
        if not generation.local_candidates:
            return Verdict.NO_LOCAL_CANDIDATES
        if not generation.remote_candidates:
            return Verdict.NO_REMOTE_CANDIDATES
        return Verdict.ALL_PAIRS_FAILED if len(generation.checklist) else Verdict.NO_PAIRS

    def _fail(self, verdict: Verdict, now: float) -> None:
        failed = self.current
        failed.failed = True
        self._quiet(failed)
        if self.previous is not None and self.usage.carries_all:
            self._context.events.append(RestartFailed(failed.number, verdict))
            return
        for generation in self.generations():
            self._quiet(generation)
        self.usage.end(AgentState.FAILED, verdict)
        for stream in self.connections:
            self.connections.close(stream, verdict, now)

    def _quiet(self, generation: Generation) -> None:
        """No new checks in a generation; it still answers."""
        generation.checklist.stop()
        self._nominations[generation].stop()
        self._recovery.stop(generation)
        for pair in generation.checklist:
            self._checks.abandon(pair)

    def _stop_timers(self) -> None:
        for timer in (self._release, self._patience):
            if timer is not None:
                timer.cancel()
        self._release = self._patience = None

    def _retire(self, generation: Generation) -> None:
        """Forget a generation, with the connections that only it used."""
        self._quiet(generation)
        if generation is self.previous:
            self.previous = None
        self._nominations.pop(generation, None)
        generation.checklist.clear()
        self._early = [(owner, check) for owner, check in self._early if owner is not generation]

    def _release_at(self, now: float, latest: float) -> None:
        """Free the losers after ``timeouts.linger``, but not before the peer has checked the selected paths too.

        A peer that does not know our parameters yet has nothing else than what the last generation selected.
        """

        def release(at: float) -> None:
            generation = self.current
            selected = self._nominations[generation].selected.values()
            lite = generation.remote is not None and generation.remote.lite
            if lite or at >= latest or all(pair.requests_received for pair in selected):
                self._release_losers(at)
            else:
                self._release_at(at, latest)

        self._release = self._context.timers.set(now + self._context.policy.timeouts.linger, release)

    def _release_losers(self, now: float) -> None:
        """RFC 8445 s8.3: some time after the conclusion, free what was not selected (RFC 6544 s8)."""
        self._release = None
        if self.previous is not None:
            self._retire(self.previous)
        kept = list(self._nominations[self.current].selected.values())
        for stream in self.connections:
            if all(pair.stream is not stream for pair in kept):
                self.connections.close(stream, Verdict.SUPERSEDED, now)
        self._authenticated.intersection_update(self.usage.paths())
        self.gathering.conclude({pair.base for pair in kept}, now)
        self.gathering.servers.relays.keep_only([(pair.base, pair.remote.address.host) for pair in kept], now)
        self._recovery.concluded(now)
