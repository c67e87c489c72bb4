"""The ICE agent without I/O: the only class of the core that a shell knows.

Call the inputs, then drain ``commands()`` and ``events()``, then arm a timer for ``next_timer()``. Instants are floats
in seconds on the caller's clock. Inputs from the network never raise; misuse by the caller raises ``RuntimeError`` or
``ValueError``.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from candidates.candidate import Candidate, InterfaceAddress, TransportAddress
from candidates.parameters import IceParameters
from candidates.policy import Policy
from ice_tcp.core.binding import Binding, InboundCheck
from ice_tcp.core.checks import Checks
from ice_tcp.core.commands import (
    Admit,
    Command,
    Failure,
    ListenerId,
    Path,
    SocketId,
    StreamId,
    TcpPath,
    UdpPath,
)
from ice_tcp.core.context import Context
from ice_tcp.core.events import (
    AgentState,
    Event,
    GatheringDone,
    LocalCandidateFound,
    PairState,
    Restarted,
    RestartFailed,
    Role,
    SelectedPath,
)
from ice_tcp.core.gather import Gathering
from ice_tcp.core.generation import Generation, peer_reflexive
from ice_tcp.core.nomination import Nomination
from ice_tcp.core.pacing import Pacer
from ice_tcp.core.pairs import LocalCandidate, Pair, PairStatistics, key_of
from ice_tcp.core.paths import Base, Connections, Stream
from ice_tcp.core.recovery import Recovery
from ice_tcp.core.roles import Roles
from ice_tcp.core.timers import Timer
from ice_tcp.core.trace import CandidateIgnored, DropReason, LocalCandidateKept, MessageDropped, TraceSink
from ice_tcp.core.transaction import Transactions
from ice_tcp.core.usage import Usage
from ice_tcp.core.verdicts import Verdict, verdict_of


class Agent:
    """One ICE session of ``components`` components.

    ``rng`` must be ``random.SystemRandom()`` outside of tests: credentials and transaction ids come from it
    (RFC 7675 s8). ``pacer`` is shared by all agents of the process. ``policy.lite`` makes a lite agent.
    """

    def __init__(
        self,
        role: Role,
        policy: Policy,
        *,
        rng: random.Random,
        pacer: Pacer,
        components: int = 1,
        trace: TraceSink | None = None,
    ) -> None:
        if not 1 <= components <= 256:
            raise ValueError(f"components {components} is not from 1 to 256")
        self._context = context = Context(policy, rng, pacer, trace)
        self._components = components
        self._roles = Roles(context, role)
        self._transactions = Transactions(context)
        self._connections = Connections(context, self._stream_ended, self._open_fresh_port)
        self._checks = Checks(context, self._roles, self._transactions, self._connections, self)
        self._binding = Binding(context, self._roles, self._transactions, self._generation_of, self)
        self._gathering = Gathering(context, components, self._candidate_found, self._gathering_done)
        self._usage = Usage(context, self._transactions, components, self)
        self._recovery = Recovery(context, self._usage, self._path_given_up)
        self._authenticated: set[Path] = set()
        self._early: list[tuple[Generation, InboundCheck]] = []
        self._strays: list[Candidate] = []
        self._nominations: dict[Generation, Nomination] = {}
        self._previous: Generation | None = None
        self._generation = self._new_generation(0)
        self._started = False
        self._patience: Timer | None = None
        self._release: Timer | None = None

    # -- what the application wants ------------------------------------------------------------------------------

    @property
    def role(self) -> Role:
        return self._roles.role

    @property
    def state(self) -> AgentState:
        return self._usage.state

    @property
    def generation(self) -> int:
        """The number of the current generation; 0 before any restart."""
        return self._generation.number

    @property
    def local_parameters(self) -> IceParameters:
        """What the peer needs to know of the current generation; then call ``set_remote_parameters`` with its own."""
        return self._generation.local

    @property
    def local_candidates(self) -> tuple[Candidate, ...]:
        return tuple(each.candidate for each in self._generation.local_candidates)

    @property
    def remote_candidates(self) -> tuple[Candidate, ...]:
        return tuple(self._generation.remote_candidates.values())

    def selected_path(self, component: int = 1) -> SelectedPath | None:
        """The path that carries the component's data now."""
        return self._usage.path(component)

    def pair_statistics(self) -> list[PairStatistics]:
        """Of every pair in the check lists, the current generation's first."""
        return [
            pair.statistics(generation.number) for generation in self._generations() for pair in generation.checklist
        ]

    def gather(self, addresses: Sequence[InterfaceAddress], now: float) -> None:
        """Open sockets on these addresses, as the policy allows, and find candidates.

        Events follow: LocalCandidateFound for each that the peer is to hear of, then GatheringDone.
        Raises RuntimeError if this generation gathers already.
        """
        self._check_open()
        if self._generation.gathered or self._gathering.bases:
            raise RuntimeError("this generation has gathered already: use restart()")
        self._gathering.start(addresses, now)

    def set_remote_parameters(self, parameters: IceParameters, now: float) -> None:
        """Take the peer's credentials. New ones after the first mean that the peer restarted, and so do we.

        In that case a ``Restarted`` event follows with what to send back.
        """
        self._check_open()
        known = [generation.remote for generation in self._generations()]
        if parameters in known:
            return
        if self._generation.remote is not None:
            self.restart(now)
        generation = self._generation
        generation.set_remote(parameters)
        if parameters.lite is not generation.local.lite:
            self._take_role(Role.CONTROLLING if parameters.lite else Role.CONTROLLED, now)
        if generation.both_lite:
            generation.pair_all(now)
        strays, self._strays = self._strays, []
        for candidate in strays:
            self.add_remote_candidate(candidate, now)
        if self._started:
            self._begin_checks(now)
        early, self._early = self._early, []
        for owner, check in early:
            if owner is generation:
                self.checked(owner, check, now)

    def add_remote_candidate(self, candidate: Candidate, now: float) -> None:
        """Take a candidate of the peer, now or at any time until ``end_of_candidates``. Unusable ones are traced."""
        self._check_open()
        generation = self._generation
        if self._is_stray(candidate):
            if len(self._strays) < self._context.policy.limits.remote_candidates:
                self._strays.append(candidate)
            return
        if generation.remote_done:
            self._ignore(candidate, "end-of-candidates (RFC 8838 s14)", now)
        elif candidate.component > self._components:
            self._ignore(candidate, "component", now)
        elif candidate.address.is_name:
            self._ignore(candidate, "name (RFC 8839 s5.1)", now)
        elif self._previous is not None and _ufrag_of(self._previous) == candidate.ufrag is not None:
            self._ignore(candidate, "previous generation", now)
        else:
            generation.add_remote(candidate, now)

    def end_of_candidates(self, now: float) -> None:
        """The peer has no more candidates in this generation (RFC 8838 s14)."""
        self._check_open()
        self._generation.remote_done = True
        self._settle(now)

    def start_checks(self, now: float) -> None:
        """Begin connectivity checks, at once or as soon as the peer's parameters are known."""
        self._check_open()
        if self._started:
            return
        self._started = True
        self._usage.begin()
        if self._generation.remote is not None:
            self._begin_checks(now)

    def restart(self, now: float, addresses: Sequence[InterfaceAddress] | None = None) -> None:
        """Begin a new generation (RFC 8445 s9); the old one keeps its path until the new one has its own.

        ``addresses`` are gathered from; None: those of last time. A Restarted event has the new parameters.
        """
        self._check_open()
        old = self._generation
        if self._usage.paths() and self._nominations[old].used:
            if self._previous is not None:
                self._retire(self._previous)
            self._previous = old
            self._quiet(old)
        else:
            self._retire(old)
        for timer in (self._release, self._patience):
            if timer is not None:
                timer.cancel()
        self._generation = self._new_generation(old.number + 1)
        self._context.events.append(Restarted(self._generation.local, self._generation.number))
        if self._started:
            self._usage.begin()
        self._gathering.start(addresses, now)

    def close(self, now: float) -> None:
        """End the session: everything is closed, nothing follows but the state CLOSED. More calls do nothing."""
        if self.state is AgentState.CLOSED:
            return
        for generation in self._generations():
            self._retire(generation)
        for stream in self._connections:
            self._connections.close(stream, Verdict.CLOSED, now)
        self._gathering.close(self._gathering.bases)
        self._usage.end(AgentState.CLOSED, None)
        self._context.timers.clear()

    # -- what the network did --------------------------------------------------------------------------------------

    def socket_opened(self, handle: SocketId | ListenerId, address: TransportAddress, now: float) -> None:
        """An OpenUdp or Listen succeeded; ``address`` is what it is bound to."""
        self._gathering.opened(handle, address, now)

    def socket_failed(self, handle: SocketId | ListenerId, failure: Failure, now: float) -> None:
        """An OpenUdp or Listen failed, or the socket or listener died."""
        base = self._gathering.base_of(handle)
        self._gathering.failed(handle, failure, now)
        if base is None:
            return
        verdict = verdict_of(failure)
        for generation in self._generations():
            generation.local_candidates = [each for each in generation.local_candidates if each.base is not base]
            for pair in list(generation.checklist):
                if pair.base is base and not pair.is_tcp:
                    self._lose_pair(generation, pair, verdict, now)

    def datagram_received(self, socket: SocketId, source: TransportAddress, data: bytes, now: float) -> None:
        """A STUN message came on a UDP socket."""
        base = self._gathering.base_of(socket)
        if base is not None and self.state is not AgentState.CLOSED:
            self._binding.received(data, base, UdpPath(socket, source), source, None, now)

    def stream_connected(self, stream: StreamId, local: TransportAddress, now: float) -> None:
        """A Connect succeeded; ``local`` is the connection's own end."""
        self._connections.connected(stream, local, now)

    def stream_accepted(self, listener: ListenerId, remote: TransportAddress, now: float) -> StreamId | None:
        """A listener accepted a connection. Returns its name, or None: close it, nobody wants it."""
        base = self._gathering.base_of(listener)
        if base is None or self.state is AgentState.CLOSED or remote == base.address:
            return None
        stream = self._connections.accepted(base, remote, now)
        return stream.id if stream is not None else None

    def stream_received(self, stream: StreamId, data: bytes, now: float) -> None:
        """A STUN message came on a connection; ``data`` is without its frame."""
        known = self._connections.find(stream)
        if known is not None:
            self._binding.received(data, known.base, known.path, known.remote, known, now)

    def stream_closed(self, stream: StreamId, now: float) -> None:
        """The other end closed a connection."""
        self._connections.ended(stream, Failure.CLOSED, now)

    def stream_failed(self, stream: StreamId, failure: Failure, now: float) -> None:
        """A Connect failed, or a connection broke or was misused."""
        self._connections.ended(stream, failure, now)

    def timer_expired(self, now: float) -> None:
        """The instant of ``next_timer`` has come."""
        self._context.timers.expire(now)

    # -- what comes out ------------------------------------------------------------------------------------------

    def commands(self) -> list[Command]:
        """What to do, in this order. Each is given once."""
        commands, self._context.commands = self._context.commands, []
        return commands

    def events(self) -> list[Event]:
        """What happened, in this order. Each is given once."""
        events, self._context.events = self._context.events, []
        return events

    def next_timer(self) -> float | None:
        """When to call ``timer_expired``, at the earliest."""
        return self._context.timers.next_at()

    # -- what the machines say: checks and binding -------------------------------------------------------------------

    def is_authenticated(self, path: Path) -> bool:
        return path in self._authenticated

    def authenticated(self, path: Path) -> None:
        """A message that only the peer can have sent came on this path."""
        if path in self._authenticated:
            return
        self._authenticated.add(path)
        if isinstance(path, TcpPath):
            stream = self._connections.find(path.stream)
            if stream is not None and stream.idle_timer is not None:
                stream.idle_timer.cancel()
        self._context.commands.append(Admit(path))

    def switch_role(self, now: float) -> None:
        """A role conflict was resolved against us."""
        self._roles.switch(now)
        for generation in self._generations():
            for pair in generation.checklist:
                pair.nominating = False
            generation.checklist.rerank(controlling=self._roles.controlling)
            self._nominations[generation].consider_all(now)

    def permits(self, base: Base, source: TransportAddress) -> bool:
        """Binding: whether the policy lets this address be a remote candidate."""
        rules = self._context.policy.remote
        if not (rules.allow or rules.deny) or self._generation.find_remote(base, source) is not None:
            return True
        return self._context.policy.keeps_remote(peer_reflexive(base, source, "prflx", 1)).kept

    def checked(self, generation: Generation, check: InboundCheck, now: float) -> None:
        """The peer checked a path (RFC 8445 s7.3.1)."""
        consent = self._usage.consent(check.base.component)
        if consent is not None and consent.path == check.path and check.stream is not None:
            consent.heard_request(now)
        if generation.remote is None:
            # RFC 8445 s7.3: answered already, and acted upon once the peer's parameters are known.
            if len(self._early) < self._context.policy.limits.peer_reflexive:
                self._early.append((generation, check))
            return
        if check.stream is not None and self._connections.find(check.stream.id) is None:
            return
        pair = self._pair_of(generation, check, now)
        if pair is None:
            return
        pair.requests_received += 1
        pair.responses_sent += 1
        if check.stream is not None and pair.stream is not check.stream:
            self._checks.abandon(pair)
            pair.stream = check.stream
        if generation.local.lite:
            self._accept_as_lite(generation, pair, check, now)
            return
        if check.use_candidate:
            self._nominations[generation].requested(pair, now)
        if self._wants_check(generation, pair, now):
            self._checks.cancel(pair)
            generation.checklist.trigger(pair, now, at_once=True)

    def check_succeeded(self, generation: Generation, pair: Pair, now: float) -> None:
        if generation not in self._nominations:
            return
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
        self._usage_follows(generation, pair)
        self._settle(now)

    # -- what the machines say: nomination, consent ------------------------------------------------------------------

    def use(self, generation: Generation, pair: Pair, now: float) -> None:
        """Nomination: data goes this way from now on."""
        if self._may_use(generation, pair.component):
            self._usage.use(generation, pair, now)

    def conclude(self, generation: Generation, pair: Pair, now: float) -> None:
        """Nomination: the pair is the nominated one of its component (RFC 8445 s8.1.2)."""
        for loser in generation.checklist.conclude(pair.component, pair):
            self._checks.abandon(loser)
        if generation is not self._generation:
            return
        self._usage.use(generation, pair, now)
        if len(self._nominations[generation].selected) == self._components:
            self._release = self._context.timers.set(now + self._context.policy.timeouts.linger, self._release_losers)

    def request(self, generation: Generation, pair: Pair, transaction_id: bytes, *, nominating: bool) -> bytes:
        """Consent: the request to send."""
        return self._checks.request(generation, pair, transaction_id, nominating=nominating)

    def path_silent(self, component: int, now: float) -> None:  # noqa: ARG002 - the keeper's protocol
        self._usage.doubt(component, Verdict.NO_RESPONSE)

    def path_heard(self, component: int, now: float) -> None:  # noqa: ARG002 - the keeper's protocol
        self._usage.trust(component)

    def consent_lost(self, component: int, verdict: Verdict, now: float) -> None:
        """RFC 7675 s5.1: nothing more is sent on this path."""
        used = self._usage.path(component)
        if used is None:
            return
        for generation in self._generations():
            for pair in list(generation.checklist):
                if pair.path == used.path and generation.number == used.generation:
                    self._lose_pair(generation, pair, verdict, now)

    # -- inside ----------------------------------------------------------------------------------------------------

    def _new_generation(self, number: int) -> Generation:
        generation = Generation(self._context, self._roles, number, self._checks.perform, self._checks.startable)
        self._nominations[generation] = Nomination(self._context, self._roles, generation, self)
        return generation

    def _generations(self) -> list[Generation]:
        return [self._generation] if self._previous is None else [self._generation, self._previous]

    def _generation_of(self, ufrag: str) -> Generation | None:
        return next((each for each in self._generations() if each.local.ufrag == ufrag), None)

    def _check_open(self) -> None:
        if self.state is AgentState.CLOSED:
            raise RuntimeError("the agent is closed")

    def _is_stray(self, candidate: Candidate) -> bool:
        """Its ufrag says that it belongs to parameters that we have not seen yet (RFC 8838 s11)."""
        known = [_ufrag_of(generation) for generation in self._generations()]
        return candidate.ufrag is not None and self._generation.remote is not None and candidate.ufrag not in known

    def _ignore(self, candidate: Candidate, rule: str, now: float) -> None:
        self._context.note(now, CandidateIgnored(candidate, rule))

    def _take_role(self, role: Role, now: float) -> None:
        """With one lite agent, the full one controls (RFC 8445 s6.1.1)."""
        if self._roles.role is not role:
            self.switch_role(now)

    # gathering

    def _candidate_found(self, base: Base, candidate: Candidate, now: float) -> None:
        generation = self._generation
        ruling = self._context.policy.keeps_local(candidate)
        if not ruling.kept:
            self._ignore(candidate, ruling.rule, now)
            return
        generation.add_local(LocalCandidate(candidate, base, generation.check_priority(base)), now)
        ruling = self._context.policy.advertises(candidate)
        told = ruling.kept and not generation.gathered
        self._context.note(now, LocalCandidateKept(candidate, told, ruling.rule))
        if told:
            if generation.number:
                # Tells the peer, where candidates and parameters may overtake each other (RFC 8839 s5.1).
                candidate = replace(candidate, generation=generation.number, ufrag=generation.local.ufrag)
            self._context.events.append(LocalCandidateFound(candidate, generation.number))

    def _gathering_done(self, now: float) -> None:
        if not self._generation.gathered:
            self._generation.gathered = True
            self._context.events.append(GatheringDone(self._generation.number))
            self._settle(now)

    def _open_fresh_port(self, base: Base, now: float) -> None:  # noqa: ARG002 - the callback's shape
        self._gathering.open_sibling(base)

    # checks

    def _begin_checks(self, now: float) -> None:
        generation = self._generation
        self._usage.begin()
        self._patience = self._context.timers.set(now + self._context.policy.timeouts.patience, self._lose_patience)
        if not generation.local.lite:
            generation.checklist.start(now)
        self._settle(now)

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

        Not where one is on its way that the network cannot have lost: on the same connection, or within one Ta.
        """
        if pair.state is PairState.SUCCEEDED:
            return False
        if pair.state is not PairState.IN_PROGRESS or pair.transaction is None:
            return True
        return not pair.is_tcp and now - pair.transaction.last_sent_at >= generation.checklist.ta

    def _accept_as_lite(self, generation: Generation, pair: Pair, check: InboundCheck, now: float) -> None:
        """RFC 8445 s7.3.2: the peer's check with USE-CANDIDATE makes a valid and nominated pair."""
        if check.use_candidate:
            if pair.state is not PairState.SUCCEEDED:
                generation.checklist.succeed(pair, now)
            self._nominations[generation].requested(pair, now)

    def _settle(self, now: float) -> None:
        """Something ended: nominate, fail, or, between lite agents, choose."""
        generation = self._generation
        if generation.both_lite and generation.gathered and generation.remote_done and self._started:
            self._choose_as_lite(generation, now)
        self._nominations[generation].consider_all(now)
        self._judge(now)

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

    # ending well, and not well

    def _may_use(self, generation: Generation, component: int) -> bool:
        """The old generation's path is left only for one of the new (RFC 8445 s9)."""
        used = self._usage.path(component)
        return used is None or used.generation <= generation.number

    def _usage_follows(self, generation: Generation, pair: Pair) -> None:
        """A pair failed: if data went that way and nomination knows no other, it goes nowhere."""
        used = self._usage.path(pair.component)
        nomination = self._nominations[generation]
        if used is not None and used.generation == generation.number and pair.component not in nomination.used:
            self._usage.lose(pair.component, pair.verdict or Verdict.OTHER)

    def _stream_ended(self, stream: Stream, verdict: Verdict, now: float) -> None:
        """Connections: a connection is over."""
        self._authenticated.discard(stream.path)
        for generation in self._generations():
            for pair in list(generation.checklist):
                if pair.stream is stream:
                    self._lose_pair(generation, pair, verdict, now)
                elif verdict is Verdict.NOT_STUN and not stream.accepted and pair.remote.address == stream.remote:
                    # RFC 6544 s7.1: whatever is there, it is not the peer.
                    self._checks.abandon(pair)
                    generation.checklist.fail(pair, verdict, now)
                    self.check_failed(generation, pair, now)

    def _lose_pair(self, generation: Generation, pair: Pair, verdict: Verdict, now: float) -> None:
        """The pair's path is gone: win it back if it was selected, else give it up."""
        nomination = self._nominations[generation]
        self._checks.abandon(pair)
        stream, pair.stream = pair.stream, None
        if stream is not None and self._connections.find(stream.id) is stream:
            self._connections.close(stream, verdict, now)
        if nomination.selected.get(pair.component) is pair:
            if verdict is not Verdict.CONSENT_EXPIRED and pair.is_tcp:
                self._recovery.lost(generation, pair, verdict, now)
            else:
                self._path_given_up(generation, pair, verdict, now)
            return
        if pair.is_tcp and not pair.dials:
            generation.checklist.remove(pair, verdict)
            generation.forget_remote(pair.remote)
        elif pair.alive or pair.state is PairState.SUCCEEDED:
            generation.checklist.fail(pair, verdict, now)
        pair.verdict = verdict
        self.check_failed(generation, pair, now)

    def _path_given_up(self, generation: Generation, pair: Pair, verdict: Verdict, now: float) -> None:
        """The selected path cannot be had back: only a restart helps."""
        if generation is self._generation:
            self._fail(verdict, now)
            return
        used = self._usage.path(pair.component)
        if used is not None and used.generation == generation.number:
            self._usage.lose(pair.component, verdict)
        self._retire(generation)

    def _lose_patience(self, now: float) -> None:
        """RFC 8863 s4: the PAC timer ended, so failures may be believed."""
        self._patience = None
        self._judge(now)

    def _judge(self, now: float) -> None:
        """Fail, if a component has no pair left that could yet work, and patience is over or pointless."""
        generation = self._generation
        if not self._started or generation.remote is None or self.state in (AgentState.FAILED, AgentState.CLOSED):
            return
        hopeful = {pair.component for pair in generation.checklist if pair.alive or pair.state is PairState.SUCCEEDED}
        if len(hopeful) == self._components or (self._patience is not None and not self._is_hopeless()):
            return
        self._fail(self._cause(), now)

    def _is_hopeless(self) -> bool:
        """No candidate can come any more, and nobody can reach us to be learned as peer reflexive."""
        generation = self._generation
        reachable = any(base.handle is not None for base in self._gathering.bases)
        return generation.gathered and generation.remote_done and not reachable

    def _cause(self) -> Verdict:
        generation = self._generation
        if not generation.local_candidates:
            return Verdict.NO_LOCAL_CANDIDATES
        if not generation.remote_candidates:
            return Verdict.NO_REMOTE_CANDIDATES
        return Verdict.ALL_PAIRS_FAILED if len(generation.checklist) else Verdict.NO_PAIRS

    def _fail(self, verdict: Verdict, now: float) -> None:
        failed = self._generation
        self._quiet(failed)
        if self._previous is not None and self._usage.carries_all:
            self._context.events.append(RestartFailed(failed.number, verdict))
            return
        for generation in self._generations():
            self._quiet(generation)
        self._usage.end(AgentState.FAILED, verdict)
        for stream in self._connections:
            self._connections.close(stream, verdict, now)

    # letting go

    def _quiet(self, generation: Generation) -> None:
        """No new checks in a generation; it still answers."""
        generation.checklist.stop()
        self._nominations[generation].stop()
        self._recovery.stop(generation)
        for pair in generation.checklist:
            self._checks.abandon(pair)

    def _retire(self, generation: Generation) -> None:
        """Forget a generation, with the connections that only it used."""
        self._quiet(generation)
        if generation is self._previous:
            self._previous = None
        self._nominations.pop(generation, None)
        generation.checklist.clear()
        self._early = [(owner, check) for owner, check in self._early if owner is not generation]

    def _release_losers(self, now: float) -> None:
        """RFC 8445 s8.3: three seconds after the conclusion, free what was not selected (RFC 6544 s8)."""
        self._release = None
        if self._previous is not None:
            self._retire(self._previous)
        kept = list(self._nominations[self._generation].selected.values())
        for stream in self._connections:
            if all(pair.stream is not stream for pair in kept):
                self._connections.close(stream, Verdict.SUPERSEDED, now)
                self._authenticated.discard(stream.path)
        bases = {pair.base for pair in kept}
        self._gathering.close([base for base in self._gathering.bases if base not in bases])
        self._recovery.concluded(now)


def _ufrag_of(generation: Generation) -> str | None:
    return generation.remote.ufrag if generation.remote is not None else None
