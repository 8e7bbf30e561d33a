"""Ranks write what they have of a checkpoint: a run goes on over any number of them, whatever was lost on the way."""

import contextlib
import errno
import gc
import json
import os
import shutil

import numpy as np
import pytest
import torch
from torch.distributed import HashStore

import declora
from clusters import Noting, compare_ranks, memory_clusters, write_ranks
from declora import ConfigError, RunFolderError
from declora.cluster import Kind
from declora.report.belongings import new_beside
from declora.shards import Collecting
from declora.state import State
from declora.store import Store
from resumable import OBJECTS, SETTINGS, rounds_of

SPREAD = {
    **SETTINGS, "group_size": 1, "rounds": 2, "schedule": "constant", "warmup": 0, "codec": "q4+choco", "eval_every": 8,
    "client_eval_samples": 0, "clock": "lognormal:links=1",
}  # fmt: skip
"""Evaluated in the last round alone; every room of a state has something in it."""


@pytest.fixture(scope="module", autouse=True)
def plain():
    """Of what a run leaves nothing is looked at here but states; and nothing here pulls the plug."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("declora.simulation.write_run", lambda folder, result, label, log: log.complete())
        patched.setattr(os, "fsync", lambda file: None)
        patched.setattr(os, "sync", lambda: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Four rounds in one process."""
    out = tmp_path_factory.mktemp("whole") / "run"
    declora.simulate(**OBJECTS, **{**SPREAD, "rounds": 4, "out": str(out)})
    return out


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """Two rounds of two ranks in one folder, and of two with a disk of their own."""
    home = tmp_path_factory.mktemp("begun")
    write_ranks([home / "one"] * 2, **OBJECTS, **SPREAD)
    write_ranks([home / "disk0", home / "disk1"], **OBJECTS, **SPREAD)
    return home


@pytest.fixture
def home(begun, tmp_path):
    """Folders of those runs to go on with."""
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return tmp_path


def names(run):
    return sorted(path.name for path in (run / "checkpoints").iterdir())


def states(run):
    """The digest of the state after each round."""
    return [line["state_digest"] for line in rounds_of(run)]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a_run_goes_on_over_as_many_ranks_or_others_or_in_one_process_with_the_same_bits(ranks, home, whole):
    out = home / "one"
    assert names(out) == ["event-00000002", "event-00000002.rank-0001.safetensors"]
    if ranks == 1:
        declora.resume(out, rounds=4, **OBJECTS)
    else:
        write_ranks([out] * ranks, resume=OBJECTS, rounds=4)
    assert states(out) == states(whole)
    assert names(out) == [
        "event-00000002", "event-00000002.rank-0001.safetensors", "event-00000004",
        *(f"event-00000004.rank-000{rank}.safetensors" for rank in range(1, ranks)),
    ]  # fmt: skip
    if ranks == 2:
        assert "consensus_distance" not in rounds_of(out)[0]  # nobody has all adapters then
        found = declora.verify(out, progress=False, **OBJECTS)
        assert found.holds, found
        assert found.notes == ()


def test_ranks_with_disks_of_their_own_go_on_each_with_its_own_shard_and_name_one_that_is_no_more(home, whole, caplog):
    outs = [home / "disk0", home / "disk1"]
    assert [names(out) for out in outs] == [["event-00000002"], ["event-00000002.rank-0001.safetensors"]]
    write_ranks(outs, resume=OBJECTS, rounds=4)
    assert states(outs[0]) == states(whole)
    assert names(outs[0]) == ["event-00000002", "event-00000004"]
    assert names(outs[1]) == [f"event-0000000{event}.rank-0001.safetensors" for event in (2, 4)]
    assert not (outs[1] / "metrics.jsonl").exists()
    shards = [outs[1] / "checkpoints" / name for name in names(outs[1])]
    shards[1].unlink()
    caplog.set_level("INFO", logger="declora")
    write_ranks(outs, resume=OBJECTS)
    assert states(outs[0]) == states(whole)
    (note,) = (record.message for record in caplog.records if "is the checkpoint that is used" in record.message)
    assert note.endswith(
        "event-00000004: rank 1's event-00000004.rank-0001.safetensors is missing. Nor can it be used at rank 1: rank "
        "1's event-00000004.rank-0001.safetensors is missing. Restore it."
    )
    for shard in shards:
        os.truncate(shard, 40)
    with pytest.raises(
        RunFolderError, match=r"event-00000004: .* at rank 1: rank 1's .* has 40 bytes .* event-00000002"
    ):
        write_ranks(outs, resume=OBJECTS, falling=ConfigError)


