# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Data and augmentation
#
# *Chapter 2 of 6. From a hospital's disk to a batch of views, and what must not get lost on the
# way.*
#
# **After this chapter you can**
#
# - turn 16-bit radiographs into 8-bit pictures without throwing the lungs away;
# - say which resampling filter matters at which size, and work out what fits in memory;
# - compare a network's receptive fields with the size of a lesion;
# - give the physical reason of every augmentation, and measure when one erases the finding;
# - time your input pipeline stage by stage, and say whether it or the network is the slower one.
#
# **It costs**
#
# | two CPU cores | Colab with a T4 | machine with an L4 | download |
# |---|---|---|---|
# | 1 min with nothing cached (estimated from 40 s of processor time and the drawing of the phantoms) | the same (estimated) | less, as it has more cores (estimated) | none |
#
# Nothing here needs a GPU, and quick and full mode are the same. Measured times are on the page
# *How to run it*.
#
# **You need** the phantom hospitals A and B of chapter 1, and its AUC with an interval.

# %% tags=["nbval-skip", "hide-cell"]
# On Colab: install scxr where it is missing. Its own torch and numpy stay as they are.
try:
    import scxr  # noqa: F401
except ImportError:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/scxr/scxr")

# %%
import inspect
import io
import shlex
import tempfile
import time
import tracemalloc
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
import torch
from IPython.display import Markdown, display
from PIL import Image
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from scxr import figures
from scxr.augment import Augmentation, AugmentationParameters, apply, draw, warp
from scxr.benchmarks import data as benchmark
from scxr.cli import main
from scxr.data import RadiographStore, decoding, open_data
from scxr.data.episodes import is_validation
from scxr.data.phantom import FINDINGS, PIXEL_STATISTICS, generate
from scxr.data.store import NORMAL, has_finding
from scxr.encoders import build_encoder, resize
from scxr.evaluate.statistics import auc, score_interval
from scxr.figures.style import COLOURS, INK, STYLE
from scxr.methods import METHODS
from scxr.seeds import generator
from scxr.widgets import AugmentationWidget

plt.rcParams.update(STYLE)

# %% tags=["remove-output", "nbval-ignore-output"]
hospital_a, hospital_b = open_data("phantom"), open_data("phantom:B")

# %% [markdown]
# ## Sixteen bits
#
# A detector measures some 4,000 shades of grey, and PadChest keeps them in 16-bit PNG files. A
# network, a memory and a disk are happier with 256. How the one becomes the other is usually one
# line of code that nobody looks at twice. We look at four such lines.
#
# As an example we take a phantom and spread it over a detector's range: 300 to 3,600 in a file
# that could hold 65,535.

# %%
example = generate([4], size=256, hospital="B", findings=[["calcified granuloma"]])
noise = np.random.default_rng(0).uniform(-0.5, 0.5, example.images[0].shape)
raw = (300 + 3300 * np.clip((example.images[0] + noise) / 255, 0, 1)).astype(np.uint16)

file = io.BytesIO()
Image.fromarray(raw).save(file, "PNG")
print(
    f"a PNG of {len(file.getvalue()):,} bytes, values {raw.min()} to {raw.max()}, "
    f"{len(np.unique(raw)):,} shades of grey"
)

