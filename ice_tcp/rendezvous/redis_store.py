"""Mailboxes in Redis, so that many instances of the rendezvous serve one name. Needs redis, the extra ``redis``.

Of a mailbox there are a hash, a list for each side of what it is told, and a key for each side that lives while the
side is connected somewhere; all expire by themselves. Every change is one script, and is told on the mailbox's channel.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar, cast

import redis.asyncio as redis
from redis.exceptions import RedisError

from ice_tcp.rendezvous.mailboxes import (
    ABSENT_SECONDS,
    LONE_SECONDS,
    SESSION_SECONDS,
    Ticket,
    check_number,
    draw_number,
    expired,
)
from ice_tcp.rendezvous.protocol import Entry, Event, Refusal, RendezvousError

T = TypeVar("T")

_PREFIX: Final = "ice-tcp:rendezvous:"
_POLL_SECONDS: Final = 5.0
"""How often a waiting side looks whether its mailbox is still there."""
_TOKEN_BYTES: Final = 16

# KEYS: the hash, the two logs. The channel has the hash's name.
_TELL_BOTH: Final = """
local function add(side, entry)
  redis.call('RPUSH', KEYS[side + 2], entry)
  redis.call('EXPIRE', KEYS[side + 2], math.max(1, redis.call('TTL', KEYS[1])))
end
"""
_JOIN: Final = (
    _TELL_BOTH
    + """
if redis.call('EXISTS', KEYS[1]) == 0 or redis.call('HGET', KEYS[1], 'left0') then return 'none' end
if redis.call('HSETNX', KEYS[1], 'joined', 1) == 0 then return 'taken' end
redis.call('EXPIRE', KEYS[1], ARGV[1])
redis.call('SET', KEYS[4], 1, 'PX', ARGV[3])
add(0, ARGV[2])
add(1, ARGV[2])
redis.call('PUBLISH', KEYS[1], 'met')
return redis.call('HGET', KEYS[1], 'token1')
"""
)
# ARGV: the side, its token, the text's number, the entry, which is added if it is the next one. Returns how many texts
# there were.
_TELL: Final = (
    _TELL_BOTH
    + """
if redis.call('HGET', KEYS[1], 'token' .. ARGV[1]) ~= ARGV[2] then return -1 end
local had = tonumber(redis.call('HGET', KEYS[1], 'texts' .. ARGV[1]) or '0')
if tonumber(ARGV[3]) == had + 1 then
  redis.call('HSET', KEYS[1], 'texts' .. ARGV[1], ARGV[3])
  add(1 - tonumber(ARGV[1]), ARGV[4])
  redis.call('PUBLISH', KEYS[1], 'told')
end
return had
"""
)
# ARGV: the side, its token, the entry for who is left, the seconds to live. KEYS[4] is the other side's presence.
_KEEP: Final = (
    _TELL_BOTH
    + """
local other = 1 - tonumber(ARGV[1])
if redis.call('HGET', KEYS[1], 'token' .. ARGV[1]) ~= ARGV[2] then return -1 end
if not redis.call('HGET', KEYS[1], 'joined') then return 0 end
for number = 1, 3 do redis.call('EXPIRE', KEYS[number], ARGV[4]) end
if redis.call('EXISTS', KEYS[4]) == 0 and redis.call('HSETNX', KEYS[1], 'left' .. other, 1) == 1 then
  add(tonumber(ARGV[1]), ARGV[3])
  redis.call('PUBLISH', KEYS[1], 'gone')
end
return 0
"""
)
_LEAVE: Final = (
    _TELL_BOTH
    + """
local other = 1 - tonumber(ARGV[1])
if redis.call('HGET', KEYS[1], 'token' .. ARGV[1]) ~= ARGV[2] then return -1 end
redis.call('HSET', KEYS[1], 'left' .. ARGV[1], 1)
if redis.call('HGET', KEYS[1], 'joined') and not redis.call('HGET', KEYS[1], 'left' .. other) then
  add(other, ARGV[3])
else
  redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
