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
# # Contrast and collapse
#
# *Chapter 3 of 6. A loss that falls smoothly, three numbers that should tell why, and two that
# say the opposite.*
#
# **After this chapter you can**
#
# - compute InfoNCE by hand, and say what a falling InfoNCE can and cannot mean;
# - read a collapse monitor: what each of its numbers sees, and what it is blind to;
# - tell a network that learns from one that recognises *when* a picture was seen, with one cheap
#   measurement;
# - say what a variance term guarantees, show an embedding that satisfies it and is useless, and
#   name what is missing;
# - let a measured rank hold the weight of such a term;
# - count what a training step keeps in memory, before a card has to be rented to find out.
#
# **It costs**
#
# | two CPU cores | Colab with a T4 | machine with an L4 | download |
# |---|---|---|---|
# | about 4 min with nothing cached, 1.5 min once its runs are (estimated from 500 s and 180 s of processor time) | not measured | not measured | none |
#
# Two pretraining runs of about a minute each take most of it; later chapters reuse them. In full
# mode the same cells train the published recipes, which takes days on one GPU. Measured times are
# on the page *How to run it*.
#
# **You need** the views of chapter 2 (random crops, brightness, blur and noise that leave the
# finding in place), and three words:
#
# - An **encoder** is the network without its last layer: a radiograph goes in, 512 numbers come
#   out, its **features**.
# - A **head** is a small network behind the encoder that training needs and that is thrown away
#   afterwards; what comes out of it are **projections**.
# - The **cosine** of two vectors is 1 where they point the same way, 0 where they are at right
#   angles. To *normalise* a vector is to scale it to length 1.

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
from bisect import bisect_right
from contextlib import chdir
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from PIL import Image
from torch import nn

from scxr import collapse, course, figures, memory, published
from scxr.augment import augment
from scxr.cli import main
from scxr.data.phantom import generate
from scxr.encoders import build_encoder, resize
from scxr.figures.style import COLOURS, INK, STYLE
from scxr.memory.grid import total
from scxr.methods import METHODS, barlow, moco
from scxr.methods.regularisation import (
    RegularisedSettings,
    Regulariser,
    covariance_penalty,
    variance_hinge,
)
from scxr.methods.settings import with_changes
from scxr.pretrain import batch_rows, build_method, preset_settings
from scxr.runs import read_tensors
from scxr.seeds import generator
from scxr.widgets import MemoryWidget, SpectrumWidget

plt.rcParams.update(STYLE)
pool = course.pretraining_data()


def source(*things):
    """Show code of the package as it is."""
    return Markdown("\n".join(f"```python\n{inspect.getsource(thing)}```" for thing in things))


f"{course.mode()} mode, {len(pool):,} radiographs without labels"

# %% [markdown]
# ## A puzzle
#
# In part 3 of *SCARCE-CXR* a MoCo run on 112,120 radiographs goes suspiciously well: around epoch
# 100 its loss falls faster and more smoothly than the task should allow. The author suspects
# **collapse**: a network that gives every radiograph nearly the same embedding. A monitor is
# built, one number falls, a term that keeps the embedding spread is added, and the number
# recovers.
#
# It is a good story, and every step of it can be checked. We rebuild the loss, the monitor and
# the remedy, each small enough to take apart, and ask four questions:
#
# 1. Can collapse make InfoNCE fall at all?
# 2. Which number of the monitor tells the truth?
# 3. What else makes the loss descend smoothly?
# 4. What does the remedy guarantee?
#
# ## Three families, and a fourth
#
# Without labels, a network needs another task. What the tasks have in common is a lazy answer
# that would solve them without looking at the picture; they differ in what forbids it.
#
# | family | the question | what forbids the lazy answer | here |
# |---|---|---|---|
# | contrastive | Which of these is the other view of my radiograph? | the other radiographs | MoCo |
# | redundancy reduction | Do two views give the same features, and no feature twice? | the correlations between features | BarlowTwins, VICReg |
# | self-distillation | What would my own running average say? | centring and sharpening | DINO, chapter 4 |
# | generative | What was in the hidden patch? | the picture itself | SparK, chapter 4 |
#
# The series counts three families and puts BarlowTwins among the contrastive ones. We keep it
# apart: it never compares one radiograph with another.

# %% [markdown]
# ## InfoNCE, step by step
#
# Take two radiographs with two views each. One view becomes the **query** $q$, the other its
# **key** $k$; both are scaled to length 1, so that a product is a cosine. A **queue** holds keys
# of other radiographs. Every query gets one row of similarities, its own key first, all divided
# by the **temperature** $T$.

# %%
q = F.normalize(torch.tensor([[1.0, 0.2], [0.1, 1.0]]), dim=1)
k = F.normalize(torch.tensor([[0.9, 0.3], [0.5, 1.0]]), dim=1)
queue = F.normalize(torch.tensor([[-1.0, 0.5], [0.8, -0.6], [0.7, 0.7]]), dim=1)
T = 0.5

logits = moco.contrastive_logits(q, k, queue, T)
columns = ["own key", "queue 1", "queue 2", "queue 3"]
pd.DataFrame(logits.numpy(), index=["query 1", "query 2"], columns=columns).round(3)

# %% [markdown]
# The loss asks: had you chosen by softmax, how surprised would you be that the first column is
# right? For each query that is the logarithm of the summed exponentials, minus the first entry.

# %%
by_hand = [math.log(sum(math.exp(x) for x in row)) - row[0] for row in logits.tolist()]
print("by hand, a query at a time:", [f"{x:.4f}" for x in by_hand])
print(f"their mean:                 {sum(by_hand) / 2:.4f}")
print(f"scxr.methods.moco.info_nce: {moco.info_nce(q, k, queue, T):.4f}")

# %% [markdown]
# Here is the whole of it, as the package runs it. `in_batch` adds the other keys of the current
# batch to the queue's; it will matter later. (`first` says where this process's keys begin when
# several GPUs share a batch.)

# %%
source(moco.contrastive_logits, moco.info_nce)

# %% [markdown]
# ## Can collapse make this loss fall?
#
# The series explains the smooth descent like this: if all embeddings look the same, the positive
# pair wins by default. Let us give every radiograph the very same embedding and see.

# %%
same = F.normalize(torch.ones(8, 128), dim=1)
rows = []
for count in (1, 512, 2048, 65_536):
    constant_queue = F.normalize(torch.ones(count, 128), dim=1)
    loss = moco.info_nce(same, same, constant_queue, 0.07).item()
    rows.append({"negatives K": count, "InfoNCE": loss, "ln(1 + K)": math.log(1 + count)})
pd.DataFrame(rows).round(4)

# %% [markdown]
# A tie is not a win. With everything equal the loss is $\ln(1+K)$, at every temperature: exactly
# what a network gets that guesses. **Complete collapse cannot make InfoNCE fall; it pins it to
# the price of a guess.**
#
# What about an embedding that has *nearly* collapsed, to a narrow cone? If every cosine lies
# between $c$ and 1, no query can do better than 1 with its own key and $c$ with all the others:
#
# $$\text{InfoNCE} \;\ge\; \ln\!\left(1 + K e^{-(1-c)/T}\right).$$
#
# A low temperature magnifies small differences, so a narrow cone is less of an obstacle than it
# sounds, but it is one.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels. Left: the softmax over one positive and six negatives at three temperatures; at 1 it is almost flat, at 0.07 nearly all probability sits on the positive. Right: the lowest possible loss against the smallest cosine, for three temperatures and 65,536 negatives; all curves rise to ln(1+K) as the smallest cosine approaches 1."}, "figure": {"caption": "Left: one row of similarities at three temperatures. Right: the lowest InfoNCE that a cone allows, by its smallest cosine.", "name": "fig-temperature"}}
similarities = torch.tensor([0.8, 0.6, 0.5, 0.3, 0.1, 0.0, -0.2])
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.4), layout="constrained")
places = np.arange(len(similarities))
for shift, temperature in enumerate((1.0, 0.2, 0.07)):
    chances = torch.softmax(similarities / temperature, dim=0)
    left.bar(
        places + 0.27 * (shift - 1), chances, 0.27, color=COLOURS[shift], label=f"T = {temperature}"
    )
