"""The NAT lab as far as it is data and arithmetic; what needs root is in test_natlab_world.py."""

from __future__ import annotations

import json
import random
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

import interop.natlab.command as command_line
from ice_tcp import TraceFile
from ice_tcp.core.exchanges import ServerAnswered, ServerRequestSent
from ice_tcp.core.trace import CheckAnswered, Entry
from ice_tcp.stun import MessageClass, Method, encode
from ice_tcp.tracefile import Clock
from interop.__main__ import main
from interop.natlab import matrix, times
from interop.natlab.classify import TCP, UDP, Findings, mismatches
from interop.natlab.expectation import Outcome, expected
from interop.natlab.heatmap import page
from interop.natlab.internet import LADDER_FILE, Order
from interop.natlab.kinds import KINDS, Dependence, LabError, Option, Ports, Site
from interop.natlab.line import QUEUE_SECONDS, REORDER_SECONDS, Attachment, Fate, Line, Link, Logged
from interop.natlab.packets import describe, ladder
from interop.natlab.pcapng import pcapng
from interop.natlab.reports import write_reports
from interop.natlab.requirements import missing
from interop.natlab.results import CellResult, SideResult
from interop.natlab.rules import SOURCE_NAT, ruleset
from interop.natlab.runner import CellReport
from interop.natlab.scenario import Leg, Scenario, ServerKind, Transports, Weather
from interop.natlab.table import cell_text, matrices, summary
from interop.natlab.topology import LEFT, RIGHT, SERVER, plan


def scenario(left: str, right: str | None = "direct", transports: Transports = Transports.BOTH) -> Scenario:
    return Scenario(left=Site.parse(left), right=None if right is None else Site.parse(right), transports=transports)


# Kinds and sites


@pytest.mark.parametrize(
    "text",
    [*KINDS, "port-restricted+rst", "full-cone+hairpin+no-udp", "port-restricted+cgn=symmetric-random"],
)
def test_a_site_is_written_as_it_is_read(text: str) -> None:
    assert str(Site.parse(text)) == text


def test_a_carrier_is_port_changing_unless_it_is_named() -> None:
    assert Site.parse("full-cone+cgn").carrier == KINDS["port-changing"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("cone", "no kind 'cone'; there are direct, full-cone"),
        ("full-cone+rts", "no option 'rts'; there are rst"),
        ("full-cone+cgn=cone", "no kind 'cone'"),
        ("direct+rst", "direct has no box"),
        ("ipv6-firewall+cgn", "cgn wants a NAT at home"),
        ("full-cone+cgn=direct", "cgn wants a NAT at home"),
        ("ipv6-firewall+hairpin", "nothing to hairpin"),
        ("", "no kind ''"),
    ],
)
def test_a_site_that_cannot_be_says_why(text: str, what: str) -> None:
    with pytest.raises(LabError, match=what):
        Site.parse(text)


def test_behind_a_carrier_the_stricter_box_decides() -> None:
    site = Site.parse("full-cone+cgn=symmetric-random")
    assert site.mapping is site.filtering is Dependence.ADDRESS_AND_PORT_DEPENDENT
    assert Site.parse("symmetric-random+cgn=full-cone").mapping is Dependence.ADDRESS_AND_PORT_DEPENDENT


def test_two_hosts_behind_one_box_need_a_box() -> None:
    with pytest.raises(LabError, match="no box that both hosts could be behind"):
        scenario("direct", None)


# Which cells are direct

CLASSES = ("direct", "full-cone", "address-restricted", "port-restricted", "port-changing", "symmetric-random")
MEASURED = """
direct             yes yes yes yes   yes   yes
full-cone          yes yes yes yes   yes   yes
address-restricted yes yes yes yes   yes   yes
port-restricted    yes yes yes yes   yes   relay
port-changing      yes yes yes yes   yes   relay
symmetric-random   yes yes yes relay relay relay
"""
"""Measured over TCP through kernel NATs, one connect() a side from the port that STUN had seen, with listeners."""


def measured() -> Iterator[tuple[str, str, str]]:
    for line in MEASURED.strip().splitlines():
        left, *row = line.split()
        yield from ((left, right, outcome) for right, outcome in zip(CLASSES, row, strict=True))


