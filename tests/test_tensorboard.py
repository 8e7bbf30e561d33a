"""TensorBoard: the curves read back, and what is asked for without the package is refused."""

import sys
from contextlib import closing

import numpy as np
import pytest

from declora.errors import ConfigError
from declora.report import TensorBoardLog
from declora.report.tensorboard import tag
from report_rows import make_history


def test_tensorboard_events_read_back(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    history = make_history()
    with closing(TensorBoardLog(tmp_path / "events")) as log:
        for record in history.to_dict("records"):
            log.log(record)
    events = accumulator.EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    loss = events.Scalars("loss/train")
    assert [event.step for event in loss] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose([event.value for event in loss], history["train_loss"], rtol=1e-6)  # float32
    accuracy = events.Scalars("accuracy/average")
    assert [event.step for event in accuracy] == [2, 4, 6]
    assert "round" not in events.Tags()["scalars"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("average_accuracy", "accuracy/average"),
        ("clients_accuracy_min", "accuracy/clients_min"),
        ("train_loss", "loss/train"),
        ("average_loss", "loss/average"),
        ("seconds_mix", "seconds/mix"),
        ("bytes_total", "bytes/total"),
        ("consensus_distance", "consensus_distance"),
        ("learning_rate", "learning_rate"),
    ],
)
def test_curves_to_compare_share_a_card(name, expected):
    assert tag(name) == expected


def test_missing_tensorboard_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match=r"tensorboard='.*events' needs .*pip install tensorboard"):
        TensorBoardLog(tmp_path / "events")
    assert not (tmp_path / "events").exists()
