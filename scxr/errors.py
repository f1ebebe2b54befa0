"""The one exception that a user of scxr is meant to see."""

from __future__ import annotations


class InputError(ValueError):
    """What was given cannot be used; the message is one sentence that says what to do instead.

    The command line prints the message and ends with exit code 2, without a traceback.
    """