@pytest.mark.parametrize("transports", Transports)
@pytest.mark.parametrize(("left", "right", "outcome"), list(measured()))
def test_what_must_be_direct_is_what_was_measured(left: str, right: str, outcome: str, transports: Transports) -> None:
    assert (expected(scenario(left, right, transports)) is Outcome.DIRECT) is (outcome == "yes")


@pytest.mark.parametrize("kind", ["address-dependent", "address-and-port-dependent", "symmetric-sequential"])
@pytest.mark.parametrize("other", CLASSES)
def test_all_dependent_mappings_are_alike(kind: str, other: str) -> None:
    assert expected(scenario(kind, other)) is expected(scenario("symmetric-random", other))


@pytest.mark.parametrize(
    ("left", "right", "transports", "outcome"),
    [
        ("port-restricted+no-so", "port-restricted", Transports.TCP, Outcome.DIRECT),
        ("port-restricted+no-so", "port-restricted+no-so", Transports.TCP, Outcome.RELAY),
        ("port-restricted+no-so", "port-restricted+no-so", Transports.UDP, Outcome.DIRECT),
        ("address-restricted+no-so", "symmetric-random", Transports.TCP, Outcome.RELAY),
        ("port-restricted+rst", "port-restricted+rst", Transports.TCP, Outcome.DIRECT),
        ("port-restricted+no-udp", "port-restricted", Transports.UDP, Outcome.RELAY),
        ("port-restricted+no-udp", "port-restricted", Transports.BOTH, Outcome.DIRECT),
        ("port-restricted+only-443", "full-cone", Transports.BOTH, Outcome.RELAY),
        ("full-cone+cgn=symmetric-random", "port-restricted", Transports.TCP, Outcome.RELAY),
        ("full-cone+cgn", "port-restricted", Transports.TCP, Outcome.DIRECT),
        ("ipv6-firewall", "ipv6-firewall", Transports.TCP, Outcome.DIRECT),
        ("ipv6-firewall", "full-cone", Transports.TCP, Outcome.RELAY),
        ("symmetric-random", None, Transports.BOTH, Outcome.DIRECT),
    ],
)
def test_what_options_do_to_a_cell(left: str, right: str | None, transports: Transports, outcome: Outcome) -> None:
    assert expected(scenario(left, right, transports)) is outcome


def test_it_does_not_matter_who_is_left() -> None:
    for cell in matrix.whole(scenario("direct"), Transports):
        assert cell.right is not None
        assert expected(cell) is expected(replace(cell, left=cell.right, right=cell.left))


# Rules


def test_every_nat_has_its_translation() -> None:
    assert set(SOURCE_NAT) == {name for name in matrix.IPV4_KINDS if name != "direct"}


def test_a_firewall_translates_nothing() -> None:
    assert "nat" not in ruleset(KINDS["ipv6-firewall"], (), "").replace("dnat", "")


def test_only_kinds_that_let_strangers_in_learn() -> None:
    assert [name for name in SOURCE_NAT if "@mapped" in ruleset(KINDS[name], (), "203.0.113.1")] == [
        "full-cone",
        "address-restricted",
    ]
    assert "@mapped" in ruleset(KINDS["port-restricted"], {Option.HAIRPIN}, "203.0.113.1")


def test_sequential_ports_go_up_in_steps_of_one() -> None:
    assert "{ 0 : 40000, 1 : 40001, 2 : 40002," in ruleset(KINDS["symmetric-sequential"], (), "203.0.113.1")


def test_options_change_the_order_of_verdicts() -> None:
    rules = ruleset(KINDS["port-restricted"], {Option.NO_SO, Option.ONLY_443}, "203.0.113.1")
    forward = rules[rules.index("chain forward") :]
    assert forward.index("syn drop") < forward.index("established")
    assert forward.index("dport 443 accept") < forward.index('oifname "wan" drop') < forward.index('"lan" accept')


# The line


PLAIN = Link()


def attachment(name: str, network: str, link: Link = PLAIN) -> Attachment:
    return Attachment(name, f"namespace-{name}", "wan", (network,), link)


