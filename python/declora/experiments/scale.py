"""Says how large an experiment is run, from a laptop without a network to the paper's own sizes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from declora.kinds import Choice

__all__ = ["SCALES", "Scale", "find_scale"]

Work = tuple[int, int]
"""Local work of a round and rounds, (K, T)."""


@dataclass(frozen=True)
class Scale:
    """Holds what all experiments of one size have in common.

    Attributes:
        name: What `scale` says.
        model: The base model, unless another is asked for.
        work: The (K, T) that Table 1 goes through; the last is that of experiments with only one.
        work_by_task: The same of tasks that have their own; Table 1 has no local training there.
        long: The (K, T) of long runs (Table 2).
        skewed: The (K, T) of clients whose labels differ.
        tasks: The tasks of an experiment that names none.
        rates: The learning rates to choose from.
        evaluations: How often a run is evaluated, about.
        cuts: What is smaller than in the paper, in words.
        settings: Settings of every run.
        by_task: Further settings of the runs of one task.
        by_experiment: Further settings of the runs of one experiment.
    """

    name: str
    model: str
    work: tuple[Work, ...]
    long: Work
    skewed: Work
    tasks: tuple[str, ...]
    rates: tuple[float, ...]
    evaluations: int
    cuts: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    by_task: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_experiment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    work_by_task: Mapping[str, tuple[Work, ...]] = field(default_factory=dict)

    def work_of(self, task: str) -> tuple[Work, ...]:
        """Returns the (K, T) that Table 1 goes through on a task."""
        return self.work_by_task.get(task, self.work)

    def settings_of(self, experiment: str, task: str) -> dict[str, Any]:
        """Returns the settings of an experiment's runs of a task."""
        return {**self.settings, **self.by_task.get(task, {}), **self.by_experiment.get(experiment, {})}


# arXiv 2501.15361: K, T, learning rate, batch and tasks are printed; declora.experiments.choices names the rest.
_PAPER = Scale(
    "paper",
    "roberta-base",
    work=((1, 20), (5, 10)),
    long=(1, 100),
    skewed=(5, 10),
    tasks=("sst2", "mrpc", "qnli", "qqp", "mnli"),
    rates=(3e-4, 1e-3, 3e-3),
    evaluations=20,
    cuts="paper: the sizes of arXiv 2501.15361",
    settings={"batch_size": 32, "learning_rate": 1e-3, "schedule": "constant", "warmup": 0.0},
)
# docs/results/README.md says how the learning rates were chosen, and what MRPC needs.
_SMALL = Scale(
    "small",
    "minilm",
    work=((1, 20), (5, 10)),
    long=(1, 100),
    skewed=(5, 20),
    tasks=("sst2", "mrpc", "ag_news"),
    rates=(5e-3, 1e-2, 2e-2),
    evaluations=2,
    cuts="small: all-MiniLM-L6-v2 (22 M parameters) for RoBERTa-base (125 M); batches of 8 for 32, but 4 in Table 2, "
    "on MRPC and for methods, and 16 in 20 rounds with label skew, which has three clients; MRPC at K=1, T=200 and AG "
    "News at K=5, T=10 alone, scored on 2,000 of 7,600 texts; methods at K=5, T=20 with five clients, scored on 872",
    settings={"batch_size": 8, "learning_rate": 1e-2, "client_eval_samples": 50},
    by_task={"mrpc": {"learning_rate": 3e-3, "batch_size": 4}, "ag_news": {"eval_samples": 2000}},
    by_experiment={
        "table2": {"batch_size": 4, "learning_rate": 5e-3},
        "label-skew": {"batch_size": 16, "learning_rate": 5e-3},
        "methods": {"batch_size": 4, "learning_rate": 5e-3, "eval_samples": 872},
    },
    work_by_task={"mrpc": ((1, 200),), "ag_news": ((5, 10),)},
)
SCALES: dict[str, Scale] = {scale.name: scale for scale in (_SMALL, _PAPER)}
"""By name."""


def find_scale(scale: str | Scale) -> Scale:
    """Returns the scale of that name.

    Raises:
        ConfigError: There is none.
    """
    return scale if isinstance(scale, Scale) else SCALES[Choice(SCALES).check("scale", scale)]
