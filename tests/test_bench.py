from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import interop.bench.__main__ as command_line
from interop.bench import session as session_module
from interop.bench.endpoints import SUBJECTS, TurnServer
from interop.bench.figures import ALL_VARIANTS, FIGURES, Better, Bound, Figure, Malloc, Ratio, Variant
from interop.bench.reference import RECEIVED_MESSAGES, ReferenceConnection
from interop.bench.runner import FigureResult, Measurement, as_json, report_lines
from interop.bench.scenarios import SCENARIOS
from interop.bench.scenarios.comparisons import comparisons_forming, comparisons_trickled
from interop.bench.scenarios.data_channel import CONNECTIONS
from interop.bench.scenarios.gathering import gathering
from interop.bench.scenarios.relaying import relaying
from interop.bench.scenarios.traffic import one_way, round_trip, send_messages
from interop.bench.session import BenchError, Channel, QueueChannel, Session
from interop.bench.task import Task

FASTER = Figure(
    "fast", "a title", "ms", "connect", "ours", Ratio("theirs", 2.0), options={"count": 8}, quick={"count": 2}
)
MORE = Figure("many", "a title", "messages/s", "one_way", "ours", Ratio("theirs", 2.0), better=Better.HIGHER)
SMALL = Figure("small", "a title", "KiB", "memory", "ours", Bound(50.0), rounds=1)
SITUATIONS = {"one of three dead", "three alive", "embedded server", "coturn"}
"""Subjects that are no endpoints, but what surrounds one."""
TWO_VARIANTS = (Variant(1, Malloc.COLD), Variant(2, Malloc.WARM))


class Runs:
    """Stands for fresh interpreters: gives the values it was made with, and remembers what was asked of it."""

    def __init__(self, values: Callable[[Task], float]) -> None:
        self.tasks: list[Task] = []
        self._values = values

    async def __call__(self, task: Task) -> dict[str, Any]:
        self.tasks.append(task)
        return {"value": self._values(task), "bytes": 7}


async def measure(
    figure: Figure, *, rounds: int, quick: bool, run: Runs, turn: tuple[str, int] | None = None
) -> FigureResult:
    measurement = Measurement(figure, rounds=rounds, quick=quick, run=run)
    for number in range(measurement.rounds):
        await measurement.take(number, turn)
    return measurement.result()


def result_of(figure: Figure, values: Callable[[Task], float], rounds: int = 3, quick: bool = False) -> FigureResult:
    return asyncio.run(measure(figure, rounds=rounds, quick=quick, run=Runs(values)))


# Figures


@pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)
def test_figures_name_what_there_is(figure: Figure) -> None:
    assert figure.scenario in SCENARIOS
    subjects = {figure.subject} | ({figure.demand.peer} if isinstance(figure.demand, Ratio) else set())
    assert subjects <= set(SUBJECTS) | set(CONNECTIONS) | SITUATIONS
    assert set(figure.quick) <= set(figure.options)
    assert figure.rounds is None or figure.rounds % 2


def test_what_goes_over_a_network_is_measured_in_all_variants() -> None:
    for figure in FIGURES.values():
        if figure.scenario in ("connect", "one_way", "round_trip"):
            assert figure.variants == ALL_VARIANTS


# Samples and verdicts


def test_sides_alternate_and_each_variant_has_its_samples() -> None:
    runs = Runs(lambda _task: 1.0)
    asyncio.run(measure(FASTER, rounds=3, quick=False, run=runs))
    rounds = [runs.tasks[start : start + 8] for start in (0, 8, 16)]
    for number, tasks in enumerate(rounds):  # who is first alternates
        assert [task.subject for task in tasks[::2]] == [("ours", "theirs", "ours")[number]] * 4, (
            "who is first alternates"
        )
        assert {task.subject for task in tasks[:2]} == {"ours", "theirs"}
        assert [(task.processes, task.malloc) for task in tasks[::2]] == [
            (variant.processes, variant.malloc) for variant in ALL_VARIANTS
        ]
    assert {task.options["count"] for task in runs.tasks} == {8}


def test_quick_takes_its_own_options() -> None:
    runs = Runs(lambda _task: 1.0)
    asyncio.run(measure(FASTER, rounds=1, quick=True, run=runs))
    assert {task.options["count"] for task in runs.tasks} == {2}


