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
# # Analysis and what next
#
# *Chapter 6 of 6. What do the published tables carry, what did our own small runs add, and what
# would you do on Monday?*
#
# **After this chapter you can**
#
# - take a table of few-shot results apart: averages, findings won, tests that survive correction,
#   the noise floor;
# - tell "ahead on average" from "ahead", and say which of the two a sentence claims;
# - measure whether a network looks at the finding, against a baseline that knows nothing;
# - choose a method, a backbone and a budget for your own hospital, and know which part of that
#   choice is unproven.
#
# **It costs** well under a minute on two CPU cores once chapters 3 and 4 have left their encoders
# in the cache (otherwise they are trained here first, which takes a few minutes). Nothing is
# downloaded.
#
# **You need** chapter 5: episodes, the probe, intervals. The first half of this chapter needs no
# network at all.

# %% tags=["nbval-skip", "hide-cell"]
# On Colab: install scxr where it is missing. Its own torch and numpy stay as they are.
try:
    import scxr  # noqa: F401
except ImportError:
    from IPython import get_ipython

    get_ipython().run_line_magic("pip", "install -q git+https://github.com/scxr/scxr")

# %%
import numpy as np
import pandas as pd
from IPython.display import Markdown

from scxr import course, figures, published
from scxr.data.episodes import choose_findings
from scxr.encoders import build_encoder
from scxr.evaluate import draw_experiment, holm, load_inits, probe_scores, summarise
from scxr.evaluate.statistics import mean_interval, score_interval
from scxr.explain import explain_finding, measure
from scxr.explain.localisation import centre_prior
from scxr.figures.style import COLOURS, INK, drawn, legend, looks_of, panels
from scxr.widgets import GradCamWidget

METHODS = {"moco-v2": "MoCo v2", "barlow": "BarlowTwins", "spark": "SparK"}

# %% [markdown]
# ## What was published
#
# The series ends with 900 numbers: three methods, two ways to use them (a linear probe on frozen
# features, and fine-tuning), three starting points (self-supervised, ImageNet, random weights),
# ten findings of PadChest and five shot counts. Each number is a mean AUC over ten trials. All of
# them are in the package, with their source (*SCARCE-CXR*, part 6 and the result files of its
# public code), so whatever follows is arithmetic that you can repeat.

# %%
table = published.fewshot()
print(
    len(table),
    "results;",
    ", ".join(f"{table[c].nunique()} {c}s" for c in ("method", "mode", "finding", "init")),
)
table.sample(3, random_state=1)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six panels, one for each method and mode. Published mean AUC over ten findings against 1 to 50 shots for the self-supervised, the ImageNet and the random start. The self-supervised line is on top in every panel; in the fine-tuning panels the ImageNet line is flat and bumpy."}, "figure": {"caption": "The published averages over ten findings. Source: SCARCE-CXR, part 6 and its result files.", "name": "fig-published"}}
averages = published.averages()
averages = pd.concat(
    averages.query("mode == @mode and method == @method")
    for mode in ("probe", "finetune")
    for method in METHODS
)


def on_one_scale(figure, low, high):
    """The same vertical scale in all panels."""
    for axis in figure.axes:
        axis.set_ylim(low, high)
    return figure


on_one_scale(figures.published_curves(averages.replace(METHODS)), 0.48, 0.77)

# %% [markdown]
# First, do the printed averages follow from the printed rows? The appendix gives one for each
# method, mode and start at 50 shots.

# %%
STARTS = ["ssl", "imagenet", "random"]
printed = pd.DataFrame(  # SCARCE-CXR, part 6, appendix: the last row of each table
    [
        ("moco-v2", "probe", 0.751, 0.669, 0.588),
        ("moco-v2", "finetune", 0.678, 0.641, 0.609),
        ("barlow", "probe", 0.732, 0.669, 0.570),
        ("barlow", "finetune", 0.729, 0.630, 0.616),
        ("spark", "probe", 0.717, 0.669, 0.586),
        ("spark", "finetune", 0.714, 0.630, 0.596),
    ],
    columns=["method", "mode", *STARTS],
).set_index(["method", "mode"])
recomputed = averages.query("shots == 50").set_index(["method", "mode"])[STARTS]
largest = (recomputed - printed).abs().max().max()
print(f"largest difference between a printed average and a recomputed one: {largest:.4f}")

# %% [markdown]
# They do, to within rounding. The arithmetic is sound; what remains is what is *said* about it.

# %% [markdown]
# ## An average is not a claim about findings
#
# "SSL beats ImageNet" can mean two things: on average over ten findings, or for the finding you
# have. For the second, look at every cell: self-supervised minus ImageNet, in hundredths of AUC.