# %%
ways = {
    "divide by 256": (raw // 256).astype(np.uint8),
    "divide by 256,\nthen stretch": decoding.normalise((raw // 256).astype(np.uint8)),
    'Pillow\'s\nconvert("L")': np.asarray(Image.open(file).convert("L")),
    "normalise,\nthen quantise": decoding.normalise(decoding.decode(file.getvalue())),
}
shades = {
    name.replace("\n", " "): [len(np.unique(p)), p.min(), p.max()] for name, p in ways.items()
}
pd.DataFrame.from_dict(shades, orient="index", columns=["shades", "darkest", "brightest"])

# %% tags=["hide-input"] mystnb={"image": {"alt": "One phantom in four conversions, whole and enlarged. Dividing by 256 gives a black picture; stretching that gives a picture with visible bands; Pillow's convert gives a white one; normalising first gives smooth greys."}, "figure": {"caption": "One 16-bit radiograph, four ways to 8 bits; below, the region around its granuloma, enlarged.", "name": "fig-bits"}}
y, x = (int(v.mean()) for v in np.nonzero(example.masks["calcified granuloma"][0]))
window = slice(max(0, y - 32), y + 32), slice(max(0, x - 32), x + 32)
pictures = list(ways.values())
figure = figures.image_grid(
    [pictures, [picture[window] for picture in pictures]], column_titles=list(ways), side=2.3
)
for axis in figure.axes:
    axis.spines[:].set_visible(True)  # or the white pictures could not be seen on white
display(figure)

# %% [markdown]
# Dividing by 256 assumes that the detector uses all 16 bits. It does not, so the picture is
# black. Stretching it afterwards makes it look right at thumbnail size, and the lung now consists
# of a handful of greys: what was rounded away does not come back. Pillow's `convert("L")` does
# something else again (in the version of this book it clips at 255). None of them raises an
# error.
#
# `scxr` maps the minimum and maximum of the *raw* values to 0 and 255, then rounds, then resizes,
# in this order:


# %%
def source(*things):
    """Show code of the package as it is."""
    return Markdown("\n".join(f"```python\n{inspect.getsource(thing)}```" for thing in things))


source(decoding.normalise, decoding.fit)

# %% [markdown]
# **What this does not solve:** a minimum and a maximum are two pixels. One bright lead letter or
# one dead pixel sets the scale for the whole lung. Percentiles are an alternative; the series
# uses the extremes (*SCARCE-CXR* code), and so do we, so that the numbers can be compared.

# %% [markdown]
# ## Lanczos or bilinear, and for whom it matters
#
# The series shrinks NIH images with a Lanczos filter and PadChest images with a bilinear one.
# Does a small lesion survive either? The phantom can draw the same chest with and without a
# granuloma; the difference is the lesion and nothing else. Shrinking is linear, so we can shrink
# the difference and see how much of its peak is left.

# %%
people = np.arange(6)
finding = "calcified granuloma"
sick = generate(people, size=1024, hospital="B", findings=[[finding]] * len(people))
well = generate(people, size=1024, hospital="B", findings=[[]] * len(people), masks=False)
lesions = (sick.images.astype(np.float32) - well.images) * sick.masks[finding]
diameters = 2 * np.sqrt(sick.masks[finding].sum(axis=(1, 2)) / np.pi)  # of a disc of that area
print("diameters in pixels at 256 x 256:", *(diameters / 4).round(1))


# %%
def pillow(kind):
    return lambda image, size: np.asarray(Image.fromarray(image).resize((size, size), kind))


def naive_bilinear(image, size):
    """Four neighbours and no more, as OpenCV and PyTorch do it unless they are asked."""
    tensor = torch.from_numpy(image)[None, None]
    return F.interpolate(tensor, (size, size), mode="bilinear", align_corners=False)[0, 0].numpy()


filters = {
    "Lanczos": pillow(Image.Resampling.LANCZOS),
    "bilinear (Pillow: averages)": pillow(Image.Resampling.BILINEAR),
    "bilinear (naive: skips pixels)": naive_bilinear,
}
peaks = [np.percentile(lesion[lesion != 0], 90) for lesion in lesions]
grain = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
left = pd.DataFrame(
    [
        {
            "filter": name,
            "size": size,
            "pixels": diameter * size / 1024,
            "peak": shrink(lesion, size).max() / peak,
        }
        for name, shrink in filters.items()
        for size in (256, 192, 128, 96, 64, 48, 32)
        for lesion, peak, diameter in zip(lesions, peaks, diameters, strict=True)
    ]
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "One granuloma in nine pictures: three filters in columns, the picture shrunken to 256, 64 and 32 pixels in rows. At 256 all three look alike, the naive one grainier; at 64 the granuloma is four pixels, dimmer after the averaging bilinear filter; at 32 it is a single pixel, dark grey after both averaging filters and bright after the naive one."}, "figure": {"caption": "The surroundings of one granuloma after the whole chest was shrunken to 256, 64 and 32 pixels.", "name": "fig-granuloma"}}
ROW = 2  # of the six, one of about the median size
y, x = (int(v.mean()) for v in np.nonzero(sick.masks[finding][ROW]))
cut = []
for size in (256, 64, 32):
    across = slice(max(0, x - 120) * size // 1024, min(1024, x + 120) * size // 1024)
    down = slice(max(0, y - 120) * size // 1024, min(1024, y + 120) * size // 1024)
    cut.append([shrink(sick.images[ROW], size)[down, across] for shrink in filters.values()])
figures.image_grid(
    cut,
    column_titles=[name.replace(" (", "\n(") for name in filters],
    row_titles=[f"{size} px" for size in (256, 64, 32)],
    side=1.7,
)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Share of a granuloma's peak that is left against its diameter in pixels of the shrunken picture, for three filters. Above five pixels all keep it. Below three pixels the averaging bilinear filter loses most, Lanczos overshoots first and loses later, and the naive filter scatters."}, "figure": {"caption": "How much of a lesion's peak is left, by its diameter in the shrunken picture: six granulomas, seven sizes, three filters.", "name": "fig-lanczos"}}
figure, axis = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
for (name, part), colour, marker in zip(
    left.groupby("filter", sort=False), COLOURS, "os^", strict=False
):
    axis.plot(part["pixels"], part["peak"], marker, color=colour, alpha=0.7, label=name)
axis.axhline(1, color=INK, ls=":", lw=1)
axis.set(
    xscale="log",
    xlabel="diameter in the shrunken picture, pixels",
    ylabel="peak left",
    ylim=(0, 1.3),
)
axis.set_xticks([1, 2, 3, 5, 10], ["1", "2", "3", "5", "10"])
axis.minorticks_off()
axis.legend(loc="lower right")
plt.show()

# %%
left["grain"] = [
    filters[f](grain, s).std() for f, s in zip(left["filter"], left["size"], strict=True)
]
left.groupby(["filter", "size"], sort=False)[["peak", "grain"]].mean().unstack("filter").round(2)

# %% [markdown]
# The table shows the mean share of the peak, and beside it what is left of pixel noise of
# standard deviation 1.
#
# - At 256 px, where the series works, **the choice hardly matters for these lesions**. It begins
#   to matter below about four pixels, where the averaging bilinear filter loses peak first and
#   Lanczos sharpens (values above 1 are its halo). That is not far away: if a picture of 256 px
#   shows 43 cm, a granuloma of 5 mm is three pixels.
# - The naive filter keeps peaks and keeps the *noise* as well: it looks at four pixels and skips
#   the rest, so below two pixels a lesion stays or goes depending on where the grid falls.
#   "Bilinear" in two libraries means two different things.
# - What does matter at 256 px is chapter 1: two filters for two data sets are a difference
#   between hospitals.


# %%
def sharpness(image):
    """Mean absolute difference of neighbouring pixels."""
    return np.abs(np.diff(image.astype(float), axis=0)).mean()


ratio = [
    sharpness(filters["Lanczos"](image, 256))
    / sharpness(filters["bilinear (Pillow: averages)"](image, 256))
    for image in sick.images
]
print("sharpness, Lanczos over bilinear, six chests at 256 px:", *np.round(ratio, 2))

# %% [markdown]
# Every single chest is sharper by about a tenth after Lanczos. To a network that is a label for
# the data set. `scxr` uses Lanczos for every source.

# %% [markdown]
# ## What fits in memory
#
# The series speaks of a RAM cache of 2 GB for its 112,120 NIH images at 256 x 256 (part 2). The
# arithmetic takes one line a format:

# %%
NIH = 112_120
formats = {
    "256 x 256, 8 bits": 256 * 256,
    "the same, and once more while np.stack copies it": 2 * 256 * 256,
    "256 x 256, float32": 256 * 256 * 4,
    "224 x 224, three channels of float32": 224 * 224 * 3 * 4,
    "1024 x 1024, 8 bits (as distributed)": 1024 * 1024,
}
fits = pd.DataFrame({"GB": {name: NIH * size / 1e9 for name, size in formats.items()}}).round(2)
for room, gigabytes in {"2 GB": 2, "22 GB (an L4)": 22, "64 GB (its host)": 64}.items():
    fits[f"in {room}"] = np.where(fits["GB"] < gigabytes, "fits", "-")
fits

# %%
print(
    f"2 GB hold {NIH:,} pictures of {int(np.sqrt(2e9 / NIH))} x {int(np.sqrt(2e9 / NIH))} pixels."
)

# %% [markdown]
# The rooms are those of the machine that the series rented (part 4: 22 GB on the GPU, 64 GB beside
# it). The second line is no theory. Here are a thousand pictures in a list, then stacked, while
# Python counts every byte that it holds:

# %%
tracemalloc.start()
listed = [np.zeros((256, 256), np.uint8) for _ in range(1000)]
before = tracemalloc.get_traced_memory()[0]
stacked = np.stack(listed)
peak = tracemalloc.get_traced_memory()[1]
tracemalloc.stop()
print(
    f"a list of 1,000 pictures: {before / 1e6:.0f} MB; peak while they are stacked: "
    f"{peak / 1e6:.0f} MB; so 112,120 of them peak at {NIH * peak / 1e12:.1f} GB"
)
del listed, stacked

# %% [markdown]
# So the cache is 7.35 GB and not 2, and twice that at its peak if a list of arrays is stacked. It
# is still the right idea: 8 bits, one channel, decoded once; it would even fit beside a network on
# the GPU. `scxr` writes the same bytes to a file and *maps* it: opening costs a header, the
# operating system keeps what is used, and worker processes share it.

# %% tags=["nbval-ignore-output"]
started = time.perf_counter()
store = RadiographStore.open(hospital_a.path)
opened = time.perf_counter()
batch = store.batch(np.random.default_rng(0).integers(0, len(store), 256))
read = time.perf_counter()
print(
    f"{type(store.images).__name__} of {store.images.nbytes / 1e6:.0f} MB: opened in "
    f"{1e3 * (opened - started):.1f} ms;\na batch of {tuple(batch.shape)} {batch.dtype} read in "
    f"{1e3 * (read - opened):.1f} ms"
)

# %% [markdown]
# Floating point appears only when a batch has reached the device that computes: a quarter of the
# bytes travel.

# %% [markdown]
# ## Two hospitals in numbers
#
# Pretraining happens on hospital A and the question is asked in hospital B. How far apart are
# they? The series measured both archives on raw values, frontal views only (an earlier
# measurement had found a shift of 0.226 in the mean, an artefact of lateral views and of
# normalising every image by itself).

# %%
stores = {"A": hospital_a, "B": hospital_b}
likeness = {"A": "NIH ChestX-ray14", "B": "PadChest"}
pd.DataFrame(
    {
        f"{name} (like {likeness[name]})": {
            "mean, this store": store.mean,
            "mean, archive (series)": PIXEL_STATISTICS[name][0],
            "std, this store": store.std,
            "std, archive (series)": PIXEL_STATISTICS[name][1],
        }
        for name, store in stores.items()
    }
).round(3)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Histograms of the grey values of hospitals A and B. Both have a peak at black and spread over the whole range; B has more dark and more bright greys, A more in the middle."}, "figure": {"caption": "Grey values of 400 images of each hospital.", "name": "fig-hospitals"}}
every = np.arange(0, 2000, 5)
values = {f"hospital {name}": store.images[every] for name, store in stores.items()}
figures.distributions(values, label="grey value, of 255", bins=64)

# %% [markdown]
# The phantom's display curves were fitted to these two pairs of numbers, so the agreement is no
# discovery. The lesson is in the comparison of the two columns: mean and standard deviation are
# nearly equal, and yet chapter 1's forest told the hospitals apart from a 32 x 32 picture. **Two
# numbers do not measure a domain gap.** Chapter 5 does it properly.
#
# One pair of constants travels inside the network (`Encoder.normalise`), the same in pretraining,
# evaluation and explanation. The series used ImageNet's constants in pretraining and X-ray
# constants afterwards.

# %% [markdown]
# ## What a ResNet can see at once
#
# A ResNet works in four stages. Each position of a stage's map sees a square of the picture, its
# **receptive field**, and neighbouring positions are a **stride** apart. Both follow from the
# kernels alone: a kernel of width $k$ adds $(k - 1)$ times the current stride to the field, and a
# stride multiplies the stride (He et al. 2015; Araujo et al. 2019).


# %%
def receptive_fields(encoder):
    """Width of the receptive field and stride of the four stages, pixels."""
    trunk = encoder.trunk
    stages = [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4]
    field, stride, rows = 1, 1, []
    for stage in [[trunk], *stages]:
        for block in stage:
            for name in ("conv1", "conv2", "conv3", "maxpool"):
                layer = getattr(block, name, None)
                if hasattr(layer, "kernel_size"):
                    kernel, step = np.ravel(layer.kernel_size)[0], np.ravel(layer.stride)[0]
                    field, stride = field + (kernel - 1) * stride, stride * step
        rows.append((int(field), int(stride)))
    return rows[1:]


stages = [f"stage {i}" for i in (1, 2, 3, 4)]
table = {}
for backbone in ("resnet18", "resnet50"):
    fields = receptive_fields(build_encoder(backbone, image_size=224, mean=0.5, std=0.25))
    table[f"{backbone}, field"], table[f"{backbone}, stride"] = zip(*fields, strict=True)
pd.DataFrame(table, index=stages)

# %% [markdown]
# Is the formula right? The gradient of one position says which pixels it depends on. We ask
# PyTorch.

# %%
encoder = build_encoder("resnet18", image_size=224, mean=0.5, std=0.25).eval()
picture = torch.rand(1, 1, 256, 256, generator=generator(0, "receptive field"), requires_grad=True)
reach = []
for stage in encoder.stages(picture)[:3]:
    middle = stage.shape[-1] // 2
    (gradient,) = torch.autograd.grad(stage[:, :, middle, middle].sum(), picture, retain_graph=True)
    columns = gradient[0, 0].abs().sum(dim=0)
    energy = (gradient[0, 0] ** 2).sum(dim=0)
    inner = torch.sort(energy, descending=True).values.cumsum(0) < 0.9 * energy.sum()
    reach.append((int((columns > 0).sum()), int(inner.sum()) + 1))
pd.DataFrame(reach, index=stages[:3], columns=["pixels it depends on", "columns with 90 % of it"])

# %% [markdown]
# It is (stage 4 reaches beyond this picture). And the last column shows what the formula does
# not: most of the influence comes from the middle. The *effective* field is much smaller than the
# theoretical one (Luo et al. 2016).
#
# Now the findings. We take the diameter of a disc with the finding's area, as a share of the
# picture's width, and lay the stages over it.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Diameters of the ten findings as shares of the picture's width, from calcified granuloma at a few per cent to interstitial pattern at sixty. Vertical lines mark the receptive fields of the stages of a ResNet-18 at 224 pixels: 19, 44 and 94 per cent."}, "figure": {"caption": "How large the findings are (median; the bars span the middle 80 %), and what the stages of a ResNet-18 see at 224 px: field as a solid line, stride as a dotted one.", "name": "fig-fields"}}
table = hospital_b.table
shows = {f: np.flatnonzero(has_finding(table["findings"], f)) for f in FINDINGS}
widths = {
    f: 2 * np.sqrt(hospital_b.masks(rows, f).mean(axis=(1, 2)) / np.pi) for f, rows in shows.items()
}
widths = dict(sorted(widths.items(), key=lambda item: np.median(item[1])))
spans = np.array([np.quantile(w, [0.1, 0.5, 0.9]) for w in widths.values()])
figure, axis = plt.subplots(figsize=(8, 4.2), layout="constrained")
axis.hlines(range(10), spans[:, 0], spans[:, 2], color=INK, lw=5, alpha=0.6)
axis.plot(spans[:, 1], range(10), "o", color=INK)
axis.set_yticks(range(10), list(widths))
axis.invert_yaxis()
for (field, stride), colour, name in zip(receptive_fields(encoder), COLOURS, stages, strict=False):
    axis.axvline(stride / 224, color=colour, ls=":")
    seen = f"field {field} px" if field <= 224 else "sees all"
    axis.axvline(min(field / 224, 2), color=colour, label=f"{name}: {seen}, stride {stride} px")
axis.xaxis.set_major_formatter("{x:.0%}")
axis.set(xlabel="share of the picture's width", xlim=(0, 1))
figure.legend(loc="outside lower center", ncols=2, fontsize=9)
plt.show()

# %% [markdown]
# A granuloma is smaller than one step of stage 4. By the theoretical fields a mass fits into
# stage 1 and fibrosis into stage 2; by the effective ones, less than half as wide, each moves a
# stage up. (A band is longer and thinner than its disc.) The features that this course evaluates
# are stage 4 averaged over all positions, so a granuloma has to make itself heard in one of 49
# cells, and then among 48 others. Chapter 5 looks at the earlier stages too.
#
# In quick mode pictures are 64 px and stage 4 has 2 x 2 positions: expect small findings to
# suffer there.

# %% [markdown]
# ## Views: changes that mean nothing
#
# Contrastive methods show a network two random **views** of one image and ask it to recognise
# them as the same. Whatever the augmentation changes, the network learns to ignore. So the
# augmentation *is* the supervision: it says what does not matter. Each of ours stands for
# something that differs between two exposures of one chest. The reasons stand beside the settings:

# %% tags=["hide-output"]
Markdown("```python\n" + inspect.getsource(Augmentation).split("\n    def ")[0].rstrip() + "\n```")

# %% tags=["hide-input"] mystnb={"image": {"alt": "A phantom with a pulmonary mass as it is and under each augmentation alone: a crop, a rotation, a flip, darker, brighter, less contrast, blurred, noisy. The outline of the mass moves along."}, "figure": {"caption": "One augmentation at a time, at about the strength of the series' recipe. The outline travels through the same geometry.", "name": "fig-augmentations"}}
row = shows["pulmonary mass"][
    np.argmax(hospital_b.masks(shows["pulmonary mass"], "pulmonary mass").sum(axis=(1, 2)))
]
image = hospital_b.batch([row]).float() / 255
mask = torch.from_numpy(hospital_b.mask(row, "pulmonary mass"))[None, None]
changes = {
    "as it is": {},
    "crop (40 %)": {"width": 0.63, "height": 0.63, "centre_x": 0.4, "centre_y": 0.45},
    "rotation 10°": {"angle": 10.0},
    "flip": {"flip": True},
    "brightness x 0.5": {"brightness": 0.5},
    "brightness x 1.5": {"brightness": 1.5},
    "contrast x 0.4": {"contrast": 0.4},
    "blur, 2 px": {"sigma": 2.0},
    "noise, 10 %": {"noise": 0.1},
}
drawn = [AugmentationParameters.identity(1, **change) for change in changes.values()]
figures.contact_sheet(
    np.stack([apply(image, p, 128)[0, 0].numpy() for p in drawn]),
    list(changes),
    masks=np.stack([warp(mask, p, 128)[0, 0].numpy() for p in drawn]),
    columns=5,
    side=2,
)

# %% [markdown]
# Physics gives each of them a reason, and a limit that recipes from photographs ignore:
#
# | augmentation | what really differs | where the likeness ends |
# |---|---|---|
# | crop | collimation, body size, distance | no radiographer collimates to 8 % of a chest |
# | rotation | how the patient stands or lies | the phantom's departments tilt by 1 or 2 degrees (standard deviation), recipes by up to 10 |
# | flip | nothing: there is no mirrored patient | the heart changes sides |
# | brightness | exposure: tube current and time | the picture shows a logarithm, so a longer exposure *adds* a constant to it, which normalising takes away again; a factor moves bright parts most |
# | contrast | tube voltage, scatter, the detector's curve | few departments display at a fifth of the contrast |
# | blur | focal spot, motion, detector | sigma is in pixels *of the view*: 2 px are more of a chest at 64 px than at 224 |
# | noise | the number of photons | real noise is strongest where few photons arrive; ours is the same everywhere |
#
# How strong is the noise that a radiograph has already? A structure of the chest is smooth over two
# pixels, noise is not. So the part of each 2 x 2 block that neither a slope nor an edge explains
# (the diagonal detail of a Haar wavelet; Donoho and Johnstone 1994) measures it:


# %%
def grain_of(pictures, low, high):
    """Noise of (n, H, W) uint8 pictures where their grey lies in [low, high], share of the range."""
    a, b = pictures[:, ::2, ::2] / 255, pictures[:, 1::2, 1::2] / 255
    c, d = pictures[:, 1::2, ::2] / 255, pictures[:, ::2, 1::2] / 255
    detail, grey = np.abs(a + b - c - d) / 2, (a + b + c + d) / 4
    here = detail[(grey >= low) & (grey < high)]
    edges = np.quantile(here, 0.9)  # the largest tenth: letters, borders, ribs
    return here[here <= edges].mean() / 0.657  # of a normal distribution cut there it would be 1


bands = {"lungs (0.1 to 0.3)": (0.1, 0.3), "between (0.3 to 0.8)": (0.3, 0.8)}
bands["heart and spine (0.8 to 0.95)"] = (0.8, 0.95)
sample = np.arange(0, 2000, 5)
grains = pd.DataFrame(
    {
        f"hospital {name}": {
            band: grain_of(h.images[sample], *ends) for band, ends in bands.items()
        }
        for name, h in {"A": hospital_a, "B": hospital_b}.items()
    }
)
grains.map("{:.2%}".format)

# %% tags=["hide-input"]
typical = grains.to_numpy().mean()
Markdown(
    f"The phantom's noise is about {typical:.1%} of the grey range, and stronger behind heart and "
    f"spine. The series adds 10 %, about {0.1 / typical:.0f} times as much. Since noise falls with the "
    f"square root of the number of photons, that is the picture of a chest exposed with "
    f"1/{(0.1 / typical) ** 2:.0f} of the dose."
)

# %% [markdown]
# Now move them yourself. The widget shows the original with the crop, the view, and how much of
# the finding is still inside. Try the smallest crop on the granuloma.

# %% tags=["nbval-ignore-output"]
chosen = ["calcified granuloma", "pulmonary mass", "hiatal hernia"]
rows = np.array([shows[name][3] for name in chosen])
AugmentationWidget(
    hospital_b.images[rows],
    {name: hospital_b.masks(rows, name) for name in chosen},
    chosen,
    METHODS["moco"].presets["full"].augmentation,
)

# %% [markdown]
# ## When an augmentation erases the finding
#
# Two views of a chest with a granuloma, and the crop of the second one misses it. The loss asks
# for the same features. That is an instruction to *forget* the granuloma. How often is it given?
#
# First the crop. We send the true masks through it: for each finding 20 images, 20 random crops each, at a
# fixed share of the picture's area. A finding counts as *visible* when at least half of it is in
# the view, or when it fills at least a tenth of the view (a diffuse finding is still there in a
# small crop of the lung); otherwise the view has **lost** it.

# %%
SCALES = (0.08, 0.2, 0.4, 0.6, 0.8, 1.0)
IMAGES, DRAWS = 20, 20


def visible(masks, settings, source):
    """(n * DRAWS,) bool: whether random views of n images show the finding (see above)."""
    parameters = draw(settings, len(masks) * DRAWS, source)
    covers = warp(masks.repeat_interleave(DRAWS, 0), parameters, 96).float().mean(dim=(1, 2, 3))
    area = masks.float().mean(dim=(1, 2, 3)).repeat_interleave(DRAWS)
    left = covers * parameters.width * parameters.height / area
    return (left >= 0.5) | (covers >= 0.1)


masks = {
    name: torch.from_numpy(hospital_b.masks(rows[:IMAGES], name))[:, None]
    for name, rows in shows.items()
}
lost = {}
for name in widths:
    for scale in SCALES:
        crops = Augmentation(crop_scale=(scale, scale))
        gone = ~visible(masks[name], crops, generator(0, name, str(scale)))
        lost[name, scale] = gone.float().mean().item()
lost = pd.Series(lost).unstack().loc[list(widths)]
lost.columns = [f"{scale:.0%}" for scale in SCALES]

# %% tags=["hide-input"] mystnb={"image": {"alt": "A table in colours: for each of ten findings and six crop sizes the share of views that lose the finding. At 8 per cent of the area most views lose a small finding and fewer a diffuse one; from 80 per cent on almost none does."}, "figure": {"caption": "Share of views that have lost the finding, by the crop's share of the picture's area.", "name": "fig-erased"}}
figure, axis = plt.subplots(figsize=(7.5, 4), layout="constrained")
sns.heatmap(lost, annot=True, fmt=".0%", cmap="YlOrBr", vmin=0, vmax=1, cbar=False, ax=axis)
axis.grid(False)
axis.set(xlabel="area of the crop", ylabel="")
plt.show()

# %% [markdown]
# What do the recipes do with that? They draw the crop's area anew for each view, between a
# smallest share and all of the picture. A pair can only teach something about a finding if
# **both** views show it.

# %%
recipes = {
    "MoCo and BarlowTwins, series": METHODS["moco"].presets["full"].augmentation,
    "DINO, series": METHODS["dino"].presets["full"].augmentation,
    "quick mode": METHODS["moco"].presets["quick"].augmentation,
}
both = {}
for recipe, settings in recipes.items():
    low, high = settings.crop_scale
    for name in widths:
        views = [visible(masks[name], settings, generator(0, name, side)) for side in "ab"]
        shown = (views[0] & views[1]).float().mean().item()
        both[name, f"{recipe}: {low:g} to {high:g}"] = shown
both = pd.Series(both).unstack(sort=False)
both.loc["mean over findings"] = both.mean()
both.map("{:.0%}".format)

# %% [markdown]
# Small findings are seen twice in about half of the pairs of the wide recipe, and in at least seven
# of ten pairs of the narrower ones. The wide one comes from ImageNet, where the object
# fills the picture and half a dog is still a dog.
#
# **What this does not show** is that small crops are bad: they teach anatomy well, and a finding
# that one pair misses is met in another. It shows what the network is asked for. Whether that
# costs AUC is a question for an experiment, and the field has asked it: views should share what
# the task needs and nothing else (Tian et al. 2020; Xiao et al. 2020).

# %% [markdown]
# ### What the grey values do
#
# A finding can stay inside the crop and vanish all the same. The phantom draws each chest with and
# without the finding; we send *both* through one augmentation. What is left of their difference (the
# **signal** below) is all that any network could still see. Jitter of 0.8, as in the series, draws factors between 0.2
# and 1.8.

# %%
changes = {
    "brightness x 0.2": {"brightness": 0.2},
    "brightness x 1.5": {"brightness": 1.5},
    "brightness x 1.8": {"brightness": 1.8},
    "contrast x 0.2": {"contrast": 0.2},
    "contrast x 1.8": {"contrast": 1.8},
    "blur 2 px of 128": {"sigma": 2.0},
}
twenty = np.arange(20)
without = generate(twenty, hospital="B", findings=[[]] * 20, masks=False).images
drawn_with = {name: generate(twenty, hospital="B", findings=[[name]] * 20) for name in widths}
# Outside the outline both are the same to the bit, so that nothing but the finding is measured.
shown = {name: np.where(d.masks[name], d.images, without) for name, d in drawn_with.items()}


def signal(name, parameters, size=128):
    """(20,) how far the views with and without a finding differ: root of the sum of squares."""
    views = (apply(torch.from_numpy(x)[:, None], parameters, size) for x in (shown[name], without))
    return torch.sub(*views).square().sum(dim=(1, 2, 3)).sqrt()


def only(**change):
    """Nothing but one change."""
    return AugmentationParameters.identity(20, blur_kernel=23, **change)


kept = pd.DataFrame(
    {
        change: {f: (signal(f, only(**how)) / signal(f, only())).median().item() for f in widths}
        for change, how in changes.items()
    }
)
kept["blur 2 px of 64"] = [
    (signal(f, only(sigma=2.0), 64) / signal(f, only(), 64)).median().item() for f in widths
]

# %% tags=["hide-input"] mystnb={"image": {"alt": "A table in colours: for each of ten findings and seven changes the share of its signal that is left. A factor of 0.2 leaves a fifth of every finding. Brightening raises most findings, but leaves 42 and 13 per cent of a hiatal hernia. A blur of two pixels leaves about half of a granuloma at 128 pixels, a third at 64."}, "figure": {"caption": "Share of a finding's signal that is left (median of 20 chests; more than 100 % is amplified). Views of 128 px; the last column: a blur of 2 px in views of 64 px.", "name": "fig-signal"}}
figure, axis = plt.subplots(figsize=(8, 4.4), layout="constrained")
sns.heatmap(kept, annot=True, fmt=".0%", cmap="YlOrBr_r", vmin=0, vmax=1, cbar=False, ax=axis)
axis.grid(False)
axis.set_xticklabels([name.replace(" x", "\nx").replace("of", "\nof") for name in kept])
axis.tick_params(axis="x", rotation=0, labelsize=9)
plt.show()

# %% [markdown]
# Three kinds of loss, and they are not alike.
#
# - **A small factor** shrinks everything alike. A network can undo that, as long as the noise that
#   comes afterwards does not drown what is left. (Diffuse findings keep a little more under low
#   contrast: they move the mean about which contrast is scaled.)
# - **Saturation** cannot be undone. A hiatal hernia lies between heart and spine, which are bright; a
#   factor of 1.8 pushes them to white, and the finding with them. A raised dome loses a part. The
#   eight others are *amplified* by the same factor. So the jitter that helps eight findings erases
#   the ninth, and a mean over findings hides it.
# - **Blur** eats what is small: the granuloma first, and more of it the fewer pixels a view has.
#
# How often does it happen? We draw from two recipes for MoCo, leave geometry and noise out, and
# call a finding lost in a view if at most a quarter of its signal is left there.

# %%
STILL = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "rotation": 0.0, "flip": 0.0}
greys = {kind: replace(p.augmentation, **STILL) for kind, p in METHODS["moco"].presets.items()}


def faint(name, settings, limit=0.25, draws=10):
    """Share of random views in which at most `limit` of the signal is left."""
    losses = []
    for turn in range(draws):
        drawn = draw(settings, 20, generator(0, "grey", name, str(turn)))
        drawn = replace(drawn, noise=torch.zeros(20))
        losses.append(signal(name, drawn) / signal(name, only()) <= limit)
    return torch.cat(losses).float().mean().item()


vanishes = pd.DataFrame(
    {
        whose: {name: faint(name, greys[kind]) for name in widths}
        for kind, whose in {"full": "series", "quick": "quick mode"}.items()
    }
)
strengths = {kind: (g.brightness, g.contrast, g.blur_sigma[1]) for kind, g in greys.items()}
print("brightness, contrast, largest blur:", strengths)
vanishes.map("{:.0%}".format)

# %% tags=["hide-input"]
in_series, in_quick = vanishes["series"], vanishes["quick mode"]
others = in_series.drop(["hiatal hernia", "calcified granuloma"])
Markdown(
    f"By the grey values alone, the series' recipe loses a **hiatal hernia** in "
    f"**{in_series['hiatal hernia']:.0%}** of its views and a calcified granuloma in "
    f"{in_series['calcified granuloma']:.0%}; the others in {others.min():.0%} to {others.max():.0%}. "
    f"The milder recipe of this course's quick mode loses a hernia in {in_quick['hiatal hernia']:.0%}."
)

# %% [markdown]
# **What this does not show:** what a network makes of it. It bounds what *can* be learnt from a
# pair: where the signal is gone in one view, agreement teaches to ignore it.

# %% [markdown]
# ## The flip
#
# "A flip is harmless" is the kind of sentence that is true until it is not. Where is the heart?

# %%
normal = np.flatnonzero(has_finding(table["findings"], NORMAL))
hearts = hospital_b.masks(normal, "heart")
centres = (hearts * np.arange(128)).sum(axis=(1, 2)) / hearts.sum(axis=(1, 2))
share = (centres > 63.5).mean()
print(
    f"In {share:.1%} of {len(normal):,} normal chests the heart's centre lies to the right of the "
    "picture's middle, which is the patient's left."
)

# %% [markdown]
# A flipped chest is one with *situs inversus*, a rare variant of anatomy. A network that has
# learnt to take it for the same chest cannot tell left from right; whether that matters depends
# on the question. We ask two about hemidiaphragm elevation, with a logistic regression on pixels,
# trained with and without mirrored copies:
#
# - *Is a dome raised?* (against as many normal chests)
# - *Which one?*

# %%
finding = "hemidiaphragm elevation"
raised = shows[finding]
regions = hospital_b.masks(raised, finding)
left_side = (regions * np.arange(128)).sum(axis=(1, 2)) / regions.sum(axis=(1, 2)) > 63.5
control = np.random.default_rng(0).permutation(normal)[: len(raised)]
questions = {
    "Is a dome raised?": (np.concatenate([raised, control]), np.repeat([1, 0], len(raised))),
    "Which one?": (raised, left_side.astype(int)),
}


def with_interval(labels, scores):
    """AUC and chapter 1's closed-form interval, as text."""
    value, positives = auc(labels, scores), int(labels.sum())
    low, high = score_interval(value, positives, len(labels) - positives)
    return f"{value:.2f} ({low:.2f} to {high:.2f})"


def ask(rows, labels, mirrored):
    """Train on 32 x 32 pixels; score held-out patients as they are, and mirrored."""
    pictures = resize(hospital_b.batch(rows).float() / 255, 32)
    test = is_validation(table["patient"].iloc[rows])
    train, target = pictures[~test], labels[~test]
    if mirrored:
        train, target = torch.cat([train, train.flip(-1)]), np.concatenate([target, target])
    model = LogisticRegression(C=0.01, max_iter=2000).fit(train.flatten(1), target)
    plain, mirror = (
        model.decision_function(x.flatten(1)) for x in (pictures[test], pictures[test].flip(-1))
    )
    return labels[test], plain, mirror


answers = {}
for column, mirrored in {"trained as they are": False, "with mirrored copies": True}.items():
    truth, plain, _ = ask(*questions["Is a dome raised?"], mirrored)
    side, seen, seen_in_mirror = ask(*questions["Which one?"], mirrored)
    answers[column] = {
        "Is a dome raised?": with_interval(truth, plain),
        "Which one?": with_interval(side, seen),
        "Which one, in the mirror? (it is the other one)": with_interval(1 - side, seen_in_mirror),
    }
pd.DataFrame(answers)

# %% [markdown]
# For *whether*, mirrored copies are more data of the same kind. For *which side*, look at the
# last row. The model without copies leans to the right answer even in the mirror, although it has
# never seen a heart on that side: it has learnt a side. The model with copies gives a picture and
# its mirror image the same score, necessarily, so what is right in one is wrong in the other.
# That it still does well in the second row came as a surprise: a raised left dome, below the
# heart, is not the mirror image of a raised right one, and the *kind* of picture gives the side
# away. It works as long as every heart is on the left.
#
# The rule: **an augmentation is harmless with respect to a question.** If laterality is part of
# yours, set it to zero: `scxr pretrain moco ... --set augmentation.flip=0`.

# %% [markdown]
# ## How fast is it?
#
# Many pipelines are slower than the network they feed. First ours, stage by stage: what a core
# spends on one view, with the series' augmentations for MoCo.

# %% tags=["nbval-ignore-output"]
stages = pd.concat([pd.DataFrame(benchmark.stages(size)) for size in (64, 224)])
stages.pivot(index="stage", columns="size", values="microseconds").reindex(
    stages["stage"].unique()
).add_suffix(" px, µs a view").round(1)

# %% [markdown]
# Crop, rotation and flip are one affine map with one resampling, and every image of the batch has
# a draw of its own. Reading from the store is hardly visible: bytes are gathered from a memory
# map by a thread, while the step before still computes.
#
# Beside it the usual ways, with the same augmentations on the same images and as many cores:
# Pillow and torchvision image by image in worker processes (as in the series), torchvision's
# tensor transforms, kornia, and lightly.

# %% tags=["nbval-ignore-output"]
speed = pd.DataFrame(benchmark.run([64], seconds=0.5, repeats=2))
speed[["pipeline", "views_per_second", "ratio", "slowest", "fastest"]]

# %% [markdown]
# The `ratio` is to Pillow's. Medians of two turns; the range says how quiet the machine was.
# *One draw a batch* is the trap in the table: torchvision's transforms on a whole batch give every
# image the same crop and the same blur, which is not what pretraining needs.
#
# Fast enough for what? For the network behind it. One more measurement: how many images a second a
# ResNet-18 learns from at this size (forward and backward, one view each) on the same cores.

# %% tags=["nbval-ignore-output"]
network = build_encoder("resnet18", image_size=64, mean=0.5, std=0.25).train()
views = torch.rand(64, 1, 64, 64, generator=generator(0, "views"))
times = []
for _ in range(4):
    started = time.perf_counter()
    network(views).square().mean().backward()
    times.append(time.perf_counter() - started)
learns = len(views) / min(times)
waits = speed.set_index("pipeline")["views_per_second"]
pd.DataFrame(
    {
        "views a second": waits,
        "time added to a step, if nothing overlaps": (learns / waits).map("{:.0%}".format),
    }
).rename(columns={"views a second": f"views a second (the network takes {learns:.0f})"})

# %% [markdown]
# On CPU cores the network is the slow part, and the pipeline only adds its share. On a GPU it turns
# round: the network becomes many times faster, and a pipeline that stays on a few CPU cores does
# not. That is why ours moves along: on a GPU the same code runs there, without workers, and the next
# batch travels while the step computes. To find out what limits *your* training, look at `waiting`
# in the `log.jsonl` of a run: the share of the time in which a step had to wait for its images. On
# your machine, `scxr bench data` repeats the first table, and `scxr bench step` does the same for
# whole training steps.

# %% [markdown]
# ## Take-away
#
# > - Normalise the raw values, then quantise, then resize, the same way for every source. The wrong
# >   order raises no error.
# > - 112,120 pictures at 256 px are 7.35 GB, not 2; a memory map makes that a matter of the disk.
# > - A lesion of less than three pixels depends on the filter; one of less than a stride has to
# >   shout.
# > - The augmentation tells the network what to ignore. A crop can miss the finding, saturation can
# >   wipe it out, blur eats the small ones. Check each finding by itself; a mean hides the one that
# >   vanishes.
# > - A flip, like every augmentation, is harmless with respect to a question.

# %% [markdown]
# ## Check yourself
#
# **1.** Your network was trained on pictures that came from `raw // 256`, and the loss went down
# nicely. What did it look at?
#
# <details><summary>Answer</summary>
#
# At whatever survives in a dozen greys: outlines of the body and of the lungs, collimator, lead
# letter. Losses go down on those as well. Look at a batch, and count the shades.
#
# </details>
#
# **2.** You double the input from 224 to 448 px. What happens to receptive field and stride of
# stage 4, in pixels and in centimetres of the patient?
#
# <details><summary>Answer</summary>
#
# In pixels nothing: they follow from the kernels. In centimetres both halve. The map grows from 7
# x 7 to 14 x 14, a lesion covers four times as many cells, and the field no longer covers the
# whole chest.
#
# </details>
#
# **3.** A colleague reports that crops down to 8 % gave a better AUC for *interstitial pattern*
# and a worse one for *calcified granuloma*. Do you believe it?
#
# <details><summary>Answer</summary>
#
# It would fit the table of lost findings: a diffuse one is in most crops, a granuloma in few. But
# look for the intervals first (chapter 1): with a few dozen positives each, both changes may be
# noise.
#
# </details>

# %% [markdown]
# ## Exercises
#
# Try each one first; its solution has been run and opens below it.
#
# **1. A finding-safe crop.** Draw crops with `crop_scale=(0.6, 1.0)` and compute the share of
# pairs that show each finding twice. What does the network lose in exchange?

# %% tags=["hide-cell"]
safe = Augmentation(crop_scale=(0.6, 1.0))
pairs_that_show = {}
for name in widths:
    views_of = [visible(masks[name], safe, generator(0, "safe", name, side)) for side in "ab"]
    pairs_that_show[name] = (views_of[0] & views_of[1]).float().mean().item()
drawn = draw(safe, 2000, generator(0, "safe", "overlap"))
other = draw(safe, 2000, generator(1, "safe", "overlap"))
overlap = 1.0
for centre, length in (("centre_x", "width"), ("centre_y", "height")):
    ends = [
        (getattr(p, centre) - getattr(p, length) / 2, getattr(p, centre) + getattr(p, length) / 2)
        for p in (drawn, other)
    ]
    overlap *= (torch.minimum(ends[0][1], ends[1][1]) - torch.maximum(ends[0][0], ends[1][0])).clip(
        0
    )
print(f"both views share {overlap.mean():.0%} of the picture's area on average")
pd.Series(pairs_that_show).map("{:.0%}".format).to_frame("both views show it")
# Nearly every pair keeps the finding (a callus least, at the edge of the chest). But two views that share so much of the picture can be
# recognised by its frame, letter and collimator (chapter 1), which no crop removes any more.

# %% [markdown]
# **2. Noise and contrast.** At which `noise_std` does a granuloma drown? Compare its mean contrast
# with the noise of one pixel, and its whole signal (as above) with it: an observer who knows
# exactly what to look for sees the ratio of the latter two. Do it for views of 128 px and of 64 px.

# %% tags=["hide-cell"]
granuloma = "calcified granuloma"
rows = {}
for size in (128, 64):
    whole = AugmentationParameters.identity(20)
    here = apply(torch.from_numpy(shown[granuloma])[:, None], whole, size)
    there = apply(torch.from_numpy(without)[:, None], whole, size)
    inside = warp(torch.from_numpy(drawn_with[granuloma].masks[granuloma])[:, None], whole, size)
    difference = (here - there) * inside
    contrast = (difference.sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3))).median().item()
    total = difference.square().sum(dim=(1, 2, 3)).sqrt().median().item()
    rows[f"{size} px"] = {
        "mean contrast: drowns one pixel at noise_std": contrast,
        "whole signal: ratio 2 at noise_std": total / 2,
        "ratio at noise_std 0.1": total / 0.1,
    }
pd.DataFrame(rows).round(2)
# One pixel drowns at about the contrast itself. The eye, and a network, add up pixels, so the whole
# granuloma stands far more noise, though about half as much at 64 px as at 128 px, which have four times the
# pixels. Noise of 0.1 does not erase it. With jitter before it (a fifth of the signal) it comes near.

# %% [markdown]
# **3. Your own radiographs.** Import a folder, and look at its numbers before anything else:
#
# ```bash
# scxr data import folder radiographs/ --labels labels.csv --out stores/mine
# scxr data info stores/mine
# scxr data verify stores/mine
# ```
#
# Files that cannot be read are listed with the reason. Then compare your greys with those of A and
# B, and measure your noise. The solution does it with 16-bit phantoms in place of yours, one of
# them broken: put your path into `radiographs`.

# %% tags=["hide-cell", "nbval-ignore-output"]
work = Path(tempfile.mkdtemp())
radiographs = work / "radiographs"
radiographs.mkdir()
mine = generate(np.arange(9000, 9040), size=256, hospital="B", masks=False)
for name, picture in zip(mine.table["image"], mine.images, strict=True):
    Image.fromarray(300 + 13 * picture.astype(np.uint16)).save(radiographs / f"{name}.png")
(radiographs / "broken.png").write_bytes(b"half a file")
labels = mine.table[["image", "patient", "view", "findings"]]
labels = pd.concat([labels, pd.DataFrame([{"image": "broken", "patient": "somebody"}])])
labels.to_csv(work / "labels.csv", index=False)


def shell(line):
    """What the terminal does with `line`."""
    print("$", line)
    with chdir(work):
        main(shlex.split(line)[1:])


shell("scxr data import folder radiographs --labels labels.csv --out mine")
shell("scxr data verify mine")

own = RadiographStore.open(work / "mine")
print(f"mean {own.mean:.3f}, standard deviation {own.std:.3f}")
print({band: f"{grain_of(own.images[:], *ends):.2%}" for band, ends in bands.items()})
# The widget takes your pictures as well; give it `own.images[:4]`.

# %% [markdown]
# ## Further reading
#
# - K. He et al., *Deep residual learning for image recognition*, 2015, arXiv:1512.03385.
# - A. Araujo, W. Norris, J. Sim, *Computing receptive fields of convolutional neural networks*,
#   Distill, 2019.
# - W. Luo et al., *Understanding the effective receptive field in deep convolutional neural
#   networks*, 2016, arXiv:1701.04128.
# - C. Szegedy et al., *Going deeper with convolutions*, 2014, arXiv:1409.4842 (the random resized
#   crop).
# - Y. Tian et al., *What makes for good views for contrastive learning?*, 2020, arXiv:2005.10243.
# - T. Xiao et al., *What should not be contrastive in contrastive learning*, 2020,
#   arXiv:2008.05659.
# - H. Sowrirajan et al., *MoCo-CXR*, 2020, arXiv:2010.05352 (augmentations for chest
#   radiographs).
# - D. Donoho, I. Johnstone, *Ideal spatial adaptation by wavelet shrinkage*, Biometrika 81, 1994
#   (noise from the finest wavelet coefficients).
# - A. Bustos et al., *PadChest*, 2019, arXiv:1901.07441.
