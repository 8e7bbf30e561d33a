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


def test_progress_is_quiet_where_nobody_looks(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    run_progress(make_history())
    run_progress(make_history(), enabled=False, verbose=True)
    assert stream.getvalue() == ""
    assert caplog.records == []


def test_progress_is_silent_on_a_terminal_when_disabled(monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    run_progress(make_history(), enabled=False, verbose=True)
    assert stream.getvalue() == ""
    assert caplog.records == []


def test_progress_shows_the_last_measured_values_on_a_terminal(monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("COLUMNS", "200")
    run_progress(make_history())
    last = stream.getvalue().split("\r")[-1]
    assert "sst2: 100%" in last
    for text in ("6/6", "loss=0.167", "accuracy=80.0%", "consensus=0.0156", "sent=24.0 kB"):
        assert text in last


def test_verbose_progress_logs_one_line_per_evaluated_round(monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="declora")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    run_progress(make_history(4), verbose=True)
    assert [record.getMessage() for record in caplog.records] == [
        "sst2: round 2/4: loss 0.5, accuracy 60.0%, consensus 0.25, sent 8.00 kB",
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
