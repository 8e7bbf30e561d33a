"""How much of their samples messages tell, at least: a lower bound on epsilon beside the accountants' upper ones.

`python benches/privacy_audit.py` trains all-MiniLM-L6-v2 on some sentences of SST-2 by `dp`, with canaries among the
samples of each client, each of which is there or not by the toss of a coin; then it guesses which were, from the
adapters that neighbours see (Steinke, Nasr and Jagielski 2023, arXiv 2305.08846: one run for all canaries). Of what is
private, few guesses can be right, so those that are bound epsilon from below, with the stated confidence. A bound above
the accountant's would be a fault of the method, or bad luck that the confidence allows for; one far below it says only
that these guesses find no more.

A canary is an example whose gradient is one large number in a column of its own, which goes through the method's clip
and is drawn at each step as samples are. Whoever guesses knows these columns, the learning rate and all messages, so
how far each round of a client's steps moved that column. With so little noise that there is no privacy
(`--sigma 0.02`), nearly all guesses should be right: then the audit itself works.
"""

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from datasets import Dataset, DatasetDict
from numpy.typing import NDArray
from scipy.stats import binom

from declora.config import SimulationConfig
from declora.errors import ConfigError
from declora.federation import Federation
from declora.methods import Step
from declora.methods.accountant import ACCOUNTANTS, epsilon_of
from declora.methods.dp import DifferentialPrivacy
from declora.plan import Plan
from declora.prepare import prepare
from declora.run import Run
from declora.state import State
from publish import machine, publish

SST2 = Path(__file__).parents[2] / "shared" / "data" / "sst2"
GUESSED = (0.02, 0.05, 0.1, 0.25, 1.0)
"""Shares of the canaries for which a guess is made; the bound of each has its part of the confidence."""
COLUMNS = ("sigma", "epsilon, pld", "epsilon, rdp", "epsilon, at least", "guesses", "right")


