"""Who may have a run folder: nobody's files are taken, and no two runs have one at once."""

import errno
import multiprocessing
import os
import signal
import time

import pytest

from declora.errors import RunFolderError
from declora.report import RunFolder
from declora.report.belongings import MARKER
from declora.report.json_lines import line_of


def test_a_folder_with_a_run_is_refused_without_overwrite(tmp_path):
    with RunFolder(tmp_path) as first:
        first.write_text("a.txt", "first")
    with pytest.raises(RunFolderError, match=r"out='.*' holds a run.*--overwrite.*another path") as caught:
        RunFolder(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert (tmp_path / "a.txt").read_text() == "first"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_declora_did_not_write_is_never_touched(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    for take in (RunFolder, RunFolder.check):
        with pytest.raises(RunFolderError, match=r"out='.*' holds files that declora did not write.*another path"):
            take(tmp_path, overwrite=overwrite)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": "other", "files": []}', '{"format": "declora-run"}'])
def test_a_marker_that_is_not_decloras_protects_the_folder(tmp_path, content):
    (tmp_path / MARKER).write_text(content)
    with pytest.raises(RunFolderError, match="did not write"):
        RunFolder(tmp_path, overwrite=True)
    assert (tmp_path / MARKER).read_text() == content


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path, overwrite):
    (tmp_path / "file").write_text("mine")
    for take in (RunFolder, RunFolder.check):
        with pytest.raises(RunFolderError, match=r"out='.*file' is a file.*another path"):
            take(tmp_path / "file", overwrite=overwrite)
        with pytest.raises(RunFolderError, match=r"out='.*below' cannot be created.*another path"):
            take(tmp_path / "file" / "below", overwrite=overwrite)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_without_permission_is_a_clear_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, whom no mode stops
    for take in (RunFolder, RunFolder.check):
        with pytest.raises(RunFolderError, match=r"out='.*' is not writable\. Change its permissions or use another"):
            take(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("path", ["a\0b", "n" * 5000, "a/" * 2499 + "a"])
def test_a_path_that_no_file_system_takes_is_a_clear_error(path):
    with pytest.raises(RunFolderError, match=r"out='.*' cannot be created"):
        RunFolder(path)


def test_a_check_changes_nothing(tmp_path):
    RunFolder.check(tmp_path / "new" / "run")
    assert list(tmp_path.iterdir()) == []


def test_where_this_process_works_is_not_replaced(tmp_path, monkeypatch):
    with RunFolder(tmp_path / "run") as folder:
        folder.write_text("a.txt", "a")
    monkeypatch.chdir(tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"out='\.' is where this process works and cannot be replaced"):
        RunFolder(".", overwrite=True)


def test_a_run_is_replaced_from_a_removed_working_folder(tmp_path, monkeypatch):
    with RunFolder(tmp_path / "run") as first:
        first.write_text("a.txt", "first")
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with RunFolder(tmp_path / "run", overwrite=True) as second:
        second.write_text("a.txt", "second")
    assert (tmp_path / "run" / "a.txt").read_text() == "second"


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_live_run_keeps_its_folder(tmp_path, overwrite):
    first = RunFolder(tmp_path / "run")
    first.append("metrics.jsonl", line_of({"round": 1}))
    with pytest.raises(RunFolderError, match=rf"in use by another run \(process {os.getpid()}\)|holds a run"):
        RunFolder(tmp_path / "run", overwrite=overwrite)
    first.append("metrics.jsonl", line_of({"round": 2}))
    first.finish()
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2


def test_a_live_run_that_replaces_another_keeps_its_folder(tmp_path):
    RunFolder(tmp_path / "run").close()
    second = RunFolder(tmp_path / "run", overwrite=True)
    with pytest.raises(RunFolderError, match="in use by another run"):
        RunFolder(tmp_path / "run", overwrite=True)
    second.finish()


def test_a_folder_that_is_forgotten_is_free(tmp_path):
    folder = RunFolder(tmp_path / "run")
    del folder
    RunFolder(tmp_path / "run", overwrite=True).finish()


def _claim(path, barrier, queue):
    barrier.wait()
    try:
        RunFolder(path)
        queue.put(True)
    except RunFolderError:
        queue.put(False)


def _hold(path, queue):
    folder = RunFolder(path)
    queue.put(True)
    time.sleep(60)
    folder.close()


@pytest.fixture
def fork():
    """Processes that start at once, as a spawned interpreter would not."""
    return multiprocessing.get_context("fork")


def test_of_runs_that_start_at_once_one_has_the_folder(tmp_path, fork):
    for trial in range(15):
        barrier, queue = fork.Barrier(3), fork.Queue()
        processes = [fork.Process(target=_claim, args=(tmp_path / str(trial), barrier, queue)) for _ in range(3)]
        for process in processes:
            process.start()
        assert sorted(queue.get(timeout=60) for _ in processes) == [False, False, True]
        for process in processes:
            process.join()


def test_a_killed_run_leaves_no_lock(tmp_path, fork):
    queue = fork.Queue()
    process = fork.Process(target=_hold, args=(tmp_path / "run", queue))
    process.start()
    queue.get(timeout=60)
    with pytest.raises(RunFolderError, match=rf"in use by another run \(process {process.pid}\)"):
        RunFolder(tmp_path / "run", overwrite=True)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    RunFolder(tmp_path / "run", overwrite=True).finish()
    assert [entry.name for entry in (tmp_path / "run").iterdir()] == [MARKER]


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def no_locks(*_):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.warns(UserWarning, match="without locks: nothing keeps a second run from writing there"):
        RunFolder(tmp_path / "run").finish()
