"""What is recorded of each client in a round."""

from collections.abc import Mapping, Sequence
from typing import Any

from declora.inbox import Inbox
from declora.plan import Plan
from declora.train.evaluate import Score
from declora.train.local_steps import LocalRound

__all__ = ["RoundRecord", "client_records"]

RoundRecord = dict[str, Any]
"""What is recorded of a round: numbers and words by name, and `clients`, a record of each client."""


def client_records(
    plan: Plan,
    work: LocalRound,
    inbox: Inbox,
    scores: Mapping[int, Score],
    digests: Sequence[Mapping[str, Any]] | None = None,
    names: Sequence[str] | None = None,
) -> list[dict[str, Any]]:
    """Returns a record for each client: its work, the bytes on its link, and its score where it was evaluated.

    Args:
        plan: Of the round.
        work: Its local steps.
        inbox: What arrived.
        scores: By client.
        digests: Of each client's message and adapter, where a ledger is kept.
        names: What each client is called, where that is not its number.
    """
    steps = plan.steps
    return [
        {
            "round": plan.event + 1,
            "client": client,
            **({} if names is None else {"name": names[client]}),
            **({"train_loss": float(work.losses[client])} if steps[client] else {}),
            "local_steps": int(steps[client]),
            "samples_seen": int(work.samples[client]),
            "bytes_sent": int(sent),
            **({} if inbox.suspected is None else {"suspected_by": int(inbox.suspected[client])}),
            **(digests[client] if digests else {}),
            **(scores[client].record() if client in scores else {}),
        }
        for client, sent in enumerate(inbox.bytes_sent)
    ]
