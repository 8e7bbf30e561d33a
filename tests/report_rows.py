"""Histories, clients and summaries for the tests of the room report: simple functions of the round."""

import numpy as np
import pandas as pd

from declora.report import RunSummary, topology_figure

NAN = float("nan")


def make_history(rounds=6, *, clients=4, sent=1000, every=2, measure="accuracy", offset=0.0):
    """A history whose values are simple functions of the round; evaluated every second round."""
    t = np.arange(1, rounds + 1)
    quality = np.where((t % every == 0) | (t == rounds), 0.5 + 0.05 * t + offset, NAN)
    return pd.DataFrame(
        {
            "round": t,
            "learning_rate": 1e-3,
            "train_loss": 1.0 / t,
            f"average_{measure}": quality,
            f"clients_{measure}_mean": quality - 0.01,
            f"clients_{measure}_min": quality - 0.03,
            f"clients_{measure}_max": quality + 0.02,
            "consensus_distance": 0.5**t,
            "samples_seen": 10 * clients,
            "samples_total": 10 * clients * t,
            "bytes_sent": sent * clients,
            "bytes_total": sent * clients * t,
            "seconds_train": 2.0,
            "seconds_mix": 0.25,
            "seconds_evaluate": np.where(np.isfinite(quality), 1.0, NAN),
        }
    )


def make_clients(rounds=6, *, clients=4, sent=1000):
    t, who = np.repeat(np.arange(1, rounds + 1), clients), np.tile(np.arange(clients), rounds)
    accuracy = np.where(t % 2 == 0, 0.5 + 0.01 * who + 0.02 * t, NAN)
    loss = 1.0 / t + 0.1 * who
    return pd.DataFrame(
        {"round": t, "client": who, "train_loss": loss, "accuracy": accuracy, "bytes_sent": sent * (who + 1)}
    )


def make_summary(title="a run", codec="q4", **settings):
    config = {"codec": codec, "seed": 7, "lora": {"rank": 8, "targets": ["query", "value"]}, "masks": None}
    return RunSummary(
        title,
        config,
        make_history(**settings),
        make_clients(),
        facts={"spectral gap": "0.127"},
        figures=[("The ring", topology_figure(4, [(0, 1), (1, 2), (2, 3), (3, 0)]))],
        environment={"torch": "2.13"},
        tables=[("Labels", pd.DataFrame({"client": [0, 1], "positive": [3, 4]}))],
        local_work="5 steps",
        rerun="declora run --seed 7",
    )
