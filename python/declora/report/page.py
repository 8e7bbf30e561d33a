"""Writes the pieces of an HTML report: the page and its style sheet, tiles, tables, figures; all text is escaped."""

from collections.abc import Iterable, Mapping
from html import escape

import pandas as pd
from matplotlib.figure import Figure

from declora.report.svg import color_variables, inline_svg
from declora.report.tables import cut, format_table

__all__ = ["definitions", "figure_card", "flatten", "grid", "page", "section", "show", "table", "tile", "tiles"]

_ROWS, _COLUMNS = 200, 24
"""Of a longer table the first and last rows are shown, of a wider one the first columns and the last."""
_VALUE = 2000
"""Characters of a setting that are shown."""

_CSS = """
:root{color-scheme:light dark;--page:#f5f7f9;--card:#ffffff;--line:#e0e5ea;--ink:#1f2933;--soft:#5f6b7a;LIGHT}
@media screen and (prefers-color-scheme:dark){
:root{--page:#0d1117;--card:#161b22;--line:#2c3541;--ink:#e6eaf0;--soft:#9aa7b6;DARK}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1240px;margin:0 auto;padding:2.5rem 1.5rem 3rem}
header p,.note{color:var(--soft);margin:.25rem 0 0}
.note{font-size:.83rem;margin-top:.6rem}
h1{font-size:1.9rem;line-height:1.2;letter-spacing:-.02em;margin:0}
h2{font-size:1.15rem;letter-spacing:-.01em;margin:2.4rem 0 .8rem}
h3{font-size:.95rem;margin:0 0 .6rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:1rem;margin-top:1.6rem}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:1rem 1.15rem}
.tile .name{color:var(--soft);font-size:.83rem}
.tile .value{font-size:1.75rem;font-weight:650;letter-spacing:-.02em;line-height:1.3;white-space:nowrap}
.tile .more{color:var(--soft);font-size:.8rem}
.tile:first-child .value{color:var(--c4)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,350px),1fr));gap:1rem;align-items:stretch}
.card{padding:1rem 1.15rem;margin:0;min-width:0}
section>*+.card,details,details>.card{margin-top:1rem}
figure.card{display:flex;flex-direction:column}
figure.card svg{margin:auto}
figcaption{color:var(--soft);font-size:.83rem;margin-top:.5rem}
svg{display:block;width:100%;height:auto;max-height:520px;overflow:visible}
svg text{font-family:inherit!important}
.scroll{overflow:auto;max-height:46rem}
.scroll table{width:auto;min-width:min(100%,46rem)}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:.38rem .7rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
thead th{position:sticky;top:0;background:var(--card);color:var(--soft);font-weight:550;vertical-align:bottom;
box-shadow:inset 0 -1px var(--line);border:0}
tbody tr:last-child>*{border-bottom:0}
tbody tr:hover{background:var(--page)}
tbody th{font-weight:450;color:var(--soft)}
.n{text-align:right}td.n{white-space:nowrap}
td{overflow-wrap:anywhere}td.n{overflow-wrap:normal}
.pairs th{width:42%}
pre{margin:0;padding:1rem;background:var(--page);border-radius:8px;overflow:auto;
font:.83rem/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
summary{cursor:pointer;color:var(--soft);font-size:.86rem}
footer{color:var(--soft);font-size:.8rem;margin-top:2.5rem}
@media print{
@page{margin:14mm}
body{background:none;font-size:12px}main{max-width:none;padding:0}
.tile,.card{break-inside:avoid}.tile .value{font-size:1.2rem}.scroll{max-height:none;overflow:visible}
thead th{position:static}.long{break-inside:auto}h2{break-after:avoid}
.tiles{grid-template-columns:repeat(5,1fr);gap:.5rem}.grid{grid-template-columns:repeat(2,1fr);gap:.5rem}
}
"""


