"""One page to hand to a colleague: what was compared, how it did, and how far to believe it."""

from scxr.report.page import write_report

__all__ = ["write_report"]
