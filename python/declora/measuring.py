"""What is measured of a round, and recorded."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from declora import means
from declora.config import SimulationConfig
from declora.faults import Struck
from declora.federation import Federation
from declora.inbox import Inbox
from declora.ledger import client_digests
from declora.methods import Stack
from declora.metrics import Metric
from declora.model import AdapterBank, Layout
from declora.prepare import Material
from declora.state import State
from declora.train.evaluate import Score, Tally, Tallying
from declora.train.evaluator import Evaluator, drawn_texts
from declora.train.local_steps import LocalRound
from declora.train.records import RoundRecord, client_records
from declora.train.sharing import Sharing

__all__ = ["DIGEST", "Appraise", "Measuring", "RoundReport", "evaluator_of"]

Appraise: TypeAlias = Callable[[int, torch.Tensor, Tallying], list[Tally]]
"""Returns what an adapter does on all samples, wherever they are: of a round, from 0; the adapter, float32 `[D]`; and
what says what it does on those here."""
DIGEST = "blake2b-rows"
"""How the digest of a state is made: of those of clients' rows. Before, it was `blake2b`, of whole arrays."""


@dataclass
class RoundReport:
    """What a round was, of some clients."""

    work: LocalRound
    inbox: Inbox
    seconds: dict[str, float]
    """Wall time of each phase but evaluation; of several processes, the longest."""
    scores: dict[int, Score] = field(default_factory=dict)
    """Of each client's own model, where it was evaluated."""
    seconds_evaluate: float = 0.0
    """Wall time of that."""
    state: State | None = None
    """After the round; None where the rows of these clients are not all here."""
    lost: frozenset[int] = frozenset()
    """Clients of whom nothing is known any more."""
    digests: NDArray[np.uint8] | None = None
    """Of the rows of each client after the round, `[clients, 16]`, where a record has the digest of the state."""
    entries: Sequence[Mapping[str, str | None]] | None = None
    """Of each client, what a ledger holds of the round; None where there is none."""


