"""What every store of mailboxes has to do; the clock of the store is advanced by ``wait``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing

import pytest

from ice_tcp.rendezvous import Mailboxes, Refusal, RendezvousError
from ice_tcp.rendezvous.mailboxes import Ticket
from ice_tcp.rendezvous.protocol import MAX_TEXTS, Entry, Event

Wait = Callable[[float], Awaitable[None]]


async def entries(store: Mailboxes, ticket: Ticket, count: int, after: int = 0) -> list[tuple[int, Entry]]:
    """The next so many."""
    found: list[tuple[int, Entry]] = []
    following: AsyncIterator[tuple[int, Entry]] = store.follow(ticket, after)
    async with asyncio.timeout(10), aclosing(following):  # type: ignore[type-var]
        while len(found) < count:
            found.append(await anext(following))
    return found


async def reason_of(question: Awaitable[object]) -> Refusal | None:
    with pytest.raises(RendezvousError) as caught:
        await question
    return caught.value.reason


async def two_meet_and_tell_each_other_in_order(store: Mailboxes, _wait: Wait) -> None:
    one = await store.open()
    await store.tell(one, 1, "before you came")
    two = await store.join(one.mailbox)
    await store.tell(two, 1, "hello")
    await store.tell(one, 2, "good day")
    assert await entries(store, one, 2) == [(1, Entry(Event.MET)), (2, Entry(Event.TOLD, "hello"))]
    assert await entries(store, two, 3) == (
        [(1, Entry(Event.TOLD, "before you came")), (2, Entry(Event.MET)), (3, Entry(Event.TOLD, "good day"))]
    )


async def what_comes_later_is_waited_for(store: Mailboxes, _wait: Wait) -> None:
    one = await store.open()
    waiting = asyncio.create_task(entries(store, one, 2))
    await asyncio.sleep(0.05)
    two = await store.join(one.mailbox)
    await asyncio.sleep(0.05)
    await store.tell(two, 1, "hello")
    assert (await waiting)[1] == (2, Entry(Event.TOLD, "hello"))


async def a_text_that_is_told_again_is_told_once_and_none_is_left_out(store: Mailboxes, _wait: Wait) -> None:
    one = await store.open()
    two = await store.join(one.mailbox)
    for _ in range(2):
        await store.tell(one, 1, "once")
    assert await reason_of(store.tell(one, 3, "too far")) is Refusal.MALFORMED
    await store.tell(one, 2, "twice")
    assert [entry.text for _, entry in await entries(store, two, 3)] == ["", "once", "twice"]


async def a_side_takes_its_mailbox_up_where_it_was(store: Mailboxes, _wait: Wait) -> None:
    one = await store.open()
    two = await store.join(one.mailbox)
    for number in (1, 2, 3):
        await store.tell(one, number, str(number))
    assert await store.resume(one.mailbox, one.token) == (one, 3)
    assert await store.resume(two.mailbox, two.token) == (two, 0)
    assert [entry.text for _, entry in await entries(store, two, 2, after=2)] == ["2", "3"]


async def strangers_get_nothing(store: Mailboxes, _wait: Wait) -> None:
    assert await reason_of(store.join("123456")) is Refusal.NO_SUCH_MAILBOX
    one = await store.open()
    await store.join(one.mailbox)
    assert await reason_of(store.join(one.mailbox)) is Refusal.TAKEN
    for token in ("", "x", one.token[:-1], "Ä"):
        assert await reason_of(store.resume(one.mailbox, token)) is Refusal.EXPIRED
    stranger = Ticket(one.mailbox, 0, "wrong")
    assert await reason_of(store.tell(stranger, 1, "hello")) is Refusal.EXPIRED
    assert await reason_of(store.leave(stranger)) is Refusal.EXPIRED


async def who_leaves_is_missed_and_does_not_come_back(store: Mailboxes, _wait: Wait) -> None:
    one = await store.open()
    two = await store.join(one.mailbox)
    await store.leave(two)
    assert (await entries(store, one, 2))[1] == (2, Entry(Event.GONE))
    assert await reason_of(store.resume(two.mailbox, two.token)) is Refusal.EXPIRED
    assert await reason_of(store.join(one.mailbox)) is Refusal.TAKEN
    await store.leave(one)
    assert await reason_of(store.resume(one.mailbox, one.token)) is Refusal.EXPIRED
    assert await reason_of(store.join(one.mailbox)) is Refusal.NO_SUCH_MAILBOX


async def a_mailbox_whose_owner_left_alone_is_gone(store: Mailboxes, _wait: Wait) -> None:
    one = await store.open()
    await store.leave(one)
    assert await reason_of(store.join(one.mailbox)) is Refusal.NO_SUCH_MAILBOX


async def who_is_absent_too_long_counts_as_gone(store: Mailboxes, wait: Wait) -> None:
    one = await store.open()
    await store.join(one.mailbox)
    await store.keep(one)
    await wait(0.6)
    await store.keep(one)
    assert len(await entries(store, one, 1)) == 1
    await wait(0.6)
    await store.keep(one)
    assert (await entries(store, one, 2))[1] == (2, Entry(Event.GONE))


async def a_side_says_no_more_than_any_negotiation_needs(store: Mailboxes, _wait: Wait) -> None:
    one = await store.open()
    for number in range(1, MAX_TEXTS + 1):
        await store.tell(one, number, "x")
    assert await reason_of(store.tell(one, MAX_TEXTS + 1, "x")) is Refusal.TOO_MANY


CONTRACT = (
    two_meet_and_tell_each_other_in_order,
    what_comes_later_is_waited_for,
    a_text_that_is_told_again_is_told_once_and_none_is_left_out,
    a_side_takes_its_mailbox_up_where_it_was,
    strangers_get_nothing,
    who_leaves_is_missed_and_does_not_come_back,
    a_mailbox_whose_owner_left_alone_is_gone,
    who_is_absent_too_long_counts_as_gone,
    a_side_says_no_more_than_any_negotiation_needs,
)
"""``wait(1)`` has to be as long as it takes until somebody counts as gone."""
