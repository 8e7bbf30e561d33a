"""The folder of a run: what is in it is whole, listed, and inside."""

import errno
import json
import os
import re

import pytest

from declora.errors import RunFolderError
from declora.report import RunFolder
from declora.report.belongings import MARKER
from declora.report.json_lines import line_of


def files(folder):
    """Paths of the files below a folder, without those that are there only while it is open."""
    paths = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in paths if not path.startswith(".declora/"))


def a_folder_with(**texts):
    def write(path):
        path.mkdir()
        for name, text in texts.items():
            (path / f"{name}.txt").write_text(text)

    return write


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_new_folder_is_made_with_its_parents_and_names_itself(tmp_path):
    folder = RunFolder(tmp_path / "runs" / "first")
    assert json.loads((folder.root / MARKER).read_text())["format"] == "declora-run"


def test_an_empty_folder_is_taken(tmp_path):
    RunFolder(tmp_path).write_text("a.txt", "a")
    assert (tmp_path / "a.txt").read_text() == "a"


def test_the_marker_lists_every_file_at_any_depth_and_nothing_else_stays(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.write_text("a.txt", "a")
        folder.append("metrics.jsonl", line_of({"round": 1}))
        folder.write_folders({"adapters/one": a_folder_with(x="1", y="2"), "adapters/two": a_folder_with(x="3")})
        (folder.work / "events").mkdir()
        (folder.work / "events" / "log").write_text("")
        folder.adopt("events")
    listed = json.loads((tmp_path / "run" / MARKER).read_text())["files"]
    assert listed == files(tmp_path / "run")
    assert len(listed) == 7
    assert not (tmp_path / "run" / ".declora").exists()


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../outside", "a/../../b", MARKER, ".declora/lock"])
def test_a_name_outside_the_folder_is_refused(tmp_path, name):
    folder = RunFolder(tmp_path / "run")
    for write in (folder.write_text, lambda name, text: folder.write_folders({name: a_folder_with(x=text)})):
        with pytest.raises(RunFolderError, match=f"name={re.escape(repr(name))}.*relative path inside"):
            write(name, "x")
    assert files(tmp_path / "run") == [MARKER]
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failure_in_the_middle_of_a_write_leaves_the_old_file(tmp_path, monkeypatch, step):
    with RunFolder(tmp_path) as folder:
        folder.write_json("result.json", {"accuracy": 0.5})
        with monkeypatch.context() as patched:
            patched.setattr(os, step, full_disk)
            with pytest.raises(RunFolderError, match=r"'result\.json' cannot be written: no space left"):
                folder.write_json("result.json", {"accuracy": 0.9})
    assert json.loads((tmp_path / "result.json").read_text()) == {"accuracy": 0.5}
    assert files(tmp_path) == [MARKER, "result.json"]


def test_an_interrupt_in_the_middle_of_a_write_leaves_the_old_file(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.write_text("a.txt", "old")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        folder.write_text("a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert files(tmp_path) == ["a.txt", MARKER]


def test_what_has_no_form_in_json_is_refused_before_the_file_is_touched(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_json("a.json", 1)
    with pytest.raises(TypeError, match=r"<class 'object'> .* has no form in JSON"):
        folder.write_json("a.json", {"x": object})
    assert (tmp_path / "a.json").read_text() == "1\n"


def test_half_of_a_surrogate_pair_in_a_text_is_no_error(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.write_text("a.txt", "a\ud83d").read_text() == "a\\ud83d"
    assert json.loads(folder.write_json("a.json", "a\ud83d").read_text()) == "a\ud83d"


def test_a_folder_that_cannot_be_written_leaves_those_before_it_and_no_part_of_itself(tmp_path):
    def fail(path):
        path.mkdir()
        (path / "x.txt").write_text("half")
        raise RuntimeError("a library's\n   own   words")

    folder = RunFolder(tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"'b' cannot be written: a library's own words\. Use another") as caught:
        folder.write_folders({"a": a_folder_with(x="1"), "b": fail, "c": a_folder_with(x="3")})
    assert isinstance(caught.value.__cause__, RuntimeError)
    folder.close()
    assert files(folder.root) == ["a/x.txt", MARKER]


def test_metrics_are_one_whole_line_per_round(tmp_path):
    folder = RunFolder(tmp_path)
    for t in range(1, 5):
        folder.append("metrics.jsonl", line_of({"round": t}))
        lines = (tmp_path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        assert [json.loads(line)["round"] for line in lines] == list(range(1, t + 1))
        assert all(line.endswith(b"\n") for line in lines)


def test_metrics_that_are_written_anew_grow_from_there(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_lines("metrics.jsonl", [line_of(one) for one in ({"round": 1}, {"round": 2})])
    folder.append("metrics.jsonl", line_of({"round": 3}))
    assert [json.loads(line)["round"] for line in (tmp_path / "metrics.jsonl").open()] == [1, 2, 3]


def test_an_inner_run_is_a_run_folder_of_its_own(tmp_path):
    with RunFolder(tmp_path / "all") as folder:
        with folder.inner("one") as inner:
            inner.write_text("a.txt", "a")
        folder.write_text("b.txt", "b")
    outer, inner = (json.loads((path / MARKER).read_text()) for path in (tmp_path / "all", tmp_path / "all" / "one"))
    assert (outer["runs"], outer["files"]) == (["one"], ["b.txt", MARKER])
    assert (inner["runs"], inner["files"]) == ([], ["a.txt", MARKER])


def test_a_folder_that_lost_files_while_it_was_written_is_not_finished(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_text("a.txt", "a")
    (tmp_path / "run" / "a.txt").unlink()
    with pytest.raises(RunFolderError, match=r"lacks a\.txt, removed while the run was going"):
        folder.finish()


def test_a_folder_that_was_removed_is_made_again_and_its_metrics_are_not_half(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.append("metrics.jsonl", line_of({"round": 1}))
    for path in sorted((tmp_path / "run").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (tmp_path / "run").rmdir()
    with pytest.raises(RunFolderError, match="0 bytes instead of the 13 that the run wrote"):
        folder.append("metrics.jsonl", line_of({"round": 2}))
    folder.write_lines("metrics.jsonl", [line_of(one) for one in ({"round": 1}, {"round": 2})])
    folder.finish()
    assert files(tmp_path / "run") == [MARKER, "metrics.jsonl"]


def test_a_folder_that_was_removed_and_taken_by_another_run_is_not_touched(tmp_path):
    first = RunFolder(tmp_path / "run")
    first.write_text("a.txt", "first")
    os.rename(tmp_path / "run", tmp_path / "moved")
    second = RunFolder(tmp_path / "run")
    second.write_text("b.txt", "second")
    with pytest.raises(RunFolderError, match="is in use by another run"):
        first.write_text("a.txt", "again")
    second.close()
    with pytest.raises(RunFolderError, match="holds other files now"):
        first.write_text("a.txt", "again")
    assert files(tmp_path / "run") == ["b.txt", MARKER]
