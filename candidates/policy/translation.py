"""Pydantic's errors in the words of the policy file: what was wrong, and what would be right."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, get_args

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticUndefined

from candidates.policy.errors import KeyPath
from candidates.policy.sections import Section

Fault = tuple[KeyPath, bool, str, str]
"""Path, whether the key itself is wrong, what is wrong, what would be right."""


def faults(error: ValidationError, root: type[Section]) -> Iterator[Fault]:
    """What a failed validation of ``root`` found."""
    for detail in error.errors(include_url=False):
        context = detail.get("ctx", {})
        path = tuple(detail["loc"])
        match detail["type"]:
            case "contradictions":
                for each in context["found"]:
                    yield each.path, True, each.wrong, each.right
            case "policy":
                yield path, False, context["wrong"], context["right"]
            case "extra_forbidden":
                yield path, True, "unknown key", _known_keys(path, root)
            case _:
                yield path, False, _wrong(detail), _right(detail, path, root)


def section_of(annotation: object) -> type[Section] | None:
    """The section that a field's annotation holds: itself, or the items of a tuple."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    found = (section_of(part) for part in get_args(annotation))
    return next((section for section in found if section is not None), None)


def _field_at(path: KeyPath, root: type[Section]) -> tuple[type[Section] | None, FieldInfo | None]:
    """The section that holds the last key of a path, and the key's field."""
    section: type[Section] | None = root
    owner, field = None, None
    for part in path:
        if isinstance(part, int):
            continue
        owner, field = section, section.model_fields.get(part) if section else None
        section = section_of(field.annotation) if field else None
    return owner, field


def _known_keys(path: KeyPath, root: type[Section]) -> str:
    owner, _ = _field_at(path, root)
    known = list(owner.model_fields) if owner else []
    if close := get_close_matches(str(path[-1]).lower(), known, n=1):
        return f"did you mean {close[0]!r}?"
    return f"known here: {', '.join(known)}"


def _wrong(detail: ErrorDetails) -> str:
    """What is wrong; of the values only numbers and would-be words of ours are quoted, never free text."""
    value = detail["input"]
    match detail["type"]:
        case "missing":
            return "the key is missing"
        case "model_type":
            return "nothing stands below it" if value is None else "not a mapping of keys"
        case "tuple_type":
            return "not a list"
        case "bool_type":
            return "not true or false"
        case "int_type" | "int_from_float":
            return "not a whole number"
        case "float_type":
            return "not a number"
        case "string_type":
            return "not text"
        case "enum" if isinstance(value, str):
            return f"unknown value {value[:40]!r}"
        case "enum":
            return "not one of the known words"
        case "too_long":
            return "the list is too long"
        case "finite_number":
            return "not a finite number"
        case "greater_than" | "greater_than_equal" | "less_than_equal":
            return f"{value} is out of range"
        case _:
            return detail["msg"]


def _right(detail: ErrorDetails, path: KeyPath, root: type[Section]) -> str:
    context: dict[str, Any] = detail.get("ctx", {})
    owner, field = _field_at(path, root)
    match detail["type"]:
        case "missing":
            return f"add it: {field.description}" if field else "add it"
        case "model_type":
            section = section_of(field.annotation) if field else owner or root
            return f"write {', '.join((section or root).model_fields)} below it, or leave it out"
        case "tuple_type":
            return f"write a list{_example(field)}"
        case "bool_type":
            return "write true or false"
        case "string_type":
            return "write text, in quotes"
        case "enum":
            return _known_words(detail["input"], context["expected"], field)
        case "invalid_key":
            return "write keys as text"
        case "too_long":
            return f"write at most {context['max_length']} items"
        case _:
            return f"write {_number(field)}{_bound(context)}{_example(field)}"


def _known_words(value: object, expected: str, field: FieldInfo | None) -> str:
    words = [str(word) for enum in _enums(field.annotation if field else None) for word in enum]
    if isinstance(value, str) and (close := get_close_matches(value.lower(), words, n=1)):
        return f"did you mean {close[0]!r}? Known: {', '.join(words)}"
    return f"write {expected.replace(chr(39), '')}"


def _enums(annotation: object) -> Iterator[type[StrEnum]]:
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        yield annotation
    for part in get_args(annotation):
        yield from _enums(part)


def _number(field: FieldInfo | None) -> str:
    description = (field.description or "") if field else ""
    if "econds" in description:
        return "a number of seconds"
    return "a number of bytes" if description.startswith("Bytes") else "a number"


def _bound(context: dict[str, Any]) -> str:
    words = {"gt": "greater than", "ge": "of at least", "le": "of at most"}
    return "".join(f" {word} {context[name]:g}" for name, word in words.items() if name in context)


def _example(field: FieldInfo | None) -> str:
    if field is None or field.default in (PydanticUndefined, None, ()):
        return ""
    if isinstance(field.default, tuple):
        return f", such as [{', '.join(field.default)}]"
    return f", such as {field.default:g}"