# %% tags=["hide-input"] mystnb={"image": {"alt": "Heat map of self-supervised minus ImageNet AUC in hundredths for ten findings, five shot counts, three methods and two modes. Most cells are positive, up to plus 38 for pulmonary fibrosis at one shot; fibrotic band, callus and granuloma hover around zero, and fine-tuning holds more negative cells."}, "figure": {"caption": "Published AUC of the self-supervised start minus ImageNet, in hundredths. Blue: pretraining ahead, orange: ImageNet ahead. Source: SCARCE-CXR, result files; differences computed here.", "name": "fig-margins"}}
@drawn
def margin_map(margins, limit=0.25):
    """Findings by shots, a panel a mode and method; every cell is numbered."""
    import matplotlib.pyplot as plt
    from matplotlib.colors import LinearSegmentedColormap

    colours = LinearSegmentedColormap.from_list("margin", [COLOURS[1], "#f4f4f4", COLOURS[0]])
    rows = margins.groupby("finding")["difference"].mean().sort_values().index[::-1]
    figure, grid = plt.subplots(2, 3, figsize=(10, 7.4), sharey=True, layout="constrained")
    for line, mode in zip(grid, ("probe", "finetune"), strict=True):
        for axis, method in zip(line, METHODS, strict=True):
            part = margins[(margins["mode"] == mode) & (margins["method"] == method)]
            cells = part.pivot(index="finding", columns="shots", values="difference").loc[rows]
            axis.imshow(cells, cmap=colours, vmin=-limit, vmax=limit, aspect="auto")
            for (y, x), value in np.ndenumerate(cells.to_numpy()):
                axis.text(
                    x,
                    y,
                    f"{round(100 * value):+d}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="black" if abs(value) < 0.15 else "white",
                )
            axis.set_title(f"{METHODS[method]}, {mode}", fontsize=11)
            axis.set_xticks(range(cells.shape[1]), cells.columns)
            axis.set_yticks(range(len(rows)), rows, fontsize=9)
            axis.grid(False)
    for axis in grid[1]:
        axis.set_xlabel("shots")
    return figure


margin_map(published.margins("imagenet"))

# %% [markdown]
# Blue prevails, and it is not spread evenly. Pulmonary mass carries much of the average, fibrosis
# most of it at one shot (four held-out positives), the hemidiaphragm and the hernia a good part
# of the rest. For calcified granuloma, fibrotic band and callus the sign changes from cell to
# cell, whatever the method. If your finding is of that kind, the average was not about you. In
# numbers, for each method and mode:

# %%
ahead = published.beats_at_every_shot_count("imagenet")
print(f"ahead of ImageNet in {ahead['cells_won'].sum()} of {ahead['cells'].sum()} cells")
ahead.replace(METHODS).set_index(["mode", "method"]).drop(columns="verdict")

# %% [markdown]
# ## The claims, one by one
#
# The series draws conclusions in words. Below is each one that its tables can decide, with the
# number that decides it and one of three marks:
#
# - **holds**: true in every case that the sentence speaks of;
# - **on average**: true of the mean over the ten findings, and not of each finding;
# - **does not hold**: not even that, or not once it is corrected for how often one looked.

# %%
claims = []


def check(section, claim, found, average, everywhere=True):
    """Note a claim, the number found, and whether it is true on average and in every case."""
    mark = "holds" if average and everywhere else "on average" if average else "**does not hold**"
    claims.append((section, claim, found, mark))


def count(true):
    """How many of a table of yes and no are yes."""
    values = np.asarray(true).ravel()
    return f"{values.sum()} of {values.size}"


cells = {versus: published.margins(versus) for versus in published.BASELINES}
mean = published.averages().set_index(["mode", "method", "shots"])

# %% [markdown]
# Claims about beating a baseline. "Everywhere" means every cell of the heat map.

# %%
for versus, name in (("imagenet", "ImageNet"), ("random", "random weights")):
    part = cells[versus].query("method == 'moco-v2'")
    won = part["difference"] > 0
    average = part.groupby(["mode", "shots"])["difference"].mean() > 0
    check(
        "6.2",
        f"MoCo v2 beats {name} at every shot count, probed and fine-tuned",
        f"ahead in {count(average)} averages, in {count(won)} cells",
        average.all(),
        won.all(),
    )

part = cells["imagenet"].query("mode == 'probe' and shots <= 5")
won = part["difference"] > 0
average = part.groupby(["method", "shots"])["difference"].mean() > 0
check(
    "0.2",
    "with few shots (1 and 5) probes of all three methods beat ImageNet",
    f"ahead in {count(average)} averages, in {count(won)} cells",
    average.all(),
    won.all(),
)

lead = (mean["ssl"] - mean["imagenet"]).loc["probe", "moco-v2"]
check(
    "6.2",
    "MoCo's probe leads ImageNet by 0.056 to 0.118",
    f"{lead.min():.4f} to {lead.max():.4f}",
    np.allclose([lead.min(), lead.max()], [0.056, 0.118], atol=1e-3),
)

part = cells["imagenet"].query("mode == 'probe' and method == 'barlow' and shots == 50")
clear = part["difference_in_sd"] > 1
check(
    "6.4",
    "BarlowTwins' probe beats ImageNet for 9 of 10 findings at 50 shots",
    f"{count(part['difference'] > 0)}; by more than one SD over trials: {count(clear)}",
    (part["difference"] > 0).sum() == 9,
)

# %% [markdown]
# Claims about the probe and fine-tuning.

# %%
own = table[table["init"] == "ssl"].pivot_table(
    index=["method", "finding", "shots"], columns="mode", values="auc_mean"
)
moco, barlow = (own.xs((method, 50), level=("method", "shots")) for method in ("moco-v2", "barlow"))
check(
    "6.2",
    "at 50 shots MoCo's frozen probe outperforms fine-tuning",
    f"{moco['probe'].mean():.3f} against {moco['finetune'].mean():.3f}; "
    f"higher for {count(moco['probe'] > moco['finetune'])} findings",
    moco["probe"].mean() > moco["finetune"].mean(),
    (moco["probe"] > moco["finetune"]).all(),
)

tie = barlow["finetune"] - barlow["probe"]
check(
    "6.4",
    "BarlowTwins: probe and fine-tuning are tied at 50 shots",
    f"mean difference {tie.mean():+.3f}; by finding {tie.min():+.3f} to {tie.max():+.3f}",
    abs(tie.mean()) < 0.01,
    (tie.abs() < 0.01).all(),
)

