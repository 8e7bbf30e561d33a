"""Holds the tables of the Dec-LoRA paper and ours as data; runs them, resumes them and writes them down."""

from typing import TYPE_CHECKING

from declora.lazily import exports

if TYPE_CHECKING:
    from declora.experiments.budget import RoundPlan, plan_rounds
    from declora.experiments.catalogue import EXPERIMENTS, PRINTED, Printed
    from declora.experiments.comparison import MethodComparison, compare
    from declora.experiments.experiment import Cell, Experiment
    from declora.experiments.reproduction import Reproduction, reproduce
    from declora.experiments.scale import SCALES, Scale

__all__ = [
    "EXPERIMENTS",
    "PRINTED",
    "SCALES",
    "Cell",
    "Experiment",
    "MethodComparison",
    "Printed",
    "Reproduction",
    "RoundPlan",
    "Scale",
    "compare",
    "plan_rounds",
    "reproduce",
]

__getattr__ = exports(
    __name__,
    {
        "Cell": "experiment",
        "EXPERIMENTS": "catalogue",
        "Experiment": "experiment",
        "MethodComparison": "comparison",
        "PRINTED": "catalogue",
        "Printed": "catalogue",
        "Reproduction": "reproduction",
        "RoundPlan": "budget",
        "SCALES": "scale",
        "Scale": "scale",
        "compare": "comparison",
        "plan_rounds": "budget",
        "reproduce": "reproduction",
    },
)
