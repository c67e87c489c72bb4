"""A policy as a list of settings: each key with its value, and whether the file or the default says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from candidates.policy.document import Document, Plain, read_document
from candidates.policy.errors import KeyPath, dotted
from candidates.policy.model import Policy


@dataclass(frozen=True, slots=True)
class Setting:
    """A key, such as ``timeouts.gather``, and its value as JSON has it; ``line`` is where the file says so, or None.

    Credentials are asterisks.
    """

    key: str
    value: Any
    line: int | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """A key whose value is another in another policy; None also where there is no such key."""

    key: str
    left: Any
    right: Any


def effective_settings(policy: Policy, text: str = "", *, source: str = "policy.yaml") -> list[Setting]:
    """Every setting of a policy, in the order of the reference; ``text`` is the file that it was read from.

    Raises PolicyError for a text that is no YAML.
    """
    document = read_document(text, source)
    return [
        Setting(dotted(path), value, _line(document, path)) for path, value in _leaves(policy.model_dump(mode="json"))
    ]


def differences(left: Policy, right: Policy) -> list[Difference]:
    """What is different, in the order of the reference; passwords that differ are not told of: both are asterisks."""
    mine, theirs = (dict(_leaves(each.model_dump(mode="json"))) for each in (left, right))
    return [
        Difference(dotted(path), mine.get(path), theirs.get(path))
        for path in dict.fromkeys((*mine, *theirs))
        if path not in mine or path not in theirs or mine[path] != theirs[path]
    ]


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Any]]:
    """What has no keys of its own: scalars, and lists of them."""
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from _leaves(each, (*path, key))
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for number, each in enumerate(value):
            yield from _leaves(each, (*path, number))
    else:
        yield path, value


def _line(document: Document, path: KeyPath) -> int | None:
    """Where the file says the value, or the list or mapping that it is part of as a whole."""
    value: Plain = document.data
    for depth, part in enumerate(path):
        match value, part:
            case dict(), str() if part in value:
                value = value[part]
            case list(), int() if part < len(value):
                value = value[part]
            case dict() | list(), _:
                return None
            case _:  # a text, in place of a mapping, says all of it
                return document.place(path[:depth], of_key=True).line
    return document.place(path, of_key=True).line
