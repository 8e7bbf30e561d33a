"""verify: a run recomputed from its start is what its folder holds, and what is not is named with its round."""

import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import declora
from declora import cli
from declora.errors import ConfigError, RunFolderError
from declora.store import manifest
from resumable import OBJECTS, ROUNDS, RUNS, SETTINGS, write_adapters


def simulate(out, **settings):
    return declora.simulate(**OBJECTS, **{**SETTINGS, "out": str(out), **settings})


@pytest.fixture(scope="module", autouse=True)
def plain():
    """Of what a run leaves, the adapters alone."""

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("declora.simulation.write_run", write_adapters)
        patched.setattr("declora.simulation.write_comparison", lambda *_: None)
        patched.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    simulate(out, codec="q4+choco")
    return out


@pytest.fixture
def run(finished, tmp_path):
    """A finished run to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


def verify(run):
    return declora.verify(run, progress=False, **OBJECTS)


def edit_line(run, number, **values):
    lines = (run / "metrics.jsonl").read_text().splitlines()
    lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | values)
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")


def snapshot(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_what_its_settings_give_and_stays_as_it_is(finished):
    before = snapshot(finished)
    found = verify(finished)
    assert found.holds
    assert found.rounds == {"dec-lora": ROUNDS}
    assert str(found) == "dec-lora: 6 rounds are as recomputed."
    assert snapshot(finished) == before
    assert sorted(path.name for path in finished.parent.iterdir()) == ["run"]


@pytest.mark.parametrize("name", ["ef", "median", "push-sum", "tad-lora"])
def test_so_is_every_kind_of_run(name, tmp_path):
    """`median` is attacked by replays, which remember messages, in which the run is named."""
    simulate(tmp_path / "run", **RUNS[name])
    assert verify(tmp_path / "run").holds


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (
            {"state_digest": "blake2b-rows:0"},
            r"state_digest is 'blake2b-rows:0' in metrics\.jsonl and 'blake2b-rows:[0-9a-f]{32}'",
        ),
        ({"train_loss": 0.5}, r"train_loss is 0\.5 in metrics\.jsonl and 0\.\d+ recomputed"),
        ({"clients": []}, r"clients is \[\] in metrics\.jsonl"),
        ({"more": 1}, r"more is 1 in metrics\.jsonl and None recomputed"),
    ],
)
def test_the_first_round_that_differs_is_named(run, values, said):
    edit_line(run, 4, **values)
    edit_line(run, 6, train_loss=0.0)
    found = verify(run)
    assert found.rounds == {"dec-lora": 3}
    (difference,) = found.differences
    assert difference.startswith("dec-lora: round 4 is the first that differs: ")
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(difference)


def test_times_may_be_any(run):
    edit_line(run, 2, seconds_train=1000.0)
    assert verify(run).holds


def test_an_adapter_that_was_changed_is_named(run):
    file = run / "adapters" / "client-0002" / "adapter_model.safetensors"
    values = load_file(file)
    name = next(iter(values))
    values[name] = np.nextafter(values[name], np.float32(1))
    save_file(values, file, metadata={"format": "pt"})
    shutil.rmtree(run / "adapters" / "average")
    assert verify(run).differences == (
        "dec-lora: adapters/average is not as recomputed.",
        "dec-lora: adapters/client-0002 is not as recomputed.",
    )


def test_a_checkpoint_with_another_state_is_named_though_its_checksums_are_right(run):
    folder = run / "checkpoints" / "event-00000006"
    values = load_file(folder / "state.safetensors")
    values["memory/state"] = np.nextafter(values["memory/state"], np.float32(1))
    save_file(values, folder / "state.safetensors")
    manifest.write(folder)
    assert verify(run).differences == (
        "dec-lora: the checkpoint of round 6 is not as recomputed: 'memory/state' differs.",
    )


def test_checkpoints_that_are_broken_are_a_difference(run):
    for folder in (run / "checkpoints").iterdir():
        os.truncate(folder / "state.safetensors", 10)
    found = verify(run)
    assert found.rounds == {"dec-lora": ROUNDS}
    assert len(found.differences) == 1
    assert "has no checkpoint that can be used" in found.differences[0]


def test_a_run_that_was_stopped_is_compared_as_far_as_it_came(run):
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:20])
    shutil.rmtree(run / "checkpoints")
    found = verify(run)
    assert found.holds
    assert found.rounds == {"dec-lora": 3}


def test_a_run_that_went_on_with_more_rounds_is_recomputed_along_both_schedules(tmp_path):
    simulate(tmp_path / "run", rounds=2)
    declora.resume(tmp_path / "run", rounds=5, **OBJECTS)
    found = verify(tmp_path / "run")
    assert found.holds, found
    assert found.rounds == {"dec-lora": 5}


def test_a_run_without_checkpoints_is_compared_by_what_was_measured(tmp_path):
    simulate(tmp_path / "run", checkpoint_every=None, rounds=2)
    assert verify(tmp_path / "run").rounds == {"dec-lora": 2}
    edit_line(tmp_path / "run", 1, consensus_distance=0.0)
    assert "round 1 is the first that differs: consensus_distance" in verify(tmp_path / "run").differences[0]


def test_what_is_different_since_the_run_began_is_said_beside_a_difference(run, monkeypatch):
    edit_line(run, 1, train_loss=0.0)
    monkeypatch.setattr("declora.verification.differences", lambda then, now: ["torch was 2.13.0 and is 2.14.0"])
    assert verify(run).notes == ("Since the run began, torch was 2.13.0 and is 2.14.0.",)


def test_a_comparison_is_verified_run_by_run(tmp_path):
    simulate(tmp_path / "run", compare={"a": {"codec": "q4+ef"}, "b": {"method": "local"}}, rounds=2)
    edit_line(tmp_path / "run" / "b", 2, train_loss=0.0)
    found = verify(tmp_path / "run")
    assert found.rounds == {"a": 2, "b": 1}
    assert [difference.split(":")[0] for difference in found.differences] == ["b"]


def test_where_there_is_no_run_there_is_nothing_to_verify(tmp_path):
    with pytest.raises(RunFolderError, match=r"path='.*' holds no run"):
        declora.verify(tmp_path)


def test_the_command_line_asks_for_objects_from_python(run, capsys):
    assert cli.main(["verify", str(run)]) == 1
    assert f"declora.verify('{run}', data=..., public_data=..., model=..., tokenizer=...)" in capsys.readouterr().err


@pytest.mark.parametrize("edited", [False, True])
def test_the_command_line_prints_what_was_found_and_fails_where_something_differs(run, edited, capsys, monkeypatch):
    if edited:
        edit_line(run, 2, train_loss=0.0)
    found = verify(run)
    monkeypatch.setattr(declora, "verify", lambda path, *, progress: found, raising=False)
    assert cli.main(["verify", str(run)]) == int(edited)
    printed = capsys.readouterr()
    assert printed.out == f"{found}\n"
    assert ("is not what its settings give: dec-lora: round 2 is the first that differs" in printed.err) == edited


def test_other_settings_than_the_run_had_are_refused(run):
    with pytest.raises(ConfigError, match="is not what the run had"):
        declora.verify(run, **OBJECTS, learning_rate=1.0)
