"""A store whose findings are code and whose patients have names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from scxr.data import RadiographStore
from scxr.data.store import StoreWriter

HOSTILE = '<script>alert("x")</script> $\\frac$ & Co'


def renamed(store: RadiographStore, path: Path, names: dict[str, str], masks: bool) -> Path:
    """A copy of a store: other findings, patients with names, with or without regions."""
    findings = store.table["findings"].replace(names)
    patients = store.table["patient"].map(lambda p: f"Müller^Änne^{p}")
    table = pd.DataFrame(store.table).assign(findings=findings, patient=patients)
    with StoreWriter(path, *store.shape[1:], source={"kind": "folder"}) as writer:
        regions = {}
        for structure in store.structures if masks else ():
            regions[names.get(structure, structure)] = store.masks(range(len(store)), structure)
        writer.add(store.images[:], table, regions)
    return path
