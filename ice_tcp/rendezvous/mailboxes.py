"""Mailboxes: where what the two sides tell each other is kept until they have it. In memory, for one instance."""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from ice_tcp.rendezvous.protocol import MAX_TEXTS, Entry, Event, Refusal, RendezvousError

LONE_SECONDS: Final = 3600.0
"""How long a mailbox waits for its second side."""
SESSION_SECONDS: Final = 600.0
"""How long it lives, once both have met, after the last of them was there."""
ABSENT_SECONDS: Final = 30.0
"""After so long without a connection a side counts as gone."""
_TOKEN_BYTES: Final = 16
_MOST_DIGITS: Final = 6


@dataclass(frozen=True, slots=True)
class Ticket:
    """A side's right to its mailbox: 0 is the side that opened it, 1 the one that joined."""

    mailbox: str
    side: int
    token: str

    @property
    def other(self) -> int:
        return 1 - self.side


class Mailboxes(Protocol):
    """A store of mailboxes. All raise RendezvousError with a reason: UNAVAILABLE if the store cannot be reached."""

    async def open(self) -> Ticket:
        """A new mailbox with a short number. Raises FULL."""

    async def join(self, mailbox: str) -> Ticket:
        """The second side; the first is told that they met. Raises NO_SUCH_MAILBOX, TAKEN."""

    async def resume(self, mailbox: str, token: str) -> tuple[Ticket, int]:
        """A side again, and how many texts of it are there. Raises EXPIRED, also for a wrong token."""

    async def tell(self, ticket: Ticket, number: int, text: str) -> None:
        """The side's ``number``-th text, for the other side; one that is there already is not told twice.

        Raises TOO_MANY, EXPIRED, and MALFORMED for a number that leaves one out.
        """

    def follow(self, ticket: Ticket, after: int) -> AsyncIterator[tuple[int, Entry]]:
        """What the side is told after that many entries, as it comes. Raises EXPIRED at the end of the mailbox."""

    async def keep(self, ticket: Ticket) -> None:
        """The side is here; the server says so every few seconds. If the other side was absent too long, it is told."""

    async def leave(self, ticket: Ticket) -> None:
        """The side is done: the other is told, and the mailbox can be joined no more."""

    async def close(self) -> None: ...


@dataclass(slots=True)
class _Side:
    token: str = field(default_factory=lambda: secrets.token_urlsafe(_TOKEN_BYTES))
    log: list[Entry] = field(default_factory=list)
    texts: int = 0
    """Of this side, in the other's log."""
    seen_at: float = 0.0
    has_left: bool = False