left.set_xticks(places, ["own\n0.8", *(f"{s:g}" for s in similarities[1:].tolist())])
left.set(xlabel="similarity", ylabel="probability", title="what the softmax makes of it")
left.legend()
cosine = np.linspace(-0.2, 1, 400)
for number, temperature in enumerate((1.0, 0.2, 0.07)):
    bound = np.log1p(65_536 * np.exp(-(1 - cosine) / temperature))
    right.plot(cosine, bound, color=COLOURS[number], label=f"T = {temperature}")
right.axhline(math.log(65_537), color=INK, ls=":", lw=1)
right.set(xlabel="smallest cosine in the cone", ylabel="lowest InfoNCE", title="K = 65,536")
plt.show()

# %% [markdown]
# So the first question has an answer on paper: collapse alone does not drive this loss down. If a
# loss falls while embeddings draw together, then the negatives are not where the queries are.
# Keep that in mind.

# %% [markdown]
# ## The queue and the slow key encoder
#
# More negatives make a harder question, but encoding 65,536 radiographs for every step is out of
# reach. MoCo keeps the keys of earlier batches instead (He et al. 2019). Old keys come from an
# older encoder, so the key encoder follows the query encoder slowly, as a moving average with
# momentum $m$. Both happen after the optimiser's step:

# %%
source(moco.MoCo.after_step, moco.MoCo._enqueue)

# %% [markdown]
# Three numbers say how stale a queue is: the steps that a key stays in it, the share of the key
# encoder that is replaced meanwhile ($1-m^{\text{steps}}$), and how often a query meets *its own*
# old key among the negatives. For the last one we let the loop's own sampling run for two epochs
# and count. (The quick recipe is *symmetric*: every radiograph leaves two keys a step. More on it
# below.)


# %%
def meets_itself(images, batch, stays):
    """Share of queries whose own key, from the epoch before, still sits in the queue."""
    steps = images // batch
    seen = torch.full((2, images), -images)  # the step at which an epoch meets an image
    for epoch in (0, 1):
        for step in range(steps * epoch, steps * (epoch + 1)):
            seen[epoch, batch_rows(images, batch, step, 0)] = step
    again = seen[1] >= 0
    return ((seen[1] - seen[0])[again] <= stays).float().mean().item()


def staleness(name, images, s):
    stays = s.queue_size / (s.batch_size * (2 if s.symmetric else 1))
    return {
        "recipe": name,
        "negatives in the queue": s.queue_size,
        "share of the pool": s.queue_size / images,
        "steps that a key stays": stays,
        "key encoder replaced meanwhile": 1 - s.key_momentum**stays,
        "queries that meet themselves": meets_itself(images, s.batch_size, stays),
    }


presets = METHODS["moco"].presets
pd.DataFrame(
    [
        staleness("the series, on NIH", 112_120, presets["full"]),
        staleness("quick, on the phantom", 4_000, presets["quick"]),
    ]
).set_index("recipe").round(3).transpose()

# %% [markdown]
# In the series' setting one query in six is told to push away its own radiograph, seen one epoch
# earlier. On paper the share is $\tfrac12 (K/N)^2$ for a queue of $K$ and a pool of $N$. MoCo was
# made for 1.28 million photographs, where the same queue is a twentieth of the pool.
#
# Other images of the *same patient* come on top. NIH's 112,120 radiographs show 30,805 patients
# (Wang et al. 2017). A random image's patient has at least the average number of images, so:

# %%
images, patients = 112_120, 30_805
others = presets["full"].queue_size / images * (images / patients - 1)
print(f"images a patient: {images / patients:.2f} on average")
print(f"the same patient among a query's negatives: at least {others:.2f} times on average")

# %% [markdown]
# "Push away every other image" is not quite what one wants to say about one person's two
# radiographs, taken a week apart.
#
# ## From the series' recipe to a minute
#
# The quick recipe departs from the series', and not only in size:

# %%
settings_of_a_recipe = [
    "symmetric", "head_layers", "head_norm", "output_norm", "temperature", "queue_size",
    "in_batch_negatives", "key_momentum", "optimizer", "lr", "batch_size", "variance_weight",
]  # fmt: skip
recipes = {"the series": presets["full"], "quick": presets["quick"]}
pd.DataFrame(
    {n: [getattr(s, f) for f in settings_of_a_recipe] for n, s in recipes.items()}
).set_axis(settings_of_a_recipe)

# %% [markdown]
# - **A short queue and a fast key encoder.** A run of a minute has no time for a slow one: with a
#   momentum of 0.999 the key encoder would hardly leave its random start. A fast one makes keys
#   old quickly, so they are thrown out after two steps. The other keys of the *current* batch are
#   negatives as well, and those cannot be old.
# - **A symmetric loss** (MoCo v3, Chen et al. 2021): each of the two views is query once and key
#   once. A step costs twice as much, its gradient is less noisy.
# - **A deeper head with a norm behind it** (MoCo v3, too): batch norm without weights, the last
#   thing before the projections are scaled to length 1.
#
# What each of them brought, and what did not help, is on the page *The quick presets*: all three
# together beat a network of random weights, MoCo v2's one-way loss hardly did. The queue was not
# put to that test; what a long and slow one can do comes below.
#
# The norm can be seen at work before any training. We take the untrained network with and without
# it, and ask how near a query is to its own key, to the other keys of the batch, and to the queue,
# which starts with random directions:


# %% tags=["nbval-ignore-output"]
def pictures(rows):
    return pool.batch(rows).float() / 255


@torch.no_grad()
def before_the_first_step(count=128, **changes):
    """Mean cosines and the loss of an untrained MoCo."""
    s = preset_settings("moco", "quick", changes)
    network = build_method("moco", s, pool, seed=0)
    views = network.views(pictures(torch.arange(count)), generator(0, "first step"))
    loss = network(views)["info_nce"].item()
    q, k = (F.normalize(network.head(network.encoder(view)), dim=1) for view in views)
    cosines, own = q @ k.T, torch.eye(count, dtype=torch.bool)
    return {
        "own key": cosines[own].mean().item(),
        "others' keys": cosines[~own].mean().item(),
        "queue": (q @ network.queue.T).mean().item(),
        "InfoNCE": loss,
        "a guess": math.log(count + s.queue_size),
    }


pd.DataFrame(
    {
        "norm behind the head": before_the_first_step(),
        "norms inside it only": before_the_first_step(output_norm=False),
        "none (MoCo v2)": before_the_first_step(output_norm=False, head_norm=False),
    }
).T.round(2)

# %% [markdown]
# Without norms an untrained network gives all radiographs nearly the same direction. The queue's
# random directions are nowhere near, so they are no obstacle: **a loss below a guess comes for
# free**, although a query is hardly nearer to its own key than to anybody else's. As real keys fill
# the queue, the gift is withdrawn. The norm takes the batch's mean away, nobody is near anybody,
# and the loss begins at the price of a guess. A value of InfoNCE measures the *negatives* as much
# as it measures the encoder.
#
# ## MoCo, trained

# %% tags=["nbval-ignore-output"] mystnb={"image": {"alt": "MoCo's training in three panels against steps: the loss begins at the dotted line of a guess and falls; the share of queries that rank their own key before all negatives, and the share that rank it before the other keys of the same batch, both rise with noise, the second more clearly."}, "figure": {"caption": "MoCo: the loss, and how often a query ranks its own key first: among all negatives (retrieval), and among the keys of its own batch alone (fresh_retrieval). Dotted: the loss of a guess.", "name": "fig-moco"}}
run_moco = course.trained("moco")
settings = preset_settings("moco", course.mode(), {})
negatives = settings.queue_size + settings.in_batch_negatives * (settings.batch_size - 1)
figure = figures.loss_curves(
    {"MoCo": run_moco.log()}, terms=["info_nce", "retrieval", "fresh_retrieval"]
)
figure.axes[0].axhline(math.log(1 + negatives), color=INK, ls=":", lw=1)
display(figure)

# %% tags=["nbval-ignore-output", "hide-input"]
log = run_moco.log()
first, last = log.iloc[0], log.iloc[-10:].mean()
Markdown(
    f"In this run: loss {first['info_nce']:.2f} at the first step and {last['info_nce']:.2f} over "
    f"the last ten logged; a guess costs $\\ln(1+{negatives}) = {math.log(1 + negatives):.2f}$. "
    f"Retrieval among all negatives: {first['retrieval']:.1%} and {last['retrieval']:.1%} (chance "
    f"{1 / (1 + negatives):.1%}); among the batch's own keys: {first['fresh_retrieval']:.1%} and "
    f"{last['fresh_retrieval']:.1%} (chance {1 / settings.batch_size:.1%})."
)

