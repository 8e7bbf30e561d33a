"""Progress: a bar where somebody looks, and nothing elsewhere."""

import errno
import io
import logging
import sys
from contextlib import closing

import pytest

from declora.report import Progress, announce
from report_rows import make_history


class Terminal(io.StringIO):
    def isatty(self):
        return True


def run_progress(history, **settings):
    with closing(Progress(len(history), "sst2", **settings)) as progress:
        for record in history.to_dict("records"):
            progress.update(record)


@pytest.mark.parametrize(("stream", "enabled"), [(io.StringIO(), None), (io.StringIO(), False), (Terminal(), False)])
def test_progress_prints_nothing_where_nobody_looks(stream, enabled, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(sys, "stderr", stream)
    run_progress(make_history(), enabled=enabled)
    assert stream.getvalue() == ""
    assert bool(caplog.records) == (enabled is None)


def test_progress_shows_the_last_measured_values_on_a_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "200")
    run_progress(make_history())
    last = stream.getvalue().split("\r")[-1]
    assert "sst2: 100%" in last
    for text in ("6/6", "loss=0.167", "accuracy=80.0%", "consensus=0.0156", "sent=24.0 kB"):
        assert text in last


def test_where_no_bar_is_a_tenth_of_the_rounds_or_half_a_minute_has_a_line_with_the_time_left(monkeypatch, caplog):
    """Rounds take 10 s each by a clock of the test: of 60 rounds every third is said, and of 6 each tenth, all."""
    caplog.set_level(logging.DEBUG, logger="declora")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    clock = iter(range(0, 10_000, 10))
    monkeypatch.setattr("declora.report.progress.time.monotonic", lambda: float(next(clock)))
    run_progress(make_history(60))
    assert [record.levelname for record in caplog.records] == ["DEBUG", "DEBUG", "INFO"] * 20
    caplog.clear()
    run_progress(make_history(4))
    assert {record.levelname for record in caplog.records} == {"INFO"}
    assert [record.getMessage() for record in caplog.records] == [
        "sst2: round 1/4: loss 1, consensus 0.5, sent 4.00 kB, about 30.0 s left",
        "sst2: round 2/4: loss 0.5, accuracy 60.0%, consensus 0.25, sent 8.00 kB, about 20.0 s left",
        "sst2: round 3/4: loss 0.333, accuracy 60.0%, consensus 0.125, sent 12.0 kB, about 10.0 s left",
        "sst2: round 4/4: loss 0.25, accuracy 70.0%, consensus 0.0625, sent 16.0 kB",
    ]


class Gone(Terminal):
    """A stream whose reader has gone, or whose disk is full."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    flush = property()  # nor can it be flushed: AttributeError


def _closed():
    stream = Terminal()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [Gone(), _closed(), None, io.TextIOWrapper(io.BytesIO(), "ascii")])
@pytest.mark.parametrize("enabled", [True, None])
def test_no_run_ends_because_its_progress_cannot_be_shown(monkeypatch, stream, enabled):
    monkeypatch.setattr(sys, "stderr", stream)
    announce(["A note with an ae: \u00e6."], enabled)
    run_progress(make_history(), enabled=enabled)
