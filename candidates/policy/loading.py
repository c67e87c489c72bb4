"""Text and mappings to a Policy, with every problem told at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import ValidationError

from candidates.policy.document import Document, read_document
from candidates.policy.errors import PolicyError, Problem, dotted
from candidates.policy.model import Policy
from candidates.policy.servers import Sources
from candidates.policy.translation import faults


def load_policy(
    text: str,
    *,
    source: str = "policy.yaml",
    environ: Mapping[str, str],
    read_file: Callable[[str], str],
) -> Policy:
    """Parse a policy file; an empty one is the default policy.

    ``source`` is what errors call the file. ``environ`` answers ``${NAME}`` in credentials, ``read_file`` takes
    the path of ``{file: PATH}`` and returns its text, or raises OSError or UnicodeError.

    Raises PolicyError, with all problems that were found.
    """
    document = read_document(text, source)
    return _policy_of(document.data, source, Sources(environ, read_file), document)


def policy_of(
    mapping: Mapping[str, object],
    *,
    source: str = "policy",
    environ: Mapping[str, str],
    read_file: Callable[[str], str],
) -> Policy:
    """The same for a mapping with the keys of the file, as a program or another format holds it."""
    return _policy_of(mapping, source, Sources(environ, read_file), None)


def _policy_of(data: object, source: str, sources: Sources, document: Document | None) -> Policy:
    problems = list(document.problems) if document else []
    try:
        policy = Policy.model_validate(data, context=sources)
    except ValidationError as error:
        for path, of_key, wrong, right in faults(error, Policy):
            place = document.place(path, of_key=of_key) if document else None
            line, column = (place.line, place.column) if place else (None, None)
            problems.append(Problem(source, line, column, dotted(path), wrong, right))
    if problems:
        # Outside of the except block, so that pydantic's error is not chained: it holds the input, and so passwords.
        raise PolicyError(problems)
    return policy
