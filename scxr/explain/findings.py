"""One finding, several inits: heads fitted on the same images, maps of the same held-out ones."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from scxr.data.episodes import Episode, draw_episode
from scxr.data.store import NORMAL, RadiographStore
from scxr.encoders import Encoder
from scxr.errors import InputError
from scxr.evaluate.features import AnyEncoder, extract, pictures
from scxr.evaluate.finetune import finetune
from scxr.evaluate.heads import Classifier, LinearHead
from scxr.evaluate.probe import fit_head
from scxr.evaluate.recipes import settings_for
from scxr.evaluate.statistics import auc
from scxr.explain.gradcam import DEFAULT, class_activation_maps
from scxr.explain.priors import ATLAS_PRIOR, CENTRE_PRIOR, atlas_prior, centre_prior
from scxr.seeds import seed_for

log = logging.getLogger(__name__)

MODES = ("probe", "finetune")


@dataclass(frozen=True, eq=False)
class Explanation:
    """Class activation maps of one finding for several inits, on the same held-out images.

    Attributes:
        finding, structure, stage: what was explained, the region it is compared with, and where
            in the network.
        rows: (n,) held-out images with the finding.
        patients: (n,) whose they are.
        images: (n, H, W) uint8, as in the store.
        masks: (n, H, W) bool, or None where the store has no region for every one of them.
        cams: name of the init -> (n, H, W) in [0, 1].
        heads: name of the init -> the head that was explained.
        scores: name of the init -> (n,) log odds it gives these images.
        aucs: name of the init -> AUC on all held-out images of the episode. A map of a head that
            is no better than chance explains nothing.
        shots: labelled images a class that the heads were fitted on.
        method: how the maps were made, one of `scxr.explain.gradcam.METHODS`.
        mode: "probe", or "finetune" where the networks moved too.
        models: name of the init -> the very network whose score was reported and is explained.
        seen: name of the init -> (n, S, S) in [0, 1], the pictures as that network was shown them.
        priors: name -> (H, W) in [0, 1], maps that have not looked, see `scxr.explain.priors`.
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
    method: str = DEFAULT
    mode: str = "probe"
    models: dict[str, Classifier] = field(default_factory=dict)
    seen: dict[str, np.ndarray] = field(default_factory=dict)
    priors: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class FittedFinding:
    """Heads of several inits for one finding, fitted on one episode and scored on it.

    Attributes:
        store, episode: where the images are, and which were used for what.
        models: name of the init -> encoder and head in one, as they were scored.
        heads: name of the init -> the head alone.
        scores: name of the init -> (m,) log odds of the episode's validation images.
        aucs: name of the init -> AUC on them.
        mode: "probe" or "finetune".
    """

    store: RadiographStore
    episode: Episode
    models: dict[str, Classifier]
    heads: dict[str, LinearHead]
    scores: dict[str, np.ndarray]
    aucs: dict[str, float]
    mode: str

    def explain(
        self,
        structure: str | None = None,
        *,
        stage: str = "layer4",
        method: str = DEFAULT,
        images: int | None = None,
        device: torch.device | str | None = None,
    ) -> Explanation:
        """Maps of the held-out images with the finding; arguments as in `explain_finding`."""
        episode, store = self.episode, self.store
        rows = episode.val_rows[episode.val_labels == 1]
        masks: np.ndarray | None
        if structure is not None:
            rows, masks = self._marked(rows, structure)
        else:
            structure = episode.finding
            rows, masks = self._own(rows)
        rows = rows[:images]
        masks = None if masks is None else masks[:images]
        given = store.batch(rows)
        place = {int(row): i for i, row in enumerate(episode.val_rows)}
        at = [place[int(row)] for row in rows]
        priors = {}
        if masks is not None:
            atlas = atlas_prior(store, episode.finding, structure)
            priors = {CENTRE_PRIOR: centre_prior(*masks.shape[1:])}
            priors |= {} if atlas is None else {ATLAS_PRIOR: atlas}
        return Explanation(
            finding=episode.finding,
            structure=structure,
            stage=stage,
            rows=rows,
            patients=store.table["patient"].to_numpy(str)[rows],
            images=given[:, 0].numpy(),
            masks=masks,
            cams={
                name: class_activation_maps(model, None, given, stage, method=method, device=device)
                for name, model in self.models.items()
            },
            heads=self.heads,
            scores={name: scores[at] for name, scores in self.scores.items()},
            aucs=self.aucs,
            shots=min(episode.shots, episode.positives),
            method=method,
            mode=self.mode,
            models=self.models,
            seen={
                name: pictures(model.encoder, store, rows)[:, 0].numpy()
                for name, model in self.models.items()
            },
            priors=priors,
        )

    def _own(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """The images in which the finding is marked; all of them, and no region, if none is."""
        if self.episode.finding not in self.store.structures:
            return rows, None
        masks = self.store.masks(rows, self.episode.finding)
        marked = masks.any(axis=(1, 2))
        return (rows[marked], masks[marked]) if marked.any() else (rows, None)

    def _marked(self, rows: np.ndarray, structure: str) -> tuple[np.ndarray, np.ndarray]:
        masks = self.store.masks(rows, structure)
        marked = masks.any(axis=(1, 2))
        if not marked.any():
            raise InputError(
                f"None of the {len(rows)} held-out images of '{self.episode.finding}' has a region "
                f"'{structure}': choose another finding or structure."
            )
        return rows[marked], masks[marked]


def fit_finding(
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    finding: str,
    *,
    mode: str = "probe",
    shots: int = 50,
    trial: int = 0,
    seed: int = 42,
    negatives: str = NORMAL,
    kept: Sequence[str] | None = None,
    setting: str = "sound",
    quick: bool = True,
    cache: Path | str | bool = True,
    device: torch.device | str | None = None,
) -> FittedFinding:
    """Fit a head an init on one episode; arguments as in `explain_finding`."""
    if mode not in MODES:
        raise InputError(f"Unknown mode {mode!r}: choose from {', '.join(MODES)}.")
    usable = {name: e for name, e in encoders.items() if isinstance(e, Encoder)}
    for name in encoders.keys() - usable.keys():
        log.info("%s has no stages and is left out of Grad-CAM.", name)
    if not usable:
        raise InputError("Grad-CAM needs an encoder with stages: give a run, or the random init.")
    episode = draw_episode(store.table, finding, shots, trial, seed, negatives, kept=kept)
    models, heads, scores = {}, {}, {}
    for name, encoder in usable.items():
        if mode == "probe":
            heads[name], scores[name] = _probe(encoder, store, episode, setting, cache, device)
            models[name] = Classifier(encoder, heads[name])
            continue
        settings = settings_for(name, setting=setting, quick=quick)
        # The same stream as in scxr.evaluate.finetune: the same network is scored there.
        stream = seed_for(seed, episode.finding, episode.shots, episode.trial)
        shown = pictures(encoder, store, episode.train_rows)
        model = finetune(encoder, shown, episode.train_labels, settings, seed=stream, device=device)
        models[name], heads[name] = model, _head(model)
        scores[name] = model.score(pictures(encoder, store, episode.val_rows))
    return FittedFinding(
        store=store,
        episode=episode,
        models=models,
        heads=heads,
        scores=scores,
        aucs={name: auc(episode.val_labels, judged) for name, judged in scores.items()},
        mode=mode,
    )


def explain_finding(
    encoders: Mapping[str, AnyEncoder],
    store: RadiographStore,
    finding: str,
    *,
    structure: str | None = None,
    stage: str = "layer4",
    method: str = DEFAULT,
    images: int | None = None,
    device: torch.device | str | None = None,
    **fitting: Any,
) -> Explanation:
    """Fit a head an init on one episode and map what it sees in held-out images of the finding.

    Args:
        encoders: name of the init -> encoder; those without stages (raw pixels) are left out.
        structure: region to compare with; the finding's own when None. Images in which it is not
            marked are left out, if any of them has it.
        stage: "layer1" to "layer4".
        method: one of `scxr.explain.gradcam.METHODS`.
        images: at most so many, the first ones; None for all.
        device: None for a GPU where there is one.
        mode: "probe" (linear, on the frozen encoder) or "finetune" (the encoder moves too).
        shots, trial, seed, negatives, kept: of the episode, see `scxr.data.episodes.draw_episode`.
        setting: of the probe, see `scxr.evaluate.probe`, or of fine-tuning, see
            `scxr.evaluate.recipes`; `quick` as there.
        cache: of features, see `scxr.evaluate.features.extract`.

    Raises:
        InputError: no encoder with stages; a structure that the store lacks, if it was asked for.
    """
    fitted = fit_finding(encoders, store, finding, device=device, **fitting)
    return fitted.explain(structure, stage=stage, method=method, images=images, device=device)


def _probe(
    encoder: Encoder,
    store: RadiographStore,
    episode: Episode,
    setting: str,
    cache: Path | str | bool,
    device: torch.device | str | None,
) -> tuple[LinearHead, np.ndarray]:
    both = np.r_[episode.train_rows, episode.val_rows]
    features = extract(encoder, store, both, cache=cache, device=device)
    train, val = np.split(features, [len(episode.train_rows)])
    owners = store.table["patient"].to_numpy(str)[episode.train_rows]
    head = fit_head(train, episode.train_labels, setting=setting, patients=owners)
    return head, head.score(val)


def _head(model: Classifier) -> LinearHead:
    weights = model.head.weight.detach().cpu().numpy()[0].astype(np.float64)
    return LinearHead(weights, float(model.head.bias.detach().cpu()))
