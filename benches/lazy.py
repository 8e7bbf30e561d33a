"""How often lazy clients are found, and honest ones suspected: recall and false positives over noise, data and codecs.

    python benches/lazy.py [--rounds T] [--seeds N]

Prints a table of 30 rows: two ways to divide the data, three codecs and five noises. Each is of N runs (seeds 0 to
N - 1; 60 runs in all by default) of 10 clients, 2 of them lazy, of a tiny BERT on texts of its own, over T rounds of 5
steps: of the messages of lazy clients from the second round on, how many an honest client suspects, and the same of the
honest ones'. The last column is what the noise is beside what a client moves in a round, both per number.
"""

import argparse
import os
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import datasets
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

import declora
from declora.detection import CopyDetector
from tiny import tiny_bert, tiny_texts, tiny_tokenizer

LAZY = (2, 7)
SHARES = ("iid", "dirichlet:0.1")
CODECS = ("none", "q4", "q4+choco")
NOISES = (0.0, 0.0003, 0.001, 0.003, 0.01)


def watch(moved: list[float]) -> None:
    """Has every detector also keep how far the honest move in a round, per number."""
    suspected = CopyDetector.suspected

    def watched(
        detector: CopyDetector, weights: sp.csr_array, public: NDArray[np.float32], room: dict[str, Any], **judges: Any
    ) -> NDArray[np.int64]:
        before = room.get("sent")
        if before is not None:
            honest = np.setdiff1d(np.arange(len(before)), LAZY)
            moved.append(float(np.sqrt(np.mean((public[honest] - before[honest]) ** 2))))
        return suspected(detector, weights, public, room, **judges)

    CopyDetector.suspected = watched  # type: ignore[method-assign]


def main() -> None:
    """Prints a row for each run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20, help="rounds of each run")
    parser.add_argument("--seeds", type=int, default=2, help="runs of each row")
    options = parser.parse_args()
    rounds = options.rounds
    warnings.simplefilter("ignore")
    watch(moved := [])
    model, tokenizer = tiny_bert(), tiny_tokenizer()
    data = datasets.DatasetDict(train=tiny_texts(480), validation=tiny_texts(8, seed=1))
    print("| data | codec | noise | recall | false positives | noise / movement |\n|---|---|---|---|---|---|")
    for share in SHARES:
        for codec in CODECS:
            for noise in NOISES:
                moved.clear()
                runs = [
                    declora.simulate(
                        model=model, tokenizer=tokenizer, data=data, clients=10, rounds=rounds, local_steps=5,
                        partition=share, codec=codec, attack=f"lazy:noise={noise}", attackers=LAZY, detect="lazy",
                        lora={"r": 2, "target_modules": ["query", "value"]}, client_eval_samples=0, eval_every=rounds,
                        progress=False, seed=seed,
                    ).clients
                    for seed in range(options.seeds)
                ]  # fmt: skip
                seen = pd.concat(runs)
                seen = seen[seen["round"] > 1]
                lazy = seen["client"].isin(LAZY)
                found = seen["suspected_by"] > 0
                ratio = noise / np.mean(moved)
                print(
                    f"| {share} | {codec} | {noise:g} | {found[lazy].mean():.3f} | {found[~lazy].mean():.4f} "
                    f"({found[~lazy].sum()} of {(~lazy).sum()}) | {ratio:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
