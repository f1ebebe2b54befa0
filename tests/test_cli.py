"""The command line: one JSON document, or one sentence and exit code 2; nothing is lost."""

from __future__ import annotations

import json
import shlex
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from scxr import cli
from scxr.data import RadiographStore
from scxr.data.episodes import choose_findings
from scxr.data.phantom import write_store
from scxr.evaluate import summarise

STEPS = ["--set", "steps=4", "batch_size=16", "image_size=32", "queue_size=16"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of hospital B and a finished MoCo run, made once."""
    torch.set_num_threads(1)
    base = tmp_path_factory.mktemp("cli")
    write_store(base / "store", 480, size=32, hospital="B", seed=0)
    cli.main(["pretrain", "moco", "--data", f"{base}/store", "--out", f"{base}/run", *STEPS])
    return base


@pytest.fixture(scope="module")
def finding(folder: Path) -> str:
    """A finding with images on both sides of the split."""
    return choose_findings(RadiographStore.open(folder / "store").table, 5, 3)[0]


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict:
    """Standard output of a command with --json, which must be one JSON document."""
    capsys.readouterr()
    cli.main([str(a) for a in (*arguments, "--json")])
    return json.loads(capsys.readouterr().out)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one sentence on standard error with which a command ends, exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        cli.main([str(a) for a in arguments])
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert "Traceback" not in printed.err
    sentence = [line for line in printed.err.splitlines() if line.startswith("scxr: ")]
    assert len(sentence) == 1, printed.err
    return sentence[0]


def test_doctor_names_the_device(capsys):
    facts = answer(capsys, "doctor")
    assert facts["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    assert facts["torch"] == torch.__version__.split("+")[0]


def test_phantom_store_is_described_and_verified(capsys, tmp_path):
    made = answer(capsys, "data", "phantom", "--n", 12, "--size", 32, "--out", tmp_path / "s")
    told = answer(capsys, "data", "info", tmp_path / "s")
    assert made["images"] == told["images"] == 12
    assert made["fingerprint"] == told["fingerprint"]
    assert answer(capsys, "data", "verify", tmp_path / "s")["intact"] is True


def test_verify_finds_a_changed_pixel(capsys, tmp_path):
    answer(capsys, "data", "phantom", "--n", 4, "--size", 32, "--out", tmp_path / "s")
    file = tmp_path / "s" / "images.npy"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    assert "images.npy" in refusal(capsys, "data", "verify", tmp_path / "s")


def test_import_folder_lists_what_it_left_out(capsys, tmp_path):
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64).astype(np.uint8)
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(ramp).save(tmp_path / "in" / f"{name}.png")
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    rows = [(f"{n}.png", f"p{n}", "PA", "No Finding") for n in ("a", "b", "broken")]
    table = tmp_path / "labels.csv"
    pd.DataFrame(rows, columns=["Filename", "patient", "view", "findings"]).to_csv(table)
    report = answer(
        capsys, "data", "import", "folder", tmp_path / "in", "--labels", table,
        "--column", "image=Filename", "--out", tmp_path / "s", "--size", 32,
    )  # fmt: skip
    assert report["imported"] == 2
    assert [q["file"] for q in report["quarantined"]] == ["broken.png"]
    assert report["quarantined"][0]["reason"]


def test_pretrain_leaves_a_run_that_collapse_reads(capsys, folder):
    told = answer(
        capsys, "pretrain", "moco", "--data", folder / "store", "--out", folder / "run", *STEPS
    )
    assert told["finished"] is True and told["steps"] == 4
    rows = answer(capsys, "collapse", folder / "run")["rows"]
    assert rows[0]["step"] == 0 and rows[-1]["step"] == 4
    assert all(0 < row["effective_rank"] < 512 for row in rows)


def test_memory_says_where_it_goes_and_what_fits(capsys):
    arguments = ("memory", "barlow", "--quick", "--batch", 32, "--precision", "fp32")
    plain = answer(capsys, *arguments)
    thrifty = answer(capsys, *arguments, "--checkpointing", "on")
    sgd = answer(capsys, *arguments, "--set", "optimizer=sgd")
    parts = ("parameters", "gradients", "optimizer", "buffers", "inputs", "activations")
    sizes = [plain[f"{part}_bytes"] for part in (*parts, "transient")]
    assert sum(sizes) == plain["total_bytes"]
    assert sum(stage["bytes"] for stage in plain["stages"]) == plain["activations_bytes"]
    assert plain["optimizer_bytes"] == 2 * plain["gradients_bytes"] == 2 * sgd["optimizer_bytes"]
    assert thrifty["activations_bytes"] < plain["activations_bytes"] / 3
    assert list(plain["fits"]) == ["8", "16", "22", "24", "40", "80"]
    assert plain["fits"]["24"] < thrifty["fits"]["24"]
    cli.main([str(a) for a in arguments])
    assert "activations layer1" in capsys.readouterr().out
    assert "Unknown backbone" in refusal(capsys, *arguments, "--backbone", "resnet19")


def test_evaluate_reports_every_init_on_the_same_positives(capsys, folder, tmp_path):
    rows = answer(
        capsys, "evaluate", folder / "run", "--data", folder / "store", "--inits", "random",
        "pixels", "--shots", 2, "--trials", 2, "--min-train", 3, "--min-val", 2,
        "--out", tmp_path / "table.csv",
    )["rows"]  # fmt: skip
    table = pd.DataFrame(rows)
    assert set(table["init"]) == {"run", "random", "pixels"}
    assert table["auc_mean"].between(0, 1).all()
    assert (table["ci_low"] <= table["auc_mean"]).all()
    assert (table["auc_mean"] <= table["ci_high"]).all()
    assert (table.groupby("finding")["positives"].nunique() == 1).all()
    written = pd.read_csv(tmp_path / "table.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(written, table, check_exact=True)


def test_evaluate_compares_keeps_scores_and_writes_a_report(capsys, folder, finding, tmp_path):
    arguments = (
        "evaluate", folder / "run", "--data", folder / "store", "--findings", finding,
        "--shots", 1, 2, "--trials", 2, "--images", 1, "--compare", "best", "--test", "delong",
        "--out", tmp_path / "new" / "table.parquet", "--scores", tmp_path / "scores.parquet",
        "--report", tmp_path / "new" / "page.html",
    )  # fmt: skip
    told = answer(capsys, *arguments)
    rows, comparison = pd.DataFrame(told["rows"]), pd.DataFrame(told["comparison"])
    kept = pd.read_parquet(tmp_path / "scores.parquet")
    pd.testing.assert_frame_equal(
        summarise(kept), pd.read_parquet(tmp_path / "new" / "table.parquet")
    )
    assert len(rows) == 3 * 2 and set(comparison["init"]) == {"run"}
    means = rows[rows["init"] != "run"].groupby("init")["auc_mean"].mean()
    assert set(comparison["baseline"]) == {means.idxmax()}
    page = (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
    assert shlex.join(["scxr", *map(str, arguments), "--json"]) in unescape(page)
    assert not any(patient in page for patient in kept["patient"])


def test_explain_draws_and_scores(capsys, folder, finding, tmp_path):
    rows = answer(
        capsys, "explain", folder / "run", "--data", folder / "store", "--finding", finding,
        "--shots", 3, "--images", 2, "--stage", "layer2", "--out", tmp_path / "cam.png",
    )["rows"]  # fmt: skip
    assert {row["init"] for row in rows} >= {"run", "random"}
    assert Image.open(tmp_path / "cam.png").size[0] > 100


def test_explain_without_a_finding_scores_all_that_have_regions(capsys, folder, finding, tmp_path):
    told = answer(
        capsys, "explain", folder / "run", "--data", folder / "store", "--structures", "own",
        "heart", "--shots", 3, "--stage", "layer2", "--out", tmp_path / "all.png",
    )  # fmt: skip
    rows = pd.DataFrame(told["rows"])
    assert finding in set(rows["finding"])
    assert set(rows["init"]) == {"run", "random", "centre prior", "atlas prior"}
    assert "heart" in set(rows["structure"]) and rows["enrichment"].ge(0).all()
    assert Image.open(tmp_path / "all.png").size[0] > 100


def test_reconstruct_draws(capsys, folder, tmp_path):
    run = tmp_path / "spark"
    settings = ["--set", "steps=2", "batch_size=16", "image_size=32", "patch_size=8"]
    store = folder / "store"
    answer(capsys, "pretrain", "spark", "--data", store, "--out", run, *settings)
    picture = tmp_path / "patches.png"
    told = answer(capsys, "reconstruct", run, "--data", store, "--out", picture, "--images", 2)
    assert told["figure"] == str(picture) and Image.open(picture).size[0] > 100
    sentence = refusal(
        capsys, "reconstruct", folder / "run", "--data", store, "--out", tmp_path / "x.png"
    )
    assert "moco" in sentence.lower()


def test_published_has_every_row_and_its_source(capsys):
    told = answer(capsys, "published")
    assert len(told["fewshot"]) == 900
    assert "SCARCE-CXR" in json.dumps(told)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["data", "info", "{t}/none"], "none"),
        (["data", "import", "folder", "{t}/none", "--out", "{t}/o"], "none"),
        (["data", "import", "folder", "{t}/empty", "--out", "{t}/o"], "empty"),
        (["data", "import", "folder", "{t}", "--labels", "{t}/no.csv", "--out", "{t}/o"], "no.csv"),
        (["data", "import", "nih", "{t}/empty", "--out", "{t}/o"], "Data_Entry"),
        (["data", "import", "folder", "{t}", "--out", "{t}/o", "--column", "image"], "key=value"),
        (["pretrain", "mocco", "--data", "{f}/store", "--out", "{t}/r"], "moco"),
        (["pretrain", "moco", "--data", "{t}/none", "--out", "{t}/r"], "none"),
        (["pretrain", "moco", "--data", "phantom:C", "--out", "{t}/r"], "Unknown hospital"),
        (["pretrain", "moco", "--data", "{f}/store", "--out", "{t}/r", "--set", "lr"], "key=value"),
        (["pretrain", "moco", "--data", "{f}/store", "--out", "{t}/r", "--set", "temprature=1"],
         "temperature"),
        (["pretrain", "moco", "--data", "{f}/store", "--out", "{t}/r", "--full", "--quick"],
         "not both"),
        (["pretrain", "barlow", "--data", "{f}/store", "--out", "{t}/r", "--paper"],
         "Unknown preset 'paper': choose from quick, full"),
        (["pretrain", "barlow", "--data", "{f}/store", "--out", "{t}/r", "--control", "rank"],
         "no setting 'control'"),
        (["memory", "mocco"], "moco"),
        (["bench", "step", "--steps", "0"], "steps is 0"),
        (["export", "{f}/run", "--out", "{t}/r.pth"], ".safetensors"),
        (["data", "join", "{t}/o", "{f}/store"], "store"),
        (["pretrain", "moco", "--data", "{f}/store", "--out", "{t}/r", "--set",
          "batch_size=4000", "queue_size=4000"], "smaller batch_size"),
        (["pretrain", "barlow", "--data", "{f}/store", "--out", "{f}/run"], "moco run"),
        (["pretrain", "moco", "--data", "{f}/store", "--out", "{f}/run", "--set", "lr=1e-4"],
         "other settings"),
        (["pretrain", "moco", "--data", "{f}/store", "--out", "{f}/store"], "no run folder"),
        (["collapse", "{t}/none"], "no run"),
        (["collapse", "{f}/store"], "not a run folder"),
        (["evaluate", "{f}/run", "--data", "{f}/store", "--findings", "hiatal herna"],
         "hiatal hernia"),
        (["evaluate", "{f}/run", "--data", "{f}/store", "--min-train", "1000"], "1000"),
        (["evaluate", "{f}/run", "--data", "{f}/store", "--inits", "imagnet"], "imagenet"),
        (["evaluate", "{f}/store", "--data", "{f}/store"], "not a run folder"),
        (["evaluate", "{f}/run", "--data", "{f}/store", "--report", "{f}"], "has to end in .html"),
        (["evaluate", "{f}/run", "--data", "{f}/store", "--report", "{f}/run/config.json/p.html"],
         "cannot be made"),
        (["evaluate", "{f}/run", "--data", "{f}/store", "--out", "{t}/r.xlsx"],
         "has to end in .csv or .parquet"),
        (["evaluate", "{f}/run", "--data", "{f}/store", "--scores", "{t}/r"], "has to end in"),
        (["evaluate", "{f}/run", "--data", "{f}/store", "--scores", "{t}/r.csv",
          "--out", "{t}/r.csv"], "name two files"),
        (["explain", "{f}/run", "--data", "{f}/store", "--out", "{t}"], "has to end in .png"),
        (["reconstruct", "{f}/run", "--data", "{f}/store", "--out", "{t}/r.txt"], ".pdf"),
        (["evaluate", "{f}/run", "--data", "{f}/store", "--compare", "imagenet"],
         "choose best, run, random, pixels"),
        (["evaluate", "{f}/run", "--data", "{f}/store", "--compare", "pixels", "--mode",
          "finetune"], "choose best, run, random."),
        (["explain", "{f}/run", "--data", "{f}/store", "--finding", "goitre", "--out", "{t}/c.png"],
         "goitre"),
        (["explain", "{f}/run", "--data", "{f}/store", "--finding", "{x}", "--structures", "heart",
          "own", "--out", "{t}/c.png"], "leave --finding out"),
        (["explain", "{f}/run", "--data", "{f}/store", "--structures", "tail", "--shots", "3",
          "--out", "{t}/c.png"], "tail"),
        (["explain", "{f}/run", "--data", "{f}/store", "--finding", "{x}", "--shots",
          "3", "--out", "{t}/c.xyz"], "c.xyz"),
    ],
)  # fmt: skip
def test_bad_input_is_one_sentence(capsys, folder, finding, tmp_path, arguments, says):
    (tmp_path / "empty").mkdir()
    filled = [a.format(f=folder, t=tmp_path, x=finding) for a in arguments]
    kept = sorted(folder.rglob("*"))
    assert says in refusal(capsys, *filled)
    assert sorted(folder.rglob("*")) == kept
    assert not (tmp_path / "o").exists() and not (tmp_path / "r").exists()


def test_empty_table_is_one_sentence(capsys, tmp_path):
    (tmp_path / "labels.csv").write_text("image,patient,view,findings\n")
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    says = refusal(
        capsys, "data", "import", "folder", tmp_path, "--labels", tmp_path / "labels.csv",
        "--out", tmp_path / "o",
    )  # fmt: skip
    assert "labels.csv" in says


def test_interrupted_run_asks_for_resume_and_loses_nothing(capsys, folder, tmp_path):
    run = tmp_path / "run"
    arguments = ["pretrain", "moco", "--data", folder / "store", "--out", run, *STEPS]
    cli.main([str(a) for a in arguments])
    weights = (run / "encoder.safetensors").read_bytes()
    (run / "encoder.safetensors").unlink()  # what a kill before the end leaves
    assert "--resume" in refusal(capsys, *arguments)
    assert "--resume" in refusal(capsys, "evaluate", run, "--data", folder / "store")
    cli.main([str(a) for a in (*arguments, "--resume")])
    assert (run / "encoder.safetensors").read_bytes() == weights


def test_help_does_not_need_torch():
    import subprocess
    import sys

    code = "import sys; import scxr.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_info_of_a_store_without_labels_says_none(capsys, tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(2):
        pixels = np.arange(1024).reshape(32, 32).astype(np.uint8) + np.uint8(number)
        Image.fromarray(pixels).save(tmp_path / f"pictures/{number}.png")
    cli.main(["data", "import", "folder", str(tmp_path / "pictures"), "--out", str(tmp_path / "s")])
    capsys.readouterr()
    cli.main(["data", "info", str(tmp_path / "s")])
    assert "images by finding and side\nnone" in capsys.readouterr().out
