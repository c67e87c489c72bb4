"""The command ``ice-tcp``."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Final, NoReturn

import click
from rich.console import Console

from candidates.candidate import Candidate, CandidateError, TcpType, Transport
from candidates.policy import Policy, PolicyError, differences, effective_settings, policy_schema
from candidates.sdp import parse_candidate
from ice_tcp.capsule import Capsule
from ice_tcp.capsule.command import capsule_option, replay_command
from ice_tcp.demo.document import DocumentView
from ice_tcp.demo.live import LiveView
from ice_tcp.demo.plain import PlainView
from ice_tcp.demo.plan import Choices, Payload, Plan, PlanError, demo_policies, has_quic
from ice_tcp.demo.receiver import run_receiver
from ice_tcp.demo.sender import RECEIVER_COMMAND, Outcome, View, run_sender
from ice_tcp.gather.document import DocumentView as GatherDocument
from ice_tcp.gather.effects import effects, fields, here, plain
from ice_tcp.gather.findings import Findings
from ice_tcp.gather.live import LiveView as GatherTables
from ice_tcp.gather.plain import PlainView as GatherLines
from ice_tcp.gather.survey import Survey
from ice_tcp.gather.survey import View as GatherView
from ice_tcp.net.interfaces import host_addresses
from ice_tcp.policy_file import read_policy
from ice_tcp.policy_option import EXISTING_FILE, policy_for_command, unreadable
from ice_tcp.punching.command import command as punch_command
from ice_tcp.report.command import command as report_command
from ice_tcp.server import Leg
from ice_tcp.server.command import command as server_command
from ice_tcp.tracefile.option import Tracing, trace_option
from interop.conformance.command import command as conformance_command

MAX_GENERATED_BYTES = 1 << 40

_SIZE = re.compile(r"(\d{1,13})\s*([KMG]?)(?:i?B)?\Z", re.IGNORECASE)
_SHIFTS = {"": 0, "K": 10, "M": 20, "G": 30}
_TRANSPORTS = click.Choice([transport.value for transport in Transport])
_LEGS = click.Choice([leg.value for leg in Leg])
_TCP_TYPES = click.Choice([tcp_type.value for tcp_type in TcpType])


def _size(ctx: click.Context, param: click.Parameter, text: str | None) -> int | None:
    """Callback of an option: a number of bytes, with K, M or G for 1024 and its powers."""
    if text is None:
        return None
    match = _SIZE.match(text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size such as 4096, 100K or 64M", ctx, param)
    size = int(match[1]) << _SHIFTS[match[2].upper()]
    if size > MAX_GENERATED_BYTES:
        raise click.BadParameter(f"{text!r} is more than 1024G", ctx, param)
    return size


def _candidate(ctx: click.Context, param: click.Parameter, text: str | None) -> Candidate | None:
    """Callback of an option: a candidate as it stands in SDP."""
    try:
        return None if text is None else parse_candidate(text)
    except CandidateError as error:
        raise click.BadParameter(f"{error}, in {text!r}", ctx, param) from None


class _Commands(click.Group):
    """Knows commands whose packages are extras, and imports them when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_EXTRAS])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _EXTRAS:
            return super().get_command(ctx, cmd_name)
        module, _, name = _EXTRAS[cmd_name].partition(":")
        try:
            command = getattr(import_module(module), name)
        except ImportError as error:
            return _missing(cmd_name, str(error))
        assert isinstance(command, click.Command)
        return command


_EXTRAS: Final = {
    "connect": "ice_tcp.meeting.command:connect_command",
    "forward": "ice_tcp.meeting.command:forward_command",
    "listen": "ice_tcp.meeting.command:listen_command",
    "receive": "ice_tcp.meeting.command:receive_command",
    "rendezvous": "ice_tcp.rendezvous.command:command",
    "send": "ice_tcp.meeting.command:send_command",
}
"""By name: where each command is."""


def _missing(name: str, text: str) -> click.Command:
    def fail(**_: object) -> NoReturn:
        raise click.ClickException(text)

    settings = {"ignore_unknown_options": True, "allow_extra_args": True}
    return click.Command(name, context_settings=settings, callback=fail, short_help=f"({text})")


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ice-tcp", prog_name="ice-tcp", message="%(prog)s %(version)s")
def main() -> None:
    """Find a path between two hosts, over UDP or TCP, through NATs and firewalls (ICE: RFC 8445, RFC 6544)."""