probed, tuned = (mean.loc[(mode, "barlow", 50)] for mode in ("probe", "finetune"))
moved = tuned - probed
check(
    "6.4",
    "BarlowTwins: fine-tuned, the lead over ImageNet grows because gradients boost it",
    f"lead {probed['ssl'] - probed['imagenet']:.3f} probed, "
    f"{tuned['ssl'] - tuned['imagenet']:.3f} fine-tuned; "
    f"pretrained moved {moved['ssl']:+.3f}, ImageNet {moved['imagenet']:+.3f}",
    moved["ssl"] > 0,
)

lead = (mean["ssl"] - mean["imagenet"]).loc["finetune"].unstack("method")
check(
    "6.1",
    "fine-tuned, the gap to ImageNet narrows with more labels",
    "from 1 to 50 shots: "
    + "; ".join(f"{METHODS[m]} {lead.at[1, m]:.3f} to {lead.at[50, m]:.3f}" for m in METHODS),
    (lead.loc[50] < lead.loc[1]).all(),
)

# %% [markdown]
# Claims that compare the methods with each other.

# %%
probe = own["probe"].unstack("method")
weakest = probe.xs(50, level="shots")
check(
    "6.6",
    "SparK has the weakest probe at 50 shots",
    ", ".join(f"{METHODS[m]} {weakest[m].mean():.3f}" for m in METHODS)
    + f"; lowest for {count(weakest.idxmin(axis=1) == 'spark')} findings",
    weakest.mean().idxmin() == "spark",
    (weakest.idxmin(axis=1) == "spark").all(),
)

others = ["moco-v2", "barlow"]
won = probe[others].gt(probe["spark"], axis=0).to_numpy()
average = probe.groupby("shots").mean()
average = average[others].gt(average["spark"], axis=0).to_numpy()
check(
    "6.6",
    "MoCo and BarlowTwins are strictly better than SparK at every shot count (probe)",
    f"ahead in {count(average)} averages, in {count(won)} cells",
    average.all(),
    won.all(),
)

late = own["finetune"].unstack("method").query("shots >= 10")
behind = late["spark"] - late["moco-v2"]
average = behind.groupby("shots").mean()
check(
    "6.6",
    "from 10 shots on, SparK fine-tuned is as good as MoCo v2 fine-tuned",
    ", ".join(f"{d:+.3f} at {n}" for n, d in average.items())
    + f"; within 0.02 or ahead in {count(behind > -0.02)} cells",
    (average > -0.02).all(),
    (behind > -0.02).all(),
)

# %% [markdown]
# And three about certainty and size. The first rests on paired t-tests across the ten findings,
# the second on ten trials that all end in the same four images.

# %%
tests = published.recomputed_t_tests()
family = tests.query("mode == 'finetune' and method == 'moco-v2' and versus == 'random'")
family = family.assign(corrected=holm(family["p"].to_numpy())).query("shots <= 20")
check(
    "6.2",
    "fine-tuned MoCo beats random weights significantly up to 20 shots",
    f"p < 0.05 at {count(family['p'] < 0.05)} shot counts; "
    f"after Holm's correction for the five tests at {count(family['corrected'] < 0.05)}",
    (family["corrected"] < 0.05).all(),
)

low, _ = score_interval(1.0, 4, 4)
check(
    "6.2",
    "pulmonary fibrosis is told apart without error, AUC 1.000 ± 0.000",
    f"4 held-out positives, steps of 1/16: the 95 % interval starts at {low:.2f}",
    low > 0.95,
)

sizes = {
    name: sum(
        p.numel() for p in build_encoder(name, image_size=224, mean=0.5, std=0.25).parameters()
    )
    for name in ("resnet18", "resnet50")
}
ratio = sizes["resnet50"] / sizes["resnet18"]
check(
    "6.4",
    "ResNet-18 is a backbone with 4 times fewer parameters than ResNet-50",
    f"{sizes['resnet18'] / 1e6:.1f} and {sizes['resnet50'] / 1e6:.1f} million, {ratio:.1f} times; "
    "only the features are 4 times fewer, 512 and 2,048",
    ratio > 3.5,
)

# %%
header = "| part, section | claim | what the numbers say | mark |\n|---|---|---|---|\n"
Markdown(header + "\n".join("| " + " | ".join(row) + " |" for row in claims))

# %% [markdown]
# Read fairly, the main message stands: averaged over these ten findings, pretraining on chest
# radiographs is ahead of both baselines, everywhere. Most of what is added to it in words is true
# of the mean only. Four marks deserve a sentence.
#
# - *Gradients boost it* does not follow. The lead of fine-tuned BarlowTwins grew because
#   fine-tuned **ImageNet fell**; the pretrained network stayed where it was.
# - *The gap narrows* in one method of three, and there not in the order of shots.
# - *1.000 ± 0.000* is not a small error. It is what an AUC looks like when its ruler has sixteen
#   marks (chapter 5).
# - *Four times fewer parameters* is about two times. The width of the features is what differs by
#   four, and a linear probe on 512 numbers is another probe than one on 2,048.

# %% [markdown]
# ## Sixty tests
#
# The series tested each average with a paired t-test over the ten findings: three methods, two
# modes, five shot counts, two baselines. That is sixty tests, and at the 5 % level three of them
# would come out "significant" if nothing were there. **Holm's correction** (1979) asks for more:
# multiply the smallest p-value by 60, the next by 59, and so on. How strict it is depends on what
# one calls one question, so here are two answers.

# %%
ours = tests.merge(
    published.t_tests(), on=["mode", "method", "shots", "versus"], suffixes=("", "_printed")
)
largest = (ours["t"] - ours["t_printed"]).abs().max()
print(f"recomputed from rounded AUCs: t differs by at most {largest:.3f}")

