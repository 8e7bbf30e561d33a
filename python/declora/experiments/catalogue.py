"""Finds experiments by name, and the values that the paper prints for their rows."""

from dataclasses import dataclass

from declora.experiments.experiment import Experiment
from declora.experiments.own_tables import LEARNING_RATE, LOCAL_STEPS, MESSAGES, METHODS, TOPOLOGIES
from declora.experiments.paper_tables import LABEL_SKEW, TABLE1, TABLE2, TABLE4
from declora.kinds import Choice

__all__ = ["EXPERIMENTS", "PRINTED", "TAGS", "Printed", "find_experiment"]

EXPERIMENTS: dict[str, Experiment] = {
    experiment.name: experiment
    for experiment in (TABLE1, TABLE2, TABLE4, LABEL_SKEW, MESSAGES, LOCAL_STEPS, TOPOLOGIES, METHODS, LEARNING_RATE)
}

TAGS = {"N": "as a secondary source reports the paper; the paper's own table was not read"}
"""What is known of how a printed value came here."""


@dataclass(frozen=True)
class Printed:
    """Holds a value of arXiv 2501.15361: best over rounds of the averaged model, RoBERTa-base, in percent."""

    value: float
    tag: str = "N"

    def __str__(self) -> str:
        """Shows it as tables do."""
        return f"{self.value:.2f} % [{self.tag}]"


PRINTED: dict[tuple[str, str, str], Printed] = {
    ("table1", "sst2", "ring, K=1, T=20"): Printed(93.81),
    ("table1", "sst2", "ring, K=5, T=10"): Printed(94.61),
    ("table2", "mrpc", "ring of 10, r=2"): Printed(89.31),
    ("table2", "mrpc", "ring of 10, r=4"): Printed(89.20),
    ("table2", "mrpc", "ring of 10, r=8"): Printed(89.16),
    ("table4", "qnli", "full precision"): Printed(90.79),
    ("table4", "qnli", "4-bit base"): Printed(90.84),
    ("table4", "sst2", "full precision"): Printed(93.92),
    ("table4", "sst2", "4-bit base"): Printed(93.92),
}
"""By experiment, task and row; every other value of the paper is unknown here."""


def find_experiment(experiment: str | Experiment) -> Experiment:
    """Returns the experiment of that name, or the one that was given.

    Raises:
        ConfigError: There is none.
    """
    if isinstance(experiment, Experiment):
        return experiment
    return EXPERIMENTS[Choice(EXPERIMENTS).check("experiment", experiment)]