# %% [markdown]
# Why a third panel? A falling loss and a rising retrieval say that queries are nearer to their
# keys than the *queue* is. That may be because they recognise their radiograph, or because the
# queue is old. Against keys as fresh as its own a query cannot rely on age. Here both shares rise
# far above chance, and the fresh one is the higher, as it should be among fewer strangers.

# %% [markdown]
# ## The monitor
#
# While it trains, the package measures the encoder's features of a fixed sample of radiographs,
# without augmentation and in evaluation mode. Two numbers are standard deviations over the
# radiographs, averaged over the dimensions: of the features as they are (`std`), and of features
# scaled to length 1 (`std_normalised`). Three more have a formula each; the **effective rank** is
# `rankme` with `centre=True`, and without its small constant:

# %%
source(collapse.spectrum, collapse.mean_cosine, collapse.rankme, collapse._exp_entropy)

# %% [markdown]
# What does each of them see? Make seven clouds of 512 points in 64 dimensions whose fate we know,
# and ask all of them, together with the variance hinge that we meet below.

# %%
g = generator(0, "clouds")
round_cloud = torch.randn(512, 64, generator=g)
ones = torch.ones(1, 64)
clouds = {
    "healthy": round_cloud,
    "healthy, ten times shorter": 0.1 * round_cloud,
    "cone: healthy plus a large mean": round_cloud + 30 * ones,
    "four directions only": torch.randn(512, 4, generator=g) @ torch.randn(4, 64, generator=g),
    "one direction, 1.1 n 1ᵀ": 1.1 * torch.randn(512, 1, generator=g) @ ones,
    "64 directions, one 30 times the rest": round_cloud
    + 30 * torch.randn(512, 1, generator=g) @ ones / 8,
    "all the same": torch.ones(512, 64),
}
measured = pd.DataFrame(
    {
        name: {**collapse.measure(z), "variance hinge": variance_hinge(z).item()}
        for name, z in clouds.items()
    }
).T
measured.round(3)

# %% [markdown]
# Read it column by column:
#
# - **std** of the raw features calls the shortened cloud collapsed, although nothing but its unit
#   has changed, and calls the single direction healthy.
# - **std of unit features** and **mean cosine** are two sides of one coin (below). They see the
#   cone. The four directions and the single one look (almost) perfect to them: pointing both ways
#   along one line averages out.
# - **effective rank** centres first. It sees the lost directions, and is blind to the cone. It
#   counts shares, not directions: 64 of them with one in the lead read as 30.
# - **RankMe** does not centre. It sees the cone as well as the lost directions, but cannot tell
#   the one from the other.
# - **the hinge** is content with the cone and with the single direction.
#
# No number tells the truth alone. And two of them are one: for unit vectors the variances over
# all $D$ dimensions add up to $1-\lVert\text{mean}\rVert^2$, and the mean cosine of pairs *is*
# $\lVert\text{mean}\rVert^2$ up to a factor that tends to 1.
#
# $$\text{std of unit features} \approx \sqrt{(1 - \text{mean cosine})/D}$$

# %%
check = measured.loc[["healthy", "cone: healthy plus a large mean", "four directions only"]]
implied = np.sqrt((1 - check["mean_cosine"]) / 64)
pd.DataFrame({"measured": check["std_normalised"], "from the cosine": implied}).round(4)

# %% [markdown]
# One more caution. A rank is measured on a *sample*, and $n$ centred points span at most $n-1$
# directions. Here is one healthy cloud in 512 dimensions, seen through more and more pictures:

# %%
cloud = torch.randn(4096, 512, generator=generator(0, "sample"))
sampled = {n: collapse.effective_rank(cloud[:n]) for n in (64, 256, 512, 1024, 4096)}
pd.Series(sampled, name="effective rank").rename_axis("pictures").to_frame().round(0)

# %% [markdown]
# So compare ranks only of equally many pictures and equally many dimensions. The series' monitor
# looks at 2,048 pictures, ours at 256.
#
# ## Which number told the truth?
#
# The series published its monitor's log. The fall of the std is what its author saw; here are all
# three numbers of the run that was called collapsed (MoCo v1) and of the one that was called
# rescued (MoCo v2, with the variance term).

# %% mystnb={"image": {"alt": "Three panels of published numbers against epoch. The std of MoCo v1 falls from 0.36 to 0.06, its mean cosine falls from 0.68 to 0.39, and its effective rank rises from 176 to 262. MoCo v2 has a higher std at the end, a higher cosine and a lower rank."}, "figure": {"caption": "The series' own collapse monitor (SCARCE-CXR, part 3, and its code's results).", "name": "fig-published-collapse"}}
logs = published.collapse_logs()
titles = {run: run.split(" (")[0] for run in logs["run"].unique()}
by_run = {title: logs[logs["run"] == run] for run, title in titles.items()}
chosen = {title: by_run[title] for title in ("moco-v1", "moco-v2")}
figures.collapse_curves(chosen, measures=["mean_std", "mean_cosine", "effective_rank"])

# %%
ends = pd.concat({name: log.iloc[[0, -1]] for name, log in chosen.items()}).droplevel(1)
ends = ends[["epoch", "mean_std", "mean_cosine", "effective_rank"]].copy()
ends["implied std of unit features"] = np.sqrt((1 - ends["mean_cosine"]) / 2048).round(4)
display(ends)

# %% [markdown]
# Only one of three numbers got worse, the one that depends on the unit. In the "collapsed" run
# the directions moved **apart** (cosine 0.675 to 0.393) and filled **more** dimensions (rank
# 175.6 to 261.8); the spread of unit features, which we can work out from the cosine, **rose**.
# What shrank was the length of the features. By cosine and by rank it ended *less* collapsed than
# the run that was rescued.
#
# There is one more clue. The effective rank of 128-dimensional projections cannot exceed 128, so
# these numbers were measured on the 2,048 features of the backbone, while the variance term acts
# on the projections. The head in between may rescale as it likes.
#
# **What this does not show.** That the first run was good. The series published no evaluation of
# it, the two runs differ in augmentation, batch and length, and a high rank is no proof of useful
# features. But "collapse" is not what these numbers say. The same care is due at the other end of
# the table:

# %%
last_rows = pd.concat({name: log.iloc[[-1]] for name, log in by_run.items()}).droplevel(1)
last_rows[["backbone", "epoch", "mean_std", "mean_cosine", "effective_rank"]]

# %% [markdown]
# DINO, which the series calls its failure, has by far the highest rank (after its first epoch it
# was 438.8), next to a cosine of almost 1. That is the cone of our table: centring removes what
# all radiographs share before the rank is counted.

# %% [markdown]
# ## What else makes a loss descend smoothly?
#
# If collapse cannot push InfoNCE down, something else must. Two suspects:
#
# - **batch norm**: companions in a batch leave traces in its statistics, and a key that shares
#   them could be recognised;
# - **a stale queue**: the queue's keys come from older encoders. If those drift, a query could
#   know its key by its *age*.
#
# A small experiment separates them. We replace batch norm by group norm, which looks at one
# picture at a time; fill the queue with real keys before the first step; and train with the
# papers' settings scaled down: SGD, MoCo v2's head without any norm, a slow key encoder, a queue of
# 32 batches, no negatives from the current batch, strong crops.


