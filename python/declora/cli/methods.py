"""Runs `declora methods`: what methods there are, and what each sends."""

import argparse
import re
import shutil
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from declora.methods.overview import Described

__all__ = ["add_to", "as_page", "as_text"]

_REFERENCE = (
    "Messages are those of RoBERTa-base with LoRA of rank 8 on query and value and a head of two classes, or of "
    "200 public texts (for a language model with 128 next words each), in float32, without compression."
)
_PAGE = """# Methods

`method="NAME"` names a method, and `+` joins several: `method="tad-lora:interval=5+gradient-tracking"`. Options are in
brackets where they may be left out. `declora methods --markdown` writes this page from the documentation of the parts,
which [extending.md](extending.md) says how to write.

{reference}
"""


def add_to(commands: "argparse._SubParsersAction[Any]") -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "methods",
        help="list the methods, what each does and what it sends",
        description=f"Any of them is a value of `method`; `+` joins several. {_REFERENCE}",
    )
    parser.add_argument("--markdown", action="store_true", help="print a page with the equations: docs/methods.md")
    parser.set_defaults(command=_run)


def _run(options: argparse.Namespace) -> None:
    from declora.methods.overview import describe_methods

    methods = describe_methods()
    print(as_page(methods) if options.markdown else as_text(methods, shutil.get_terminal_size().columns), end="")


def as_text(methods: "Sequence[Described]", width: int) -> str:
    """Returns a line for each method, or where that is wider than `width`, each on as many as it needs."""
    rows = [(method.name, method.message, method.source, method.about) for method in methods]
    wide = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, message, source, about in rows:
        head = f"{name.ljust(wide[0])}  {message.ljust(wide[1])}"
        if sum(wide) + 2 * (len(wide) - 1) <= width:
            lines.append(f"{head}  {source.ljust(wide[2])}  {about}")
        else:
            said = f"{about} ({source})" if source else about
            lines += textwrap.wrap(head, width, subsequent_indent="    ")
            lines += textwrap.wrap(said, width, initial_indent="    ", subsequent_indent="    ")
    return "\n".join([*lines, "", *textwrap.wrap(_REFERENCE, width)]) + "\n"


def as_page(methods: "Sequence[Described]") -> str:
    """Returns the page of all methods in Markdown: a table, then what the documentation of each says."""
    import pandas as pd

    from declora.report import to_markdown

    table = pd.DataFrame(
        [(m.name, m.message, m.source, m.about) for m in methods],
        columns=["method", "message of a client", "source", "what it does"],
    )
    sections = [f"## {_title(method)}\n\n{_body(method)}\n" for method in methods]
    return "\n".join([_PAGE.format(reference="\n".join(textwrap.wrap(_REFERENCE, 120))), to_markdown(table), *sections])


def _title(method: "Described") -> str:
    return re.split(r"[\[:]", method.name)[0]


def _body(method: "Described") -> str:
    """Returns the documentation of a method in Markdown: equations, which are indented, as they are."""
    source = f"\n\nSource: {method.source}." if method.source else ""
    lines, listing = [], False
    for line in method.text.splitlines():
        if line == "Args:":
            listing = True
        elif listing and (argument := re.fullmatch(r" {4}(\w+): (.*)", line)):
            lines.append(f"- `{argument[1]}`: {_plain(argument[2])}")
        elif listing:
            lines.append(f"  {_plain(line.strip())}")
        else:
            lines.append(line if line.startswith("    ") else _plain(line))
    return "\n".join(lines).rstrip() + source


def _plain(text: str) -> str:
    """Returns prose that Markdown shows as it is; what stands between backticks is code in both."""
    return re.sub(r"([*<|])(?=(?:[^`]*`[^`]*`)*[^`]*$)", r"\\\1", text)
