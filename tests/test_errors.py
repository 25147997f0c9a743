"""Errors say everything at once, and each has its exit code."""

import pytest

from jaxgan import errors


def test_one_problem_is_the_message():
    error = errors.UserError("a.tif: truncated")
    assert str(error) == "a.tif: truncated"
    assert error.problems == ["a.tif: truncated"]


def test_every_problem_is_listed():
    error = errors.UserError(["a.tif: truncated", "b.tif: NaN"])
    assert str(error) == "2 problems:\n  1. a.tif: truncated\n  2. b.tif: NaN"
    assert error.problems == ["a.tif: truncated", "b.tif: NaN"]


@pytest.mark.parametrize(
    ("error", "code"),
    [(errors.UserError, 2), (errors.NonFiniteError, 3), (errors.Preempted, 143)],
)
def test_exit_codes(error, code):
    assert error("why").exit_code == code
    assert isinstance(error("why"), errors.RunError)
