"""HTML of figures, which comes from a file or a plugin, reduced to what draws them: no scripts, links or requests."""

from __future__ import annotations

import re

_TEXT = {
    "b", "br", "code", "dd", "details", "div", "dl", "dt", "em", "figcaption", "figure", "h3", "h4", "i", "li", "mark",
    "ol", "p", "pre", "small", "span", "strong", "sub", "summary", "sup", "ul",
}  # fmt: skip
_TABLE = {"caption", "table", "tbody", "td", "tfoot", "th", "thead", "tr"}
_MEDIA = {"audio", "img"}
_SVG = {
    "circle", "clipPath", "defs", "ellipse", "g", "image", "line", "linearGradient", "path", "polygon", "polyline",
    "rect", "stop", "svg", "text", "title", "tspan", "use",
}  # fmt: skip
_COMMON = {"aria-hidden", "aria-label", "class", "id", "role", "style", "title"}
_DRAWING = {
    "clip-path", "clip-rule", "cx", "cy", "d", "dx", "dy", "fill", "fill-opacity", "fill-rule", "font-size",
    "font-weight", "gradientUnits", "height", "href", "offset", "opacity", "points", "preserveAspectRatio", "r", "rx",
    "ry", "stop-color", "stroke", "stroke-dasharray", "stroke-linecap", "stroke-linejoin", "stroke-opacity",
    "stroke-width", "text-anchor", "transform", "version", "viewBox", "width", "x", "x1", "x2", "y", "y1", "y2",
}  # fmt: skip
_ATTRIBUTES = {
    **{tag: _COMMON | _DRAWING for tag in _SVG},
    **{tag: {"colspan", "rowspan", "scope"} for tag in ("td", "th")},
    "img": {"alt", "src", "width", "height"},
    "audio": {"controls", "preload", "src"},
    "details": {"open"},
    "*": _COMMON,
}
_EMBEDDED = re.compile(
    r"data:(?:image/(?:png|jpeg|gif|webp)|audio/(?:flac|wav|x-wav|mpeg|ogg));base64,[A-Za-z0-9+/=\s]*"
)
_WITHIN = re.compile(r"#[\w:.-]+")  # a reference to another element of the page
_URL = re.compile(r"url\(\s*(?!['\"]?#)|expression|image-set|position|@import|\\", re.IGNORECASE)


def sanitize_html(text: str) -> str:
    """Return HTML with the elements and attributes that figures consist of; pictures and sounds must be embedded in it."""
    import nh3

    return nh3.clean(
        text,
        tags=_TEXT | _TABLE | _MEDIA | _SVG,
        clean_content_tags={"script", "style"},
        attributes=_ATTRIBUTES,
        attribute_filter=_filter,
        url_schemes={"data"},
        link_rel=None,
        strip_comments=True,
    )


def _filter(tag: str, attribute: str, value: str) -> str | None:
    """Return the attribute's value; None removes it."""
    if attribute in ("src", "href"):
        return value if _EMBEDDED.fullmatch(value) or (tag == "use" and _WITHIN.fullmatch(value)) else None
    if _URL.search(value) and attribute in ("style", "fill", "stroke", "clip-path"):
        return None
    return value
