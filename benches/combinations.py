"""Every method with every codec, mixer and graph: a tiny run of it, or one sentence on why not.

Run `python benches/combinations.py`; it writes docs/combinations.md and fails where a combination does neither. About
six to nine minutes on two cores.
"""

import itertools
import sys
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from declora.methods import METHODS
from tiny_combinations import CODECS, GRAPHS, MIXERS, Fault, Refused, tried

PAGE = """\
# Methods with codecs, mixers and graphs

`python benches/combinations.py` writes this page: two rounds of a tiny model for every method with each of the codecs
{codecs}, the mixers {mixers} and the graphs {graphs}. Of {all} combinations {ran} run; the others are refused by
a message before anything is trained. A number says how many of a method's {each} combinations of codec and graph run
with a mixer.

| method | {columns} |
|---|{rules}|
{rows}

## Refused

How often, and what is said; of like messages that differ in names alone, the first.

{refused}
"""


def main() -> None:
    """Tries all, and writes the page."""
    warnings.simplefilter("ignore")
    start, ran, reasons, faults = time.perf_counter(), Counter[tuple[str, str]](), defaultdict[str, list[str]](list), []
    for method, codec, mixer, graph in itertools.product(METHODS, CODECS, MIXERS, GRAPHS):
        found = tried(method=method, codec=codec, mixer=mixer, topology=graph)
        if isinstance(found, Fault):
            faults.append(f"{method} {codec} {mixer} {graph}: {found.message}")
        elif isinstance(found, Refused):
            reasons[found.kind].append(found.message)
        else:
            ran[method, mixer] += 1
    document = PAGE.format(
        codecs=", ".join(f"`{name}`" for name in CODECS),
        mixers=", ".join(f"`{name}`" for name in MIXERS),
        graphs=", ".join(f"`{name}`" for name in GRAPHS),
        all=len(METHODS) * len(CODECS) * len(MIXERS) * len(GRAPHS),
        ran=sum(ran.values()),
        each=len(CODECS) * len(GRAPHS),
        columns=" | ".join(MIXERS),
        rules="|".join("---" for _ in MIXERS),
        rows="\n".join(f"| {m} | {' | '.join(str(ran[m, mixer] or '-') for mixer in MIXERS)} |" for m in METHODS),
        refused="\n".join(
            f"- {len(messages)}: {messages[0]}" for messages in sorted(reasons.values(), key=len, reverse=True)
        ),
    )
    (Path(__file__).parents[1] / "docs" / "combinations.md").write_text(document, encoding="utf-8")
    print(f"{sum(ran.values())} ran, {sum(map(len, reasons.values()))} refused, {time.perf_counter() - start:.0f} s")
    if faults:
        sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
