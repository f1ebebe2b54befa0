"""Every widget in a real JupyterLab: a notebook is run, a hand moves controls, the kernel answers.

The kernel and the test make the same widgets (widget_examples.py); what the page shows after the
kernel's answer is compared with what the package computes here.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from playwright.sync_api import Browser, Locator, Page, expect
from widget_examples import SIZE, augmentations, explained, monitor_rows

from scxr.data.phantom import write_store
from scxr.explain.reconstruction import reconstruct
from scxr.memory import shipped_grid
from scxr.pretrain import pretrain
from scxr.runs import Run, write_json
from scxr.widgets import MemoryWidget, ReconstructionWidget

pytestmark = pytest.mark.browser

TOKEN = "only-this-test"
PATIENCE = 120  # seconds for what a slow machine may take; nothing waits longer than it must
CELLS = {
    "imports": "\n".join(
        [
            "import torch",
            "from widget_examples import augmentations, chests, explained",
            "from scxr.memory import shipped_grid",
            "from scxr.runs import Run",
            "from scxr.widgets import MemoryWidget, ReconstructionWidget, SpectrumWidget",
            "torch.set_num_threads(1)",
        ]
    ),
    "augmentation": "augmentation = augmentations(chests())\naugmentation",
    "spectrum": 'spectrum = SpectrumWidget({"MoCo": Run.open("moco")})\nspectrum',
    "reconstruction": (
        'reconstruction = ReconstructionWidget.from_run(Run.open("spark"))\nreconstruction'
    ),
    "gradcam": "gradcam = explained(chests())\ngradcam",
    "memory": "memory = MemoryWidget(shipped_grid())\nmemory",
    "questions": "",
}


def write_notebook(path: Path) -> None:
    """The cells above, not run yet."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, path)


def write_log(run: Path, rows: int) -> None:
    """A run folder as pretraining leaves it after some measurements of the monitor."""
    run.mkdir(exist_ok=True)
    write_json(run / "config.json", {"format": 1, "method": "moco"})
    records = monitor_rows(0, 1.0, rows=4).head(rows).to_dict("records")
    lines = [json.dumps({"kind": "monitor", **record}) for record in records]
    (run / "log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """What the reader works in: a notebook, a finished SparK run, a run that still grows."""
    folder = tmp_path_factory.mktemp("reader")
    write_notebook(folder / "widgets.ipynb")
    write_log(folder / "moco", rows=2)
    store = write_store(folder / "store", 8, size=32)
    settings = {"steps": 1, "batch_size": 4, "image_size": 32, "decoder_width": 16}
    pretrain("spark", store, folder / "spark", settings=settings)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory) -> Iterator[str]:
    """Address of a JupyterLab of its own: no settings of the user's, no free port taken twice."""
    home = tmp_path_factory.mktemp("jupyter")
    places = {name: str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    environment = os.environ | {f"JUPYTER_{name}_DIR": place for name, place in places.items()}
    environment |= {
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONPATH": str(Path(__file__).parent),
        "OMP_NUM_THREADS": "1",
    }
    # Else it asks whether it may fetch the project's news.
    news = home / "config/lab/user-settings/@jupyterlab/apputils-extension"
    news.mkdir(parents=True)
    news = news / "notification.jupyterlab-settings"
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}', encoding="utf-8")
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root"]
    command += [
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.port=0",
        f"--IdentityProvider.token={TOKEN}",
    ]
    command += ["--LabApp.extension_manager=readonly"]
    with (home / "log.txt").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield address(process, home)
    finally:
        process.terminate()  # asks the kernels to end, too
        process.wait(PATIENCE)


def address(process: subprocess.Popen, home: Path) -> str:
    """Where the server listens, as soon as it does; it picks the port itself."""
    note = home / "runtime" / f"jpserver-{process.pid}.json"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            return json.loads(note.read_text(encoding="utf-8"))["url"]
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.1)
    raise AssertionError(f"JupyterLab did not start:\n{(home / 'log.txt').read_text()}")