@dataclass(slots=True)
class _Mailbox:
    expires_at: float
    sides: tuple[_Side, _Side] = field(default_factory=lambda: (_Side(), _Side()))
    is_joined: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, side: int, entry: Entry) -> None:
        self.sides[side].log.append(entry)
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class MemoryMailboxes:
    """The mailboxes of one instance; they end with it."""

    def __init__(self, *, most: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._mailboxes: dict[str, _Mailbox] = {}

    def __len__(self) -> int:
        self._clear()
        return len(self._mailboxes)

    async def open(self) -> Ticket:
        if len(self) >= self._most:
            raise RendezvousError("there are too many mailboxes", Refusal.FULL)
        now = self._clock()
        number = draw_number(self._mailboxes.__contains__)
        mailbox = self._mailboxes[number] = _Mailbox(now + LONE_SECONDS)
        mailbox.sides[0].seen_at = now
        return Ticket(number, 0, mailbox.sides[0].token)

    async def join(self, mailbox: str) -> Ticket:
        found = self._find(mailbox)
        if found is None or found.sides[0].has_left:
            raise RendezvousError(f"there is no mailbox {mailbox}", Refusal.NO_SUCH_MAILBOX)
        if found.is_joined:
            raise RendezvousError(f"two have met in mailbox {mailbox} already", Refusal.TAKEN)
        now = self._clock()
        found.is_joined = True
        found.sides[1].seen_at = now
        found.expires_at = now + SESSION_SECONDS
        for each in (0, 1):
            found.add(each, Entry(Event.MET))
        return Ticket(mailbox, 1, found.sides[1].token)

    async def resume(self, mailbox: str, token: str) -> tuple[Ticket, int]:
        found = self._find(mailbox)
        for number, side in enumerate(found.sides if found is not None else ()):
            if hmac.compare_digest(side.token.encode(), token.encode()) and not side.has_left:
                side.seen_at = self._clock()
                return Ticket(mailbox, number, token), side.texts
        raise expired()

    async def tell(self, ticket: Ticket, number: int, text: str) -> None:
        found, side = self._of(ticket)
        if number <= side.texts:
            return
        check_number(number, side.texts)
        side.texts = number
        found.add(ticket.other, Entry(Event.TOLD, text))

    async def follow(self, ticket: Ticket, after: int) -> AsyncIterator[tuple[int, Entry]]:
        while True:
            found, side = self._of(ticket)
            changed = found.changed
            while after < len(side.log):
                after += 1
                yield after, side.log[after - 1]
            try:
                async with asyncio.timeout(max(0.0, found.expires_at - self._clock())):
                    await changed.wait()
            except TimeoutError:
                raise expired() from None

    async def keep(self, ticket: Ticket) -> None:
        found, side = self._of(ticket)
        side.seen_at = self._clock()
        other = found.sides[ticket.other]
        if found.is_joined:
            found.expires_at = side.seen_at + SESSION_SECONDS
        if found.is_joined and not other.has_left and side.seen_at - other.seen_at > ABSENT_SECONDS:
            other.has_left = True
            found.add(ticket.side, Entry(Event.GONE))

    async def leave(self, ticket: Ticket) -> None:
        found, side = self._of(ticket)
        side.has_left = True
        if not found.sides[ticket.other].has_left:
            found.add(ticket.other, Entry(Event.GONE))
        if not found.is_joined or all(each.has_left for each in found.sides):
            del self._mailboxes[ticket.mailbox]
            found.wake()

    async def close(self) -> None:
        for mailbox in self._mailboxes.values():
            mailbox.expires_at = self._clock()
            mailbox.wake()
        self._mailboxes.clear()

    def _find(self, mailbox: str) -> _Mailbox | None:
        self._clear()
        return self._mailboxes.get(mailbox)

    def _of(self, ticket: Ticket) -> tuple[_Mailbox, _Side]:
        found = self._find(ticket.mailbox)
        if found is None or found.sides[ticket.side].token != ticket.token:
            raise expired()
        return found, found.sides[ticket.side]

    def _clear(self) -> None:
        now = self._clock()
        for number in [number for number, each in self._mailboxes.items() if each.expires_at <= now]:
            self._mailboxes.pop(number).wake()


def draw_number(is_taken: Callable[[str], bool], *, digits: int = 1) -> str:
    """A number that is free: as short as there is room for, of so many digits at least, and not to be guessed."""
    for length in range(digits, _MOST_DIGITS + 1):
        least = 10 ** (length - 1)
        for _ in range(4):
            number = str(secrets.randbelow(9 * least) + least)
            if not is_taken(number):
                return number
    raise RendezvousError("there are too many mailboxes", Refusal.FULL)


def check_number(number: int, had: int) -> None:
    """Whether this text may follow those. Raises RendezvousError."""
    if number != had + 1:
        raise RendezvousError(f"text {number} cannot follow text {had}", Refusal.MALFORMED)
    if number > MAX_TEXTS:
        raise RendezvousError(f"more than {MAX_TEXTS} texts", Refusal.TOO_MANY)


def expired() -> RendezvousError:
    """What a side is told whose mailbox is no more."""
    return RendezvousError("the mailbox is gone", Refusal.EXPIRED)