tests["p_holm_ten"] = tests.groupby(["mode", "method"])["p"].transform(lambda p: holm(p.to_numpy()))
levels = {
    "uncorrected": "p",
    "Holm, ten tests of a method and mode": "p_holm_ten",
    "Holm, all sixty": "p_holm",
}
counts = {
    label: tests.assign(significant=tests[column] < 0.05)
    .groupby(["mode", "method"])["significant"]
    .sum()
    for label, column in levels.items()
}
counts = pd.DataFrame(counts).rename(index=METHODS)
counts.loc[("both", "all three"), :] = counts.sum()
counts.astype(int)

# %%
tests[tests["p_holm"] < 0.05][["mode", "method", "shots", "versus", "t", "p", "p_holm"]].round(4)

# %% [markdown]
# MoCo's probe passes all ten tests when it is its own family; SparK passes none, in either mode.
# Over all sixty, the two comparisons left are against *random weights*, and none against ImageNet
# is. That is no proof of absence: with ten findings a t-test is blunt.
#
# And it is not quite the right test. The ten findings share their negatives, so they are not ten
# independent experiments; and a finding with four held-out positives weighs as much as one with
# fifty. Testing over *patients*, as chapter 5 does, needs the scores of single images, which were
# not published.

# %% [markdown]
# ## How loud is the noise?
#
# The tables hold a control experiment that nobody asked for. The **ImageNet** start was evaluated
# three times, once beside each method. The probes agree to the last digit: same features, same
# episodes. The *fine-tuned* ImageNet network was trained anew each time. For MoCo v2 and
# BarlowTwins the recipe was the same, so every difference between those two columns is what
# repeating an experiment does by itself.

# %%
imagenet = table[table["init"] == "imagenet"].pivot_table(
    index=["mode", "finding", "shots"], columns="method", values="auc_mean"
)
again = (imagenet["moco-v2"] - imagenet["barlow"]).rename("difference")
for mode in ("probe", "finetune"):
    size = again[mode].abs()
    print(f"{mode}, repeated: mean difference {size.mean():.3f}, largest {size.max():.3f}")

noise = again["finetune"].abs().quantile(0.9)
lead = cells["imagenet"].query("mode == 'finetune'")["difference"]
print(f"\nnine of ten fine-tuned repeats differ by less than {noise:.3f}")
print(f"fine-tuned margins over ImageNet above that: {count(lead > noise)}")
print(f"and below its negative: {count(lead < -noise)}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three overlaid histograms of AUC differences. Repeating ImageNet fine-tuning gives a narrow peak around zero. The margins of probe and fine-tuning over ImageNet are wider and lie mostly to the right of zero, overlapping the peak."}, "figure": {"caption": "Differences in AUC, cell by cell: the same ImageNet start fine-tuned twice, and the pretrained starts against ImageNet. Source: SCARCE-CXR, result files; computed here.", "name": "fig-noise"}}
figures.distributions(
    {
        "same start, fine-tuned again": again["finetune"].to_numpy(),
        "pretrained - ImageNet, fine-tuned": lead.to_numpy(),
        "pretrained - ImageNet, probed": cells["imagenet"]
        .query("mode == 'probe'")["difference"]
        .to_numpy(),
    },
    label="difference in AUC",
    bins=24,
)

# %% [markdown]
# A mean over ten trials still moves by about 0.03 from one fine-tuning campaign to the next,
# sometimes by 0.10. Many single margins are of that size. It is a lower bound, too: both
# campaigns used the same patients.
#
# One more question that costs a line: how much of the lead hangs on the finding with four
# positives?


# %%
def lead_at_50(frame):
    """Mean lead over ImageNet at 50 shots."""
    return frame.query("shots == 50").groupby(["mode", "method"])["difference"].mean()


without = cells["imagenet"][cells["imagenet"]["finding"] != "pulmonary fibrosis"]
pd.DataFrame(
    {"all ten": lead_at_50(cells["imagenet"]), "without pulmonary fibrosis": lead_at_50(without)}
).rename(index=METHODS).round(3)

# %% [markdown]
# Little: its margin is small because everything ranks those four first. It lifts all *levels*,
# and leaves the leads alone.

# %% [markdown]
# ## Probe or fine-tune?
#
# The next question is practical: is it worth training the network itself on the labelled images?
# Here is fine-tuned minus probed, by start and shot count.


# %% tags=["hide-input"] mystnb={"image": {"alt": "Fine-tuned minus probed AUC against shots in three panels. The pretrained starts stay near zero, MoCo v2 falls to minus 0.07 at 50 shots. ImageNet starts at plus 0.05 to 0.07 and crosses to minus 0.04 from 20 shots on, in all three panels."}, "figure": {"caption": "Fine-tuned minus probed, mean over ten findings; above zero, fine-tuning pays. Source: SCARCE-CXR, result files; computed here.", "name": "fig-crossover"}}
@drawn
def crossover(averages):
    """Fine-tuned minus probed AUC, a panel a method, a line a start."""
    wide = averages.set_index(["mode", "method", "shots"])
    gain = wide.loc["finetune"] - wide.loc["probe"]
    figure, axes = panels(len(METHODS), 3, 3.2, 2.9)
    looks = looks_of(["ssl", "imagenet", "random"])
    for axis, method in zip(axes, METHODS, strict=True):
        part = gain.loc[method]
        for init, look in looks.items():
            axis.plot(range(len(part)), part[init], label=init, **look)
        axis.axhline(0, color=INK, lw=1, ls=":")
        axis.set_xticks(range(len(part)), part.index)
        axis.set(title=METHODS[method], xlabel="shots", ylim=(-0.09, 0.09))
    axes[0].set_ylabel("fine-tuned - probed")
    legend(figure, axes[0])
    return figure


