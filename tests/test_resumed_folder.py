"""A run folder that a killed process left: it is found, its lock is free, and its rounds go on as if it had not."""

import errno
import gc
import json
import os
from contextlib import closing

import numpy as np
import pytest

import declora
from declora.errors import RunFolderError
from declora.report import Earlier, RunFolder, RunLog
from declora.report.belongings import MARKER, new_beside
from declora.store import Checkpoint

CONFIG = {"clients": 2}
RUN = "0123456789abcdef"


def checkpoint(event):
    return Checkpoint(RUN, event, {"adapter": np.full((2, 3), event, dtype=np.float32)}, {"settings": CONFIG})


def record(t):
    return {"round": t, "train_loss": 1 / t, "clients": [{"round": t, "client": 0, "train_loss": None}]}


def go_on(folder, upto, *, every=2, earlier=None, tensorboard=False):
    """Runs rounds up to `upto` with a checkpoint `every` few, and stops as a killed process does: in the middle."""
    log = RunLog(folder, CONFIG, tensorboard=tensorboard, earlier=earlier)
    for t in range(1 if earlier is None else earlier.event + 1, upto + 1):
        log.add(record(t))
        if t % every == 0:
            log.save(checkpoint(t))
    return log


def stop(path, upto, **options):
    """What a process leaves that is killed after round `upto`."""
    folder = RunFolder(path, overwrite=options.pop("overwrite", False))
    go_on(folder, upto, **options)
    work = folder.work
    del folder
    gc.collect()  # with it the lock goes, as that of a dead process does
    return work


def rounds(work):
    return [json.loads(line)["round"] for line in (work / "metrics.jsonl").open()]


