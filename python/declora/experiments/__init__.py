"""Holds the tables of the Dec-LoRA paper and ours as data; runs them, resumes them and writes them down."""

from declora.experiments.budget import RoundPlan, plan_rounds
from declora.experiments.catalogue import EXPERIMENTS, PRINTED, Printed
from declora.experiments.comparison import MethodComparison, compare
from declora.experiments.experiment import Cell, Experiment
from declora.experiments.overview import overview
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
    "overview",
    "plan_rounds",
    "reproduce",
]