def test_a_comparison_over_disks_of_their_own_goes_on_with_the_run_that_was_stopped(tmp_path, whole, monkeypatch):
    outs, stops = [tmp_path / "disk0", tmp_path / "disk1"], []
    monkeypatch.setattr("declora.simulation.write_comparison", lambda folder, comparison: None)

    class Stops(declora.Callback):
        def on_round(self, run, record):
            if run.label == "b" and record["round"] == 3 and not stops:
                stops.append(record["round"])
                raise RuntimeError("no power")

    more = {**OBJECTS, "callbacks": [Stops()]}
    more |= {"compare": {"a": {"learning_rate": 1e-3}, "b": {}}}
    left = compare_ranks(outs, monkeypatch, falling=declora.DecloraError, **{**more, **SPREAD, "rounds": 4})
    assert isinstance(left[0], declora.CallbackError)
    assert [names(outs[1] / run)[-1] for run in "ab"] == [
        f"event-0000000{event}.rank-0001.safetensors" for event in (4, 2)
    ]
    before = (outs[0] / "a" / "metrics.jsonl").read_bytes()
    left = compare_ranks(outs, monkeypatch, resume=True, **more)
    assert (outs[0] / "a" / "metrics.jsonl").read_bytes() == before  # nothing of it was run again
    assert states(outs[0] / "b") == states(whole)
    assert [list(one.results) for one in left] == [["a", "b"]] * 2
    assert torch.equal(left[0].results["b"]._outcome.rows[2:], left[1].results["b"]._outcome.rows)
    assert names(outs[1] / "b")[-1] == "event-00000004.rank-0001.safetensors"


def test_ranks_of_one_host_share_a_disk_and_an_earlier_run_there_stays_until_the_end(tmp_path):
    outs = [tmp_path / "a", tmp_path / "b", tmp_path / "b"]
    more = {**OBJECTS, **SPREAD, "rounds": 1}
    write_ranks(outs, **more)
    marker = json.loads((outs[1] / "declora-run.json").read_text())
    with pytest.raises(RunFolderError, match=r"^rank [12]: out='.*b' holds a run\."):
        write_ranks([tmp_path / "c", *outs[1:]], **more)
    seen = []

    class Looks(declora.Part):
        name = "looks"

        def before_round(self, state, plan):
            seen.append(new_beside(outs[1]).is_dir() and (outs[1] / "checkpoints").is_dir())

    write_ranks(outs, **{**more, "overwrite": True, "method": Looks()})
    assert seen == [True] * 3
    assert not new_beside(outs[1]).exists()
    assert json.loads((outs[1] / "declora-run.json").read_text())["run"] != marker["run"]
    assert names(outs[1]) == [f"event-00000001.rank-000{rank}.safetensors" for rank in (1, 2)]


def test_a_folder_of_a_rank_alone_is_no_run_to_go_on_with(home):
    with pytest.raises(
        RunFolderError, match=r"disk1' holds what one rank wrote of its clients\. Go on .* all its ranks"
    ):
        declora.resume(home / "disk1", **OBJECTS)
    with pytest.raises(
        RunFolderError, match=r"rank 1's event-00000002\.rank-0001\.safetensors is missing\. Copy it to '.*checkpoints'"
    ):
        declora.resume(home / "disk0", **OBJECTS)


class Stopped(BaseException):
    """As a signal would: no handler runs."""


