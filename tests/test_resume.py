"""A run that was stopped goes on, on a CPU bit for bit; what would make its rounds others is refused by name."""

import contextlib
import errno
import gc
import json
import os
import shutil

import numpy as np
import pytest
import torch

import declora
from declora import cli, origin
from declora.errors import ConfigError, RunFolderError
from declora.recording import Recording
from declora.report import read_metrics
from declora.report.belongings import new_beside
from declora.store import manifest
from declora.topology import Topology
from resumable import FEW, OBJECTS, ROUNDS, RUNS, SETTINGS, adapters_of, model_of, rounds_of, write_adapters
from tiny import tiny_texts


class Stopped(BaseException):
    """As a signal would: no handler runs."""


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing here pulls the plug."""
    monkeypatch.setattr(os, "fsync", lambda file: None)
    monkeypatch.setattr(os, "sync", lambda: None)


@pytest.fixture
def plain(monkeypatch):
    """For tests of what is computed: of what a run leaves, the adapters alone."""
    monkeypatch.setattr("declora.simulation.write_run", write_adapters)


def simulate(out, **settings):
    return declora.simulate(**OBJECTS, **{**SETTINGS, "out": str(out), **settings})


@contextlib.contextmanager
def after_each_round(act):
    """Has `act(round, folder)` called when a round and its checkpoint are written."""
    add = Recording.add

    def add_and_act(recording, record):
        add(recording, record)
        act(record["round"], recording.log._folder.work)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Recording, "add", add_and_act)
        yield


def stop(out, after, **settings):
    """What a process leaves in `out` that dies in the middle of the round after `after`."""

    def die(done, folder):
        if done == after:
            raise Stopped

    with after_each_round(die), contextlib.suppress(Stopped):
        simulate(out, **settings)
    gc.collect()  # with it the lock goes, as that of a dead process does


def same(out, whole):
    assert rounds_of(out) == rounds_of(whole)
    assert adapters_of(out) == adapters_of(whole)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Runs that were never stopped, by their settings; beside each, what it would have left after each round."""
    folders = {}

    def run(**settings):
        name = json.dumps(settings, sort_keys=True)
        if name not in folders:
            home = tmp_path_factory.mktemp("whole")
            folders[name] = home / "run"
            with after_each_round(lambda done, folder: shutil.copytree(folder, home / f"after-{done}")):
                simulate(folders[name], **settings)
        return folders[name]

    return run


@pytest.fixture
def stopped(whole, tmp_path):
    """Returns a folder as a process leaves it that dies in the middle of a round."""

    def copy(after, **settings):
        shutil.copytree(whole(**settings).parent / f"after-{after}", tmp_path / "run")
        return tmp_path / "run"

    return copy


# Going on


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_ends_as_one_never_stopped(name, whole, stopped, tmp_path, plain):
    """A round after its checkpoint; whatever is remembered between rounds."""
    settings = {**RUNS[name], "rounds": FEW}
    result = declora.resume(stopped(3, **settings), **OBJECTS)
    same(tmp_path / "run", whole(**settings))
    np.testing.assert_array_equal(result.history["round"], np.arange(1, FEW + 1))


@pytest.mark.parametrize("after", range(1, ROUNDS + 1))
def test_wherever_it_is_stopped(after, whole, stopped, plain):
    run = stopped(after, codec="q4+choco")
    declora.resume(run, **OBJECTS)
    same(run, whole(codec="q4+choco"))


def test_results_and_report_are_those_of_the_run_never_stopped(whole, stopped, tmp_path):
    expected = declora.resume(whole(), **OBJECTS)  # finished: what it returned
    stopped(3)
    result = declora.resume(tmp_path / "run", **OBJECTS)
    measured = [name for name in expected.history if not name.startswith("seconds_")]
    for found, one in ((result.history[measured], expected.history[measured]), (result.clients, expected.clients)):
        assert found.equals(one)
    assert result.notes == expected.notes
    assert torch.equal(result.average.row, expected.average.row)
    names = sorted(path.relative_to(whole()) for path in whole().rglob("*"))
    assert sorted(path.relative_to(tmp_path / "run") for path in (tmp_path / "run").rglob("*")) == names
    for table in ("clients.csv", "samples-by-client-and-label.csv"):
        assert (tmp_path / "run" / table).read_text() == (whole() / table).read_text()


def test_the_last_two_checkpoints_stay_and_the_digests_are_nobodys_number(whole):
    folder = whole()
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["event-00000004", "event-00000006"]
    digests = read_metrics(folder)["state_digest"]
    assert digests.is_unique
    assert digests.str.fullmatch(r"blake2b-rows:[0-9a-f]{32}").all()
    for page in ("report.html", "clients.csv"):
        assert "blake2b" not in (folder / page).read_text()


