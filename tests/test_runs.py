"""Run folders: what is written whole or not at all, what is read back, what is refused."""

from __future__ import annotations

import json

import pytest
import torch

from scxr import runs
from scxr.encoders import build_encoder
from scxr.errors import InputError
from scxr.runs import Run, read_tensors, replacing, write_encoder, write_json, write_tensors
from scxr.seeds import generator, seed_for


def folder_with(tmp_path, **changes):
    config = {"format": runs.FORMAT, "method": "moco", "settings": {}, **changes}
    write_json(tmp_path / "config.json", config)
    return tmp_path


# --- opening -----------------------------------------------------------------------------------


def test_a_run_knows_its_method_and_whether_it_is_finished(tmp_path):
    run = Run.open(folder_with(tmp_path))
    assert (run.method, run.name, run.finished) == ("moco", tmp_path.name, False)
    with pytest.raises(InputError, match="was interrupted: finish it"):
        run.encoder()
    encoder = build_encoder("resnet18", image_size=32, mean=0.5, std=0.2)
    write_encoder(tmp_path / "encoder.safetensors", encoder)
    assert run.finished
    assert run.encoder().config == encoder.config


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(InputError, match=r"There is no run at .*nowhere"):
        Run.open(tmp_path / "nowhere")


def test_a_run_is_called_like_its_folder_however_it_is_reached(tmp_path, monkeypatch):
    (tmp_path / "moco" / "snapshots").mkdir(parents=True)
    write_json(tmp_path / "moco" / "config.json", {"method": "moco"})
    monkeypatch.chdir(tmp_path / "moco")
    for path in (tmp_path / "moco", ".", "snapshots/..", "../moco/"):
        assert Run.open(path).name == "moco"


def test_a_folder_without_config_is_no_run(tmp_path):
    with pytest.raises(InputError, match=r"is not a run folder: it has no config\.json"):
        Run.open(tmp_path)


@pytest.mark.parametrize("content", [b'{"method": "mo', b"", b"\xff\xfe\x00", b"[]", b'{"a": 1}'])
def test_a_config_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InputError, match=r"config\.json"):
        Run.open(tmp_path)


def test_a_newer_format_is_refused(tmp_path):
    with pytest.raises(InputError, match="written by a newer scxr"):
        Run.open(folder_with(tmp_path, format=runs.FORMAT + 1))


# --- logs and snapshots ------------------------------------------------------------------------


def test_log_separates_kinds_and_leaves_a_cut_line_out(tmp_path):
    rows = [
        {"kind": "monitor", "step": 0, "rankme": 3.0},
        {"kind": "train", "step": 1, "loss": 2.0},
        {"kind": "train", "step": 2, "loss": 1.0},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder_with(tmp_path) / "log.jsonl").write_text(text + '{"kind": "train", "st')
    run = Run.open(tmp_path)
    assert run.log().to_dict("list") == {"step": [1, 2], "loss": [2.0, 1.0]}
    assert run.log("monitor").to_dict("list") == {"step": [0], "rankme": [3.0]}


def test_a_run_that_logged_nothing_has_an_empty_log(tmp_path):
    run = Run.open(folder_with(tmp_path))
    assert len(run.log()) == 0
    assert run.snapshots() == []


def test_snapshots_come_in_the_order_of_their_steps(tmp_path):
    folder_with(tmp_path)
    for step in (100, 20, 3):
        file = tmp_path / "snapshots" / f"step_{step:07d}.safetensors"
        write_tensors(
            file, {"x": torch.full((2,), float(step))}, {"step": str(step), "epoch": "0.5"}
        )
    found = Run.open(tmp_path).snapshots()
    assert [s.step for s in found] == [3, 20, 100]
    assert [s.tensors["x"][0].item() for s in found] == [3, 20, 100]
    assert found[0].epoch == 0.5


# --- writing -----------------------------------------------------------------------------------


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    target = tmp_path / "deep" / "file.txt"
    with replacing(target) as temporary:
        temporary.write_text("first")
        assert not target.exists()
    with pytest.raises(RuntimeError, match="power cut"), replacing(target) as temporary:
        temporary.write_text("sec")
        raise RuntimeError("power cut")
    assert target.read_text() == "first"
    with target.open() as reader:  # who reads the old file goes on reading the old file
        with replacing(target) as temporary:
            temporary.write_text("second")
        assert reader.read() == "first"
    assert target.read_text() == "second"
    assert [f.name for f in target.parent.iterdir()] == ["file.txt"]


def test_tensors_come_back_as_they_were(tmp_path):
    shared = torch.arange(12.0).view(3, 4)
    tensors = {
        "plain": shared,
        "view": shared[:2],  # shares memory
        "transposed": shared.T,
        "channels_last": torch.rand(2, 3, 4, 5, generator=generator(0, "test")).contiguous(
            memory_format=torch.channels_last
        ),
        "number": torch.tensor(7),
        "flags": torch.tensor([True, False]),
        "half": torch.ones(3, dtype=torch.bfloat16),
    }
    write_tensors(tmp_path / "x.safetensors", tensors, {"step": "3"})
    back, metadata = read_tensors(tmp_path / "x.safetensors")
    assert metadata == {"step": "3"}
    assert back.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(back[name], tensor)
        assert back[name].dtype == tensor.dtype


def test_environment_is_plain_data():
    found = runs.environment()
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["torch"] == torch.__version__.split("+")[0] or (
        found["packages"]["torch"] == torch.__version__
    )
    assert found["device"]


# --- streams -----------------------------------------------------------------------------------


def test_streams_are_named_and_stable():
    # The digest of "0/views/17", so that runs of today and of next year draw alike.
    assert seed_for(0, "views", 17) == 0x4CD199064FEF5FBA
    assert len({seed_for(s, n, i) for s in (0, 1) for n in "ab" for i in range(50)}) == 200
    a, b = (torch.rand(4, generator=generator(0, "x", i)) for i in (1, 2))
    assert not torch.equal(a, b)
    assert torch.equal(a, torch.rand(4, generator=generator(0, "x", 1)))
