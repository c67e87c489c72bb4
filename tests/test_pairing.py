"""Which candidates pair, and the order, pruning, limit and cost of the list of pairs."""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from itertools import count, product
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from candidates.candidate import Candidate, CandidateType, TcpType, Transport, TransportAddress
from candidates.pairing import (
    PAIRABLE,
    CandidatePair,
    PairAdded,
    PairList,
    Refusal,
    form_pairs,
    pair_key,
    refusal,
)
from candidates.priority import candidate_priority, pair_priority
from candidates.sdp import parse_candidate, parse_description
from tests.vectors import rfc6544_appendix_c as appendix_c


def make(
    address: str = "192.0.2.1",
    port: int = 50000,
    tcptype: TcpType | None = None,
    component: int = 1,
    type: CandidateType = CandidateType.HOST,  # noqa: A002 - the RFC's word
    rank: int = 0,
) -> Candidate:
    transport = Transport.UDP if tcptype is None else Transport.TCP
    return Candidate(
        foundation="1",
        component=component,
        transport=transport,
        priority=candidate_priority(type=type, transport=transport, tcptype=tcptype, component=component, rank=rank),
        address=TransportAddress(address, port),
        type=type,
        tcptype=tcptype,
    )


@dataclass(eq=False)
class Item:
    """The least that a PairList takes."""

    priority: int
    key: Hashable = field(default_factory=count().__next__)


def priorities(pairs: PairList[Item]) -> list[int]:
    return [item.priority for item in pairs]


class TestRefusal:
    @pytest.mark.parametrize(("local", "remote"), list(product(TcpType, TcpType)))
    def test_tcptypes_pair_as_in_rfc6544_s6_2(self, local: TcpType, remote: TcpType) -> None:
        expected: dict[tuple[TcpType, TcpType], Refusal | None] = {
            (TcpType.SO, TcpType.SO): None,
            (TcpType.ACTIVE, TcpType.PASSIVE): None,
            (TcpType.PASSIVE, TcpType.ACTIVE): Refusal.LOCAL_PASSIVE,
        }
        assert refusal(make(tcptype=local), make("192.0.2.2", tcptype=remote)) == expected.get(
            (local, remote), Refusal.TCPTYPE
        )

    def test_the_table_is_the_same_from_both_sides(self) -> None:
        assert {PAIRABLE[PAIRABLE[tcptype]] for tcptype in TcpType} == set(TcpType)
        assert all(PAIRABLE[PAIRABLE[tcptype]] is tcptype for tcptype in TcpType)

    @pytest.mark.parametrize(
        ("local", "remote", "reason"),
        [
            (make(), make("192.0.2.2"), None),
            (make("2001:db8::1"), make("2001:db8::2"), None),
            (make("fe80::1%eth0"), make("fe80::2"), None),
            (make("169.254.0.1"), make("192.0.2.2"), None),
            (make(), make("192.0.2.2", component=2), Refusal.COMPONENT),
            (make(), make("192.0.2.2", tcptype=TcpType.PASSIVE), Refusal.TRANSPORT),
            (make(tcptype=TcpType.ACTIVE), make("192.0.2.2"), Refusal.TRANSPORT),
            (make(), make("a.local"), Refusal.NAME),
            (make(), make("host.example"), Refusal.NAME),
            (make(), make("0.0.0.0"), Refusal.ADDRESS),  # noqa: S104 - refused, not bound
            (make(), make("224.0.0.1"), Refusal.ADDRESS),
            (make("2001:db8::1"), make("::"), Refusal.ADDRESS),
            (make("2001:db8::1"), make("ff02::1"), Refusal.ADDRESS),
            (make(), make("2001:db8::1"), Refusal.FAMILY),
            (make("2001:db8::1"), make(), Refusal.FAMILY),
            (make("fe80::1%eth0"), make("2001:db8::2"), Refusal.LINK_LOCAL),
            (make("2001:db8::1"), make("fe80::2"), Refusal.LINK_LOCAL),
        ],
    )
    def test_everything_else(self, local: Candidate, remote: Candidate, reason: Refusal | None) -> None:
        assert refusal(local, remote) is reason