def packet(target: str, size: int = 28, source: str = "192.0.2.1") -> bytes:
    header = struct.pack("!BBHHHBBH", 0x45, 0, size, 0, 0, 64, 17, 0)
    return (header + socket.inet_aton(source) + socket.inet_aton(target)).ljust(size, b"\0")


def line(near: Link = PLAIN, far: Link = PLAIN) -> Line:
    return Line([attachment("a", "192.0.2.1/32", near), attachment("b", "192.0.2.2/32", far)], random.Random(1))


def arrivals(on: Line) -> list[float]:
    """When each packet arrives, in the order of their arrival."""
    found = []
    while (at := on.next_at) is not None:
        found += [at for _ in on.due(at)]
    return found


def test_a_packet_arrives_after_the_delay_of_both_links() -> None:
    on = line(Link(delay=0.01), Link(delay=0.02))
    on.enter(packet("192.0.2.2"), 0, now=5.0)
    assert on.next_at == pytest.approx(5.03)
    assert list(on.due(5.029)) == []
    assert list(on.due(5.0301)) == [(1, packet("192.0.2.2"))]
    assert on.next_at is None


def test_what_has_no_route_goes_nowhere() -> None:
    on = line()
    on.enter(packet("198.51.100.1"), 0, now=1.0)
    on.enter(b"\x45", 0, now=1.0)
    assert on.next_at is None
    assert [logged.fate for logged in on.log] == [Fate.NO_ROUTE, Fate.NO_ROUTE]


def test_ipv6_is_routed_too() -> None:
    on = Line([attachment("a", "2001:db8:a::/64"), attachment("b", "2001:db8:b::/64")], random.Random(1))
    header = struct.pack("!IHBB", 6 << 28, 0, 59, 64)
    on.enter(header + socket.inet_pton(socket.AF_INET6, "2001:db8:a::1") + bytes(16), 1, now=0.0)
    on.enter(header + bytes(16) + socket.inet_pton(socket.AF_INET6, "2001:db8:b::1"), 0, now=0.0)
    assert [logged.target for logged in on.log] == [None, 1]


def test_packets_keep_their_order_whatever_the_jitter() -> None:
    on = line(Link(delay=0.01, jitter=0.05))
    sizes = [28 + number for number in range(50)]
    for number, size in enumerate(sizes):
        on.enter(packet("192.0.2.2", size), 0, now=number / 1000)
    assert [len(data) for _, data in on.due(10.0)] == sizes


def test_reordered_packets_come_later() -> None:
    on = line(Link(reorder=1.0))
    on.enter(packet("192.0.2.2"), 0, now=1.0)
    assert on.next_at == pytest.approx(1.0 + REORDER_SECONDS)


def test_so_many_are_lost() -> None:
    on = line(Link(loss=0.3))
    for _ in range(2000):
        on.enter(packet("192.0.2.2"), 0, now=0.0)
    assert sum(logged.fate is Fate.LOST for logged in on.log) == pytest.approx(600, abs=80)


def test_loss_is_the_senders() -> None:
    on = line(Link(), Link(loss=1.0))
    on.enter(packet("192.0.2.2"), 0, now=0.0)
    on.enter(packet("192.0.2.1"), 1, now=0.0)
    assert [logged.fate for logged in on.log] == [Fate.DELIVERED, Fate.LOST]


def test_a_slow_link_carries_one_packet_at_a_time_and_drops_what_would_wait_too_long() -> None:
    on = line(Link(bandwidth=8000.0))  # a thousand bytes a second
    for _ in range(5):
        on.enter(packet("192.0.2.2", 100), 0, now=0.0)
    assert arrivals(on) == pytest.approx([0.1, 0.2, 0.3])
    assert [logged.fate for logged in on.log][3:] == [Fate.QUEUE_FULL] * 2
    assert QUEUE_SECONDS == 0.2


def test_the_same_seed_gives_the_same_weather() -> None:
    def fates() -> list[Logged]:
        on = line(Link(loss=0.5, jitter=0.1))
        for number in range(50):
            on.enter(packet("192.0.2.2"), 0, now=float(number))
        return on.log

    assert fates() == fates()


