"""Runs cases against a target, and keeps what they found."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from interop.conformance.case import Case, Level, NotConforming, NotObservable
from interop.conformance.target import Capability, Target, TargetError
from interop.conformance.trial import Trial
from interop.conformance.wire import Packet

JOBS: Final = 6
"""Cases that run at a time: they wait most of the time."""
SCALE: Final = 0.1
"""What the timers of a target that can are multiplied by, unless run in real time."""


class Outcome(StrEnum):
    """What became of a case."""

    PASSED = "passed"
    FAILED = "failed"
    DEVIATES = "deviates"
    """It failed, and the target says why it does something else."""
    NOT_APPLICABLE = "not applicable"
    """The target cannot do what the case needs."""
    DECLINED = "declined"
    """The agent makes no use of a MAY."""
    NOT_RUN = "not run"
    """It takes real time, which ``--slow`` gives, or cannot be seen on this machine."""
    BROKEN = "broken"
    """The case could not be carried out: the adapter failed, or the agent hung."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one case found about one target. ``packets`` are kept where it did not pass."""

    case: Case
    outcome: Outcome
    evidence: str = ""
    seconds: float = 0.0
    packets: tuple[Packet, ...] = field(default=(), repr=False)

    @property
    def violates(self) -> bool:
        """A MUST does not hold, or nobody knows whether it does."""
        return self.case.level is Level.MUST and self.outcome in (Outcome.FAILED, Outcome.BROKEN)


@dataclass(frozen=True, slots=True)
class Column:
    """Everything that was found about one target."""

    name: str
    version: str
    deviations: Mapping[str, str]
    results: dict[str, Result]
    unhandled: tuple[str, ...] = ()
    """Errors that nobody handled in the event loop, where the target runs in ours."""

    @property
    def violates(self) -> bool:
        """Something that must hold does not."""
        return bool(self.unhandled) or any(result.violates for result in self.results.values())


async def run_all(
    target: Target,
    cases: Iterable[Case],
    *,
    slow: bool = False,
    jobs: int = JOBS,
    progress: Callable[[Result], None] = lambda _: None,
) -> Column:
    """Run cases against a target, some at a time; ``progress`` hears of each result as it comes."""
    ordered = list(cases)
    results: dict[str, Result] = {}
    gate = asyncio.Semaphore(jobs)

    async def run(case: Case) -> None:
        async with gate:
            result = await run_case(target, case, slow=slow)
        results[case.id] = result
        progress(result)

    unhandled: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled.append(_in_words(context)))
    try:
        # The longest first: they must not stand alone at the end.
        async with asyncio.TaskGroup() as group:
            for each in sorted(ordered, key=lambda case: -case.limit):
                group.create_task(run(each))
    finally:
        loop.set_exception_handler(None)
    found = {case.id: results[case.id] for case in ordered}
    return Column(target.name, target.version, target.deviations, found, tuple(unhandled))


def _in_words(context: Mapping[str, Any]) -> str:
    error = context.get("exception")
    return str(context.get("message", "")) if error is None else f"{type(error).__name__}: {error}"


async def run_case(target: Target, case: Case, *, slow: bool = False) -> Result:
    """Run one case. Never raises for what the target does."""
    missing = case.needs - target.capabilities
    if missing:
        return Result(case, Outcome.NOT_APPLICABLE, f"the target has no {', '.join(sorted(missing))}")
    if not slow and (case.slow or (case.scaled and Capability.SCALED not in target.capabilities)):
        return Result(case, Outcome.NOT_RUN, "it takes real time: --slow")
    scale = SCALE if case.scaled and not slow else 1.0
    trial = Trial(target, scale=scale)
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    try:
        outcome, evidence = await _carry_out(case, trial, case.limit if scale < 1 or not slow else 10 * case.limit)
    finally:
        await trial.close()
    if outcome is Outcome.FAILED and case.level is Level.MAY:
        outcome = Outcome.DECLINED
    if outcome is Outcome.FAILED and case.id in target.deviations:
        outcome = Outcome.DEVIATES
    packets = () if outcome is Outcome.PASSED else tuple(trial.wire.packets)
    return Result(case, outcome, evidence, loop.time() - begun_at, packets)


async def _carry_out(case: Case, trial: Trial, limit: float) -> tuple[Outcome, str]:
    try:
        async with asyncio.timeout(limit):
            evidence = await case.run(trial)
    except NotConforming as error:
        return Outcome.FAILED, str(error)
    except TargetError as error:
        return Outcome.FAILED, f"the agent says: {error}"
    except NotObservable as error:
        return Outcome.NOT_RUN, str(error)
    except TimeoutError:
        return Outcome.BROKEN, f"it hung for {limit:g} s"
    except Exception as error:  # noqa: BLE001 - an adapter may raise anything; it is reported, as broken
        return Outcome.BROKEN, f"{type(error).__name__}: {error}"
    return Outcome.PASSED, evidence or ""