@dataclass(frozen=True)
class Measuring:
    """Makes the records of a run.

    Args:
        federation: Who takes part.
        method: The method.
        layout: The columns of the adapters.
        scalings: Of each factor pair, see `means.product_distance`.
        evaluator: Scores adapters.
        appraise: Scores one on samples that are elsewhere, too.
        timing: Where the clock keeps how far clients are.
        rounds: Of the whole run.
        eval_every: Rounds between evaluations.
        named: Whether a record has the digest of the state.
        ledger: Whether it has digests of what clients sent and have.
    """

    federation: Federation
    method: Stack
    layout: Layout
    scalings: NDArray[np.float64]
    evaluator: Evaluator
    appraise: Appraise
    timing: dict[str, Any]
    rounds: int
    eval_every: int
    named: bool
    ledger: bool

    def due(self, event: int) -> bool:
        """Returns whether an evaluation is due after so many events."""
        return event == self.rounds or event % self.eval_every == 0

    def scores(self, state: State) -> dict[int, Score]:
        """Returns the score of each honest client's own model, of those whose rows are here."""
        ids, honest = state.clients.tolist(), set(self.federation.honest)
        rows = [row for row, client in enumerate(ids) if client in honest]
        return {ids[row]: score for row, score in self.evaluator.clients(rows).items()}

    def complete(self, report: RoundReport, state: State) -> None:
        """Adds to `report` what is to be known of each client in `state`.

        That is the digest of its rows, where the round's record has one of the state; what a ledger holds of it; and
        where an evaluation is due, what its own model scores.
        """
        if self.ledger:
            report.entries = client_digests(report.inbox.digests, state.adapter.cpu().numpy())
        if self.named:
            report.digests = state.row_digests()
        if self.due(state.event):
            start = time.perf_counter()
            report.scores = self.scores(state)
            report.seconds_evaluate = time.perf_counter() - start

    def endpoint(self, state: State, lost: frozenset[int] = frozenset()) -> torch.Tensor:
        """Returns the adapter that is evaluated for all, float32 `[D]`, without clients that were lost."""
        counted = [client for client in self.federation.honest if client not in lost]
        return self.method.endpoint(state, self.layout, counted, self.federation.topology.law)

    def record(self, struck: Struck, report: RoundReport, here: State, before: RoundRecord | None) -> RoundRecord:
        """Returns the record of a round.

        Args:
            struck: The round.
            report: What it was.
            here: The state of the clients here.
            before: The record of the round before.
        """
        plan, work, inbox, state = struck.plan, report.work, report.inbox, report.state
        honest = [client for client in self.federation.honest if client not in report.lost]
        steps = plan.steps
        trained = [client for client in honest if steps[client]]
        record: RoundRecord = {
            "round": plan.event + 1,
            "learning_rate": work.learning_rate,
            **({"train_loss": float(work.losses[trained].mean())} if trained else {}),
            "samples_seen": int(work.samples.sum()),
            "samples_total": int(work.samples.sum()) + (before["samples_total"] if before else 0),
            **({} if state is None else self._of_state(state, honest)),
            "bytes_sent": int(inbox.bytes_sent.sum()),
            "bytes_total": int(inbox.bytes_sent.sum()) + (before["bytes_total"] if before else 0),
            **struck.record,
            **self.federation.timed(self.timing, struck, inbox.bytes_sent),
            **{f"seconds_{phase}": took for phase, took in report.seconds.items()},
            **inbox.counts,
            **({"clients_lost": len(report.lost)} if report.lost else {}),
        }
        if report.digests is not None:
            record["state_digest"] = f"{DIGEST}:{here.digest(report.digests)}"  # no number, whatever its digits
        if state is not None and self.due(plan.event + 1):
            self._evaluate(record, state, honest, report)
        clients = client_records(plan, work, inbox, report.scores, report.entries, self.federation.topology.names)
        record["clients"] = [own for own in clients if own["client"] not in report.lost]
        return record

    def _of_state(self, state: State, honest: Sequence[int]) -> Mapping[str, float]:
        distance = means.consensus_distance(state.adapter, honest)
        return {"consensus_distance": distance, **self.method.measured(state)}

    def _evaluate(self, record: RoundRecord, state: State, honest: Sequence[int], report: RoundReport) -> None:
        """Adds the evaluation of this round to `record`, and how long it took, with that of the clients' own models."""
        start = time.perf_counter()
        # In rounds without an evaluation it would take too large a share of the time, of many clients some percent.
        record["product_distance"] = means.product_distance(state.adapter, honest, self.layout.factors, self.scalings)
        event, average = state.event - 1, self.endpoint(state, report.lost)
        record |= self.evaluator.record(self.appraise(event, average, self.evaluator.average))
        record |= self.evaluator.spread(report.scores)
        record["seconds_evaluate"] = report.seconds_evaluate + time.perf_counter() - start


def evaluator_of(
    config: SimulationConfig,
    material: Material,
    evaluated: Sequence[int],
    bank: AdapterBank,
    *,
    metric: Metric,
    sharing: Sharing,
    first: torch.Tensor,
) -> Evaluator:
    """Returns what scores the adapters of a run.

    Args:
        config: The settings.
        material: Data and model.
        evaluated: Samples of each client's own to evaluate on, wherever they are; none where all have the same.
        bank: Of the run.
        metric: The headline.
        sharing: How sequences share the passes of the model.
        first: The adapter that all clients begin with, float32 `[D]`.
    """
    tokens, shards = material.evaluation, material.text.evaluation_shards
    most = (config.eval_samples, config.client_eval_samples)
    texts, client_texts = (drawn_texts(tokens, shards, one, seed=config.seed) for one in most)
    rows = evaluated or [len(tokens)]
    counts = [[min(count, count if one is None else one) for count in rows] for one in most]
    return Evaluator(
        material.base.model,
        material.base.tokenizer,
        bank,
        tokens,
        material.questions,
        metric,
        texts=texts,
        client_texts=client_texts,
        counts=(counts[0], counts[1]),
        own=shards is not None,
        sharing=sharing,
        first=first,
    )
