"""What ranks send the first one, and it them, as bytes: arrays with what is to be said of them, and rounds."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from declora.inbox import Inbox
from declora.measuring import RoundReport
from declora.train.evaluate import Score
from declora.train.local_steps import LocalRound

__all__ = ["pack", "pack_report", "unpack", "unpack_report"]


def pack(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Returns arrays by name, and what is to be said of them as JSON has it, in one piece."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return safetensors.numpy.save(contiguous, metadata={"about": json.dumps(about)})


def unpack(content: NDArray[np.uint8]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Returns what was said, and the arrays."""
    found = bytes(content)
    size = int.from_bytes(found[:8], "little")
    about: dict[str, Any] = json.loads(json.loads(found[8 : 8 + size])["__metadata__"]["about"])
    return about, safetensors.numpy.load(found)


def pack_report(report: RoundReport, arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Returns what a round was at a rank, with arrays of the state of its clients, in one piece."""
    about = {
        "learning_rate": report.work.learning_rate,
        "seconds": report.seconds,
        "seconds_evaluate": report.seconds_evaluate,
        "entries": report.entries,
        "unused": dict(report.inbox.unused),
        "scores": [[client, asdict(score)] for client, score in report.scores.items()],
    }
    inbox = {name: getattr(report.inbox, name) for name in ("bytes_sent", "tolerated", "suspected")}
    own = {
        "work/losses": report.work.losses,
        "work/samples": report.work.samples,
        **({} if report.digests is None else {"digests": report.digests}),
        **{f"inbox/{name}": values for name, values in inbox.items() if values is not None},
        **{f"state/{name}": array for name, array in arrays.items()},
    }
    return pack(about, own)


def unpack_report(content: NDArray[np.uint8]) -> tuple[RoundReport, dict[str, NDArray[Any]]]:
    """Returns what the round was, and the arrays."""
    about, arrays = unpack(content)
    report = RoundReport(
        LocalRound(arrays["work/losses"], arrays["work/samples"], about["learning_rate"]),
        Inbox(
            arrays["inbox/bytes_sent"],
            tolerated=arrays.get("inbox/tolerated"),
            suspected=arrays.get("inbox/suspected"),
            unused=about["unused"],
        ),
        about["seconds"],
        {client: Score(**score) for client, score in about["scores"]},
        about["seconds_evaluate"],
        digests=arrays.get("digests"),
        entries=about["entries"],
    )
    return report, {name.removeprefix("state/"): array for name, array in arrays.items() if name.startswith("state/")}
