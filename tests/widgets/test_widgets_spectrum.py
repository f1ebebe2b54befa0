"""The spectrum widget carries the monitor's numbers, whole and unchanged."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from widget_examples import monitor_rows

from scxr.errors import InputError
from scxr.runs import Run
from scxr.widgets import SpectrumWidget
from scxr.widgets.base import PAGE_LIMIT
from scxr.widgets.spectrum import MAX_ROWS, METRICS


def spectrum_of(widget: SpectrumWidget, run: int, row: int, kind: str) -> np.ndarray:
    """Singular values as the front end reads them."""
    described = widget.runs[run]
    values = np.frombuffer(widget.spectra[run], "<f4")
    table = values.reshape(-1, len(described["kinds"]), len(described["index"]))
    return table[row, described["kinds"].index(kind)]


def write_run(folder, rows: pd.DataFrame) -> None:
    """A run folder as pretraining leaves it while it still runs."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"format": 1, "method": "moco"}))
    lines = []
    for row in rows.to_dict("records"):
        train = {"kind": "train", **{k: row[k] for k in ("step", "epoch", "loss")}}
        monitor = {k: v for k, v in row.items() if k != "loss"}
        lines += [json.dumps(train), json.dumps({"kind": "monitor", **monitor})]
    (folder / "log.jsonl").write_text("\n".join(lines) + "\n")


def test_every_number_of_the_monitor_arrives(spectra, runs):
    for i, (name, rows) in enumerate(runs.items()):
        run = spectra.runs[i]
        assert run["name"] == name
        assert run["epoch"] == rows["epoch"].tolist() and run["step"] == rows["step"].tolist()
        for metric in METRICS:
            assert run[metric] == pytest.approx(rows[metric].tolist())
        for row in range(len(rows)):
            for kind, column in (("centred", "spectrum"), ("uncentred", "spectrum_uncentred")):
                expected = np.array(rows[column][row])
                assert spectrum_of(spectra, i, row, kind) == pytest.approx(expected, rel=1e-6)
                share = expected[0] / expected.sum()
                assert run["share"][kind][row] == pytest.approx(share)
    assert spectra.at == 2.0 and spectra.chosen == list(runs)


def test_centring_hides_the_common_mean(spectra):
    """The example collapses onto a mean, which only the uncentred values show."""
    last = spectra.runs[0]["share"]
    assert last["uncentred"][-1] > 0.9 > 0.5 > last["centred"][-1]


def test_long_spectra_and_logs_are_thinned_but_keep_their_ends():
    wide = monitor_rows(0, 1.0, dimensions=40, rows=2)
    wide["spectrum"] = [np.linspace(9, 1, 700).tolist()] * 2
    wide["spectrum_uncentred"] = [np.linspace(9, 1, 700).tolist()] * 2
    many = pd.concat([wide] * 60, ignore_index=True)
    many["step"] = many["epoch"] = np.arange(len(many))
    widget = SpectrumWidget({name: many for name in "abcdef"})
    run = widget.runs[0]
    assert run["index"][0] == 1 and run["index"][-1] == 700 and run["index"][:5] == [1, 2, 3, 4, 5]
    assert len(run["step"]) == MAX_ROWS and run["step"][0] == 0 and run["step"][-1] == 119
    assert len(run["loss"]["value"]) == 120
    assert widget.page_bytes() < PAGE_LIMIT


def test_a_log_with_epochs_and_some_numbers_only_is_enough():
    """The published logs hold no spectrum, no step and no loss."""
    widget = SpectrumWidget({"published": pd.DataFrame({"epoch": [50, 100], "std": [0.36, 0.16]})})
    run = widget.runs[0]
    assert run["std"] == [0.36, 0.16] and run["rankme"] is None and run["loss"] is None
    assert run["kinds"] == [] and run["step"] == [50.0, 100.0]
    assert "std 0.36 to 0.16" in widget.describe()


def test_missing_numbers_become_null_and_not_nan():
    rows = monitor_rows(0, 1.0, rows=3)
    rows.loc[1, "std"] = np.nan
    widget = SpectrumWidget({"a": rows})
    assert widget.runs[0]["std"][1] is None
    json.dumps(widget.runs, allow_nan=False)


def test_a_run_folder_is_read_and_read_again_while_it_grows(tmp_path, ask):
    rows = monitor_rows(0, 1.0, rows=5)
    write_run(tmp_path / "run", rows[:2])
    widget = SpectrumWidget({"MoCo": Run.open(tmp_path / "run")})
    assert widget.runs[0]["rankme"] == pytest.approx(rows["rankme"][:2].tolist())
    assert widget.runs[0]["loss"]["value"] == [5.0, 4.0]
    assert ask(widget, {"type": "ping"})[0] == {"type": "pong", "abilities": ["read"]}
    write_run(tmp_path / "run", rows)
    answer, _ = ask(widget, {"type": "read", "id": 1})
    assert answer == {"type": "read", "id": 1, "rows": 5}
    assert widget.runs[0]["rankme"] == pytest.approx(rows["rankme"].tolist())
    assert widget.at == 2.0


def test_frames_offer_nothing_to_read_again(spectra, ask):
    assert ask(spectra, {"type": "ping"})[0]["abilities"] == []


def test_runs_without_a_measurement_are_refused():
    with pytest.raises(InputError, match="between 1 and 6"):
        SpectrumWidget({})
    with pytest.raises(InputError, match="'empty' holds no measurement"):
        SpectrumWidget({"empty": pd.DataFrame()})
    with pytest.raises(InputError, match="holds no measurement"):
        SpectrumWidget({"odd": pd.DataFrame({"std": [1.0]})})
