"""One finding, several inits: probes fitted on the same images, maps of the same held-out ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from scxr.data.episodes import draw_episode
from scxr.data.store import NORMAL, RadiographStore
from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.evaluate.features import AnyEncoder, extract
from scxr.evaluate.heads import LinearHead
from scxr.evaluate.probe import fit_head
from scxr.evaluate.statistics import auc
from scxr.explain.gradcam import class_activation_maps

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Explanation:
    """Grad-CAM of one finding for several inits, on the same held-out images.

    Attributes:
        finding, structure, stage: what was explained, the region it is compared with, and where
            in the network.
        rows: (n,) held-out images with the finding.
        patients: (n,) whose they are.
        images: (n, H, W) uint8.
        masks: (n, H, W) bool, or None where the store has no region for every one of them.
        cams: name of the init -> (n, H, W) in [0, 1].
        heads: name of the init -> the probe that was explained.
        scores: name of the init -> (n,) log odds the probe gives these images.
        aucs: name of the init -> AUC of the probe on all held-out images of the episode. A map of
            a probe that is no better than chance explains nothing.
        shots: labelled images a class that the probes were fitted on.
    """

    finding: str
    structure: str
    stage: str
    rows: np.ndarray
    patients: np.ndarray
    images: np.ndarray
    masks: np.ndarray | None
    cams: dict[str, np.ndarray]
    heads: dict[str, LinearHead]
    scores: dict[str, np.ndarray]
    aucs: dict[str, float]
    shots: int


def explain_finding(
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    finding: str,
    *,
    structure: str | None = None,
    stage: str = "layer4",
    shots: int = 50,
    trial: int = 0,
    seed: int = 42,
    negatives: str = NORMAL,
    setting: str = "sound",
    images: int | None = None,
    cache: Path | str | bool = True,
    device: torch.device | str | None = None,
) -> Explanation:
    """Fit a probe an init on one episode and map what it sees in held-out images of the finding.

    Args:
        encoders: name of the init -> encoder; those without stages (raw pixels) are left out.
        structure: region to compare with; the finding's own when None. Images in which it is not
            marked are left out, if any of them has it.
        shots, trial, seed, negatives: of the episode, see `scxr.data.episodes.draw_episode`.
        setting: of the probe, see `scxr.evaluate.probe`.
        images: at most so many, the first ones; None for all.

    Raises:
        InputError: no encoder with stages; a structure that the store lacks, if it was asked for.
    """
    usable = {name: e for name, e in encoders.items() if isinstance(e, Encoder)}
    for name in encoders.keys() - usable.keys():
        log.info("%s has no stages and is left out of Grad-CAM.", name)
    if not usable:
        raise InputError("Grad-CAM needs an encoder with stages: give a run, or the random init.")
    episode = draw_episode(store.table, finding, shots, trial, seed, negatives)
    rows = episode.val_rows[episode.val_labels == 1]
    masks = None
    structure = structure or episode.finding
    if structure in store.structures or structure != episode.finding:
        masks = store.masks(rows, structure)
        marked = masks.any(axis=(1, 2))
        if not marked.any():
            raise InputError(
                f"None of the {len(rows)} held-out images of '{episode.finding}' has a region "
                f"'{structure}': choose another finding or structure."
            )
        rows, masks = rows[marked], masks[marked]
    rows = rows[:images]
    masks = None if masks is None else masks[:images]
    pictures = store.batch(rows)
    patients = store.table["patient"].to_numpy(str)
    both = np.r_[episode.train_rows, episode.val_rows]
    cams, heads, scores, aucs = {}, {}, {}, {}
    for name, encoder in usable.items():
        features = extract(encoder, store, both, cache=cache, device=device)
        train, val = np.split(features, [len(episode.train_rows)])
        head = fit_head(
            train,
            episode.train_labels,
            setting=setting,
            patients=patients[episode.train_rows],
        )
        judged = head.score(val)
        heads[name], aucs[name] = head, auc(episode.val_labels, judged)
        scores[name] = judged[np.searchsorted(episode.val_rows[episode.val_labels == 1], rows)]
        cams[name] = class_activation_maps(encoder, head, pictures, stage, device=device)
    return Explanation(
        finding=episode.finding,
        structure=structure,
        stage=stage,
        rows=rows,
        patients=patients[rows],
        images=pictures[:, 0].numpy(),
        masks=masks,
        cams=cams,
        heads=heads,
        scores=scores,
        aucs=aucs,
        shots=min(shots, episode.positives),
    )