class TestPairKey:
    def test_is_that_of_the_base(self) -> None:
        host = make("10.0.0.1", 50000)
        srflx = make("192.0.2.9", 60000, type=CandidateType.SRFLX)
        assert pair_key(host, host.address, make()) == pair_key(srflx, host.address, make())

    @pytest.mark.parametrize(
        ("local", "base", "remote"),
        [
            (make("10.0.0.2", 50000), make("10.0.0.2").address, make()),
            (make("10.0.0.1", 50001), make("10.0.0.1", 50001).address, make()),
            (make("10.0.0.1", 50000), make("10.0.0.1").address, make("192.0.2.1", 50001)),
            (make("10.0.0.1", 50000, component=2), make("10.0.0.1").address, make(component=2)),
            (
                make("10.0.0.1", 50000, TcpType.ACTIVE),
                make("10.0.0.1").address,
                make(tcptype=TcpType.PASSIVE),
            ),
        ],
    )
    def test_tells_others_apart(self, local: Candidate, base: TransportAddress, remote: Candidate) -> None:
        ours = make("10.0.0.1", 50000)
        assert pair_key(ours, ours.address, make()) != pair_key(local, base, remote)


class TestPairList:
    def test_empty(self) -> None:
        pairs: PairList[Item] = PairList()
        assert len(pairs) == 0
        assert list(pairs) == []
        assert pairs.get(1) is None

    @given(st.lists(st.integers(1, 9), max_size=40))
    def test_order_is_that_of_a_stable_sort(self, added: list[int]) -> None:
        pairs: PairList[Item] = PairList()
        items = [Item(priority) for priority in added]
        assert all(pairs.add(item) == PairAdded(True, ()) for item in items)
        assert list(pairs) == sorted(items, key=lambda item: -item.priority)

    @given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 6)), max_size=30), st.integers(1, 5))
    def test_keeps_the_best_of_each_key_up_to_the_limit(self, added: list[tuple[int, int]], limit: int) -> None:
        pairs: PairList[Item] = PairList(limit)
        alive: set[Item] = set()
        for priority, key in added:
            item = Item(priority, key)
            result = pairs.add(item)
            alive |= {item} if result.kept else set()
            alive -= set(result.dropped)
            assert set(pairs) == alive
        best: dict[int, int] = {}
        for priority, key in added:
            best[key] = max(best.get(key, 0), priority)
        assert priorities(pairs) == sorted(best.values(), reverse=True)[:limit]

    def test_of_two_redundant_pairs_the_higher_priority_stays(self) -> None:
        pairs: PairList[Item] = PairList()
        low, equal, high = Item(1, "key"), Item(1, "key"), Item(2, "key")
        assert pairs.add(low) == (True, ())
        assert pairs.add(equal) == (False, ())
        assert pairs.add(high) == (True, (low,))
        assert pairs.add(low) == (False, ())
        assert list(pairs) == [high]
        assert pairs.get("key") is high

    def test_a_full_list_drops_the_lowest(self) -> None:
        pairs: PairList[Item] = PairList(2)
        low, high, higher = Item(1), Item(2), Item(3)
        for item in (low, high):
            pairs.add(item)
        assert pairs.add(Item(1)) == (False, ())
        assert pairs.add(higher) == (True, (low,))
        assert list(pairs) == [higher, high]
        assert pairs.get(low.key) is None

    def test_held_pairs_stay(self) -> None:
        held = {Item(1, "a"), Item(2, "b")}
        pairs: PairList[Item] = PairList(2, held=held.__contains__)
        for item in held:
            pairs.add(item)
        assert pairs.add(Item(9, "a")) == (False, ())
        assert pairs.add(Item(9, "c")) == (False, ())
        assert set(pairs) == held

    def test_a_full_list_drops_spent_pairs_first(self) -> None:
        low, spent, worse = Item(2), Item(3), Item(1)
        pairs: PairList[Item] = PairList(2, spent={spent}.__contains__)
        for item in (low, spent):
            pairs.add(item)
        assert pairs.add(worse) == (True, (spent,))
        assert list(pairs) == [low, worse]

    def test_remove(self) -> None:
        pairs: PairList[Item] = PairList()
        items = [Item(priority) for priority in (5, 5, 5, 1)]
        for item in items:
            pairs.add(item)
        pairs.remove(items[1])
        assert list(pairs) == [items[0], items[2], items[3]]
        assert items[1] not in pairs
        assert items[0] in pairs
        with pytest.raises(KeyError):
            pairs.remove(items[1])
        with pytest.raises(KeyError):
            pairs.remove(Item(5, items[0].key))

    def test_reprioritise_after_a_role_switch(self) -> None:
        pairs: PairList[Item] = PairList()
        items = [Item(3), Item(2), Item(1), Item(1)]
        for item in items:
            pairs.add(item)
        for item in items:
            item.priority = 4 - item.priority
        pairs.reprioritise()
        assert list(pairs) == [items[2], items[3], items[1], items[0]]
        pairs.remove(items[1])
        pairs.add(Item(2))
        assert priorities(pairs) == [3, 3, 2, 1]

    def test_a_limit_below_one_is_a_mistake(self) -> None:
        with pytest.raises(ValueError, match="limited to 0"):
            PairList(0)


