"""The table: each peer, its role and transport, and what has to work. A cell returns the path it took, in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeAlias

from interop.conformance.candidate_lines import CandidateKind
from interop.natlab.cell import run_cell
from interop.natlab.expectation import Outcome
from interop.natlab.kinds import Site
from interop.natlab.scenario import Leg, Scenario, Transports, Weather
from interop.natlab.servers import make_certificate
from interop.natlab.topology import LEFT, RIGHT
from interop.peers.ice import Session, run_session
from interop.peers.run import End, Exchange, run_exchange

UDP, ACTIVE, PASSIVE = CandidateKind.UDP, CandidateKind.ACTIVE, CandidateKind.PASSIVE
TCP: Final = frozenset((ACTIVE, PASSIVE))
UDP_BLOCKED: Final = ("port-restricted+no-udp", "direct")
"""The peer's NAT lets no UDP out."""

Name: TypeAlias = Callable[..., str]
"""Makes a namespace's name of parts; see `Run.name`."""
Body: TypeAlias = Callable[[Name, Path], Coroutine[Any, Any, str]]


class CellError(Exception):
    """A cell came to something else than it has to."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One line of the table."""

    peer: str
    role: str
    transport: str
    what: str
    body: Body = field(repr=False, compare=False)

    @property
    def title(self) -> str:
        return f"{self.peer}, {self.role}, {self.transport}: {self.what}"


def all_cells() -> list[Cell]:
    return [*_aioice(), *_aiortc(), *_libnice(), *_node(), *_chromium(), *_firefox(), *_coturn()]


# ICE alone


def _aioice() -> Iterable[Cell]:
    for controls in (True, False):
        session = Session(
            peer="aioice",
            ours="ice-tcp-aioice",
            peer_kinds=frozenset((UDP,)),
            our_kinds=frozenset((UDP,)),
            peer_controls=controls,
            expected=" udp ",
        )
        yield Cell("aioice", _controls(controls), "UDP", "messages, to its drop-in", _session(session))


def _libnice() -> Iterable[Cell]:
    kinds = (
        ("UDP", frozenset((UDP,)), frozenset((UDP,)), "udp"),
        ("TCP, it is active", frozenset((ACTIVE,)), frozenset((PASSIVE,)), "active"),
        ("TCP, it is passive", frozenset((PASSIVE,)), frozenset((ACTIVE,)), "passive"),
        ("UDP and TCP", TCP | {UDP}, TCP | {UDP}, "udp"),
    )
    for controls in (True, False):
        for transport, theirs, ours, expected in kinds:
            session = Session(
                peer="libnice", peer_kinds=theirs, our_kinds=ours, peer_controls=controls, expected=expected
            )
            yield Cell("libnice", _controls(controls), transport, "messages", _session(session))
        for leg in ("udp", "tcp"):
            session = Session(
                peer="libnice",
                peer_kinds=frozenset((UDP,)),
                our_kinds=frozenset((UDP,)),
                peer_controls=controls,
                expected="typ relay",
                relayed_over=leg,
            )
            transport = f"UDP, its relay over {leg.upper()}"
            yield Cell("libnice", _controls(controls), transport, "messages", _session(session))


def _controls(peer_controls: bool) -> str:
    return "controlling" if peer_controls else "controlled"


def _session(session: Session) -> Body:
    async def body(_name: Name, directory: Path) -> str:
        return _candidate_words(await run_session(session, directory))

    return body


def _candidate_words(line: str) -> str:
    fields = line.split()
    tcptype = f" {fields[fields.index('tcptype') + 1]}" if "tcptype" in fields else ""
    return f"{fields[2].lower()}{tcptype} {fields[fields.index('typ') + 1]}"


# Data channels and media


def ours(*transports: str, **plan: Any) -> End:
    """aiortc with our transport."""
    return _rtc({"stack": "ice-tcp", "transports": transports or ("udp", "tcp"), **plan})


def stock() -> End:
    """aiortc as it is."""
    return _rtc({"stack": "aiortc", "transports": ("udp",)})


def browser(name: str, **plan: Any) -> End:
    """A headless one: chromium or firefox."""
    return End((sys.executable, "-m", "interop.peers.browser_peer", name), plan)


def _rtc(plan: Mapping[str, Any]) -> End:
    return End((sys.executable, "-m", "interop.peers.rtc_peer"), plan)


def _aiortc() -> Iterable[Cell]:
    for offers in (True, False):
        yield _exchange(
            "aiortc", offers, "UDP", "data channel", stock(), ours("udp", "tcp"), protocol="udp", told=False
        )
    both = {"sends": ("audio", "video"), "awaits": ("audio", "video")}
    for transport in ("udp", "tcp"):
        end = ours(transport, **both)
        what = "data channel, audio, video; ours to ours"
        for offers in (True, False):
            yield _exchange("aiortc", offers, transport.upper(), what, end, end, protocol=transport)