@pytest.mark.parametrize("where", [(Collecting, "hear"), (os, "rename"), (Store, "keep")])
def test_wherever_all_are_killed_the_checkpoint_before_is_gone_on_with(where, home, whole, monkeypatch):
    """When a shard is written, and nobody has heard of it; before a checkpoint has its name; and after it has it."""

    def die(*args, **kwargs):
        raise Stopped

    out = home / "one"
    with monkeypatch.context() as patched, contextlib.suppress(Stopped):
        patched.setattr(*where, die)
        write_ranks([out] * 2, resume=OBJECTS, rounds=4)
    gc.collect()  # with it the lock goes, as that of a dead process does
    both = [f"event-0000000{event}{of}" for event in (2, 4) for of in ("", ".rank-0001.safetensors")]
    assert names(out) == [name for name in both if name != "event-00000004" or where[0] is Store]
    result = write_ranks([out] * 2, resume=OBJECTS, rounds=4)
    assert len(result.history) == 4
    assert states(out) == states(whole)
    assert names(out) == both


def test_a_rank_that_cannot_write_costs_that_checkpoint_and_its_name_is_said(tmp_path, monkeypatch):
    write, calls = Store.save_shard, []

    def full_once(store, event, rank, arrays):
        calls.append(event)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(store, event, rank, arrays)

    monkeypatch.setattr(Store, "save_shard", full_once)
    with pytest.warns(
        UserWarning, match=r"'checkpoints' cannot be written: rank 1 \(.*\): no space left on device\. What was saved"
    ):
        write_ranks([tmp_path / "run"] * 2, **OBJECTS, **{**SPREAD, "rounds": 3, "checkpoint_every": 1})
    assert calls == [1, 2, 3]
    assert names(tmp_path / "run") == [
        f"event-0000000{event}{of}" for event in (1, 3) for of in ("", ".rank-0001.safetensors")
    ]  # fmt: skip


def test_of_a_lost_rank_a_checkpoint_has_what_last_came_together(tmp_path):
    seen = {}

    class Falls(declora.Part):
        name = "falls"

        def before_round(self, state, plan):
            if 3 in state.clients:
                seen[plan.event] = state.adapter[-1].clone()
                if plan.event == 3:
                    raise RuntimeError("power failure")

    more = {**SPREAD, "rounds": 4, "checkpoint_every": 1, "eval_every": 2, "method": Falls(), "model": OBJECTS["model"]}
    with pytest.warns(UserWarning, match=r"Rank 1 .* was lost in round 4.* of these clients is of round 2"):
        write_ranks([tmp_path / "run"] * 2, falling=RuntimeError, **{**OBJECTS, **more})
    run = json.loads((tmp_path / "run" / "declora-run.json").read_text())["run"]
    found = Store(tmp_path / "run" / "checkpoints").load(run)
    assert (found.event, found.notes) == (4, ())
    assert np.array_equal(found.arrays["adapter/adapter"][-1], seen[2].numpy())
    assert found.arrays["optimizer/first"][-1].any()
    assert declora.resume(tmp_path / "run", rounds=5, **{**OBJECTS, "method": Falls()}).history["round"].tolist() == [
        1, 2, 3, 4, 5,
    ]  # fmt: skip


def test_between_evaluations_rank_0_hears_digests_and_no_state(tmp_path):
    clusters = memory_clusters(2)
    link, sizes = clusters[1].links[0], {}
    send = link.send

    def weighed(kind, number, content=b""):
        if kind is Kind.REPORT and number > 0:
            sizes[number] = len(content)
        send(kind, number, content)

    link.send = weighed
    write_ranks(
        [tmp_path / "run"] * 2, clusters, **OBJECTS, **{**SPREAD, "rounds": 4, "eval_every": 2, "checkpoint_every": 1}
    )
    state = sum(path.stat().st_size for path in (tmp_path / "run").rglob("event-00000004.rank-0001.safetensors"))
    # The seconds in a report are written with as many digits as they happen to have.
    assert max(sizes[1], sizes[3]) < 1000 < state
    assert min(sizes[2], sizes[4]) > state - 1000


