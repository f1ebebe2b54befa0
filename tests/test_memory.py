"""Memory, counted on fake tensors: as real ones say, linear in the batch, and of use when full."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from scxr import memory
from scxr.encoders import build_encoder
from scxr.errors import InputError
from scxr.memory import count, count_settings
from scxr.memory.step import fake_step
from scxr.methods import METHODS, Method, Settings
from scxr.methods.settings import with_changes
from scxr.optimisation import build_optimizer, device_memory
from scxr.seeds import generator

DTYPES = {"32-true": torch.float32, "bf16-mixed": torch.bfloat16}
VARIANTS = [(False, "32-true"), (True, "bf16-mixed")]
SPARSE = {"form": "sparse", "patch_size": 32}
PLAIN = [(name, {"checkpointing": c}, p) for name in METHODS for c, p in VARIANTS]
FORMS = [
    *PLAIN,
    ("barlow", {}, "bf16-mixed"),
    ("moco", {"norm_splits": 2}, "bf16-mixed"),
    ("moco", {"symmetric": True, "output_norm": True}, "bf16-mixed"),
    ("barlow", {"backbone": "vit_tiny"}, "32-true"),
    ("dino", {"backbone": "vit_tiny", "local_crops": 2}, "bf16-mixed"),
    ("dino", {"local_crops": 2}, "bf16-mixed"),
    ("spark", SPARSE, "bf16-mixed"),
    ("spark", {**SPARSE, "checkpointing": True}, "bf16-mixed"),
]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def small(method: str, **changes) -> Settings:
    """The quick preset at a batch that a test can afford."""
    return with_changes(METHODS[method].presets["quick"], {"batch_size": 16, **changes})


def build(method: str, settings: Settings, device: str = "cpu") -> Method:
    encoder = build_encoder(
        settings.backbone,
        image_size=settings.image_size,
        mean=0.5,
        std=0.25,
        stem=settings.stem,
    )
    return METHODS[method](encoder, settings).train().to(device)


def pictures(settings: Settings) -> Tensor:
    shape = (settings.batch_size, 1, settings.image_size, settings.image_size)
    return torch.rand(*shape, generator=generator(0, "test", "memory"))


def forward(network: nn.Module, views: list[Tensor], precision: str) -> Tensor:
    dtype = DTYPES[precision]
    half = torch.autocast(views[0].device.type, dtype, enabled=dtype is not torch.float32)
    with half:
        return torch.stack(list(network(views).values())).sum()


def really_kept(method: str, settings: Settings, precision: str) -> int:
    """Bytes that autograd keeps of a real forward pass; the network's own storages left out."""
    network = build(method, settings)
    views = network.views(pictures(settings), generator(0, "views"))
    own = {t.data_ptr() for t in (*network.parameters(), *network.buffers())}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        saved.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        forward(network, views, precision)
    return sum(t.untyped_storage().nbytes() for p, t in saved.items() if p not in own)


# --- against real tensors -----------------------------------------------------------------------


@pytest.mark.parametrize(("method", "changes", "precision"), FORMS, ids=str)
def test_what_is_counted_is_what_a_real_pass_keeps(method, changes, precision):
    settings = small(method, **changes)
    counted = fake_step(METHODS[method], settings, precision)
    assert sum(counted.kept.values()) == pytest.approx(
        really_kept(method, settings, precision), rel=0.01
    )


@pytest.mark.parametrize("method", ["moco", "dino"])
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
def test_the_peak_is_that_of_the_real_allocator(method, checkpointing):
    """The profiler sees every allocation of a real step, those inside kernels included."""
    settings = small(method, batch_size=64, checkpointing=checkpointing)
    network, images = build(method, settings), pictures(settings)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        forward(network, network.views(images, generator(0, "views")), "32-true").backward()
    assert profiler.profiler is not None
    events = profiler.profiler.kineto_results.events()
    level = peak = images.nbytes  # made before the profiler looked
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        level += event.nbytes()
        peak = max(peak, level)
    counted = fake_step(METHODS[method], settings, "32-true")
    static = counted.parameters + counted.buffers + counted.optimizer
    assert counted.peak - static == pytest.approx(peak, rel=0.05)


