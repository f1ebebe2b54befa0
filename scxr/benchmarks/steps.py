"""Training steps a second: ours, the series' way, the method from lightly's parts, and the limit.

All train the same backbone on the same images at the same size, batch, precision and number of
cores. The limit is our step on views that lie ready: no data path can be faster.
"""

from __future__ import annotations

import logging
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from scxr.benchmarks.data import images_for
from scxr.benchmarks.pipelines import (
    SETTINGS,
    Task,
    lightly_transform,
    loader,
    pillow_transform,
)
from scxr.data.batches import Batches
from scxr.data.store import RadiographStore
from scxr.errors import InputError
from scxr.methods import METHODS, Method, Settings
from scxr.methods.barlow import BarlowSettings
from scxr.methods.moco import MoCoSettings
from scxr.methods.settings import with_changes
from scxr.optimisation import build_fabric, build_optimizer, precision_for
from scxr.pretrain import batch_rows, build_method
from scxr.progress import progress_bar
from scxr.seeds import generator

logger = logging.getLogger(__name__)
LIMIT = "limit: views lie ready"


@dataclass(frozen=True)
class Training:
    """What every way has to do."""

    method: str
    settings: Settings
    store: RadiographStore
    fabric: Fabric

    def network(self, channels: int = 1) -> Method:
        """The method, for one channel or for three that are normalised already."""
        network = build_method(self.method, self.settings, self.store, seed=0)
        if channels == 3:
            for module in network.modules():
                if isinstance(getattr(module, "conv1", None), nn.Conv2d) and hasattr(module, "fc"):
                    module.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
            for name, buffer in network.named_buffers():
                if name.endswith((".mean", "encoder.mean")):
                    buffer.zero_()
                if name.endswith((".std", "encoder.std")):
                    buffer.fill_(1.0)
        return network

    def loaded(self, transform: Callable[[Any], Tensor]) -> DataLoader:
        """Views made image by image by as many worker processes as there are threads."""
        s = self.settings
        task = Task(self.store, s.image_size, 2, s.batch_size, torch.get_num_threads())
        return loader(task, transform, pillow=True)


def run(
    method: str = "barlow",
    *,
    size: int = 64,
    batch_size: int = 128,
    backbone: str = "resnet18",
    store: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    steps: int = 6,
    repeats: int = 3,
) -> list[dict[str, Any]]:
    """Measure every way in turns, so that what else runs disturbs all alike.

    Args:
        method: "barlow" or "moco", of which lightly has the parts.
        size: of the views, pixels.
        steps: that one measurement takes, after two that are not counted.

    Returns:
        One row a way: way, images_per_second and steps_per_second (medians of the repeats),
        of_limit and of_series (ratios), slowest, fastest, and on a GPU peak_gb. Without lightly
        its row is left out, and the log says so.
    """
    if method not in LIGHTLY:
        raise InputError(f"{method!r} cannot be compared: choose from {', '.join(LIGHTLY)}.")
    for name, value in {"steps": steps, "repeats": repeats}.items():
        if value < 1:
            raise InputError(f"{name} is {value}, but must be at least 1.")
    changes = {"image_size": size, "batch_size": batch_size, "backbone": backbone, "steps": 1}
    if method == "moco":  # MoCo v2's step and head, which are lightly's
        changes |= {"symmetric": False, "head_layers": 2, "output_norm": False}
    settings = with_changes(METHODS[method].presets["quick"], changes)
    settings = replace(settings, augmentation=SETTINGS)
    fabric = build_fabric(device, precision)
    training = Training(method, settings, images_for(size, store), fabric)
    speeds, peaks = _in_turns(training, steps, repeats)
    medians = {name: statistics.median(found) for name, found in speeds.items()}
    return [
        {
            "way": name,
            "images_per_second": round(medians[name] * batch_size, 1),
            "steps_per_second": round(medians[name], 3),
            "of_limit": round(medians[name] / medians[LIMIT], 3),
            "of_series": round(medians[name] / medians["as the series"], 2),
            "slowest": round(min(found) * batch_size, 1),
            "fastest": round(max(found) * batch_size, 1),
            **({"peak_gb": round(peaks[name] / 1e9, 2)} if name in peaks else {}),
            "device": str(fabric.device),
            "precision": precision_for(device, precision),
            "threads": torch.get_num_threads(),
        }
        for name, found in speeds.items()
    ]


def ready(training: Training) -> Iterator[None]:
    """Our step, again and again on the same two views."""
    step = _Stepper(training, training.network())
    images = training.store.batch(range(training.settings.batch_size))
    images = images.to(training.fabric.device).float() / 255
    views = step.method.views(images, generator(0, "views", 0))
    while True:
        step(views)
        yield


def ours(training: Training) -> Iterator[None]:
    """Our step, as `scxr pretrain` takes it."""
    step, s, store = _Stepper(training, training.network()), training.settings, training.store
    rows = (batch_rows(len(store), s.batch_size, number, 0) for number in range(10**9))
    with Batches(store, rows, training.fabric.device) as batches:
        for number, images in enumerate(batches):
            step(step.method.views(images.float() / 255, generator(0, "views", number)))
            yield


