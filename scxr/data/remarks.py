"""What an import has to say besides its images: notes, repeated pictures, patients on two sides.

It is kept in the store as `notes.json`, so that `scxr data info` says it again, and so that the
parts of an import can be joined.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scxr.data.episodes import split_of

NOTES = "notes.json"
NAMED = 20  # pairs and patients that are named; all are counted

SPLIT_COLUMNS = {"split", "part", "subset", "partition"}
SIDES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "tune"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}

# A picture that was stored as JPEG keeps its average hash in 91 % (quality 75) to 96 % (95) of
# 690 NIH radiographs, and its 16 x 16 thumbnail moves by 1 grey level or less in most; no two
# different ones with equal hashes were closer than 14 levels.
HASH = 8
THUMBNAIL = 16
NEAR = 3.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is kept of every image: some 700 bytes, 80 MB for 112,120 images."""

    image: str
    patient: str
    side: str
    thumbnail: bytes


@dataclass
class Remarks:
    """Collects notes, and looks at every image that enters the store."""

    notes: dict[str, list[Any]] = field(default_factory=dict)
    _equal: dict[bytes, _Seen] = field(default_factory=dict)
    _alike: dict[bytes, list[_Seen]] = field(default_factory=lambda: defaultdict(list))
    _repeats: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {"equal": _no_repeats(), "nearly_equal": _no_repeats()}
    )
    _column: str = ""
    _sides: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def note(self, text: str, example: str, count: int = 1) -> None:
        """Count one more case of what `text` says."""
        entry = self.notes.setdefault(text, [0, example])
        entry[0] += count

    def see(self, rows: Iterable[Mapping[str, Any]], pictures: np.ndarray) -> None:
        """Look at images (n, H, W) uint8 and their table rows."""
        for row, picture in zip(rows, pictures, strict=True):
            patient, side = str(row["patient"]), self._side(row)
            if side:
                self._sides[patient].add(side)
            self._compare(str(row["image"]), patient, side, picture)

    def content(self) -> dict[str, Any]:
        """What `notes.json` holds."""
        torn = [patient for patient, sides in self._sides.items() if len(sides) > 1]
        return {
            "notes": [
                {"count": count, "text": text, "example": example}
                for text, (count, example) in self.notes.items()
            ],
            "repeats": self._repeats,
            "own_split": {
                "column": self._column,
                "patients_on_several_sides": len(torn),
                "named": torn[:NAMED],
            },
        }

    def _side(self, row: Mapping[str, Any]) -> str:
        for name, value in row.items():
            if name.casefold() in SPLIT_COLUMNS:
                side = SIDES.get(str(value).strip().casefold(), "")
                self._column = name if side else self._column
                return side
        return ""

    def _compare(self, image: str, patient: str, side: str, picture: np.ndarray) -> None:
        thumbnail = _thumbnail(picture)
        new = _Seen(image, patient, side, thumbnail.tobytes())
        digest = hashlib.blake2b(picture.tobytes(), digest_size=16).digest()
        first = self._equal.setdefault(digest, new)
        if first is not new:
            _count(self._repeats["equal"], first, new)
            return
        alike = self._alike[_average_hash(thumbnail)]
        for old in alike:
            other = np.frombuffer(old.thumbnail, np.uint8).reshape(thumbnail.shape)
            if np.abs(other.astype(np.int16) - thumbnail).mean() <= NEAR:
                _count(self._repeats["nearly_equal"], old, new)
                break
        alike.append(new)


def write_remarks(folder: Path, content: Mapping[str, Any]) -> None:
    """Keep them in a store that is being written."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    (folder / NOTES).write_text(text + "\n", encoding="utf-8")


def read_remarks(folder: Path) -> dict[str, Any]:
    """The remarks of a store; empty for one that was not imported."""
    file = folder / NOTES
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def sentences(content: Mapping[str, Any]) -> list[str]:
    """The remarks for people, what endangers a split first."""
    told: list[str] = []
    own = content.get("own_split", {})
    if own.get("patients_on_several_sides"):
        told.append(
            f"{own['patients_on_several_sides']} patients are on several sides of the table's own "
            f"column '{own['column']}' (for example {own['named'][0]})."
        )
    repeats = content.get("repeats", {})
    told.extend(_repeat_sentences(repeats.get("equal", {}), "equal", " in every pixel"))
    told.extend(_repeat_sentences(repeats.get("nearly_equal", {}), "nearly equal", ""))
    notes = sorted(content.get("notes", []), key=lambda note: -note["count"])
    told += [f"{note['count']} {note['text']} (for example {note['example']})." for note in notes]
    return told


def _repeat_sentences(repeats: Mapping[str, Any], equal: str, how: str) -> Iterable[str]:
    for key, owner in (
        ("across_split", "a patient on the other side of the split by patients"),
        ("across_own_split", "one on another side of the table's own split"),
        ("other_patient", "another patient"),
        ("same_patient", "the same patient"),
    ):
        if repeats.get(key):
            example = " and ".join(repeats["named"][key][0])
            yield (
                f"{repeats[key]} images that {equal} an earlier image of {owner}{how} "
                f"(for example {example})."
            )


def _no_repeats() -> dict[str, Any]:
    keys = ("same_patient", "other_patient", "across_split", "across_own_split")
    return {**dict.fromkeys(keys, 0), "named": {key: [] for key in keys}}


def _count(repeats: dict[str, Any], first: _Seen, new: _Seen) -> None:
    same = first.patient == new.patient
    keys = ["same_patient" if same else "other_patient"]
    if not same and split_of(first.patient) != split_of(new.patient):
        keys.append("across_split")
    if first.side and new.side and first.side != new.side:
        keys.append("across_own_split")
    for key in keys:
        repeats[key] += 1
        if len(repeats["named"][key]) < NAMED:
            repeats["named"][key].append([first.image, new.image])


def _thumbnail(picture: np.ndarray) -> np.ndarray:
    """(16, 16) uint8 means of (H, W) blocks."""
    height, width = (side // THUMBNAIL for side in picture.shape)
    blocks = picture[: height * THUMBNAIL, : width * THUMBNAIL]
    blocks = blocks.reshape(THUMBNAIL, height, THUMBNAIL, width)
    return np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)


def _average_hash(thumbnail: np.ndarray) -> bytes:
    """64 bits: which eighths of the picture are brighter than their mean."""
    step = THUMBNAIL // HASH
    blocks = thumbnail.reshape(HASH, step, HASH, step).mean(axis=(1, 3))
    return np.packbits(blocks > blocks.mean()).tobytes()