@pytest.mark.parametrize("method", list(METHODS))
def test_fixed_parts_are_those_of_the_real_networks(method):
    settings = small(method)
    network = build(method, settings)
    optimizer = build_optimizer(network, settings)
    forward(network, network.views(pictures(settings), generator(0, "views")), "32-true").backward()
    optimizer.step()
    state = [t for s in optimizer.state.values() for t in s.values() if t.ndim > 0]
    counted = count_settings(method, settings, precision="fp32")
    assert counted.parameters_bytes == sum(p.nbytes for p in network.parameters())
    assert counted.gradients_bytes == sum(p.nbytes for p in network.parameters() if p.requires_grad)
    assert counted.buffers_bytes == sum(b.nbytes for b in network.buffers())
    assert counted.optimizer_bytes == sum(t.nbytes for t in state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize("checkpointing", [False, True], ids=["plain", "checkpointed"])
def test_the_peak_is_that_of_a_gpu(method, checkpointing):
    settings = with_changes(
        METHODS[method].presets["full"],
        {"backbone": "resnet50", "batch_size": 128, "checkpointing": checkpointing},
    )
    network = build(method, settings, "cuda").to(memory_format=torch.channels_last)
    optimizer = build_optimizer(network, settings)
    images = pictures(settings).to("cuda")
    torch.backends.cudnn.benchmark = False
    for step in range(2):
        torch.cuda.reset_peak_memory_stats()
        views = network.views(images, generator(0, "views", step))
        forward(network, views, "bf16-mixed").backward()
        optimizer.step()
        optimizer.zero_grad()
    peak = torch.cuda.max_memory_allocated()
    counted = fake_step(METHODS[method], settings, "bf16-mixed")
    highest = max(counted.peak, counted.update_peak + counted.inputs)
    assert highest == pytest.approx(peak, rel=0.05)
    assert counted.total >= highest


# --- closed forms -------------------------------------------------------------------------------


def test_a_stage_keeps_what_arithmetic_says():
    """ResNet-50, layer1, float32: every convolution's output for batch norm, every ReLU's output.

    The shortcut's input and the stem's map are shared, and so counted elsewhere or once.
    """
    batch, views, side = 8, 2, 64 // 4
    counted = count("barlow", backbone="resnet50", batch=batch, size=64, precision="fp32")
    position = batch * views * side**2 * 4
    kinds = counted.by_kind().loc["layer1"] * 1e9
    outputs = 3 * (64 + 64 + 256) + 256
    saved_statistics = views * 2 * 4 * outputs
    assert kinds["BatchNorm2d"] == pytest.approx(outputs * position + saved_statistics, abs=1)
    assert kinds["ReLU"] == pytest.approx(3 * (64 + 64 + 256) * position, abs=1)
    # What maxpool made enters two convolutions, and neither batch norm nor ReLU keeps it.
    assert kinds["Conv2d"] == pytest.approx(64 * position, abs=1)


def test_the_parts_add_up():
    counted = count("moco", preset="quick", batch=32)
    frame = counted.to_frame()
    assert frame["bytes"].sum() == counted.total_bytes
    assert frame["gigabytes"].sum() == pytest.approx(counted.total_bytes / 1e9)
    assert sum(counted.stages.values()) == counted.activations_bytes
    assert counted.by_kind().to_numpy().sum() == pytest.approx(counted.activations_bytes / 1e9)
    assert list(counted.stages)[:5] == ["stem", "layer1", "layer2", "layer3", "layer4"]


def test_views_without_a_gradient_cost_no_activations():
    """MoCo keeps one view's maps, BarlowTwins two."""
    moco, barlow = (count(m, backbone="resnet18", batch=32, size=64) for m in ("moco", "barlow"))
    one, two = (sum(c.stages[f"layer{i}"] for i in (1, 2, 3, 4)) for c in (moco, barlow))
    assert two == pytest.approx(2 * one, rel=1e-3)


def test_half_precision_keeps_casts_of_weights_once():
    half, single = (count("barlow", preset="quick", precision=p) for p in ("bf16", "fp32"))
    network = build("barlow", small("barlow"))
    matrices = sum(p.numel() for p in network.parameters() if p.ndim > 1)
    assert "casts" not in single.stages
    # The first convolution's weight needs no input gradient, but its own gradient needs the input.
    assert 0.95 * 2 * matrices <= half.stages["casts"] <= 2 * matrices + 4096
    assert half.activations_per_image < 0.6 * single.activations_per_image


# --- growth -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["moco", "barlow", "spark"])
def test_the_largest_batch_for_a_card_just_fits(method):
    """Whatever batch was asked for: memory is linear in it."""
    changes = {"backbone": "resnet18", "image_size": 96, "batch_size": 24}
    settings = with_changes(METHODS[method].presets["full"], changes)
    counted = count_settings(method, settings)
    most = counted.fits(22)
    direct = count_settings(method, replace(settings, batch_size=most))
    assert 21.5e9 < direct.total_bytes < 22.1e9
    assert direct.activations_per_image == pytest.approx(counted.activations_per_image, rel=0.01)
    assert counted.total_at(most) <= 22e9 < counted.total_at(most + 1)
    assert counted.total_at(24) == counted.total_bytes


def test_nothing_fits_where_the_weights_alone_do_not():
    counted = count("barlow", preset="quick", batch=16)
    assert counted.fits(0.1) == 0
    assert 0 < counted.fits(1) < counted.fits(2)


def test_a_method_that_allows_one_batch_larger_or_smaller_is_still_counted():
    """A queue as long as the batch refuses every larger batch."""
    counted = count("moco", preset="quick", batch=64, settings={"queue_size": 64})
    assert counted.fits(8) > 64


def test_checkpointing_keeps_less_and_pays_with_recomputation():
    plain, thrifty = (
        count("barlow", preset="quick", batch=32, checkpointing=c) for c in (False, True)
    )
    assert thrifty.activations_bytes < plain.activations_bytes / 3
    assert thrifty.total_bytes < plain.total_bytes
    assert thrifty.transient_bytes > plain.transient_bytes
    assert thrifty.parameters_bytes == plain.parameters_bytes


# --- the shipped table --------------------------------------------------------------------------


def test_the_shipped_table_covers_every_combination_once():
    table = memory.shipped_grid()
    keys = ["method", "backbone", "size", "precision", "checkpointing"]
    assert len(table) == len(METHODS) * 2 * 3 * 2 * 2 and not table.duplicated(keys).any()
    assert table.notna().all(axis=None) and table["checkpointing"].dtype == bool


@pytest.mark.parametrize(
    ("method", "backbone", "precision"),
    [("barlow", "resnet50", "bf16-mixed"), ("moco", "resnet18", "32-true")],
)
def test_the_shipped_table_is_what_the_code_counts_today(method, backbone, precision):
    """A method, a network or the count has changed when this fails: python -m scxr.memory."""
    fresh = memory.grid([method], [backbone], sizes=[224], precisions=[precision])
    keys = ["method", "backbone", "size", "precision", "checkpointing"]
    shipped = memory.shipped_grid().merge(fresh[keys])
    pd.testing.assert_frame_equal(shipped, fresh, check_exact=False, rtol=0.01)


# --- the series' arithmetic ---------------------------------------------------------------------


def test_the_series_counts_one_tensor_a_convolution_and_autograd_keeps_two():
    table = memory.series_table()
    total = table.loc["total"]
    assert total["printed"] == pytest.approx(38.8)
    assert total["convolution_inputs"] == pytest.approx(38.8, rel=0.05)
    assert total["counted"] > 2.2 * total["printed"]
    # Convolution inputs and batch-norm inputs explain the count, but for the stem's pooling.
    explained = table["convolution_inputs"] + table["batch_norm_inputs"]
    stages = [f"layer{i}" for i in (1, 2, 3, 4)]
    assert explained[stages].sum() == pytest.approx(table["counted"][stages].sum(), rel=0.06)


def test_the_series_checkpointed_figure_leaves_the_stem_and_the_recomputation_out():
    table = memory.series_checkpointed()
    parts = table["counted"].drop("all at once")
    assert parts.sum() == pytest.approx(table.loc["all at once", "counted"])
    assert table.loc["optimiser state", "counted"] == pytest.approx(0.165, abs=0.005)
    # 512 x 2 views of 64 x 56 x 56 twice, 128 x 28 x 28 and 256 x 14 x 14 floats
    between = 512 * 2 * 4 * (2 * 64 * 56**2 + 128 * 28**2 + 256 * 14**2) / 1e9
    assert table.loc["between stages", "counted"] == pytest.approx(between, rel=1e-3)
    assert table.loc["stem", "counted"] > 4 * table.loc["between stages", "printed"]
    assert table.loc["all at once", "counted"] > 5 * table.loc["all at once", "printed"]


# --- advice and refusals ------------------------------------------------------------------------


def test_advice_names_a_batch_that_fits_and_flags_that_help():
    settings = with_changes(METHODS["barlow"].presets["full"], {"batch_size": 1024})
    text = memory.advice("barlow", settings, precision="32-true", capacity_bytes=22 * 2**30)
    assert text.startswith("Out of memory: a step of barlow with resnet18, 224 px, batch 1024")
    batch = re.search(r"--set batch_size=(\d+) would fit", text)
    assert batch
    fitting = replace(settings, batch_size=int(batch[1]))
    assert count_settings("barlow", fitting, precision="32-true").total_bytes < 22.05e9
    assert "--precision bf16-mixed" in text and "--set checkpointing=true" in text
    told = [float(n) for n in re.findall(r"\((\d+\.\d) GB\)", text)]
    assert told == sorted(told, reverse=True) and told[-1] < 22


def test_advice_knows_when_the_step_should_have_fitted():
    text = memory.advice("moco", small("moco"), capacity_bytes=24 * 10**9)
    assert "another program" in text and "batch_size" not in text


def test_advice_does_not_take_a_gpu_for_the_device_that_ran_out(monkeypatch):
    gpu = SimpleNamespace(total_memory=80 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    assert device_memory(torch.device("cpu")) is None
    assert device_memory(torch.device("cuda", 0)) == gpu.total_memory
    text = memory.advice("moco", small("moco"), capacity_bytes=None)
    assert "the device's" not in text and "--set checkpointing=true" in text


def test_advice_says_when_no_batch_fits():
    text = memory.advice("moco", small("moco"), capacity_bytes=10**8)
    assert "no batch fits" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "simclr"}, "Unknown method 'simclr'"),
        ({"preset": "slow"}, "Unknown preset 'slow'"),
        ({"precision": "int8"}, "Unknown precision 'int8'"),
        ({"backbone": "resnet19"}, "Unknown backbone 'resnet19'"),
        ({"batch": 1}, "batch_size is 1"),
        ({"settings": {"queue_sise": 1}}, "did you mean 'queue_size'"),
        ({"settings": {"queue_size": 8}}, "queue_size 8 is smaller"),
    ],
)
def test_what_cannot_be_counted_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        count(**{"method": "moco", "preset": "quick", **arguments})
