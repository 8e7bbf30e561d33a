"""Methods with the learning rate of each, on three tasks: four divisions of the data, and pooled data beside.

What benches/results.py runs by name.

Each page is a comparison by `declora.compare`, which keeps what has finished: interrupted, it goes on when called
again. Sizes are for two cores: all-MiniLM-L6-v2, five clients on a ring (label skew: as many as it has rows), 20 rounds
of 5 steps of 4 texts, one seed, three rates. MRPC, and SST-2 where labels are rare at a client, learn later and have 40
rounds; what takes twice as long has fewer methods, and of MRPC, whose pairs are long, two rates and fewer evaluations.
Pages held against pooled data have three seeds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import declora
from declora.experiments import MethodComparison

_BASE: dict[str, Any] = {
    "model": "minilm", "clients": 5, "topology": "ring", "codec": "none", "lora": {"r": 16}, "rounds": 20,
    "local_steps": 5, "batch_size": 4, "eval_every": 10, "eval_samples": 2000, "client_eval_samples": 200,
}  # fmt: skip
_SKEW = {
    "binary": {"clients": 3, "partition": "labels:[[.15,.85],[.85,.15],[.5,.5]]"},  # the paper's
    "four": {"clients": 4, "partition": "labels:[[.7,.1,.1,.1],[.1,.7,.1,.1],[.1,.1,.7,.1],[.1,.1,.1,.7]]"},
}
_MIXED = {"ranks": [4, 8, 16, 24, 28]}
_METHODS = (
    "dec-lora", "tad-lora:interval=5", "decaf", "lora-fair", "fedrot", "hafl", "gradient-tracking", "dfed-salt",
    "fedavg",
)  # fmt: skip
_FEWER = ("dec-lora", "decaf", "fedrot", "gradient-tracking", "dfed-salt", "fedavg")
_FEWEST = ("dec-lora", "fedrot", "gradient-tracking", "fedavg")
_OF_RANKS = ("dec-lora", "decaf", "hetlora", "hafl")
# What pooling the data would reach, a server, and the methods that came closest on one seed: the differences between
# seeds are as large as what is asked for, so these have three, and SST-2's rounds last until most has been learnt.
_TO_POOLED = ("centralized", "fedavg", "dec-lora", "fedrot", "lora-fair", "gradient-tracking")
_OF_SEEDS: dict[str, Any] = {"seeds": 3, "rates": [3e-3, 6e-3, 1.2e-2]}
_ROUNDS = {"sst2": 40, "mrpc": 40, "ag_news": 20}
"""Until most has been learnt, where clients are alike."""
_DIVISIONS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "iid": ({}, _METHODS),
    # As in the page `methods`: counted alike, most of what is averaged would be of one label.
    "dirichlet": ({"partition": "dirichlet:0.1", "weights": "samples"}, _FEWER),
    "skew": ({}, _METHODS),
    "ranks": (_MIXED, _OF_RANKS),
    "pooled": (_OF_SEEDS, _TO_POOLED),
}
TASKS = {"sst2": "binary", "mrpc": "binary", "ag_news": "four"}
TUNED = tuple(f"tuned-{task}-{division}" for task in TASKS for division in _DIVISIONS)
"""Names of the pages."""


def tuned(page: str, data: str | Path, out: str | Path, **smaller: Any) -> MethodComparison:
    """Runs what is missing of a page, and returns the comparison.

    Args:
        page: One of `TUNED`.
        data: Has a folder for each task.
        out: Folder of the page's runs.
        **smaller: Other arguments and settings of `declora.compare`.
    """
    _, task, division = page.split("-")
    settings, methods = _DIVISIONS[division]
    if division == "skew":
        settings = _SKEW[TASKS[task]]
    if division == "pooled":
        settings = {**settings, "eval_every": _ROUNDS[task]}
    if division in ("pooled", "dirichlet") or task == "mrpc":
        settings = {**settings, "rounds": _ROUNDS[task]}
    if task == "mrpc" and division != "pooled":
        methods = {"ranks": _OF_RANKS, "dirichlet": _FEWEST}.get(division, _FEWER)
        settings = {**settings, "rates": [2e-3, 5e-3], "eval_every": _ROUNDS[task], "client_eval_samples": 50}
    rows: Mapping[str, Mapping[str, Any]] = {name: {"method": name} for name in smaller.pop("methods", methods)}
    usual = {"seeds": 1, "rates": [2e-3, 5e-3, 1e-2], "data": f"{task}={Path(data) / task}"}
    return declora.compare(rows, out=Path(out) / page, **{**_BASE, **usual, **settings, **smaller})