def test_the_rounds_of_figures_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = Runs(lambda _task: 1.0)
    monkeypatch.setattr(command_line, "Measurement", partial(Measurement, run=runs))
    CliRunner().invoke(command_line.main, ["--rounds", "3", "one-way-tcp-1200", "memory-rss-udp", "stun-exchange"])
    order = [
        task.scenario
        for task, before in zip(runs.tasks, [None, *runs.tasks], strict=False)
        if before is None or before.scenario != task.scenario
    ]
    assert order == ["one_way", "memory", "stun_exchange", "one_way", "stun_exchange", "one_way", "stun_exchange"]


def test_a_figure_may_limit_rounds() -> None:
    result = result_of(SMALL, lambda _task: 40.0, rounds=5)
    assert [len(variant.subject.samples) for variant in result.variants] == [1] * len(ALL_VARIANTS)


@pytest.mark.parametrize(
    ("figure", "ours", "theirs", "ratio"),
    [(FASTER, 5.0, 20.0, 4.0), (FASTER, 20.0, 5.0, 0.25), (MORE, 400.0, 100.0, 4.0), (MORE, 100.0, 400.0, 0.25)],
)
def test_ratio_is_above_one_if_ours_is_better(figure: Figure, ours: float, theirs: float, ratio: float) -> None:
    result = result_of(figure, lambda task: ours if task.subject == "ours" else theirs)
    assert result.worst.ratio == ratio
    assert result.met is (ratio >= 2.0)


def test_medians_make_the_ratio() -> None:
    values = {"ours": deque([1.0, 9.0, 2.0] * 4), "theirs": deque([100.0, 6.0, 1.0] * 4)}
    result = result_of(FASTER, lambda task: values[task.subject].popleft())
    assert {variant.ratio for variant in result.variants} == {3.0}


@pytest.mark.parametrize("malloc", Malloc)
@pytest.mark.parametrize("processes", [1, 2])
def test_the_worst_variant_counts(processes: int, malloc: Malloc) -> None:
    def value(task: Task) -> float:
        bad = (task.processes, task.malloc) == (processes, malloc) and task.subject == "ours"
        return 12.0 if bad else 2.0 if task.subject == "ours" else 20.0

    result = result_of(FASTER, value)
    assert not result.met
    assert result.worst.variant == Variant(processes, malloc)


@pytest.mark.parametrize(("value", "met"), [(49.9, True), (50.0, True), (50.1, False), (0.0, True)])
def test_a_bound_is_a_limit(value: float, met: bool) -> None:
    assert result_of(SMALL, lambda _task: value).met is met


def test_report_and_json_tell_all() -> None:
    result = result_of(FASTER, lambda task: 4.0 if task.subject == "ours" else 20.0)
    text = "\n".join(report_lines(result))
    assert "fast: a title (ms, lower is better)" in text
    assert "2 processes, malloc warm" in text
    assert "met: worst ratio 5.00 with 1 process, malloc cold, floor 2" in text
    document = json.loads(json.dumps(as_json(result)))
    assert document["met"] is True
    assert document["demand"] == {"peer": "theirs", "floor": 2.0}
    assert [variant["ratio"] for variant in document["variants"]] == [5.0] * 4
    side = document["variants"][0]["sides"][1]
    assert (side["subject"], side["min"], side["median"], side["max"]) == ("theirs", 20.0, 20.0, 20.0)
    assert side["runs"] == [{"value": 20.0, "bytes": 7}] * 3


# Command line


