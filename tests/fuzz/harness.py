"""How a fuzz entry is run: bytes drawn from its seeds, or found by atheris."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Check = Callable[[bytes], None]
"""Takes any bytes; an exception is a counterexample."""

_EXAMPLES = 2000
"""Examples of one hypothesis run; `main` repeats runs."""


@st.composite
def mutations(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """A seed that was cut, doubled in part, and changed in a few bytes."""
    data = bytearray(draw(st.sampled_from(seeds)))
    positions = st.integers(0, len(data))
    match draw(st.sampled_from(("whole", "cut", "removed", "repeated", "inserted"))):
        case "cut":
            del data[draw(positions) :]
        case "removed":
            start = draw(positions)
            del data[start : start + draw(st.integers(1, 12))]
        case "repeated":
            start = draw(positions)
            piece = data[start : start + draw(st.integers(1, 40))]
            data[start:start] = piece
        case "inserted":
            start = draw(positions)
            data[start:start] = draw(st.binary(max_size=12))
        case _:
            pass
    if data:
        for at, byte in draw(st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=4)):
            data[at] = byte
    return bytes(data)


def inputs(seeds: Sequence[bytes]) -> SearchStrategy[bytes]:
    """Random bytes, and mutations of seeds."""
    return st.binary(max_size=200) | mutations(seeds)


def main(check: Check, seeds: Sequence[bytes]) -> None:
    """Run until a counterexample is found or the time is over."""
    if importlib.util.find_spec("atheris") is not None:
        atheris = importlib.import_module("atheris")
        atheris.instrument_all()
        atheris.Setup(sys.argv, check)
        atheris.Fuzz()
        return
    parser = argparse.ArgumentParser(description=check.__module__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to search (default: 60)")
    ends_at = time.monotonic() + parser.parse_args().seconds
    search = settings(max_examples=_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))(
        given(inputs(seeds))(check)
    )
    while time.monotonic() < ends_at:
        search()