def test_the_order_of_an_internet_survives_its_way() -> None:
    order = Order((attachment("a", "192.0.2.1/32", Link(0.1, loss=0.2)),), 7, "/somewhere")
    assert Order.from_json(order.to_json()) == order


# Packets in words, and in files


def tcp_packet(flags: int, data: bytes = b"") -> bytes:
    segment = struct.pack("!HHIIBBHHH", 5000, 80, 0, 0, 0x50, flags, 0, 0, 0) + data
    whole = bytearray(packet("192.0.2.2", 20 + len(segment)))
    whole[9] = 6
    whole[20:] = segment
    return bytes(whole)


def test_flags_and_sizes_are_told() -> None:
    assert describe(tcp_packet(0x02)) == "192.0.2.1:5000 > 192.0.2.2:80 TCP SYN"
    assert describe(tcp_packet(0x12)) == "192.0.2.1:5000 > 192.0.2.2:80 TCP SYN ACK"
    assert describe(tcp_packet(0x18, b"hello")) == "192.0.2.1:5000 > 192.0.2.2:80 TCP ACK 5 bytes"


@pytest.mark.parametrize("frame", [b"", b"\0\x18"])
def test_stun_is_told_bare_and_framed(frame: bytes) -> None:
    request = encode(MessageClass.REQUEST, Method.BINDING, bytes(12))
    nominating = request[:2] + b"\0\x0c" + request[4:] + b"\0\x25\0\0"
    assert describe(tcp_packet(0x18, frame + request)).endswith("TCP ACK Binding request")
    assert describe(tcp_packet(0x18, frame + nominating)).endswith("Binding request, USE-CANDIDATE")


@pytest.mark.parametrize("end", range(0, 40, 3))
def test_a_packet_that_is_cut_short_is_told_as_far_as_it_goes(end: int) -> None:
    assert describe(tcp_packet(0x18, encode(MessageClass.REQUEST, Method.BINDING, bytes(12)))[:end])


def test_the_ladder_counts_from_where_it_is_told_to() -> None:
    log = [
        Logged(10.0, 0, 1, 10.05, Fate.DELIVERED, 40, tcp_packet(0x02)),
        Logged(10.1, 1, 0, 10.1, Fate.LOST, 40, tcp_packet(0x12)),
    ]
    attachments = [attachment("a", "192.0.2.1/32"), attachment("b", "192.0.2.2/32")]
    first, second = ladder(log, attachments, zero=10.0)
    assert first.split()[:5] == ["0.0", "50.0", "a", ">", "b"]
    assert second.split()[:5] == ["100.0", "lost", "b", ">", "a"]


def test_the_packet_log_is_a_file_with_named_interfaces_and_comments() -> None:
    data = tcp_packet(0x02)
    log = [Logged(1.5, 1, 0, 1.6, Fate.LOST, 40, data)]
    file = pcapng([attachment("left", "192.0.2.1/32"), attachment("right", "192.0.2.2/32")], log, wall_clock=1000.0)
    blocks = []
    while file:
        type_, length = struct.unpack_from("<II", file)
        assert length % 4 == 0
        assert struct.unpack_from("<I", file, length - 4) == (length,)
        blocks.append((type_, file[8 : length - 4]))
        file = file[length:]
    assert [type_ for type_, _ in blocks] == [0x0A0D0D0A, 1, 1, 6]
    assert b"right" in blocks[2][1]
    interface, high, low, kept, size = struct.unpack_from("<IIIII", blocks[3][1])
    assert (interface, (high << 32 | low) / 1e6, kept, size) == (1, 1001.5, 40, 40)
    assert data in blocks[3][1]
    assert b"lost" in blocks[3][1]


# Topologies


def test_a_cell_has_hosts_boxes_and_a_server() -> None:
    topology = plan(scenario("port-restricted+cgn", "direct"), lambda name: f"x-{name}")
    assert set(topology.nodes) == {LEFT, "left-nat", "left-cgn", RIGHT, SERVER}
    assert [each.name for each in topology.attachments] == [LEFT, RIGHT, SERVER]
    assert topology.nodes["left-nat"].namespace == "x-left-nat"
    assert topology.public(LEFT) == ("203.0.113.10",)
    assert "203.0.113.10" not in topology.nodes["left-nat"].ruleset


