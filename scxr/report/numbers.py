"""How numbers read: never finer than the data can tell."""

from __future__ import annotations

import math


def digits(step: float) -> int:
    """Decimals of an AUC that moves in steps of `step`: the last one is no finer than a step.

    At least one; at most two, since no few-shot interval is narrow enough for a third.
    """
    return min(max(math.floor(-math.log10(step) + 1e-9), 1), 2)


def plain(value: float, decimals: int) -> str:
    """0.713 -> "0.71"; never "-0.00"; the minus is a minus."""
    return f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")


def signed(value: float, decimals: int) -> str:
    """With a plus in front of what is above 0 after rounding."""
    text = plain(value, decimals)
    return f"+{text}" if round(value, decimals) > 0 else text


def span(low: float, high: float, decimals: int) -> str:
    """Two ends as "0.55 to 0.86"."""
    return f"{plain(low, decimals)} to {plain(high, decimals)}"


def spread(value: float, decimals: int) -> str:
    """A standard deviation, "below 0.1" where it rounds to nothing."""
    unit = 10**-decimals
    return plain(value, decimals) if value >= unit / 2 else f"below {unit:.{decimals}f}"


def p_value(p: float) -> str:
    """Two significant digits, and nothing below 0.001."""
    if p < 0.001:
        return "< 0.001"
    return "1" if p > 0.995 else f"{p:.2g}"


def step_size(step: float) -> str:
    """One significant digit: 0.00694 -> "0.007"."""
    return f"{step:.1g}"


def bytes_of(count: int) -> str:
    """ "480 kB", "1.2 MB"."""
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def listed(names: list[str]) -> str:
    """["a", "b", "c"] -> "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