def p_value(*, canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Returns at most how likely so many guesses are right where (epsilon, delta) holds (Theorem 5.2 there).

    With delta = 0, each is right with a chance of at most e^epsilon / (1 + e^epsilon), whatever the others are.
    """
    chance = 1 / (1 + math.exp(-epsilon))
    lucky = float(binom.sf(right - 1, guesses, chance))
    # How likely it is that only i more would have been needed, by i.
    nearly = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, chance))
    worst = float(np.max(nearly / np.arange(1, right + 1), initial=0.0))
    return min(1.0, lucky + 2 * canaries * delta * worst)


def least_epsilon(*, canaries: int, guesses: int, right: int, delta: float, confidence: float) -> float:
    """Returns the largest epsilon that so many right guesses rule out, 0 where they rule out none."""

    def ruled_out(epsilon: float) -> bool:
        found = p_value(canaries=canaries, guesses=guesses, right=right, epsilon=epsilon, delta=delta)
        return found < 1 - confidence

    low, high = 0.0, 1.0
    if not ruled_out(low):
        return low
    while ruled_out(high):
        low, high = high, 2 * high
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if ruled_out(middle) else (low, middle)
    return low


def best_bound(
    scores: NDArray[np.float64], inside: NDArray[np.bool_], *, delta: float, confidence: float
) -> tuple[float, int, int]:
    """Returns the largest of the bounds for each share of `GUESSED`, its guesses, and how many of them are right.

    Those with the highest scores are guessed to be there, those with the lowest not to be, the others not guessed. All
    bounds hold at once with `confidence` (Bonferroni), so the largest does.

    Raises:
        ConfigError: There are fewer than two canaries, so that one would be guessed both ways.
    """
    if len(scores) < 2:
        raise ConfigError(f"canaries={len(scores)} in all cannot bound epsilon. Use 2 or more, e.g. --canaries 250.")
    each = 1 - (1 - confidence) / len(GUESSED)
    order, found = np.argsort(scores, kind="stable"), []
    for share in GUESSED:
        half = max(1, int(share * len(scores) / 2))
        right = int((~inside[order[:half]]).sum() + inside[order[-half:]].sum())
        bound = least_epsilon(canaries=len(scores), guesses=2 * half, right=right, delta=delta, confidence=each)
        found.append((bound, 2 * half, right))
    return max(found)


class Canaried(DifferentialPrivacy):
    """The method with canaries among each client's samples, and what messages tell of them.

    Args:
        canaries: Of each client.
        seed: Of which are there and when they are drawn.
        **options: Of the method.
    """

    def __init__(self, canaries: int, *, seed: int, **options: Any) -> None:
        super().__init__(**options)
        self._canaries, self._draws = canaries, np.random.default_rng(seed)

    def spent_by(self, accountant: str, steps: NDArray[np.int64]) -> float:
        """Returns the epsilon of the client that spent most in so many `steps [clients]`."""
        return max(
            epsilon_of(rate=rate, sigma=sigma, steps=count, delta=self.delta, accountant=accountant)
            for rate, sigma, count in self._accounts(steps)
        )

    def calibrate(self, federation: Federation, steps: NDArray[np.int64]) -> Federation:
        calibrated = super().calibrate(federation, steps)
        self._sizes = self._rates * federation.samples
        return calibrated

    def extra(self, state: State, layout: Any) -> Any:
        clients, columns = state.adapter.shape
        places = [self._draws.choice(columns, self._canaries, replace=False) for _ in range(clients)]
        self._places = torch.from_numpy(np.array(places))
        self.inside = self._draws.random(self._places.shape) < 0.5
        self.scores = np.zeros(self._places.shape)
        return super().extra(state, layout)

    def before_round(self, state: State, plan: Plan) -> None:
        super().before_round(state, plan)
        self._before = self._seen(state)

    def gradient(self, compute: Any, state: State, step: Step) -> torch.Tensor:
        def with_canaries() -> torch.Tensor:
            losses: torch.Tensor = compute()
            drawn = self.inside & (self._draws.random(self.inside.shape) < self._rates[:, None])
            for client, size in enumerate(self._sizes):
                own = self._places[client, np.flatnonzero(drawn[client])]
                examples = torch.zeros(len(own), step.gradients.shape[1])
                examples[torch.arange(len(own)), own] = 1e3 * self.clip
                self.per_example(examples)
                step.gradients[client].add_(examples.sum(dim=0), alpha=1 / size)
            return losses

        return super().gradient(with_canaries, state, step)

    def after_step(self, state: State, step: Step) -> None:
        super().after_step(state, step)
        if step.last:
            self.scores += (self._before - self._seen(state)).double().numpy()

    def _seen(self, state: State) -> torch.Tensor:
        return state.adapter.cpu().gather(1, self._places)


def audited(sentences: Dataset, options: argparse.Namespace, sigma: float) -> list[str]:
    """Trains once and returns a line of the table."""
    part = Canaried(options.canaries, seed=options.seed, sigma=sigma)
    config = SimulationConfig(
        model=options.model, method=part, data=DatasetDict(train=sentences, validation=sentences.select(range(8))),
        clients=options.clients, rounds=options.rounds, local_steps=options.local_steps, batch_size=options.batch_size,
        max_length=32, optimizer="sgd", momentum=0.0, weight_decay=0.0, learning_rate=1e-2, schedule="constant",
        warmup=0.0, codec="none", client_eval_samples=0, eval_every=options.rounds, seed=options.seed,
    )  # fmt: skip
    run = Run(config, prepare(config))
    run.execute(
        lambda record: print(f"sigma={sigma:g}: round {record['round']}", end="\r", file=sys.stderr, flush=True)
    )
    spent = [part.spent_by(name, config.rounds * run.local_steps) for name in ACCOUNTANTS]
    bound, guesses, right = best_bound(
        part.scores.ravel(), part.inside.ravel(), delta=part.delta, confidence=options.confidence
    )
    return [f"{sigma:g}", *(f"{epsilon:.3f}" for epsilon in spent), f"{bound:.3f}", f"{guesses:,}", f"{right:,}"]


def main(arguments: list[str] | None = None) -> None:
    """Prints the table and keeps it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sigma", type=float, nargs="+", default=[0.02, 0.5, 1.0, 2.0], help="noise of each line")
    parser.add_argument("--canaries", type=int, default=250, help="of each client")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--samples", type=int, default=32, help="sentences of each client")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--local-steps", type=int, default=5)
    parser.add_argument("--confidence", type=float, default=0.95)
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    count = options.clients * options.samples
    table = pd.read_csv(SST2 / "train.tsv.gz", sep="\t").sample(count, random_state=options.seed)
    sentences = Dataset.from_pandas(table, preserve_index=False)
    facts = {
        **machine(),
        "command": " ".join(["privacy_audit.py", *(sys.argv[1:] if arguments is None else arguments)]),
    }
    lines = [audited(sentences, options, sigma) for sigma in options.sigma]
    publish("privacy-audit", f"What messages tell at least, {options.confidence:.0%} sure", facts, COLUMNS, lines)


if __name__ == "__main__":
    main()
