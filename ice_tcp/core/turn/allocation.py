"""A TURN allocation from Allocate to its end: what UDP and TCP relaying share (RFC 8656 s7, s8; RFC 6062 s4)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import replace
from enum import Enum, auto
from typing import Protocol

from candidates.candidate import TransportAddress
from ice_tcp import stun
from ice_tcp.core.context import Context
from ice_tcp.core.exchanges import Note, ServerDropReason
from ice_tcp.core.outcomes import Advice, Cause, ServerFailure, ServerVerdict
from ice_tcp.core.timers import Timer
from ice_tcp.core.turn.allocate import Allocated, Wishes, conceded, read_allocated
from ice_tcp.core.turn.channels import is_channel_data
from ice_tcp.core.turn.credentials import Authentication, Credentials
from ice_tcp.core.turn.link import Link, ServerPath
from ice_tcp.core.turn.permissions import PermissionOutcomes, Permissions
from ice_tcp.core.turn.requests import MOST_CHALLENGES, Request, Requests, transport_address
from ice_tcp.core.verdicts import Verdict
from ice_tcp.stun import DecodeError, Message, MessageClass, Method

REFRESH_AHEAD = 60.0
"""Seconds before its end at which an allocation is refreshed (RFC 8656 s8); short ones after half their life."""
CLOSE_PATIENCE = 2.0
"""Seconds that the answer to the last Refresh is waited for."""
KEEPALIVE_INTERVAL = 15.0
"""Tr: seconds of silence after which NATs on the way to the server hear of us (RFC 8445 s11)."""

_FATAL = frozenset((ServerVerdict.ALLOCATION_MISMATCH, ServerVerdict.WRONG_CREDENTIALS))
"""RFC 8656 s5: whatever the request, the allocation is not there, or not ours."""


class AllocationListener(PermissionOutcomes, Protocol):
    """Who hears what becomes of an allocation. Callbacks come from within the machine's inputs, and may call it."""

    def allocated(self, allocated: Allocated, now: float) -> None:
        """It is there. Ask for permissions next."""
        ...

    def allocation_failed(self, failure: ServerFailure, now: float) -> None:
        """It never came into being; the machine has ended. ``failure.advice`` tells what to do."""
        ...

    def allocation_lost(self, failure: ServerFailure, now: float) -> None:
        """It existed and is no more; the machine has ended. Permissions and channels went with it."""
        ...

    def allocation_closed(self, now: float) -> None:
        """What `Allocation.close` began is done: the socket or connection may be closed."""
        ...


class State(Enum):
    """Where an allocation stands."""

    NEW = auto()
    ALLOCATING = auto()
    ALLOCATED = auto()
    CLOSING = auto()
    ENDED = auto()


