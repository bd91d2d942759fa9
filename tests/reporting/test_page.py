import math

import numpy as np
import pytest

from reprkit.reporting import Bars, Listing, Note, Page, Section, Table, Tiles
from reprkit.reporting.page import format_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.94123, "0.941"),
        (1.0, "1.000"),
        (0, "0"),
        (0.0, "0"),
        (1797, "1,797"),
        (1550.4, "1,550"),
        (-66.609, "-66.61"),
        (0.01234, "0.0123"),
        (3.2e-5, "3.2e-05"),
        (123.45, "123.5"),
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "inf"),
        ("vq", "vq"),
        (True, "True"),
        (2.5e12, "2.5e+12"),
    ],
)
def test_numbers_are_formatted_for_reading(value, text):
    assert format_number(value) == text


def test_a_table_marks_the_best_and_prints():
    table = Table(
        ["error", "accuracy", "n"],
        {"PCA": [1.5, 0.9, 10], "vq": [0.7, None, 10]},
        best={"error": "min", "accuracy": "max", "n": "max"},
    )
    html = table.html()
    assert html.count('class="num best"') == 1  # accuracy has one value, n is equal
    assert '<td class="num best">0.700</td>' in html
    assert str(table).splitlines() == [
        "     error  accuracy   n",
        "────────────────────────",
        "PCA  1.500     0.900  10",
        "vq   0.700         –  10",
    ]


def test_a_row_with_too_few_values_raises():
    with pytest.raises(ValueError, match="row 'vq' has 1 values for 2 columns"):
        Table(["a", "b"], {"vq": [1]})


def test_everything_is_escaped():
    evil = "<script>alert(1)</script>"
    blocks = [
        Table([evil], {evil: [evil]}, corner=evil, caption=evil),
        Tiles({evil: 1.0}),
        Listing({evil: evil, "command": evil}, frozenset({"command"})),
        Note(evil),
        Bars(title=evil, values=np.arange(3), xlabel=evil, caption=evil),
    ]
    html = Page(evil, [Section(evil, blocks, text=evil)], verdict=evil, made=evil).html()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 15


def test_consecutive_figures_share_a_row():
    figure = Bars(title="it", values=np.arange(3))
    html = Section("s", [figure, figure, Note("between"), figure]).html()
    assert html.count('<div class="figures">') == 2
    assert html.count("<figure") == 3


def test_a_plugins_figure_needs_three_attributes_and_html():
    class Sound:
        title, caption, wide = "Sound", "a bell", False

        def html(self):
            return '<audio src="data:audio/wav;base64,"></audio>'

    assert "<audio" in Section("s", [Sound()]).html()


def test_a_page_is_written_atomically(tmp_path):
    page = Page("Title", [Section("One", [Note("it")]), Section("Two", [])])
    path = page.write(tmp_path / "deep" / "report.html")
    assert path.read_text() == page.html()
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert '<a href="#s1">One</a>' in page.html()
