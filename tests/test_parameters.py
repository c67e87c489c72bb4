"""Credentials, options and pacing: validated, immutable, and the password kept out of sight."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from candidates.parameters import IceParameters, ParametersError

UFRAG = "8hhY"
PWD = "asd88fgpdd777uzjYhagZg"


def test_is_an_immutable_value() -> None:
    parameters = IceParameters(UFRAG, PWD, ("ice2", "trickle"), pacing=5)
    assert hash(parameters) == hash(IceParameters(UFRAG, PWD, ("ice2", "trickle"), pacing=5))
    with pytest.raises(FrozenInstanceError):
        parameters.pwd = PWD[::-1]  # type: ignore[misc]


def test_defaults_say_nothing() -> None:
    parameters = IceParameters(UFRAG, PWD)
    assert (parameters.options, parameters.lite, parameters.pacing) == ((), False, None)


def test_longest_and_shortest_credentials() -> None:
    assert IceParameters("a" * 256, "b" * 256) != IceParameters("a" * 4, "b" * 22)


def test_options_keep_their_order_and_become_a_tuple() -> None:
    given: Any = ["rtp+ecn", "google-ice"]
    assert IceParameters(UFRAG, PWD, given).options == ("rtp+ecn", "google-ice")


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("ice-ufrag", {"ufrag": "abc"}),
        ("ice-ufrag", {"ufrag": "a" * 257}),
        ("ice-ufrag", {"ufrag": "8hh:"}),
        ("ice-ufrag", {"ufrag": "8hhY\n"}),
        ("ice-ufrag", {"ufrag": None}),
        ("ice-pwd", {"pwd": "a" * 21}),
        ("ice-pwd", {"pwd": "a" * 257}),
        ("ice-pwd", {"pwd": PWD[:-1] + "é"}),
        ("ice-pwd", {"pwd": PWD.encode()}),
        ("ice-options", {"options": ("",)}),
        ("ice-options", {"options": ("two words",)}),
        ("ice-pacing", {"pacing": -1}),
        ("ice-pacing", {"pacing": 10**10}),
        ("ice-pacing", {"pacing": True}),
        ("ice-pacing", {"pacing": 1.5}),
    ],
)
def test_error_names_the_field(field: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ParametersError) as error:
        IceParameters(**({"ufrag": UFRAG, "pwd": PWD} | changes))
    assert error.value.field == field
    assert str(error.value).startswith(f"{field} ")


def test_password_is_shown_nowhere() -> None:
    assert PWD not in repr(IceParameters(UFRAG, PWD))
    with pytest.raises(ParametersError) as error:
        IceParameters(UFRAG, PWD + "!")
    assert PWD not in str(error.value)
    assert PWD not in repr(error.value)
