"""One ICE generation: credentials, candidates and the check list (RFC 8445 s9). A restart makes another beside it."""

from __future__ import annotations

import string
from collections.abc import Callable
from dataclasses import replace

from candidates.candidate import Candidate, CandidateType, TcpType, Transport, TransportAddress
from candidates.pairing import refusal
from candidates.parameters import IceParameters
from candidates.priority import candidate_priority
from ice_tcp.core.checklist import CheckList
from ice_tcp.core.context import Context
from ice_tcp.core.pairs import LocalCandidate, Pair, key_of
from ice_tcp.core.paths import Base
from ice_tcp.core.roles import Roles
from ice_tcp.core.trace import CandidateIgnored, PeerReflexiveFound, RemoteCandidateKept
from ice_tcp.core.verdicts import Verdict
from ice_tcp.stun import IntegrityKey

_ICE_CHARS = string.ascii_letters + string.digits + "+/"
_UFRAG_LENGTH = 8
_PWD_LENGTH = 24

RemoteKey = tuple[int, Transport, TcpType | None, TransportAddress]


def draw_parameters(context: Context, credentials: tuple[str, str] | None = None) -> IceParameters:
    """Fresh credentials (RFC 8445 s5.3: at least 24 and 128 bits; these have 48 and 144), and what we announce."""
    policy = context.policy
    ufrag, pwd = credentials or (_draw(context, _UFRAG_LENGTH), _draw(context, _PWD_LENGTH))
    return IceParameters(
        ufrag=ufrag,
        pwd=pwd,
        options=("trickle", "ice2"),
        lite=policy.lite,
        # RFC 8839 s4.3.1: a lite agent sends no checks, and says nothing of their pace.
        pacing=None if policy.lite else round(policy.pacing.proposed * 1000),
    )


def _draw(context: Context, length: int) -> str:
    bits = context.rng.getrandbits(6 * length)
    return "".join(_ICE_CHARS[bits >> 6 * index & 63] for index in range(length))