def test_a_digest_of_parts_is_that_of_the_whole_and_tells_every_number_apart():
    def state(rows=slice(0, 5), known=slice(0, 5)):
        rng = np.random.default_rng(0)
        every = {
            "adapter": torch.tensor(rng.random((5, 3), dtype=np.float32)), "dp": rng.integers(0, 9, 5),
            "memory": rng.random((5, 4)), "dis-pfl": rng.random((5, 2)) < 0.5, "none": np.empty((5, 0)),
        }  # fmt: skip
        found = State(every.pop("adapter")[rows], clients=np.arange(5)[rows], known=np.arange(5)[known])
        found.event = 7
        for name, values in every.items():
            found.room(name)["x"] = values[known if name == "memory" else rows].copy()
        if rows.start == 0:
            found.room("clock")["done"] = rng.random(5)
            found.room("clock")["sent"] = rng.random((2, 3))
        return found

    whole = state()
    parts = [state(slice(0, 2), slice(0, 3)), state(slice(2, 3), slice(0, 5)), state(slice(3, 5), slice(1, 5))]
    digests = np.concatenate([part.row_digests() for part in parts])
    assert np.array_equal(digests, whole.row_digests())
    assert parts[0].digest(digests) == whole.digest()
    for name in ("adapter/adapter", "dp/x", "memory/x", "dis-pfl/x", "clock/done", "clock/sent"):
        other = state()
        values = other.rooms[name.partition("/")[0]][name.partition("/")[2]]
        values[-1:] = ~values[-1:] if values.dtype == np.bool_ else values[-1:] + 1
        assert other.digest() != whole.digest()
        assert np.array_equal(other.row_digests()[:-1], digests[:-1])
    other = state()
    other.event += 1
    assert other.digest() != whole.digest()
    other = state()
    other.rooms["again"] = other.rooms.pop("dp")
    assert other.digest() != whole.digest()


def test_digests_of_an_earlier_form_are_not_compared_which_is_said(home):
    lines = rounds_of(home / "one")
    lines[0]["state_digest"] = "blake2b:" + 32 * "0"
    (home / "one" / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = declora.verify(home / "one", progress=False, **OBJECTS)
    assert found.rounds == {"dec-lora": 2}
    assert found.notes == ("dec-lora: digests of the state in 1 of 2 rounds are of an earlier form: not compared.",)


@pytest.mark.parametrize(("disks", "resumed"), [(1, False), (2, True)])
def test_a_rank_that_comes_back_has_what_is_in_its_part_of_the_last_checkpoint(disks, resumed, tmp_path):
    clusters = memory_clusters(2, HashStore())
    falls = Noting(clusters, dies=2, waits=3)
    outs = [tmp_path / f"run{rank % disks}" for rank in range(2)]
    more = {**OBJECTS, **SPREAD, "checkpoint_every": 1, "learning_rate": 1e-2, "method": falls, "rounds": 5}
    if resumed:
        write_ranks(outs, **{**more, "method": Noting([]), "rounds": 1})
        more = {"resume": {**OBJECTS, "method": falls}, "rounds": 5}
    with pytest.warns(UserWarning, match="came back in round 4 with what these clients had after round 2"):
        result = write_ranks(outs, clusters, again={1}, **more)
    assert result.history["clients_lost"].fillna(0).tolist() == [0, 0, 2, 0, 0]
    for client in (2, 3):
        assert 0 < (falls.before[3][client] - falls.after[1][client]).abs().max() < 0.05  # its steps of one round
    assert torch.equal(result._outcome.rows[2:].double(), torch.stack([falls.after[4][client] for client in (2, 3)]))
    for event in (3, 4):
        kept = [torch.stack(list(rows[event].values())).mean(0) for rows in (falls.before, falls.after)]
        assert torch.allclose(*kept, atol=1e-7)
