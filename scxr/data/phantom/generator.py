"""From an image's index to its picture, masks and table row; many of them; a store of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed
from numpy.typing import NDArray

from scxr.data.phantom import acquisition, cohort, findings, regions, thorax
from scxr.data.phantom.acquisition import HOSPITALS, Exposure, Hospital
from scxr.data.phantom.anatomy import Anatomy, draw_anatomy
from scxr.data.phantom.cohort import FINDINGS, Patient
from scxr.data.phantom.devices import add_devices
from scxr.data.phantom.geometry import Frame, Mask
from scxr.data.phantom.randomness import Draws, stream
from scxr.data.phantom.regions import REGIONS
from scxr.data.phantom.reports import Seen, report
from scxr.data.store import NORMAL, RadiographStore, StoreWriter
from scxr.errors import InputError
from scxr.progress import progress_bar

CHUNK = 128
IMAGES_A_WORKER = 2000  # fewer are drawn sooner than another process has started
MIN_SIZE, MAX_SIZE = 32, 1024


@dataclass(frozen=True)
class PhantomBatch:
    """images (B, H, W) uint8; masks: name -> (B, H, W) bool; table: one row an image."""

    images: NDArray[np.uint8]
    masks: dict[str, NDArray[np.bool_]]
    table: pd.DataFrame


def generate(
    indices: Sequence[int] | NDArray,
    *,
    size: int = 128,
    hospital: str = "A",
    seed: int = 0,
    masks: bool = True,
    findings: Sequence[Sequence[str]] | None = None,
) -> PhantomBatch:
    """Phantom radiographs; image i is the same bit for bit in whatever batch it is made.

    Args:
        indices: numbers of the images, 0 or more; they need not be consecutive or sorted.
        size: pixels a side, 32 to 1024. Anatomy and findings do not depend on it.
        hospital: a key of HOSPITALS.
        seed: another seed is another pair of hospitals with other patients.
        masks: whether to return the masks of REGIONS and FINDINGS (about a tenth of the time).
        findings: what each image shows instead of what its patient has; [] is a normal image.

    Returns:
        A PhantomBatch. Its masks hold every name of REGIONS and FINDINGS ({} without masks), its
        table the columns image, patient, view, findings, hospital, sex, age (years), conspicuity
        ("finding=0.73|...", grades in [0, 1]) and report (one or two sentences).

    Raises:
        InputError: an unknown hospital or finding, a negative index, a size out of range.
    """
    numbers = [int(index) for index in indices]
    place = _check(numbers, size, hospital, findings)
    n = len(numbers)
    images = np.empty((n, size, size), dtype=np.uint8)
    names = (*REGIONS, *FINDINGS) if masks else ()
    drawn = {name: np.zeros((n, size, size), dtype=bool) for name in names}
    rows = []
    for row, index in enumerate(numbers):
        asked = None if findings is None else list(findings[row])
        images[row], parts, entry = _image(index, size, place, seed, masks, asked)
        for name, mask in parts.items():
            drawn[name][row] = mask
        rows.append(entry)
    return PhantomBatch(images, drawn, pd.DataFrame(rows, columns=_COLUMNS))


def write_store(
    path: str | Path,
    n: int,
    *,
    size: int = 128,
    hospital: str = "A",
    seed: int = 0,
    workers: int | None = None,
) -> RadiographStore:
    """Writes images 0 .. n-1 of a hospital with all masks as a RadiographStore, in chunks.

    Args:
        workers: processes; the store does not depend on them. None takes one for every
            IMAGES_A_WORKER images, as far as there are cores.
    """
    if n < 1:
        raise InputError(f"A phantom store needs at least 1 image; {n} were asked for.")
    if workers is not None and workers < 1:
        raise InputError(f"A phantom store needs at least 1 worker, not {workers}.")
    place = _check([0], size, hospital, None)
    source = {
        "kind": "phantom",
        "hospital": hospital,
        "likeness": place.likeness,
        "seed": seed,
        "findings": list(FINDINGS),
    }
    chunks = [range(start, min(start + CHUNK, n)) for start in range(0, n, CHUNK)]
    draw = partial(generate, size=size, hospital=hospital, seed=seed)
    made: Iterable[PhantomBatch] = map(draw, chunks)
    workers = workers or max(1, min(cpu_count(), n // IMAGES_A_WORKER))
    if workers > 1:
        made = Parallel(workers, return_as="generator")(delayed(draw)(chunk) for chunk in chunks)
    with StoreWriter(path, size, size, source, capacity=n) as writer:
        for batch in progress_bar(
            made, desc=f"phantom hospital {hospital}", total=len(chunks), unit="chunk"
        ):
            writer.add(batch.images, batch.table, batch.masks)
        return writer.finish()


_COLUMNS = ["image", "patient", "view", "findings", "hospital", "sex", "age"]
_COLUMNS += ["conspicuity", "report"]


def _check(
    numbers: list[int], size: int, hospital: str, asked: Sequence[Sequence[str]] | None
) -> Hospital:
    if hospital not in HOSPITALS:
        raise InputError(f"Unknown hospital {hospital!r}; choose one of {', '.join(HOSPITALS)}.")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InputError(f"A phantom is {MIN_SIZE} to {MAX_SIZE} pixels a side, not {size}.")
    if any(number < 0 for number in numbers):
        raise InputError(f"Phantom indices start at 0; {min(numbers)} is negative.")
    if asked is not None and len(asked) != len(numbers):
        raise InputError(f"{len(asked)} lists of findings were given for {len(numbers)} images.")
    unknown = {name for names in asked or [] for name in names} - set(FINDINGS)
    if unknown:
        raise InputError(f"Unknown finding {min(unknown)!r}; choose from {', '.join(FINDINGS)}.")
    return HOSPITALS[hospital]


@lru_cache(maxsize=64)
def _patient(name: str, hospital: str, seed: int) -> tuple[Patient, Anatomy]:
    patient = cohort.draw_patient(name, HOSPITALS[hospital], seed)
    draws = Draws(stream(seed, hospital, "anatomy", name), 80)
    return patient, draw_anatomy(draws, patient.female, patient.age)


def _image(
    index: int, size: int, place: Hospital, seed: int, masks: bool, asked: list[str] | None
) -> tuple[NDArray[np.uint8], dict[str, Mask], dict]:
    """One image, its masks by name, and its table row: a pure function of its arguments."""
    name = cohort.patient_name(index, place, seed)
    patient, anatomy = _patient(name, place.name, seed)
    shows = cohort.shown_findings(patient, index, place, seed) if asked is None else asked
    cases = [findings.draw_case(finding, name, place.name, seed) for finding in shows]
    exposure = acquisition.draw_exposure(
        Draws(stream(seed, place.name, "exposure", index), 40), place
    )
    anatomy = _on_the_day(anatomy, exposure)
    for case in cases:
        anatomy = findings.prepare(anatomy, case)
    frame = Frame(size, exposure.rotation, exposure.zoom, exposure.shift)
    vessel_draws = Draws(stream(seed, place.name, "vessels", name))
    scene = thorax.project(anatomy, frame, exposure.turn, vessel_draws)
    parts: dict[str, Mask] = dict(regions.regions(scene)) if masks else {}
    field = acquisition.exposed_field(size, exposure)
    seen = [Seen(case, findings.draw(scene, case)) for case in cases]
    parts |= {one.case.finding: one.lesion.mask for one in seen}
    if exposure.devices:
        add_devices(scene, Draws(stream(seed, place.name, "devices", index), 32))
    noise = stream(seed, place.name, "noise", index)
    shown = acquisition.detect(scene.depth, frame, exposure, place, anatomy.habitus, noise)
    picture = acquisition.finish(shown, exposure, place)
    row = {
        "image": f"{place.name}{seed}-{index:07d}",
        "patient": name,
        "view": exposure.view,
        "findings": "|".join(shows) or NORMAL,
        "hospital": place.name,
        "sex": "F" if patient.female else "M",
        "age": patient.age,
        "conspicuity": "|".join(f"{case.finding}={case.conspicuity:.2f}" for case in cases),
        "report": report(
            exposure.view, seen, anatomy, Draws(stream(seed, place.name, "report", index), 32)
        ),
    }
    if not masks:
        return picture, {}, row
    return picture, {name: _tidy(name, mask, field) for name, mask in parts.items()}, row


def _tidy(name: str, mask: Mask, field: tuple[slice, slice]) -> Mask:
    """What the collimator hides is on no mask, and no mask has stray pixels."""
    seen = mask
    if mask[field].shape != mask.shape:
        seen = np.zeros_like(mask)
        seen[field] = mask[field]
    return regions.without_islands(name, seen)


def _on_the_day(anatomy: Anatomy, exposure: Exposure) -> Anatomy:
    """A poor breath raises the domes and widens the heart; so does the short distance of AP."""
    rise = 0.11 * exposure.breath
    lying = exposure.view == "AP"
    wider = 1 + 0.06 * exposure.breath + 0.07 * lying
    right, left = anatomy.dome
    return replace(
        anatomy,
        dome=(right - rise, left - rise),
        heart=anatomy.heart * wider,
        heart_y=anatomy.heart_y - rise,
        # In bed the shoulder blades are not rolled aside, and the clavicles lie higher and flatter.
        scapula=anatomy.scapula - (0.1 if lying else 0.0),
        clavicle=anatomy.clavicle - (0.04 if lying else 0.0),
        clavicle_slope=anatomy.clavicle_slope * (0.75 if lying else 1.0),
    )
