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
# # Distillation and masking
#
# *Chapter 4 of 6. A loss that will not move, a picture with seams, and what either says about the
# method.*
#
# **After this chapter you can**
#
# - compute DINO's loss by hand, and read its plateau: which of two very different failures it is;
# - name what centring and sharpening are for, and watch each of them fail alone;
# - compare a run with the official settings before blaming the data;
# - say what "leakage" means in masked modelling of convolutional networks, and measure it;
# - explain where the seams in a reconstruction come from, and remove them without retraining;
# - read a recipe's optimiser and schedule, and reckon what it costs before you pay for it.
#
# **It costs**
#
# | two CPU cores | Colab with a T4 | machine with an L4 | download |
# |---|---|---|---|
# | 3.5 min with nothing cached (estimated from the training speeds in the runs' logs) | not measured | not measured | none |
#
# Pretraining takes most of it; later chapters reuse the two longest runs. In full mode the same
# cells train the published recipes, for days on one GPU. Measured times are on the page *How to
# run it*.
#
# **You need** the views of chapter 2 and the collapse monitor of chapter 3.

# %% tags=["nbval-skip", "hide-cell"]
# On Colab: install scxr where it is missing. Its own torch and numpy stay as they are.
try:
    import scxr  # noqa: F401
except ImportError:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/scxr/scxr")

# %% tags=["nbval-ignore-output"]
import inspect
import math
import shlex
import tempfile
from contextlib import chdir
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from PIL import Image
from scipy.ndimage import distance_transform_edt
from torch.utils.flop_counter import FlopCounterMode

from scxr import course, figures, published
from scxr.cli import main
from scxr.data import open_data
from scxr.data.phantom import generate
from scxr.encoders import resize
from scxr.explain.exposure import feathered, spread, stitched_statistics
from scxr.explain.reconstruction import Reconstruction, load_spark, over_training, reconstruct
from scxr.figures.style import COLOURS, INK, STYLE
from scxr.memory.step import fake_step
from scxr.methods import METHODS, dino, spark
from scxr.optimisation import learning_rate
from scxr.pretrain import build_method, preset_settings
from scxr.seeds import generator
from scxr.widgets import ReconstructionWidget

plt.rcParams.update(STYLE)
pd.set_option("display.max_colwidth", None)
pool = course.pretraining_data()


def source(*things):
    """Show code of the package as it is."""
    return Markdown("\n".join(f"```python\n{inspect.getsource(thing)}```" for thing in things))


f"{course.mode()} mode, {len(pool):,} radiographs without labels"

# %% [markdown]
# ## Learning from yourself
#
# Chapter 3 kept the lazy answer away with other radiographs. **Self-distillation** has none. A
# *student* looks at one view, a *teacher* at another, and the student has to predict what the
# teacher says. The teacher is the student's own running average; it gets no gradient. The lazy
# answer is now within reach: both say the same about every picture.
#
# DINO (Caron et al. 2021) lets both networks choose among $K$ **prototypes**. The outputs are
# cosines to $K$ learnt directions; a softmax turns them into an assignment, and the loss is the
# cross-entropy of the student's against the teacher's. Two operations on the teacher's side keep
# the agreement from becoming empty:
#
# - **centring** subtracts a running mean of the teacher's outputs, so that no prototype wins for
#   all pictures;
# - **sharpening** divides by a temperature below the student's, so that the target is more
#   decided than the student.
#
# ## DINO, step by step
#
# Three radiographs, four prototypes. Radiographs are alike, so the teacher gives much the same
# outputs to all of them: the first prototype always leads, and the differences are small.

# %%
teacher = torch.tensor([
    [0.80, 0.30, 0.20, 0.10],
    [0.75, 0.40, 0.15, 0.15],
    [0.78, 0.25, 0.30, 0.10],
])  # fmt: skip
centre = teacher.mean(dim=0)
assignments = {
    "sharpened only": torch.softmax(teacher / 0.04, dim=1),
    "centred only (T = 1)": dino.centred_targets(teacher, centre, 1.0),
    "centred and sharpened (T = 0.04)": dino.centred_targets(teacher, centre, 0.04),
}
table = pd.concat(
    {
        name: pd.DataFrame(
            a.numpy(),
            columns=[f"prototype {i}" for i in range(1, 5)],
            index=["radiograph 1", "radiograph 2", "radiograph 3"],
        )
        for name, a in assignments.items()
    }
)
table.round(3)

# %% [markdown]
# Sharpened alone, everybody gets prototype 1. Centred alone, everybody gets a bit of everything.
# Together they bring out what differs between radiographs. The loss is then an ordinary
# cross-entropy; here the student's outputs equal the teacher's.

# %%
targets = assignments["centred and sharpened (T = 0.04)"]
log_p = torch.log_softmax(teacher / 0.1, dim=1)
by_hand = -(targets * log_p).sum(dim=1).mean()
ours = dino.dino_loss([teacher, teacher], [teacher, teacher], centre, 0.1, 0.04)
print(f"by hand {by_hand:.4f}, scxr.methods.dino.dino_loss {ours:.4f}, ln K = {math.log(4):.4f}")

# %% [markdown]
# That is *worse* than $\ln K$, the loss of somebody who says nothing. The outputs of the student
# are not centred: it is sure of prototype 1 for all three radiographs, and wrong about two. In the
# package the loss is two functions:

# %%
source(dino.centred_targets, dino.cross_view_entropy)

# %% [markdown]
# ## How to read a plateau
#
# The loss of a student and a teacher that say nothing is $\ln K$: both uniform. The series
# reports (part 4) that the loss of its DINO run flatlined at 5.42, and describes a head with
# $K = 65{,}536$, the size of which it also tried to lower.

# %%
rows = []
for K in (256, 1024, 65_536):
    rows.append(
        {
            "K": K,
            "ln K": math.log(K),
            "5.42 below ln K": math.log(K) - 5.42,
            "exp(5.42) / K": math.exp(5.42) / K,
        }
    )
print(f"exp(5.42) = {math.exp(5.42):.0f}")
pd.DataFrame(rows).set_index("K").round(3)

# %% [markdown]
# With 65,536 prototypes a loss of 5.42 would have been a success: the cross-entropy bounds the
# entropy of the targets from above, so a radiograph would have been spread over the equivalent of
# at most $e^{5.42}$, or 226, prototypes out of 65,536. The public code of the series ran
# $K = 256$. There, 226 of 256 is next to nothing: the plateau lies 0.125 below that of a
# network that says nothing. **A loss means nothing without its $\ln K$.**
#
# A flat loss comes in two kinds. In one, every radiograph gets the *uniform* assignment, and the
# loss sits at $\ln K$. In the other, every radiograph gets the *same* assignment, and the loss
# can be anything, down to 0. The logged loss cannot tell either from learning. Two entropies can:
# that of the single targets, $H$, and that of their mean over the batch. Their difference is the
# **mutual information** between radiograph and prototype. It is 0 in both failures.

# %%
source(dino.DINO._observe)

