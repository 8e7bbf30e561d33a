"""Replacing a run: the earlier one stays until the new one is whole, and nothing goes that declora did not write."""

import contextlib
import gc
import json
import os
import shutil

import pytest

from declora.errors import RunFolderError
from declora.report import RunFolder
from declora.report.belongings import MARKER, new_beside, old_beside
from declora.report.json_lines import line_of


def snapshot(folder):
    """Every file below a folder with its content."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def write_run(path, text, *, overwrite=False):
    """A run with a file at the top, one below, and an inner run."""
    with RunFolder(path, overwrite=overwrite) as folder:
        folder.write_text("a.txt", text)
        folder.write_folders({"adapters/average": lambda stage: (stage.mkdir(), (stage / "w.txt").write_text(text))})
        with folder.inner("inner") as inner:
            inner.write_text("b.txt", text)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing here pulls the plug: that files reach the disk is slow and would change nothing."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def out(tmp_path):
    """An earlier run."""
    write_run(tmp_path / "out", "earlier")
    return tmp_path / "out"


@pytest.fixture
def whole(tmp_path):
    """What a run of another text leaves, file by file."""

    def contents(text):
        write_run(tmp_path / f"expected-{text}", text)
        return snapshot(tmp_path / f"expected-{text}")

    return contents


def test_a_new_run_takes_the_place_of_the_earlier_one_when_it_has_finished(out, whole):
    earlier = snapshot(out)
    with RunFolder(out, overwrite=True) as folder:
        folder.append("metrics.jsonl", line_of({"round": 1}))
        assert snapshot(out).items() >= earlier.items()
        assert (new_beside(out) / "metrics.jsonl").read_text() == '{"round": 1}\n'
        assert folder.work == new_beside(out)
    assert sorted(snapshot(out)) == [MARKER, "metrics.jsonl"]
    assert not new_beside(out).exists()
    assert not old_beside(out).exists()
    write_run(out, "third", overwrite=True)
    assert snapshot(out) == whole("third")


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_new_run_that_fails_leaves_the_earlier_one_whole(out, error):
    earlier = snapshot(out)

    def fail_in_round_two():
        with RunFolder(out, overwrite=True) as folder:
            folder.append("metrics.jsonl", line_of({"round": 1}))
            raise error

    with pytest.raises(error):
        fail_in_round_two()
    assert snapshot(out) == earlier
    assert sorted(snapshot(new_beside(out))) == [MARKER, "metrics.jsonl"]
    write_run(out, "third", overwrite=True)
    assert not new_beside(out).exists()


@pytest.mark.parametrize(
    "path",
    [
        "notes.md", "adapters/notes.md", "adapters/average/notes.md", "inner/notes.md", ".declora-notes",
        ".declora/notes.md", "mine/notes.md", "inner/mine/notes.md", "inner.declora-new/notes.md", "a.txt.bak",
    ],
)  # fmt: skip
def test_a_users_file_at_any_depth_is_refused_before_anything_goes(out, path):
    (out / path).parent.mkdir(parents=True, exist_ok=True)
    (out / path).write_text("precious")
    before = snapshot(out)
    for take in (RunFolder, RunFolder.check):
        with pytest.raises(RunFolderError, match=rf"holds {path}: declora did not write that.*Move it away or use"):
            take(out, overwrite=True)
    assert snapshot(out) == before


def test_a_users_link_or_empty_folder_is_refused_and_a_link_is_not_followed(out, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.tex").write_text("years of work")
    (out / "adapters" / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (out / "empty").mkdir()
    with pytest.raises(RunFolderError, match=r"holds adapters/link, empty/: declora did not write"):
        RunFolder(out, overwrite=True)
    assert (tmp_path / "elsewhere" / "thesis.tex").exists()


def test_a_folder_of_ours_that_became_a_link_is_refused(out, tmp_path):
    shutil.move(out / "adapters", tmp_path / "adapters")
    (out / "adapters").symlink_to(tmp_path / "adapters", target_is_directory=True)
    with pytest.raises(RunFolderError, match="holds adapters: declora did not write"):
        RunFolder(out, overwrite=True)
    assert (tmp_path / "adapters" / "average" / "w.txt").exists()


def test_another_run_that_a_user_put_there_is_the_users(out):
    write_run(out / "copied", "another")
    with pytest.raises(RunFolderError, match=r"holds copied/a\.txt, .*declora did not write"):
        RunFolder(out, overwrite=True)


def test_a_run_of_version_1_goes_if_it_has_no_files_in_folders(out):
    (out / MARKER).write_text(json.dumps({"format": "declora-run", "version": 1, "files": ["a.txt", "adapters"]}))
    with pytest.raises(RunFolderError, match=r"holds adapters/average/w\.txt, inner/b\.txt"):
        RunFolder(out, overwrite=True)
    shutil.rmtree(out / "adapters")
    shutil.rmtree(out / "inner")
    write_run(out, "third", overwrite=True)


def test_what_a_user_adds_while_the_new_run_goes_on_is_kept_and_both_runs_stay(out):
    folder = RunFolder(out, overwrite=True)
    folder.append("metrics.jsonl", line_of({"round": 1}))
    (out / "adapters" / "notes.md").write_text("precious")
    with pytest.raises(RunFolderError, match=r"holds adapters/notes\.md, put there while the run was going"):
        folder.finish()
    assert (out / "adapters" / "notes.md").read_text() == "precious"
    assert (out / "a.txt").read_text() == "earlier"
    assert (new_beside(out) / "metrics.jsonl").exists()


@pytest.mark.parametrize("beside", [new_beside, old_beside])
def test_a_foreign_folder_beside_is_not_taken(out, beside):
    beside(out).mkdir()
    (beside(out) / "mine.txt").write_text("precious")
    with pytest.raises(RunFolderError, match=r"holds \.\./out\.declora-(new|old)/mine\.txt: declora did not write"):
        RunFolder(out, overwrite=True)
    assert (beside(out) / "mine.txt").exists()


def test_an_inner_run_is_replaced_alone(out):
    before = snapshot(out)
    with RunFolder(out / "inner", overwrite=True) as folder:
        folder.write_text("b.txt", "again")
    assert snapshot(out) == before | {"inner/b.txt": b"again"}
    write_run(out, "third", overwrite=True)


def test_a_run_is_not_replaced_while_one_in_it_is(out):
    outer = RunFolder(out, overwrite=True)
    inner = RunFolder(out / "inner", overwrite=True)
    with pytest.raises(RunFolderError, match="in use by another run"):
        outer.finish()
    inner.finish()
    assert (out / "a.txt").read_text() == "earlier"


def test_a_run_whose_earlier_one_was_removed_keeps_its_place(out):
    folder = RunFolder(out, overwrite=True)
    shutil.rmtree(out)
    with pytest.raises(RunFolderError, match="in use by another run"):
        RunFolder(out)  # the run that is beside it is alive
    folder.append("metrics.jsonl", line_of({"round": 1}))
    folder.finish()
    assert sorted(snapshot(out)) == [MARKER, "metrics.jsonl"]


class Killed(BaseException):
    """As a signal would: no handler runs."""


@pytest.mark.parametrize("call", range(26))
def test_wherever_a_replacement_is_cut_off_one_whole_run_is_found(out, whole, monkeypatch, call):
    """The calls by which `finish` changes folders are counted (25), and the process dies before the `call`-th."""
    folder = RunFolder(out, overwrite=True)
    folder.write_text("a.txt", "new")
    folder.write_folders({"adapters/average": lambda stage: (stage.mkdir(), (stage / "w.txt").write_text("new"))})
    with folder.inner("inner") as inner:
        inner.write_text("b.txt", "new")
    left = [call]

    def dying(function):
        def run(*args, **kwargs):
            if left[0] == 0:
                raise Killed
            left[0] -= 1
            return function(*args, **kwargs)

        return run

    with monkeypatch.context() as patched:
        for name in ("rename", "unlink", "rmdir", "replace", "mkdir"):
            patched.setattr(os, name, dying(getattr(os, name)))
        with contextlib.suppress(Killed):
            folder.finish()
    del folder, inner
    gc.collect()  # with them the locks go, as those of a dead process do
    with pytest.raises(RunFolderError, match="holds a run"):
        RunFolder(out)
    found = {path: text for path, text in snapshot(out).items() if ".declora/" not in path}
    assert found in (whole("earlier"), whole("new"))
    write_run(out, "third", overwrite=True)
    assert snapshot(out) == whole("third")
    assert not new_beside(out).exists()
    assert not old_beside(out).exists()
