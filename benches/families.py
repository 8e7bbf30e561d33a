"""Every family of models that transformers knows: trained by declora in a group, as PEFT trains it alone, or refused.

Run `python benches/families.py`; it writes docs/families.md and fails where a family does neither. The models are tiny
and random, since what differs between families is what they do with a batch. `--only bert,t5` prints some rows alone.
"""

import argparse
import os
import sys
import warnings
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

import transformers
from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as USUAL_TARGETS
from transformers.models.auto import modeling_auto

from declora.errors import ModelError
from tiny import tiny_tokenizer
from tiny_families import compare, tiny_model

NAMES = {
    "classification": modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    "causal-lm": modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
}
CLOSE = 1e-5
PAGE = """\
# Families of models

What clients that are trained together end with must be what each would end with alone. This page says for every family
of models in transformers {transformers} whether it is so: three clients, whose adapters start at random, take three
steps of SGD in one run of declora, and then each of them with PEFT {peft} and torch {torch} alone. Models are tiny
and random.
`python benches/families.py` writes this page, and fails where a family neither agrees nor is refused.

- **packed**: clients share passes, without padding.
- **padded**: clients share passes.
- **apart**: one client at a time, since a pass would mix them; the run says so, and is as fast as PEFT.
- **refused**: by a message, below.

Of {trained} ways to train, the adapters of each differ from PEFT's by at most {worst:.0e} of the way that they moved
(float32, in another order of sums). "default" is what `lora` adapts where it names no `target_modules`, "all" is
`"all-linear"`. A dash: transformers has no such model, or no tiny one was made of it.

| family | classification, default | all | causal LM, default | all |
|---|---|---|---|---|
{rows}

## Refused

{refused}

## Not tried

No tiny model was made of these, since they need sizes that fit each other, images or sound: {unmade}.
"""


@dataclass(frozen=True)
class Result:
    """Of a family, for one task and one choice of targets."""

    way: str
    """packed, padded, apart, refused, unmade; anything else is a fault."""
    difference: float = 0.0
    message: str = ""


def tried(case: tuple[str, str, str | None]) -> Result:
    """Returns what becomes of a family, in a process that does nothing else."""
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    kind, task, targets = case
    try:
        model = tiny_model(kind, task)
    except Exception as error:
        return Result("unmade", message=f"{type(error).__name__}: {error}")
    try:
        found = compare(model, tiny_tokenizer(), task, targets)
    except ModelError as error:
        return Result("refused", message=str(error))
    except Exception as error:
        return Result(f"FAULT {type(error).__name__}", message=str(error))
    if not (found.difference < CLOSE and found.of_a_block < 1e-3):
        return Result(f"FAULT {found.difference:.0e}", found.difference)
    way = "packed" if found.sharing.unpadding else "padded" if found.sharing.together else "apart"
    return Result(way, found.difference)


def cases(only: set[str]) -> Iterable[tuple[str, str, str | None]]:
    """Returns each family's tasks; `"all-linear"` apart where the default is something else."""
    for task, names in NAMES.items():
        for kind in sorted(names):
            if not only or kind in only:
                yield kind, task, None
                if kind in USUAL_TARGETS:
                    yield kind, task, "all-linear"


def page(results: dict[tuple[str, str, str | None], Result]) -> str:
    """Returns the table and the messages, as Markdown."""
    kinds = sorted({kind for kind, _, _ in results})
    rows = [f"| {kind} | {' | '.join(cell(results, kind, task) for task in NAMES)} |" for kind in kinds]
    refused: dict[tuple[str, str, str], None] = {}  # a set that keeps its order
    for (kind, task, _), result in results.items():
        if result.way == "refused":
            refused[kind, task, result.message] = None
    trained = [result for result in results.values() if result.way in ("packed", "padded", "apart")]
    unmade = sorted({kind for (kind, _, _), result in results.items() if result.way == "unmade"})
    return PAGE.format(
        **{name: version(name) for name in ("transformers", "peft", "torch")},
        trained=len(trained),
        worst=max((result.difference for result in trained), default=0.0),
        unmade=", ".join(unmade),
        rows="\n".join(rows),
        refused="\n".join(f"- {kind}, {task}: {message}" for kind, task, message in sorted(refused)),
    )


def cell(results: dict[tuple[str, str, str | None], Result], kind: str, task: str) -> str:
    """Returns a family's two columns of one task."""
    default = results.get((kind, task, None), Result("unmade"))
    every = results.get((kind, task, "all-linear"), default)
    return " | ".join("-" if result.way == "unmade" else result.way for result in (default, every))


def main() -> None:
    """Tries all families, prints what becomes of each, and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="families to try, with commas; nothing is written then")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="how many at a time")
    options = parser.parse_args()
    only = set(filter(None, options.only.split(",")))
    results: dict[tuple[str, str, str | None], Result] = {}
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        wanted = list(cases(only))
        for case, result in zip(wanted, pool.map(tried, wanted), strict=True):
            results[case] = result
            print(
                f"{result.way:14} {result.difference:.0e}", *case, result.message.replace("\n", " ")[:200], flush=True
            )
    if not only:
        (Path(__file__).parents[1] / "docs" / "families.md").write_text(page(results))
    sys.exit(any(result.way.startswith("FAULT") for result in results.values()))


if __name__ == "__main__":
    main()
