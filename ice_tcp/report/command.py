"""``ice-tcp report``: traces as a page."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import click

from ice_tcp.report.page import report_page
from ice_tcp.report.story import StoryError, tell
from ice_tcp.report.verdict import headline
from ice_tcp.tracefile import Trace, TraceError, read_trace, redacted

_FILE = click.Path(exists=True, dir_okay=False, readable=True, path_type=Path)


@click.command(name="report", short_help="Make a page of the trace of a session.")
@click.argument("path", type=_FILE, metavar="F.jsonl")
@click.argument("other", type=_FILE, metavar="[G.jsonl]", required=False)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="PAGE",
    help="Write the page there.  [default: F.html]",
)
@click.option("--redact", is_flag=True, help="Show no addresses and names of hosts.")
def command(path: Path, other: Path | None, output: Path | None, *, redact: bool) -> None:
    """Make one page of HTML of trace F.jsonl, or of both sides' traces of a session, F.jsonl and G.jsonl.

    It shows what came of the session and why: every message between the two sides on a ladder, the candidates and the
    pairs with what became of each, NATs, and servers. The page needs nothing else and can be sent to others. With
    --redact, or from traces that were written with it, it has no addresses.

    A trace that was cut short is shown as far as it goes, and the page says so. The exit status is 2 for a file that is
    no trace.
    """
    try:
        traces = [_read(each, redact=redact) for each in (path, other) if each is not None]
        page = report_page(traces)
        sides, notes = tell(traces)
    except (TraceError, StoryError) as error:
        raise click.UsageError(str(error)) from None
    target = output or path.with_suffix(".html")
    try:
        _write(target, page)
    except OSError as error:
        raise click.ClickException(f"{target}: {error.strerror or error}") from None
    for note in notes:
        click.echo(note, err=True)
    click.echo(headline(sides)[1])
    click.echo(str(target))


def _read(path: Path, *, redact: bool) -> Trace:
    try:
        trace = read_trace(path)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None
    return redacted(trace) if redact and not trace.header.redacted else trace


def _write(path: Path, page: str) -> None:
    """All of it, or nothing: an older page stays if this one cannot be written."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(page)
        Path(name).chmod(0o666 & ~_umask())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink()
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
