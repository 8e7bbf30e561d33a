"""Holds experiments beyond the paper's: what messages, local steps and graphs cost, and which learning rate to take."""

import itertools
from typing import Any

from declora.experiments.experiment import Cell, Experiment, Grid
from declora.experiments.paper_tables import ERDOS_RENYI, RING, work

__all__ = ["LEARNING_RATE", "LOCAL_STEPS", "MESSAGES", "METHODS", "TOPOLOGIES"]

# q2 is too coarse for its memory to mix fast by default; 0.4 is about as much as it bears (benches/gamma.py).
_MESSAGES: dict[str, dict[str, Any]] = {
    "q8": {"codec": "q8"},
    "q4": {"codec": "q4"},
    "eden:bits=2+choco": {"codec": "eden:bits=2+choco"},
    "q2+choco": {"codec": "q2+choco"},
    "q2+choco, gamma=0.4": {"codec": "q2+choco", "gamma": 0.4},
    "topk:fraction=0.1+choco": {"codec": "topk:fraction=0.1+choco"},
}
# Both factors of a client of rank r are as many numbers as r says, so a mixture with this mean is as large as rank 16.
_MIXED_RANKS = (4, 8, 16, 24, 28)
_PARTITIONS: dict[str, dict[str, Any]] = {
    "iid": {"partition": "iid"},
    # Clients have from dozens to tens of thousands of texts: counted alike, most of what is averaged is of one label.
    "dirichlet:0.1": {"partition": "dirichlet:0.1", "weights": "samples"},
}
_METHODS: dict[str, dict[str, Any]] = {
    "dec-lora": {},
    "ffa-lora": {"method": "ffa-lora"},
    "tad-lora:interval=5": {"method": "tad-lora:interval=5"},
    "gradient-tracking": {"method": "gradient-tracking"},
    "decaf": {"method": "decaf"},
}
_GRAPHS = {
    "path": {"topology": "path"},
    "ring": RING,
    "Erdős–Rényi": ERDOS_RENYI,
    "exponential": {"topology": "exponential"},
    "one-peer exponential": {"topology": "one-peer-exponential"},
    "complete": {"topology": "complete"},
}


def _messages(grid: Grid) -> list[Cell]:
    (clients,) = grid.clients
    base = {"clients": clients, "lora": {"r": 16}, **RING, **work(grid.work)[1]}
    return [Cell("float32", base), *(Cell(name, {**base, **own}, "float32") for name, own in _MESSAGES.items())]


def _local_steps(grid: Grid) -> list[Cell]:
    (clients,) = grid.clients
    k, t = grid.work
    base = {"clients": clients, "lora": {"r": 16}}
    label, settings = work((k, t))
    pooled = Cell(f"centralized, {label}", {**base, **settings, "method": "centralized"})
    cells = []
    for steps in sorted({k, *(d for d in (1, 25) if k * t % d == 0)}):
        label, settings = work((steps, k * t // steps))
        cells.append(Cell(label, {**base, **RING, **settings}, pooled.label))
    return [*cells, pooled]


def _topologies(grid: Grid) -> list[Cell]:
    (clients,) = grid.clients
    base = {"clients": clients, "lora": {"r": 16}, **work(grid.work)[1]}
    return [Cell(name, {**base, **graph}, "complete" if name != "complete" else "") for name, graph in _GRAPHS.items()]


def _methods(grid: Grid) -> list[Cell]:
    (clients,) = grid.clients
    base = {"clients": clients, "lora": {"r": 16}, "codec": "none", **RING, **work(grid.scale.skewed)[1]}
    ranks = list(itertools.islice(itertools.cycle(_MIXED_RANKS), clients))
    methods = {**_METHODS, "decaf, ranks 4 to 28": {"method": "decaf", "ranks": ranks}}
    return [
        Cell(
            f"{name}, {partition}",
            {**base, **method, **division},
            "" if name == "dec-lora" else f"dec-lora, {partition}",
        )
        for partition, division in _PARTITIONS.items()
        for name, method in methods.items()
    ]


def _learning_rate(grid: Grid) -> list[Cell]:
    (clients,) = grid.clients
    base = {"clients": clients, "lora": {"r": 16}, **work(grid.work)[1]}
    methods = {"ring": RING, "centralized": {"method": "centralized"}}
    return [
        Cell(f"{name}, {rate:g}", {**base, **settings, "learning_rate": rate})
        for rate in grid.scale.rates
        for name, settings in methods.items()
    ]


MESSAGES = Experiment(
    "messages",
    "Messages of fewer bytes",
    "What do quantized and sparse messages cost, with the bytes of real frames?",
    _messages,
    tasks={"small": ("sst2",), "paper": ("sst2",)},
)
LOCAL_STEPS = Experiment(
    "local-steps",
    "Few rounds of many steps, or many of few",
    "With as many local steps in all, how often must clients talk, and when is that as good as pooled data?",
    _local_steps,
    tasks={"small": ("sst2",), "paper": ("sst2",)},
)
TOPOLOGIES = Experiment(
    "topologies",
    "Six graphs",
    "What does a sparse graph cost, and what does a dense one send?",
    _topologies,
    tasks={"small": ("sst2",), "paper": ("sst2",)},
)
METHODS = Experiment(
    "methods",
    "Methods on one ring, on like and unlike data",
    "What do methods that train, send or combine something else gain or lose against Dec-LoRA, with the bytes of each?",
    _methods,
    clients=(5,),
    tasks={"small": ("sst2", "ag_news"), "paper": ("sst2",)},
    choices=(
        ("learning rate of a method", "that of Dec-LoRA for all, which was chosen for it"),
        ("what a client counts with dirichlet:0.1", "its samples, by the weights of the graph (weights='samples')"),
    ),
)
LEARNING_RATE = Experiment(
    "learning-rate",
    "Learning rates, to be chosen on training data",
    "Which learning rate suits gossip, and which the pooled data? Give a training file: a tenth of it is held out.",
    _learning_rate,
    tasks={"paper": ("sst2",)},
)