# The demonstration


@main.command(short_help="Send a file between two processes.")
@click.option("--file", "path", type=EXISTING_FILE, metavar="F", help="Send this file; by default a README.")
@click.option("--size", callback=_size, metavar="N", help="Send N generated bytes instead, such as 4096, 100K or 64M.")
@click.option("--transport", type=_TRANSPORTS, help="Use only this transport; by default both.")
@click.option(
    "--tcp-type",
    type=_TCP_TYPES,
    help="Use TCP, with the sender of this type: active connects, passive waits, so does both.",
)
@click.option("--relay-only", is_flag=True, help="Use relayed candidates only: everything goes through the server.")
@click.option(
    "--relay-transport",
    type=_LEGS,
    help="Reach the server by this; by default udp, or tcp where TCP is relayed. Over TLS its certificate is verified.",
)
@click.option("--policy", "policy_path", type=EXISTING_FILE, metavar="F", help="Both sides follow this policy file.")
@capsule_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else.")
@trace_option
def demo(
    path: Path | None,
    size: int | None,
    transport: str | None,
    tcp_type: str | None,
    relay_only: bool,
    relay_transport: str | None,
    policy_path: Path | None,
    as_json: bool,
    tracing: Tracing,
    capsule: Capsule | None,
) -> None:
    """Connect two processes on this machine and send a file from one to the other.

    Both processes run an ICE agent: they gather candidates, ask a STUN and TURN server that the demonstration brings
    along, tell each other through a small signaling channel, check UDP and TCP pairs together and select one. Over TCP
    the file goes through the connection itself, over UDP through QUIC; with --relay-only it goes through the server.
    Only loopback addresses are used, nothing leaves this machine, and no privileges are needed.

    With --trace F the sender writes its trace to F, and the receiver its own beside it: demo.jsonl has
    demo-receiver.jsonl for a neighbour.

    The exit status is 0 only if the file arrived intact.
    """
    if path is not None and size is not None:
        raise click.UsageError("--file and --size exclude each other")
    if transport is None and tcp_type is None and not has_quic():
        click.echo("aioquic is not installed, so only TCP is tried; for UDP, pip install 'ice-tcp[quic]'", err=True)
        transport = Transport.TCP
    arguments = Arguments(policy_path, transport, tcp_type, relay_only, relay_transport)
    receiver_tracing = tracing.beside("receiver")
    receiver_tracing.check()
    try:
        again = [*arguments.again(), *receiver_tracing.arguments()]
        plan = Plan(arguments.choices(), _payload(path, size), again, capsule=capsule)
    except PlanError as error:
        raise click.UsageError(str(error)) from None
    try:
        with tracing.open() as trace:
            outcome = _show(replace(plan, trace=trace), as_json=as_json)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    sys.exit(0 if outcome.error is None else 1)


