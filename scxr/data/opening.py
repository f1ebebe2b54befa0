"""Open a store by its folder, or the embedded phantom by its name."""

from __future__ import annotations

import hashlib
from pathlib import Path

from scxr.cache import cache_folder
from scxr.data import phantom
from scxr.data.store import RadiographStore
from scxr.errors import InputError

PHANTOM_IMAGES = {"A": 4000, "B": 3000}
PHANTOM_SIZE = 128


def open_data(data: str | Path) -> RadiographStore:
    """A store's folder, or "phantom" (hospital A, to pretrain on), or "phantom:B" (the target)."""
    name, _, hospital = str(data).partition(":")
    if name == "phantom" and not Path(data).exists():
        return phantom_store(hospital or "A")
    return RadiographStore.open(data)


def phantom_store(
    hospital: str = "A", n: int | None = None, *, size: int = PHANTOM_SIZE, seed: int = 0
) -> RadiographStore:
    """The phantom of one hospital as a store in the cache, made when it is first asked for.

    Args:
        hospital: "A", the unlabelled pool, or "B", the target.
        n: number of images; None for what the course uses.
        size: height and width, pixels.
    """
    if hospital not in phantom.HOSPITALS:
        raise InputError(f"Unknown hospital {hospital!r}; choose {' or '.join(phantom.HOSPITALS)}.")
    n = n if n is not None else PHANTOM_IMAGES[hospital]
    name = f"phantom-{hospital}{seed}-{n}x{size}-{_code()}"
    path = cache_folder() / "stores" / name
    if path.exists():
        return RadiographStore.open(path)
    return phantom.write_store(path, n, size=size, hospital=hospital, seed=seed)


def _code() -> str:
    """A digest of the phantom's source: a phantom that is drawn otherwise is another store."""
    digest = hashlib.sha256()
    for file in sorted(Path(phantom.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]