def snapshot(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def expected(tmp_path, upto):
    with RunFolder(tmp_path / "expected") as folder:
        go_on(folder, upto)
    return (tmp_path / "expected" / "metrics.jsonl").read_bytes()


@pytest.mark.parametrize("half", [b"", b'{"round": 6, "tr'])
def test_a_stopped_run_goes_on_after_its_checkpoint_as_if_it_had_not_stopped(tmp_path, half):
    work = stop(tmp_path / "run", 5)
    with (work / "metrics.jsonl").open("ab") as file:
        file.write(half)
    with RunFolder(tmp_path / "run", resume=True) as folder:
        earlier = Earlier.read(folder.work)
        assert earlier.event == 4
        assert earlier.records == [record(t) for t in range(1, 5)]
        assert earlier.notes == ("The first 4 rounds are there already.",)
        np.testing.assert_array_equal(earlier.checkpoint.arrays["adapter"], checkpoint(4).arrays["adapter"])
        log = go_on(folder, 4, earlier=earlier)
        assert rounds(work) == [1, 2, 3, 4]
        for t in range(5, 9):
            log.add(record(t))
            assert rounds(work) == list(range(1, t + 1))
        log.complete()
    assert (work / "metrics.jsonl").read_bytes() == expected(tmp_path, 8)


def test_a_run_that_was_stopped_before_its_first_checkpoint_begins_again(tmp_path):
    stop(tmp_path / "run", 3, every=4)
    with RunFolder(tmp_path / "run", resume=True) as folder:
        earlier = Earlier.read(folder.work)
        assert (earlier.checkpoint, list(earlier.records), earlier.event) == (None, [], 0)
        assert earlier.notes == ("There is no checkpoint yet, so the run begins at its start.",)
        go_on(folder, 5, earlier=earlier)
    assert rounds(tmp_path / "run") == [1, 2, 3, 4, 5]


def test_a_stopped_run_that_was_to_replace_another_is_found_and_takes_its_place_at_its_end(tmp_path):
    out = tmp_path / "run"
    with RunFolder(out) as folder:
        folder.write_text("earlier.txt", "earlier")
    before = snapshot(out)
    assert stop(out, 5, overwrite=True) == new_beside(out)
    for name in (out, new_beside(out)):  # the latter is what an error names
        with closing(RunFolder(name, resume=True)) as folder:
            assert folder.root == out
            assert folder.work == new_beside(out)
            assert snapshot(out).items() >= before.items()
            go_on(folder, 6, earlier=Earlier.read(folder.work))
    with RunFolder(out, resume=True):
        pass
    assert not new_beside(out).exists()
    assert rounds(out) == [1, 2, 3, 4, 5, 6]
    assert not (out / "earlier.txt").exists()


def test_who_begins_a_run_where_one_can_go_on_is_told_so(tmp_path):
    stop(tmp_path / "run", 3)
    with pytest.raises(
        RunFolderError, match=r"holds a run\. Go on with it: declora resume .*run\. Replace it with overwrite=True"
    ):
        RunFolder(tmp_path / "run")


def test_a_live_run_is_not_taken_up(tmp_path):
    with RunFolder(tmp_path / "run"), pytest.raises(RunFolderError, match=rf"in use by .*process {os.getpid()}"):
        RunFolder(tmp_path / "run", resume=True)


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.mkdir(), lambda path: path.touch()])
def test_where_there_is_no_run_none_is_taken_up_and_nothing_made(tmp_path, make):
    make(tmp_path / "run")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunFolderError, match=r"path='.*run' holds no run\. Name the folder that `out` named\."):
        RunFolder(tmp_path / "run", resume=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("path", [None, 0])
def test_what_is_no_path_is_refused(path):
    with pytest.raises(RunFolderError, match=rf"^path={path} is no path\. Name the folder of a run\.$"):
        declora.resume(path)
    with pytest.raises(RunFolderError, match=rf"^path={path} is no path"):
        declora.verify(path)


def test_checkpoints_are_the_runs_own_and_go_with_it(tmp_path):
    out = tmp_path / "run"
    stop(out, 4)
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["event-00000002", "event-00000004"]
    (out / "checkpoints" / "new").mkdir()
    (out / "checkpoints" / "new" / ".tmp").touch()  # of a save that was cut off
    with RunFolder(out, overwrite=True) as folder:
        folder.write_text("a.txt", "a")
    assert sorted(snapshot(out)) == ["a.txt", MARKER]
    assert sorted(path.name for path in out.iterdir()) == ["a.txt", MARKER]


@pytest.mark.parametrize("path", ["checkpoints/notes.md", "checkpoints/event-00000004/notes.md", "checkpoints/mine/"])
def test_what_a_user_puts_beside_checkpoints_is_the_users(tmp_path, path):
    out = tmp_path / "run"
    stop(out, 4)
    (out / path).mkdir() if path.endswith("/") else (out / path).write_text("precious")
    with pytest.raises(RunFolderError, match=f"holds {path}: declora did not write that"):
        RunFolder(out, overwrite=True)
    RunFolder(out, resume=True).close()


def test_a_folder_named_checkpoints_in_a_run_without_any_is_the_users(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.write_text("a.txt", "a")
    (tmp_path / "run" / "checkpoints" / "event-00000004").mkdir(parents=True)
    with pytest.raises(RunFolderError, match="declora did not write that"):
        RunFolder(tmp_path / "run", overwrite=True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[:3], r"event-00000004: it counts on 4 lines of metrics\.jsonl, which has 3\."),
        (lambda lines: [*lines[:3], lines[3].replace(b"0.25", b"0.26"), *lines[4:]], "has other lines than those"),
    ],
)
def test_a_checkpoint_that_the_metrics_do_not_fit_is_passed_over(tmp_path, change, said):
    work = stop(tmp_path / "run", 5)
    metrics = work / "metrics.jsonl"
    metrics.write_bytes(b"".join(change(metrics.read_bytes().splitlines(keepends=True))))
    with closing(RunFolder(work, resume=True)) as folder:
        earlier = Earlier.read(folder.work)
    assert earlier.event == 2
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(earlier.notes[0])


def test_a_stale_half_written_folder_is_no_part_of_what_is_written_later(tmp_path):
    work = stop(tmp_path / "run", 2)
    (work / ".declora" / "partial" / "0").mkdir(parents=True)
    (work / ".declora" / "partial" / "0" / "stale.txt").touch()
    with RunFolder(work, resume=True) as folder:
        folder.write_folders({"adapters": lambda stage: (stage.mkdir(), (stage / "w.txt").touch())})
    assert [path.name for path in (work / "adapters").iterdir()] == ["w.txt"]


