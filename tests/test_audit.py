"""Runs that keep a ledger: it changes no result, goes on with a resumed run, and audit names what is not as it was."""

import contextlib
import gc
import json
import os
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

pytest.importorskip("cryptography")

import declora
from declora import cli
from declora.errors import ConfigError, RunFolderError
from declora.ledger import Keys, digest
from declora.recording import Recording
from declora.report import Earlier
from declora.store import manifest
from resumable import OBJECTS, SETTINGS, rounds_of, write_adapters

SMALL = {**SETTINGS, "clients": 3, "rounds": 3, "local_steps": 1, "client_eval_samples": 0, "eval_every": 9}


def simulate(out, **settings):
    return declora.simulate(**OBJECTS, **{**SMALL, "out": str(out), "ledger": True, **settings})


def ledger_of(run):
    return [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]


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
    simulate(out)
    return out


@pytest.fixture
def run(finished, tmp_path):
    """A finished run to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


def difference(run, **settings):
    (found,) = declora.audit(run, **settings).differences
    return found


def test_the_ledger_of_a_run_is_sound_and_is_as_recomputed(finished):
    found = declora.audit(finished, replay=True, progress=False, **OBJECTS)
    assert found.holds, found
    assert found.chains["run"].rounds == 3
    head = ledger_of(finished)[-1]["hash"]
    assert str(found) == (f"run: 3 rounds, signed by 3 clients, head {head}.\ndec-lora: 3 rounds are as recomputed.")


def test_it_changes_no_result(finished, tmp_path):
    simulate(tmp_path / "run", ledger=False)
    with_it, without = rounds_of(finished), rounds_of(tmp_path / "run")
    for record in with_it:
        for row in record["clients"]:
            assert row.pop("message_digest") != row.pop("adapter_digest")
    assert with_it == without


def test_a_record_has_the_digests_of_the_frames_and_of_the_rows(tmp_path, monkeypatch):
    from declora.exchange import LocalExchange

    sent, deliver = [], LocalExchange.deliver

    def watch(exchange, frames, sizes, edges, beside=None):
        sent.append([digest(frame[:size]) for frame, size in zip(frames, sizes, strict=True)])
        return deliver(exchange, frames, sizes, edges, beside)

    monkeypatch.setattr(LocalExchange, "deliver", watch)
    result = simulate(tmp_path / "run", codec="q2+rans", rounds=2)  # frames of unlike lengths
    _, first, last = ledger_of(tmp_path / "run")
    assert [[entry["message"] for entry in record["clients"]] for record in (first, last)] == sent
    rows = [result.client(client).row.numpy() for client in range(3)]
    assert [entry["adapter"] for entry in last["clients"]] == [digest(row) for row in rows]


def test_the_same_keys_and_run_give_the_same_ledger_byte_for_byte(tmp_path, finished, monkeypatch):
    stored = (finished / "ledger.keys").read_bytes()
    monkeypatch.setattr(Keys, "draw", lambda clients: Keys.load(stored, field=""))
    monkeypatch.setattr(Earlier, "nothing", lambda: Earlier(ledger_of(finished)[0]["run"]))
    simulate(tmp_path / "run")
    assert (tmp_path / "run" / "ledger.jsonl").read_bytes() == (finished / "ledger.jsonl").read_bytes()


def test_the_keys_are_their_owners_alone_and_none_is_anywhere_else(finished):
    if os.name == "posix":
        assert (finished / "ledger.keys").stat().st_mode & 0o777 == 0o600
    keys = json.loads((finished / "ledger.keys").read_text())["clients"]
    others = [path.read_bytes() for path in finished.rglob("*") if path.is_file() and path.name != "ledger.keys"]
    assert len(keys) == 3
    assert not any(key.encode() in content or bytes.fromhex(key) in content for key in keys for content in others)


@pytest.mark.parametrize(("method", "clients"), [("local", 3), ("centralized", 1)])
def test_who_sends_nothing_signs_that(method, clients, tmp_path):
    simulate(tmp_path / "run", method=method, rounds=1, checkpoint_every=None)
    assert declora.audit(tmp_path / "run").holds
    assert [entry["message"] for entry in ledger_of(tmp_path / "run")[1]["clients"]] == [None] * clients


class Stopped(BaseException):
    """As a signal would: no handler runs."""


@pytest.mark.parametrize("after", [1, 3])
def test_a_stopped_run_goes_on_with_its_chain(after, tmp_path):
    """After 1, no checkpoint is there, and the run begins again; after 3, round 3 was run since the checkpoint."""
    add = Recording.add

    def die(recording, record):
        add(recording, record)
        if record["round"] == after:
            raise Stopped

    with pytest.MonkeyPatch.context() as patched, contextlib.suppress(Stopped):
        patched.setattr(Recording, "add", die)
        simulate(tmp_path / "run", rounds=4)
    gc.collect()
    file = tmp_path / "run" / "ledger.jsonl"
    before = file.read_bytes()
    with file.open("ab") as torn:
        torn.write(b'{"clients":[{"ada')
    assert declora.audit(tmp_path / "run").holds
    declora.resume(tmp_path / "run", **OBJECTS)
    found = declora.audit(tmp_path / "run")
    assert found.holds, found
    assert found.chains["run"].rounds == 4
    assert file.read_bytes().startswith(before) == (after == 3)


def test_a_record_that_was_changed_is_named_by_audit_and_ends_a_resumption(run):
    lines = (run / "ledger.jsonl").read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace('"round":1', '"round":2')
    (run / "ledger.jsonl").write_text("".join(lines))
    found = declora.audit(run)
    assert found.chains["run"].rounds == 0
    assert found.differences[0].startswith("run: record 1 (round 1): it is of round 2: ")
    with pytest.raises(RunFolderError, match=r"record 1 of 'ledger\.jsonl' is not the one that the run wrote"):
        declora.resume(run, rounds=4, **OBJECTS)


def test_keys_that_are_gone_end_a_resumption(run):
    (run / "ledger.keys").unlink()
    assert declora.audit(run).holds
    with pytest.raises(RunFolderError, match=r"'ledger\.keys' cannot be read: .*without it nobody can sign"):
        declora.resume(run, rounds=4, **OBJECTS)


def test_records_that_were_cut_off_are_missed_as_long_as_the_rounds_are_there(run):
    lines = (run / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (run / "ledger.jsonl").write_bytes(b"".join(lines[:-1]))
    assert difference(run) == "run: metrics.jsonl has 3 rounds, and the ledger records of 2."


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"adapter_digest": "blake2b:0"}, "metrics.jsonl has another adapter of client 1 in round 2 than the ledger."),
        ({"message_digest": None}, "metrics.jsonl has another message of client 1 in round 2 than the ledger."),
        (None, "metrics.jsonl has digests of 0 clients in round 2, and the ledger of 3."),
    ],
)
def test_rounds_with_other_digests_than_the_ledger_are_named(run, row, said):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[1]["clients"][1] = row and lines[1]["clients"][1] | row
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert f"run: {said}" in declora.audit(run).differences


def test_an_adapter_in_a_checkpoint_with_right_checksums_is_held_against_the_ledger(run):
    folder = run / "checkpoints" / "event-00000003"
    values = load_file(folder / "state.safetensors")
    values["adapter/adapter"][2] = np.nextafter(values["adapter/adapter"][2], np.float32(1))
    save_file(values, folder / "state.safetensors")
    manifest.write(folder)
    assert difference(run) == (
        "run: the checkpoint of round 3 has another adapter of client 2 in round 3 than the ledger."
    )


def test_settings_that_were_changed_are_named(run):
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(config | {"learning_rate": 1.0}))
    assert difference(run) == "run: config.json has learning_rate=1.0, and the ledger 0.005."


def test_a_replay_names_the_first_digest_that_is_another(run, monkeypatch):
    monkeypatch.setattr("declora.ledger.digests.digest", lambda row: digest(row, b"another"))
    found = declora.audit(run, replay=True, progress=False, **OBJECTS)
    assert not found.holds
    assert found.verification.differences[0].startswith(
        "dec-lora: round 1 is the first that differs: adapter_digest of client 0 is 'blake2b:"
    )


def test_a_comparison_has_a_ledger_of_each_run(tmp_path):
    simulate(tmp_path / "run", compare={"a": {"codec": "none"}, "b": {"method": "local"}}, rounds=1)
    assert list(declora.audit(tmp_path / "run").chains) == ["a", "b"]
    (tmp_path / "run" / "b" / "ledger.jsonl").write_bytes(b"")
    assert difference(tmp_path / "run") == "b: record 0 (the first): it is missing."


def test_the_command_line_says_the_head_and_fails_where_something_is_broken(run, capsys):
    assert cli.main(["audit", str(run)]) == 0
    assert ledger_of(run)[-1]["hash"] in capsys.readouterr().out
    (run / "ledger.jsonl").write_bytes(b"x\n")
    assert cli.main(["audit", str(run)]) == 1
    assert "is not as its ledger was written: run: record 0 (the first): it is not JSON." in capsys.readouterr().err


def test_mistakes_are_said_in_a_sentence(tmp_path, finished, monkeypatch):
    with pytest.raises(ConfigError, match=r"^ledger=True needs a run folder to write into\. Set out="):
        declora.SimulationConfig(ledger=True)
    with pytest.raises(RunFolderError, match="holds no run"):
        declora.audit(tmp_path)
    shutil.copytree(finished, tmp_path / "run")
    (tmp_path / "run" / "ledger.jsonl").unlink()
    with pytest.raises(RunFolderError, match=r"is a run without a ledger\. Begin it again with ledger=True, or"):
        declora.audit(tmp_path / "run")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install '\.\[ledger\]'"):
        simulate(tmp_path / "new")
    assert not (tmp_path / "new").exists()
