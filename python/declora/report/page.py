"""Writes the pieces of an HTML report: the page and its style sheet, tiles, tables, figures; all text is escaped."""

from collections.abc import Collection, Iterable, Mapping
from html import escape

import pandas as pd
from matplotlib.figure import Figure

from declora.report.style import Look
from declora.report.svg import color_variables, inline_svg, swatch
from declora.report.tables import cut, format_table

__all__ = [
    "definitions",
    "figure_card",
    "flatten",
    "folded",
    "grid",
    "key",
    "listing",
    "page",
    "section",
    "show",
    "table",
    "tile",
    "tiles",
]

_ROWS, _COLUMNS = 200, 24
"""Of a longer table the first and last rows are shown, of a wider one the first columns and the last."""
_VALUE = 2000
"""Characters of a setting that are shown."""
_SHORT = 16
"""Characters of a text that stays in one line of a table."""

_CSS = """
:root{color-scheme:light dark;--page:#f5f7f9;--card:#ffffff;--line:#e0e5ea;--ink:#1f2933;--soft:#55606e;
--shade:#00000026;LIGHT}
@media screen and (prefers-color-scheme:dark){
:root{--page:#0d1117;--card:#161b22;--line:#2c3541;--ink:#e6eaf0;--soft:#9aa7b6;
--shade:#ffffff2e;DARK}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1240px;margin:0 auto;padding:2.5rem 1.5rem 3rem}
header p,.note{color:var(--soft);margin:.25rem 0 0}
header .lead{color:var(--ink);font-size:1.05rem;max-width:62rem;margin-top:.9rem}
.note{font-size:.83rem;margin-top:.6rem}
h1{font-size:clamp(1.3rem,4.2vw,1.8rem);line-height:1.2;letter-spacing:-.02em;margin:0;overflow-wrap:anywhere}
h2{font-size:1.15rem;letter-spacing:-.01em;margin:2.4rem 0 .8rem}
h3{font-size:.95rem;margin:0 0 .6rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(168px,1fr));gap:1rem;margin-top:1.6rem}
.tile,.card{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{padding:1rem 1.15rem}
.tile .name{color:var(--soft);font-size:.83rem}
.tile .value{font-size:1.75rem;font-weight:650;letter-spacing:-.02em;line-height:1.3;white-space:nowrap}
.tile .more{color:var(--soft);font-size:.83rem}
.tile:first-child .value{color:var(--c4)}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,350px),1fr));gap:1rem;align-items:stretch}
.card{padding:1rem 1.15rem;margin:0;min-width:0}
section>*+.card,section>*+details,details>.card,details>.grid{margin-top:1rem}
figure.card{display:flex;flex-direction:column}
figcaption{color:var(--soft);font-size:.83rem;margin-top:.5rem}
svg{display:block;width:100%;height:auto;max-height:520px;overflow:visible}
svg text{font-family:inherit!important}
.key{display:flex;flex-wrap:wrap;gap:.35rem 1.2rem;list-style:none;margin:1rem 0 .9rem;padding:0;font-size:.9rem}
.key li{display:flex;align-items:center;gap:.45rem;overflow-wrap:anywhere}
.key svg{width:34px;flex:none}
.scroll{overflow:auto;max-height:46rem;
background:linear-gradient(90deg,var(--card) 30%,transparent) 0 0,
linear-gradient(270deg,var(--card) 30%,transparent) 100% 0,
linear-gradient(90deg,var(--shade),transparent) 0 0,linear-gradient(270deg,var(--shade),transparent) 100% 0;
background-repeat:no-repeat;background-size:48px 100%,48px 100%,16px 100%,16px 100%;
background-attachment:local,local,scroll,scroll}
.scroll table{width:auto;min-width:min(100%,46rem)}
table{border-collapse:collapse;width:100%;font-size:.86rem;font-variant-numeric:tabular-nums}
th,td{padding:.38rem .7rem;text-align:left;border-bottom:1px solid var(--line);vertical-align:top}
thead th{position:sticky;top:0;background:var(--card);color:var(--soft);font-weight:550;vertical-align:bottom;
box-shadow:inset 0 -1px var(--line);border:0;z-index:1}
.scroll tr>:first-child{position:sticky;left:0;background:var(--card);max-width:11rem;
box-shadow:inset -1px 0 var(--line)}
.scroll tr>:first-child:not(.n){min-width:8.5rem;overflow-wrap:break-word}
.scroll thead tr>:first-child{z-index:2;box-shadow:inset -1px -1px var(--line)}
tbody tr:last-child>*{border-bottom:0}
tbody tr:hover,.scroll tbody tr:hover>:first-child{background:var(--page)}
tbody th{font-weight:450;color:var(--soft)}
.n{text-align:right}td.n{white-space:nowrap}
td{overflow-wrap:anywhere}.scroll td{overflow-wrap:break-word}.s{white-space:nowrap}
.best{font-weight:700}.best::before{content:"\\2605\\00a0";color:var(--c4)}
.pairs th{width:42%}
pre{margin:0;padding:1rem;background:var(--page);border-radius:8px;overflow:auto;
font:.83rem/1.55 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
summary{cursor:pointer;color:var(--soft);font-size:.9rem;padding:.35rem 0}
footer{color:var(--soft);font-size:.83rem;margin-top:2.5rem}
@media (max-width:600px){
main{padding:1.4rem .8rem 2rem}.card{padding:.8rem .7rem}
.tiles{grid-template-columns:1fr 1fr;gap:.6rem}.tile{padding:.7rem .8rem}.tile .value{font-size:1.35rem}
.scroll tr>:first-child{max-width:9rem}
}
@media print{
@page{margin:14mm}
body{background:none;font-size:12px}main{max-width:none;padding:0}
.tile,.card{break-inside:avoid}.tile .value{font-size:1.2rem}.scroll{max-height:none;overflow:visible}
thead th,.scroll tr>:first-child{position:static}.long{break-inside:auto}h2{break-after:avoid}
.tiles{grid-template-columns:repeat(5,1fr);gap:.5rem}.grid{grid-template-columns:repeat(2,1fr);gap:.5rem}
}
"""


