"""Will it fit: the widget's arithmetic is that of the count, on paper and without a kernel."""

from __future__ import annotations

import json

import pytest

from scxr.errors import InputError
from scxr.memory import count
from scxr.memory.grid import total
from scxr.widgets import MemoryWidget


def row_of(table, **wanted):
    """The one row of a table of counts with these values."""
    chosen = table
    for key, value in wanted.items():
        chosen = chosen[chosen[key] == value]
    (index,) = chosen.index
    return chosen.loc[index]


@pytest.mark.parametrize(
    ("size", "precision", "checkpointing"), [(64, "bf16-mixed", False), (224, "32-true", True)]
)
def test_a_table_of_three_counts_agrees_with_a_count_of_its_own(
    memory_table, size, precision, checkpointing
):
    counted = count(
        "barlow",
        backbone="resnet18",
        batch=300,
        size=size,
        precision=precision,
        checkpointing=checkpointing,
    )
    row = row_of(memory_table, size=size, precision=precision, checkpointing=checkpointing)
    assert total(row, 300) == pytest.approx(counted.total_bytes, rel=0.02)
    activations = row["activations_fixed"] + 300 * row["activations_per_image"]
    assert activations == pytest.approx(counted.activations_bytes, rel=0.01)


def test_it_describes_itself_in_words(memory, memory_table):
    row = memory_table.iloc[0]
    assert memory.describe().startswith("Will it fit? A step of barlow with resnet18, 64 px")
    assert f"{total(row, 256) / 1e9:.1f} GB" in memory.describe()


def test_its_state_is_small_json(memory):
    assert json.loads(json.dumps(memory.rows)) == memory.rows
    assert memory.page_bytes() < 100_000


def test_what_is_no_table_of_counts_is_refused(memory_table):
    with pytest.raises(InputError, match="at least one row"):
        MemoryWidget(memory_table.iloc[:0])
    with pytest.raises(InputError, match=r"scxr\.memory\.grid"):
        MemoryWidget(memory_table.drop(columns="peak_per_image"))
    with pytest.raises(InputError, match="no card of 23 GB"):
        MemoryWidget(memory_table, card=23)


# ---------------------------------------------------------------- on paper


def status(page):
    return page.locator(".scxr-status")


@pytest.mark.browser
def test_choices_show_what_python_counts(memory, memory_table, show):
    page = show(memory)
    page.get_by_label("224 px").check()
    page.get_by_label("bfloat16").check()
    page.get_by_role("checkbox").check()
    page.get_by_label("Batch", exact=True).press("End")
    row = row_of(memory_table, size=224, precision="bf16-mixed", checkpointing=True)
    expected = total(row, 2048)
    assert float(status(page).get_attribute("data-total")) == pytest.approx(expected, abs=2)
    parts = page.locator("li[data-part]").evaluate_all(
        "(items) => items.map((item) => Number(item.dataset.bytes))"
    )
    assert sum(parts) == pytest.approx(expected, abs=8)
    assert f"{expected / 1e9:.1f} GB" in status(page).inner_text()


@pytest.mark.browser
def test_the_largest_batch_just_fits_and_the_bar_crosses_the_card(memory, memory_table, show):
    page = show(memory)
    page.get_by_label("224 px").check()
    page.get_by_label("8 GB", exact=True).check()
    row = row_of(memory_table, size=224, precision="32-true", checkpointing=False)
    most = int(status(page).get_attribute("data-most"))
    assert total(row, most) <= 8e9 < total(row, most + 1)

    def overshoot() -> float:
        return page.evaluate(
            """() => {
              const rects = [...document.querySelectorAll("rect[data-part]")];
              const end = Math.max(...rects.map((r) => r.getBBox().x + r.getBBox().width));
              return end - document.querySelector("svg path").getBBox().x;
            }"""
        )

    assert total(row, 256) > 8e9
    assert overshoot() > 0
    assert "does not fit into 8 GB" in status(page).inner_text()
    page.get_by_label("24 GB").check()
    assert overshoot() < 0
    assert status(page).get_attribute("data-fits") == "1"
