"""What is measured, against whom, and how good it has to be. The floors are here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from types import MappingProxyType
from typing import Final


class Malloc(StrEnum):
    """State of glibc's allocator.

    asyncio reads into 256 KiB: while no block of more was ever freed in the process, each read maps and unmaps
    memory. Freeing one raises the threshold for good.
    """

    COLD = "cold"
    WARM = "warm"


@dataclass(frozen=True, slots=True)
class Variant:
    """Both agents in this many processes, with the allocator in this state."""

    processes: int
    malloc: Malloc

    def __str__(self) -> str:
        return f"{self.processes} process{'es' if self.processes > 1 else ''}, malloc {self.malloc}"


ALL_VARIANTS: Final = tuple(Variant(*each) for each in product((1, 2), (Malloc.COLD, Malloc.WARM)))
ONE_PROCESS: Final = tuple(Variant(1, malloc) for malloc in Malloc)
BOTH_COLD: Final = tuple(Variant(processes, Malloc.COLD) for processes in (1, 2))


class Better(StrEnum):
    """Which values of a figure are better."""

    LOWER = "lower"
    HIGHER = "higher"


@dataclass(frozen=True, slots=True)
class Ratio:
    """How many times better than ``peer`` the subject is, by medians: at least ``floor``."""

    peer: str
    floor: float


@dataclass(frozen=True, slots=True)
class Bound:
    """The subject's median is at most ``limit``, in the figure's unit."""

    limit: float


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table of floors.

    ``scenario`` is a function of `interop.bench.scenarios`, run with ``options``, for ``subject`` and the peer, if
    there is one; see `interop.bench.endpoints` for their names. ``quick`` are the options that ``--quick`` changes.
    ``rounds`` limits how often a slow or exact one is repeated. ``relayed_by`` is how the first end reaches the coturn
    that relays what it sends, "udp" or "tcp"; None if nothing is relayed.
    """

    name: str
    title: str
    unit: str
    scenario: str
    subject: str
    demand: Ratio | Bound
    options: Mapping[str, object] = field(default_factory=dict)
    quick: Mapping[str, object] = field(default_factory=dict)
    better: Better = Better.LOWER
    variants: tuple[Variant, ...] = ALL_VARIANTS
    rounds: int | None = None
    relayed_by: str | None = None


def _connect(name: str, what: str, until: str, subject: str, floor: float) -> Figure:
    return Figure(
        name,
        f"{what} on both sides, against aioice's connect()",
        "ms",
        "connect",
        subject,
        Ratio("aioice", floor),
        options={"until": until, "repeats": 11},
        quick={"repeats": 3},
    )


