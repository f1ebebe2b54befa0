"""Say loudly, at the end of `make test`, which tests were left out and why.

Reads the JUnit reports in the folder given. With `SCXR_REQUIRE_ALL=1` (as in `.ci/run`) a test
that was left out is a failure, unless it needs something that no checkout of the project has.
"""

from __future__ import annotations

import os
import sys
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path

# Real radiographs may not be redistributed, and a GPU cannot be installed.
NOT_OURS_TO_BRING = ("no real radiographs", "cuda", "gpu")


def skipped(folder: Path) -> Counter[str]:
    """Reasons of the skipped tests in all reports of `folder`, with how many tests each."""
    reasons: Counter[str] = Counter()
    for report in sorted(folder.glob("*.xml")):
        for mark in ElementTree.parse(report).iter("skipped"):
            tagged = report.stem == "nbval" and mark.get("message") == "Skipped"
            if mark.get("type") == "pytest.skip" and not tagged:  # tagged: Colab's install cells
                reasons[mark.get("message") or "no reason given"] += 1
    return reasons


def main(folder: Path) -> int:
    """Print the banner; the exit code says whether the run counts as complete."""
    reasons = skipped(folder)
    if not reasons:
        print("\nAll tests ran; none was left out.")
        return 0
    line = "!" * 78
    print(f"\n{line}\nLEFT OUT: {reasons.total()} tests did not run")
    for reason, count in reasons.most_common():
        print(f"  {count:4d}  {reason}")
    print(line)
    ours = [r for r in reasons if not any(word in r.lower() for word in NOT_OURS_TO_BRING)]
    if ours and os.environ.get("SCXR_REQUIRE_ALL") == "1":
        print("SCXR_REQUIRE_ALL=1: a test that was left out counts as failed.")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