def test_a_run_without_checkpoints_has_no_digests_and_cannot_go_on(tmp_path):
    simulate(tmp_path / "run", checkpoint_every=None, rounds=1)
    assert "state_digest" not in read_metrics(tmp_path / "run")
    with pytest.raises(ConfigError, match=r"run' is a run without checkpoints.*--checkpoint-every 10 --overwrite"):
        declora.resume(tmp_path / "run", **OBJECTS)


def test_checkpoints_need_a_folder():
    with pytest.raises(ConfigError, match=r"checkpoint_every=2 needs a run folder to write into. Set out="):
        declora.SimulationConfig(checkpoint_every=2)


def test_the_last_round_is_always_a_checkpoint(tmp_path, plain):
    simulate(tmp_path / "run", rounds=3, checkpoint_every=50)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["event-00000003"]


def test_a_run_that_was_to_replace_another_goes_on_beside_it_and_takes_its_place(whole, tmp_path, plain):
    out = tmp_path / "run"
    simulate(out, rounds=1, seed=5)
    stop(out, 3, overwrite=True)
    assert len(rounds_of(out)) == 1
    assert len(rounds_of(new_beside(out))) == 3
    declora.resume(new_beside(out), **OBJECTS)  # the folder that an error would name
    same(out, whole())
    assert not new_beside(out).exists()


def test_a_run_that_was_stopped_while_it_wrote_its_adapters_writes_them_again(whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("declora.simulation.write_run", lambda *_: (_ for _ in ()).throw(Stopped))
        with contextlib.suppress(Stopped):
            simulate(tmp_path / "run")
    gc.collect()
    assert not (tmp_path / "run" / "adapters").exists()
    declora.resume(tmp_path / "run", **OBJECTS)
    same(tmp_path / "run", whole())


def test_a_checkpoint_that_cannot_be_written_costs_neither_the_run_nor_the_next_one(whole, tmp_path, plain):
    """The disk is full at the second of three: what is left is the first and the third."""
    write, calls = manifest.write, []

    def full_once(folder, shards):
        calls.append(folder)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, shards)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(manifest, "write", full_once)
        with pytest.warns(
            UserWarning, match=r"'checkpoints' cannot be written: no space left on device\. What was saved"
        ):
            simulate(tmp_path / "run")
    same(tmp_path / "run", whole())
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "event-00000002", "event-00000006",
    ]  # fmt: skip


# More rounds


def test_more_rounds_of_a_constant_rate_give_what_that_many_from_the_start_give(whole, tmp_path, plain):
    constant = {"schedule": "constant", "warmup": 0, "codec": "q4+choco"}
    simulate(tmp_path / "run", **constant, rounds=4)
    result = declora.resume(tmp_path / "run", **OBJECTS, rounds=ROUNDS)
    same(tmp_path / "run", whole(**constant))
    assert not any("schedule" in note for note in result.notes)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["rounds"] == ROUNDS


def test_more_rounds_go_on_along_the_longer_schedule_which_a_note_says(tmp_path, plain):
    simulate(tmp_path / "run", rounds=2)
    stopped = declora.resume(tmp_path / "run", **OBJECTS, rounds=4)
    note = (
        "The learning rate went along the linear schedule of 2 rounds until round 2, and from there along that of 4: "
        "4 rounds from the start give another result."
    )
    assert stopped.notes[-1] == note
    assert declora.resume(tmp_path / "run", **OBJECTS).notes[-1] == note  # it is still so
    rates = stopped.history["learning_rate"].to_numpy()
    straight = simulate(tmp_path / "straight", rounds=4).history["learning_rate"].to_numpy()
    np.testing.assert_array_equal(rates[2:], straight[2:])
    assert rates[1] < straight[1]


def test_fewer_rounds_than_were_run_are_refused(whole):
    with pytest.raises(RunFolderError, match=r"rounds=3: the run in path=.* has finished 6\. Ask for at least as many"):
        declora.resume(whole(), **OBJECTS, rounds=3)