# %% [markdown]
# ## A system that fits on a page
#
# Does self-distillation need visual diversity, as the series concludes? Take the network away and
# keep only the head. There are sixteen kinds of "radiograph", each a random direction, with a
# little noise in each view. A knob sets how much all have in common: it adds the same vector to
# all of them, which is what one modality, one anatomy and one grey scale do. Student and teacher
# are 32 prototypes. If all works, the mutual information approaches $\ln 16 = 2.77$.


# %%
def self_distillation(
    common,
    *,
    centre_momentum=0.9,
    teacher_temperature=0.04,
    sinkhorn=False,
    standardise=False,
    steps=300,
):
    """DINO's head on sixteen kinds of inputs; one row a step."""
    g = generator(0, "distillation")
    kinds, shared = torch.randn(16, 32, generator=g), common * torch.randn(32, generator=g)
    student = torch.randn(32, 32, generator=g).requires_grad_()
    teacher, centre = student.detach().clone(), torch.zeros(32)
    optimizer = torch.optim.Adam([student], lr=0.02)
    rows = []
    for _ in range(steps):
        kind = torch.randint(16, (128,), generator=g)
        views = [shared + kinds[kind] + 0.3 * torch.randn(128, 32, generator=g) for _ in range(2)]
        if standardise:
            views = [(v - v.mean(dim=0)) / v.std(dim=0) for v in views]
        views = [F.normalize(v, dim=1) for v in views]
        said, meant = ([v @ F.normalize(w, dim=1).T for v in views] for w in (student, teacher))
        if sinkhorn:
            targets = [dino.sinkhorn_targets(m.detach(), teacher_temperature) for m in meant]
        else:
            targets = [dino.centred_targets(m.detach(), centre, teacher_temperature) for m in meant]
        loss = dino.cross_view_entropy(said, targets, 0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        teacher.lerp_(student.detach(), 0.1)
        centre.lerp_(torch.cat(meant).detach().mean(dim=0), 1 - centre_momentum)
        p = torch.cat(targets)
        entropy = torch.special.entr(p).sum(dim=1).mean().item()
        information = torch.special.entr(p.mean(dim=0)).sum().item() - entropy
        rows.append(
            {"loss": loss.item(), "target entropy": entropy, "mutual information": information}
        )
    return pd.DataFrame(rows), (views[0] @ views[0].T).mean().item()


recipes = {
    "no centring": {"centre_momentum": 1.0},
    "centre momentum 0.99": {"centre_momentum": 0.99},
    "centre momentum 0.9 (official)": {},
    "teacher as soft as 0.2": {"teacher_temperature": 0.2},
    "Sinkhorn instead of centring": {"sinkhorn": True},
    "inputs standardised over the batch": {"standardise": True},
}
trials = {}
for common in (0, 3, 6):
    for name, recipe in recipes.items():
        trials[common, name] = self_distillation(common, **recipe)

# %% tags=["nbval-ignore-output"]
alike = {common: f"mean cosine {trials[common, 'no centring'][1]:.2f}" for common in (0, 3, 6)}
read = ["loss", "mutual information"]
ends = {
    (alike[common], name): history[read].iloc[-20:].mean()
    for (common, name), (history, _) in trials.items()
}
wide = pd.DataFrame(ends).T.unstack(0).swaplevel(axis=1)
wide[list(alike.values())].loc[list(recipes)].round(2)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels over 300 steps for inputs with a mean cosine of about 0.9, one line a recipe. Left, the loss with ln K dotted: without centring it drops to zero at once, with a soft teacher it stays at ln K. Right, the mutual information: near zero for both of those, rising for the official centre, Sinkhorn and standardised inputs."}, "figure": {"caption": "Self-distillation of inputs that are much alike. Dotted: ln K on the left, the most that sixteen kinds allow on the right. A perfect loss and a plateau can both mean that nothing was learnt.", "name": "fig-distillation"}}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for axis, column in zip(axes, ("loss", "mutual information"), strict=True):
    for name, colour in zip(recipes, COLOURS, strict=False):
        axis.plot(trials[3, name][0][column], color=colour, label=name)
    axis.set(title=column, xlabel="step")
axes[0].axhline(math.log(32), color=INK, ls=":", lw=1)
axes[1].axhline(math.log(16), color=INK, ls=":", lw=1)
figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %% [markdown]
# Read the table from left to right.
#
# - **Diverse inputs** forgive nearly everything; only a teacher softer than the student drives
#   all assignments to uniform.
# - **Alike inputs** do not. Without centring the loss is perfect and the mutual information 0:
#   every radiograph gets the same prototype. A centre that moves too slowly (0.99, the value to
#   which the series raised it) follows the teacher too late and ends in the same place. With the
#   official 0.9 the system learns.
# - **Very alike inputs** are hard for centring: for hundreds of steps the loss stays near
#   $\ln K$, a plateau like the published one (exercise 1 asks whether it is a wall). Sinkhorn-Knopp, which balances the prototypes
#   exactly (SwAV, DINOv2), copes better.
# - **Standardising over the batch**, which is what a batch norm in the head does, removes what is
#   common, and with it the problem.
#
# So similarity does hurt, as the series says, but the system does not *need* diversity. It needs
# what is common to be removed, quickly enough. This is a page-sized system; it tells what can
# happen, not what did happen on the author's GPU.
#
# ## The settings that were run
#
# Before data are blamed, settings should be. Here is what the series' code ran, from our recorded
# preset `full`, beside what the authors of DINO published for ResNet-50 (`main_dino.py` and README
# of facebookresearch/dino), recorded as `paper`.

# %%
ran, paper = (METHODS["dino"].presets[name] for name in ("full", "paper"))
linear_rule = 5e-4 * ran.batch_size / 256
pd.DataFrame(
    [
        ("prototypes K", f"{ran.prototypes} (text: 65,536)", f"{paper.prototypes:,}"),
        (
            "teacher temperature",
            f"{ran.teacher_temperature[0]} falling to {ran.teacher_temperature[1]}",
            "0.04, or rising from 0.04 to 0.07 over 30 epochs",
        ),
        (
            "teacher momentum",
            f"{ran.teacher_momentum} to 1 at batch {ran.batch_size}",
            f"{paper.teacher_momentum} to 1; higher for small batches (0.9995 at 256)",
        ),
        ("centre momentum", f"{ran.centre_momentum}", f"{paper.centre_momentum}"),
        (
            "learning rate",
            f"{ran.lr:g}, AdamW",
            f"5e-4 x batch / 256 = {linear_rule:g}; SGD for ResNet-50",
        ),
        (
            "weight decay",
            f"{ran.weight_decay}, batch norm and biases included",
            f"{paper.weight_decay:g} for ResNet-50, never on norms and biases",
        ),
        (
            "global crops",
            "{} to {}".format(*ran.augmentation.crop_scale),
            "{} to {}".format(*paper.augmentation.crop_scale),
        ),
        (
            "local crops",
            f"{ran.local_crops}",
            "{}, of {} to {}".format(paper.local_crops, *paper.local_scale),
        ),
        ("last layer frozen", "never", "for the first epoch"),
        ("epochs", "5 to 15", "100 and more"),
    ],
    columns=["setting", "the series", "official"],
).set_index("setting")

# %% [markdown]
# One of these differences made the page-sized system fail all by itself: the centre that follows
# ten times more slowly. Others go against the authors' explicit advice: a teacher that gets
# sharper where theirs gets softer, a learning rate four times the rule, no local crops. And
# elsewhere DINO does work on radiographs and CT: RAD-DINO (DINOv2 on chest radiographs, Pérez-García et al. 2024),
# DINO-CXR (Shakouri et al. 2023), and a study of lung CT that met the same "entropy wall" and
# found the momentum of the centre decisive (Lawrenz 2026). The series concludes that
# self-distillation "requires visual diversity that chest X-rays simply do not have". A run of a few
# epochs with these settings does not support that.
#
# ## DINO, trained
#
# Four small runs:
#
# - **series' settings**, in a network small enough for seconds: $K = 256$, a falling teacher
#   temperature, a slow centre, no batch norm in the head;
# - **official centre**: one of them changed, the centre's momentum;
# - **official settings**: everything in the right column of the table that fits into seconds, eight
#   local crops and the slow teacher included ($K$ stays 256, so that the losses can be compared);
# - **quick preset**: ours, with Sinkhorn instead of a centre, batch norm in the head, and a fast
#   teacher.

# %% tags=["nbval-ignore-output"]
SERIES = {
    "image_size": 32, "batch_size": 64, "steps": 60, "lr": 5e-4, "prototypes": 256,
    "bottleneck": 256, "head_norm": False, "teacher_temperature": (0.07, 0.04),
    "teacher_momentum": 0.99, "centring": "centre", "centre_momentum": 0.99,
    "frozen_prototypes": 0.0,
}  # fmt: skip
as_published = (
    "optimizer", "weight_decay", "teacher_temperature", "teacher_momentum", "centre_momentum",
    "frozen_prototypes", "local_crops", "local_scale",
)  # fmt: skip
OFFICIAL = SERIES | {name: getattr(paper, name) for name in as_published}
OFFICIAL["lr"] = paper.lr * SERIES["batch_size"] / paper.batch_size
OFFICIAL |= {"local_size": 16, "augmentation.crop_scale": paper.augmentation.crop_scale}
runs = {
    "series' settings": course.trained("dino", **SERIES),
    "official centre": course.trained("dino", **(SERIES | {"centre_momentum": 0.9})),
    "official settings": course.trained("dino", **OFFICIAL),
    "quick preset": course.trained("dino"),
}
K = {name: run.config["settings"]["prototypes"] for name, run in runs.items()}
for name, k in K.items():
    print(f"{name}: ln {k} = {math.log(k):.3f}")
kept = paper.teacher_momentum ** SERIES["steps"]
print(f"official teacher: at least {kept:.0%} of it is still its first, random weights at the end")

# %% [markdown]
# The mutual information has a blind spot: assignments that depend on the *view* count as
# information, although no student could predict them from another view. What the student does
# predict is $H(\text{mean target}) - \text{loss}$, a lower bound on what one view's assignment
# and the other view have in common. We plot both.

# %% tags=["nbval-ignore-output"] mystnb={"image": {"alt": "Three panels over training for four DINO runs. Loss minus ln K: the series' settings sink well below zero and come back towards it, the official centre and the official settings stay at about zero, the quick preset starts above and ends below. Mutual information: close to zero for the first two, about half for the official settings, falling from above two to below one for the quick preset. Predicted part: about zero for the first two, slightly negative for the official settings, small and positive for the quick preset."}, "figure": {"caption": "DINO on the phantom, four recipes: the loss relative to ln K, what the assignments say about the view, and how much of that the student predicts from the other view.", "name": "fig-dino"}}
dino_logs = {}
for name, run in runs.items():
    log = run.log()
    log["loss - ln K"] = log["loss"] - math.log(K[name])
    log["predicted"] = log["target_entropy"] + log["mutual_information"] - log["loss"]
    log["share of training"] = log["step"] / log["step"].max()
    dino_logs[name] = log
figure = figures.loss_curves(
    dino_logs, terms=["loss - ln K", "mutual_information", "predicted"], x="share of training"
)
for axis in figure.axes[::2]:
    axis.axhline(0, color=INK, ls=":", lw=1)
display(figure)

# %% tags=["nbval-ignore-output"]
table = {}
for name, run in runs.items():
    log, monitor = dino_logs[name].iloc[-10:].mean(), run.log("monitor")
    start, end = monitor.iloc[0], monitor.iloc[-1]
    table[name] = {
        "ln K": math.log(K[name]),
        "loss": log["loss"],
        "target entropy": log["target_entropy"],
        "mutual information": log["mutual_information"],
        "predicted": log["predicted"],
        "mean cosine, start": start["mean_cosine"],
        "mean cosine, end": end["mean_cosine"],
        "effective rank, start": start["effective_rank"],
        "effective rank, end": end["effective_rank"],
    }
pd.DataFrame(table).round(2)

# %% [markdown]
# None of the four is a triumph, and they fail differently.
#
# **With the series' settings** the loss sinks well below $\ln 256$ while the teacher gets
# sharper, which looks like learning, and then turns back. But nothing is predicted, from
# beginning to end: the loss fell because every radiograph gets nearly the same, ever more decided
# assignment, and a centre that follows slowly lets that happen. This is the *image-independent*
# failure.
#
# **With the official centre** the loss rests on $\ln 256$ as if nailed there: a plateau like the
# published one. This is the *uniform* failure. Look at the other rows of the table: the two runs
# end with nearly the same mutual information, cosine and rank. More than half a nat of loss
# between them, and next to nothing in what they know.
#
# **With the official settings** there is a plateau as well, a little *above* $\ln 256$. It is a
# third kind: the assignments say something about the view, and the student predicts none of it.
# The likely reason is patience: with a momentum of 0.996 the teacher is, as printed above, still
# mostly the random network that it began as. The authors train for a hundred epochs and more.
#
# **With the quick preset** the loss starts above $\ln K$: Sinkhorn's first assignments are
# decided and arbitrary, and no other view predicts them. Most of that information is given up;
# what is left begins to be shared, and the predicted part rises slowly above 0. Not much, but it
# is the only one of the four that is learning.
#
# Learning what? Our study of presets (page *The quick presets*, recorded) has tried it on the
# phantom's findings, and there even this run is no better than a network with random weights:
# an AUC of 0.525 at 20 shots, where random ones have 0.543 to 0.551. Nor is it the backbone. A
# small Vision Transformer, for which DINO was made, brings the loss down to 6.63 where
# $\ln 1024$ is 6.93, and reaches 0.505 beside 0.506 of its own random network. It tells views
# apart, but not by their findings.
#
# **What this does not show.** That DINO fails on radiographs, or that it works. A minute of
# training is no test of a method whose authors train for days. It shows that neither the official
# centre alone nor all official settings together lift the plateau in so short a time, that a
# plateau can have three causes, and that one number tells them apart within seconds. What the
# series' fifteen epochs established is the same: that these settings, for so long, do nothing.

# %% [markdown]
# ## Painting in what is hidden
#
# **Masked modelling** asks a different question: here is 40 % of a radiograph, what was in the
# rest? There is nothing to be made invariant, so nothing small has to be forgotten; and no lazy
# answer, because the picture itself is the target. Vision transformers simply leave hidden
# patches out (MAE, He et al. 2021). A convolution cannot: its kernel slides over everything.
# SparK (Tian et al. 2023) is the answer for convolutional networks.

# %% tags=["nbval-ignore-output"]
run_spark = course.trained("spark")
s = preset_settings("spark", course.mode(), {})
Markdown(
    f"This run: {s.image_size} px, patches of {s.patch_size} px, {int(s.mask_ratio * (s.image_size // s.patch_size) ** 2)} of "
    f"{(s.image_size // s.patch_size) ** 2} hidden."
)

# %%
source(spark.random_mask, spark.masked_patch_mse)

# %% [markdown]
# The loss looks at hidden pixels only, and every patch is scaled to mean 0 and variance 1 first.
# Why? See how much a painter would earn without the scaling who gives each patch its mean grey
# and draws nothing:

# %%
probe = resize(pool.batch(torch.arange(256)).float() / 255, s.image_size)
patch_mean, patch_std = spark.patch_statistics(probe, s.patch_size)
explained = 1 - (probe - patch_mean).square().mean() / (probe - probe.mean()).square().mean()
print(f"flat patches explain {explained:.0%} of the variance of the pixels")

# %% [markdown]
# Most of it, without drawing a single line. With the scaling that painter has a loss of 1: brightness
# earns nothing, structure does.

# %% tags=["nbval-ignore-output"] mystnb={"image": {"alt": "SparK's loss against training steps, with a dotted line at one, the loss of painting each patch's mean."}, "figure": {"caption": "SparK: mean squared error on hidden pixels. Dotted: painting every patch's mean grey.", "name": "fig-spark-loss"}}
figure = figures.loss_curves({"SparK": run_spark.log()})
figure.axes[0].axhline(1, color=INK, ls=":", lw=1)
display(figure)

# %% [markdown]
# ## Leakage, measured
#
# Standard convolutions leak, says the series (part 4), "allowing the model to cheat", and takes
# the leak as the price of simplicity: it masks the picture once and lets ordinary convolutions do
# the rest. The official code masks **after every layer** and computes batch norm over visible
# positions. That needs no sparse kernels, only plain PyTorch. The package has both, as
# `form="input"` and `form="sparse"`:

# %%
source(spark.masked_batch_norm)

# %% [markdown]
# But what leaks where? Three different things go by that name:
#
# 1. **hidden pixels** reach the prediction: cheating;
# 2. **visible content** appears at hidden positions of the encoder's maps;
# 3. **the mask itself** changes the maps at visible positions, because the kernels see its zeros.
#
# Each can be measured: change one thing, see what else changes. We use an untrained ResNet-18,
# 128-pixel radiographs and patches of 32, the smallest with which the sparse form works here: the
# deepest map has one position a patch.


# %%
def forms(count=8):
    """Both forms with the same encoder weights, pictures and masks; evaluation mode."""
    pictures = resize(pool.batch(torch.arange(count)).float() / 255, 128)
    mask = spark.random_mask(count, 4, 0.6, generator(0, "leak"))
    networks = {}
    for form in ("input", "sparse"):
        changes = {"form": form, "image_size": 128, "patch_size": 32}
        networks[form] = build_method(
            "spark", preset_settings("spark", "quick", changes), pool, 0
        ).eval()
    return networks, pictures, mask


@torch.no_grad()
def maps(network, pictures, mask):
    """The encoder's four maps, as the decoder gets them but without mask tokens."""
    visible = (~mask[:, None]).float()
    if network.settings.form == "sparse":
        return spark.sparse_stages(network.encoder, pictures, visible)
    x = network.encoder.normalise(pictures)
    return network.encoder.stages(x * spark.visible_at(visible, x), normalised=True)


def relative_change(a, b, where):
    where = where.expand_as(a) > 0
    return ((a - b)[where].norm() / a[where].norm().clamp(min=1e-12)).item()


networks, pictures, mask = forms()
hidden = spark.visible_at(mask[:, None].float(), pictures)
noise = torch.rand(pictures.shape, generator=generator(0, "noise"))
other_hidden = torch.where(hidden > 0, noise, pictures)
other_visible = torch.where(hidden > 0, pictures, (pictures + 0.2 * (noise - 0.5)).clamp(0, 1))
nothing_hidden = torch.zeros_like(mask)

# %%
with torch.no_grad():
    for form, network in networks.items():
        change = (network.predict(pictures, mask) - network.predict(other_hidden, mask)).abs().max()
        print(
            f"{form:6}: hidden pixels replaced by noise, largest change of the prediction {change:.1e}"
        )

# %%
rows = []
for form, network in networks.items():
    plain, moved = maps(network, pictures, mask), maps(network, other_visible, mask)
    unmasked = maps(networks["input"], pictures, nothing_hidden)
    for stage, (a, b, c) in enumerate(zip(plain, moved, unmasked, strict=True), start=1):
        at = spark.visible_at(mask[:, None].float(), a)
        rows.append(
            {
                "form": form,
                "stage": f"layer{stage}",
                "hidden positions that are not 0": (a.abs().amax(dim=1, keepdim=True) > 0)[at > 0]
                .float()
                .mean()
                .item(),
                "their change when visible pixels change": relative_change(a, b, at),
                "change at visible positions through the mask": relative_change(c, a, 1 - at),
            }
        )
pd.DataFrame(rows).set_index(["form", "stage"]).round(2)


# %% tags=["hide-input"] mystnb={"image": {"alt": "One masked radiograph and its four maps in two rows. In the input form the hidden squares are black at first and grey in the deeper maps; in the sparse form they stay black in all four."}, "figure": {"caption": "Mean activation of the encoder's four maps for one masked radiograph; black is 0. Above the input form, below the sparse one.", "name": "fig-leak"}}
def activation(stage):
    picture = stage[0].abs().mean(dim=0)
    return (picture / picture.max()).numpy()


masked = torch.where(hidden > 0, 0, pictures)[0, 0].numpy()
figures.image_grid(
    [[masked, *map(activation, maps(n, pictures, mask))] for n in networks.values()],
    row_titles=list(networks),
    column_titles=["masked", "layer1", "layer2", "layer3", "layer4"],
)

# %% [markdown]
# **Cheating** does not happen, in either form: what is hidden has no influence at all. The second
# kind separates them. In the input form the hidden positions fill up within a stage or two and
# move when their visible neighbours do, and nobody could tell from the maps what was hidden; in
# the sparse form they are exactly 0 at every depth. The third kind is there in both, and it is
# *larger* in the sparse form: there, every layer meets the holes again, while the input form has
# long filled them in with something plausible.
#
# So neither form is free of side effects, and "leakage" is no cheat. Whatever the form, the
# decoder *must* carry visible content into hidden patches; that is the task. What the sparse form
# buys is an encoder that is never trained on guesses about holes.
#
# The series expects one more effect: a free hint at every masked border, which makes the task of
# the input form slightly easier. That can be tested. If the hint is at the border, border pixels
# should be easy and the middle of a patch hard, in the input form more than in the sparse one. We
# look at the run above, and train both forms for thirty steps each, encoders from the same weights.

# %% tags=["nbval-ignore-output"]
FORMS = {"image_size": 96, "patch_size": 32, "batch_size": 32, "steps": 30}
by_form = {form: course.trained("spark", form=form, **FORMS) for form in ("input", "sparse")}
painters = {"quick preset": load_spark(run_spark)}
painters |= {form: load_spark(run) for form, run in by_form.items()}
paintings = {
    name: reconstruct(painter, pool.batch(torch.arange(256))) for name, painter in painters.items()
}


# %%
def missed(r, edges):
    """Squared error over that of painting each patch's mean, by distance to visible pixels."""
    pixels = torch.from_numpy(r.images)[:, None]
    mean, std = (x[:, 0].numpy() for x in spark.patch_statistics(pixels, r.patch_size))
    target = (r.images - mean) / std
    distance = np.stack([distance_transform_edt(h) for h in r.hidden])
    rings = [(distance > low) & (distance <= high) for low, high in pairwise(edges)]
    error = np.square(r.prediction - target)
    return [error[ring].sum() / np.square(target)[ring].sum() for ring in rings]


# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"image": {"alt": "Share of the hidden pixels' variation that the painting misses, against their distance to the nearest visible pixel. Left, the quick preset: somewhat lower beside visible pixels, then flat. Right, input and sparse form: both rise with the distance, and the sparse form lies above the input form, most of all far from anything visible."}, "figure": {"caption": "What is missed of the hidden pixels, by distance to the nearest visible one: squared error over the squared error of painting each patch's mean (dotted). Left: patches of 8 in 64 px. Right: both forms, patches of 32 in 96 px.", "name": "fig-distance"}}
panels = {
    "quick preset": ([0.5, 1.5, 2.5, 3.5, 4.5, 6.5, 9.5, 14.5, np.inf], ["quick preset"]),
    "both forms": ([0.5, 2.5, 4.5, 8.5, 12.5, 16.5, 32.5, np.inf], ["input", "sparse"]),
}
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained", sharey=True)
rings = {}
for axis, (title, (edges, names)) in zip(axes, panels.items(), strict=True):
    ticks = [f"{low + 0.5:.0f}-{high - 0.5:.0f}" for low, high in pairwise(edges[:-1])]
    ticks = [tick.split("-")[0] if len(set(tick.split("-"))) == 1 else tick for tick in ticks]
    for name, colour in zip(names, COLOURS, strict=False):
        rings[name] = missed(paintings[name], edges)
        axis.plot([*ticks, f"{edges[-2] + 0.5:.0f}+"], rings[name], "o-", color=colour, label=name)
    axis.axhline(1, color=INK, ls=":", lw=1)
    axis.set(title=title, xlabel="distance to the nearest visible pixel, pixels")
axes[0].set(ylabel="missed", ylim=(0, 1.05))
axes[1].legend()
plt.show()

# %% tags=["nbval-ignore-output"]
pd.DataFrame(
    {
        form: {
            "loss": paintings[form].loss().mean(),
            "missed beside visible pixels": rings[form][0],
            "missed farthest away": rings[form][-1],
        }
        for form in by_form
    }
).round(2)

# %% [markdown]
# About the difficulty the series is right: after equally many steps the input form misses less. But
# the hint is not at the border. Beside visible pixels the two are close; they part where nothing
# visible is near. That fits the maps above: the input form's encoder has carried content into the
# holes, layer by layer, while in the sparse form only the small decoder can. It is a help with the
# task, and no cheat, since no hidden pixel takes part.
#
# In the quick preset, whose patches are small, border pixels are painted somewhat better than
# others, and the advantage is gone after half a patch. Even far from anything visible a good part
# of the structure is painted, because a chest is a chest.
#
# **What this does not show.** Which form leaves the better encoder. Thirty steps and one seed say
# which task is easier to begin with, and an easier task need not teach more.

# %% [markdown]
# ## Reconstructions over training
#
# A run keeps what it painted along the way, always the same radiographs under the same masks. Here
# is one of them at five moments, shown in three ways: *raw* is what leaves the network, every patch
# in its own scale; *true exposure* gives each painted patch its true mean and contrast; *stitched*
# guesses them, as explained below.

# %% tags=["nbval-ignore-output"] mystnb={"image": {"alt": "One radiograph in three rows: raw, true exposure and stitched, each with the original, what was shown, and the painting at five moments. The raw row begins as even grey and ends with contours in the patches. The row with the true exposure shows a chest of flat patches from the first moment on, which fill with contours. The stitched row begins as flat squares and ends as a soft chest."}, "figure": {"caption": "One radiograph at five moments of training, shown in three ways.", "name": "fig-over-training"}}
moments = over_training(run_spark)
moments = [moments[i] for i in np.unique(np.linspace(0, len(moments) - 1, 5).round().astype(int))]
one = 1
displays = {
    "raw": [(m.prediction[one] / 6 + 0.5).clip(0, 1) for m in moments],
    "true exposure": [m.composite("oracle")[one] for m in moments],
    "stitched": [m.composite("stitched")[one] for m in moments],
}
figures.image_grid(
    [[moments[0].images[one], moments[0].shown()[one], *row] for row in displays.values()],
    row_titles=list(displays),
    column_titles=["original", "shown", *(f"epoch {m.epoch:.1f}" for m in moments)],
    side=1.5,
)

# %% [markdown]
# Look at the second row before any training: a chest, from a network that knows nothing. Two true
# numbers a patch draw most of it. Reconstructions are easily admired for what their display was
# told.
#
# What the *training* adds first are outlines of lungs, heart and diaphragm; ribs and vessels stay
# blurred in so short a run. Now drag through training yourself. With a kernel behind the page you
# can also hide patches by hand. The buttons under *Show* differ in one thing only, which the next
# section is about: where brightness and contrast of a painted patch come from. *Composite* takes
# them from the visible patches nearby, *stitched* makes borders agree, *true exposure* takes those
# of the hidden patch itself, *one exposure* the same for all, *series* adds feathered edges to
# that. *Raw* is what leaves the network, *error* is where the composite is wrong.


# %% tags=["nbval-ignore-output"]
ReconstructionWidget.from_run(run_spark)

# %% [markdown]
# ## Where the seams come from
#
# The series shows reconstructions in which the patches stay visible at every epoch, and says that
# they always will: a direct consequence of scaling each patch by itself (part 4). It is half right.
# The network was never asked how bright a patch is, so somebody else has to tell the picture. But
# that somebody is the *display*, and it can do so well or badly. Suppose the network were
# **perfect**, and show its output in five ways:
#
# - **oracle**: every patch with its own true mean and standard deviation;
# - **neighbours**: both interpolated from the visible patches around it;
# - **global**: one mean and standard deviation for all, those of the visible pixels;
# - **series**: global, then painting and mask blurred, so that the edges are feathered. This is
#   the picture of the series;
# - **stitched**: the means and standard deviations with which the painting is *continuous*. Both
#   sides of every border should agree. That is a linear system in two unknowns a hidden patch,
#   solved by least squares, and drawn gently towards the neighbours' values where borders say
#   little.

# %%
painted = paintings["quick preset"]
truth = ((probe - patch_mean) / patch_std)[:, 0].numpy()
ways = ("oracle", "neighbours", "global", "series", "stitched")
perfect = Reconstruction(painted.images, painted.mask, truth)
shown = {
    label: {name: r.composite(name) for name in ways}
    for label, r in {"perfect": perfect, "trained": painted}.items()
}

# %% tags=["nbval-ignore-output"] mystnb={"image": {"alt": "A grid of one radiograph. Upper row, a perfect prediction; lower row, the trained network's. Columns: original, what was shown, and five displays. With neighbour and global statistics the patches stand out as a chequerboard even for the perfect prediction; the series' feathering softens it; with stitched ones hardly any border is left."}, "figure": {"caption": "Upper row: a perfect prediction, shown in five ways. Lower row: the trained network's. Patches stand out even where nothing was predicted wrongly, unless their brightness is made to fit.", "name": "fig-seams"}}
picture = 3
figures.image_grid(
    [
        [painted.images[picture], painted.shown()[picture], *(v[picture] for v in views.values())]
        for views in shown.values()
    ],
    row_titles=list(shown),
    column_titles=["original", "shown", *ways],
    side=1.5,
)

# %% [markdown]
# And as numbers: the mean jump between the two sides of a patch border, as a multiple of the
# original's jump at the same place; and the mean error of the hidden grey values, as a share of
# their range.


# %%
def seam(pictures, originals, patch):
    """Mean jump across patch borders, over that of the originals."""
    jumps = [
        sum(
            np.abs(np.diff(x, axis=axis))
            .take(range(patch - 1, x.shape[axis] - 1, patch), axis)
            .sum()
            for axis in (1, 2)
        )
        for x in (pictures, originals)
    ]
    return jumps[0] / jumps[1]


def seams_and_errors(views):
    """Two numbers a display."""
    return pd.DataFrame(
        {
            "seams": {n: seam(v, painted.images, s.patch_size) for n, v in views.items()},
            "grey error": {
                n: np.abs(v - painted.images)[painted.hidden].mean() for n, v in views.items()
            },
        }
    )


# %% tags=["nbval-ignore-output"]
pd.concat({label: seams_and_errors(views) for label, views in shown.items()}, axis=1).round(3)

# %% [markdown]
# A perfect prediction, shown with one brightness for all patches, has seams several times the
# original's; with the neighbours' statistics it still has. So these seams say nothing about the
# network and nothing about the loss. Stitching removes them *and* brings the grey values several
# times closer to the truth, although it never looks at a hidden pixel: the missing brightness is
# in the continuity of the picture. The trained network's painting gains as well. "Always" was too
# strong.

# %% tags=["hide-output"]
source(stitched_statistics)

# %% [markdown]
# ### Which pictures show hidden pixels?
#
# The feathered picture has smaller seams than the plain global one. Why? Do as with the leak:
# change one thing, see what else changes. We fill the hidden patches of the originals with noise
# and leave the painting alone. A picture that uses nothing hidden must not move.

# %% tags=["nbval-ignore-output"]
noisy = torch.rand(probe.shape, generator=generator(0, "hidden"))[:, 0].numpy()
filled = np.where(painted.hidden, noisy, painted.images)
other = Reconstruction(filled, painted.mask, painted.prediction)
moved = {n: np.abs(other.composite(n) - painted.composite(n))[painted.hidden] for n in ways}
change = np.abs(filled - painted.images)[painted.hidden].mean()
pd.DataFrame(
    {
        "mean change, share of the noise": {n: m.mean() / change for n, m in moved.items()},
        "largest change, grey": {n: m.max() for n, m in moved.items()},
    }
).round(3)

# %% [markdown]
# Two ways move. The oracle does, as its name says. The other is the series' picture: feathering
# blends with the *original* on both sides of the mask's edge, so a rim of every painted patch shows
# pixels that the network never saw. How wide is the rim at the series' own size, patches of 32
# pixels in pictures of 224?

# %%
masks = spark.random_mask(64, 7, 0.6, generator(0, "rim")).numpy()
covered = spread(masks, 32).astype(bool)
original = feathered(np.ones(covered.shape), np.zeros(covered.shape), covered, 32)[covered]
depth = np.concatenate([distance_transform_edt(c)[c] for c in covered])
by_depth = {d: original[(depth > d - 1) & (depth <= d)].mean() for d in (1, 2, 3, 4, 6, 8)}
print("share of the original by depth in pixels:", {d: f"{x:.0%}" for d, x in by_depth.items()})
print(f"more than a tenth of the original: {(original > 0.1).mean():.0%} of the hidden pixels")
print(f"over all hidden pixels: {original.mean():.0%} original, {1 - original.mean():.0%} painted")

# %% [markdown]
# To be fair: the series prints this code and says that it feathers for a smooth picture, the loss
# and the training are untouched, and most of what one sees is painted. But the rim is where the eye
# judges whether a painting fits, and there it sees the answer. Part of the smaller seams is not the
# network's merit. A picture meant as evidence should not look at hidden pixels, or say that it does.
#
# **What this does not show.** That a seamless picture is a true one. In the lower row the oracle
# has more seams than the stitched picture and a smaller error: some of its seams are honest
# traces of the network's mistakes, which stitching smooths over. For judging a network show the
# oracle and its error; for looking at a radiograph, stitch.

# %% [markdown]
# ## Optimisers and schedules
#
# Four methods, each with the optimiser of its paper, says the series (part 4). The recipes are
# recorded as the `full` presets of the package; this table is made from them.

# %%
recipes, rates = [], {}
for name in ("moco", "barlow", "dino", "spark"):
    method, p = METHODS[name], METHODS[name].presets["full"]
    rates[method.title] = [learning_rate(i, 1000, p.lr, p.warmup) for i in range(1000)]
    steps = p.epochs * 112_120 // p.batch_size
    speed = 1 / (1 - p.momentum) if p.optimizer == "sgd" else 1  # momentum adds steps up
    decay = math.exp(-steps * np.mean(rates[method.title]) * speed * p.weight_decay)
    decisive = f"momentum {p.momentum}" if p.optimizer == "sgd" else f"betas {p.betas}"
    recipes.append({
        "method": method.title, "backbone": p.backbone, "batch": p.batch_size, "epochs": p.epochs,
        "optimiser": f"{p.optimizer.upper() if p.optimizer == 'sgd' else 'AdamW'}, {decisive}",
        "peak lr": f"{p.lr:g}", "weight decay": f"{p.weight_decay:g}",
        "decay alone leaves": f"{decay:.2%}", "warm-up": f"{p.warmup * p.epochs:.0f} epochs",
    })  # fmt: skip
pd.DataFrame(recipes).set_index("method")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Learning rate on a logarithmic axis against the share of training, one line a method. All rise at first and fall along a half cosine; MoCo's with SGD peaks at 0.045, the three with AdamW between 0.0003 and 0.0024."}, "figure": {"caption": "The four schedules: a linear warm-up, then half a cosine. SGD's rates and AdamW's mean different things.", "name": "fig-schedules"}}
figure, axis = plt.subplots(figsize=(6.2, 3), layout="constrained")
for (name, rate), colour in zip(rates.items(), COLOURS, strict=False):
    axis.semilogy(np.linspace(0, 1, 1000), rate, color=colour, label=name)
axis.set(xlabel="share of training", ylabel="learning rate", ylim=(1e-6, 0.1))
axis.legend(ncols=2)
plt.show()

# %% [markdown]
# Why do the rates differ a hundredfold? Give two weights gradients of very different size, and take
# one step:

# %%
for name, optimizer in {"SGD": torch.optim.SGD, "AdamW": torch.optim.AdamW}.items():
    weights = torch.zeros(2, requires_grad=True)
    weights.grad = torch.tensor([1.0, 0.01])
    optimizer([weights], lr=0.1, weight_decay=0).step()
    print(f"{name:6} moves by", [f"{-w:.3f}" for w in weights.tolist()])

# %% [markdown]
# SGD's step is as large as the gradient. An average over twice as many images is less noisy, so
# one may step twice as far: that is the linear rule (Goyal et al. 2017), by which MoCo's 0.03 at
# batch 256 becomes $0.03 \times 384/256 = 0.045$. AdamW divides every gradient by its own usual
# size, so that each weight moves by about the learning rate whatever the loss. The rule does not
# follow for it, and its rates cannot be compared with SGD's.
#
# Nor can weight decays. The column "decay alone leaves" says what would remain of a weight that got
# no gradient in the whole training. MoCo and BarlowTwins both write 1e-4; in MoCo's SGD, with its
# momentum and its long training, that is a strong pull, and in BarlowTwins' AdamW it is as good as
# none. A setting copied from one optimiser to another is another setting.
#
# ## What it cost
#
# This is what the series paid on one L4 GPU (part 4, its own bookkeeping), with the speed that
# follows from the hours of the final run:

# %%
cost = published.training_cost().set_index("method")
cost["images/s"] = 112_120 * cost["epochs"] / (cost["final_run_hours"] * 3600)
cost["failed hours"] = cost["total_hours"] - cost["final_run_hours"].fillna(0)
cost[
    ["failed_runs", "final_run_hours", "total_hours", "cost_usd", "images/s", "failed hours"]
].round(1)

# %% tags=["hide-input"]
hours, dollars, failed = (cost[c].sum() for c in ("total_hours", "cost_usd", "failed hours"))
Markdown(
    f"All together {hours:.0f} hours and {dollars:.0f} US dollars, with at least "
    f"{cost['failed_runs'].sum()} failed runs that took {failed:.0f} of the hours. Stopped after a "
    f"quarter of an hour each, they would have taken {cost['failed_runs'].sum() / 4:.0f}."
)

# %% [markdown]
# (SparK's five failed runs count no hours in that bookkeeping, so the share is a lower bound.) A failed
# run is cheap if it fails early and is *seen* to fail. The numbers of these two chapters
# would have shown each failure within minutes: the mutual information for DINO, retrieval against
# fresh negatives for MoCo, a count of saved activations for BarlowTwins.
#
# ## What it would cost with this pipeline
#
# Nobody has run these recipes with this package on an L4, so here is arithmetic, marked as such. A
# step on fake tensors counts the floating-point operations of each recipe. An L4 can do
# 121 TFLOP/s in bf16 (half of the 242 with sparsity in NVIDIA's data sheet). What share of that
# did the series' final runs use, and what would a better share cost?


# %%
def work(name):
    """Floating-point operations of one training step, an image."""
    settings = replace(METHODS[name].presets["full"], batch_size=8)
    with FlopCounterMode(display=False) as counter:
        fake_step(METHODS[name], settings, "bf16-mixed")
    return counter.get_total_flops() / settings.batch_size


PEAK, PRICE = 121e12, 1.25  # FLOP/s; US dollars an hour (part 4)
rows = {}
for name in ("moco", "barlow", "spark"):
    title, p = METHODS[name].title, METHODS[name].presets["full"]
    flop, images = work(name), 112_120 * p.epochs
    rows[title] = {
        "GFLOP an image": f"{flop / 1e9:.0f}",
        "series, share of the peak": f"{flop * cost.loc[title, 'images/s'] / PEAK:.1%}",
        "series, hours": f"{cost.loc[title, 'final_run_hours']:.0f}",
        "hours at 15 %": f"{flop * images / (0.15 * PEAK) / 3600:.0f}",
        "hours at 30 %": f"{flop * images / (0.30 * PEAK) / 3600:.0f}",
        "US dollars at 30 %": f"{flop * images / (0.30 * PEAK) / 3600 * PRICE:.0f}",
        "views/s at 30 %": f"{0.30 * PEAK / flop * (1 if name == 'spark' else 2):.0f}",
    }
pd.DataFrame(rows).T

# %% [markdown]
# The final runs used a few per cent of what the card can multiply. No pipeline reaches 100 %: batch
# norms and activations wait for memory, checkpointing computes things twice. Whether 15 or 30 % can
# be had on an L4 is an assumption here, and the first thing to measure with `scxr bench step`.
#
# And the input? At the series' speed MoCo needs under 500 views a second, and two workers with
# Pillow made 530 on the cores where we measured (page *How fast it is*, recorded). So a faster
# pipeline alone would have saved the series little. It starts to matter when the network gets
# faster: the last column asks for thousands of views a second. Ours made 3,471 on the same two
# cores, and on a machine with a GPU it runs there.
#
# So the honest answer comes in three parts. The failed hours can be saved, with a monitor and a
# count of memory before the first run. The final runs may become several times cheaper, if the card
# is used well. And the price of knowing is one short run: after `scxr pretrain moco --data my_store
# --out trial --full --set steps=200` its `log.jsonl` holds the images a second, and the rest is a
# division.

# %% [markdown]
# ## Take-away
#
# > - Read DINO's loss beside $\ln K$, and beside what the student predicts,
# >   $H(\text{mean target}) - \text{loss}$. Image-independent targets can have an excellent loss,
# >   and two runs that know nothing can differ by half a nat.
# > - Centring, sharpening and removing what is common each have a job. A slow centre fails on
# >   inputs that are alike, and the settings of the series had one. The official settings do not
# >   rescue a run of a minute either. That DINO requires diversity is unproven, and so is the opposite.
# > - No form of SparK sees hidden pixels. The input form fills hidden positions of the maps, the
# >   sparse form does not.
# > - Seams belong to the display, not to the method: a perfect prediction has them too when all
# >   patches get one brightness, and continuity with what is visible is enough to remove them.
# >   Feathering hides them partly by showing what was hidden.
# > - Learning rates and weight decays mean nothing without their optimiser, hours nothing without
# >   the failed runs.

# %% [markdown]
# ## Check yourself
#
# **1.** A DINO run with $K = 4096$ has a loss of 0.02 after ten minutes. Is that good news?
#
# <details><summary>Answer</summary>
#
# It cannot be told from the loss. If the mutual information is near 0, student and teacher agree
# on one prototype for all radiographs. A healthy run has decided targets *and* a mutual
# information well above 0, most of it predicted from the other view.
#
# </details>
#
# **2.** Why is the mutual information of uniform targets 0, although their mean is as spread out
# as can be?
#
# <details><summary>Answer</summary>
#
# Because every single target is as spread out as their mean. The mutual information is the
# difference of both entropies, $\ln K - \ln K = 0$: the assignment says nothing about which
# radiograph it was.
#
# </details>
#
# **3.** Your reconstruction shows a chequerboard. Which two causes do you separate, and how? And if
# it shows none?
#
# <details><summary>Answer</summary>
#
# The prediction, or its display. Send the *true* scaled patches through the same display. If the
# chequerboard stays, it is the display. If there is none, make sure that the display did not look:
# replace the hidden pixels by noise, and see whether the picture moves.
#
# </details>

# %% [markdown]
# ## Exercises
#
# Try each one first; its solution has been run and opens below it.
#
# **1. How alike is too alike?** Take `self_distillation` with inputs that have even more in common
# (`common` of 9 and 12), for centring and for Sinkhorn. Then give centring 1,500 steps at
# `common=6`: is the plateau a wall or a slow start?

# %% tags=["hide-cell", "nbval-ignore-output"]
both = {"centring": {}, "Sinkhorn": {"sinkhorn": True}}
rows = {}
for common in (9, 12):
    for name, recipe in both.items():
        history, cosine = self_distillation(common, **recipe)
        rows[name, f"mean cosine {cosine:.3f}"] = history["mutual information"].iloc[-20:].mean()
display(pd.Series(rows).unstack(0).round(2))
history, _ = self_distillation(6, steps=1500)
history[read].groupby(history.index // 300 * 300).mean().rename_axis("from step").round(2)
# Both get worse as inputs grow alike, centring first. At 6, centring makes a slow start and meets no
# wall: the mutual information grows all the time. The loss does not show it. A run that is judged by
# its loss, and stopped on the plateau, cannot say which of the two it was.

# %% [markdown]
# **2. One thing at a time.** In the page-sized system, standardising over the batch removed what is
# common. In the real head that is `head_norm=True`. Change this one entry of `SERIES`. What moves,
# and what does not?

# %% tags=["hide-cell", "nbval-ignore-output"]
normed = course.trained("dino", **(SERIES | {"head_norm": True})).log().iloc[-10:].mean()
before = dino_logs["series' settings"].iloc[-10:].mean()
both = pd.DataFrame({"series' settings": before, "with batch norm in the head": normed}).T
both["predicted"] = both["target_entropy"] + both["mutual_information"] - both["loss"]
both[["loss", "target_entropy", "mutual_information", "predicted"]].round(3)
# The assignments stop being the same for all: the mutual information rises several times. That is
# what the page-sized system promised. But nothing more is *predicted* after sixty steps. The
# failure changed its kind, and the run has only begun.

# %% [markdown]
# **3. Paint nothing.** Replace the network's painting by zeros: every patch flat. Which of the five
# displays flatters it, and what is the least that a painter has to beat?

# %% tags=["hide-cell", "nbval-ignore-output"]
blank = Reconstruction(painted.images, painted.mask, np.zeros_like(painted.prediction))
nothing = {name: blank.composite(name) for name in ways}
pd.concat(
    {"blank": seams_and_errors(nothing), "trained": seams_and_errors(shown["trained"])}, axis=1
).round(3)
# The series' display gives a painter of nothing smaller seams than it gives the trained network: its
# seams reward blur. The errors tell them apart, those of the global display least. Judge a painting
# by the oracle's error: that of flat patches is what a painter has to beat.

# %% [markdown]
# **4. Your own radiographs.** Look at the reconstructions of pictures that the network never saw:
#
# ```bash
# scxr data import folder my_radiographs --labels my_table.csv --out my_store
# scxr pretrain spark --data my_store --out my_spark --quick
# scxr reconstruct my_spark --data my_store --out reconstructions.png
# ```
#
# Is your hospital harder to paint than the phantom's A? The solution takes phantoms of hospital B in
# place of your files, and the run of this chapter in place of a new one: put your paths there.

# %% tags=["hide-cell", "nbval-ignore-output"]
place = Path(tempfile.mkdtemp())
(place / "my_radiographs").mkdir()
(place / "my_spark").symlink_to(run_spark.path.resolve())
mine = generate(np.arange(7000, 7064), size=128, hospital="B", masks=False)
for name, image in zip(mine.table["image"], mine.images, strict=True):
    Image.fromarray(image).save(place / "my_radiographs" / f"{name}.png")
mine.table[["image", "patient", "view", "findings"]].to_csv(place / "my_table.csv", index=False)


def shell(line):
    """What the terminal does with `line`."""
    print("$", line)
    with chdir(place):
        main(shlex.split(line)[1:])


shell("scxr data import folder my_radiographs --labels my_table.csv --out my_store --size 128")
shell("scxr reconstruct my_spark --data my_store --out reconstructions.png")

own = reconstruct(painters["quick preset"], open_data(place / "my_store").batch(np.arange(64)))
print(f"loss: hospital A {painted.loss().mean():.2f}, yours {own.loss().mean():.2f}")
# What the network learnt about the anatomy at one hospital holds at the other, as far as both draw the
# same phantom: there are other scanners and other letters, but the same chest. Yours may differ more.

# %% [markdown]
# ## Further reading
#
# - Caron et al. 2021, *Emerging properties in self-supervised vision transformers*,
#   arXiv:2104.14294 (DINO)
# - Caron et al. 2020, *SwAV*, arXiv:2006.09882; Oquab et al. 2023, *DINOv2*, arXiv:2304.07193
#   (Sinkhorn-Knopp)
# - Pérez-García et al. 2024, *RAD-DINO*, arXiv:2401.10815; Shakouri et al. 2023, *DINO-CXR*,
#   arXiv:2308.00475
# - Lawrenz 2026, *Breaking the entropy wall*,
#   lawrenz.com/2026/04/20/breaking-the-entropy-wall-dino-lung-ct.html
# - He et al. 2021, *Masked autoencoders are scalable vision learners*, arXiv:2111.06377 (MAE)
# - Tian et al. 2023, *Designing BERT for convolutional networks*, arXiv:2301.03580 (SparK)
# - Goyal et al. 2017, *Accurate, large minibatch SGD*, arXiv:1706.02677 (the linear rule);
#   Loshchilov & Hutter 2017, *Decoupled weight decay regularization*, arXiv:1711.05101 (AdamW)
