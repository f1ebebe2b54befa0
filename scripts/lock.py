"""Write requirements.lock: exact pins of all that continuous integration and the book use.

Resolves the dependencies that pyproject.toml declares (with the extras `book` and `test`), so that
what merely happens to be installed here stays out. By default it keeps the versions installed in
this environment; `--upgrade` asks the index for the newest ones. Nothing is installed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from importlib.metadata import distributions
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Exact versions that continuous integration and the book use. Written by `make lock`; do not edit.
# torch and torchvision come together from the ordinary index: a CPU-only torch from elsewhere does
# not load with this torchvision.
"""
# The CUDA libraries and triton exist for Linux only; elsewhere torch does without.
LINUX_ONLY = ("nvidia-", "cuda-", "triton")


def installed_versions() -> str:
    """What is installed here, as pip constraints."""
    pins = {f"{d.metadata['Name']}=={d.version}" for d in distributions()}
    return "\n".join(sorted(pin for pin in pins if not pin.startswith("scxr==")))


def resolve(constraints: str) -> list[tuple[str, str]]:
    """Ask pip what it would install for scxr and its extras: (name, version), sorted by name."""
    with tempfile.TemporaryDirectory() as folder:
        limits, report = Path(folder, "constraints.txt"), Path(folder, "report.json")
        limits.write_text(constraints)
        command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
        command += ["--quiet", "--report", str(report), "--constraint", str(limits)]
        subprocess.run([*command, f"{ROOT}[book,test]"], check=True)
        found = json.loads(report.read_text())["install"]
    packages = [(item["metadata"]["name"], item["metadata"]["version"]) for item in found]
    return sorted((p for p in packages if p[0] != "scxr"), key=lambda p: p[0].lower())


def pin(name: str, version: str) -> str:
    """One line of the lock file."""
    plain = version.split("+")[0]  # a local build tag names no version of the index
    marker = ' ; sys_platform == "linux"' if name.lower().startswith(LINUX_ONLY) else ""
    return f"{name}=={plain}{marker}\n"


def main() -> None:
    """Resolve and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions")
    upgrade = parser.parse_args().upgrade
    packages = resolve("" if upgrade else installed_versions())
    lines = [pin(name, version) for name, version in packages]
    (ROOT / "requirements.lock").write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main()
