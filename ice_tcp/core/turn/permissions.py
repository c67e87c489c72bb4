"""Which peers may send through the relay (RFC 8656 s9, s10)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from ice_tcp import stun
from ice_tcp.core.outcomes import ServerFailure, ServerVerdict
from ice_tcp.core.timers import Timer
from ice_tcp.core.turn.link import Link
from ice_tcp.core.turn.requests import Requests
from ice_tcp.stun import Attribute, Message, Method

PERMISSION_LIFETIME = 300.0
"""Seconds (RFC 8656 s9)."""
REFRESH_INTERVAL = 240.0
"""Seconds; the rest is for retransmissions."""
MOST_PEERS = 20
"""Peers of one request, so that it fits into an unfragmented datagram."""

_WHOLE_BATCH = frozenset((ServerVerdict.BAD_REQUEST, ServerVerdict.FORBIDDEN, ServerVerdict.PEER_FAMILY_MISMATCH))
"""Causes that lie in one peer, for which the server refuses all peers of the request."""


class PermissionOutcomes(Protocol):
    """Who wants to know what became of a permission."""

    def permission_granted(self, host: str, now: float) -> None: ...

    def permission_refused(self, host: str, failure: ServerFailure, now: float) -> None: ...


class Permissions:
    """The permissions of one allocation, by the peer's IP address; they are refreshed until released.

    ``failed(failure, asked_at, now)`` hears of each request that failed, and tells whether the allocation lives on.
    """

    __slots__ = ("_asked", "_ends", "_failed", "_link", "_outcomes", "_refresh_timer", "_requests", "_wanted")

    def __init__(
        self,
        link: Link,
        requests: Requests,
        outcomes: PermissionOutcomes,
        failed: Callable[[ServerFailure, float, float], bool],
    ) -> None:
        self._link = link
        self._requests = requests
        self._outcomes = outcomes
        self._failed = failed
        self._wanted: dict[str, None] = {}  # in the order in which they were asked for
        self._asked: set[str] = set()
        self._ends: dict[str, float] = {}
        self._refresh_timer: Timer | None = None

    def is_active(self, host: str, now: float) -> bool:
        """Whether the server lets ``host`` through, as far as we know."""
        return self._ends.get(host, now) > now

    def want(self, hosts: Iterable[str], now: float) -> None:
        """Ask for those that are not there yet; each is answered, those that are there at once."""
        new = []
        for host in dict.fromkeys(hosts):
            self._wanted[host] = None
            is_active = self.is_active(host, now)
            if is_active:
                self._outcomes.permission_granted(host, now)
            if not (is_active and self._is_refreshing) and host not in self._asked:
                new.append(host)
        self._ask(new, now)

    def release(self, hosts: Iterable[str]) -> None:
        """Let permissions run out."""
        for host in hosts:
            self._wanted.pop(host, None)

    def extended(self, host: str, now: float) -> None:
        """A ChannelBind succeeded, which is a permission, too (RFC 8656 s12.1)."""
        if host in self._ends:
            self._ends[host] = now + PERMISSION_LIFETIME

    def clear(self) -> None:
        self._wanted.clear()
        self._asked.clear()
        self._ends.clear()
        if self._refresh_timer is not None:
            self._refresh_timer.cancel()

    @property
    def _is_refreshing(self) -> bool:
        return self._refresh_timer is not None and self._refresh_timer.pending

    def _ask(self, hosts: Sequence[str], now: float) -> None:
        for at in range(0, len(hosts), MOST_PEERS):
            self._ask_batch(tuple(hosts[at : at + MOST_PEERS]), now)

    def _ask_batch(self, hosts: tuple[str, ...], now: float) -> None:
        def build(transaction_id: bytes) -> list[Attribute]:
            return [stun.xor_peer_address(host, 0, transaction_id) for host in hosts]

        def granted(_message: Message, at: float) -> None:
            self._granted(hosts, at)

        def refused(failure: ServerFailure, _message: Message | None, at: float) -> None:
            self._refused(hosts, failure, now, at)

        self._asked.update(hosts)
        self._requests.send(Method.CREATE_PERMISSION, build, granted, refused, now)

    def _granted(self, hosts: Sequence[str], now: float) -> None:
        self._asked.difference_update(hosts)
        new = [host for host in hosts if not self.is_active(host, now)]
        for host in hosts:
            self._ends[host] = now + PERMISSION_LIFETIME
        if not self._is_refreshing:
            self._refresh_timer = self._link.context.timers.set(now + REFRESH_INTERVAL, self._refresh)
        for host in new:
            self._outcomes.permission_granted(host, now)

    def _refused(self, hosts: tuple[str, ...], failure: ServerFailure, asked_at: float, now: float) -> None:
        self._asked.difference_update(hosts)
        if not self._failed(failure, asked_at, now):
            return
        if len(hosts) > 1 and failure.cause in _WHOLE_BATCH:
            for host in hosts:
                self._ask_batch((host,), now)
            return
        for host in hosts:
            self._ends.pop(host, None)
            self._wanted.pop(host, None)
            self._outcomes.permission_refused(host, failure, now)

    def _refresh(self, now: float) -> None:
        hosts = [host for host in self._wanted if host in self._ends and host not in self._asked]
        if hosts:
            # All at once, the young ones too: one request for many peers, and one timer.
            self._refresh_timer = self._link.context.timers.set(now + REFRESH_INTERVAL, self._refresh)
            self._ask(hosts, now)