def series(training: Training) -> Iterator[None]:
    """Our loss and heads fed as the series feeds them: Pillow, three channels, image by image."""
    step = _Stepper(training, training.network(channels=3))
    s = training.settings
    task = Task(training.store, s.image_size, 2, s.batch_size)
    for views in training.loaded(pillow_transform(task)):
        step([view.to(training.fabric.device, non_blocking=True) for view in views])
        yield


def lightly(training: Training) -> Iterator[None]:
    """The method from lightly's head, loss and transform."""
    s = training.settings
    task = Task(training.store, s.image_size, 2, s.batch_size)
    network = LIGHTLY[training.method](training)
    step = _Stepper(training, network)
    for views in training.loaded(lightly_transform(task)):
        step([view.to(training.fabric.device, non_blocking=True) for view in views])
        yield


class _Stepper:
    """One optimiser step on given views, as the loop takes it."""

    def __init__(self, training: Training, method: Any) -> None:
        self.fabric, self.settings, self.method = training.fabric, training.settings, method
        method.to(memory_format=torch.channels_last)
        optimizer = build_optimizer(method, self.settings)
        self.model, self.optimizer = training.fabric.setup(method, optimizer)

    def __call__(self, views: list[Tensor]) -> None:
        terms = self.model(views)
        self.fabric.backward(torch.stack(list(terms.values())).sum())
        if self.settings.clip is not None:
            self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.settings.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.method.after_step()


class _LightlyBarlow(nn.Module):
    def __init__(self, training: Training) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on import
            from lightly.loss import BarlowTwinsLoss
            from lightly.models.modules import BarlowTwinsProjectionHead
        s = training.settings
        assert isinstance(s, BarlowSettings)
        self.encoder = training.network(channels=3).encoder
        width = self.encoder.feature_dim
        self.head = BarlowTwinsProjectionHead(width, s.projection, s.projection)
        self.loss = BarlowTwinsLoss(lambda_param=s.redundancy)

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        return {"loss": self.loss(*(self.head(self.encoder(view)).float() for view in views))}

    def after_step(self) -> None:
        pass


class _LightlyMoCo(nn.Module):
    def __init__(self, training: Training) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on import
            from lightly.loss import NTXentLoss
            from lightly.models.modules import MoCoProjectionHead
            from lightly.models.utils import deactivate_requires_grad, update_momentum
        self.s, self.update = training.settings, update_momentum
        assert isinstance(self.s, MoCoSettings)
        self.encoder = training.network(channels=3).encoder
        width = self.encoder.feature_dim
        self.head = MoCoProjectionHead(width, width, self.s.projection)
        self.key_encoder = training.network(channels=3).encoder
        self.key_head = MoCoProjectionHead(width, width, self.s.projection)
        deactivate_requires_grad(self.key_encoder)
        deactivate_requires_grad(self.key_head)
        bank = (self.s.queue_size, self.s.projection)
        self.loss = NTXentLoss(temperature=self.s.temperature, memory_bank_size=bank)

    def forward(self, views: list[Tensor]) -> dict[str, Tensor]:
        with torch.no_grad():
            key = self.key_head(self.key_encoder(views[1])).float()
        return {"loss": self.loss(self.head(self.encoder(views[0])).float(), key)}

    def after_step(self) -> None:
        assert isinstance(self.s, MoCoSettings)
        self.update(self.encoder, self.key_encoder, m=self.s.key_momentum)
        self.update(self.head, self.key_head, m=self.s.key_momentum)


LIGHTLY: dict[str, Callable[[Training], nn.Module]] = {
    "barlow": _LightlyBarlow,
    "moco": _LightlyMoCo,
}
WAYS: dict[str, Callable[[Training], Iterator[None]]] = {
    LIMIT: ready,
    "scxr": ours,
    "as the series": series,
    "lightly": lightly,
}


def _in_turns(
    training: Training, steps: int, repeats: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    speeds: dict[str, list[float]] = {}
    peaks: dict[str, int] = {}
    device = training.fabric.device
    bar = progress_bar(total=repeats * len(WAYS), desc=training.method, unit="measurement")
    with bar:
        for _ in range(repeats):
            for name, way in WAYS.items():
                if device.type == "cuda":
                    torch.cuda.reset_peak_memory_stats(device)
                try:
                    speeds.setdefault(name, []).append(_steps_per_second(way(training), steps))
                except ImportError as error:
                    del speeds[name]
                    logger.warning("%s is left out: %s.", name, error)
                if device.type == "cuda":
                    peaks[name] = torch.cuda.max_memory_allocated(device)
                bar.update()
    return speeds, peaks


def _steps_per_second(taken: Iterator[None], steps: int) -> float:
    for _ in range(2):
        next(taken)
    _wait()
    started = time.perf_counter()
    for _ in range(steps):
        next(taken)
    _wait()
    seconds = time.perf_counter() - started
    taken.close()  # type: ignore[attr-defined]  # ends threads and worker processes
    return steps / seconds


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