crossover(published.averages())

# %%
counts = (
    own.assign(tuned=own["finetune"] > own["probe"])["tuned"]
    .groupby(["method", "shots"])
    .sum()
    .unstack()
)
counts.rename(index=METHODS).rename_axis(
    columns="findings of ten that fine-tuning improves, by shots"
)

# %% [markdown]
# - **ImageNet** features gain from fine-tuning up to 10 shots and lose from 20 on, in all three
#   campaigns. More labels should not make fine-tuning worse, so this points at the procedure.
#   Chapter 5 showed a suspect: brightness jitter that ran *after* the normalisation and turned
#   everything darker than the mean into one flat tone.
# - **Pretrained** features gain little at any shot count. Nothing in these tables shows a
#   crossover at "about ten labels" above which fine-tuning pays.
# - So "probe at 50 shots beats fine-tuning" is a statement about this fine-tuning. Whether it is
#   true of a sound one is an experiment, and chapter 5 runs a small version of it.

# %% [markdown]
# ## Our quick runs beside the publication
#
# Now the encoders of chapters 3 and 4, on the same axes. The two panels differ in almost
# everything: left 112,120 real radiographs, 224 px and days on a GPU, right 4,000 phantoms, small
# pictures and a minute or two on two cores. Levels must not be compared across panels. What may
# be compared is the *shape*: who is ahead of whom, and how the lines rise.

# %% tags=["nbval-ignore-output"]
hospital_b = course.target_data()
findings = choose_findings(hospital_b.table)
runs = {
    "MoCo v2": course.trained("moco"),
    "BarlowTwins": course.trained("barlow"),
    "SparK": course.trained("spark"),
    "DINO": course.trained("dino"),
}
baselines = load_inits([runs["MoCo v2"].path], ["random", "pixels"], hospital_b)
encoders = {name: run.encoder() for name, run in runs.items()}
encoders |= {name: baselines[name] for name in ("random", "pixels")}

shots, trials = ((1, 5, 10, 20, 50), 10) if course.mode() == "full" else ((1, 10, 50), 3)
episodes = draw_experiment(hospital_b, findings, shots, trials)
results = summarise(probe_scores(encoders, hospital_b, episodes, progress=False))
results.pivot_table(index="init", columns="shots", values="auc_mean", sort=False).round(3)


# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"image": {"alt": "Two panels with mean AUC against shots. Left, as published: MoCo v2, BarlowTwins, SparK, ImageNet and random weights. Right, the quick runs on the phantom: MoCo v2, BarlowTwins, SparK, DINO, random weights and pixels, at lower levels."}, "figure": {"caption": "Linear probe, mean AUC over ten findings. Left: published (SCARCE-CXR, part 6; real radiographs, 224 px). Right: the runs of this book, on phantoms. Different data: compare the order of the lines, never their levels.", "name": "fig-beside"}}
@drawn
def beside(published_table, own_table):
    """The publication and our runs: mean over findings against shots, the same looks in both."""
    left = published_table.query("mode == 'probe'").copy()
    left["start"] = left["method"].map(METHODS).where(left["init"] == "ssl", left["init"])
    left = left[(left["init"] == "ssl") | (left["method"] == "moco-v2")]
    right = own_table.rename(columns={"init": "start"})
    starts = list(dict.fromkeys([*METHODS.values(), "DINO", "random", "pixels", "imagenet"]))
    looks = looks_of(starts)
    figure, axes = panels(2, 2, 4.6, 3.6)
    for axis, frame, title in zip(
        axes, (left, right), ("as published", "quick runs, phantom"), strict=True
    ):
        lines = frame.groupby(["start", "shots"])["auc_mean"].mean().unstack("start")
        for start in (s for s in starts if s in lines):
            axis.plot(lines.index, lines[start], label=start, **looks[start])
        axis.axhline(0.5, color=INK, lw=1, ls=":")
        axis.set_xscale("log")
        axis.set_xticks(lines.index, lines.index)
        axis.minorticks_off()
        axis.set(title=title, xlabel="shots", ylim=(0.46, 0.8))
    axes[0].set_ylabel("mean AUC")
    handles = {
        h.get_label(): h for axis in axes for h in axis.get_lines() if h.get_label() in starts
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4)
    return figure


beside(table, results)


# %% tags=["nbval-ignore-output"]
def order_of(frame, shots):
    """Starts from best to worst by mean AUC at a shot count."""
    means = (
        frame[frame["shots"] == shots]
        .groupby("init")["auc_mean"]
        .mean()
        .sort_values(ascending=False)
    )
    return ", ".join(f"{name} {value:.3f}" for name, value in means.items())


spread = results.query("init == 'MoCo v2' and shots == 50")
print("ours at  1 shot: ", order_of(results, 1))
print("ours at 50 shots:", order_of(results, 50))
width = (spread["ci_high"] - spread["ci_low"]).median()
print(f"width of a single finding's 95 % interval (MoCo v2, 50 shots): {width:.2f}")

# %% [markdown]
# What this comparison can carry: lines rise with shots in both, and starts that differ by a few
# hundredths in our panel are not to be ranked, since a single finding's interval is several times
# as wide. What it cannot: say anything about real radiographs, about ImageNet (its weights are a
# download; chapter 5 adds the row where they can be had), or about methods whose recipe needs
# more than two minutes. SparK and DINO in particular were not given what they ask for (chapter
# 4).