# %%
def without_batch_norm(module):
    """Group norm everywhere: no picture can see its companions any more."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, nn.GroupNorm(8, child.num_features))
        else:
            without_batch_norm(child)
    return module


scaled_down = with_changes(presets["quick"], {
    "image_size": 32, "batch_size": 64, "symmetric": False,
    "head_layers": 2, "head_norm": False, "output_norm": False,
    "queue_size": 2048, "in_batch_negatives": False, "temperature": 0.1, "key_momentum": 0.99,
    "augmentation.crop_scale": (0.15, 1.0), "augmentation.brightness": 0.4,
    "augmentation.contrast": 0.4,
})  # fmt: skip


@torch.no_grad()
def fill_queue(network):
    """Real keys in the place of the random directions that a new queue holds."""
    s = network.settings
    rows = torch.randperm(len(pool), generator=generator(0, "fill"))[: s.queue_size].sort().values
    views = augment(pictures(rows), s.augmentation, s.image_size, generator(0, "fill", "views"))
    network.queue.copy_(F.normalize(network.key_head(network.key_encoder(views)), dim=1))


# %% [markdown]
# The measurement is the one of the second and third panel above. In every step MoCo counts how
# often a query ranks its own key first: among its negatives, here 2,048 keys **from the queue**
# (`retrieval`), and among the 64 **fresh** keys that this very step has made (`fresh_retrieval`).
# A query that recognises its radiograph does not care when the strangers were made, and among
# fewer of them it should succeed more often.
#
# Every tenth step we look at the projections of clean radiographs as well, and at the share of
# the projections' variance that belongs to the radiograph rather than to the augmentation: the
# covariance of two views over their variance.

# %%
clean = resize(pictures(torch.arange(0, len(pool), len(pool) // 256)[:256]), 32)


@torch.no_grad()
def look(network, views):
    z, z2 = (network.head(network.encoder(view)) for view in views[:2])
    moved, moved2 = z - z.mean(dim=0), z2 - z2.mean(dim=0)
    features = network.encoder(clean)
    projections = network.head(features)
    return {
        "hinge, training views": variance_hinge(z).item(),
        "hinge, clean": variance_hinge(projections).item(),
        "between radiographs": ((moved * moved2).sum() / moved.pow(2).sum()).item(),
        **{f"z {name}": value for name, value in collapse.measure(projections).items()},
        **collapse.measure(features),
        "spectrum": collapse.spectrum(features).tolist(),
        "spectrum_uncentred": collapse.spectrum(features, centre=False).tolist(),
    }


# %% [markdown]
# And the loop, in full. It is the package's own method, step by step.


# %%
def drift(group_norm=True, steps=40, **changes):
    """Train MoCo; look at it every tenth step where no batch statistics can be disturbed."""
    s = with_changes(scaled_down, changes)
    encoder = build_encoder("resnet18", image_size=s.image_size, mean=pool.mean, std=pool.std)
    torch.manual_seed(0)
    network = moco.MoCo(without_batch_norm(encoder) if group_norm else encoder, s)
    network.to(memory_format=torch.channels_last)
    fill_queue(network)
    trained = [p for p in network.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.0, momentum=0.9, weight_decay=5e-3)
    log, looks = [], []
    for step in range(steps + 1):
        images = pictures(batch_rows(len(pool), s.batch_size, step, seed=0))
        views = network.views(images, generator(0, "views", step))
        if group_norm and step % 10 == 0:
            looks.append({"step": step, **look(network, views)})
        optimizer.param_groups[0]["lr"] = 0.06 * min(1, (step + 1) / 30)
        terms = network(views)
        sum(terms.values()).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        network.after_step()
        numbers = {name: value.item() for name, value in (terms | network.metrics).items()}
        log.append({"step": step, **numbers})
    return network, pd.DataFrame(log), pd.DataFrame(looks)


drifting, drift_log, drift_looks = drift()

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"image": {"alt": "Three panels. Left: InfoNCE falls smoothly from chance. Middle: retrieval among keys of the queue rises steeply while retrieval among fresh keys stays near chance. Right: the mean cosine of clean radiographs' projections rises to one while the std of the unit projections falls."}, "figure": {"caption": "A smooth descent without learning. Left: the loss, with chance dotted. Middle: how often a query ranks its key first among the queue's 2,048 keys and among its batch's 64. Right: clean radiographs' projections.", "name": "fig-drift"}}
figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.1), layout="constrained")
axes[0].plot(drift_log["step"], drift_log["info_nce"], color=COLOURS[0])
axes[0].axhline(math.log(2049), color=INK, ls=":", lw=1)
axes[0].set(title="InfoNCE", xlabel="step")
for colour, name in zip(COLOURS, ("retrieval", "fresh_retrieval"), strict=False):
    axes[1].plot(drift_log["step"], drift_log[name], color=colour, label=name)
axes[1].set(title="own key ranked first", xlabel="step", ylim=(-0.03, 1.03))
axes[1].legend()
axes[2].plot(
    drift_looks["step"], drift_looks["z mean_cosine"], "o-", color=COLOURS[2], label="mean cosine"
)
axes[2].plot(
    drift_looks["step"],
    drift_looks["z std_normalised"] / drift_looks["z std_normalised"][0],
    "s-",
    color=COLOURS[3],
    label="unit std / start",
)
axes[2].set(title="projections, clean", xlabel="step")
axes[2].legend()
plt.show()

# %% tags=["nbval-ignore-output", "hide-input"]
final, end = drift_looks.iloc[-1], drift_log.iloc[-5:].mean()
Markdown(
    f"In this run the loss falls from {drift_log['info_nce'][0]:.2f} to "
    f"{drift_log['info_nce'].min():.2f}. In the last five steps a query finds its key among 2,048 "
    f"of the queue in **{end['retrieval']:.0%}** of cases (chance {1 / 2049:.2%}), and among the "
    f"64 of its own batch in **{end['fresh_retrieval']:.1%}** (chance {1 / 64:.1%}). The mean "
    f"cosine between different radiographs is {final['z mean_cosine']:.4f}."
)

# %% [markdown]
# How can a query find its key among strangers when all radiographs have become one point? Look at
# *where* the strangers are. Sort the queue by age and compare the queries with each generation:

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"image": {"alt": "Mean cosine between today's queries and the queue's keys against the keys' age in steps. It falls steadily with age, from just below the markers to nearly minus one. Two markers at age zero show the queries' own keys and fresh keys of other radiographs at nearly the same height."}, "figure": {"caption": "The query knows its key by its age: cosine to the queue's keys, generation by generation. At age 0: the own key, and keys of other radiographs made at the same moment.", "name": "fig-age"}}
with torch.no_grad():
    rows = batch_rows(len(pool), 64, 41, seed=0)
    views = drifting.views(pictures(rows), generator(0, "views", 41))
    query = F.normalize(drifting.head(drifting.encoder(views[0])), dim=1)
    key = F.normalize(drifting.key_head(drifting.key_encoder(views[1])), dim=1)
    slots = (drifting.queue_start - 1 - torch.arange(2048)) % 2048
    by_age = (query @ drifting.queue[slots].T).mean(dim=0).view(32, 64).mean(dim=1)
    others = (query @ key.T)[~torch.eye(64, dtype=torch.bool)].mean()
figure, axis = plt.subplots(figsize=(5.6, 3.2), layout="constrained")
axis.plot(np.arange(1, 33), by_age, "o-", color=COLOURS[0], label="queue")
axis.plot(0, (query * key).sum(dim=1).mean(), "^", color=COLOURS[2], ms=9, label="own key")
axis.plot(0, others, "x", color=COLOURS[1], ms=9, mew=2, label="fresh keys, other radiographs")
axis.set(xlabel="age of the key, steps", ylabel="mean cosine to the query")
axis.legend()
plt.show()

# %% [markdown]
# The whole cloud of embeddings moves, step after step. Today's keys are the nearest
# to today's queries, whoever they belong to; the keys of the steps before trail behind, and the
# oldest ones end up on the far side. "Which key is mine?" is answered by "one of the newest", and for that
# nobody has to look at the radiograph. It also predicts about where the descent must end: a query
# that excludes every generation but the last still has to guess among 64 keys and its own.

# %% tags=["nbval-ignore-output", "hide-input"]
Markdown(
    f"$\\ln(1+64) = {math.log(65):.2f}$; the lowest loss of this run is "
    f"{drift_log['info_nce'].min():.2f}."
)

# %% [markdown]
# This is the cone whose negatives are elsewhere that we asked for above.
#
# If age is read from where the cloud *as a whole* is, then take that away. The norm behind the head
# of the quick recipe does so: it subtracts from the queries, and from the keys, the mean of their
# own batch, whichever encoder they come from. Nothing else is changed:

# %%
_, log_norm, _ = drift(output_norm=True)

# %% tags=["nbval-ignore-output"]
measured_last = ["info_nce", "retrieval", "fresh_retrieval"]
normed = log_norm.iloc[-5:].mean()
pd.DataFrame({"as above": end, "norm behind the head": normed}).T[measured_last].round(3)

# %% [markdown]
# The smooth descent is gone, and with it the retrieval that ran ahead. The loss is back near
# $\ln(1+2048)$, where 40 steps of so slow a recipe should be.
#
# **Is batch norm acquitted, then?** It cannot be the culprit above, because there was none. That
# says nothing about a network that has it. Exercise 2 puts it into the encoder, once as it is and
# once *split*, so that no key sits in the company of its query (the shuffling of MoCo's paper): the
# drift comes later in both. A leak would have ended where the norm was split. But nobody can tell
# from a published log whether the series' run went this way.
#
# What the experiment shows: **the training loss and the training retrieval cannot tell learning
# from drift**, and one extra number can. It is why the quick run above has a short queue, a fast key
# encoder, fresh negatives and a norm, and why its third panel stands beside the second. What its
# features are worth is not for the pretext task to say; chapter 5 measures it.
#
# ## The variance term, and what it can do
#
# The remedy of the series is one third of VICReg (Bardes et al. 2021): a hinge that fires for
# every dimension of the projections whose standard deviation over the batch is below 1.

# %%
source(variance_hinge)

# %% [markdown]
# InfoNCE alone, says the series, "couldn't keep all 128 dimensions alive"; the hinge can. Each
# dimension, yes; each *direction*, no. (The norm behind the quick recipe's head is the same idea as
# a law instead of a fee: over a training batch every dimension has a standard deviation of 1.) Take
# one random number $n$ for every radiograph and copy it into all dimensions:
# $z = 1.1\, n\, \mathbf 1^\top$.

# %%
n = torch.randn(512, 1, generator=generator(1, "rank one"))
z = 1.1 * n @ torch.ones(1, 16)
print(f"std of every dimension: {z.std(dim=0).min():.3f} to {z.std(dim=0).max():.3f}")
print(f"variance hinge:         {variance_hinge(z):.4f}")
print(f"covariance term:        {covariance_penalty(z):.1f}")
print(f"effective rank:         {collapse.effective_rank(z):.3f} of 16")

# %% [markdown]
# Every dimension is alive, and they all say the same. The hinge rests. The part of VICReg that
# was left out, the **covariance term** (the sum of squared covariances between different
# dimensions, over their number), is the one that objects.
#
# There is a second way out, less obvious. The series computes the hinge on *augmented* views, so
# the augmentation's own randomness counts as spread. Repeat the drifting run with the term
# switched on: once on the views, as in the series, and once on the same radiographs without
# augmentation (`regularise="clean"`, one more forward pass a step).

# %%
_, log_views, looks_views = drift(variance_weight=1.0)
_, log_clean, looks_clean = drift(variance_weight=1.0, regularise="clean")

# %% tags=["nbval-ignore-output"]
numbers = [
    "hinge, training views", "hinge, clean", "between radiographs",
    "z std", "z mean_cosine", "z effective_rank", "retrieval", "fresh_retrieval",
]  # fmt: skip
compared = {
    "at the start": {**drift_looks.iloc[0], **drift_log.iloc[0]},
    "without the term": {**drift_looks.iloc[-1], **end},
    "on views": {**looks_views.iloc[-1], **log_views.iloc[-5:].mean()},
    "on clean radiographs": {**looks_clean.iloc[-1], **log_clean.iloc[-5:].mean()},
}
pd.DataFrame(compared).reindex(numbers).astype(float).round(3)

# %% [markdown]
# On the views that it was trained on, the hinge is (nearly) silent: every one of the 128
# dimensions is alive. Now look at what it was paid with. The std is back, but the mean cosine of
# clean radiographs is still close to 1 and the effective rank of their projections is a handful
# at best: the $n\,\mathbf 1^\top$ of the cell above, met in the wild. "Between radiographs" says
# how much of the spread on views belongs to the radiographs at all; the rest is crop, brightness
# and noise. The last two rows say whether anything was learnt: retrieval among fresh keys has a
# chance of 1 in 64. In this small system the term repairs the number that it looks at.
#
# **What this does not show.** That the variance term did nothing for the series. Its second run
# also changed crops, noise, batch and length, and did well downstream (chapter 6). A satisfied
# hinge is no proof, that is all: measure the spread of clean radiographs, and measure directions.

# %% [markdown]
# ## BarlowTwins: the loss as a picture
#
# BarlowTwins has no negatives, no queue and no second encoder. It standardises every feature of
# both views over the batch and looks at the matrix of correlations between them. It wants ones on
# the diagonal (the same feature says the same of both views) and zeros elsewhere (no two features
# say the same):

# %%
source(barlow.cross_correlation, barlow.correlation_terms)

# %% tags=["nbval-ignore-output"] mystnb={"image": {"alt": "BarlowTwins' two terms against training steps, both noisy: the invariance term falls in the first steps and then slowly, the weighted redundancy term jumps up from near zero and stays."}, "figure": {"caption": "BarlowTwins: the two terms of the loss.", "name": "fig-barlow-loss"}}
run_barlow = course.trained("barlow")
figures.loss_curves({"BarlowTwins": run_barlow.log()}, terms=["invariance", "redundancy"])

# %% tags=["nbval-ignore-output"] mystnb={"image": {"alt": "Two cross-correlation matrices of 48 projected features. Before training nearly white: almost no correlation anywhere. After training a red diagonal, and strong positive and negative correlations in blocks and stripes beside it."}, "figure": {"caption": "The cross-correlation of two views' projections before and after training: 48 of the dimensions.", "name": "fig-barlow"}}
barlow_settings = preset_settings("barlow", course.mode(), {})
after = build_method("barlow", barlow_settings, pool, seed=0)
before = build_method("barlow", barlow_settings, pool, seed=0)
after.load_state_dict(read_tensors(run_barlow.path / "method.safetensors")[0])


@torch.no_grad()
def projected(network, count=512):
    """Projections of two views of the same radiographs."""
    views = network.views(pictures(torch.arange(count)), generator(0, "correlation"))
    return [network.projector(network.encoder(view)) for view in views]


projections = {"before training": projected(before), "after training": projected(after)}
matrices = {name: barlow.cross_correlation(*z) for name, z in projections.items()}
figure, axes = plt.subplots(1, 2, figsize=(8.4, 3.9), layout="constrained")
for axis, (name, matrix) in zip(axes, matrices.items(), strict=True):
    shown = axis.imshow(matrix[:48, :48], cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set(
        title=name, xlabel="feature of view 2", ylabel="feature of view 1", xticks=[], yticks=[]
    )
    axis.grid(False)
figure.colorbar(shown, ax=axes, label="correlation", shrink=0.85)
plt.show()

# %% tags=["nbval-ignore-output"]
summary = {}
for name, matrix in matrices.items():
    width = len(matrix)
    _, redundancy = barlow.correlation_terms(matrix)
    summary[name] = {
        "mean of the diagonal": torch.diagonal(matrix).mean().item(),
        "root mean square elsewhere": (redundancy / (width**2 - width)).sqrt().item(),
        "effective rank of the projections": collapse.effective_rank(projections[name][0]),
    }
pd.DataFrame(summary).T.round(2)

# %% [markdown]
# Before training two views of a radiograph have next to nothing in common that the network could
# tell: the matrix is pale everywhere, the diagonal included. Training darkens the diagonal, as it
# should, and much else besides. The quickest way to agree about a radiograph is to say a few
# robust things about it in many copies, some with the opposite sign; that is what the blocks and
# stripes are, and the rank counts them. The redundancy term sees the copies (unlike the hinge, it
# looks at *pairs* of dimensions), but in a quick run it gets no further than holding the balance:
# taking the copies apart is the slow part. The series trained for 200 epochs.

# %% [markdown]
# ## All runs in one place
#
# The widget plays the monitor's records: choose runs, drag through training, switch centring on
# and off to see the cone appear and vanish, and compare the spectrum with the numbers that
# summarise it. All of them were measured on clean radiographs' features.

# %% tags=["nbval-ignore-output"]
records = drift_looks.assign(epoch=drift_looks["step"] / (len(pool) // 64)).merge(
    drift_log[["step", "info_nce"]].rename(columns={"info_nce": "loss"}), on="step"
)
SpectrumWidget(
    {"MoCo": run_moco, "BarlowTwins": run_barlow, "MoCo, drifting": records}, axis="step"
)

# %% tags=["nbval-ignore-output"]
monitors = {
    "MoCo": run_moco.log("monitor"),
    "BarlowTwins": run_barlow.log("monitor"),
    "MoCo, drifting": drift_looks,
}
measures = ["std", "std_normalised", "mean_cosine", "effective_rank", "rankme"]
pd.concat(
    {name: log.iloc[[0, -1]].set_index("step")[measures] for name, log in monitors.items()}
).round(3)

# %% [markdown]
# The first row of every run is an untrained network. Set it beside the last row of the two that
# have learnt something:

# %% tags=["nbval-ignore-output", "hide-input"]
told = []
for name in ("MoCo", "BarlowTwins"):
    start, end_row = (monitors[name].iloc[i] for i in (0, -1))
    told.append(
        f"{name}: effective rank {start['effective_rank']:.0f} untrained, "
        f"{end_row['effective_rank']:.0f} trained; mean cosine {start['mean_cosine']:.2f} "
        f"untrained, {end_row['mean_cosine']:.2f} trained."
    )
Markdown("In these runs: " + " ".join(told))

# %% [markdown]
# Random features are a cone with many small directions: high in rank, high in cosine. Learning
# opens the cone and, at first, keeps fewer directions. A high rank is therefore no certificate, and
# two runs can be compared by it only if they differ in little else. Judge a run against its own
# start and by more than one number; in the end, judge it by a probe (chapter 5).

# %% [markdown]
# ## Collapse that we understand
#
# In a deep network too much happens at once. Jing et al. (2022) found a system that is small
# enough: a *linear* encoder. Give it signals in 16 independent directions, all equally strong.
# The two views add noise, weak along eight directions, strong along the other eight, as an
# augmentation that wipes out some of what distinguishes radiographs.


# %% tags=["nbval-ignore-output"]
def linear_system(noise, contrast=True, steps=300, **regularised):
    """Train by InfoNCE, or (no contrast) by the squared difference of the views alone.

    Returns looks at the clean signals' embeddings, and the encoder's singular values at the end.
    """
    g = generator(0, "linear")
    weight = (torch.randn(16, 16, generator=g) / 4).requires_grad_()
    optimizer = torch.optim.Adam([weight], lr=0.01)
    regulariser = Regulariser(RegularisedSettings(steps=steps, **regularised))
    signals, empty = torch.randn(2048, 16, generator=g), torch.empty(0, 16)
    looks = []
    for step in range(steps + 1):
        z = (signals @ weight.T).detach()
        looks.append({"rank": collapse.effective_rank(z), "std": z.std(dim=0).mean().item()})
        if regulariser.settings.control == "rank" and step % 5 == 0:
            regulariser.hold(looks[-1]["rank"])
        x = torch.randn(256, 16, generator=g)
        z1, z2 = ((x + noise * torch.randn(256, 16, generator=g)) @ weight.T for _ in range(2))
        loss = F.mse_loss(z1, z2)
        if contrast:
            q, k = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
            loss = moco.info_nce(q, k, empty, 0.2, in_batch=True)
        loss = loss + sum(regulariser(z1, z2).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return pd.DataFrame(looks), torch.linalg.svdvals(weight.detach())


def at_steps(systems):
    """Rank and std along training, one row a system."""
    rows = {}
    for name, (looks, _) in systems.items():
        ranks = {f"rank, step {step}": looks["rank"][step] for step in (0, 30, 300)}
        rows[name] = {**ranks, "std, step 300": looks["std"][300]}
    return pd.DataFrame(rows).T.round(2)


mixed = torch.tensor([0.5] * 8 + [2.0] * 8)
both = {"variance_weight": 1.0, "covariance_weight": 1.0}
systems = {
    "InfoNCE": linear_system(mixed),
    "InfoNCE + hinge": linear_system(mixed, variance_weight=1.0),
    "InfoNCE + hinge + covariance": linear_system(mixed, **both),
    "InfoNCE, weak noise everywhere": linear_system(torch.full((16,), 0.5)),
}
at_steps(systems)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels. Left: effective rank against step for four linear systems; two fall together to eight, the one with a covariance term stays near twelve, weak noise climbs to sixteen. Right: singular values of the encoder; with strong noise and no covariance term the last eight vanish."}, "figure": {"caption": "Dimensional collapse in a linear encoder. Left: effective rank of clean signals. Right: the encoder's singular values after 300 steps.", "name": "fig-linear"}}
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.4), layout="constrained")
for (name, (looks, values)), colour, style in zip(
    systems.items(), COLOURS, ("-", "--", "-", "-"), strict=False
):
    left.plot(looks["rank"], color=colour, ls=style, label=name)
    right.semilogy(np.arange(1, 17), values.clamp(min=1e-4), "o", ls=style, color=colour)
left.set(xlabel="step", ylabel="effective rank", ylim=(7, 16.5))
right.set(xlabel="direction", ylabel="singular value")
figure.legend(loc="outside lower center", ncols=2)
plt.show()

# %% [markdown]
# Now every part has a cause. InfoNCE alone keeps the eight directions that survive the
# augmentation and lets go of the others: their noise hurts the positive pair more than their
# signal helps. This is **dimensional collapse**: not a lack of negatives, but an augmentation
# that is stronger than the signal. The hinge changes nothing, because the sixteen outputs can all
# be alive while living on eight directions. The covariance term does: it makes outputs differ.
# And with weak noise everywhere nothing collapses at all. How strong is too strong?

# %% tags=["nbval-ignore-output"]
strengths = [0.5, 0.75, 1.0, 1.25, 1.5, 2.0]
ranks = [linear_system(torch.tensor([0.5] * 8 + [s] * 8))[0]["rank"][300] for s in strengths]
table = {"noise std on eight directions": strengths, "effective rank after 300 steps": ranks}
pd.DataFrame(table).round(2)

# %% [markdown]
# The signal has a standard deviation of 1. The rank gives way around the point where the
# augmentation's noise becomes as large as what it acts on. In words for radiographs: **what the
# augmentation varies more than the patients do, the encoder will forget.** For a crop of 8 % or a
# brightness factor of 1.8 that is worth a thought, and chapter 2's pictures of erased findings
# show what it looks like.

# %% [markdown]
# One more experiment on the same bench. Take the negatives away altogether: what is left is "the
# two views should agree" (a squared difference). Then add VICReg's two other terms, one after the
# other.

# %% tags=["nbval-ignore-output"]
without_negatives = {
    "agreement alone": linear_system(mixed, contrast=False),
    "+ hinge": linear_system(mixed, contrast=False, variance_weight=1.0),
    "+ hinge + covariance (VICReg)": linear_system(mixed, contrast=False, **both),
}
at_steps(without_negatives)

# %% [markdown]
# Agreement alone is cheapest where everything is zero: the std vanishes, a **complete** collapse.
# The effective rank does not report it. It compares singular values with each other, and a cloud
# the size of nothing still has a shape. (So one more blind spot for the list above.) The hinge
# restores the size and not the directions; the covariance term is what keeps more of them. Each
# of the two prevents a collapse that the other would leave.
#
# ## A weight that watches the rank
#
# The series names it as future work (part 6): monitor the effective rank during pretraining, and
# let it adjust the regularisation so that a target is held. There is prior art: AdaDim
# (Kokilepersaud et al. 2025) weighs its losses by an effective rank, WERank (Pasand et al. 2024)
# adds a term against its loss, and Hassanpour et al. (2024) met dimensional collapse in MoCo on
# medical images. In this package it is a setting of MoCo and VICReg, `control="rank"`, and an
# integrator: at every look the weight grows by gain times $\ln(\text{target}/\text{rank})$, and
# never falls below 0. The covariance term gets a twenty-fifth of it, VICReg's own proportion.

# %%
source(Regulariser.hold)

# %% [markdown]
# The linear system first, with a fixed weight of zero and with a control that asks for a rank of
# 12; once with negatives, once with agreement alone:

# %% tags=["nbval-ignore-output"]
control = {"control": "rank", "target_rank": 12.0, "control_gain": 2.0}
at_steps(
    {
        "InfoNCE": systems["InfoNCE"],
        "InfoNCE, controlled": linear_system(mixed, **control),
        "agreement alone": without_negatives["agreement alone"],
        "agreement, controlled": linear_system(mixed, contrast=False, **control),
    }
)

# %% [markdown]
# With a weight of zero both run into their collapse; the control ends near its target, on the
# same data and from the same start. Nobody had to know the weight, but somebody had to choose a
# rank.
#
# Does a network on radiographs follow? Three short runs at 32 px, alike in all but the two terms:
# agreement alone, the same with a control, and VICReg with its own fixed weights. The control
# looks at the features of 256 clean radiographs every second step. It asks for a rank of 150,
# more than the untrained network has, so that it acts as soon as the rank begins to fall.

# %% tags=["nbval-ignore-output"]
small = {"image_size": 32, "batch_size": 64, "steps": 48}
zero = {"variance_weight": 0.0, "covariance_weight": 0.0}
held = {"control": "rank", "target_rank": 150.0, "control_every": 2, "control_gain": 40.0}
arms = {
    "agreement alone": small | zero,
    "controlled": small | zero | held,
    "VICReg, fixed weights": small,
}
controlled_runs = {name: course.trained("vicreg", **arm) for name, arm in arms.items()}

# %% tags=["nbval-ignore-output", "hide-input"] mystnb={"image": {"alt": "Two panels against steps. Left: the effective rank of clean radiographs' features in three runs. All start alike; agreement alone falls lowest and recovers in part; the controlled run and VICReg with fixed weights fall less and end above it. A dotted line marks the target. Right: the weight that the control adds, near zero in the first steps and rising from then on."}, "figure": {"caption": "A control of the effective rank. Left: rank of clean radiographs' features, the target dotted. Right: what the control adds to the variance weight.", "name": "fig-control"}}
figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.3), layout="constrained")
for (name, run), colour in zip(controlled_runs.items(), COLOURS, strict=False):
    looks = run.log("monitor")
    left.plot(looks["step"], looks["effective_rank"], "o-", color=colour, label=name)
left.axhline(held["target_rank"], color=INK, ls=":", lw=1)
left.set(xlabel="step", ylabel="effective rank of features")
left.legend()
weights = controlled_runs["controlled"].log()
right.plot(weights["step"], weights["strength"], color=COLOURS[1])
right.set(xlabel="step", ylabel="weight that the control adds")
plt.show()


# %% tags=["nbval-ignore-output"]
@torch.no_grad()
def clean_projections(run, arm):
    """The finished network's projections of clean radiographs, in evaluation mode."""
    network = build_method("vicreg", preset_settings("vicreg", course.mode(), arm), pool, seed=0)
    network.load_state_dict(read_tensors(run.path / "method.safetensors")[0])
    network.eval()
    return network.projector(network.encoder(clean))


