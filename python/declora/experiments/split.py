"""What split training would send for the work of each row, beside what the row itself sends."""

import math
from collections.abc import Mapping

import pandas as pd

from declora.experiments.plan import Plan
from declora.experiments.store import Finished
from declora.report import format_bytes
from declora.report.tables import MISSING

__all__ = ["split_table"]


def split_table(plan: Plan, finished: Mapping[str, Finished]) -> pd.DataFrame:
    """Returns a row for each of the plan's, as text to read: bytes of all clients in a round, means over seeds."""
    runs = pd.DataFrame(
        {
            "row": job.cell.label,
            "sent": finished[job.key].history["bytes_sent"].mean(),
            "split": finished[job.key].facts["split_bytes"],
        }
        for job in plan.jobs
    )
    means = runs.astype({"split": float}).groupby("row", sort=False).mean()
    times = [split / sent if sent else math.nan for sent, split in zip(means["sent"], means["split"], strict=True)]
    return pd.DataFrame(
        {
            "row": means.index.tolist(),
            "sent in a round, all clients": [format_bytes(value) for value in means["sent"]],
            "by split training": [MISSING if math.isnan(value) else format_bytes(value) for value in means["split"]],
            "times as much": [MISSING if math.isnan(value) else f"{value:#.3g}" for value in times],
        }
    )
