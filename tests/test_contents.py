"""Contents: the same files have the same digest wherever they lie, and other files another."""

import os
import shutil

import networkx as nx
import numpy as np
import pytest
from scipy import sparse

from declora.errors import ConfigError
from declora.experiments import EXPERIMENTS, SCALES, Cell, Experiment
from declora.experiments.contents import Contents
from declora.experiments.plan import make_plan
from declora.topology import Topology


@pytest.fixture
def site(tmp_path):
    """A folder with data of a task and a model, as far as a plan looks at them."""
    for name, text in (("data/sst2/train.tsv", "a\t1\n"), ("data/sst2/validation.tsv", "b\t0\n"), ("model/x.bin", "w")):
        path = tmp_path / "site" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "site"


def of(path):
    return Contents().of(str(path))


def keys(site, **arguments):
    """The names by which the runs of an experiment are found again."""
    defaults = {"model": str(site / "model"), "data": site / "data", "tasks": ["sst2"], "seeds": 1}
    return [job.key for job in make_plan(EXPERIMENTS["local-steps"], SCALES["small"], **{**defaults, **arguments}).jobs]


def test_what_was_moved_or_copied_is_found_again(site, tmp_path):
    before = keys(site)
    shutil.copytree(site, tmp_path / "copy")
    os.rename(site, tmp_path / "moved")
    assert keys(tmp_path / "moved") == keys(tmp_path / "copy") == before


@pytest.mark.parametrize("name", ["data/sst2/train.tsv", "data/sst2/validation.tsv", "model/x.bin"])
def test_what_was_changed_is_not_even_with_its_old_size_and_time(site, name):
    before, path = keys(site), site / name
    stat, text = path.stat(), path.read_text()
    path.write_text(text[::-1].swapcase() if text[::-1] != text else text.upper())
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert path.stat().st_size == stat.st_size
    assert not set(keys(site)) & set(before)


def test_files_that_a_setting_names_count_too(site):
    evaluation = site / "evaluation.csv"
    evaluation.write_text("a")
    before = keys(site, settings={"eval_data": str(evaluation)})
    evaluation.write_text("b")
    assert not set(keys(site, settings={"eval_data": str(evaluation)})) & set(before)
    assert not set(keys(site)) & set(before)


@pytest.mark.parametrize("graph", [nx.cycle_graph(3), sparse.eye_array(3, format="csr"), Topology.build("ring", 3)])
def test_a_row_with_an_object_that_no_name_finds_again_is_refused(site, graph):
    """Rows with two graphs would have one name, and the second the results of the first."""
    rows = Experiment("mine", "Mine", "?", lambda grid: [Cell("a", {"clients": 3, "rounds": 1, "topology": graph})])
    with pytest.raises(ConfigError, match=r"row 'a': topology is a \w+, and nothing by which .* found again"):
        make_plan(rows, SCALES["small"], model="x", data=site / "data", tasks=["sst2"], seeds=1)


def test_rows_with_two_matrices_are_two_runs(site):
    cells = [Cell(f"{n}", {"clients": 3, "rounds": 1, "topology": np.full((3, 3), n / 6)}) for n in (1, 2)]
    plan = make_plan(
        Experiment("mine", "Mine", "?", lambda grid: cells),
        SCALES["small"],
        model="x",
        data=site / "data",
        tasks=["sst2"],
        seeds=1,
    )
    assert len({job.key for job in plan.jobs}) == 2


def test_a_task_from_a_path_is_its_content_and_one_from_the_hub_its_name(site):
    assert keys(site, data={"sst2": str(site / "data" / "sst2")}) == keys(site)
    assert keys(site, data="hub") == keys(site, data={"sst2": "hub"}) != keys(site)
    (job, *_) = make_plan(EXPERIMENTS["table1"], SCALES["paper"], tasks=["sst2"], seeds=1).jobs
    assert job.contents == {"model": "roberta-base", "data": "sst2=hub"}


def test_names_in_a_folder_and_the_format_of_a_file_count(site):
    folder = site / "data" / "sst2"
    before, file = of(folder), of(folder / "train.tsv")
    os.rename(folder / "train.tsv", folder / "test.tsv")
    assert of(folder) != before
    assert of(folder / "test.tsv") == file
    os.rename(folder / "test.tsv", folder / "test.csv")
    assert of(folder / "test.csv") != file


def test_a_file_that_moves_between_folders_or_joins_another_is_a_change(tmp_path):
    for name, texts in (("a", {"x": "12", "y": ""}), ("b", {"x": "1", "y": "2"}), ("c", {"x": "12", "y/z": ""})):
        for path, text in texts.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text)
    assert len({of(tmp_path / name) for name in "abc"}) == 3


def test_hidden_files_do_not_count_and_links_are_followed(site, tmp_path):
    before = of(site)
    (site / ".DS_Store").write_text("x")
    (site / ".git").mkdir()
    (site / ".git" / "x").write_text("x")
    assert of(site) == before
    shutil.move(site / "data", tmp_path / "elsewhere")
    (site / "data").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert of(site) == before
    (tmp_path / "elsewhere" / "sst2" / "train.tsv").write_text("other")
    assert of(site) != before


def test_a_link_in_a_circle_ends(site):
    (site / "data" / "self").symlink_to(site, target_is_directory=True)
    assert of(site).startswith("content:")


def test_each_path_is_read_once(site, monkeypatch):
    contents, reads = Contents(), []
    digest = "declora.experiments.contents._digest"
    monkeypatch.setattr(digest, lambda path: reads.append(path) or "content:x")
    for _ in range(3):
        contents.of(str(site / "data"))
        contents.of(str(site / "data" / ".." / "data"))
    assert reads == [site / "data"]


def test_a_file_that_cannot_be_read_is_named(site, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied", str(site / "model" / "x.bin"))

    monkeypatch.setattr("declora.experiments.contents.open", refuse, raising=False)
    with pytest.raises(ConfigError, match=r"x\.bin' cannot be read: Permission denied"):
        of(site / "model")


@pytest.mark.parametrize("name", ["user/model", "x" * 5000, "a\0b", "~nobody-here/x"])
def test_what_is_no_path_here_is_itself(name):
    assert of(name) == name
