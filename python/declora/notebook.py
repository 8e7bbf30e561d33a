"""What notebooks show of an object: a small table, or a figure, once."""

import html
import io
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["displayed", "facts_html", "table_html"]

_LONGEST = 200
"""Characters of a cell; longer ones are cut."""


def facts_html(title: str, facts: Mapping[str, str]) -> str:
    """Returns facts as an HTML table of two columns, escaped and cut."""
    rows = "".join(
        f'<tr><th style="text-align:left">{_cell(name)}</th><td style="text-align:left">{_cell(value)}</td></tr>'
        for name, value in facts.items()
    )
    return f"<table><caption>{_cell(title)}</caption><tbody>{rows}</tbody></table>"


def table_html(title: str, head: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Returns rows of text as an HTML table, escaped and cut."""
    top = "".join(f"<th>{_cell(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{_cell(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><caption>{_cell(title)}</caption><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def displayed(figure: "Figure") -> "Figure":
    """Returns a figure that a notebook shows as a picture where it is the last value of a cell.

    It is none of pyplot's, which would show it a second time at the end of the cell.
    """
    figure._repr_png_ = partial(_png, figure)  # type: ignore[attr-defined]
    return figure


def _png(figure: "Figure") -> bytes:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=100)
    return image.getvalue()


def _cell(text: object) -> str:
    words = str(text)
    return html.escape(words if len(words) <= _LONGEST else f"{words[: _LONGEST - 1]}…")
