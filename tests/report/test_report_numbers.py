"""No number of the page is finer than the data can tell."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scxr.report import numbers


@given(st.integers(1, 3000), st.integers(1, 3000))
def test_the_last_digit_is_no_finer_than_a_step(positives: int, negatives: int) -> None:
    step = 1 / (positives * negatives)
    decimals = numbers.digits(step)
    assert decimals in (1, 2)
    assert decimals == 1 or 10**-decimals >= step - 1e-12
    assert decimals == 2 or step > 0.01  # a digit that is known is not kept back


@given(st.floats(-1, 1), st.sampled_from([1, 2]))
def test_numbers_read_back_as_they_were_rounded(value: float, decimals: int) -> None:
    text = numbers.plain(value, decimals)
    back = float(text.replace("−", "-"))
    assert back == round(value, decimals)
    assert math.copysign(1, back) == 1 or back < 0  # no "-0.0"
    assert numbers.signed(value, decimals).lstrip("+") == text


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        (numbers.p_value(0.0004), "< 0.001"),
        (numbers.p_value(0.0126), "0.013"),
        (numbers.p_value(0.9999), "1"),
        (numbers.signed(0.04, 1), "0.0"),
        (numbers.signed(-0.06, 1), "−0.1"),
        (numbers.spread(0.02, 1), "below 0.1"),
        (numbers.spread(0.07, 1), "0.1"),
        (numbers.span(0.449, 0.951, 1), "0.4 to 1.0"),
        (numbers.step_size(1 / 144), "0.007"),
        (numbers.listed(["a"]), "a"),
        (numbers.listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_how_they_read(told: str, expected: str) -> None:
    assert told == expected
