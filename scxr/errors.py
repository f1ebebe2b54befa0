"""The one exception that a user of scxr is meant to see, and how others are quoted in it."""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used; the message is one sentence that says what to do instead.

    The command line prints the message and ends with exit code 2, without a traceback.
    """


def first_line(error: Exception) -> str:
    """What a library's error says first, ready to stand within a sentence."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].rstrip(".: ")