def test_neighbours_share_a_box() -> None:
    topology = plan(scenario("full-cone", None), str)
    assert topology.nodes["left-nat"].bridged == ["lan0", "lan1"]
    assert topology.nodes[LEFT].default == topology.nodes[RIGHT].default
    assert topology.nodes[LEFT].addresses != topology.nodes[RIGHT].addresses


@pytest.mark.parametrize("kind", KINDS)
def test_no_address_is_given_twice(kind: str) -> None:
    topology = plan(scenario(kind, kind), str)
    given = [address for node in topology.nodes.values() for each in node.addresses.values() for address in each]
    assert len(given) == len(set(given))


def test_short_timeouts_are_the_kernels() -> None:
    topology = plan(scenario("full-cone+short"), str)
    assert topology.nodes["left-nat"].kernel["net/netfilter/nf_conntrack_udp_timeout"] == 3


# The matrix


def test_the_whole_matrix_has_every_pair_of_nats_over_every_transport() -> None:
    cells = matrix.whole(scenario("direct"), Transports)
    assert len(cells) == 3 * (81 + 3)
    assert len({cell.title for cell in cells}) == len(cells)


def test_the_subset_has_every_kind_on_each_side_every_option_and_every_transport() -> None:
    cells = matrix.subset(scenario("direct"))
    assert {cell.left.kind.name for cell in cells} == set(KINDS)
    assert {cell.right.kind.name for cell in cells if cell.right is not None} == set(KINDS)
    assert set().union(*(site.options for cell in cells for site in cell.sites)) == set(Option)
    assert {cell.transports for cell in cells} == set(Transports)
    assert any(cell.right is None for cell in cells)
    assert any(site.carrier is not None for cell in cells for site in cell.sites)
    assert {expected(cell) for cell in cells} == {Outcome.DIRECT, Outcome.RELAY}


def test_rows_and_columns_leave_out_what_cannot_meet() -> None:
    row = matrix.row(scenario("direct"), Site.parse("ipv6-firewall"), [Transports.TCP])
    assert [str(cell.right) for cell in row] == ["direct", "ipv6-firewall"]
    column = matrix.column(scenario("direct"), Site.parse("full-cone"), [Transports.TCP])
    assert {str(cell.right) for cell in column} == {"full-cone"}


# Classification


def findings(site: Site) -> Findings:
    """What an honest box would show."""
    found = Findings(refuses=bool({Option.RST, Option.OWN_STACK} & site.options))
    for transport in (UDP, TCP):
        found.mapping[transport] = site.mapping
        found.filtering[transport] = site.filtering
        found.preserves_ports[transport] = site.kind.ports is Ports.PRESERVED
    return found


def test_an_honest_box_is_trusted() -> None:
    for name in SOURCE_NAT:
        assert mismatches(Site.parse(name), findings(Site.parse(name))) == []


@pytest.mark.parametrize(
    ("text", "really", "what"),
    [
        ("full-cone", "port-restricted", "udp filtering: address-and-port-dependent, not endpoint-independent"),
        ("port-restricted", "symmetric-random", "udp mapping: address-and-port-dependent, not endpoint-independent"),
        ("port-restricted", "port-changing", "udp ports preserved: False, not True"),
        ("port-restricted+rst", "port-restricted", "answers RST: False, not True"),
    ],
)
def test_a_box_that_is_not_what_its_name_says_is_found_out(text: str, really: str, what: str) -> None:
    assert what in mismatches(Site.parse(text), findings(Site.parse(really)))


def test_a_site_that_lets_udp_out_though_it_should_not_is_found_out() -> None:
    site = Site.parse("port-restricted+no-udp")
    assert mismatches(site, findings(site)) == ["udp mapping: endpoint-independent, not None"]


# Results


def side(kind: str = "host", *, started_at: float = 10.0, settled: bool = True) -> SideResult:
    end = {"type": kind, "transport": "tcp", "tcptype": "so", "address": "192.0.2.1:5000"}
    moments = {"valid": 10.2, "nominated": 10.3, "data": 10.35} | ({"settled": 10.4} if settled else {})
    return SideResult(started_at, moments, end, {**end, "type": "srflx"}, ["checking", "connected"])