# %% [markdown]
# ## Does pretraining put attention in the right place?
#
# The series drew Grad-CAM maps for one finding, hiatal hernia, in three images and five starts.
# It saw the two contrastive methods look at the right region and concluded that pretraining
# organises features around anatomy; it also says, in its limits (part 6, 6.8), that a score is
# needed. Phantoms have exact outlines, so here it is.
#
# For each start a probe is fitted on the same 50 + 50 images; the map explains exactly that
# probe's score in patients it has not seen. One adjustment: at 64 px the last stage of a
# ResNet-18 has 2 x 2 positions, too coarse to point at anything. A convolutional network takes
# larger pictures as they are, and at 128 px the map has 4 x 4 positions. The probe is fitted and
# scored at that size as well, or the map would explain another score.

# %% tags=["nbval-ignore-output"]
looking = {name: runs[name].encoder() for name in ("MoCo v2", "BarlowTwins", "SparK")}
looking |= load_inits([runs["MoCo v2"].path], ["random"], hospital_b)
looking = {name: looking[name] for name in ("MoCo v2", "BarlowTwins", "SparK", "random")}
for encoder in looking.values():
    encoder.image_size = max(encoder.image_size, 128)

told = {finding: explain_finding(looking, hospital_b, finding) for finding in findings}

# %% [markdown]
# Try it: choose a start, a finding and a stage of the network, and compare the map with the
# outline.

# %% tags=["nbval-ignore-output"]
SHOWN = ["hemidiaphragm elevation", "pulmonary fibrosis", "hiatal hernia", "pulmonary mass"]
earlier = [explain_finding(looking, hospital_b, f, stage="layer3", images=2) for f in SHOWN]
GradCamWidget.from_explanations([*(told[f] for f in SHOWN), *earlier], looking)

# %% [markdown]
# Impressive maps exist for every start, the random one included. So count. `energy inside` is the
# share of a map that lies in the true region; divided by the region's share of the picture it
# says **how many times more attention falls on the finding than on an average pixel**. A map that
# is the same everywhere scores 1. And there is a cheaper rival than any network, the **centre
# prior**: a blob in the middle of the picture that has never seen a radiograph.


# %% tags=["nbval-ignore-output"]
def concentration(seen):
    """One row a start and held-out image: attention on the finding against an average pixel."""
    prior = np.broadcast_to(centre_prior(*seen.masks.shape[1:]), seen.masks.shape)
    frames = []
    for init, cams in (seen.cams | {"centre prior": prior}).items():
        scores = measure(cams, seen.masks)
        scores["times"] = scores["energy_inside"] / scores["share"]
        scores["AUC"] = seen.aucs.get(init, np.nan)
        about = {"init": init, "finding": seen.finding, "row": seen.rows, "patient": seen.patients}
        frames.append(scores.assign(**about))
    return pd.concat(frames, ignore_index=True)


attention = pd.concat([concentration(seen) for seen in told.values()], ignore_index=True)
by_size = attention.groupby("finding")["share"].mean().sort_values().rename("region's share")
times = attention.pivot_table(index="finding", columns="init", values="times", sort=False)
times.loc[by_size.index].round(2).assign(share=by_size.map("{:.1%}".format))

# %% tags=["hide-input", "nbval-ignore-output"] mystnb={"image": {"alt": "For each of ten findings, ordered by the size of the region, the attention on the true region relative to an average pixel: one marker for MoCo v2, BarlowTwins, random weights and the centre prior, each with a 95 % interval, on both sides of the line at 1."}, "figure": {"caption": "Attention on the finding against an average pixel (dotted: no preference), held-out patients, with 95 % intervals over patients. Smallest findings on top. Grad-CAM of the probe, last stage.", "name": "fig-attention"}}
rows = []
for finding in by_size.index:
    for init in ("MoCo v2", "BarlowTwins", "random", "centre prior"):
        part = attention[(attention["finding"] == finding) & (attention["init"] == init)]
        low, high = mean_interval(part["times"].to_numpy(), part["patient"].to_numpy())
        values = {"times": part["times"].mean(), "low": low, "high": high}
        rows.append({"finding": finding, "init": init} | values)
look = {"value": "times", "low": "low", "high": "high", "reference": 1.0}
figures.intervals(pd.DataFrame(rows), **look, label="attention on the finding / average pixel")

# %% [markdown]
# The question of the heading needs a paired answer. On the same images, is the pretrained start's
# energy inside larger than that of random weights? And larger than the centre prior's? Intervals
# are over patients, all findings together.

# %% tags=["nbval-ignore-output"]
energy = attention.pivot_table(
    index=["finding", "row", "patient"], columns="init", values="energy_inside", sort=False
)
people = energy.index.get_level_values("patient").to_numpy()
rows = []
for baseline in ("random", "centre prior"):
    for init in (name for name in looking if name != baseline):
        difference = energy[init] - energy[baseline]
        low, high = mean_interval(difference.to_numpy(), people)
        won = (difference.groupby("finding").mean() > 0).sum()
        rows.append((baseline, init, difference.mean(), low, high, f"{won} of {len(findings)}"))
columns = ["baseline", "start", "difference", "from", "to", "findings won"]
pd.DataFrame(rows, columns=columns).set_index(["baseline", "start"]).round(3)

# %% [markdown]
# One more column belongs beside every map: how good is the probe that it explains?