def _node() -> Iterable[Cell]:
    node = End(("node", str(Path(__file__).with_name("node_peer.js"))))
    ends = (
        ("UDP", ours("udp"), "udp"),
        ("TCP, it is active", ours("tcp", policy={"tcp_types": ["passive"]}), "tcp"),
        ("TCP, it is passive", ours("tcp", policy={"tcp_types": ["active"]}), "tcp"),
    )
    for offers in (True, False):
        for transport, end, protocol in ends:
            yield _exchange("libwebrtc in Node", offers, transport, "data channel", node, end, protocol=protocol)


def _chromium() -> Iterable[Cell]:
    page, end = browser("chromium", camera=True), ours("udp", "tcp", awaits=("video",))
    what = "data channel, video of its camera"
    for offers in (True, False):
        yield _exchange("Chromium", offers, "UDP", what, page, end, protocol="udp")
        yield _exchange("Chromium", offers, "TCP, UDP blocked", what, page, end, protocol="tcp", sites=UDP_BLOCKED)


def _firefox() -> Iterable[Cell]:
    page, what = browser("firefox", camera=False), "data channel"
    opening = ours("tcp", policy={"tcp_types": ["so"], "address_families": ["ipv4"]})
    for offers in (True, False):
        yield _exchange("Firefox", offers, "UDP", what, page, ours("udp"), protocol="udp")
        yield _exchange(
            *("Firefox", offers, "TCP active, UDP blocked", what, page, ours("udp", "tcp")),
            protocol="tcp",
            tcptype="active",
            sites=UDP_BLOCKED,
        )
        yield _exchange(
            *("Firefox", offers, "TCP simultaneous open", what, page, opening),
            protocol="tcp",
            tcptype="so",
            simultaneous=True,
        )


def _exchange(
    peer: str,
    offers: bool,
    transport: str,
    what: str,
    left: End,
    right: End,
    *,
    protocol: str,
    tcptype: str | None = None,
    told: bool = True,
    sites: tuple[str, str] = ("direct", "direct"),
    simultaneous: bool = False,
) -> Cell:
    """``protocol`` and ``tcptype`` are those of the peer's selected candidate, if it has told it."""

    def check(theirs: Mapping[str, Any], mine: Mapping[str, Any]) -> Sequence[str]:
        wrong = []
        for side, result, knows in ((LEFT, theirs, told), (RIGHT, mine, True)):
            if knows and (result["pair"] is None or result["pair"]["local"]["protocol"] != protocol):
                wrong.append(f"{side}: the selected pair is {result['pair']}")
        if tcptype is not None and not wrong and not _is_of(tcptype, theirs["pair"]["local"], theirs["sdp"]):
            wrong.append(f"its candidate is {theirs['pair']['local']}")
        return wrong

    async def body(name: Name, directory: Path) -> str:
        exchange = Exchange(
            left=left,
            right=right,
            left_offers=offers,
            left_closes=offers,
            sites=sites,
            simultaneous=simultaneous,
            check=check,
        )
        results = await run_exchange(exchange, name, directory)
        return _pair_words(results[RIGHT]["pair"])

    return Cell(peer, "offers, closes" if offers else "answers", transport, what, body)


def _is_of(tcptype: str, selected: Mapping[str, Any], sdp: str) -> bool:
    """Whether the selected candidate has this type: by its statistics, or, if they are silent, by what it offered."""
    if selected["tcpType"] is not None:
        return bool(selected["tcpType"] == tcptype)
    place = f" {selected['address']} {selected['port']} "
    return any(place in line and f"tcptype {tcptype}" in line for line in sdp.splitlines())


def _pair_words(pair: Mapping[str, Mapping[str, Any]]) -> str:
    local, remote = pair["local"], pair["remote"]
    tcptype = f" {local['tcpType']}" if local["tcpType"] else ""
    return f"{local['protocol']}{tcptype} {local['candidateType']} > {remote['candidateType']}"


# The relay


def _coturn() -> Iterable[Cell]:
    for title, transports, leg in (
        ("UDP", Transports.UDP, Leg.UDP),
        ("TCP", Transports.UDP, Leg.TCP),
        ("TLS", Transports.UDP, Leg.TLS),
        ("RFC 6062", Transports.TCP, Leg.TCP),
    ):
        yield Cell("coturn", "relay", title, "messages between symmetric NATs", _relayed(transports, leg))


def _relayed(transports: Transports, leg: Leg) -> Body:
    async def body(name: Name, directory: Path) -> str:
        site = Site.parse("symmetric-random")
        scenario = Scenario(left=site, right=site, transports=transports, legs=(leg,), weather=Weather(rtt=0.02))
        make_certificate(directory)
        result = await run_cell(scenario, name, directory / "cell", directory)
        if result.outcome is not Outcome.RELAY:
            raise CellError(result.why)
        return result.path

    return body