def page(title: str, subtitle: str, body: str) -> str:
    """Returns the whole document; its policy forbids every request and script, so it is what it shows."""
    css = _CSS.replace("LIGHT", color_variables(dark=False)).replace("DARK", color_variables(dark=True)).strip()
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>
{css}
</style>
</head>
<body>
<main>
<header>
<h1>{escape(title)}</h1>
<p>{escape(subtitle)}</p>
</header>
{body}
<footer>Written by declora. This page is one file and loads nothing.</footer>
</main>
</body>
</html>
"""


def section(title: str, *parts: str) -> str:
    """Returns a titled section, or nothing if all its parts are empty."""
    content = "\n".join(part for part in parts if part)
    return f"<section>\n<h2>{escape(title)}</h2>\n{content}\n</section>" if content else ""


def grid(parts: Iterable[str]) -> str:
    """Returns cards side by side, as many as fit."""
    content = "\n".join(part for part in parts if part)
    return f'<div class="grid">\n{content}\n</div>' if content else ""


def tiles(parts: Iterable[str]) -> str:
    """Returns headline numbers side by side."""
    return '<div class="tiles">\n' + "\n".join(parts) + "\n</div>"


def tile(name: str, value: str, more: str = "") -> str:
    """Returns one headline number."""
    return (
        f'<div class="tile"><div class="name">{escape(name)}</div><div class="value">{escape(value)}</div>'
        f'<div class="more">{escape(more)}</div></div>'
    )


def figure_card(figure: Figure, label: str, *, caption: str = "") -> str:
    """Returns a figure as a card; `label` is for screen readers, `caption` stands below it."""
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    return f'<figure class="card">{inline_svg(figure, label)}{below}</figure>'


def definitions(values: Mapping[str, object], *, title: str = "") -> str:
    """Returns names and values as a card of two columns; nested mappings get dotted names."""
    if not values:
        return ""
    head = f"<h3>{escape(title)}</h3>" if title else ""
    rows = "".join(
        f'<tr><th scope="row">{escape(cut(name))}</th><td>{escape(cut(show(value), _VALUE))}</td></tr>'
        for name, value in flatten(values).items()
    )
    return f'<div class="card">{head}<table class="pairs"><tbody>{rows}</tbody></table></div>'


def table(frame: pd.DataFrame, *, title: str = "", note: str = "", file: str = "", literal: bool = False) -> str:
    """Returns a data frame as a card, values as `format_table` shows them; of a large one, a part.

    Args:
        frame: the table.
        title: stands above it.
        note: stands below it.
        file: name of the file beside the page in which all of it is; said where a part is shown.
        literal: whether the columns are named by a user, see `format_table`.
    """
    if frame.empty:
        return ""
    part, cuts = _part(frame)
    kinds = [' class="n"' if pd.api.types.is_numeric_dtype(kind) else "" for kind in part.dtypes]
    shown = format_table(part, literal=literal)
    head = "".join(f'<th scope="col"{k}>{escape(n)}</th>' for n, k in zip(shown.columns, kinds, strict=True))
    rows = "\n".join(
        "<tr>" + "".join(f"<td{k}>{escape(v)}</td>" for v, k in zip(row, kinds, strict=True)) + "</tr>"
        for row in shown.itertuples(index=False)
    )
    name = f"<h3>{escape(title)}</h3>" if title else ""
    where = f"; all of it is in {file}" if file else ""
    notes = " ".join([note] * bool(note) + [f"Shown: {', '.join(cuts)}{where}."] * bool(cuts))
    below = f'<p class="note">{escape(notes)}</p>' if notes else ""
    return (
        f'<div class="card long">{name}<div class="scroll"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>{below}</div>"
    )


def _part(frame: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Returns what is shown of a table, and in words what part of it that is."""
    rows, columns = frame.shape
    cuts = []
    if rows > _ROWS:
        half = _ROWS // 2
        frame = pd.concat([frame.iloc[:half], frame.iloc[-half:]])
        cuts.append(f"the first and the last {half} of {rows:,} rows")
    if columns > _COLUMNS:
        frame = frame.iloc[:, [*range(_COLUMNS - 1), columns - 1]]
        cuts.append(f"the first {_COLUMNS - 1} and the last of {columns:,} columns")
    return frame, cuts


def flatten(values: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Returns a nested mapping as a flat one, with dotted names."""
    flat: dict[str, object] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def show(value: object) -> str:
    """Returns a setting as one reads it: lists with commas, None as a dash, booleans as yes and no."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(show(item) for item in value) or "–"
    return f"{value:g}" if isinstance(value, float) else str(value)