@pytest.mark.parametrize(
    ("value", "status", "summary"),
    [(40.0, 0, "1 met, 0 not met, 0 not measured"), (60.0, 1, "0 met, 1 not met, 0 not measured")],
)
def test_exit_status_says_whether_the_floors_are_met(
    value: float, status: int, summary: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runs = Runs(lambda _task: value)
    monkeypatch.setattr(command_line, "Measurement", partial(Measurement, run=runs))
    file = tmp_path / "bench.json"
    result = CliRunner().invoke(command_line.main, ["memory-rss-udp", "--json", str(file)])
    assert result.exit_code == status
    assert summary in result.output
    assert {task.scenario for task in runs.tasks} == {"memory"}
    document = json.loads(file.read_text(encoding="utf-8"))
    assert [figure["met"] for figure in document["figures"]] == [status == 0]


def test_what_cannot_be_measured_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(task: Task) -> dict[str, Any]:
        raise BenchError("message 5 was lost")

    monkeypatch.setattr(command_line, "Measurement", partial(Measurement, run=broken))
    result = CliRunner().invoke(command_line.main, ["--quick", "memory-rss-udp"])
    assert result.exit_code == 1
    assert "memory-rss-udp: not measured: message 5 was lost" in result.output


@pytest.mark.parametrize("rounds", ["0", "-1", "4"])
def test_rounds_are_odd(rounds: str) -> None:
    result = CliRunner().invoke(command_line.main, ["--rounds", rounds, "memory-rss-udp"])
    assert result.exit_code == 2
    assert "not an odd number" in result.output


# Scenarios: whatever is lost or changed on the way gives no figure


class Wire:
    """An endpoint whose messages go through ``spoil``, which may change, drop or double them."""

    def __init__(self, spoil: Callable[[int, bytes], list[bytes]]) -> None:
        self._spoil = spoil
        self._sent = 0
        self.incoming: asyncio.Queue[bytes] = asyncio.Queue()
        self.other: Wire | None = None

    async def send(self, data: bytes) -> None:
        assert self.other is not None
        for message in self._spoil(self._sent, data):
            self.other.incoming.put_nowait(message)
        self._sent += 1

    async def recv(self) -> bytes:
        return await self.incoming.get()

    async def prepare(self, signaling: Channel) -> None: ...
    async def connect(self) -> None: ...
    async def nominated(self) -> None: ...
    async def close(self) -> None: ...


def run_over_wire(
    scenario: Callable[[Session], Any], options: dict[str, int], spoil: Callable[[int, bytes], list[bytes]]
) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        ends = [Wire(spoil), Wire(lambda _number, data: [data])]
        ends[0].other, ends[1].other = ends[1], ends[0]
        channel = QueueChannel()

        class WireSession(Session):
            def endpoint(self) -> Wire:
                return ends[0 if self.first else 1]

        first = WireSession(True, "wire", 1, options, channel)
        second = WireSession(False, "wire", 1, options, channel.other_end)
        async with asyncio.timeout(2):
            results = await asyncio.gather(scenario(first), scenario(second))
        result: dict[str, Any] = results[0]
        return result

    return asyncio.run(run())


ONE_WAY = {"count": 300, "size": 50, "window": 64}


@pytest.mark.parametrize("window", [0, 64])
def test_one_way_counts_what_arrived(window: int) -> None:
    result = run_over_wire(one_way, {**ONE_WAY, "window": window}, lambda _number, data: [data])
    assert (result["messages"], result["bytes"]) == (300, 15000)
    assert result["value"] > 0


def test_one_way_has_at_most_a_window_in_flight() -> None:
    # Without the second end nothing is acknowledged
    async def run() -> list[bytes]:
        end = Wire(lambda _number, data: [data])
        end.other = Wire(lambda _number, data: [data])
        sending = asyncio.ensure_future(send_messages(end, 300, 50, 64))
        await asyncio.sleep(0)
        assert not sending.done()
        sending.cancel()
        return [end.other.incoming.get_nowait() for _ in range(end.other.incoming.qsize())]

    assert len(asyncio.run(run())) == 64


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda number, data: [] if number == 7 else [data], id="lost"),
        pytest.param(lambda number, data: [data, data] if number == 7 else [data], id="doubled"),
        pytest.param(lambda number, data: [data[:-1]] if number == 7 else [data], id="cut"),
        pytest.param(lambda number, data: [data[:-1] + b"x"] if number == 7 else [data], id="changed"),
    ],
)
@pytest.mark.parametrize(("scenario", "options"), [(one_way, ONE_WAY), (round_trip, {"count": 50, "size": 50})])
def test_a_spoilt_message_gives_no_figure(
    scenario: Callable[[Session], Any], options: dict[str, int], spoil: Callable[[int, bytes], list[bytes]]
) -> None:
    with pytest.raises((BenchError, TimeoutError)):
        run_over_wire(scenario, options, spoil)


def test_comparisons_are_within_their_bounds() -> None:
    session = Session(True, "ice-tcp", 1, {}, QueueChannel())
    for scenario in (comparisons_forming, comparisons_trickled):
        result = asyncio.run(scenario(session))
        assert 0 < result["value"] <= 1.0
        assert all(count > 0 for count in result["comparisons"].values())