rows = {}
for name, run in controlled_runs.items():
    looks = run.log("monitor")["effective_rank"]
    z = collapse.measure(clean_projections(run, arms[name]))
    rows[name] = {
        "features: lowest rank": looks.min(),
        "features: rank at the end": looks.iloc[-1],
        **{f"projections: {key}": z[key] for key in ("std", "mean_cosine", "effective_rank")},
    }
pd.DataFrame(rows).T.round(3)

# %% [markdown]
# Begin with the projections, where the loss is. Agreement alone leaves next to no spread (std)
# and one shared direction (cosine); the effective rank of what is left is that of noise, as in
# the linear system. With the control the spread is there. In the features, compare the lowest
# rank and the last one: the fall comes within a few steps, and a control can only catch what it
# sees in time. An integrator that starts at zero is slow; exercise 3 gives it a modest target and
# watches it come late. Given one that is out of reach, as here, it never rests: the weight still
# grows at the end, and a long run would need a target that can be met.
#
# **What it costs.** One forward pass of 256 pictures at every look. Counted in forward passes (a
# backward pass as two of them), that is a third of the training here, and a sixtieth at the
# default of every 20 steps and batches of 128. And two numbers to choose, target and gain, in the
# place of one.
#
# **What this does not show.** Any gain in AUC: none was measured, and a rank is not what a
# radiologist asks for. Nor how large the difference is: when these cells were written, a second
# seed ended at a rank of 35 alone and 51 controlled, so trust the direction more than the size.
# Nor that the control beats a well-chosen weight. It is a guard for a run whose weight nobody
# could try out beforehand, no more.
#
# ## Out of memory, counted
#
# The series could not fit BarlowTwins with a ResNet-50 into 22 GB at any batch size it tried, and
# concluded that the batch was not the problem, since memory hardly changed between 512 and 256. A
# message that says "out of memory" always reads close to the limit, whatever was asked for. What
# a step really keeps can be counted without owning the memory: PyTorch's fake tensors have shapes
# and no content. `scxr.memory` runs a real step on them and notes what autograd saves.
#
# The series' own estimate is a table: 38.8 GB of activations for a ResNet-50, two views of 512
# radiographs in float32. Beside it, in GB (10⁹ bytes): the arithmetic of one tensor per
# convolution, its *input*; the tensors that batch norm keeps; and the count of all.

