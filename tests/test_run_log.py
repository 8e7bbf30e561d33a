"""The log of a run: a folder that fails for a while costs neither the run nor its records."""

import errno
import json
import os
import shutil
import sys
from contextlib import closing

import pytest

from declora.errors import ConfigError, RunFolderError
from declora.report import RunFolder, RunLog
from declora.report.belongings import MARKER

CONFIG = {"clients": 2}


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


def rounds(folder):
    return [json.loads(line)["round"] for line in (folder.work / "metrics.jsonl").open()]


def full(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_each_round_is_there_at_once(folder):
    with closing(RunLog(folder, CONFIG)) as log:
        assert json.loads((folder.work / "config.json").read_text()) == CONFIG
        for t in (1, 2, 3):
            log.add({"round": t})
            assert rounds(folder) == list(range(1, t + 1))
        log.complete()


def test_a_disk_that_is_full_for_a_while_is_said_once_and_costs_no_round(folder, monkeypatch, recwarn):
    log = RunLog(folder, CONFIG)
    log.add({"round": 1})
    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        patched.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match=r"'metrics\.jsonl' cannot be written: no space left.*The run goes on"):
            log.add({"round": 2})
        log.add({"round": 3})
    assert [str(warning.message) for warning in recwarn] == []
    assert rounds(folder) == [1]
    log.add({"round": 4})
    assert rounds(folder) == [1, 2, 3, 4]
    log.add({"round": 5})
    log.complete()
    assert rounds(folder) == [1, 2, 3, 4, 5]


def test_a_disk_that_stays_full_is_an_error_at_the_end(folder, monkeypatch):
    log = RunLog(folder, CONFIG)
    monkeypatch.setattr(os, "write", full)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.warns(UserWarning, match="no space left"):
        log.add({"round": 1})
    with pytest.raises(RunFolderError, match="no space left"):
        log.complete()


@pytest.mark.parametrize("lost", ["run", "run/metrics.jsonl", "run/.declora"])
def test_what_is_removed_while_the_run_goes_on_is_written_again(folder, tmp_path, lost):
    log = RunLog(folder, CONFIG)
    log.add({"round": 1})
    path = tmp_path / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    for t in (2, 3):
        if t == 2 and lost != "run/.declora":
            with pytest.warns(UserWarning, match="0 bytes instead of the 13 that the run wrote"):
                log.add({"round": t})
        else:
            log.add({"round": t})
    log.complete()
    folder.finish()
    assert rounds(folder) == [1, 2, 3]
    assert json.loads((folder.work / "config.json").read_text()) == CONFIG


def test_tensorboards_events_are_the_runs_own(folder):
    pytest.importorskip("tensorboard")
    with closing(RunLog(folder, CONFIG, tensorboard=True)) as log:
        log.add({"round": 1, "train_loss": 0.5, "clients": [{"client": 0}]})
        log.complete()
    folder.finish()
    listed = json.loads((folder.root / MARKER).read_text())["files"]
    assert any(name.startswith("tensorboard/events") for name in listed)
    RunFolder(folder.root, overwrite=True).close()


def test_tensorboard_that_cannot_write_ends_no_run_and_is_an_error_at_the_end(folder, monkeypatch):
    pytest.importorskip("tensorboard")
    log = RunLog(folder, CONFIG, tensorboard=True)
    monkeypatch.setattr("declora.report.run_log.TensorBoardLog.log", full)
    with pytest.warns(UserWarning, match=r"'tensorboard' cannot be written: no space left.*goes on without it"):
        log.add({"round": 1})
    log.add({"round": 2})
    with pytest.raises(RunFolderError, match="Its curves are not whole"):
        log.complete()
    assert rounds(folder) == [1, 2]


def test_missing_tensorboard_is_refused_before_the_first_round(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ConfigError, match="pip install tensorboard"):
        RunLog(folder, CONFIG, tensorboard=True)