def page(title: str, subtitle: str, body: str, *, lead: str = "") -> str:
    """Returns the whole document; its policy forbids every request and script, so it is what it shows.

    Args:
        title: of the page, and its heading.
        subtitle: stands below it.
        body: sections.
        lead: what it all means, in a sentence or two.
    """
    css = _CSS.replace("LIGHT", color_variables(dark=False)).replace("DARK", color_variables(dark=True)).strip()
    together = escape(lead.replace(" %", "\N{NO-BREAK SPACE}%"))
    meaning = f'\n<p class="lead">{together}</p>' if lead else ""
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
<p>{escape(subtitle)}</p>{meaning}
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


def folded(summary: str, *parts: str) -> str:
    """Returns parts that are shown when one asks for them, or nothing if all are empty."""
    content = "\n".join(part for part in parts if part)
    return f"<details><summary>{escape(summary)}</summary>\n{content}\n</details>" if content else ""


def listing(title: str, text: str, *, note: str = "") -> str:
    """Returns lines of code or of a terminal as a card, or nothing if there are none."""
    below = f'<p class="note">{escape(note)}</p>' if note else ""
    return f'<div class="card"><h3>{escape(title)}</h3><pre>{escape(text)}</pre>{below}</div>' if text else ""


def key(looks: Mapping[str, Look]) -> str:
    """Returns which line is which run, once for all figures of a section."""
    items = "".join(f"<li>{swatch(look)}<span>{escape(cut(label))}</span></li>" for label, look in looks.items())
    return f'<ul class="key" aria-label="which line is which run">{items}</ul>'


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


def table(
    frame: pd.DataFrame,
    *,
    title: str = "",
    note: str = "",
    file: str = "",
    literal: bool = False,
    best: Mapping[str, Collection[int]] | None = None,
) -> str:
    """Returns a data frame as a card, values as `format_table` shows them; of a large one, a part.

    Args:
        frame: the table.
        title: stands above it.
        note: stands below it.
        file: name of the file beside the page in which all of it is; said where a part is shown.
        literal: whether the columns are named by a user, see `format_table`.
        best: the rows to mark as the best, by column; rows count from 0. The note says what the mark is.
    """
    if frame.empty:
        return ""
    part, cuts = _part(frame)
    marked = {str(name): frozenset(rows) for name, rows in (best or {}).items()} if len(part) == len(frame) else {}
    kinds = [' class="n"' if pd.api.types.is_numeric_dtype(kind) else "" for kind in part.dtypes]
    shown = format_table(part, literal=literal)
    head = "".join(f'<th scope="col"{k}>{escape(n)}</th>' for n, k in zip(shown.columns, kinds, strict=True))
    rows = "\n".join(
        "<tr>"
        + "".join(
            f"<td{_class(k, v, number in marked.get(str(name), ()))}>{escape(v)}</td>"
            for v, k, name in zip(row, kinds, part.columns, strict=True)
        )
        + "</tr>"
        for number, row in enumerate(shown.itertuples(index=False))
    )
    name = f"<h3>{escape(title)}</h3>" if title else ""
    where = f"; all of it is in {file}" if file else ""
    note = " ".join(text for text in ("★: the best of a column." * any(marked.values()), note) if text)
    notes = " ".join([note] * bool(note) + [f"Shown: {', '.join(cuts)}{where}."] * bool(cuts))
    below = f'<p class="note">{escape(notes)}</p>' if notes else ""
    return (
        f'<div class="card long">{name}<div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(title or "table")}, scrolls"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>{below}</div>"
    )


def _class(kind: str, text: str, best: bool) -> str:
    """Returns the class of a cell: a number, or a short text, which stays in one line, and whether it is the best."""
    names = ["n"] * bool(kind) + ["s"] * (not kind and len(text) <= _SHORT) + ["best"] * best
    return f' class="{" ".join(names)}"' if names else ""


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