def result(left: SideResult | None = None, directory: Path = Path("nowhere"), **fields: Any) -> CellResult:
    cell = scenario("port-restricted", "port-restricted", Transports.TCP)
    return CellResult(cell, left or side(), side(started_at=10.1), directory, **fields)


def test_times_count_from_the_start_of_the_later_side() -> None:
    found = result()
    assert found.zero == 10.1
    assert found.in_rtt(found.left, "nominated") == pytest.approx(2.0)
    assert found.in_rtt(found.left, "never") is None
    assert found.time_to_data == pytest.approx(0.25)


def test_an_outcome_is_direct_or_relay_only_if_data_came_over_the_final_path_on_both_sides() -> None:
    assert result().outcome is Outcome.DIRECT
    assert result(side("relay")).outcome is Outcome.RELAY
    assert result(side(settled=False)).outcome is Outcome.FAILED
    assert result(error="time was up").outcome is Outcome.FAILED


def test_a_relay_where_there_is_a_direct_path_is_a_failure() -> None:
    found = result(side("relay"))
    assert not found.ok
    assert found.why == "relay, not direct"
    assert result(error="time was up").why == "failed, not direct: time was up"
    assert result().why == ""


def test_a_box_that_remembers_strangers_may_need_the_relay_over_udp() -> None:
    for transports, ok in ((Transports.UDP, True), (Transports.TCP, False)):
        cell = scenario("port-restricted+own-stack", "port-restricted", transports)
        assert CellResult(cell, side("relay"), side(), Path("nowhere")).ok is ok
        assert not CellResult(cell, side(settled=False), side(), Path("nowhere")).ok


def test_a_cell_that_works_sometimes_does_not_work() -> None:
    good, bad = result(), result(side("relay"))
    assert CellReport(good.scenario, (good, good)).ok
    report = CellReport(good.scenario, (good, bad))
    assert not report.ok
    assert report.worst is bad
    assert cell_text(report) == "FAIL"
    assert cell_text(CellReport(good.scenario, (good,))) == "tcp 250"
    assert summary([report])[-1].strip() == "port-restricted / port-restricted, tcp (1 of 2 runs): relay, not direct"


def test_the_matrix_is_a_table_with_a_key_to_its_columns() -> None:
    lines = matrices([CellReport(result().scenario, (result(),))])
    assert lines[0].startswith("Candidates: tcp")
    assert lines[2].split() == ["port-restricted", "tcp", "250"]
    assert lines[3] == "[1] port-restricted"