# %%
memory.series_table().round(1)

# %% [markdown]
# The estimate comes close to one tensor per convolution. But every convolution is followed by
# batch norm, which needs *its* input for the backward pass, and that is the convolution's output:
# a second tensor of about the same size. The stem keeps more again. The series' table is short by
# more than half.
#
# Its way out is a ResNet-18 with **checkpointing**: keep only what lies between stages, compute
# the rest again in the backward pass. The series estimates 1.6 GB.

# %%
memory.series_checkpointed().round(1)

# %% [markdown]
# The maps between the stages come out somewhat larger (the stem's output has to be kept, the last
# stage's need not be). What is missing is the inside of the stem, whose large maps come before
# the first checkpoint, and the moment of recomputation, when a stage's maps and their gradients
# are alive together. The package recomputes the stem as well. So which setting fits a card of
# 22 GB? The course ships a table of counts (`python -m scxr.memory` counts anew); memory is
# linear in the batch.

# %%
counted = memory.shipped_grid()
barlow_full = counted[(counted["method"] == "barlow") & (counted["size"] == 224)]
settings_of_a_step = ["backbone", "precision", "checkpointing"]
gigabytes = {
    f"batch {batch}": [total(row, batch) / 1e9 for _, row in barlow_full.iterrows()]
    for batch in (512, 256, 128)
}
barlow_full[settings_of_a_step].assign(**gigabytes).set_index(settings_of_a_step).round(1)