def _one_way(name: str, subject: str, peer: str, floor: float, **options: int) -> Figure:
    window = f", window {options['window']}" if options["window"] else ""
    return Figure(
        name,
        f"{options['size']} B one way through send / await recv(){window}, nothing lost, against {peer}",
        "messages/s",
        "one_way",
        subject,
        Ratio(peer, floor),
        options=options,
        quick={"count": options["count"] // 4},
        better=Better.HIGHER,
    )


def _channel_open(transport: str) -> Figure:
    return Figure(
        f"channel-open-{transport}",
        f"answer set to aiortc's data channel open, over {transport.upper()}, against aiortc as it is",
        "ms",
        "channel_open",
        f"drop-in/{transport}",
        Ratio("aiortc", 1.0),
        options={"repeats": 11},
        quick={"repeats": 7},
        variants=BOTH_COLD,
    )


def _channel_one_way(transport: str) -> Figure:
    return Figure(
        f"channel-one-way-{transport}",
        f"16 KiB messages through aiortc's channel over {transport.upper()}, nothing lost, against aiortc as it is",
        "MB/s",
        "channel_one_way",
        f"drop-in/{transport}",
        Ratio("aiortc", 1.0),
        options={"size": 16384, "count": 2000},
        quick={"count": 500},
        better=Better.HIGHER,
        variants=BOTH_COLD,
    )


def _relayed(transport: str) -> Figure:
    return Figure(
        f"relayed-{transport}-1200",
        f"1200 B one way through a relay of one coturn, reached by {transport.upper()}, window 48, nothing lost, "
        "against aioice",
        "messages/s",
        "one_way",
        "ice-tcp/udp",
        Ratio("aioice", 2.0),
        # coturn's buffers lose packets when 64 are in flight.
        options={"size": 1200, "count": 40_000, "window": 48},
        quick={"count": 8000},
        better=Better.HIGHER,
        relayed_by=transport,
    )


def _gathering(until: str, what: str) -> Figure:
    return Figure(
        f"gathering-{until}",
        f"{what} with a dead STUN server among three, against the same with all alive",
        "ms",
        "gathering",
        "one of three dead",
        # Not later: a tenth is left to the machine, which does not run the same code equally fast twice.
        Ratio("three alive", 0.9),
        options={"until": until, "repeats": 11},
        quick={"repeats": 3},
        variants=ONE_PROCESS,
    )


def _round_trip(name: str, subject: str, peer: str) -> Figure:
    return Figure(
        name,
        f"round trip of a lone message of 100 B, against {peer}",
        "us",
        "round_trip",
        subject,
        Ratio(peer, 1.0),
        options={"size": 100, "count": 5000},
        quick={"count": 1000},
    )


def _memory(measure: str, transport: str) -> Figure:
    return Figure(
        f"memory-{measure}-{transport}",
        f"memory of an agent connected over {transport.upper()} by {measure}, 1000 in a process, sockets aside",
        "KiB",
        "memory",
        "ice-tcp" if transport == "udp" else f"ice-tcp/{transport}",
        Bound(50.0),
        options={"measure": measure, "agents": 1000},
        quick={"agents": 100},
        variants=BOTH_COLD,
        rounds=1,
    )


def _comparisons(name: str, title: str, scenario: str) -> Figure:
    return Figure(
        name,
        title,
        "times",
        scenario,
        "ice-tcp",
        Bound(1.0),
        variants=(Variant(1, Malloc.COLD),),
        rounds=1,
    )


FIGURES: Final[Mapping[str, Figure]] = MappingProxyType(
    {
        figure.name: figure
        for figure in (
            _connect("first-valid-udp", "first valid pair, UDP", "valid", "ice-tcp/udp", 10.0),
            _connect("first-valid-tcp", "first valid pair, TCP", "valid", "ice-tcp/tcp", 10.0),
            _connect("nominated-udp", "nominated, UDP", "nominated", "ice-tcp/udp", 10.0),
            _connect("nominated-tcp", "nominated, TCP", "nominated", "ice-tcp/tcp", 10.0),
            _connect("nominated-udp-strict", "nominated, UDP, strict pacing", "nominated", "ice-tcp/udp/strict", 2.0),
            _connect("nominated-tcp-strict", "nominated, TCP, strict pacing", "nominated", "ice-tcp/tcp/strict", 2.0),
            _one_way("one-way-udp-1200", "ice-tcp/udp", "aioice", 4.0, size=1200, count=40_000, window=64),
            _one_way("one-way-tcp-1200", "ice-tcp/tcp", "reference", 1.5, size=1200, count=100_000, window=0),
            _one_way("one-way-tcp-16384", "ice-tcp/tcp", "reference", 0.9, size=16384, count=40_000, window=0),
            _relayed("udp"),
            _relayed("tcp"),
            *(_channel_open(transport) for transport in ("udp", "tcp")),
            *(_channel_one_way(transport) for transport in ("udp", "tcp")),
            _gathering("host", "first host candidate"),
            _gathering("live", "last candidate of the live servers"),
            Figure(
                "relaying",
                "1200 B packets that the embedded server relays in a second of a processor, against coturn",
                "packets/s",
                "relaying",
                "embedded server",
                Ratio("coturn", 0.25),
                options={"size": 1200, "count": 40_000, "window": 64},
                quick={"count": 8000},
                better=Better.HIGHER,
                variants=(Variant(1, Malloc.COLD),),
            ),
            _round_trip("round-trip-udp", "ice-tcp/udp", "aioice"),
            _round_trip("round-trip-tcp", "ice-tcp/tcp", "reference"),
            Figure(
                "stun-exchange",
                "encode, decode and verify a Binding request and its response, against aioice.stun",
                "us",
                "stun_exchange",
                "ice-tcp",
                Ratio("aioice", 2.5),
                options={"count": 20_000},
                quick={"count": 4000},
                variants=ONE_PROCESS,
            ),
            *(_memory(measure, transport) for measure in ("tracemalloc", "rss") for transport in ("udp", "tcp")),
            _comparisons(
                "comparisons-forming",
                "comparisons while 100 pairs are formed and ordered, in any order, by 100 log2 100",
                "comparisons_forming",
            ),
            _comparisons(
                "comparisons-trickled",
                "comparisons for a trickled candidate among 100 pairs, by 100",
                "comparisons_trickled",
            ),
        )
    }
)
