"""Draw arrays for a page: charts as inline SVG, images as PNG.

matplotlib (Hunter 2007) draws charts with placeholder colors, which are replaced by the page's CSS variables, so that one
drawing fits the light and the dark theme.
"""

from __future__ import annotations

import base64
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE_SIZE = 10  # colors of the page's palette, --s0 to --s9 in page.css
INK, _FAINT = "#010101", "#020202"  # placeholders of the colors of text and of lines
_BINS = 600  # of a long line, each drawn from its lowest to its highest value
_LONGEST = 160  # pixels of an image's longer side; larger images are shrunk
_LOSSLESS = 48  # pixels of the longer side up to which colored images are PNG; larger ones are WebP, an eighth of the size
_QUALITY = 85  # of WebP
DIVERGING = "diverging"  # name of the page's own color map for signed values, for ``encode_image``


def series_color(index: int) -> str:
    """The placeholder of the palette's color ``index``; colors repeat after ten."""
    return f"#0300{index % PALETTE_SIZE:02x}"


class Drawing:
    """A chart: ``axes`` to draw on, and ``svg``, which is set when the block of ``chart`` ends."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.svg = ""


@contextmanager
def chart(width: float = 3.4, height: float = 2.2, *, frame: bool = True) -> Iterator[Drawing]:
    """Draw a chart with matplotlib: call ``drawing.axes.plot(...)`` inside the block, read ``drawing.svg`` after it.

    Args:
        width: in inches, of 96 pixels on the page.
        height: in inches.
        frame: whether to draw axes with ticks and a grid.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "reprkit",
        "svg.image_inline": True,
        "text.parse_math": False,  # names from data may contain $
        "font.size": 8.5,
        "text.color": INK,
        "axes.edgecolor": _FAINT,
        "axes.labelcolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": frame,
        "axes.axisbelow": True,
        "grid.color": _FAINT,
        "grid.linewidth": 0.6,
        "xtick.color": _FAINT,
        "xtick.labelcolor": INK,
        "ytick.color": _FAINT,
        "ytick.labelcolor": INK,
        "lines.linewidth": 1.6,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        drawing = Drawing(figure.add_subplot())
        if not frame:
            drawing.axes.axis("off")
        yield drawing
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing.svg = _to_inline_svg(buffer.getvalue())


def _to_inline_svg(svg: str) -> str:
    """Convert an SVG document to an element of a page: without URLs, with unique ids and the page's colors and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<(metadata|style)\b.*?</\1>", "", svg, flags=re.S)  # page.css has the rules of <style>
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"\s*font: [^;\"]*?(\d+(?:\.\d+)?)px [^;\"]*", r" font-size: \1px", svg)
    prefix = f"f{zlib.crc32(svg.encode()):08x}-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = svg.replace("url(#", f"url(#{prefix}").replace('href="#', f'href="#{prefix}')
    svg = svg.replace(INK, "currentColor").replace(_FAINT, "var(--line)")
    svg = re.sub(r"#0300([0-9a-f]{2})", lambda match: f"var(--s{int(match[1], 16)})", svg)
    width, height = (float(side) for side in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    # Points are converted to pixels; the page may shrink a chart but never stretches it.
    svg = re.sub(r'<svg height="[^"]*"', "<svg", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    size = f"width:{width * 4 / 3:.0f}px;max-width:100%;height:auto;aspect-ratio:{width:.0f}/{height:.0f}"
    return svg.replace("<svg", f'<svg aria-hidden="true" style="{size}"', 1).strip()


def describe_svg(svg: str, text: str) -> str:
    """Return the drawing with a text alternative, which screen readers read instead of it."""
    return svg.replace(
        '<svg aria-hidden="true"', f'<svg role="img" aria-label="{escape(text, quote=True)}"', 1
    )


def encode_image(array: np.ndarray, span: tuple[float, float], colormap: str = "gray") -> str:
    """Encode an image (h w), (h w 1), (h w 3) or (h w 4) as the ``src`` of an <img>: a PNG or WebP in a data URL.

    Small images and those of one channel are PNG, which is exact; large ones in color are WebP.

    Args:
        array: the values; of other numbers of channels the mean is shown.
        span: the values that are darkest and brightest.
        colormap: matplotlib's color map for images of one channel, or DIVERGING.
    """
    from PIL import Image, features

    low, high = span
    scaled = np.clip((np.asarray(array, np.float64) - low) / max(high - low, 1e-12), 0, 1)
    scaled = np.nan_to_num(scaled)
    if scaled.ndim == 3 and scaled.shape[-1] not in (3, 4):
        scaled = scaled.mean(-1)
    if scaled.ndim == 2:
        scaled = scaled if colormap == "gray" else _colormap(colormap)(scaled)[..., :3]
    image = Image.fromarray((scaled * 255).round().astype(np.uint8))
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BOX)
    buffer = io.BytesIO()
    if image.mode == "RGB" and colormap == "gray" and max(image.size) > _LOSSLESS and features.check("webp"):
        kind = "webp"
        image.save(buffer, format="WEBP", quality=_QUALITY)
    else:
        kind = "png"
        image.save(buffer, format="PNG", optimize=True)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode()


def is_signed(low: float, high: float) -> bool:
    """Whether values between ``low`` and ``high`` have a sign that matters: both sides of zero reach a tenth of the larger one."""
    return low < 0 < high and min(-low, high) >= 0.1 * max(-low, high)


def symmetric(low: float, high: float) -> tuple[float, float]:
    """The smallest span around zero that holds both values."""
    size = max(abs(low), abs(high))
    return -size, size


def tint(*, diverging: bool) -> Any:
    """A color map from transparent to color, for heat maps on dark and light pages.

    Args:
        diverging: orange for negative values, transparent at zero and blue for positive ones; otherwise blue for high values.
    """
    from matplotlib.colors import LinearSegmentedColormap

    blue, orange = (0.29, 0.45, 0.87), (0.88, 0.48, 0.0)
    rising = [(*blue, 0.03), (*blue, 0.5), (*blue, 1.0)]
    falling = [(*orange, 1.0), (*orange, 0.5), (*orange, 0.03)]
    return LinearSegmentedColormap.from_list("tint", [*falling, *rising] if diverging else rising)


def _colormap(name: str) -> Any:
    import matplotlib
    from matplotlib.colors import LinearSegmentedColormap

    if name != DIVERGING:
        return matplotlib.colormaps[name]
    return LinearSegmentedColormap.from_list(
        name, [(0.88, 0.48, 0.0), (0.97, 0.97, 0.97), (0.18, 0.36, 0.84)]
    )


def downsample_line(line: tuple[Sequence[float], Sequence[float]]) -> tuple[Sequence[float], Sequence[float]]:
    """Reduce a line of very many points, such as a waveform, to the lowest and highest value of each bin."""
    x, y = (np.asarray(values, np.float64) for values in line)
    if len(y) <= 4 * _BINS:
        return line
    edges = np.linspace(0, len(y), _BINS + 1).astype(int)[:-1]
    extremes = np.stack([np.minimum.reduceat(y, edges), np.maximum.reduceat(y, edges)], 1)
    return np.repeat(x[edges], 2).tolist(), extremes.ravel().tolist()
