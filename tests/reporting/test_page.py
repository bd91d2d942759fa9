import math
import re

import numpy as np
import pytest

from reprkit.reporting import Bars, Listing, Note, Page, Section, Symbols, Table, Tiles
from reprkit.reporting.page import format_number
from reprkit.runs.spread import Spread


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
        "     error ↓  accuracy ↑  n ↑",
        "─────────────────────────────",
        "PCA    1.500       0.900   10",
        "vq     0.700           –   10",
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


def test_headings_say_unit_and_direction():
    table = Table(
        ["error", "n"],
        {"a": [1, 2]},
        best={"error": "min"},
        units={"error": "nats <b>"},
        notes={"a": "a <note>"},
    )
    heading = re.search(r'<th scope="col">error.*?</th>', table.html())[0]
    assert 'aria-label="lower is better">↓' in heading
    assert "<small>nats &lt;b&gt;</small>" in heading
    assert "<small>a &lt;note&gt;</small>" in table.html()


def test_a_table_is_sorted_by_its_style():
    spread = Spread(0.5, 0.1, 3)
    rows = {"a": [1.0, "x", 1], "b": [None, "w", 1], "c": [spread, "y", 1]}
    table = Table(["accuracy", "name", "same"], rows, best={"accuracy": "max"}, sortable=True)
    html = table.html()
    assert re.findall(r'<tr role="row" style="([^"]*)"', html) == [
        "--o1:0;--o2:1",
        "--o1:2;--o2:0",
        "--o1:1;--o2:2",
    ]
    assert html.count('type="radio"') == 3  # as given, accuracy, name; the third column has one value only
    assert "0.500 ± 0.1<" in html
    assert len(set(re.findall(r'name="(\w+)"', html))) == 1
    assert "radio" not in Table(["n"], {"a": [1]}, sortable=True).html()
    page = Page("t", [Section("s", [table])]).html()
    assert "table.sortable:has(th:nth-child(2) input:checked) tbody tr { order: var(--o1, 0); }" in page
    assert "<script" not in page


def test_pictures_can_be_enlarged_and_texts_cannot():
    html = Section("s", [Bars(title="it <1>", values=np.arange(3))]).html()
    assert html.count('class="zoom"') == 1
    assert 'aria-label="enlarge it &lt;1&gt;"' in html
    assert "zoom" not in Section("s", [Symbols(title="it", rows={"a": [[1]]})]).html()
