"""``ice-tcp replay``, and the option ``--capsule`` of the commands that run a session."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn

import click

from ice_tcp.capsule.header import preamble
from ice_tcp.capsule.reading import CapsuleError, Reader, Step, open_capsule
from ice_tcp.capsule.replay import Replay, Replayed
from ice_tcp.capsule.words import document, input_line, report
from ice_tcp.capsule.writer import Capsule
from ice_tcp.core.trace import Entry

_FILE = click.Path(path_type=Path)


def capsule_option(command: Callable[..., None]) -> Callable[..., None]:
    """The option ``--capsule``, as the parameter ``capsule``: an open `Capsule`, closed after the command, or None."""

    @click.option(
        "--capsule",
        "capsule_path",
        type=_FILE,
        metavar="F",
        help="Record the session into the new file F, for `ice-tcp replay`. It holds credentials: keep it private.",
    )
    @wraps(command)
    def wrapper(capsule_path: Path | None, **others: Any) -> None:
        if capsule_path is None:
            command(capsule=None, **others)
            return
        try:
            capsule = Capsule.create(capsule_path)
        except OSError as error:
            raise click.BadParameter(f"{capsule_path}: {error.strerror}", param_hint="--capsule") from None
        with capsule:
            command(capsule=capsule, **others)

    return wrapper


@click.command(name="replay", short_help="Run a recorded session again, and show what differs.")
@click.argument("path", type=_FILE, metavar="F")
@click.option("--until", type=click.IntRange(min=0), metavar="N", help="Stop after input number N.")
@click.option("-v", "--verbose", is_flag=True, help="Print each input, and what the core does with it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document, and nothing else.")
def replay_command(path: Path, until: int | None, verbose: bool, as_json: bool) -> NoReturn:
    """Run capsule F, which --capsule recorded, through this version's core, without any network.

    It compares every command, event, timer and draw, and shows the first difference beside what was recorded, with
    credentials hidden. The exit status is 0 if all is the same, 1 if not, 2 for what is no capsule of this version.
    """
    if verbose and as_json:
        raise click.UsageError("--verbose and --json exclude each other")
    try:
        with open_capsule(path) as reader:
            _tell_version(reader)
            replayed = _replayed(reader, until, verbose=verbose)
            ending = reader.ending if until is None and replayed.difference is None else "closed"
    except CapsuleError as error:
        raise click.UsageError(str(error)) from None
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    click.echo(json.dumps(document(replayed, ending), indent=2) if as_json else report(replayed, ending))
    sys.exit(0 if replayed.difference is None else 1)


def _tell_version(reader: Reader) -> None:
    present = preamble()["ice_tcp"]
    if reader.recorded_by != present:
        click.echo(f"recorded by ice-tcp {reader.recorded_by!r}, replayed by {present}", err=True)


def _replayed(reader: Reader, until: int | None, *, verbose: bool) -> Replayed:
    if not verbose:
        return Replay(reader, until=until).run()
    began_at: list[float] = []

    def on_step(step: Step) -> None:
        if step.number and not began_at:
            began_at.append(step.now)
        click.echo(input_line(step, began_at[0] if began_at else 0.0))

    def trace(_now: float, entry: Entry) -> None:
        click.echo(f"{'':20} {entry}")

    return Replay(reader, until=until, trace=trace, on_step=on_step).run()
