"""Says what the paper leaves open, and what is done here, read off the settings that ran."""

from collections.abc import Callable

from declora.config import SimulationConfig
from declora.experiments.plan import Plan

__all__ = ["open_choices"]


def open_choices(plan: Plan) -> list[tuple[str, str]]:
    """Returns (what is open, ours) for a plan; no source that we could read states any of them (arXiv 2501.15361)."""
    configs = [job.config for job in plan.jobs if job.config.method == "dec-lora"]
    config = configs[0]
    choices = [
        ("optimizer", f"{_optimizer(config)}; its moments are {_moments(config)}"),
        ("schedule", _by_task(plan, _schedule)),
        ("batch of a client's step", _by_task(plan, lambda config: f"{config.batch_size}")),
        ("gradient clipping", f"norm {config.clip_norm:g}, each client its own" if config.clip_norm else "none"),
        ("alpha", _alpha(config)),
        ("LoRA dropout", "0; the frozen base runs without its own dropout" if not config.base_dropout else "0"),
        ("target modules", "those that PEFT has for the kind of model: query and value of BERT and RoBERTa"),
        ("sequence length", f"{config.max_length} tokens, batches padded to their own longest"),
        ("head", "trained by every client and sent with A and B"),
        ("K", _meaning(plan.k)),
        ("ring", "weights 1/3 to oneself and each neighbour"),
        ("Erdős–Rényi", "each edge with p = 0.5, redrawn until connected, from the run's seed"),
        ("split", f"train divided evenly at random unless the row says otherwise; {_by_task(plan, _evaluation)}"),
        ("seeds", f"{', '.join(map(str, plan.seeds))}; each draws partition, graph, adapters, head and order"),
        ("score", "the paper's is the best over rounds, chosen on the evaluation data itself; last is beside it"),
        *plan.experiment.choices,
    ]
    if any("topology" in c.settings and c.settings.get("weights") for t in plan.tasks for c in plan.cells(t)):
        return choices
    return [choice for choice in choices if choice[0] != "Erdős–Rényi"]


def _by_task(plan: Plan, describe: Callable[[SimulationConfig], str]) -> str:
    """Returns a description of the runs, or each task's own where they differ."""
    found: dict[str, str] = {}
    for job in plan.jobs:
        if job.config.method == "dec-lora":
            found.setdefault(job.task, describe(job.config))
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "; ".join(f"{task}: {described}" for task, described in found.items())


def _optimizer(config: SimulationConfig) -> str:
    decay = f"weight decay {config.weight_decay:g}"
    return f"AdamW, {decay}" if config.optimizer == "adamw" else f"SGD, momentum {config.momentum:g}, {decay}"


def _moments(config: SimulationConfig) -> str:
    return "forgotten at every round" if config.reset_moments else "kept from round to round, and not sent"


def _schedule(config: SimulationConfig) -> str:
    rise = f", after a rise over {config.warmup:.0%} of the steps" if config.warmup else ""
    shapes = {"linear": "linear decay to 0", "cosine": "cosine decay to 0", "constant": "constant"}
    return f"{shapes.get(config.schedule, config.schedule)}{rise}; peak {config.learning_rate:g}"


def _alpha(config: SimulationConfig) -> str:
    alpha = config.lora.get("lora_alpha")
    if alpha is None:
        return "the rank, so that the scale is 1"
    return f"{alpha} whatever the rank, as LoRA's authors have it (arXiv 2106.09685, section 4.1)"


def _meaning(k: str) -> str:
    """Returns the reading of K; that of a third party's rebuild is its own account of it, not checked here."""
    if k == "epochs":
        return "passes of each client over its own data (1 epoch of SST-2 with 10 clients is 211 steps of 32)"
    return "optimizer steps on one batch each; k='epochs' reads it as passes over a client's own data"


def _evaluation(config: SimulationConfig) -> str:
    rows = "all of it" if config.eval_samples is None else f"{config.eval_samples:,} of it, drawn by the seed"
    return f"evaluation on the public split, {rows}"