# %% [markdown]
# Half the batch, half the memory, but for the weights; what did not change between 512 and 256 is
# the size of the card. Without checkpointing a ResNet-50 does not fit into 22 GB at either, not
# even in half precision, so failed attempts are no surprise; with checkpointing it fits at 256 in
# either precision, and in bfloat16 at 512. The series' way out, a checkpointed ResNet-18, is
# sound: it was the estimate that was wrong.
#
# And the other methods? The largest batch of 224 px that 22 GB hold in bfloat16, each with its
# full recipe's projections and crops:

# %%
at_224 = counted[(counted["size"] == 224) & (counted["precision"] == "bf16-mixed")]


def largest_batch(row, card=22e9):
    return bisect_right(range(1, 20_000), card, key=lambda batch: total(row, batch))


table = at_224.assign(batch=at_224.apply(largest_batch, axis=1))
table["checkpointing"] = table["checkpointing"].map({False: "plain", True: "checkpointed"})
table.pivot(index="method", columns=["backbone", "checkpointing"], values="batch")

# %% [markdown]
# BarlowTwins and VICReg differ in the loss alone, and so by nothing that matters. With a ResNet-50
# MoCo fits nearly twice the batch: its keys need no gradient, so nothing is kept of the key
# encoder's maps. The queue, which the series names among the costs, is 65,536 keys of 128 numbers:
# 34 MB. DINO and SparK, in chapter 4, carry a teacher and a decoder. Find the recipe for your own card (on the
# command line: `scxr memory barlow --batch 256`):

# %% tags=["nbval-ignore-output"]
largest_first = counted.sort_values(["backbone", "size"], ascending=False, kind="stable")
barlow_first = largest_first.sort_values("method", key=lambda m: m != "barlow", kind="stable")
MemoryWidget(barlow_first, batch=256, card=22)