# %% tags=["nbval-ignore-output"]
names = {"hit": "peak inside", "energy_inside": "energy inside", "iou_otsu": "IoU after Otsu"}
pairs = attention.dropna(subset="AUC").groupby(["init", "finding"])[["AUC", "times"]].mean()
rank = pairs["AUC"].corr(pairs["times"], method="spearman")
print(f"rank correlation of AUC and attention over {len(pairs)} starts and findings: {rank:+.2f}")
attention.groupby("init", sort=False)[[*names, "AUC"]].mean().rename(columns=names).round(3)

# %% [markdown]
# How to read this, whatever numbers the run has put in:
#
# - an interval that covers zero in the rows of *random* says that this run does not show
#   pretraining to move attention towards the finding; one above zero says that it does, for these
#   phantoms and this stage;
# - the rows of *centre prior* are the harder test. Hearts, hila and hernias are in the middle, so
#   a blob does well there without looking. A network that does not beat it has not been shown to
#   look;
# - a map of a probe with an AUC near 0.5 explains a coin. If it lies on the finding all the same,
#   as the random network's sometimes does, it shows that the finding is a conspicuous place, and
#   nothing about knowledge;
# - the correlation tells whether "classifies better" and "looks at the right place" are the same
#   thing. They need not be: a probe may read the consequence of a finding elsewhere in the
#   picture.
#
# **What this does not show.** With 4 x 4 positions a granuloma cannot be pointed at by
# construction. Grad-CAM explains one linear probe and not the network. And outlines drawn by a
# program are sharper than any that radiologists would agree on.

# %% [markdown]
# ## Limits
#
# - **One pretraining run for each method.** The series trained each method once, and so do our
#   chapters. None of the intervals in this book covers the luck of that one run. Exercise 2 asks
#   how far two seeds lie apart.
# - **One target hospital.** Training, validation and test images of the probe come from the same
#   department. How a probe travels to a third hospital was not measured by anybody here.
# - **Ten findings, chosen by frequency.** The rarest diseases are excluded by the very rule that
#   makes evaluation possible.
# - **Phantoms.** They show that the code and the statistics do what they claim. They say nothing
#   about patients.
# - **Unequal arms.** Published BarlowTwins is a ResNet-18 beside an ImageNet ResNet-50; methods
#   differ in epochs, batch and augmentation. The tables compare *recipes*, not principles.
# - **Labels.** PadChest's labels are partly extracted from reports by a program (Bustos et al.
#   2019). A probe cannot be better than what it is graded against.

# %% [markdown]
# ## What would you do on Monday?
#
# First the price list. Hours and dollars are the series' own, for one L4 card, failed runs
# included.

# %%
cost = published.training_cost().set_index("method")[
    ["backbone", "final_run_hours", "total_hours", "cost_usd"]
]
level = averages.query("shots == 50").set_index(["mode", "method"])
for mode in ("probe", "finetune"):
    gain = (level["ssl"] - level["imagenet"]).loc[mode].rename(index=METHODS)
    cost[f"lead over ImageNet, {mode}"] = gain
cost.round(3)

# %% [markdown]
# An eighth of the money bought three quarters of the probe's lead, with a network of half the
# size. That ratio is the best-founded advice in the whole series, with one reservation: one run
# each.
#
# | your situation | start with | what speaks for it | what nobody has shown |
# |---|---|---|---|
# | 1 to 10 positives, no GPU | a frozen encoder that somebody pretrained on chest radiographs, linear probe | published: every average at 1 to 10 shots; ch. 5: intervals | that it helps *your* finding: see the map above |
# | 20 to 50 positives, a GPU for an hour | the same probe; fine-tune beside it, augmentation *before* normalisation, and keep the better one by cross-validation | published: probe at least as good; ch. 5: the trap | a sound fine-tuning at the published scale |
# | 100,000 unlabelled images, one 24 GB card | BarlowTwins, ResNet-18, 224 px, batch 512 with checkpointing | published: 17 h, lead above; ch. 3: no queue that can go stale | the same with ResNet-50 |
# | the same, and a week of GPU | MoCo v2 with the monitor of ch. 3 | published: highest probe | that the difference to BarlowTwins outlives a second seed |
# | a few thousand unlabelled images | ImageNet or a public chest encoder, then a short pretraining run as an experiment | this chapter's right panel, on phantoms only | real radiographs at this size |
# | a small finding (granuloma, nodule, fracture) | more pixels or crops around candidates, before any method | published: granuloma and callus at most 0.57 at 50 shots, whatever the start; ch. 2: what survives the resize | that pretraining helps at all here |
# | reconstruction or segmentation later on | SparK | published: closes the gap when fine-tuned | a probe worth using; it is the weakest |
# | a Vision Transformer and self-distillation | a published model (RAD-DINO, arXiv:2401.10815), not your own DINO run | ch. 4: what short runs do | that DINO "cannot" learn from radiographs: it was never given its own settings |
# | fewer than ten held-out positives | collecting labels; report an interval and no ranking | ch. 5: steps and intervals | anything else |
#
# And in every row: negatives from the same hospital, patients split, the shortcut tests of
# chapter 1, a map checked against the centre prior before anybody is shown it.

