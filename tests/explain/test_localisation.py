"""Localisation measures by hand, and the table over findings and inits."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from scxr.data import RadiographStore, StoreWriter
from scxr.data.episodes import split_of
from scxr.data.importing import import_from
from scxr.encoders import Encoder, build_encoder, freeze
from scxr.errors import InputError
from scxr.evaluate.features import PixelEncoder
from scxr.explain.findings import explain_finding
from scxr.explain.localisation import (
    CENTRE_PRIOR,
    centre_prior,
    energy_inside,
    hit,
    iou_otsu,
    measure,
    summarise_maps,
)
from scxr.explain.priors import ATLAS_PRIOR, atlas_prior
from scxr.explain.tables import (
    attention_differences,
    localisation_scores,
    localisation_table,
    summarise,
)

CAM = np.array([[0.0, 0.2, 0.0], [0.1, 1.0, 0.5], [0.0, 0.2, 0.0]])
MASK = np.array([[0, 0, 0], [0, 1, 1], [0, 0, 0]], dtype=bool)


def test_the_measures_by_hand() -> None:
    assert hit(CAM, MASK) == 1
    assert hit(CAM, ~MASK) == 0
    assert energy_inside(CAM, MASK) == pytest.approx(1.5 / 2.0)
    assert iou_otsu(CAM, MASK) == 1  # Otsu keeps 1.0 and 0.5, exactly the region
    assert iou_otsu(CAM, np.eye(3, dtype=bool)) == pytest.approx(1 / 4)


def test_a_shared_peak_counts_by_its_share() -> None:
    flat = np.ones((2, 4))
    mask = np.zeros((2, 4), dtype=bool)
    mask[0, 0] = True
    assert hit(flat, mask) == energy_inside(flat, mask) == 1 / 8


def test_a_map_of_nothing_points_nowhere() -> None:
    nothing = np.zeros((3, 3))
    assert hit(nothing, MASK) == energy_inside(nothing, MASK) == iou_otsu(nothing, MASK) == 0


@settings(deadline=None)
@given(arrays(np.uint8, (5, 5)))
def test_otsu_is_the_cut_with_most_variance_between_the_halves(grey: np.ndarray) -> None:
    if grey.max() == 0:
        return
    cam = grey / grey.max()
    levels = np.rint(255 * cam)

    def between(threshold: int) -> float:
        low, high = levels[levels <= threshold], levels[levels > threshold]
        if not len(low) or not len(high):
            return 0.0
        return len(low) * len(high) * (low.mean() - high.mean()) ** 2

    best = max(between(t) for t in range(256))
    cuts = [levels > t for t in range(256) if between(t) >= best * (1 - 1e-9)]
    mask = np.zeros((5, 5), dtype=bool)
    mask[:2] = True
    possible = [(c & mask).sum() / (c | mask).sum() for c in cuts]
    assert any(iou_otsu(cam, mask) == pytest.approx(p) for p in possible)


@settings(deadline=None)
@given(arrays(np.float32, (6, 6), elements=st.floats(0, 1, width=32)))
def test_the_measures_stay_between_zero_and_one(cam: np.ndarray) -> None:
    mask = np.zeros((6, 6), dtype=bool)
    mask[2:4, 1:5] = True
    row = measure(cam[None], mask[None]).iloc[0]
    assert row[["hit", "energy_inside", "iou_otsu"]].between(0, 1 + 1e-6).all()
    assert row["share"] == pytest.approx(8 / 36)
    assert row["enrichment"] == pytest.approx(row["energy_inside"] / row["share"])
    assert row["blank"] == (cam.max() == 0)


def test_regions_have_to_fit_and_to_be_there() -> None:
    with pytest.raises(InputError, match=r"\(3, 3\), but the region is \(2, 2\)"):
        hit(CAM, np.ones((2, 2), dtype=bool))
    with pytest.raises(InputError, match="region is empty"):
        energy_inside(CAM, np.zeros((3, 3), dtype=bool))


def test_the_centre_prior_is_a_bump_in_the_middle() -> None:
    prior = centre_prior(8, 12)
    assert prior.shape == (8, 12) and prior.max() == 1
    np.testing.assert_allclose(prior, prior[::-1, ::-1])
    assert hit(prior, np.pad(np.ones((2, 2), bool), ((3, 3), (5, 5)))) == 1
    # A quarter of the side away from the middle is one standard deviation.
    odd = centre_prior(9, 9)
    wide = centre_prior(400, 400)
    assert odd[4, 4] == 1
    assert wide[200, 300] / wide[200, 200] == pytest.approx(np.exp(-0.5), rel=0.01)


def test_a_perfect_map_is_perfect_and_the_prior_stands_beside_it() -> None:
    random = np.random.default_rng(0)
    masks = np.zeros((12, 20, 20), dtype=bool)
    for mask in masks:
        y, x = random.integers(0, 14, 2)
        mask[y : y + 5, x : x + 5] = True
    table = summarise_maps({"perfect": masks.astype(float)}, masks, np.repeat(np.arange(6), 2))
    perfect, prior = table.iloc[0], table.iloc[1]
    assert prior["init"] == CENTRE_PRIOR
    assert (perfect[["hit", "energy_inside", "iou_otsu"]] == 1).all()
    assert (perfect[["hit_low", "hit_high"]] == 1).all()
    assert prior["energy_inside"] < 0.5
    assert prior["energy_inside_low"] < prior["energy_inside"] < prior["energy_inside_high"]
    assert (table["patients"] == 6).all() and (table["images"] == 12).all()
    assert perfect["share"] == pytest.approx(25 / 400)


def test_findings_by_inits(
    target: RadiographStore, encoder: Encoder, findings: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        table = localisation_table(
            {"random": encoder, "pixels": PixelEncoder()},
            target,
            findings,
            stage="layer2",
            shots=5,
        )
    assert "pixels has no stages" in caplog.text
    assert list(table["init"]) == ["random", CENTRE_PRIOR, ATLAS_PRIOR] * 2
    assert list(table["finding"]) == [f for f in findings for _ in range(3)]
    assert table["auc"].notna().tolist() == [True, False, False] * 2
    assert set(table["method"]) == {"centred"} and (table["blank"] == 0).all()
    explained = explain_finding(
        {"random": encoder}, target, findings[0], stage="layer2", shots=5, images=2
    )
    assert explained.images.shape == explained.cams["random"].shape == (2, 32, 32)
    assert explained.masks is not None and explained.masks.any(axis=(1, 2)).all()
    np.testing.assert_array_equal(explained.masks, target.masks(explained.rows, findings[0]))
    heart = localisation_table(
        {"random": encoder}, target, findings[:1], structures={findings[0]: "heart"}, shots=5
    )
    assert heart.loc[0, "structure"] == "heart"
    assert heart.loc[0, "share"] != table.loc[0, "share"]


def test_the_atlas_is_the_mean_mask_of_training_patients(
    target: RadiographStore, findings: list[str]
) -> None:
    name = findings[0]
    table = target.table
    rows = [
        row
        for row, (patient, found) in enumerate(
            zip(table["patient"], table["findings"], strict=True)
        )
        if name in found.split("|") and split_of(patient) == "train"
    ]
    masks = [target.mask(row, name) for row in rows]
    mean = np.mean([m for m in masks if m is not None], axis=0)
    atlas = atlas_prior(target, name, name)
    assert atlas is not None and atlas.max() == 1
    np.testing.assert_allclose(atlas, mean / mean.max(), atol=1e-6)
    assert atlas_prior(target, "goitre", name) is None


def test_regions_stages_and_findings_in_one_table(
    target: RadiographStore, encoder: Encoder, findings: list[str]
) -> None:
    scores = localisation_scores(
        {"a": encoder, "random": encoder},
        target,
        findings,
        structures=["own", "heart", "diaphragm"],
        stage=["layer2", "layer4"],
        shots=5,
        images=4,
    )
    groups = scores.groupby(["finding", "structure", "stage"]).ngroups
    assert groups == 2 * 3 * 2
    a, same = (scores[scores["init"] == name] for name in ("a", "random"))
    np.testing.assert_array_equal(a["energy_inside"], same["energy_inside"])
    table = summarise(scores)
    own = table[(table["structure"] == findings[0]) & (table["stage"] == "layer2")]
    rows = scores[(scores["structure"] == findings[0]) & (scores["stage"] == "layer2")]
    rows = rows[rows["init"] == "a"]
    assert own.iloc[0]["enrichment"] == pytest.approx(
        (rows["energy_inside"] / rows["share"]).mean()
    )
    assert (table["enrichment_low"] <= table["enrichment"]).all()
    with pytest.raises(InputError, match="compare one stage and mode alone"):
        attention_differences(scores, ["random"])
    late = scores[scores["stage"] == "layer4"]
    pairs = attention_differences(late, ["random", CENTRE_PRIOR, "no such init"])
    equal = pairs[(pairs["baseline"] == "random") & (pairs["init"] == "a")]
    assert (equal["difference"] == 0).all() and equal.iloc[-1]["won"] == 0
    whole = pairs[(pairs["baseline"] == CENTRE_PRIOR) & (pairs["init"] == "a")].iloc[-1]
    wide = late.pivot(index=["row", "structure"], columns="init", values="enrichment")
    assert whole["difference"] == pytest.approx((wide["a"] - wide[CENTRE_PRIOR]).mean())
    assert whole["findings"] == 6 and whole["images"] == len(wide)


def test_regions_that_no_image_has(
    target: RadiographStore, encoder: Encoder, findings: list[str]
) -> None:
    inits, first, second = {"a": encoder}, findings[0], findings[1]
    with pytest.raises(InputError, match="no regions of 'spleen'"):
        localisation_table(inits, target, [first], structures=["own", "spleen"], shots=2)
    # Phantoms of hospital B have one finding at most, so another one's region is never there.
    kept = localisation_table(inits, target, [first], structures=["own", second], shots=2, images=2)
    assert set(kept["structure"]) == {first}
    with pytest.raises(InputError, match=f"held-out images of '{first}' has a region '{second}'"):
        localisation_table(inits, target, [first], structures={first: second}, shots=2)
    with pytest.raises(InputError, match="at least one finding"):
        localisation_table(inits, target, [])
    with pytest.raises(InputError, match="no region to compare"):
        localisation_table(inits, target, [first], structures=[], shots=2)


def test_a_store_without_regions_cannot_be_localised_but_can_be_explained(
    target: RadiographStore, encoder: Encoder, findings: list[str], tmp_path: Path
) -> None:
    writer = StoreWriter(tmp_path / "bare", 32, 32, source={"kind": "test"})
    writer.add(target.images[:], target.table)
    bare = writer.finish()
    with pytest.raises(InputError, match="has no regions"):
        localisation_table({"random": encoder}, bare, findings)
    explained = explain_finding({"random": encoder}, bare, findings[0], shots=5)
    assert explained.masks is None and len(explained.rows) > 2
    with pytest.raises(InputError, match="encoder with stages"):
        explain_finding({"pixels": PixelEncoder()}, bare, findings[0])
    with pytest.raises(InputError, match="no regions of 'heart'"):
        explain_finding({"random": encoder}, bare, findings[0], structure="heart")


def test_real_regions_of_real_radiographs(real_cxr: Path, encoder: Encoder) -> None:
    """Lung masks drawn by people: the lungs cover what lungs cover, and a lung map finds them."""
    import pandas as pd
    from PIL import Image

    marked = pd.read_csv(real_cxr / "masks.csv")
    marked = marked[marked["structure"] == "Lungs (incl. behind heart)"].head(8)
    masks = np.stack([np.asarray(Image.open(real_cxr / m)) > 127 for m in marked["mask"]])
    pictures = np.stack(
        [np.asarray(Image.open(real_cxr / i).convert("L")) for i in marked["image"]]
    )
    dark = (255.0 - pictures) / 255
    table = summarise_maps({"dark": dark}, masks, np.arange(len(masks)))
    assert 0.15 < table.loc[0, "share"] < 0.6
    assert table.loc[0, "energy_inside"] > table.loc[0, "share"]


def test_localisation_on_real_radiographs(real_cxr: Path, tmp_path: Path) -> None:
    """Masks drawn by people, an untrained network, two regions: numbers that hang together."""
    store = import_from(
        "folder",
        real_cxr / "cxr256",
        tmp_path / "real",
        labels=real_cxr / "labels.csv",
        masks=real_cxr / "masks.csv",
        boxes=real_cxr / "boxes.csv",
        size=64,
    ).store
    network = freeze(build_encoder("resnet18", image_size=64, mean=store.mean, std=store.std))
    lungs = "Lungs (incl. behind heart)"
    table = localisation_table(
        {"random": network},
        store,
        ["COVID-19"],
        structures=[lungs, "Ground Glass Opacities", "Left Lung"],
        negatives="other",
        stage="layer3",
        shots=5,
    )
    assert set(table["structure"]) == {lungs, "Ground Glass Opacities", "Left Lung"}
    assert (table.groupby("structure")["images"].nunique() == 1).all()
    atlas = table[table["init"] == ATLAS_PRIOR].set_index("structure")
    assert (atlas["enrichment_low"] > 1).all(), "lungs lie where lungs lie"
    network_rows = table[table["init"] == "random"].set_index("structure")
    assert (network_rows["blank"] == 0).all()
    assert (network_rows["energy_inside"] < atlas["energy_inside"]).all()
