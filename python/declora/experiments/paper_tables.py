"""Holds the experiments of the Dec-LoRA paper (arXiv 2501.15361, ACL 2025.realm-1.24), as rows of settings."""

from declora.experiments.experiment import Cell, Experiment, Grid
from declora.experiments.scale import Work

__all__ = ["LABEL_SKEW", "TABLE1", "TABLE2", "TABLE4"]

RING = {"topology": "ring"}
ERDOS_RENYI = {"topology": "erdos-renyi:0.5", "weights": "laplacian"}
# Rows: clients; columns: classes. Three clients, as in the paper.
PROPORTIONS = {
    2: "labels:[[.15,.85],[.85,.15],[.5,.5]]",
    3: "labels:[[.9,.05,.05],[.05,.9,.05],[.05,.05,.9]]",
}
# Of all ranks in Table 2; elsewhere alpha is the rank. With alpha = r, a step of AdamW would move the output an eighth
# as far at a rank of 2 as at 16.
ALPHA = 16


def work(k_and_t: Work) -> tuple[str, dict[str, int]]:
    """Returns K and T as a label and as settings."""
    k, t = k_and_t
    return f"K={k}, T={t}", {"local_steps": k, "rounds": t}


def _table1(grid: Grid) -> list[Cell]:
    (clients,) = grid.clients
    cells = []
    for k_and_t in grid.scale.work_of(grid.task):
        label, settings = work(k_and_t)
        base = {"clients": clients, "lora": {"r": 16}, **settings}
        pooled = f"centralized, {label}"
        cells += [
            Cell(f"ring, {label}", {**base, **RING}, pooled),
            Cell(f"Erdős–Rényi, {label}", {**base, **ERDOS_RENYI}, pooled),
            Cell(pooled, {**base, "method": "centralized"}),
        ]
        if grid.task not in grid.scale.work_by_task:
            cells.append(Cell(f"local, {label}", {**base, "method": "local"}, pooled))
    return cells


def _table2(grid: Grid) -> list[Cell]:
    cells = []
    _, settings = work(grid.scale.long)
    for rank in (2, 4, 8):
        base = {"lora": {"r": rank, "lora_alpha": ALPHA}, **settings}
        pooled = f"centralized, r={rank}"
        cells.append(Cell(pooled, {**base, "clients": grid.clients[0], "method": "centralized"}))
        for clients in grid.clients:
            cells.append(Cell(f"ring of {clients}, r={rank}", {**base, "clients": clients, **RING}, pooled))
    return cells


def _table4(grid: Grid) -> list[Cell]:
    (clients,) = grid.clients
    base = {"clients": clients, "lora": {"r": 16}, **RING, **work(grid.work)[1]}
    return [
        Cell("full precision", base),
        Cell("4-bit base", {**base, "load_in_4bit": True}, "full precision"),
    ]


def _label_skew(grid: Grid) -> list[Cell]:
    (clients,) = grid.clients
    base = {"clients": clients, "lora": {"r": 16}, **RING, **work(grid.scale.skewed)[1]}
    skew = {**base, "partition": PROPORTIONS[grid.classes]}
    return [
        Cell("iid", base),
        Cell("label skew", skew, "iid"),
        Cell("label skew, local", {**skew, "method": "local"}, "iid"),
        Cell("centralized", {**base, "method": "centralized"}, "iid"),
    ]


TABLE1 = Experiment(
    "table1",
    "Ring and Erdős–Rényi graphs at rank 16",
    "Does gossip reach what training on the pooled data reaches, with as much work, and is a denser graph better?",
    _table1,
    choices=(("references", "centralized with the same total work, and local training; the paper has neither here"),),
)
TABLE2 = Experiment(
    "table2",
    "Ranks 2, 4 and 8 with 10 and 20 clients",
    "What do the rank and the number of clients cost, against centralized LoRA?",
    _table2,
    clients=(10, 20),
    most_counts=4,
    tasks={"small": ("sst2",)},
    choices=(
        ("K of Table 2", "K=1"),
        ("work", "as many steps in every row: 20 clients see twice the samples of 10, and of the centralized rows"),
    ),
)
TABLE4 = Experiment(
    "table4",
    "A frozen base of full precision and of 4 bits",
    "Does a base that is held in 4 bits (QLoRA's arrangement) cost quality?",
    _table4,
    tasks={"small": ("sst2", "ag_news"), "paper": ("qnli", "sst2")},
    choices=(
        ("what is 4-bit", "the frozen base alone (NF4); adapters and messages are float32"),
        ("rank and K of Table 4", "r=16, K=5, T=10"),
    ),
)
LABEL_SKEW = Experiment(
    "label-skew",
    "Three clients whose labels differ",
    "What does gossip lose when every client has mostly one label, and what would a client have alone?",
    _label_skew,
    clients=(3,),
    most_counts=0,
    tasks={"small": ("sst2",)},
    classes=tuple(PROPORTIONS),
    choices=(
        ("graph of three clients", "the ring, which is complete: weights 1/3"),
        ("rank, K and T with label skew", "r=16, K=5; T as many rounds as Table 1, twice as many at the small scale"),
        ("proportions with three classes", ".9, .05, .05 and its rotations; remembered, not read in a source"),
    ),
)
