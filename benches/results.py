"""Measures the pages of docs/results and writes them there: `python benches/results.py DATA [PAGE ...]`.

DATA holds a folder for each task (sst2, mrpc, ag_news). Runs are kept in runs/results: interrupted, it goes on when
called again, and a table whose runs have all finished is only written anew. Pages of `tuned.py`, methods with the
learning rate of each, are run where they are named; `tuned` names them all.
"""

import subprocess
import sys
import time
from pathlib import Path

import declora
from declora.experiments import Reproduction
from tuned import TUNED, tuned

OUT = Path("runs/results")
DOCS = Path(__file__).resolve().parents[1] / "docs" / "results"
PAGES: dict[str, tuple[str, tuple[str, ...] | None]] = {
    "table1": ("table1", ("sst2", "ag_news")),
    "table1-mrpc": ("table1", ("mrpc",)),
    "methods": ("methods", ("sst2",)),
    "methods-ag_news": ("methods", ("ag_news",)),
    **{name: (name, None) for name in ("label-skew", "messages", "local-steps", "topologies", "table4", "table2")},
}
"""By name: the experiment, and its tasks, None for those that are its own."""


def main() -> None:
    """Runs what is asked for, or all of it."""
    if len(sys.argv) < 2 or not {*PAGES, "tuned", *TUNED} >= set(sys.argv[2:]):
        sys.exit(f"{__doc__}\nPages: {', '.join([*PAGES, *TUNED])}")
    measured = commit()  # before the first page is written, which changes the checkout
    asked = sys.argv[2:] or PAGES
    for name in [page for one in asked for page in (TUNED if one == "tuned" else (one,))]:
        start = time.perf_counter()
        if name in TUNED:
            result: Reproduction = tuned(name, sys.argv[1], OUT)
        else:
            experiment, tasks = PAGES[name]
            result = declora.reproduce(experiment, scale="small", tasks=tasks, data=sys.argv[1], out=OUT)
        print(result)
        document = result.document(commit=measured)
        (DOCS / f"{name}.md").write_text(document.markdown(f"{name}-"), encoding="utf-8")
        (DOCS / f"{name}.csv").write_text(result.table.to_csv(index=False), encoding="utf-8")
        for figure_name, figure in document.figures.items():
            figure.savefig(DOCS / f"{name}-{figure_name}.png", dpi=110)
        print(f"{name}: {time.perf_counter() - start:.0f} s\n", flush=True)


def commit() -> str:
    """Returns the commit of this checkout, and whether it was changed."""
    shown = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, cwd=DOCS, check=True
    )
    return shown.stdout.strip()


if __name__ == "__main__":
    main()