class Allocation(ABC):
    """One allocation on one path, once; after its end, make another.

    Call `start`, hand in what the path receives, expire the context's timers. Pace `start` (RFC 8445 s14.2); what the
    machine sends later goes over a path that has its NAT binding, and is not paced.
    """

    def __init__(
        self,
        context: Context,
        path: ServerPath,
        listener: AllocationListener,
        *,
        credentials: Credentials | None,
        wishes: Wishes,
        server: str = "",
        note: Note | None = None,
    ) -> None:
        self._link = Link(context, path, server, note)
        self._authentication = Authentication(credentials)
        self._requests = Requests(self._link, self._authentication)
        self._permissions = Permissions(self._link, self._requests, listener, self._lives_after)
        self._listener = listener
        self._original = wishes
        self._wishes = wishes
        self._family_failure: ServerFailure | None = None
        self._state = State.NEW
        self._allocated: Allocated | None = None
        self._early_hosts: dict[str, None] = {}
        self._allocating: Request | None = None
        self._probing: Request | None = None
        self._timers: list[Timer] = []  # of the lifetime, or of closing
        self._keepalive_timer: Timer | None = None

    @property
    def state(self) -> State:
        return self._state

    @property
    def current(self) -> Allocated | None:
        """What the server gave; None before that."""
        return self._allocated

    @property
    def dropped(self) -> dict[ServerDropReason, int]:
        """How many messages of the server were ignored, and why."""
        return dict(self._link.dropped)

    def start(self, now: float) -> None:
        """Ask for the allocation; `AllocationListener.allocated` or ``allocation_failed`` follows.

        Raises RuntimeError the second time.
        """
        if self._state is not State.NEW:
            raise RuntimeError("an allocation is made once; make another machine, on another path")
        self._state = State.ALLOCATING
        self._allocate(now)

    def permit(self, hosts: Iterable[str], now: float) -> None:
        """Let the peers at these IP addresses send to us, and keep it so; several addresses go in one request.

        For each, ``permission_granted`` or ``permission_refused`` follows. Before the allocation is there they wait.
        """
        canonical = _canonical(hosts)
        if self._state in (State.NEW, State.ALLOCATING):
            self._early_hosts.update(dict.fromkeys(canonical))
        elif self._state is State.ALLOCATED:
            self._permit(canonical, now)

    def release(self, hosts: Iterable[str], now: float) -> None:
        """Let the permissions of these peers run out: they take no more part."""
        for host in _canonical(hosts):
            self._early_hosts.pop(host, None)
            self._release(host, now)

    @property
    def in_doubt(self) -> bool:
        """Whether a `probe` waits for its answer."""
        return self._probing is not None

    def probe(self, now: float) -> None:
        """Refresh now, to see whether the allocation is still there: ``allocation_lost`` follows if it is not."""
        if self._state is State.ALLOCATED and self._probing is None:
            self._probing = self._refresh(now)

    def close(self, now: float) -> None:
        """Delete the allocation at the server; ``allocation_closed`` follows, within `CLOSE_PATIENCE` seconds."""
        if self._state in (State.CLOSING, State.ENDED):
            return
        state, self._state = self._state, State.CLOSING
        self._stop()
        if state is State.NEW:
            self._closed(now)
            return
        self._timers.append(self._link.context.timers.set(now + CLOSE_PATIENCE, self._closed))
        if state is State.ALLOCATED:
            self._requests.clear()
            self._delete(now)
        elif self._allocating is not None:
            # What this Allocate makes is deleted when its answer comes, or it would stay for ten minutes. A challenge
            # shows that it made nothing.
            self._allocating.challenges = MOST_CHALLENGES

    def received(self, data: bytes, now: float) -> None:
        """A datagram came from the server, or the next bytes of the stream, however they were split."""
        if self._state is State.ENDED:
            return
        messages, fault = self._link.split(data, now)
        for message in messages:
            self._message_received(message, now)
        if fault is not None:
            self._end(ServerFailure(ServerVerdict.NOT_STUN, fault, Advice.OTHER_TRANSPORT), now)

    def path_lost(self, cause: Cause, now: float, text: str = "") -> None:
        """The socket or connection failed, or the server closed it."""
        self._end(ServerFailure(cause, text, Advice.OTHER_TRANSPORT), now)

    @abstractmethod
    def _indication_received(self, message: Message, now: float) -> None:
        """Of an existing allocation. May raise DecodeError."""

    def _channel_data_received(self, data: bytes, now: float) -> None:
        """Of an existing allocation, which has no channels unless it relays datagrams. May raise DecodeError."""
        self._link.drop(ServerDropReason.UNKNOWN_CHANNEL, f"ChannelData of {len(data)} bytes", now)

    def _release(self, host: str, now: float) -> None:  # noqa: ARG002 - channels need the instant
        self._permissions.release([host])

    def _stop(self) -> None:
        """Forget what belongs to a living allocation."""
        self._cancel_timers()
        if self._keepalive_timer is not None:
            self._keepalive_timer.cancel()
        self._permissions.clear()

    def _cancel_timers(self) -> None:
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()

    # --- the server's messages

    def _message_received(self, data: bytes, now: float) -> None:
        try:
            if is_channel_data(data):
                self._data_received(data, now)
            elif (message := self._link.decode(data, now)) is not None:
                self._stun_received(message, now)
        except DecodeError as error:
            self._link.drop(ServerDropReason.MALFORMED, str(error), now)

    def _data_received(self, data: bytes, now: float) -> None:
        if self._state is State.ALLOCATED:
            self._channel_data_received(data, now)
        else:
            self._link.drop(ServerDropReason.NO_ALLOCATION, "ChannelData", now)

    def _stun_received(self, message: Message, now: float) -> None:
        if message.message_class is MessageClass.REQUEST:
            self._link.drop(ServerDropReason.REQUEST, repr(message), now)
        elif message.message_class is not MessageClass.INDICATION:
            self._requests.received(message, now)
        elif self._state is not State.ALLOCATED:
            self._link.drop(ServerDropReason.NO_ALLOCATION, repr(message), now)
        elif message.unknown_required:  # RFC 8489 s6.3.2
            self._link.drop(ServerDropReason.UNKNOWN_ATTRIBUTE, repr(message), now)
        else:
            self._indication_received(message, now)

    def _permitted_peer(self, message: Message, now: float) -> TransportAddress | None:
        """The peer of an indication; None, after dropping it, without a permission (RFC 8656 s11.4)."""
        peer = peer_of(message)
        if self._permissions.is_active(peer.host, now):
            return peer
        self._link.drop(ServerDropReason.NO_PERMISSION, str(peer), now)
        return None

    # --- Allocate

    def _allocate(self, now: float) -> None:
        self._allocating = self._requests.send(
            Method.ALLOCATE, lambda _: self._wishes.attributes(), self._allocate_succeeded, self._allocate_failed, now
        )

    def _allocate_succeeded(self, message: Message, now: float) -> None:
        allocated = read_allocated(message, self._wishes, self._original, self._family_failure)
        if self._state is State.CLOSING:
            self._delete(now)
        elif isinstance(allocated, ServerFailure):
            self._delete(now)  # once, unless the path is a stream; it runs out anyway
            self._end(allocated, now)
        else:
            self._state = State.ALLOCATED
            self._allocated = allocated
            self._lives_for(allocated.lifetime, now)
            if not self._link.reliable:
                self._keep_alive(now)
            self._listener.allocated(allocated, now)
            early, self._early_hosts = self._early_hosts, {}
            self.permit(early, now)

    def _allocate_failed(self, failure: ServerFailure, message: Message | None, now: float) -> None:
        lesser = conceded(self._wishes, self._original, failure, message)
        if self._state is State.CLOSING:
            self._closed(now)
        elif lesser is None:
            self._end(failure, now)
        else:
            if lesser.families != self._wishes.families:
                self._family_failure = failure
            self._wishes = lesser
            self._allocate(now)

    # --- its life

    def _lives_for(self, lifetime: float, now: float) -> None:
        timers = self._link.context.timers
        ahead = REFRESH_AHEAD if lifetime >= 2 * REFRESH_AHEAD else lifetime / 2
        self._cancel_timers()
        self._timers = [
            timers.set(now + lifetime - ahead, self._refresh_due),
            timers.set(now + lifetime, self._expired),
        ]

    def _refresh_due(self, now: float) -> None:
        self._refresh(now)

    def _refresh(self, now: float) -> Request:
        return self._requests.send(
            Method.REFRESH, lambda _: self._wishes.lasting_attributes(), self._refreshed, self._refresh_failed, now
        )

    def _refreshed(self, message: Message, now: float) -> None:
        assert self._allocated is not None
        self._probing = None
        try:
            lifetime = message.lifetime
        except DecodeError as error:
            self._link.drop(ServerDropReason.MALFORMED, str(error), now)
            lifetime = None
        if lifetime == 0:
            self._end(ServerFailure(ServerVerdict.EXPIRED, "refreshed to no lifetime"), now)
        else:
            self._lives_for(float(lifetime or self._allocated.lifetime), now)

    def _refresh_failed(self, failure: ServerFailure, _message: Message | None, now: float) -> None:
        self._end(failure, now)

    def _expired(self, now: float) -> None:
        self._end(ServerFailure(ServerVerdict.EXPIRED, "no Refresh was answered in time"), now)

    def _keep_alive(self, now: float) -> None:
        """Only consent and checks would keep a NAT's UDP binding, and none may run yet (RFC 8445 s5.1.1.4)."""
        due_at = self._link.sent_at + KEEPALIVE_INTERVAL
        if self._state is not State.ALLOCATED:
            return
        if due_at <= now:
            context = self._link.context
            indication = stun.encode(MessageClass.INDICATION, Method.BINDING, context.transaction_id())
            self._link.send(indication, now)
            due_at = now + KEEPALIVE_INTERVAL
        self._keepalive_timer = self._link.context.timers.set(due_at, self._keep_alive)

    def _permit(self, hosts: Iterable[str], now: float) -> None:
        assert self._allocated is not None
        relayable = []
        for host in hosts:
            family = TransportAddress(host, 0).family
            if self._allocated.relayed_of(family) is not None:
                relayable.append(host)
            else:  # RFC 8656 s10.1: MUST NOT ask
                failure = ServerFailure(ServerVerdict.PEER_FAMILY_MISMATCH, f"no relayed address for {host}")
                self._listener.permission_refused(host, failure, now)
        self._permissions.want(relayable, now)

    def _lives_after(self, failure: ServerFailure, asked_at: float, now: float) -> bool:
        """Whether the allocation survives that a request other than Allocate and Refresh failed."""
        silent = failure.cause is ServerVerdict.NO_RESPONSE and self._link.heard_at <= asked_at
        if failure.cause in _FATAL or silent:
            self._end(failure, now)
        return self._state is State.ALLOCATED

    # --- its end

    def _delete(self, now: float) -> None:
        """RFC 8656 s8.3: 437 means that it is gone, too; after any other error nothing better can be done."""
        self._requests.send(
            Method.REFRESH,
            lambda _: [stun.lifetime(0)],
            lambda _message, at: self._closed(at),
            lambda _failure, _message, at: self._closed(at),
            now,
        )

    def _closed(self, now: float) -> None:
        self._end(ServerFailure(Verdict.CLOSED), now)

    def _end(self, failure: ServerFailure, now: float) -> None:
        state, self._state = self._state, State.ENDED
        if state is State.ENDED:
            return
        self._stop()
        self._requests.clear()
        if state is State.CLOSING:
            self._listener.allocation_closed(now)
        elif state is State.ALLOCATED:
            self._listener.allocation_lost(replace(failure, advice=Advice.RECONNECT), now)
        else:
            self._listener.allocation_failed(failure, now)


def peer_of(message: Message) -> TransportAddress:
    """XOR-PEER-ADDRESS of an indication. Raises DecodeError if it is not there."""
    peer = transport_address(message.xor_peer_address)
    if peer is None:
        raise DecodeError("an indication without XOR-PEER-ADDRESS")
    return peer


def _canonical(hosts: Iterable[str]) -> list[str]:
    return [TransportAddress(host, 0).host for host in hosts]