# The reference


class FakeTransport(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.written.append(b"closed")


def reference() -> tuple[ReferenceConnection, FakeTransport]:
    connection, transport = ReferenceConnection(), FakeTransport()
    connection.connection_made(transport)
    return connection, transport


@given(st.lists(st.binary(max_size=40), min_size=1, max_size=10), st.integers(1, 30))
def test_reference_splits_any_stream(messages: list[bytes], size: int) -> None:
    async def run() -> None:
        sender, wire = reference()
        receiver, _ = reference()
        for message in messages:
            await sender.send(message)
        assert len(wire.written) == len(messages)
        stream = b"".join(wire.written)
        for at in range(0, len(stream), size):
            receiver.data_received(stream[at : at + size])
        assert [await receiver.recv() for _ in messages] == messages

    asyncio.run(run())


def test_reference_pauses_reading_when_messages_wait() -> None:
    async def run() -> None:
        connection, transport = reference()
        connection.data_received(b"\0\1a" * RECEIVED_MESSAGES)
        assert transport.reading
        connection.data_received(b"\0\1a")
        assert not transport.reading
        for _ in range(RECEIVED_MESSAGES // 2):
            await connection.recv()
        assert not transport.reading
        await connection.recv()
        assert transport.reading

    asyncio.run(run())


def test_reference_send_waits_for_room() -> None:
    async def run() -> None:
        connection, _ = reference()
        connection.pause_writing()
        sending = asyncio.ensure_future(connection.send(b"a"))
        await asyncio.sleep(0)
        assert not sending.done()
        connection.resume_writing()
        await sending

    asyncio.run(run())


def test_reference_raises_after_its_end() -> None:
    async def run() -> None:
        connection, _ = reference()
        receiving = asyncio.ensure_future(connection.recv())
        await asyncio.sleep(0)
        connection.data_received(b"\0\1a")
        assert await receiving == b"a"
        receiving = asyncio.ensure_future(connection.recv())
        await asyncio.sleep(0)
        connection.connection_lost(None)
        with pytest.raises(ConnectionError):
            await receiving
        with pytest.raises(ConnectionError):
            await connection.send(b"a")

    asyncio.run(run())


def test_reference_before_a_connection_raises() -> None:
    with pytest.raises(ConnectionError, match="no connection yet"):
        asyncio.run(ReferenceConnection().send(b"a"))


# Servers


def test_a_relayed_figure_needs_a_server_and_gets_its_address() -> None:
    figure = FIGURES["relayed-tcp-1200"]
    runs = Runs(lambda _task: 1.0)
    with pytest.raises(BenchError, match="no server"):
        asyncio.run(measure(figure, rounds=1, quick=True, run=runs))
    assert not runs.tasks
    asyncio.run(measure(figure, rounds=1, quick=True, turn=("127.0.0.1", 3478), run=runs))
    assert {tuple(task.options["turn"]) for task in runs.tasks} == {("127.0.0.1", 3478, "tcp")}


def test_only_the_first_end_is_relayed(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr(session_module, "make_endpoint", lambda *arguments: made.append(arguments))
    for first in (True, False):
        Session(first, "aioice", 1, {"turn": ["127.0.0.1", 3478, "udp"]}, QueueChannel()).endpoint()
    assert made == [("aioice", True, TurnServer("127.0.0.1", 3478, "udp")), ("aioice", False, None)]


@pytest.mark.parametrize("subject", ["one of three dead", "three alive"])
@pytest.mark.parametrize("until", ["host", "live"])
def test_gathering_is_timed(subject: str, until: str) -> None:
    session = Session(True, subject, 1, {"until": until, "repeats": 1}, QueueChannel())
    result = asyncio.run(gathering(session))
    assert result["value"] > 0
    assert len(result["times"]) == 1


@pytest.mark.interop
@pytest.mark.parametrize("subject", ["embedded server", "coturn"])
def test_relaying_is_timed(subject: str) -> None:
    options = {"size": 1200, "count": 200, "window": 32}

    async def main() -> dict[str, Any]:
        channel = QueueChannel()
        ends = [Session(True, subject, 1, options, channel), Session(False, subject, 1, options, channel.other_end)]
        first, _ = await asyncio.gather(*map(relaying, ends))
        return first

    result = asyncio.run(main())
    assert result["value"] == 200 / result["seconds run"]