end
redis.call('PUBLISH', KEYS[1], 'gone')
return 0
"""
)
_OPEN: Final = """
if redis.call('HSETNX', KEYS[1], 'token0', ARGV[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'token1', ARGV[2])
redis.call('EXPIRE', KEYS[1], ARGV[3])
return 1
"""


class RedisMailboxes:
    """The mailboxes of all instances that use the Redis at this URL, as in ``redis://localhost:6379/0``."""

    def __init__(self, url: str, *, absent_seconds: float = ABSENT_SECONDS) -> None:
        """Raises ValueError for a URL that is none."""
        self._redis = redis.Redis.from_url(url, decode_responses=True, socket_connect_timeout=5)
        self._absent_ms = round(1000 * absent_seconds)
        scripts = (_OPEN, _JOIN, _TELL, _KEEP, _LEAVE)
        self._open, self._join, self._tell, self._keep, self._leave = map(self._redis.register_script, scripts)

    async def open(self) -> Ticket:
        tokens = [secrets.token_urlsafe(_TOKEN_BYTES) for _ in range(2)]
        for _ in range(8):
            number = draw_number(lambda _: False, digits=await self._digits())
            arguments: list[str | int] = [*tokens, round(LONE_SECONDS)]
            if await _answered(self._open(keys=[_PREFIX + number], args=arguments)):
                ticket = Ticket(number, 0, tokens[0])
                await self._be_present(ticket)
                return ticket
        raise RendezvousError("there are too many mailboxes", Refusal.FULL)

    async def join(self, mailbox: str) -> Ticket:
        arguments: list[str | int] = [round(SESSION_SECONDS), _line(Entry(Event.MET)), self._absent_ms]
        answer = await _answered(self._join(keys=[*_keys(mailbox), _presence(mailbox, 1)], args=arguments))
        if answer == "none":
            raise RendezvousError(f"there is no mailbox {mailbox}", Refusal.NO_SUCH_MAILBOX)
        if answer == "taken":
            raise RendezvousError(f"two have met in mailbox {mailbox} already", Refusal.TAKEN)
        return Ticket(mailbox, 1, answer)

    async def resume(self, mailbox: str, token: str) -> tuple[Ticket, int]:
        found = await _answered(cast("Awaitable[dict[str, str]]", self._redis.hgetall(_PREFIX + mailbox)))
        for side in (0, 1):
            is_its = secrets.compare_digest(found.get(f"token{side}", "").encode(), token.encode())
            if is_its and f"left{side}" not in found:
                ticket = Ticket(mailbox, side, token)
                await self._be_present(ticket)
                return ticket, int(found.get(f"texts{side}", 0))
        raise expired()

    async def tell(self, ticket: Ticket, number: int, text: str) -> None:
        arguments: list[str | int] = [ticket.side, ticket.token, number, _line(Entry(Event.TOLD, text))]
        check_number(number, number - 1)
        had = int(await _answered(self._tell(keys=_keys(ticket.mailbox), args=arguments)))
        if had < 0:
            raise expired()
        if number > had:
            check_number(number, had)

    async def follow(self, ticket: Ticket, after: int) -> AsyncIterator[tuple[int, Entry]]:
        name, *logs = _keys(ticket.mailbox)
        async with self._listening(name) as channel:
            while True:
                lines = await _answered(cast("Awaitable[list[str]]", self._redis.lrange(logs[ticket.side], after, -1)))
                for line in lines:
                    after += 1
                    event, text = json.loads(line)
                    yield after, Entry(Event(event), text)
                if not lines:
                    if not await _answered(self._redis.exists(name)):
                        raise expired()
                    await _answered(channel.get_message(ignore_subscribe_messages=True, timeout=_POLL_SECONDS))

    async def keep(self, ticket: Ticket) -> None:
        await self._be_present(ticket)
        keys = [*_keys(ticket.mailbox), _presence(ticket.mailbox, ticket.other)]
        arguments = [ticket.side, ticket.token, _line(Entry(Event.GONE)), round(SESSION_SECONDS)]
        await self._change(self._keep, keys, arguments)

    async def leave(self, ticket: Ticket) -> None:
        await self._change(self._leave, _keys(ticket.mailbox), [ticket.side, ticket.token, _line(Entry(Event.GONE))])

    async def close(self) -> None:
        await self._redis.aclose()

    async def _change(self, script: Any, keys: Sequence[str], arguments: Sequence[object]) -> None:
        if int(await _answered(script(keys=keys, args=arguments))) < 0:
            raise expired()

    async def _be_present(self, ticket: Ticket) -> None:
        await _answered(self._redis.set(_presence(ticket.mailbox, ticket.side), 1, px=self._absent_ms))

    async def _digits(self) -> int:
        """Of numbers, so that nine of ten are free: by the number of keys, of which a mailbox has five at most."""
        return max(2, len(str(await _answered(self._redis.dbsize()))) + 1)

    @asynccontextmanager
    async def _listening(self, channel: str) -> AsyncIterator[Any]:
        pubsub = self._redis.pubsub()
        await _answered(pubsub.subscribe(channel))
        try:
            yield pubsub
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]


async def _answered(question: Awaitable[T]) -> T:
    """Raises RendezvousError with UNAVAILABLE for what Redis, or the way to it, has to complain of."""
    try:
        return await question
    except (RedisError, OSError) as error:
        raise RendezvousError(f"the store does not answer: {type(error).__name__}", Refusal.UNAVAILABLE) from None


def _keys(mailbox: str) -> list[str]:
    name = _PREFIX + mailbox
    return [name, f"{name}:0", f"{name}:1"]


def _presence(mailbox: str, side: int) -> str:
    return f"{_PREFIX}{mailbox}:present{side}"


def _line(entry: Entry) -> str:
    return json.dumps([entry.event, entry.text])
