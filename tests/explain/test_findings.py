"""What is explained is what was scored: probes and fine-tuned networks, at any stage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from scxr.data import RadiographStore, StoreWriter
from scxr.data.episodes import draw_episode, is_validation
from scxr.encoders import Encoder, build_encoder, freeze
from scxr.errors import InputError
from scxr.evaluate.experiment import draw_experiment
from scxr.evaluate.features import pictures
from scxr.evaluate.finetune import finetune_scores
from scxr.evaluate.heads import Classifier, LinearHead
from scxr.explain.findings import explain_finding, fit_finding
from scxr.explain.gradcam import class_activation_maps


def test_a_probe_explains_the_score_it_gave(
    target: RadiographStore, encoder: Encoder, findings: list[str]
) -> None:
    told = explain_finding({"a": encoder}, target, findings[0], shots=5, stage="layer3")
    shown = pictures(encoder, target, told.rows)
    np.testing.assert_allclose(told.models["a"].score(shown), told.scores["a"], atol=1e-4)
    np.testing.assert_array_equal(told.seen["a"], shown[:, 0].numpy())
    expected = class_activation_maps(
        encoder, told.heads["a"], target.batch(told.rows), "layer3", method="centred"
    )
    np.testing.assert_allclose(told.cams["a"], expected, atol=1e-4)


def test_a_fine_tuned_network_explains_the_score_it_gave(
    target: RadiographStore, encoder: Encoder, findings: list[str]
) -> None:
    """The very network that the evaluation scores, for two inits and at two stages."""
    inits = {"a": encoder, "random": encoder}
    options = {"shots": 2, "seed": 7}
    fitted = fit_finding(inits, target, findings[0], mode="finetune", **options)
    episode = draw_episode(target.table, findings[0], 2, 0, seed=7)
    reported = finetune_scores(inits, target, [episode], seed=7, progress=False)
    for name, scores in reported.groupby("init"):
        by_row = scores.set_index("row")["score"]
        np.testing.assert_allclose(
            fitted.scores[str(name)], by_row.loc[episode.val_rows], atol=1e-4
        )
    for stage in ("layer4", "layer3"):
        told = fitted.explain(stage=stage)
        assert told.mode == "finetune"
        for name in inits:
            shown = pictures(encoder, target, told.rows)
            np.testing.assert_allclose(
                fitted.models[name].score(shown), told.scores[name], atol=1e-4
            )
            again = class_activation_maps(
                fitted.models[name], None, torch.from_numpy(told.seen[name])[:, None], stage
            )
            np.testing.assert_allclose(told.cams[name], again, atol=2e-2)
    assert (told.cams["a"] != told.cams["random"]).any(), "the inits were tuned in different ways"
    assert next(encoder.parameters()).requires_grad is False


def test_an_encoder_that_takes_smaller_pictures_is_shown_what_it_saw(
    target: RadiographStore, findings: list[str]
) -> None:
    small = freeze(build_encoder("resnet18", image_size=16, mean=0.5, std=0.25))
    told = explain_finding({"small": small}, target, findings[0], shots=5, images=2)
    assert told.seen["small"].shape == (2, 16, 16)
    assert told.images.shape == told.cams["small"].shape == (2, 32, 32)


def test_what_does_not_fit_is_refused_in_a_sentence(
    target: RadiographStore, encoder: Encoder, findings: list[str]
) -> None:
    with pytest.raises(InputError, match="Unknown mode 'zero-shot': choose from probe, finetune"):
        fit_finding({"a": encoder}, target, findings[0], mode="zero-shot")
    with pytest.raises(InputError, match="no regions of 'spleen'"):
        explain_finding({"a": encoder}, target, findings[0], structure="spleen", shots=2)
    with pytest.raises(InputError, match="A head for 2048 features does not fit an encoder with 5"):
        Classifier(encoder, LinearHead(np.ones(2048), 0.0))


def test_regions_of_training_images_alone_leave_maps_without_scores(
    target: RadiographStore, encoder: Encoder, findings: list[str], tmp_path: Path
) -> None:
    masks = target.masks(np.arange(len(target)), findings[0])
    masks[is_validation(target.table["patient"])] = False
    writer = StoreWriter(tmp_path / "half", 32, 32, source={"kind": "test"})
    writer.add(target.images[:], target.table, {findings[0]: masks})
    store = writer.finish()
    told = explain_finding({"a": encoder}, store, findings[0].upper(), shots=2)
    assert told.masks is None and len(told.rows) > 2
    with pytest.raises(InputError, match="held-out images of"):
        explain_finding({"a": encoder}, store, findings[0], structure=findings[0], shots=2)


def test_other_negatives_are_those_of_the_evaluation(
    target: RadiographStore, encoder: Encoder, findings: list[str]
) -> None:
    options = {"shots": 2, "negatives": "other", "kept": findings}
    fitted = fit_finding({"a": encoder}, target, findings[0], **options)
    drawn = draw_experiment(target, findings, (2,), 1, negatives="other")[0]
    np.testing.assert_array_equal(fitted.episode.val_rows, drawn.val_rows)
    np.testing.assert_array_equal(fitted.episode.train_rows, drawn.train_rows)