class Generation:
    """Everything that a restart replaces.

    ``remote`` is None until the peer's parameters are known; candidates may come before them (RFC 8445 s7.3).
    ``unchecked`` says that the peer does not speak ICE, and that pairs are used without checks.
    """

    __slots__ = (
        "_context",
        "_learned",
        "_remote_known",
        "_roles",
        "checklist",
        "failed",
        "gathered",
        "local",
        "local_candidates",
        "local_key",
        "number",
        "remote",
        "remote_candidates",
        "remote_done",
        "remote_key",
        "unchecked",
        "username",
    )

    def __init__(
        self,
        context: Context,
        roles: Roles,
        number: int,
        perform: Callable[[Generation, Pair, float], None],
        startable: Callable[[Pair], bool],
        remote_known: Callable[[Candidate, float], None],
        credentials: tuple[str, str] | None = None,
    ) -> None:
        """``remote_known`` hears of each remote candidate that is kept."""
        self._context = context
        self._roles = roles
        self._remote_known = remote_known
        self.number = number
        self.local = draw_parameters(context, credentials)
        self.local_key = IntegrityKey.short_term(self.local.pwd)
        self.remote: IceParameters | None = None
        self.remote_key: IntegrityKey | None = None
        self.username = ""
        self.local_candidates: list[LocalCandidate] = []
        self.remote_candidates: dict[RemoteKey, Candidate] = {}
        self.gathered = False
        self.failed = False
        self.unchecked = False
        self.remote_done = False
        self._learned: set[RemoteKey] = set()
        self.checklist = CheckList(context, lambda pair, now: perform(self, pair, now), startable)

    def set_remote(self, parameters: IceParameters) -> None:
        self.remote = parameters
        self.remote_key = IntegrityKey.short_term(parameters.pwd)
        self.username = f"{parameters.ufrag}:{self.local.ufrag}"
        ours, theirs = self.local.pacing, parameters.pacing
        if ours is not None and theirs is not None:
            # RFC 8839 s5.5: both use the larger of the two; without one of them, 50 ms.
            self.checklist.ta = max(ours, theirs) / 1000

    @property
    def both_lite(self) -> bool:
        return self.local.lite and self.remote is not None and self.remote.lite

    def pair_all(self, now: float) -> None:
        """Pair what is known of both sides."""
        for local in self.local_candidates:
            for remote in list(self.remote_candidates.values()):
                self._pair(local, remote, now)

    def forget_remote(self, candidate: Candidate) -> None:
        """A peer-reflexive candidate is gone with its connection."""
        self.remote_candidates.pop(_remote_key(candidate), None)
        self._learned.discard(_remote_key(candidate))

    def find_remote(self, base: Base, source: TransportAddress) -> Candidate | None:
        return self.remote_candidates.get((base.component, base.transport, _peer_tcptype(base.tcptype), source))

    def add_local(self, local: LocalCandidate, now: float) -> None:
        """Keep a local candidate and pair it with what is known of the peer."""
        self.local_candidates.append(local)
        for remote in list(self.remote_candidates.values()):
            self._pair(local, remote, now)

    def add_remote(self, candidate: Candidate, now: float) -> None:
        """Take a signaled candidate, if the policy and the limits allow, and pair it."""
        key = _remote_key(candidate)
        known = self.remote_candidates.get(key)
        if known is not None and key not in self._learned:
            self._ignore(candidate, "duplicate", now)
            return
        ruling = self._context.policy.keeps_remote(candidate)
        if not ruling.kept:
            self._ignore(candidate, ruling.rule, now)
            return
        if known is not None:
            self._identify(candidate)
        elif len(self.remote_candidates) - len(self._learned) >= self._context.policy.limits.remote_candidates:
            self._ignore(candidate, "limits.remote_candidates", now)
            return
        self.remote_candidates[key] = candidate
        self._context.note(now, RemoteCandidateKept(candidate))
        self._remote_known(candidate, now)
        for local in self.local_candidates:
            self._pair(local, candidate, now)

    def learn_remote(self, base: Base, source: TransportAddress, priority: int, now: float) -> Candidate | None:
        """The remote candidate that a request came from, peer reflexive if nobody signaled it (RFC 8445 s7.3.1.3).

        On a passive base it is an active candidate, on a simultaneous-open base one of the same type (RFC 6544 s7.2).
        None if there are too many.
        """
        known = self.find_remote(base, source)
        if known is not None:
            return known
        if len(self._learned) >= self._context.policy.limits.peer_reflexive:
            return None
        candidate = peer_reflexive(base, source, f"prflx{len(self._learned) + 1}", priority)
        if self._is_relay(source.host):
            candidate = replace(candidate, type=CandidateType.RELAY)
        self.remote_candidates[_remote_key(candidate)] = candidate
        self._learned.add(_remote_key(candidate))
        self._remote_known(candidate, now)
        self._context.note(now, PeerReflexiveFound(candidate, remote=True))
        return candidate

    def priority_of_relay(self, host: str, base: Base) -> int | None:
        """That of the peer's active candidate at a relay, if that is all that it has at this address."""
        if not self._is_relay(host):
            return None
        return next(
            (
                each.priority
                for each in self.remote_candidates.values()
                if each.address.host == host and each.tcptype is TcpType.ACTIVE and each.component == base.component
            ),
            None,
        )

    def _is_relay(self, host: str) -> bool:
        """Whether of the peer only a relay is known at this address: its active candidates are told without a port."""
        types = {each.type for each in self.remote_candidates.values() if each.address.host == host}
        return types == {CandidateType.RELAY}

    def triggered_pair(self, base: Base, remote: Candidate, now: float) -> Pair | None:
        """The pair that a request belongs to, made if need be (RFC 8445 s7.3.1.4)."""
        pair = self.checklist.get(key_of(base, remote))
        if pair is not None:
            return pair
        local = self._of_base(base)
        if local is None:
            return None
        pair = self._new_pair(local, remote)
        return pair if self.checklist.add(pair, now) else None

    def seen_as(self, pair: Pair, mapped: TransportAddress, now: float) -> Candidate:
        """The local candidate with the mapped address of a response, peer reflexive if new (RFC 8445 s7.2.5.3.1)."""
        local = pair.local.candidate
        actual = pair.stream.local if pair.stream is not None else local.address
        if mapped in (actual, local.address):
            return local
        if pair.base.is_relayed:
            return local  # whatever the peer's NAT made of it
        for each in self.local_candidates:
            candidate = each.candidate
            if candidate.address == mapped and candidate.transport is local.transport:
                return candidate
        seen = replace(
            local,
            foundation="prflx",
            type=CandidateType.PRFLX,
            address=mapped,
            related_address=local.address,
            priority=pair.local.check_priority,
        )
        self._context.note(now, PeerReflexiveFound(seen, remote=False))
        return seen

    def check_priority(self, base: Base) -> int:
        """The PRIORITY of checks from a base: that of a peer-reflexive candidate (RFC 8445 s7.1.1).

        What a peer sees through our relay is the relay, and no better than that (docs/deviations.md).
        """
        return candidate_priority(
            type=CandidateType.RELAY if base.is_relayed else CandidateType.PRFLX,
            transport=base.transport,
            tcptype=base.tcptype,
            component=base.component,
            rank=base.rank,
            preferences=self._context.policy.preferences.ranking,
        )

    def _pair(self, local: LocalCandidate, remote: Candidate, now: float) -> None:
        if self.local.lite and not self.both_lite:
            # A lite agent checks nothing; its pairs come from the peer's checks (RFC 8445 s7.3.2).
            return
        if remote.type is CandidateType.PRFLX or local is not self._of_base(local.base):
            # Peer-reflexive ones pair only where they were seen (RFC 8445 s7.3.1.3), reflexive ones through their base,
            # which is the host candidate unless the policy keeps none.
            return
        if remote.component in self.checklist.concluded:
            return
        if refusal(local.candidate, remote) is not None or self.checklist.get(key_of(local.base, remote)) is not None:
            return
        if remote.address == local.base.address:
            self._ignore(remote, Verdict.SELF_CONNECT.value, now)
            return
        self.checklist.add(self._new_pair(local, remote), now)

    def _of_base(self, base: Base) -> LocalCandidate | None:
        """The local candidate of the pairs that check from ``base``."""
        return next((each for each in self.local_candidates if each.base is base), None)

    def _new_pair(self, local: LocalCandidate, remote: Candidate) -> Pair:
        return Pair(self._context.issue(), local, remote, controlling=self._roles.controlling)

    def _identify(self, candidate: Candidate) -> None:
        """Signaling names what was learned as peer reflexive: same pairs, real type, and priority (RFC 8838 s11)."""
        self._learned.discard(_remote_key(candidate))
        for pair in self.checklist:
            if pair.remote.address == candidate.address and pair.remote.tcptype is candidate.tcptype:
                pair.remote = candidate
        self.checklist.rerank(controlling=self._roles.controlling)

    def _ignore(self, candidate: Candidate, rule: str, now: float) -> None:
        self._context.note(now, CandidateIgnored(candidate, rule, remote=True))


def peer_reflexive(base: Base, source: TransportAddress, foundation: str, priority: int) -> Candidate:
    """The remote candidate that a request from ``source`` shows (RFC 8445 s7.3.1.3, RFC 6544 s7.2)."""
    return Candidate(
        foundation=foundation,
        component=base.component,
        transport=base.transport,
        priority=min(max(priority, 1), 2**31 - 1),
        address=source,
        type=CandidateType.PRFLX,
        tcptype=_peer_tcptype(base.tcptype),
    )


def _remote_key(candidate: Candidate) -> RemoteKey:
    return (candidate.component, candidate.transport, candidate.tcptype, candidate.address)


def _peer_tcptype(local: TcpType | None) -> TcpType | None:
    opposite = {TcpType.PASSIVE: TcpType.ACTIVE, TcpType.ACTIVE: TcpType.PASSIVE, TcpType.SO: TcpType.SO}
    return opposite[local] if local is not None else None
