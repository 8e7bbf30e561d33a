"""Evaluation speed: one adapter scored by declora and by PEFT, the same texts in turns; prints a table and keeps it.

Run `python benches/evaluation.py` on an idle machine. The texts are the 872 of SST-2's validation split, the model
all-MiniLM-L6-v2 in float32 with rank 8 on query and value and a trained head. PEFT gets batches of 64, padded to
their longest text: as the texts come, and sorted by length. The first turn is not counted, and losses must agree.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model, set_peft_model_state_dict

from declora.prepare import Material, prepare
from declora.run import Run
from declora.train.evaluate import evaluate
from declora.train.tokens import Tokens
from publish import machine, publish
from simulate import SST2, THREADS, settings

BATCH = 64


def of_declora(material: Material, data: str, *, unpad: bool) -> tuple[Callable[[], float], Run, torch.Tensor]:
    """Returns what evaluates an adapter on a copy of the base, for its mean loss; whose run it is; and the adapter."""
    base = replace(material.base, model=copy.deepcopy(material.base.model))
    run = Run(settings(data, 4, 1, unpad=unpad), replace(material, base=base))
    row = run.bank.P[0] + 0.02 * torch.randn(run.bank.layout.columns, generator=torch.Generator().manual_seed(0))
    tokens = material.evaluation
    texts = np.arange(len(tokens))

    def loss() -> float:
        with run.installed():
            return evaluate(base.model, run.bank, row[None], tokens, texts, run.metric, run.sharing)[0].loss

    return loss, run, row


def of_peft(model: torch.nn.Module, tokens: Tokens, *, sort: bool) -> Callable[[], float]:
    """Returns what evaluates the adapter that is in `model`."""
    order = np.argsort(-tokens.lengths, kind="stable") if sort else np.arange(len(tokens))

    def loss() -> float:
        total = 0.0
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                batch = tokens.batch(order[start : start + BATCH], torch.device("cpu"))
                total += float(model(**batch.inputs, labels=batch.labels).loss) * len(batch.labels)
        return total / len(order)

    return loss


def main() -> None:
    """Measures, prints and writes a page of results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=7, help="counted turns of each candidate")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(THREADS)
    data = str(SST2) if SST2.is_dir() else "stdlib-docstrings"
    material = prepare(settings(data, 4, 1))
    tokens = material.evaluation
    facts = {**machine(), "data": Path(data).name, "texts": str(len(tokens)), "turns counted": str(options.turns)}
    ours, run, row = of_declora(material, data, unpad=True)
    padded, _, _ = of_declora(material, data, unpad=False)
    lora = LoraConfig(task_type="SEQ_CLS", lora_alpha=run.config.lora["r"], **run.config.lora)
    peft = get_peft_model(copy.deepcopy(material.base.model), lora).eval()
    set_peft_model_state_dict(peft, run.bank.layout.unflatten(row))
    candidates = {
        "declora": ours,
        "declora, unpad=false": padded,
        "PEFT, sorted by length": of_peft(peft, tokens, sort=True),
        "PEFT, as they come": of_peft(peft, tokens, sort=False),
    }
    seconds: dict[str, list[float]] = {label: [] for label in candidates}
    losses = {}
    for _ in range(options.turns + 1):
        for label, candidate in candidates.items():
            start = time.perf_counter()
            losses[label] = candidate()
            seconds[label].append(time.perf_counter() - start)
    table = []
    for label, taken in seconds.items():
        apart = abs(losses[label] - losses["declora"])
        if apart > 1e-5:
            raise SystemExit(f"not the same work: losses are {losses}")
        ratio = statistics.median(other / own for other, own in zip(taken[1:], seconds["declora"][1:], strict=True))
        median = statistics.median(taken[1:])
        table.append((label, f"{median:.2f}", f"{len(tokens) / median:.0f}", f"{ratio:.2f}", f"{apart:.1e}"))
    columns = ["by", "s, median", "texts/s", "declora is faster by", "losses differ by"]
    publish("evaluation", "Evaluation speed", facts, columns, table)


if __name__ == "__main__":
    main()
