"""Run the chapters' notebooks in an environment that is not ours, such as Colab's image.

Installs the checkout as the chapters' first cell installs the package, refuses if that replaced
what Colab brings, and executes every notebook. Used by .github/workflows/colab.yml; exits with 1
when a notebook fails. Needs what Colab has, and nothing else of the book's tools.
"""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLABS_OWN = ("torch", "torchvision", "numpy", "pandas")


def installed() -> dict[str, str]:
    """Versions of what the installation must leave alone, read by a fresh interpreter."""
    code = f"from importlib.metadata import version; print(*map(version, {COLABS_OWN}))"
    answer = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    return dict(zip(COLABS_OWN, answer.stdout.split(), strict=True))


def install() -> None:
    """Install the checkout; refuse to go on where that replaced Colab's own packages."""
    before = installed()
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", str(ROOT)], check=True)
    after = installed()
    if after != before:
        sys.exit(f"The installation replaced Colab's packages: {before} became {after}.")


def run(notebook: Path) -> bool:
    """Execute one notebook in its own folder; whether it ran to the end."""
    print(f"{notebook.name} ...", flush=True)
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--stdout"]
    command += ["--ExecutePreprocessor.timeout=1800", str(notebook)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        print(done.stderr[-4000:], flush=True)
    return done.returncode == 0


def main() -> None:
    """Install, run all notebooks, name those that failed."""
    print(f"Python {sys.version.split()[0]}, torch {version('torch')}", flush=True)
    install()
    notebooks = sorted((ROOT / "chapters").glob("[0-9]*.ipynb"))
    failed = [notebook.name for notebook in notebooks if not run(notebook)]
    if failed:
        sys.exit(f"These notebooks do not run here: {', '.join(failed)}.")


if __name__ == "__main__":
    main()