@main.command(RECEIVER_COMMAND, hidden=True)
@click.option("--transport", type=_TRANSPORTS)
@click.option("--tcp-type", type=_TCP_TYPES)
@click.option("--relay-only", is_flag=True)
@click.option("--relay-transport", type=_LEGS)
@click.option("--policy", "policy_path", type=EXISTING_FILE)
@trace_option
def demo_receiver(
    policy_path: Path | None,
    transport: str | None,
    tcp_type: str | None,
    relay_only: bool,
    relay_transport: str | None,
    tracing: Tracing,
) -> NoReturn:
    """Be the other process of `demo`, which starts it by itself."""
    choices = Arguments(policy_path, transport, tcp_type, relay_only, relay_transport).choices()
    with tracing.open() as trace:
        status = run_receiver(choices, trace)
    sys.exit(status)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What both processes of the demonstration are told."""

    policy: Path | None
    transport: str | None
    tcp_type: str | None
    relay_only: bool
    relay_transport: str | None

    def choices(self) -> Choices:
        """Raises PlanError for what does not go together."""
        choices = Choices(
            Policy.default() if self.policy is None else policy_for_command(self.policy),
            Transport(self.transport) if self.transport is not None else None,
            TcpType(self.tcp_type) if self.tcp_type is not None else None,
            self.relay_only,
            Leg(self.relay_transport) if self.relay_transport is not None else None,
        )
        try:
            demo_policies(choices)
        except PolicyError as error:
            raise PlanError(f"the policy does not fit the demonstration:\n{error}") from None
        return choices

    def again(self) -> list[str]:
        """The same for the command line of the other process."""
        options = (
            ("--policy", self.policy),
            ("--transport", self.transport),
            ("--tcp-type", self.tcp_type),
            ("--relay-transport", self.relay_transport),
        )
        words = [text for name, value in options if value is not None for text in (name, str(value))]
        return [*words, "--relay-only"] if self.relay_only else words


def _payload(path: Path | None, size: int | None) -> Payload:
    if path is not None:
        return Payload.of_file(path)
    return Payload.default() if size is None else Payload(size)


def _show(plan: Plan, *, as_json: bool) -> Outcome:
    if as_json:
        return _run(plan, DocumentView(lambda document: click.echo(json.dumps(document, indent=2))))
    console = Console(highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return _run(plan, PlainView(click.echo))
    with LiveView(console) as view:
        return _run(plan, view)


def _run(plan: Plan, view: View) -> Outcome:
    return asyncio.run(run_sender(plan, view))


# Gathering


@main.command(short_help="Show this host's candidates, servers and NATs.")
@click.option("--policy", "policy_path", type=EXISTING_FILE, metavar="F", help="Gather as this policy file says.")
@capsule_option
@click.option("--watch", is_flag=True, help="Gather again and again, and show what changes; Ctrl-C ends it.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    metavar="S",
    help="Seconds between two gatherings of --watch.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document; with --watch one a line, at changes.")
@trace_option
def gather(
    policy_path: Path | None, watch: bool, interval: float, as_json: bool, tracing: Tracing, capsule: Capsule | None
) -> NoReturn:
    """Gather candidates as an agent would, and tell what came of it.

    It shows each candidate with the rule that keeps it, and whether the peer is told of it; each address and candidate
    that is removed, and why; what each server of the policy answered, with a remedy where it failed; and how NATs map
    ports for UDP and for TCP, where two servers can tell. Nothing is sent to anybody but the policy's servers.

    The exit status is 0 if there are candidates and every server gave what it was asked for, 1 if not, 2 for wrong
    arguments or a wrong policy, 130 if it was interrupted before it knew. With --watch the last gathering counts.
    """
    if capsule is not None and watch:
        raise click.UsageError("--capsule records one gathering; leave out --watch")
    if watch and tracing.path is not None:
        raise click.UsageError("--trace and --watch exclude each other: each gathering is a session of its own")
    policy = Policy.default() if policy_path is None else policy_for_command(policy_path)
    with tracing.open() as trace, _gather_view(as_json=as_json, watch=watch) as view:
        survey = Survey(policy, view, trace, capsule)
        with suppress(KeyboardInterrupt):
            asyncio.run(survey.watch(interval) if watch else survey.once())
    if survey.latest is None:
        click.echo("interrupted", err=True)
        sys.exit(130)
    sys.exit(0 if survey.latest.is_good else 1)


def _gather_view(*, as_json: bool, watch: bool) -> AbstractContextManager[GatherView]:
    if as_json:
        indent = None if watch else 2
        return nullcontext(GatherDocument(lambda document: click.echo(json.dumps(document, indent=indent))))
    console = Console(highlight=False)
    if not console.is_terminal or console.is_dumb_terminal:
        return nullcontext(GatherLines(click.echo))
    return GatherTables(console, is_watching=watch)


# The policy


@main.group()
def policy() -> None:
    """Check policy files, and ask what they mean.

    A policy is a YAML file with everything that a deployer decides: transports, interfaces, ports, servers, time-outs.
    """


@policy.command(short_help="Tell whether a policy file is good.")
@click.argument("path", type=EXISTING_FILE, metavar="F")
def check(path: Path) -> None:
    """Tell whether policy file F can be used; if not, everything that is wrong with it, and what would be right.

    Variables and files that hold credentials are read, too. The exit status is 1 if anything is wrong.
    """
    try:
        read_policy(path)
    except PolicyError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except (OSError, UnicodeError) as error:
        raise unreadable(path, error) from None
    click.echo(f"{path}: good")


@policy.command(short_help="Print the JSON schema for editors.")
def schema() -> None:
    """Print the JSON schema of policy files, for completion and hints in an editor."""
    click.echo(json.dumps(policy_schema(), indent=2))


@policy.command(short_help="Print the default policy, explained.")
def default() -> None:
    """Print the default policy, with every key explained: a start for one's own."""
    click.echo(files("candidates").joinpath("default.yaml").read_text("utf-8"), nl=False)


