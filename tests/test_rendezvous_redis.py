"""The rendezvous on a real Redis: one name, many instances, of which some end in the middle of things."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ice_tcp.meeting import SealedChannel
from ice_tcp.rendezvous import Mailboxes, Refusal, RendezvousError, RendezvousServer, join_line, open_line
from ice_tcp.rendezvous.mailboxes import Ticket
from ice_tcp.rendezvous.protocol import Entry, Event
from ice_tcp.rendezvous.redis_store import RedisMailboxes
from ice_tcp.signaling import Note
from tests.loops import run
from tests.mailbox_contract import CONTRACT, Wait, entries
from tests.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.interop

HOST = "127.0.0.1"
ABSENT = 0.4


async def absent(absences: float) -> None:
    await asyncio.sleep(absences * ABSENT)


@pytest.mark.parametrize("rule", CONTRACT, ids=lambda rule: rule.__name__)
def test_mailboxes_in_redis(rule: Callable[[Mailboxes, Wait], Awaitable[None]], tmp_path: Path) -> None:
    async def main() -> None:
        async with redis_server(tmp_path) as redis:
            store = RedisMailboxes(redis.url, absent_seconds=ABSENT)
            await rule(store, absent)
            await store.close()

    run(main())


def instance(redis: RedisServer) -> RendezvousServer:
    return RendezvousServer(HOST, mailboxes=RedisMailboxes(redis.url))


class Name:
    """What a load balancer is: one address, behind which some instance answers."""

    def __init__(self) -> None:
        self.instance: RendezvousServer | None = None
        self._server: asyncio.Server | None = None
        self._carrying: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        assert self._server is not None
        return f"ws://{HOST}:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Name:
        self._server = await asyncio.start_server(self._carry, HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)
        try:
            if self.instance is not None:
                there = await asyncio.open_connection(HOST, self.instance.port)
                await asyncio.gather(_pour(reader, there[1]), _pour(there[0], writer))
        except OSError:
            return
        finally:
            writer.close()
            self._carrying.discard(task)


async def _pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()


def test_two_peers_meet_who_are_connected_to_two_instances(tmp_path: Path) -> None:
    async def main() -> None:
        async with redis_server(tmp_path) as redis, instance(redis) as first, instance(redis) as second:
            urls = [f"ws://{HOST}:{each.port}" for each in (first, second)]
            async with open_line(urls[0]) as one, join_line(urls[1], one.mailbox) as two:
                await asyncio.gather(one.met(), two.met())
                channels = await asyncio.gather(
                    SealedChannel.agree(one, "kafo-rimu", listens=True),
                    SealedChannel.agree(two, "kafo-rimu", listens=False),
                )
                await channels[0].send(Note("offer"))
                assert await channels[1].receive() == Note("offer")
                await channels[1].send(Note("answer"))
                assert await channels[0].receive() == Note("answer")

    run(main())


def test_an_instance_that_is_killed_between_offer_and_answer_loses_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with redis_server(tmp_path) as redis, Name() as name, instance(redis) as second:
            first = instance(redis)
            name.instance = await first.__aenter__()
            async with open_line(name.url) as one, join_line(name.url, one.mailbox) as two:
                await one.send("offer")
                assert await two.receive() == "offer"
                name.instance = second
                await first.__aexit__(None, None, None)
                await two.send("answer")
                await one.send("one more candidate")
                assert await one.receive() == "answer"
                assert await two.receive() == "one more candidate"
                assert second.connections == 2

    run(main())


def test_a_redis_that_is_gone_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with redis_server(tmp_path) as redis, instance(redis) as server:
            await redis.stop()
            with pytest.raises(RendezvousError, match="the store does not answer") as caught:
                async with open_line(f"ws://{HOST}:{server.port}"):
                    pass
            assert caught.value.reason is Refusal.UNAVAILABLE

    run(main())


def test_a_url_that_is_none_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="redis"):
        RedisMailboxes("http://localhost")


def test_who_has_just_joined_is_there_for_whoever_looks_at_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other side's instance looks between any two things that are said to Redis."""

    async def main() -> None:
        async with redis_server(tmp_path) as redis:
            store = RedisMailboxes(redis.url)
            one = await store.open()

            async def say_nothing(_ticket: Ticket) -> None: ...

            monkeypatch.setattr(store, "_be_present", say_nothing)
            await store.join(one.mailbox)
            await store.keep(one)
            assert await entries(store, one, 1) == [(1, Entry(Event.MET))]
            assert (await store.resume(one.mailbox, one.token))[0] == one
            following = asyncio.create_task(entries(store, one, 2))
            await asyncio.sleep(0.2)
            assert not following.done()
            following.cancel()
            await asyncio.wait([following])
            await store.close()

    run(main())