class Counted(int):
    """A priority that counts the comparisons in which it takes part."""

    comparisons = 0

    def __lt__(self, other: int) -> bool:
        Counted.comparisons += 1
        return int.__lt__(self, other)

    def __gt__(self, other: int) -> bool:
        Counted.comparisons += 1
        return int.__gt__(self, other)

    def __le__(self, other: int) -> bool:
        Counted.comparisons += 1
        return int.__le__(self, other)

    def __ge__(self, other: int) -> bool:
        Counted.comparisons += 1
        return int.__ge__(self, other)

    def __eq__(self, other: object) -> bool:
        Counted.comparisons += 1
        return int.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        Counted.comparisons += 1
        return int.__ne__(self, other)

    __hash__ = int.__hash__


class TestCost:
    """In comparisons of priorities, which cost the same everywhere."""

    @pytest.fixture(params=["ascending", "descending", "random", "equal"])
    def hundred(self, request: pytest.FixtureRequest) -> list[Item]:
        numbers = {
            "ascending": list(range(1, 101)),
            "descending": list(range(100, 0, -1)),
            "random": Random(7).sample(range(1, 1000), 100),
            "equal": [1] * 100,
        }
        return [Item(Counted(number)) for number in numbers[request.param]]

    def test_forming_a_hundred_pairs_takes_n_log_n(self, hundred: list[Item]) -> None:
        pairs: PairList[Item] = PairList()
        Counted.comparisons = 0
        for item in hundred:
            pairs.add(item)
        assert 99 <= Counted.comparisons <= 100 * math.log2(100)

    def test_one_more_takes_log_n(self, hundred: list[Item]) -> None:
        pairs: PairList[Item] = PairList(101)
        for item in hundred:
            pairs.add(item)
        for number in (0, 50, 2000):
            Counted.comparisons = 0
            item = Item(Counted(number))
            pairs.add(item)
            assert 1 <= Counted.comparisons <= math.ceil(math.log2(101))
            pairs.remove(item)

    def test_one_more_in_a_full_list_takes_log_n(self, hundred: list[Item]) -> None:
        pairs: PairList[Item] = PairList(100)
        for item in hundred:
            pairs.add(item)
        Counted.comparisons = 0
        pairs.add(Item(Counted(2000)))
        assert 1 <= Counted.comparisons <= 1 + math.ceil(math.log2(100))

    def test_removal_and_lookup_take_none(self, hundred: list[Item]) -> None:
        pairs: PairList[Item] = PairList()
        for item in hundred:
            pairs.add(item)
        Counted.comparisons = 0
        pairs.remove(hundred[50])
        assert pairs.get(hundred[51].key) is hundred[51]
        assert Counted.comparisons == 0


