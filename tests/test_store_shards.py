"""Shards: what other ranks write of a checkpoint counts once a manifest names it, and is what it was then."""

import json
import os

import numpy as np
import pytest

from declora.errors import RunFolderError
from declora.store import Checkpoint, Shard, Store, UnsoundCheckpoint, manifest
from test_store_faults import failing, for_good, once

RUN = "0123456789abcdef"


def rows(event, rank):
    """What a rank has of the clients that are its own: two of them."""
    rng = np.random.default_rng([event, rank])
    return {
        "adapter": rng.standard_normal((2, 5), dtype=np.float32),
        "steps": np.full(2, event + rank, dtype=np.int64),
        "none": np.empty((2, 0), dtype=np.float32),
    }


def save(store, event, ranks=3, own=None):
    """Writes a checkpoint as ranks do; `own` has the stores of those with a disk of their own."""
    shards = [
        (own or {}).get(rank, store).save_shard(event, rank, rows(event, rank)) for rank in range(1, ranks)
    ]  # fmt: skip
    about = {"event": event}
    store.save(Checkpoint(RUN, event, {**rows(event, 0), "clock": np.arange(3.0)}, about, tuple(shards)))
    return shards


def same(found, event, ranks=3):
    assert found.event == event
    for name in rows(event, 0):
        whole = np.concatenate([rows(event, rank)[name] for rank in range(ranks)])
        np.testing.assert_array_equal(found.arrays[name], whole, strict=True)
    np.testing.assert_array_equal(found.arrays["clock"], np.arange(3.0), strict=True)


def names(store):
    return sorted(path.name for path in store.folder.iterdir())


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "checkpoints")


def test_rows_of_all_ranks_are_found_together_and_the_last_two_checkpoints_kept(store):
    for event in (10, 20, 30):
        save(store, event)
        same(store.load(RUN), event)
    assert names(store) == [
        name
        for event in (20, 30)
        for name in (
            f"event-000000{event}",
            f"event-000000{event}.rank-0001.safetensors",
            f"event-000000{event}.rank-0002.safetensors",
        )
    ]
    assert all(Store.owns(name) for name in (*names(store), "new-0001", "new-0012/x"))
    for name in ("event-00000020.rank-1.safetensors", "event-00000020.rank-0000.safetensors", "new-1", "x.safetensors"):
        assert not Store.owns(name)


def test_another_number_of_ranks_may_go_on(store):
    save(store, 10, ranks=4)
    save(store, 20, ranks=2)
    same(store.load(RUN), 20, ranks=2)
    save(store, 30, ranks=1)
    same(store.load(RUN), 30, ranks=1)
    assert json.loads((store.folder / "event-00000030" / "manifest.json").read_text())["version"] == 1
    save(store, 40, ranks=1)
    assert names(store) == ["event-00000030", "event-00000040"]


def damage_of(name):
    def change(folder):
        path = folder / f"event-00000020.{name}"
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)

    return change


