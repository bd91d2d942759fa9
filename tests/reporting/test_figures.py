import base64
import io
import re
import sys

import numpy as np
import pytest
from PIL import Image

from reprkit.reporting import Bars, Curves, Figure, Images, Matrix, Scatter, Sounds, Symbols
from reprkit.reporting.drawing import downsample_line, encode_image
from reprkit.reporting.figures import DASHED
from reprkit.reporting.sanitize import sanitize_html


def decode_png(source):
    head, _, data = source.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def sources(html):
    return re.findall(r'src="([^"]+)"', html)


ALL = [
    Images(title="i", rows={"a": np.zeros((2, 4, 4, 1))}),
    Curves(title="c", lines={"a": ([0, 1, 2], [3.0, float("nan"), 1.0]), "b": ([0], [1.0])}),
    Scatter(title="s", points=np.random.default_rng(0).normal(size=(30, 2)), labels=np.arange(30) % 12),
    Bars(title="b", values=np.arange(5), level=2.0),
    Bars(title="many", values=np.arange(5000)),
    Matrix(title="m", values=np.array([[1.0, np.nan], [0.0, 2.0]]), ticks=["a", "b"]),
    Symbols(title="t", rows={"in": [[1, 2]], "out": [[1, 3]]}),
    Sounds(
        title="p", rows={"a": {"in": np.zeros(80), "out": np.linspace(-2, 2, 80)}, "<b>": {"in": np.zeros(9)}}
    ),
]


@pytest.mark.parametrize("figure", ALL, ids=lambda figure: figure.title)
def test_a_figure_is_self_contained_and_deterministic_html(figure):
    assert isinstance(figure, Figure)
    html = figure.html()
    assert html == figure.html()
    assert "http" not in html
    assert "xmlns" not in html
    assert all(re.match(r"data:(image/png|audio/\w+);base64,", source) for source in sources(html))
    assert not re.search(r"#0[123]0[0-9a-f]{3}", html), "a placeholder color was left"


@pytest.mark.parametrize("figure", ALL[1:6], ids=lambda figure: figure.title)
def test_charts_use_the_pages_colors_and_unique_ids(figure):
    html = figure.html()
    assert html.startswith("<svg")
    assert re.search(r"var\(--(s\d|line)\)|currentColor|#[0-9a-f]{6}", html)
    ids = re.findall(r'\bid="([^"]+)"', html)
    assert ids
    assert all(name.startswith(ids[0][:10]) for name in ids)
    for target in re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', html):
        assert "".join(target) in ids


def test_two_charts_on_a_page_do_not_share_ids():
    first, second = (
        set(re.findall(r'id="([^"]+)"', Bars(title="", values=np.arange(n)).html())) for n in (4, 5)
    )
    assert not first & second


def test_encoded_images_hold_the_values():
    image = np.array([[0.0, 0.5], [1.0, 2.0]])
    assert decode_png(encode_image(image, (0, 1))).tolist() == [[0, 128], [255, 255]]
    assert decode_png(encode_image(image[..., None], (0, 2))).tolist() == [[0, 64], [128, 255]]
    assert decode_png(encode_image(np.stack([image] * 3, -1), (0, 1)))[0, 1].tolist() == [128, 128, 128]
    assert (
        decode_png(encode_image(np.stack([image, image * 0], -1), (0, 1)))[1, 0] == 128
    )  # two channels: their mean
    assert decode_png(encode_image(np.zeros((400, 200)), (0, 1))).shape == (160, 80)
    assert decode_png(encode_image(np.array([[np.nan, 1.0]]), (0, 1))).tolist() == [[0, 255]]


def test_rows_of_images_are_above_each_other():
    html = Images(title="", rows={"<in>": np.zeros((3, 2, 2)), "out": np.ones((3, 2, 2))}, span=(0, 1)).html()
    assert "--columns:3" in html
    assert html.index("&lt;in&gt;") < html.index(">out<")
    assert [decode_png(source).max() for source in sources(html)] == [0, 0, 0, 255, 255, 255]


def test_images_without_a_span_share_one():
    html = Images(title="", rows={"a": np.full((1, 2, 2), 5.0), "b": np.full((1, 2, 2), 7.0)}).html()
    assert [decode_png(source).max() for source in sources(html)] == [0, 255]


def test_lines_have_the_given_colors_and_dashes():
    html = Curves(
        title="", lines={"a": ([0, 1], [0, 1]), "b": ([0, 1], [1, 0])}, colours=[3, 4 + DASHED]
    ).html()
    assert "var(--s3)" in html
    dashed = [style for style in re.findall(r'style="([^"]*)"', html) if "var(--s4)" in style]
    assert any("stroke-dasharray" in style for style in dashed)


def test_a_legend_is_shown_for_several_lines_only():
    assert "legend" not in Curves(title="", lines={"a": ([0, 1], [0, 1])}).html()
    assert "<i style" in Curves(title="", lines={"a": ([0, 1], [0, 1]), "b": ([0, 1], [0, 1])}).html()


def test_points_are_colored_by_class():
    points = np.random.default_rng(0).normal(size=(20, 2))
    html = Scatter(title="", points=points, labels=np.arange(20) % 2, names={0: "cat", 1: "d<g"}).html()
    assert html.count("var(--s0)") >= 10
    assert html.count("var(--s1)") >= 10
    assert "cat" in html
    assert "d&lt;g" in html


def test_symbols_that_differ_are_marked():
    html = Symbols(title="", rows={"in": [[1, 2, 3]], "out": [[1, 9, 3, "<"]]}).html()
    assert re.findall("<mark>(.*?)</mark>", html) == ["9", "&lt;"]