class Lab:
    """An open notebook whose cells have been run."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._questions = count(1)

    def cell(self, name: str) -> Locator:
        return self.page.locator(f'.jp-Cell[data-windowed-list-index="{list(CELLS).index(name)}"]')

    def widget(self, name: str) -> Locator:
        """The widget under its cell, once its kernel has answered."""
        widget = self.cell(name).locator(".scxr-widget[data-kernel='live']")
        expect(widget.locator(".scxr-status")).not_to_be_empty()
        widget.scroll_into_view_if_needed()
        return widget

    def ask(self, expression: str) -> Any:
        """Type an expression into the last cell, run it, and read what Python prints."""
        cell = self.cell("questions")
        turn = next(self._questions)
        cell.locator(".cm-content").click()
        self.page.keyboard.press("Control+a")
        self.page.keyboard.insert_text(f"import json; print(json.dumps([{turn}, {expression}]))")
        self.page.keyboard.press("Control+Enter")
        printed = cell.locator(".jp-OutputArea-output")
        expect(printed).to_contain_text(f"[{turn}, ")
        return json.loads(printed.inner_text())[1]


@pytest.fixture(scope="module")
def lab(server: str, chromium: Browser) -> Iterator[Lab]:
    """The notebook in JupyterLab, all cells run. Nothing but this machine may be asked for."""
    context = chromium.new_context(viewport={"width": 1300, "height": 1000})
    context.set_default_timeout(1000 * PATIENCE)
    strangers: list[str] = []

    def guard(route) -> None:
        if urlsplit(route.request.url).hostname in ("127.0.0.1", "localhost"):
            return route.continue_()
        strangers.append(route.request.url)
        return route.abort()

    context.route(lambda url: url.startswith("http"), guard)
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(f"{server}doc/tree/widgets.ipynb?token={TOKEN}")
    expect(page.locator("#jp-main-statusbar")).to_contain_text("Python 3 (ipykernel) | Idle")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    yield Lab(page)
    context.close()
    assert strangers == [] and errors == []


@pytest.fixture(scope="module", autouse=True)
def patient() -> Iterator[None]:
    """Expectations wait for a kernel that first imports torch, on a slow machine."""
    expect.set_options(timeout=1000 * PATIENCE)
    yield
    expect.set_options(timeout=5000)


def idle(widget: Locator) -> None:
    """Wait until no answer is outstanding."""
    expect(widget).not_to_have_attribute("aria-busy", "true")


def grey(widget: Locator, which: int) -> np.ndarray:
    """(H, W) uint8: the red values of one picture of a widget."""
    rows = (
        widget.locator(".scxr-stage canvas")
        .nth(which)
        .evaluate(
            """(canvas) => {
          const { width, height } = canvas;
          const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
          const red = [...data].filter((_, i) => i % 4 === 0);
          return Array.from({ length: height }, (_, y) => red.slice(y * width, (y + 1) * width));
        }"""
        )
    )
    return np.array(rows, np.uint8)


def score(widget: Locator, name: str) -> float:
    return float(widget.locator(".scxr-status").get_attribute(f"data-{name}"))


def test_augmentations_are_computed_for_the_readers_sliders(lab, chests):
    widget = lab.widget("augmentation")
    rotation = widget.get_by_label("Rotation", exact=True)
    rotation.focus()
    for _ in range(3):
        rotation.press("ArrowRight")
    noise = widget.get_by_label("Noise", exact=True)
    noise.press("End")
    idle(widget)
    values = lab.ask("augmentation.values")
    assert (values["angle"], values["noise"]) == (3, 0.3)  # off the stops that paper has
    same = augmentations(chests)
    numbers, view, _ = same.view(0, same.parameters(values))
    assert np.array_equal(grey(widget, 1), view)
    assert score(widget, "stands-out") == pytest.approx(numbers["stands_out"])


def test_a_growing_run_is_read_again(lab, folder):
    widget = lab.widget("spectrum")
    rows = monitor_rows(0, 1.0, rows=4)
    value = widget.locator('li[data-metric="rankme"]')
    assert float(value.get_attribute("data-value")) == pytest.approx(rows["rankme"][1])
    write_log(folder / "moco", rows=4)
    widget.get_by_role("button", name="Read again").click()
    expect(widget.locator(".scxr-status")).to_contain_text("Epoch 1.5.")
    assert float(value.get_attribute("data-value")) == pytest.approx(rows["rankme"][3])
    widget.get_by_label("Moment of training").press("ArrowLeft")
    widget.get_by_label("uncentred").check()
    assert float(value.get_attribute("data-value")) == pytest.approx(rows["rankme"][2])
    assert lab.ask("[spectrum.at, spectrum.centred]") == [1.0, False]


def test_the_network_paints_the_patches_that_are_clicked(lab, folder):
    widget = lab.widget("reconstruction")
    widget.get_by_role("button", name="Hide nothing").click()
    stage = widget.get_by_role("application")
    box = stage.bounding_box()
    cell = box["width"] / 4
    stage.click(position={"x": 1.5 * cell, "y": 2.5 * cell})  # row 3, column 2
    stage.press("ArrowRight")
    stage.press(" ")
    idle(widget)
    run = Run.open(folder / "spark")
    same = ReconstructionWidget.from_run(run)
    mask = np.zeros((1, 4, 4), bool)
    mask[0, 2, 1:3] = True
    result = reconstruct(run, torch.from_numpy(same._images[:1])[:, None], mask=mask)
    composite = np.rint(result.composite("neighbours")[0] * 255)
    assert np.abs(grey(widget, 2) - composite).max() <= 1
    assert score(widget, "score") == pytest.approx(float(result.loss()[0]), rel=1e-3)


def test_a_network_explains_a_picture_of_the_readers_own(lab, chests):
    widget = lab.widget("gradcam")
    same = explained(chests)
    widget.get_by_label("layer4").check()
    widget.get_by_label("Finding").select_option("hiatal hernia")
    wanted = {"finding": "hiatal hernia", "stage": "layer4"}
    (entry,) = [e for e in same.entries if all(e[k] == v for k, v in wanted.items())]
    assert score(widget, "energy_inside") == pytest.approx(entry["energy_inside"], rel=1e-3)
    widget.get_by_label("Opacity of the heat").press("End")
    file = io.BytesIO()
    Image.fromarray(chests["images"][0]).save(file, "PNG")
    widget.get_by_label("A picture of your own").set_input_files(
        {"name": "own.png", "mimeType": "image/png", "buffer": file.getvalue()}
    )
    expect(widget.locator(".scxr-status")).to_contain_text("Computed by the kernel")
    request = {"type": "explain", "init": "random", **wanted}
    answer, _ = same.answer(request, [file.getvalue()])
    x, y = answer["peak"]
    cross = widget.locator("path.peak").get_attribute("d")
    assert f"M{x - SIZE / 40:g} {y:g}H" in cross
    hot = grey(widget, 0)[int(y), int(x)]
    assert hot > 200  # yellow, the hot end of viridis


def test_memory_is_counted_for_the_step_that_the_reader_describes(lab):
    widget = lab.widget("memory")
    widget.get_by_label("Method").select_option(label="VICReg")
    widget.get_by_label("Network").select_option("resnet50")
    widget.get_by_label("224 px").check()
    widget.get_by_label("bfloat16").check()
    widget.get_by_label("24 GB").check()
    widget.get_by_label("Batch", exact=True).press("ArrowRight")
    same = MemoryWidget(shipped_grid(), batch=384, card=24)
    same.set_trait("method", "vicreg")
    same.set_trait("backbone", "resnet50")
    same.set_trait("size", 224)
    assert lab.ask("memory.describe()") == same.describe()
    assert lab.ask("[memory.card, memory.precision]") == [24, "bf16-mixed"]
    shown = score(widget, "total") / 1e9
    assert f"bf16-mixed: {shown:.1f} GB" in same.describe()
