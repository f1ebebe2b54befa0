"""No network, a silent one, no library, no weights: one sentence, and the table without the row."""

from __future__ import annotations

import hashlib
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
import torch
import torchxrayvision as xrv
from published_networks import drawn, save, small_rad_dino

from scxr import fetching
from scxr.data import RadiographStore
from scxr.encoders import imagenet_encoder
from scxr.errors import InputError
from scxr.evaluate.inits import load_inits
from scxr.fetching import Unavailable
from scxr.public import RAD_DINO, XRV, public_encoder

FETCHED = ("rad-dino", "xrv", "timm:resnet10t", "imagenet")


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What this machine has fetched before is not seen; the Hub's cache is the folder returned."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path / "hub"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No name is found; the list says who was asked for."""
    asked: list[str] = []

    def refuse(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.fixture
def silent_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Every host takes the call and says nothing, as behind some hospitals' firewalls."""
    asked: list[str] = []
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        address = server.getsockname()

        def here(host: str, *_: object, **__: object) -> list:
            asked.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address)]

        monkeypatch.setattr(socket, "getaddrinfo", here)
        monkeypatch.setattr(fetching, "PATIENCE", 0.2)
        yield asked


def within_a_minute(work: Callable[[], object]) -> None:
    """Run `work`, which might wait for ever."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    if failures:
        raise failures[0]


def the_warning(caplog: pytest.LogCaptureFixture) -> str:
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    return record.getMessage()


@pytest.mark.parametrize("init", FETCHED)
@pytest.mark.parametrize("network", ["no_network", "silent_network"])
def test_without_a_network_the_row_is_left_out(
    init: str,
    network: str,
    target: RadiographStore,
    request: pytest.FixtureRequest,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = request.getfixturevalue(network)
    found: dict = {}
    within_a_minute(lambda: found.update(load_inits([], ["pixels", init], target)))
    assert list(found) == ["pixels"]
    assert asked
    said = the_warning(caplog)
    assert "cannot be fetched from" in said
    assert said.endswith("The table is made without it.")
    assert "\n" not in said
    assert capsys.readouterr().out == ""  # which belongs to the answer
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize(
    ("init", "module"),
    [("rad-dino", "transformers"), ("xrv", "torchxrayvision"), ("timm:resnet10t", "timm")],
)
def test_without_the_library_the_row_is_left_out(
    init: str,
    module: str,
    target: RadiographStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    assert list(load_inits([], ["pixels", init], target)) == ["pixels"]
    said = the_warning(caplog)
    assert f"{init} needs the library {module}" in said
    assert "pip install 'scxr[public]'" in said
    with pytest.raises(InputError, match="nothing to evaluate"):
        load_inits([], [init], target)


def test_what_is_in_the_cache_needs_no_network(no_network: list[str], empty_caches: Path) -> None:
    def cached(repository: str) -> Path:
        folder = empty_caches / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("a" * 40)
        (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
        return folder / "snapshots" / ("a" * 40)

    small_rad_dino(cached(RAD_DINO))
    network = drawn(lambda: timm.create_model("resnet10t"))
    save(network.state_dict(), cached("timm/resnet10t.c3_in1k") / "model.safetensors")
    assert public_encoder("rad-dino").feature_dim == 24
    encoder = public_encoder("timm:resnet10t")
    weights = encoder.state_dict()
    for key, value in network.state_dict().items():
        if not key.startswith("fc."):
            assert torch.equal(weights[f"network.{key}"], value)
    assert not no_network


class Hub(BaseHTTPRequestHandler):
    """As much of the Hugging Face Hub as a download needs."""

    files: dict[str, bytes] = {}
    broken = False

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        content = self.files.get(self.path)
        self.send_response(500 if self.broken else 404 if content is None else 200)
        self.send_header("X-Repo-Commit", "b" * 40)
        if content is None or self.broken:
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
        else:
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body and content is not None and not self.broken:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    """A hub on this machine; give it files by path."""
    kind = type("OwnHub", (Hub,), {"files": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield kind
    server.shutdown()
    server.server_close()


def test_weights_are_fetched_once(hub: type[Hub], tmp_path: Path) -> None:
    folder = small_rad_dino(tmp_path / "rad-dino")
    for file in folder.iterdir():
        hub.files[f"/{RAD_DINO}/resolve/main/{file.name}"] = file.read_bytes()
    densenet = drawn(lambda: xrv.models.DenseNet(weights=None))
    file = save(densenet.state_dict(), tmp_path / "model.pt")  # the last of the names looked for
    hub.files[f"/{XRV}/resolve/main/model.pt"] = file.read_bytes()
    images = torch.rand(1, 1, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = densenet.features2(images * 2048 - 1024)
        torch.testing.assert_close(public_encoder("xrv")(images), expected, atol=1e-5, rtol=1e-5)
    assert public_encoder("rad-dino").image_size == 518
    hub.files.clear()
    hub.broken = True
    assert public_encoder("xrv").name == "xrv"
    assert public_encoder("rad-dino").name == "rad-dino"


def test_a_hub_that_lacks_the_file_or_fails_is_no_crash(hub: type[Hub]) -> None:
    with pytest.raises(Unavailable, match=r"none of model\.safetensors, pytorch_model\.bin"):
        public_encoder("timm:resnet10t")
    hub.broken = True
    with pytest.raises(Unavailable, match="The weights of rad-dino cannot be fetched"):
        public_encoder("rad-dino")


def test_imagenet_weights_are_unavailable_by_their_own_name(no_network: list[str]) -> None:
    with pytest.raises(Unavailable, match="--imagenet-weights FILE"):
        imagenet_encoder("resnet18", image_size=32, mean=0.5, std=0.2)
    assert no_network
