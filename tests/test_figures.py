"""Figures show the numbers they were given, in one style, and leave nothing open."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from scxr import figures, published
from scxr.errors import InputError
from scxr.evaluate.scaling import fit_scaling
from scxr.figures.style import COLOURS, INK, MARKERS

IMAGES = np.random.default_rng(0).integers(0, 255, (5, 12, 10), dtype=np.uint8)
FLOATS = IMAGES / 255
MASKS = IMAGES > 200
RESULTS = pd.DataFrame(
    [
        {"init": init, "finding": finding, "shots": shots, "auc_mean": 0.5 + gain * shots / 40}
        for init, gain in (("moco", 0.2), ("random", 0.1))
        for finding in ("mass", "hernia")
        for shots in (1, 5, 20)
    ]
).assign(ci_low=lambda t: t["auc_mean"] - 0.1, ci_high=lambda t: t["auc_mean"] + 0.15)
FITS = [fit_scaling(RESULTS.assign(positives=30), init=init) for init in ("moco", "random")]
LOG = pd.DataFrame({"epoch": [0, 1, 2], "step": [0, 8, 16], "loss": [5.0, 4.0, 3.5]}).assign(
    std=0.1, mean_cosine=[0.9, 0.7, 0.4], effective_rank=[3.0, 9.0, 20.0]
)
LOCALISED = pd.DataFrame({"init": ["a", "prior"], "finding": "mass", "hit": [0.6, 0.2]}).assign(
    hit_low=lambda t: t["hit"] - 0.1, hit_high=lambda t: t["hit"] + 0.1
)

FOREST = LOCALISED.rename(columns=lambda name: name.replace("hit", "enrichment")).assign(
    init=["a", "centre prior"], structure="mass", share=0.1
)

DRAWN: dict[str, Callable[[], Figure]] = {
    "contact_sheet": lambda: figures.contact_sheet(IMAGES, list("abcde"), columns=3, masks=MASKS),
    "image_grid": lambda: figures.image_grid([list(FLOATS[:3]), list(FLOATS[:2])], title="views"),
    "reconstruction_grid": lambda: figures.reconstruction_grid(
        {"original": FLOATS, "b (c)": FLOATS}
    ),
    "cam_grid": lambda: figures.cam_grid(
        IMAGES[:2], {"moco": FLOATS[:2], "random": FLOATS[2:4]}, MASKS[:2], notes={"moco": "x"}
    ),
    "fewshot_curves": lambda: figures.fewshot_curves(RESULTS),
    "published_curves": lambda: figures.published_curves(published.averages()),
    "scaling_curve": lambda: figures.scaling_curve(FITS, target=0.8),
    "collapse_curves": lambda: figures.collapse_curves({"moco": LOG, "barlow": LOG}),
    "loss_curves": lambda: figures.loss_curves({"moco": LOG}),
    "spectrum": lambda: figures.spectrum({"moco": np.geomspace(9, 1e-3, 30)}),
    "intervals": lambda: figures.intervals(RESULTS[RESULTS["shots"] == 5]),
    "localisation": lambda: figures.localisation(LOCALISED, measure="hit"),
    "localisation_forest": lambda: figures.localisation_forest(FOREST),
    "distributions": lambda: figures.distributions({"A": FLOATS, "B": FLOATS**2}, label="grey"),
}


def test_every_figure_is_drawn_here() -> None:
    assert set(DRAWN) == set(figures.__all__)


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_transparent_and_closed(name: str) -> None:
    before = dict(plt.rcParams)
    figure = DRAWN[name]()
    assert isinstance(figure, Figure)
    assert figure.get_facecolor()[3] == 0
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before
    with BytesIO() as file:
        figure.savefig(file, format="png")
        picture = plt.imread(BytesIO(file.getvalue()))
    assert picture[0, 0, 3] == 0  # a corner of the page shows through
    assert picture[..., 3].max() == 1


def contrast(colour: str, background: str) -> float:
    """Contrast ratio of WCAG 2.1."""

    def luminance(name: str) -> float:
        channels = np.array(to_rgb(name))
        linear = np.where(
            channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    pair = sorted((luminance(colour), luminance(background)))
    return (pair[1] + 0.05) / (pair[0] + 0.05)


def test_ink_and_lines_read_on_white_and_on_black() -> None:
    for background in ("#ffffff", "#000000"):  # the book's plates behind figures, day and night
        assert contrast(INK, background) >= 4.5
        assert min(contrast(colour, background) for colour in COLOURS) > 2
    assert len(set(MARKERS)) == len(MARKERS) == len(COLOURS)


def test_curves_carry_the_numbers() -> None:
    figure = figures.fewshot_curves(RESULTS)
    assert [axis.get_title() for axis in figure.axes] == ["mean over findings", "mass", "hernia"]
    line = next(line for line in figure.axes[1].lines if line.get_label() == "moco")
    expected = RESULTS.query("init == 'moco' and finding == 'mass'")
    np.testing.assert_allclose(line.get_xdata(), expected["shots"])
    np.testing.assert_allclose(line.get_ydata(), expected["auc_mean"])
    band = figure.axes[1].collections[0].get_paths()[0].vertices[:, 1]
    assert band.min() == pytest.approx(expected["ci_low"].min())
    assert band.max() == pytest.approx(expected["ci_high"].max())


def test_a_name_with_dollars_is_no_formula() -> None:
    name = "up to $5 and $\\frac{1$"
    renamed = {"finding": name, "structure": name}
    drawn = [
        figures.cam_grid(IMAGES[:2], {name: FLOATS[:2]}, title=name),
        figures.contact_sheet(IMAGES[:2], [name, name]),
        figures.image_grid([list(FLOATS[:2])], row_titles=[name]),
        figures.localisation_forest(FOREST.assign(**renamed)),
        figures.fewshot_curves(RESULTS.replace("mass", name)),
        figures.intervals(RESULTS[RESULTS["shots"] == 5].replace("mass", name)),
    ]
    for figure in drawn:
        figure.savefig(BytesIO(), format="svg")  # matplotlib reads formulas when it draws


def test_a_scaling_curve_is_dashed_where_it_was_not_measured() -> None:
    fit = FITS[0]
    axis = figures.scaling_curve(fit).axes[0]
    solid, dashed = (
        next(
            line
            for line in axis.lines
            if line.get_linestyle() == style and len(line.get_xdata()) > 9
        )
        for style in ("-", "--")
    )
    assert solid.get_xdata().max() == pytest.approx(20)
    assert (dashed.get_xdata().min(), dashed.get_xdata().max()) == pytest.approx((20, fit.reach))
    predicted = fit.predict(np.asarray(dashed.get_xdata(), dtype=float))
    np.testing.assert_allclose(dashed.get_ydata(), predicted["auc"])
    assert predicted["extrapolated"].iloc[1:].all()


def test_the_smallest_step_of_an_auc_stands_beside_it() -> None:
    stepped = RESULTS.assign(auc_step=lambda t: t["finding"].map({"mass": 1 / 36, "hernia": 0.004}))
    mean, mass, hernia = figures.fewshot_curves(stepped).axes
    assert [[t.get_text() for t in axis.texts] for axis in (mean, mass, hernia)] == [
        [],
        ["step 0.028"],
        ["step 0.004"],
    ]
    rows = figures.intervals(stepped[stepped["shots"] == 5]).axes[0].get_yticklabels()
    assert [row.get_text() for row in rows] == ["mass\nstep 0.028", "hernia\nstep 0.004"]
    fine = RESULTS[RESULTS["finding"] == "mass"].assign(auc_step=1e-4)
    assert figures.fewshot_curves(fine).axes[0].texts[0].get_text() == "step 0.0001"


def test_panels_that_are_compared_have_one_scale() -> None:
    figure = figures.published_curves(published.averages())
    assert len({axis.get_ylim() for axis in figure.axes}) == 1


def test_intervals_carry_the_numbers() -> None:
    figure = figures.intervals(RESULTS[RESULTS["shots"] == 20])
    container = figure.axes[0].containers[0]
    points, _, (bars,) = container
    np.testing.assert_allclose(points.get_xdata(orig=False), [0.6, 0.6])
    np.testing.assert_allclose([s[:, 0] for s in bars.get_segments()], [[0.5, 0.75]] * 2)


def test_collapse_curves_take_what_all_logs_have() -> None:
    figure = figures.collapse_curves({"a": LOG, "b": LOG.drop(columns="std")})
    assert [axis.get_title() for axis in figure.axes] == ["mean cosine", "effective rank"]
    series = published.collapse_logs()
    figures.collapse_curves({str(name): part for name, part in series.groupby("run")})


def test_a_spectrum_is_relative_to_its_largest_value() -> None:
    values = np.array([4.0, 2.0, 1e-20])
    (line,) = figures.spectrum({"a": values}).axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [1, 0.5, np.nan])


@pytest.mark.parametrize(
    "nothing",
    [
        lambda: figures.contact_sheet(IMAGES[:0]),
        lambda: figures.image_grid([]),
        lambda: figures.reconstruction_grid({}),
        lambda: figures.fewshot_curves(RESULTS.iloc[:0]),
        lambda: figures.fewshot_curves(RESULTS.drop(columns="ci_low")),
        lambda: figures.scaling_curve([]),
        lambda: figures.collapse_curves({}),
        lambda: figures.loss_curves({"moco": LOG.iloc[:0]}),
        lambda: figures.loss_curves({"moco": LOG}, terms=("invariance",)),
        lambda: figures.spectrum({}),
        lambda: figures.distributions({}, label="grey"),
        lambda: figures.localisation(RESULTS, measure="dice"),
    ],
)
def test_nothing_to_draw_is_an_input_error(nothing: Callable[[], Figure]) -> None:
    with pytest.raises(InputError):
        nothing()
    assert plt.get_fignums() == []