class Links(HTMLParser):
    """Where links lead, and where they could."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: set[str] = set()
        self.places: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        fields = dict(attrs)
        if fields.get("href"):
            self.targets.add(str(fields["href"]))
        if fields.get("id"):
            self.places.add(f"#{fields['id']}")


def test_the_heat_map_leads_from_each_cell_to_its_packets(tmp_path: Path) -> None:
    tmp_path.joinpath(LADDER_FILE).write_text("0.0 50.0 left > right <SYN>\n" * 200)
    reports = [
        CellReport(found.scenario, (found,))
        for found in (result(directory=tmp_path), result(side("relay")), result(error="<script>"))
    ]
    text = page(reports, command="python -m interop lab", at=datetime(2026, 1, 2, tzinfo=UTC))
    links = Links()
    links.feed(text)
    assert links.targets <= links.places == {"#c0", "#c1", "#c2"}
    assert "1 of 3 cells as they must be" in text
    assert "2026-01-02" in text
    assert "&lt;SYN&gt;" in text
    assert "and 50 more" in text
    assert "<script>" not in text
    assert "http" not in text  # it needs nothing else


def test_the_heat_map_leads_to_the_report_of_a_cell_that_has_traces(tmp_path: Path) -> None:
    directory = tmp_path / "traces" / "c0"
    directory.mkdir(parents=True)
    reports = [CellReport(found.scenario, (found,)) for found in (result(directory=directory), result())]
    for name in ("left", "right"):
        TraceFile(directory / f"{name}.jsonl", zero=Clock(1000.0, 4.0)).close()
    write_reports(reports)
    at = datetime(2026, 1, 2, tzinfo=UTC)
    links = Links()
    links.feed(page(reports, command="", at=at, beside=tmp_path))
    assert links.targets - links.places == {"traces/c0/report.html"}
    assert "No path was found" in (tmp_path / "traces/c0/report.html").read_text("utf-8")
    alone = Links()
    alone.feed(page(reports, command="", at=at))
    assert alone.targets <= alone.places


def test_results_are_json() -> None:
    fields = json.loads(json.dumps(result().as_json()))
    assert fields["ok"] is True
    assert fields["left"]["rtt"]["valid"] == pytest.approx(1.0)


# The command


def test_a_machine_that_cannot_run_the_lab_is_told_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_line, "missing", Mock(return_value=["root, for network namespaces: sudo"]))
    refused = CliRunner().invoke(main, ["lab"])
    assert refused.exit_code == 77
    assert "root, for network namespaces" in refused.output
    assert CliRunner().invoke(main, ["lab", "--allow-skip"]).exit_code == 0


def test_what_the_lab_needs_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("shutil.which", lambda name: None if name == "nft" else f"/usr/bin/{name}")
    lacking = missing(ServerKind.EMBEDDED)
    assert any(each.startswith("root") for each in lacking)
    assert "nft: apt-get install nftables" in lacking
    assert not any("turnserver" in each for each in lacking)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--left", "cone"], "there is no kind 'cone'"),
        (["--left", "direct", "--right", "same"], "has no box"),
        (["--keep"], "for a single cell"),
        (["--left", "direct", "--right", "direct", "--pcap", "x"], "for a single cell"),
    ],
)
def test_what_cannot_be_run_is_refused(monkeypatch: pytest.MonkeyPatch, arguments: list[str], what: str) -> None:
    monkeypatch.setattr(command_line, "missing", Mock(return_value=[]))
    refused = CliRunner().invoke(main, ["lab", *arguments])
    assert refused.exit_code != 0
    assert what in refused.output


def test_the_help_tells_every_kind_and_option() -> None:
    text = CliRunner().invoke(main, ["lab", "--help"]).output
    assert all(name in text for name in [*KINDS, *Option, "+cgn"])


def test_the_weather_is_in_seconds() -> None:
    assert Weather(rtt=0.1, loss=0.05).link == Link(delay=0.025, loss=0.05)


# Special conditions


def test_the_conditions_have_every_option_on_both_sides_carriers_neighbours_and_skews() -> None:
    cells = matrix.conditions(scenario("direct"))
    assert len({cell.title for cell in cells}) == len(cells)
    assert not any(cell.is_plain for cell in cells)
    on_both = {frozenset.intersection(*(site.options for site in cell.sites)) for cell in cells}
    assert set().union(*on_both) == set(Option)
    assert any(all(site.carrier is not None for site in cell.sites) for cell in cells)
    assert {abs(cell.skew) for cell in cells if cell.skew is not None} == set(matrix.RST_SKEWS)
    assert {expected(cell) for cell in cells} == {Outcome.DIRECT, Outcome.RELAY}


@pytest.mark.parametrize(
    ("left", "right", "transports", "outcome"),
    [
        ("symmetric-sequential", "port-restricted", Transports.TCP, Outcome.DIRECT),
        ("symmetric-sequential", "symmetric-sequential", Transports.BOTH, Outcome.DIRECT),
        ("symmetric-sequential", "symmetric-sequential", Transports.UDP, Outcome.RELAY),
        ("symmetric-sequential", "symmetric-random", Transports.TCP, Outcome.RELAY),
        ("symmetric-sequential+no-so", "port-restricted", Transports.TCP, Outcome.RELAY),
        ("port-restricted+cgn=symmetric-random", "port-restricted", Transports.TCP, Outcome.RELAY),
    ],
)
def test_what_is_foreseen_is_direct_where_ports_are_predicted(
    left: str, right: str, transports: Transports, outcome: Outcome
) -> None:
    predicting = {"simultaneous_open": {"predict_ports": 8}}
    assert expected(replace(scenario(left, right, transports), policy=predicting)) is outcome
    assert expected(scenario(left, right, transports)) is Outcome.RELAY


def test_special_cells_are_listed_below_the_matrix() -> None:
    found = result()
    late = replace(found.scenario, skew=-0.3)
    lines = matrices([CellReport(each, (replace(found, scenario=each),)) for each in (found.scenario, late)])
    assert lines[0].startswith("Candidates: tcp")
    assert lines[-2].split(maxsplit=2) == ["tcp", "250", "port-restricted / port-restricted, tcp, left 300 ms later"]


# Times


def timed(results: list[CellResult], limit: float) -> times.TimedRow:
    cell = results[0].scenario
    figure = times.Figure("valid", limit, (0,), lambda each: each.in_rtt(each.right, "valid"))
    (measured_row,) = times.measured([times.Row("a row", (cell,), (figure,))], [CellReport(cell, tuple(results))])
    return measured_row


def test_a_figure_is_the_median_of_its_runs() -> None:
    row = timed([result(), result(), result()], 1.1)
    assert row.timings[0].p50 == pytest.approx(1.0)
    assert row.is_met
    assert not timed([result()], 0.9).is_met


def test_a_run_without_the_moment_misses_the_limit_whatever_the_others_did() -> None:
    silent = result()
    silent.right.moments.clear()
    row = timed([result(), result(), silent], 5.0)
    assert row.timings[0].missing == 1
    assert not row.is_met
    assert row.timings[0].worst is silent


def test_what_is_too_slow_comes_with_its_packets(tmp_path: Path) -> None:
    packets = "   -500.0 -450.0 left > server <before>\n      1.0   51.0 left > right <SYN>\n"
    tmp_path.joinpath(LADDER_FILE).write_text(packets)
    lines = times.lines([timed([result(directory=tmp_path)], 0.5)])
    assert lines[2] == "FAIL a row: valid 1.00 of 0.5"
    assert lines[-1].endswith("<SYN>")
    assert not any("<before>" in line for line in lines)
    assert not any("<SYN>" in line for line in times.lines([timed([result(directory=tmp_path)], 1.5)]))


def test_every_row_has_its_cells_and_its_limits() -> None:
    rows = times.rows(scenario("direct"))
    assert [row.is_relayed for row in rows] == [False] * 3 + [True] * 4
    assert len(times.cells_of(rows)) == 3 * 2 + 4
    assert [figure.limit for figure in rows[1].figures] == [2.1, 2.6, 3.1, 3.6]
    assert {cell.legs for cell in times.cells_of(rows[3:])} == {(Leg.UDP,), (Leg.TCP,), (Leg.TLS,)}
    assert json.loads(json.dumps(times.as_json([timed([result()], 2.0)])))[0]["ok"] is True


def test_steps_are_read_from_the_trace_and_the_packets(tmp_path: Path) -> None:
    """The first of each kind counts; what was refused is asked again."""
    server, id_ = "turn:192.0.2.1", b"0" * 12
    entries: list[tuple[float, Entry]] = [
        (9.0, ServerRequestSent(server, 3, id_)),
        (9.1, ServerAnswered(server, 3, id_, 401, 0.1)),
        (9.1, ServerRequestSent(server, 3, id_)),
        (9.2, ServerAnswered(server, 3, id_, None, 0.1)),
        (10.2, CheckAnswered(1, id_, None, 0.2)),
    ]
    for name in ("left", "right"):
        with TraceFile(tmp_path / f"{name}.jsonl", zero=Clock(1000.0, 4.0)) as trace:
            for each in entries:
                trace(*each)
    tmp_path.joinpath(LADDER_FILE).write_text(
        "".join(f"  -1200.0 -1150.0 {name} > server 192.0.2.1:1 > 192.0.2.2:2 TCP SYN\n" for name in ("left", "right"))
    )
    row = times.Row("relay", (result().scenario,), (), is_relayed=True)
    (found,) = times.measured([row], [CellReport(result().scenario, (result(directory=tmp_path),))])
    steps = {step: pytest.approx(value) for step, value in found.steps.items()}
    assert steps == {"connection": 1.0, "allocate": 2.0, "check": 2.0, "first data after that": 1.5}
