"""Episodes: the split by hand, no patient on both sides, draws that are nested and repeatable."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scxr.data.episodes import (
    Episode,
    choose_findings,
    count_findings,
    draw_episode,
    draw_episodes,
    finding_names,
    is_validation,
    split_of,
)
from scxr.errors import InputError


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """2,000 images of 500 patients; half normal, the rest with one to three findings."""
    random = np.random.default_rng(0)
    names = ["Mass", "Nodule", "Effusion", "Edema", "Hernia"]
    findings = []
    for _ in range(2000):
        if random.random() < 0.5:
            findings.append("No Finding")
            continue
        count = random.integers(1, 4)
        shares = [0.4, 0.3, 0.2, 0.08, 0.02]
        findings.append("|".join(random.choice(names, count, replace=False, p=shares)))
    findings[7] = ""
    return pd.DataFrame(
        {
            "image": [f"{i}.png" for i in range(2000)],
            "patient": [f"p{i // 4}" for i in range(2000)],
            "view": random.choice(["PA", "AP", "L"], 2000),
            "findings": findings,
        }
    )


# --- the split --------------------------------------------------------------------------------


def test_split_follows_the_published_rule_for_known_digests() -> None:
    """MD5 of "abc" and of "" are test vectors of RFC 1321, so this needs no MD5 of ours."""
    assert int("900150983cd24fb0d6963f7d28e17f72", 16) % 5 == 0
    assert split_of("abc") == "val"
    assert int("d41d8cd98f00b204e9800998ecf8427e", 16) % 5 == 1
    assert split_of("") == "train"
    assert int("0cc175b9c0f1b6a831c399e269772661", 16) % 5 == 2
    assert split_of("a") == "train"


def test_a_hexadecimal_number_modulo_five_is_its_digit_sum_modulo_five() -> None:
    """16 is 1 modulo 5, so the remainder can be found by adding digits, without large integers."""
    for patient in map(str, range(300)):
        digits = sum(int(digit, 16) for digit in hashlib.md5(patient.encode()).hexdigest())
        assert split_of(patient) == ("val" if digits % 5 == 0 else "train")


def test_about_a_fifth_is_held_out() -> None:
    share = np.mean([split_of(f"patient {i}") == "val" for i in range(5000)])
    assert 0.18 < share < 0.22


def test_no_patient_is_on_both_sides(table: pd.DataFrame) -> None:
    sides: dict[str, set[bool]] = {}
    for patient, side in zip(table["patient"], is_validation(table["patient"]), strict=True):
        sides.setdefault(patient, set()).add(bool(side))
    assert all(len(seen) == 1 for seen in sides.values())
    assert is_validation(table["patient"][:0]).tolist() == []


# --- the choice of findings -------------------------------------------------------------------


def by_hand(table: pd.DataFrame, single: bool, views: set[str] | None) -> dict[str, list[int]]:
    counts: dict[str, list[int]] = {}
    for row in table.itertuples():
        parts = [part for part in row.findings.split("|") if part and part != "No Finding"]
        if (single and len(parts) > 1) or (views and row.view not in views):
            continue
        for part in parts:
            counts.setdefault(part, [0, 0])[split_of(row.patient) == "val"] += 1
    return counts


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("views", [None, ("PA", "AP")])
def test_counts_equal_a_plain_loop(
    table: pd.DataFrame, single: bool, views: tuple[str, ...] | None
) -> None:
    counts = count_findings(table, single_label=single, views=views)
    found = {row.finding: [row.train, row.val] for row in counts.itertuples()}
    assert found == by_hand(table, single, set(views) if views else None)
    totals = (counts["train"] + counts["val"]).tolist()
    assert totals == sorted(totals, reverse=True)


def test_thresholds_candidates_and_exclusions(table: pd.DataFrame) -> None:
    counts = by_hand(table, False, None)
    assert set(choose_findings(table)) == {
        name for name, (train, val) in counts.items() if train >= 15 and val >= 6
    }
    least = min(counts, key=lambda name: counts[name][1])
    train, val = counts[least]
    assert least in choose_findings(table, train, val)
    assert least not in choose_findings(table, train, val + 1)
    assert least not in choose_findings(table, train + 1, val)
    assert choose_findings(table, 1, 1, candidates=["nodule", "Mass"]) == ["Mass", "Nodule"]
    assert "Mass" not in choose_findings(table, exclude=["mass"])
    with pytest.raises(InputError, match="did you mean Effusion"):
        choose_findings(table, candidates=["efusion"])


def test_spellings_that_differ_in_case_are_one_finding() -> None:
    rows = pd.DataFrame({"patient": ["a", "b"], "findings": ["Mass", "mass|no finding"]})
    assert finding_names(rows) == ["Mass"]
    assert count_findings(rows)["train"].sum() + count_findings(rows)["val"].sum() == 2


# --- the draw ---------------------------------------------------------------------------------


def same(one: Episode, other: Episode) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("train_rows", "train_labels", "val_rows", "val_labels")
    )


@pytest.mark.parametrize("shots", [1, 5, 20])
def test_an_episode_is_balanced_and_true_to_the_table(table: pd.DataFrame, shots: int) -> None:
    episode = draw_episode(table, "nodule", shots, trial=3)
    assert (episode.finding, episode.shots, episode.trial) == ("Nodule", shots, 3)
    assert episode.train_labels.tolist() == [1] * shots + [0] * shots
    train, val = by_hand(table, False, None)["Nodule"]
    assert (episode.positives, episode.val_positives) == (train, val)
    assert episode.val_labels.tolist() == [1] * val + [0] * val
    rows = np.concatenate([episode.train_rows, episode.val_rows])
    labels = np.concatenate([episode.train_labels, episode.val_labels])
    sides = ["train"] * len(episode.train_rows) + ["val"] * len(episode.val_rows)
    assert len(set(rows.tolist())) == len(rows)
    for row, label, side in zip(rows, labels, sides, strict=True):
        parts = table["findings"][row].split("|")
        assert ("Nodule" in parts) == bool(label)
        assert label or parts == ["No Finding"]
        assert split_of(table["patient"][row]) == side


def test_draws_repeat_and_differ_between_trials_and_seeds(table: pd.DataFrame) -> None:
    first = draw_episode(table, "Mass", 10, 0)
    assert same(first, draw_episode(table, "Mass", 10, 0))
    assert same(draw_episode(table, "Mass", 10, 1), draw_episode(table, "Mass", 10, 0, seed=43))
    assert not same(first, draw_episode(table, "Mass", 10, 1))
    assert not same(first, draw_episode(table, "Mass", 10, 0, seed=7))


def test_another_process_draws_the_same(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_parquet(tmp_path / "t.parquet")
    script = (
        "import pandas as pd; from scxr.data.episodes import draw_episode; "
        f"e = draw_episode(pd.read_parquet({str(tmp_path / 't.parquet')!r}), 'Mass', 5, 2); "
        "print(*e.train_rows, *e.val_rows)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONHASHSEED": "77"},
    )
    episode = draw_episode(table, "Mass", 5, 2)
    expected = np.concatenate([episode.train_rows, episode.val_rows])
    assert done.stdout.split() == list(map(str, expected))


def test_shots_are_nested_within_a_trial(table: pd.DataFrame) -> None:
    for trial in range(5):
        previous: set[int] = set()
        episodes = [draw_episode(table, "Effusion", shots, trial) for shots in (1, 5, 10, 20, 50)]
        for episode in episodes:
            rows = set(episode.train_rows.tolist())
            assert previous < rows
            previous = rows
            np.testing.assert_array_equal(episode.val_rows, episodes[0].val_rows)


def test_many_episodes_equal_single_ones(table: pd.DataFrame) -> None:
    many = list(draw_episodes(table, "Mass", [1, 5], range(3)))
    assert [(e.trial, e.shots) for e in many] == [(t, s) for t in range(3) for s in (1, 5)]
    for episode in many:
        assert same(episode, draw_episode(table, "Mass", episode.shots, episode.trial))


def test_shots_stop_at_the_positives_there_are(table: pd.DataFrame) -> None:
    train = by_hand(table, False, None)["Hernia"][0]
    episode = draw_episode(table, "Hernia", 1000, 0)
    assert episode.shots == 1000 and episode.positives == train
    assert episode.train_labels.tolist() == [1] * train + [0] * train
    rows = np.flatnonzero(
        table["findings"].str.contains("Hernia") & ~is_validation(table["patient"])
    )
    assert sorted(episode.train_rows[:train]) == rows.tolist()


def test_draws_are_uniform_over_the_positives(table: pd.DataFrame) -> None:
    episodes = draw_episodes(table, "Hernia", [1], range(4000))
    counts = Counter(int(episode.train_rows[0]) for episode in episodes)
    positives = by_hand(table, False, None)["Hernia"][0]
    assert len(counts) == positives
    expected = 4000 / positives
    chi_square = sum((count - expected) ** 2 / expected for count in counts.values())
    # Six standard deviations above the mean of the chi-square distribution.
    assert chi_square < positives - 1 + 6 * np.sqrt(2 * (positives - 1))


def test_findings_draw_their_negatives_independently(table: pd.DataFrame) -> None:
    """Two findings share the pool of normals, but not the images drawn from it."""
    negatives = []
    for finding in ("Mass", "Nodule"):
        episode = draw_episode(table, finding, 20, 0)
        negatives.append(set(episode.train_rows[episode.train_labels == 0].tolist()))
    assert len(negatives[0] & negatives[1]) < 10


def test_other_negatives_have_findings_but_none_under_study(table: pd.DataFrame) -> None:
    kept = ["Mass", "Nodule"]
    episode = draw_episode(table, "Mass", 30, 0, negatives="other", kept=kept)
    rows = np.concatenate([episode.train_rows, episode.val_rows])
    labels = np.concatenate([episode.train_labels, episode.val_labels])
    drawn = table["findings"].iloc[rows[labels == 0]]
    parts = [set(findings.split("|")) for findings in drawn]
    assert all(not part & {"Mass", "Nodule", ""} for part in parts)
    assert any("Nodule" in text for text in _negatives_of(table, None))
    assert not any("Mass" in text.split("|") for text in _negatives_of(table, None))


def _negatives_of(table: pd.DataFrame, kept: list[str] | None) -> list[str]:
    episode = draw_episode(table, "Mass", 100, 0, negatives="other", kept=kept)
    return table["findings"].iloc[episode.train_rows[episode.train_labels == 0]].tolist()


def test_single_label_and_views_restrict_both_classes(table: pd.DataFrame) -> None:
    episode = draw_episode(
        table, "Mass", 20, 0, negatives="other", single_label=True, views=("PA", "AP")
    )
    rows = np.concatenate([episode.train_rows, episode.val_rows])
    assert not table["findings"].iloc[rows].str.contains("|", regex=False).any()
    assert set(table["view"].iloc[rows]) == {"PA", "AP"}


# --- what is refused --------------------------------------------------------------------------


def test_an_unknown_finding_names_the_nearest(table: pd.DataFrame) -> None:
    with pytest.raises(InputError, match="'Nodul'; did you mean Nodule"):
        draw_episode(table, "Nodul", 5, 0)
    with pytest.raises(InputError, match="there are Edema, Effusion, Hernia, Mass, Nodule"):
        draw_episode(table, "Situs inversus", 5, 0)
    with pytest.raises(InputError, match="'No Finding'"):
        draw_episode(table, "No Finding", 5, 0)
    with pytest.raises(InputError, match="No image has a known finding"):
        draw_episode(table.assign(findings=""), "Mass", 5, 0)


def test_too_few_positives_or_negatives(table: pd.DataFrame) -> None:
    val = is_validation(table["patient"])
    only_train = table.assign(
        findings=np.where(val, "No Finding", table["findings"].replace("", "Mass"))
    )
    with pytest.raises(InputError, match=r"no image among the validation.*0 validation"):
        draw_episode(only_train, "Mass", 5, 0)
    only_val = table.assign(findings=np.where(val, "Mass", "No Finding"))
    with pytest.raises(InputError, match=r"no image among the training.*0 training"):
        draw_episode(only_val, "Mass", 5, 0)
    with pytest.raises(InputError, match=r"no negative .'No Finding'. among the training"):
        draw_episode(table.assign(findings="Mass"), "Mass", 5, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 0, "trial": 0}, "shots"),
        ({"shots": 1, "trial": -1}, "trials"),
        ({"shots": 1, "trial": 0, "seed": -42}, "seed"),
        ({"shots": 1, "trial": 0, "negatives": "healthy"}, "not 'healthy'"),
    ],
)
def test_senseless_options_are_refused(
    table: pd.DataFrame, options: dict[str, int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        draw_episode(table, "Mass", **options)


# --- real labels ------------------------------------------------------------------------------


def test_real_labels_give_findings_and_episodes(real_cxr: Path) -> None:
    table = pd.read_csv(real_cxr / "labels.csv", dtype=str, keep_default_na=False)
    table = table[table["image"].str.startswith("nih64/")].reset_index(drop=True)
    names = choose_findings(table)
    counts = by_hand(table, False, None)
    assert set(names) == {name for name, (train, val) in counts.items() if train >= 15 and val >= 6}
    assert "Effusion" in names
    for name in names:
        episode = draw_episode(table, name, 20, 0)
        patients = table["patient"].to_numpy()
        train = set(patients[episode.train_rows])
        assert not train & set(patients[episode.val_rows])