# %% [markdown]
# ## Open problems, with a first experiment each
#
# Each takes an evening in quick mode. Replace `phantom` by the folder of your own store where you
# have one.
#
# **How lucky is one pretraining run?** Nobody knows how far two seeds of one recipe lie apart, so
# no two methods can be ranked.
#
# ```bash
# for seed in 0 1 2; do
#   scxr pretrain barlow --data phantom --out runs/barlow-$seed --quick --seed $seed
# done
# scxr evaluate runs/barlow-0 runs/barlow-1 runs/barlow-2 --data phantom:B --mode probe
# ```
#
# **How few unlabelled images are enough?** The promise is made for 112,120. Hospitals have 5,000.
#
# ```bash
# for n in 500 2000 8000; do
#   scxr data phantom --n $n --out stores/a-$n
#   scxr pretrain moco --data stores/a-$n --out runs/moco-$n --quick
# done
# scxr evaluate runs/moco-500 runs/moco-2000 runs/moco-8000 --data phantom:B --mode probe
# ```
#
# **Is the target hospital's own archive worth more than a foreign, larger one?** Pretrain on B's
# images without their labels. (Use another seed of the phantom, so that no test patient is among
# them.)
#
# ```bash
# scxr data phantom --hospital B --seed 1 --n 4000 --out stores/b-unlabelled
# scxr pretrain moco --data stores/b-unlabelled --out runs/moco-home --quick
# scxr pretrain moco --data phantom --out runs/moco-away --quick
# scxr evaluate runs/moco-home runs/moco-away --data phantom:B --mode probe
# ```
#
# **Does fine-tuning lose at 50 shots when it is done soundly?** The same runs, both settings.
#
# ```bash
# for setting in series sound; do
#   scxr evaluate runs/moco-away --data phantom:B --mode finetune --setting $setting --shots 10 50
# done
# ```
#
# **Do small findings need pixels or another method?** Everything else equal, only the pictures
# grow.
#
# ```bash
# scxr pretrain moco --data phantom --out runs/moco-128 --quick --set image_size=128
# scxr evaluate runs/moco-away runs/moco-128 --data phantom:B --mode probe \
#   --findings "calcified granuloma" "callus rib fracture"
# ```
#
# **Invariance and reconstruction at once.** The series proposes a contrastive loss on partly
# masked pictures (part 6, 6.8). A new method is one file in `scxr/methods/`: take `moco.py`, hide
# patches of one view with `scxr.methods.spark.random_mask`, and compare with both parents at the
# same number of steps.
#
# **A monitor that acts.** Chapter 3 measures the rank during training; nothing uses it yet. First
# experiment: let `variance_weight` follow the effective rank and see whether the rank, or
# anything downstream, obeys.

# %% [markdown]
# ## Take-away
#
# - The published averages are right, and "beats at every shot count" is true of averages. Finding
#   by finding it holds in about three cells of four against ImageNet.
# - After correction for sixty tests two survive, both against random weights. Fine-tuning the
#   same start twice moves single results by 0.03 on average: smaller differences are not results.
# - Nothing published shows that fine-tuning pays from some number of labels on; what it shows may
#   be its own augmentation.
# - Attention maps need numbers and a centre prior.
# - BarlowTwins with ResNet-18 is the sober choice; the probe is the sober evaluation; an interval
#   is the sober sentence.

# %% [markdown]
# ## Check yourself
#
# **1.** A paper reports mean AUC 0.74 against 0.71 over eight findings, p = 0.03, one of twelve
# such tests. What do you ask for?
#
# <details><summary>Answer</summary>
#
# For the eight differences: is the mean carried by one or two findings? For the correction: with
# Holm, the smallest of twelve p-values has to be below 0.05 / 12 = 0.004. And for the number of
# held-out positives for each finding, which says how wide each of the eight intervals is.
#
# </details>
#
# **2.** Why can the two fine-tuned ImageNet columns of the tables be used as a measure of noise,
# and the two probed ones not?
#
# <details><summary>Answer</summary>
#
# Features of a frozen network and a convex fit are deterministic, so the probe gives the same
# number for the same episodes; it only shows that the episodes were the same. Fine-tuning draws
# augmentations and orders anew, so its two columns differ by exactly what a repetition changes.
#
# </details>
#
# **3.** A map lies on the hernia in 60 % of the images, the centre prior in 55 %. Does the
# network look at the hernia?
#
# <details><summary>Answer</summary>
#
# Hernias sit in the middle, so most of the 60 % are free. Compare the two on the same images and
# put an interval over patients around the difference; then test with a finding that is off
# centre.
#
# </details>

# %% [markdown]
# ## Exercises
#
# **1. Another family.** Is "sixty tests" fair? Correct for the thirty tests against ImageNet
# only, with `holm(tests.query("versus == 'imagenet'")["p"])`. Which conclusions change, and did
# you decide on the family before you looked?
#
# **2. Another seed.** Run the first open problem above. Is the difference between two seeds
# smaller than the difference between MoCo v2 and BarlowTwins in this chapter's figure?
#
# **3. Your own radiographs.** Where do your probes look? Regions can be boxes or masks; without
# any, the table has the AUC alone.
#
# ```bash
# scxr evaluate runs/mine --data stores/mine --mode probe --shots 5 20 \
#   --inits random pixels --out results.csv
# scxr explain runs/mine --data stores/mine --finding "hiatal hernia" \
#   --stage layer3 --out look.png
# ```

# %% [markdown]
# ## Further reading
#
# - S. Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of
#   Statistics 6, 1979.
# - J. Demšar, *Statistical comparisons of classifiers over multiple data sets*, JMLR 7, 2006.
# - X. Bouthillier et al., *Accounting for variance in machine learning benchmarks*, 2021,
#   arXiv:2103.03098.
# - R. Selvaraju et al., *Grad-CAM*, 2017, arXiv:1610.02391; J. Adebayo et al., *Sanity checks for
#   saliency maps*, 2018, arXiv:1810.03292.
# - A. Saporta et al., *Benchmarking saliency methods for chest X-ray interpretation*, Nature
#   Machine Intelligence 4, 2022.
# - F. Pérez-García et al., *RAD-DINO*, 2024, arXiv:2401.10815.
# - A. Bustos et al., *PadChest*, 2019, arXiv:1901.07441.