class TestFormPairs:
    def test_of_rfc6544_appendix_c(self) -> None:
        local = parse_description(appendix_c.TCP_ONLY_OFFER).candidates
        remote = parse_description(appendix_c.TCP_ONLY_ANSWER).candidates
        formed = form_pairs([(each, each.related_address or each.address) for each in local], remote, controlling=True)
        # Rows: the offer's candidates by foundation; columns: active, passive and so of the answer.
        # Reflexive candidates share their bases with the host ones, which have the higher priority.
        grid = {
            "1": (Refusal.TCPTYPE, None, Refusal.TCPTYPE),
            "2": (Refusal.LOCAL_PASSIVE, Refusal.TCPTYPE, Refusal.TCPTYPE),
            "3": (Refusal.TCPTYPE, Refusal.TCPTYPE, None),
            "4": (Refusal.TCPTYPE, Refusal.REDUNDANT, Refusal.TCPTYPE),
            "5": (Refusal.LOCAL_PASSIVE, Refusal.TCPTYPE, Refusal.TCPTYPE),
            "6": (Refusal.TCPTYPE, Refusal.TCPTYPE, Refusal.REDUNDANT),
        }
        reasons: dict[tuple[str, str], Refusal | None] = {
            (drop.local.foundation, drop.remote.foundation): drop.reason for drop in formed.dropped
        }
        reasons |= {(pair.local.foundation, pair.remote.foundation): None for pair in formed.pairs}
        assert reasons == {(ours, theirs): grid[ours]["123".index(theirs)] for ours, theirs in product("123456", "123")}
        assert [pair.local.foundation for pair in formed.pairs] == ["1", "3"]

    def test_redundant_pairs_keep_the_higher_priority_in_any_order(self) -> None:
        host = make("10.0.0.1")
        srflx = make("192.0.2.9", type=CandidateType.SRFLX)
        for order in ([host, srflx], [srflx, host]):
            formed = form_pairs([(each, host.address) for each in order], [make()], controlling=True)
            assert [pair.local for pair in formed.pairs] == [host]
            assert [(drop.local, drop.reason) for drop in formed.dropped] == [(srflx, Refusal.REDUNDANT)]

    def test_the_limit_keeps_the_best(self) -> None:
        local = [(each, each.address) for each in (make(f"10.0.0.{rank}", rank=rank) for rank in range(1, 13))]
        remote = [make(f"192.0.2.{rank}", rank=rank) for rank in range(1, 13)]
        everything = form_pairs(local, remote, controlling=False, limit=1000)
        limited = form_pairs(local, remote, controlling=False)
        assert len(everything.pairs) == 144
        assert limited.pairs == everything.pairs[:100]
        assert [drop.reason for drop in limited.dropped] == [Refusal.LIMIT] * 44

    @pytest.mark.parametrize("controlling", [True, False])
    def test_priority_follows_the_role(self, controlling: bool) -> None:
        ours, theirs = make("10.0.0.1", rank=1), make()
        (pair,) = form_pairs([(ours, ours.address)], [theirs], controlling=controlling).pairs
        by_role = (ours.priority, theirs.priority) if controlling else (theirs.priority, ours.priority)
        assert pair == CandidatePair(ours, ours.address, theirs, pair_priority(*by_role))

    @given(st.data())
    def test_every_combination_is_accounted_for(self, data: st.DataObject) -> None:
        pool = [
            parse_candidate(f"{number} {component} {kind}")
            for number, (component, kind) in enumerate(
                product((1, 2), ("UDP 9 192.0.2.1 5 typ host", "UDP 8 ::1 5 typ host", "UDP 7 a.local 5 typ host")), 1
            )
        ] + [make(tcptype=tcptype) for tcptype in TcpType]
        pool = [replace(each, foundation=str(number)) for number, each in enumerate(pool)]
        local, remote = (data.draw(st.lists(st.sampled_from(pool), unique=True)) for _ in range(2))
        formed = form_pairs([(each, each.address) for each in local], remote, controlling=True, limit=3)
        accounted = [(pair.local, pair.remote) for pair in formed.pairs]
        accounted += [(drop.local, drop.remote) for drop in formed.dropped]
        assert len(accounted) == len(local) * len(remote)
        assert set(accounted) == set(product(local, remote))
