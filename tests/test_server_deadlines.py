from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ice_tcp.server.core.deadlines import Deadline, Deadlines


def test_due_deadlines_expire_in_order() -> None:
    deadlines, expired = Deadlines(), list[str]()
    deadlines.set(2.0, lambda _: expired.append("later"))
    deadlines.set(1.0, lambda _: expired.append("first"))
    deadlines.set(1.0, lambda _: expired.append("second"))
    assert deadlines.next_at() == 1.0
    deadlines.expire(1.5)
    assert expired == ["first", "second"]
    deadlines.expire(2.0)
    assert expired[2:] == ["later"] and deadlines.next_at() is None


def test_what_expires_may_set_more() -> None:
    deadlines, expired = Deadlines(), list[float]()

    def again(now: float) -> None:
        expired.append(now)
        if len(expired) < 3:
            deadlines.set(now, again)

    deadlines.set(1.0, again)
    deadlines.expire(5.0)
    assert expired == [5.0, 5.0, 5.0]


steps = st.lists(
    st.one_of(
        st.tuples(st.just("set"), st.integers(0, 20)),
        st.tuples(st.just("move"), st.integers(0, 20)),
        st.tuples(st.just("cancel"), st.just(0)),
        st.tuples(st.just("expire"), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(steps)
def test_each_expires_once_at_its_time_however_it_was_moved(steps: list[tuple[str, int]]) -> None:
    deadlines, now = Deadlines(), 0
    alive: list[tuple[list[float], Deadline]] = []
    for turn, (step, value) in enumerate(steps):
        chosen = alive[turn * 7 % len(alive)] if alive else None
        if step == "set":
            expired: list[float] = []
            alive.append((expired, deadlines.set(now + value, expired.append)))
        elif step == "move" and chosen is not None:
            chosen[1].move(now + value)
        elif step == "cancel" and chosen is not None:
            chosen[1].cancel()
            alive.remove(chosen)
            assert not chosen[1].pending
        elif step == "expire":
            now += value
            deadlines.expire(now)
            for expired, deadline in list(alive):
                assert expired == ([now] if deadline.at <= now else [])
                if expired:
                    alive.remove((expired, deadline))
    assert deadlines.next_at() == min((deadline.at for _, deadline in alive), default=None)


def test_cancelled_and_moved_deadlines_take_no_memory() -> None:
    deadlines = Deadlines()
    kept = deadlines.set(1e9, lambda _: None)
    for turn in range(10_000):
        deadlines.set(1000.0, lambda _: None).cancel()
        kept.move(1e9 - turn)
    assert len(deadlines) < 200