# What would make the rounds to come others


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"environment": {"torch": "2.14.0"}}, r"torch was 2\.\d+\.\S+ and is 2\.14\.0"),
        ({"environment": {"processor": "x86_64 AVX3"}}, r"processor was .* and is x86_64 AVX3"),
        ({"settings": {"learning_rate": 0.5}}, r"learning_rate was 0\.005 and is 0\.5 in config\.json"),
        ({"inputs": {"the training data": "0"}}, "the training data has changed"),
    ],
)
def test_a_difference_that_changes_results_is_refused_by_name_and_nothing_written(change, said, tmp_path, monkeypatch):
    stop(tmp_path / "run", 3)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    describe = origin.describe_origin

    def changed(run):
        return {kind: {**values, **change.get(kind, {})} for kind, values in describe(run).items()}

    monkeypatch.setattr("declora.recording.describe_origin", changed)
    with pytest.raises(RunFolderError, match=rf"cannot go on as it began: {said}\. Go on with what it was begun with"):
        declora.resume(tmp_path / "run", **OBJECTS)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"model": model_of(seed=1)}, "the model has changed"),
        ({"data": {"train": tiny_texts(48, seed=9), "validation": tiny_texts(16, seed=1)}}, "the training data has"),
        ({"data": {"train": tiny_texts(48), "validation": tiny_texts(16, seed=9)}}, "the evaluation data has changed"),
    ],
)
def test_other_objects_than_the_run_was_begun_with_are_refused(given, said, stopped, tmp_path):
    stopped(3)
    with pytest.raises(RunFolderError, match=f"cannot go on as it began: {said}"):
        declora.resume(tmp_path / "run", **{**OBJECTS, **given})


def test_another_graph_in_a_later_round_of_the_period_is_refused(tmp_path):
    pairs = [Topology.build(graph, 4).weights(0) for graph in ("ring", "complete", "path")]
    begun, other = (Topology("mine", 4, (pairs[0], second)) for second in pairs[1:])
    stop(tmp_path / "run", 3, clients=4, topology=begun)
    with pytest.raises(RunFolderError, match="cannot go on as it began: the graph has changed"):
        declora.resume(tmp_path / "run", **OBJECTS, topology=other)
    declora.resume(tmp_path / "run", **OBJECTS, topology=begun)


def test_an_edited_setting_is_refused(stopped, tmp_path):
    stopped(3)
    config = tmp_path / "run" / "config.json"
    config.write_text(config.read_text().replace('"codec": "q4"', '"codec": "q8"'))
    with pytest.raises(RunFolderError, match=r"codec was q4 and is q8 in config\.json"):
        declora.resume(tmp_path / "run", **OBJECTS)


def test_a_broken_checkpoint_is_named_and_the_one_before_it_gives_the_same_run(whole, stopped, tmp_path, caplog, plain):
    caplog.set_level("INFO", logger="declora")
    stopped(5)
    state = tmp_path / "run" / "checkpoints" / "event-00000004" / "state.safetensors"
    size = state.stat().st_size
    os.truncate(state, 100)
    declora.resume(tmp_path / "run", **OBJECTS)
    same(tmp_path / "run", whole())
    assert [record.message for record in caplog.records][-2:] == [
        "note: event-00000002 is the checkpoint that is used, since a newer one cannot be: event-00000004: "
        f"state.safetensors has 100 bytes instead of {size:,}.",
        "note: The first 2 rounds are there already.",
    ]


# A comparison


def test_a_comparison_resumes_as_a_whole(tmp_path, monkeypatch, plain):
    compare = {"a": {"codec": "q4+choco"}, "b": {"method": "local"}, "c": {"method": "fedavg"}}
    simulate(tmp_path / "whole", compare=compare)
    add, seen = Recording.add, []

    def add_and_die(recording, record):
        add(recording, record)
        seen.append(record)
        if len(seen) == ROUNDS + 3:  # in the second run
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Recording, "add", add_and_die)
        with contextlib.suppress(Stopped):
            simulate(tmp_path / "run", compare=compare)
    gc.collect()
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.name in compare) == ["a", "b"]
    trained = []
    with monkeypatch.context() as patched:
        patched.setattr(Recording, "add", lambda recording, record: (trained.append(record), add(recording, record)))
        comparison = declora.resume(tmp_path / "run", **OBJECTS)
    assert [record["round"] for record in trained] == [3, 4, 5, 6, 1, 2, 3, 4, 5, 6]
    assert list(comparison.results) == ["a", "b", "c"]
    for label in compare:
        same(tmp_path / "run" / label, tmp_path / "whole" / label)
    assert (tmp_path / "run" / "comparison.md").exists()


def test_checkpoints_are_the_whole_comparisons():
    with pytest.raises(ConfigError, match=r"compare\['a'\] sets checkpoint_every, which holds for the whole"):
        declora.simulate(compare={"a": {"checkpoint_every": 3}})


# The command line


def test_the_command_line_names_what_it_cannot_give(stopped, tmp_path, capsys):
    stopped(3)
    assert cli.main(["resume", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "data={'train': '<Dataset>', 'validation': '<Dataset>'} is an object" in error
    assert f"declora.resume('{tmp_path}/run', data=..., public_data=..., model=..., tokenizer=...)" in error