@policy.command(short_help="Print every setting, and where it comes from.")
@click.argument("path", type=EXISTING_FILE, metavar="[F]", required=False)
@click.option("--changed", is_flag=True, help="Only what the file says.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else.")
def show(path: Path | None, changed: bool, as_json: bool) -> None:
    """Print every setting of policy file F, or of the default policy, with its value and the line that says so.

    Credentials are asterisks.
    """
    policy = Policy.default() if path is None else policy_for_command(path)
    text = "" if path is None else path.read_text("utf-8")
    settings = [each for each in effective_settings(policy, text) if each.line is not None or not changed]
    if as_json:
        click.echo(json.dumps([asdict(each) for each in settings], indent=1))
        return
    for each in settings:
        origin = "default" if each.line is None else f"{path}:{each.line}"
        click.echo(f"{f'{each.key}: {_value(each.value)}':<64} # {origin}")


@policy.command(short_help="Tell in what two policy files differ.")
@click.argument("left", type=EXISTING_FILE, metavar="A")
@click.argument("right", type=EXISTING_FILE, metavar="B")
def diff(left: Path, right: Path) -> None:
    """Tell which settings of policy files A and B have different values, whether files or defaults say so.

    The exit status is 1 if any has. Passwords are not compared.
    """
    found = differences(policy_for_command(left), policy_for_command(right))
    for each in found:
        click.echo(f"{each.key}: {_value(each.left)} -> {_value(each.right)}")
    sys.exit(1 if found else 0)


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


@policy.command(short_help="Tell which rule keeps or removes what.")
@click.argument("path", type=EXISTING_FILE, metavar="[F]", required=False)
@click.option("--local", callback=_candidate, metavar="C", help="A candidate of this side, as in SDP.")
@click.option("--remote", callback=_candidate, metavar="C", help="A candidate of the peer, as in SDP.")
@click.option("--offline", is_flag=True, help="Ask no servers: nothing is sent.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else.")
def explain(path: Path | None, local: Candidate | None, remote: Candidate | None, offline: bool, as_json: bool) -> None:
    """Tell what policy file F, or the default policy, keeps and removes, and by which rule.

    Without candidates: what every rule does on this host now, which addresses, candidates and servers it decides about;
    candidates are gathered for that, and the policy's servers asked. With --local, --remote or both: whether the
    candidates are used, and whether they make a pair.
    """
    policy = Policy.default() if path is None else policy_for_command(path)
    if local is None and remote is None:
        _explain_here(policy, path, is_offline=offline, as_json=as_json)
    elif offline or as_json:
        raise click.UsageError("--offline and --json are for this host, without --local and --remote")
    else:
        click.echo(str(policy.explain(local=local, remote=remote)))


def _explain_here(policy: Policy, path: Path | None, *, is_offline: bool, as_json: bool) -> None:
    text = "" if path is None else path.read_text("utf-8")
    # Unchecked: without its servers a good policy may contradict itself, and is to be explained all the same
    survey = Survey(policy.model_copy(update={"servers": ()}) if is_offline else policy, _Unseen())
    try:
        asyncio.run(survey.once())
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    assert survey.latest is not None
    place = here(policy, host_addresses(), survey.latest, is_offline=is_offline)
    found = effects(place, text)
    if as_json:
        click.echo(json.dumps(fields(place, found), indent=1))
    else:
        click.echo("\n".join(plain(place, found, str(path))))


class _Unseen:
    """A view that shows nothing."""

    def update(self, _: Findings, /) -> None: ...

    def found(self, _: Findings, /) -> None: ...


main.add_command(conformance_command)
main.add_command(server_command)
main.add_command(punch_command, "punch")
main.add_command(report_command)
main.add_command(replay_command)


if __name__ == "__main__":
    main(prog_name="ice-tcp")
