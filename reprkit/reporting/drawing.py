"""From arrays to what a page holds: charts as inline SVG that follow its colours, pictures as PNG.

matplotlib draws (Hunter 2007), with placeholder colours that become CSS variables, so one drawing serves
light and dark.
"""

from __future__ import annotations

import base64
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES = 10  # colours of the page's palette, --s0 to --s9 in page.css
_INK, _FAINT = "#010101", "#020202"
_WIDTH = 600  # places of a longer line, each drawn from its lowest to its highest value
_LONGEST = 160  # pixels of a picture's longer side; larger ones are shrunk


def series(index: int) -> str:
    """The placeholder of the palette's colour ``index``; colours repeat after ten."""
    return f"#0300{index % SERIES:02x}"


class Drawing:
    """A chart while it is drawn: ``axes`` to draw on, ``svg`` once the block of ``chart`` is left."""

    def __init__(self, axes: Axes) -> None:
        self.axes = axes
        self.svg = ""


@contextmanager
def chart(width: float = 3.4, height: float = 2.2, *, frame: bool = True) -> Iterator[Drawing]:
    """Draw a chart with matplotlib: ``drawing.axes.plot(...)`` inside the block, ``drawing.svg`` after it.

    Args:
        width: inches, at 96 pixels each on the page.
        height: inches.
        frame: whether to draw axes with ticks and a grid.
    """
    import matplotlib
    from matplotlib.figure import Figure

    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": "reprkit",
        "svg.image_inline": True,
        "font.size": 8.5,
        "text.color": _INK,
        "axes.edgecolor": _FAINT,
        "axes.labelcolor": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": frame,
        "axes.axisbelow": True,
        "grid.color": _FAINT,
        "grid.linewidth": 0.6,
        "xtick.color": _FAINT,
        "xtick.labelcolor": _INK,
        "ytick.color": _FAINT,
        "ytick.labelcolor": _INK,
        "lines.linewidth": 1.6,
        "legend.frameon": False,
    }
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(width, height), layout="constrained")
        drawing = Drawing(figure.add_subplot())
        if not frame:
            drawing.axes.axis("off")
        yield drawing
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing.svg = _inline(written.getvalue())


def _inline(svg: str) -> str:
    """An SVG document as an element of a page: no addresses, its own ids, the page's colours and font."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"\s*font: [^;\"]*?(\d+(?:\.\d+)?)px [^;\"]*", r" font-size: \1px", svg)
    mine = f"f{zlib.crc32(svg.encode()):08x}-"
    svg = re.sub(r'\bid="', f'id="{mine}', svg)
    svg = svg.replace("url(#", f"url(#{mine}").replace('href="#', f'href="#{mine}')
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--line)")
    svg = re.sub(r"#0300([0-9a-f]{2})", lambda found: f"var(--s{int(found[1], 16)})", svg)
    width, height = (float(each) for each in re.findall(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)[0])
    # Points to pixels; the page may shrink a chart but never stretches it.
    svg = re.sub(r'<svg height="[^"]*"', "<svg", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    size = f"width:{width * 4 / 3:.0f}px;max-width:100%;height:auto;aspect-ratio:{width:.0f}/{height:.0f}"
    return svg.replace("<svg", f'<svg aria-hidden="true" style="{size}"', 1).strip()


def picture(array: np.ndarray, span: tuple[float, float], colours: str = "gray") -> str:
    """One image (h w), (h w 1), (h w 3) or (h w 4) as the ``src`` of an <img>: a PNG written into the page.

    Args:
        array: the values; other numbers of channels show their mean.
        span: the values shown darkest and brightest.
        colours: matplotlib's colour map for images of one channel.
    """
    import matplotlib
    from PIL import Image

    low, high = span
    scaled = np.clip((np.asarray(array, np.float64) - low) / max(high - low, 1e-12), 0, 1)
    scaled = np.nan_to_num(scaled)
    if scaled.ndim == 3 and scaled.shape[-1] not in (3, 4):
        scaled = scaled.mean(-1)
    if scaled.ndim == 2:
        scaled = scaled if colours == "gray" else matplotlib.colormaps[colours](scaled)[..., :3]
    image = Image.fromarray((scaled * 255).round().astype(np.uint8))
    image.thumbnail((_LONGEST, _LONGEST), Image.Resampling.BOX)
    written = io.BytesIO()
    image.save(written, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode()


def outline(line: tuple[Sequence[float], Sequence[float]]) -> tuple[Sequence[float], Sequence[float]]:
    """A line of very many points, such as sound, by the extremes of its places."""
    x, y = (np.asarray(each, np.float64) for each in line)
    if len(y) <= 4 * _WIDTH:
        return line
    edges = np.linspace(0, len(y), _WIDTH + 1).astype(int)[:-1]
    extremes = np.stack([np.minimum.reduceat(y, edges), np.maximum.reduceat(y, edges)], 1)
    return np.repeat(x[edges], 2).tolist(), extremes.ravel().tolist()