# %% [markdown]
# ## Take-away
#
# - Complete collapse pins InfoNCE at $\ln(1+K)$. A loss that falls while embeddings draw together
#   says that the negatives are elsewhere: look for a stale queue, and measure retrieval against
#   **fresh** negatives. A norm behind the head took the clue of age away.
# - Raw std moves with the unit, the effective rank is blind to the cone, the cosine is blind to
#   lost directions. Read them together and against an untrained network. By two of three numbers
#   the series' "collapsed" run had not collapsed.
# - A variance hinge keeps dimensions alive, not directions, and on augmented views it can be paid
#   with augmentation noise.
# - What the augmentation varies more than the patients do, a contrastive encoder forgets; a
#   covariance term resists. A rank control finds the weight by itself, if it looks in time.
# - Autograd keeps two large tensors per convolution, not one: count before you rent.
#
# ## Check yourself
#
# **1.** Your MoCo run uses 4,096 negatives. Its loss sits at 8.32 for an hour. What do you
# conclude, and what not?
#
# <details><summary>Answer</summary>
#
# $\ln(4097) = 8.318$: the queries do no better than guessing. That can be complete collapse, or a
# network that has not begun to learn (a learning rate near zero, views that share nothing). The
# monitor tells them apart: in a collapse the unit features' std falls towards 0 from its starting
# value.
#
# </details>
#
# **2.** A colleague doubles all weights of the last layer, and the feature std doubles. Is the
# encoder less collapsed?
#
# <details><summary>Answer</summary>
#
# No. Cosines, ranks and every cosine-based loss are unchanged; only the unit is. A linear probe
# with regularisation may notice, which is why features are normalised before probing.
#
# </details>
#
# **3.** Why does a hinge on the projections' standard deviation not prevent an effective rank of
# 1?
#
# <details><summary>Answer</summary>
#
# It looks at one dimension at a time. If all dimensions are copies of one number with a standard
# deviation above the target, each of them satisfies it. Only a term that compares dimensions
# (covariance, cross-correlation) can object.
#
# </details>
#
# ## Exercises
#
# Try each one first; its solution has been run and opens below it.
#
# **1. A remedy for drift.** Train the drifting system with the batch's own keys as further
# negatives (`in_batch_negatives=True`), and then with a short queue and a fast key encoder as well
# (`queue_size=256, key_momentum=0.9`). Which of the two numbers of retrieval changes, and why can
# it no longer run ahead of the other?

# %% tags=["hide-cell", "nbval-ignore-output"]
remedies = {
    "the batch's keys": {"in_batch_negatives": True},
    "and fast": {"in_batch_negatives": True, "queue_size": 256, "key_momentum": 0.9},
}
last_steps = {"as above": end}
for name, changes in remedies.items():
    _, log, _ = drift(**changes)
    last_steps[name] = log.iloc[-5:].mean()
pd.DataFrame(last_steps).T[["info_nce", "retrieval", "fresh_retrieval"]].round(3)
# `retrieval` cannot run ahead any more: the fresh keys are among its strangers now. But neither
# remedy makes the queries recognise anything within these 40 steps, and with the slow queue the loss
# still falls smoothly: two thousand old keys are told by their age as before.

# %% [markdown]
# **2. Batch norm on trial.** Repeat the drift with batch norm in the encoder, as it is and split in two
# (`drift(group_norm=False, steps=100)`, and `norm_splits=2`). Does `retrieval` still run ahead of
# `fresh_retrieval`, how much later, and does splitting end it?

# %% tags=["hide-cell", "nbval-ignore-output"]
rows = {}
for name, splits in (("batch norm", 1), ("split in two", 2)):
    _, log, _ = drift(group_norm=False, steps=100, norm_splits=splits)
    for first in (30, 60, 90):
        ten = log.iloc[first : first + 10][["retrieval", "fresh_retrieval"]].mean()
        rows[name, f"steps {first} to {first + 9}"] = ten
pd.DataFrame(rows).T.round(3)
# It runs ahead in both, some sixty steps later than with group norm. Shuffled keys share no batch
# with their queries, so this is not batch norm telling who belongs together, but age again.

# %% [markdown]
# **3. A control that comes late.** Repeat the controlled run with `target_rank=60.0` and
# `control_gain=20.0`, once alone and once beside a small fixed weight (`variance_weight=5.0`). When
# does the weight begin to rise, and how far has the rank fallen by then?

# %% tags=["hide-cell", "nbval-ignore-output"]
late = held | {"target_rank": 60.0, "control_gain": 20.0}
rows = {}
for name, fixed in (("control alone", 0.0), ("beside a fixed weight", 5.0)):
    run = course.trained("vicreg", **small | zero | late | {"variance_weight": fixed, "steps": 32})
    looks, strength = run.log("monitor"), run.log().set_index("step")["strength"]
    rows[name] = {
        "weight rises at step": strength[strength > 0].index.min(),
        "rank at the start": looks["effective_rank"].iloc[0],
        "lowest": looks["effective_rank"].min(),
        "at the end": looks["effective_rank"].iloc[-1],
    }
pd.DataFrame(rows).T.round(0)
# The weight rises only once the rank is below its target, and by then the fall is at full speed: it
# overshoots to about a third of the target, and the way back is slow. The fixed weight does not
# prevent the fall, but the rank comes back further. An integrator acts on what has happened.

# %% [markdown]
# **4. Your own radiographs.** Pretrain on them and read the monitor; then look for the cone.
#
# ```bash
# scxr data import folder my_radiographs --labels my_table.csv --out my_store
# scxr pretrain moco --data my_store --out my_moco --quick
# scxr pretrain barlow --data my_store --out my_barlow --quick
# scxr collapse my_moco my_barlow
# ```
#
# The solution does it with 96 phantoms in place of yours, and with runs far too short to learn
# from; leave the `--set` away on your own.

# %% tags=["hide-cell", "nbval-ignore-output"]
work = Path(tempfile.mkdtemp())
(work / "my_radiographs").mkdir()
mine = generate(np.arange(9000, 9096), size=64, hospital="B", masks=False)
for name, picture in zip(mine.table["image"], mine.images, strict=True):
    Image.fromarray(picture).save(work / "my_radiographs" / f"{name}.png")
mine.table[["image", "patient", "view", "findings"]].to_csv(work / "my_table.csv", index=False)


def shell(line):
    """What the terminal does with `line`."""
    print("$", line)
    with chdir(work):
        main(shlex.split(line)[1:])


short = "--set steps=6 batch_size=32 image_size=32"
shell("scxr data import folder my_radiographs --labels my_table.csv --out my_store --size 64")
shell(f"scxr pretrain moco --data my_store --out my_moco --quick {short}")
shell(f"scxr pretrain barlow --data my_store --out my_barlow --quick {short}")
shell("scxr collapse my_moco my_barlow")
# Compare every run with its own step 0. For the spectrum: from scxr.runs import Run, then
# SpectrumWidget({"MoCo": Run.open(work / "my_moco")}), and switch the centring.

# %% [markdown]
# ## Further reading
#
# - van den Oord, Li, Vinyals 2018, *Representation learning with contrastive predictive coding*,
#   arXiv:1807.03748 (InfoNCE)
# - He et al. 2019, *Momentum contrast*, arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297
#   (MoCo v2); Chen, Xie, He 2021, arXiv:2104.02057 (MoCo v3)
# - Zbontar et al. 2021, *Barlow Twins*, arXiv:2103.03230; Bardes, Ponce, LeCun 2021, *VICReg*,
#   arXiv:2105.04906
# - Jing et al. 2022, *Understanding dimensional collapse in contrastive self-supervised
#   learning*, arXiv:2110.09348
# - Kokilepersaud et al. 2025, *AdaDim*, arXiv:2505.12576; Pasand et al. 2024, *WERank*,
#   arXiv:2402.09586 (regularisation that watches a rank)
# - Garrido et al. 2023, *RankMe*, arXiv:2210.02885; Roy and Vetterli 2007, *The effective rank*,
#   EUSIPCO
# - Wang and Isola 2020, *Alignment and uniformity on the hypersphere*, arXiv:2005.10242
# - Sowrirajan et al. 2020, *MoCo-CXR*, arXiv:2010.05352; Hassanpour et al. 2024, arXiv:2402.14611
#   (collapse in medical MoCo)