def test_downsampled_lines_keep_their_extremes():
    wave = np.sin(np.arange(100_000) / 7)
    wave[54_321] = 9.0
    html = Curves(title="", lines={"a": (range(len(wave)), wave)}).html()
    assert len(html) < 100_000
    x, y = downsample_line((list(range(len(wave))), wave.tolist()))
    assert max(y) == 9.0
    assert x[int(np.argmax(y))] == pytest.approx(54_321, abs=100_000 / 600)
    assert downsample_line(([0, 1], [2, 3])) == ([0, 1], [2, 3])


@pytest.mark.parametrize("installed", [True, False])
def test_sounds_are_embedded_in_the_page(installed, monkeypatch):
    soundfile = pytest.importorskip("soundfile")
    if not installed:
        monkeypatch.setitem(sys.modules, "soundfile", None)
    samples = np.array([0.0, 0.5, -0.25, 1.5, -3.0, np.nan])
    figure = Sounds(
        title="voices",
        rows={"<one>": {"in": samples, "out": samples[:3]}, "two": {"in": samples}},
        notes={"<one>": {"out": "heard <b>"}, "two": {"out": "nowhere"}},
        rate=8000,
    )
    html = figure.html()
    assert html.count("heard &lt;b&gt;") == 1
    assert html.index("heard") > html.rindex("&lt;one&gt;: out")
    assert "nowhere" not in html
    assert "&lt;one&gt;" in html
    assert "<one>" not in html
    assert html.count("<audio controls") == 3
    for source, length in zip(sources(html), (6, 3, 6), strict=True):
        head, _, data = source.partition(",")
        assert head == f"data:audio/{'flac' if installed else 'wav'};base64"
        found, rate = soundfile.read(io.BytesIO(base64.b64decode(data)))
        assert rate == 8000
        assert found == pytest.approx([0, 0.5, -0.25, 1, -1, 0][:length], abs=1e-4)
    with pytest.raises(ValueError, match="one row of samples"):
        Sounds(title="", rows={"a": {"in": np.zeros((2, 3))}}).html()


TEXTS = {
    "curves": (
        Curves(title="", lines={"a": ([0, 9], [1, 0.5])}, xlabel="step"),
        "over step. a: 1 at 0 to 0.5 at 9",
    ),
    "bars": (Bars(title="", values=np.array([1.0, 2.5]), level=2), "0: 1, 1: 2.5. A dashed line is at 2."),
    "many bars": (
        Bars(title="", values=np.arange(50)),
        "Bar chart of 50 values. Highest 49 at 49, lowest 0 at 0.",
    ),
    "errors": (
        Bars(title="", values=np.ones(2), names=["a", "b"], errors=np.array([0.1, 0])),
        "a: 1 ± 0.1, b: 1 ± 0",
    ),
    "matrix": (
        Matrix(title="", values=np.eye(2), ticks=["cat", "dog"]),
        "from 0 to 1. Diagonal: cat: 1, dog: 1.",
    ),
    "scatter": (
        Scatter(title="", points=np.zeros((3, 2)), labels=np.array([0, 1, 1])),
        "3 points of 2 classes (0: 1, 1: 2)",
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_charts_have_a_text_alternative(name):
    figure, text = TEXTS[name]
    label = re.search(r'<svg role="img" aria-label="([^"]*)"', sanitize_html(figure.html()))
    assert label is not None
    assert text in label[1]


def test_signed_values_have_a_diverging_scale():
    """Zero is transparent (white in pictures), negative values are orange and positive ones blue."""
    for values, signed in (([[-2.0, 0, 1]], True), ([[0.0, 1, 2]], False), ([[-0.01, 1, 2]], False)):
        image = re.search(r"base64,([^\"]*)", Matrix(title="", values=np.array(values)).html())[1]
        colors = np.asarray(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGBA")).reshape(-1, 4)
        orange = (colors[:, 0] > colors[:, 2]) & (colors[:, 3] > 200)
        assert orange.any() == signed
    html = Images(title="", rows={"a": np.array([-4.0, 0, 4]).reshape(1, 1, 3)}, colours="signed").html()
    (picture,) = [decode_png(source) for source in sources(html)]
    assert picture[0, 0, 0] > picture[0, 0, 2]
    assert (picture[0, 1] > 240).all()
    assert picture[0, 2, 0] < picture[0, 2, 2]
    assert "orange -4, white 0, blue 4" in html


def test_large_photos_are_compressed():
    rng = np.random.default_rng(0)
    photo = rng.random((10, 10, 3)).repeat(16, 0).repeat(16, 1)
    assert encode_image(photo, (0, 1)).startswith("data:image/webp;base64,")
    assert encode_image(photo[:40, :40], (0, 1)).startswith("data:image/png;base64,")
    assert encode_image(photo[..., 0], (0, 1)).startswith("data:image/png;base64,")
    assert len(encode_image(photo + rng.random(photo.shape) * 0.1, (0, 1.1))) < 20_000


@pytest.mark.parametrize(("high", "label"), [(40, "30"), (4000, "1000"), (1e7, "1e+05")])
def test_logarithmic_axes_have_plain_numbers(high, label):
    """Charts do not parse math, which matplotlib's own labels of powers are."""
    svg = Curves(title="a", lines={"b": ([1, 2], [9, high])}, log=True).html()
    labels = re.findall(r"<text[^>]*>([^<]*)<", svg)
    assert label in labels
    assert not any("$" in each for each in labels)