DAMAGE = {
    "a bit": (
        damage_of("rank-0002.safetensors"),
        r"rank 2's event-00000020\.rank-0002\.safetensors does not have the checksum",
    ),
    "half": (
        lambda folder: os.truncate(folder / "event-00000020.rank-0001.safetensors", 40),
        r"rank 1's event-00000020\.rank-0001\.safetensors has 40 bytes instead of [\d,]+\. Copy it to '.*checkpoints' "
        r"from where rank 1 wrote it, or start as many ranks as then\.$",
    ),
    "none": (
        lambda folder: (folder / "event-00000020.rank-0001.safetensors").unlink(),
        r"rank 1's event-00000020\.rank-0001\.safetensors is missing",
    ),
    "a link": (
        lambda folder: (
            (folder / "event-00000020.rank-0001.safetensors").rename(folder / "x"),
            (folder / "event-00000020.rank-0001.safetensors").symlink_to("x"),
        ),
        r"rank-0001\.safetensors is not a file",
    ),
    "that of another event": (
        lambda folder: (folder / "event-00000010.rank-0001.safetensors").replace(
            folder / "event-00000020.rank-0001.safetensors"
        ),
        r"rank-0001\.safetensors does not have the checksum",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_shard_that_is_not_as_it_was_written_is_named_with_its_rank_and_the_one_before_used(store, what):
    change, said = DAMAGE[what]
    save(store, 10)
    save(store, 20)
    kept = (store.folder / "event-00000010.rank-0001.safetensors").read_bytes()
    change(store.folder)
    (store.folder / "event-00000010.rank-0001.safetensors").write_bytes(kept)
    found = store.load(RUN)
    same(found, 10)
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(*found.notes)


@pytest.mark.parametrize(
    "edit",
    [
        lambda shards: shards | {"event-00000020.rank-0004.safetensors": next(iter(shards.values()))},
        lambda shards: dict(reversed(shards.items())),
        lambda shards: {"../../x": next(iter(shards.values()))},
        lambda shards: {name: {} for name in shards},
        lambda shards: list(shards),
    ],
)
def test_a_manifest_that_names_other_shards_than_ranks_write_is_refused(store, edit):
    save(store, 10)
    save(store, 20)
    path = store.folder / "event-00000020" / "manifest.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said | {"shards": edit(said["shards"])}, indent=1) + "\n")
    found = store.load(RUN)
    same(found, 10)
    assert "event-00000020: manifest.json " in found.notes[0]


def test_shards_that_do_not_go_together_are_refused(store):
    wrong = {**rows(20, 1), "adapter": np.zeros((2, 6), dtype=np.float32)}
    save(store, 10)
    store.save(Checkpoint(RUN, 20, rows(20, 0), {}, (store.save_shard(20, 1, wrong),)))
    assert "its shards do not have 'adapter' alike" in store.load(RUN).notes[0]
    store.save(Checkpoint(RUN, 30, rows(30, 0), {}, (store.save_shard(30, 1, {"adapter": wrong["adapter"]}),)))
    with pytest.raises(RunFolderError, match="no checkpoint that can be used"):
        store.load(RUN)


def test_a_shard_on_another_disk_is_asked_for_and_kept_as_long_as_rank_0_says(tmp_path):
    store, other = Store(tmp_path / "here"), Store(tmp_path / "there")
    asked = []

    def elsewhere(shard, why):
        asked.append((shard.event, shard.rank, str(why)))
        return other.read_shard(shard)

    for event in (10, 20, 30):
        save(store, event, ranks=2, own={1: other})
        other.keep(store.events(), 1)
    same(store.load(RUN, elsewhere=elsewhere), 30, ranks=2)
    assert asked == [(30, 1, "rank 1's event-00000030.rank-0001.safetensors is missing.")]
    assert names(other) == ["event-00000020.rank-0001.safetensors", "event-00000030.rank-0001.safetensors"]
    os.truncate(other.folder / names(other)[1], 3)
    found = store.load(RUN, elsewhere=elsewhere)
    same(found, 20, ranks=2)
    assert "rank-0001.safetensors has 3 bytes" in found.notes[0]
    with pytest.raises(RunFolderError, match=r"is missing\. Copy it to '.*here' from where rank 1 wrote it"):
        store.load(RUN, elsewhere=lambda shard, why: None)


def test_a_shard_that_no_manifest_came_to_name_is_nothing_and_goes(store):
    save(store, 10)
    save(store, 20)
    store.save_shard(30, 1, rows(30, 1))  # and then all were killed
    (store.folder / "new-0002").mkdir()
    (store.folder / "new-0002" / ".tmp1").touch()
    same(store.load(RUN), 20)
    assert store.load(RUN).notes == ()
    store.keep([10, 20], rank=2)
    assert "event-00000030.rank-0001.safetensors" in names(store)  # it may be for a checkpoint to come
    save(store, 40)
    assert [name for name in names(store) if "00000030" in name or name.startswith("new")] == []
    store.save_shard(50, 1, rows(50, 1))
    store.keep([20, 40], rank=1)  # rank 0 has said that it is not
    assert "event-00000050.rank-0001.safetensors" not in names(store)


@pytest.mark.parametrize("fault", [once, for_good])
def test_wherever_writing_fails_the_checkpoint_before_is_whole_and_the_next_goes_well(tmp_path, fault, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)  # nothing here pulls the plug
    counted = Store(tmp_path / "counted")
    for event in (10, 20):
        save(counted, event, ranks=2)
    with pytest.MonkeyPatch.context() as patched:
        seen = failing(patched, once, from_call=-1)
        save(counted, 30, ranks=2)
    assert [name for name in seen if name in ("save_file", "fsync", "rename", "replace")][:3] == [
        "save_file", "fsync", "fsync",  # the shard, and that its folder has its name, before rank 0 begins
    ]  # fmt: skip
    assert len(seen) > 20
    for n in range(len(seen)):
        store = Store(tmp_path / f"{n}")
        for event in (10, 20):
            save(store, event, ranks=2)
        with pytest.MonkeyPatch.context() as patched:
            failing(patched, fault, from_call=n)
            with pytest.raises(OSError, match=r"[Nn]o space left on device"):
                save(store, 30, ranks=2)
        found = store.load(RUN)
        assert found.event in (20, 30)
        assert found.notes == ()
        same(found, found.event, ranks=2)
        save(store, 40, ranks=2)
        assert names(store) == sorted(
            name
            for event in (found.event, 40)
            for name in (f"event-000000{event}", f"event-000000{event}.rank-0001.safetensors")
        )


def test_a_forged_shard_is_refused_without_a_traceback_of_a_library(store):
    """Its checksum is right, so that safetensors gets to see it."""
    save(store, 10, ranks=2)
    save(store, 20, ranks=2)
    path = store.folder / "event-00000020.rank-0001.safetensors"
    path.write_bytes((2**63 - 1).to_bytes(8, "little"))
    folder = store.folder / "event-00000020"
    forged = Shard(20, 1, **manifest.sound.describe(path))
    manifest.write(folder, [forged])
    with pytest.raises(UnsoundCheckpoint, match=r"rank 1's event-00000020\.rank-0001\.safetensors cannot be read: "):
        store.read_shard(forged)
    same(store.load(RUN), 10, ranks=2)