def test_folders_that_are_written_again_are_replaced_file_by_file(tmp_path):
    def writing(text):
        return {"adapters/average": lambda stage: (stage.mkdir(), (stage / "w.txt").write_text(text))}

    with RunFolder(tmp_path / "run") as folder:
        folder.write_folders(writing("of 20 rounds"))
        (folder.work / "adapters" / "average" / "notes.md").write_text("precious")
        folder.write_folders(writing("of 200 rounds"))
    found = snapshot(tmp_path / "run" / "adapters")
    assert found == {"average/w.txt": b"of 200 rounds", "average/notes.md": b"precious"}


def test_inner_runs_go_on_and_those_not_begun_begin(tmp_path):
    with closing(RunFolder(tmp_path / "run")) as folder, closing(folder.inner("a")) as inner:
        go_on(inner, 3)
    with RunFolder(tmp_path / "run", resume=True) as folder:
        with folder.inner("a", resume=True) as a:
            assert Earlier.read(a.work).event == 2
        with folder.inner("b", resume=True) as b:
            assert Earlier.read(b.work).event == 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["a", "b", MARKER]


def test_tensorboard_goes_on_without_a_gap_or_a_double_point(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    work = stop(tmp_path / "run", 5, tensorboard=True)
    for upto in (7, 8):
        with closing(RunFolder(work, resume=True)) as folder:
            earlier = Earlier.read(folder.work)
            go_on(folder, upto, earlier=earlier, tensorboard=True).close()
    events = accumulator.EventAccumulator(str(work / "tensorboard"))
    events.Reload()
    loss = events.Scalars("loss/train")
    assert [event.step for event in loss] == list(range(1, 9))
    np.testing.assert_allclose([event.value for event in loss], [1 / t for t in range(1, 9)], rtol=1e-6)  # float32
    with RunFolder(work, overwrite=True):
        pass  # all of it was declora's own


def test_the_metrics_are_on_the_disk_before_a_checkpoint_that_counts_on_them(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path / "run")
    log = go_on(folder, 1)
    log.add(record(2))
    done = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(
        os, "fsync", lambda file: (done.append(os.path.basename(os.readlink(f"/proc/self/fd/{file}"))), fsync(file))
    )
    monkeypatch.setattr(os, "rename", lambda old, new: (done.append(new.name), rename(old, new)))
    log.save(checkpoint(2))
    assert done.index("metrics.jsonl") < done.index("event-00000002")
    assert done.index("run") < done.index("event-00000002")  # the folder, which names the file


def test_a_full_disk_costs_a_checkpoint_but_neither_the_run_nor_the_one_before(tmp_path, monkeypatch, recwarn):
    """As each of the calls fails that a checkpoint needs: it is said once, and the next one is written."""
    names = ("open", "write", "fsync", "rename", "replace", "mkdir")

    def failing(patched, at):
        left = [at]

        def watched(function):
            def run(*args, **kwargs):
                left[0] -= 1
                if left[0] == -1:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return function(*args, **kwargs)

            return run

        for name in names:
            patched.setattr(os, name, watched(getattr(os, name)))
        return left

    with monkeypatch.context() as patched:
        log = go_on(RunFolder(tmp_path / "counted"), 3)
        left = failing(patched, 10**6)
        log.save(checkpoint(3))
    calls = 10**6 - left[0]
    assert calls > 10
    for n in range(calls):
        folder = RunFolder(tmp_path / f"{n}")
        log = go_on(folder, 3)
        with monkeypatch.context() as patched:
            failing(patched, n)
            with pytest.warns(
                UserWarning,
                match=r"cannot be written: .*no space left on device\. .*The run goes on, and tries again when",
            ):
                log.save(checkpoint(3))
        earlier = Earlier.read(folder.work)
        assert earlier.event in (2, 3)
        assert len(earlier.notes) == 1
        log.add(record(4))
        log.save(checkpoint(4))
        assert Earlier.read(folder.work).event == 4
        folder.close()
    assert [str(warning.message) for warning in recwarn] == []
