"""Writes a matplotlib figure as inline SVG for one HTML page: no namespaces, no metadata, the page's colours."""

import hashlib
import html
import io
import re

import matplotlib as mpl
from matplotlib.figure import Figure

from declora import process
from declora.report.style import DARK, INK, MUTED, PAPER, Look

__all__ = ["color_variables", "inline_svg", "swatch"]

_STROKES = {"-": "none", "--": "7 4", ":": "2 4", "-.": "8 3 2 3"}
"""Dashes of matplotlib, as SVG has them."""


def inline_svg(figure: Figure, label: str) -> str:
    """Returns the figure as an `<svg>` element that scales to its container.

    A figure in the house style (known by its inks) gets the page's colours and a transparent background, so
    it follows dark mode; any other is shown as drawn. Text stays text, in the page's font. The same figure gives
    the same bytes.

    Args:
        figure: any figure; it is not changed.
        label: what a screen reader says.
    """
    buffer = io.StringIO()
    with process.alone(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "declora"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    # Ids are those of the page: two figures must not share one.
    prefix = "f" + hashlib.blake2b(text.encode(), digest_size=4).hexdigest()
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{prefix}-", text)
    if INK in text or MUTED in text:
        text = re.sub(r'style="[^"]*"', lambda style: _themed(style[0]), text)
    head = re.match(r"<svg[^>]*>", text)
    assert head is not None
    view = re.search(r'viewBox="([^"]*)"', head[0])
    assert view is not None
    opening = f'<svg viewBox="{view[1]}" role="img" aria-label="{html.escape(label)}">'
    return opening + text[head.end() :].strip()


def swatch(look: Look) -> str:
    """Returns a piece of line as a run is drawn, for the key of a page; it says nothing to a screen reader."""
    stroke = f"stroke:var({_variable(look.ink)});stroke-width:3;stroke-dasharray:{_STROKES[look.line['linestyle']]}"
    return f'<svg viewBox="0 0 34 10" aria-hidden="true"><path d="M1 5H33" style="{stroke}"/></svg>'


def color_variables(dark: bool) -> str:
    """Returns the CSS declarations of the palette's variables for one mode."""
    return "".join(f"{_variable(light)}:{DARK[light] if dark else light};" for light in DARK)


def _variable(color: str) -> str:
    return f"--c{list(DARK).index(color)}"


def _themed(style: str) -> str:
    style = style.replace(f"fill: {PAPER}", "fill: none") if "stroke" not in style else style
    return re.sub(r"#[0-9a-f]{6}", lambda c: f"var({_variable(c[0])})" if c[0] in DARK else c[0], style)
