"""The store of checkpoints: what was saved is found again bit for bit, and nothing that was changed since is."""

import dataclasses
import json
import os
import shutil

import numpy as np
import pytest

from declora.errors import RunFolderError
from declora.store import Checkpoint, Store, UnsoundCheckpoint

RUN = "0123456789abcdef"


def state(event):
    """Every dtype that a state has, a number alone, nothing at all, and rows that are not contiguous."""
    rng = np.random.default_rng(event)
    return {
        "adapter": rng.standard_normal((3, 7), dtype=np.float32),
        "optimizer/steps": np.full((3, 1), event, dtype=np.int64),
        "mixer/numerators": rng.standard_normal((7, 3)).T,
        "memory/mask": rng.random(5) < 0.5,
        "memory/weight": np.float64(0.1 * event) * np.ones(()),
        "memory/none": np.empty((0, 7), dtype=np.float32),
    }


def checkpoint(event, **about):
    return Checkpoint(RUN, event, state(event), {"settings": {"clients": 3, "gamma": None}, **about})


def same(found, event):
    expected = checkpoint(event)
    assert found.event == event
    assert found.about == expected.about
    assert found.arrays.keys() == expected.arrays.keys()
    for name, values in expected.arrays.items():
        np.testing.assert_array_equal(found.arrays[name], values, strict=True)


def snapshot(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "checkpoints")


@pytest.fixture
def full(store):
    """A store with the checkpoints of events 10 and 20."""
    for event in (10, 20):
        store.save(checkpoint(event))
    return store


def test_a_store_without_checkpoints_has_none_and_reading_makes_nothing(store):
    assert store.load(RUN) is None
    assert not store.folder.exists()


def test_what_was_saved_is_found_bit_for_bit(store):
    store.save(checkpoint(10))
    found = store.load(RUN)
    same(found, 10)
    assert found.notes == ()


def test_the_last_two_are_kept_and_nothing_else_stays(store):
    for event in (5, 10, 15, 20):
        store.save(checkpoint(event))
        same(store.load(RUN), event)
    assert sorted(path.name for path in store.folder.iterdir()) == ["event-00000015", "event-00000020"]
    assert all(Store.owns(path) for path in snapshot(store.folder))


def test_a_checkpoint_of_an_event_takes_the_place_of_those_after_it(full):
    full.save(checkpoint(15))
    same(full.load(RUN), 15)
    assert sorted(path.name for path in full.folder.iterdir()) == ["event-00000010", "event-00000015"]


def test_what_an_interrupted_save_left_is_never_read_and_goes_with_the_next(full):
    for name in ("new", "old"):
        shutil.copytree(full.folder / "event-00000020", full.folder / name)
    (full.folder / "new" / ".tmp123").write_text("of a library")
    assert all(Store.owns(path) for path in snapshot(full.folder))
    same(full.load(RUN), 20)
    full.save(checkpoint(30))
    assert sorted(path.name for path in full.folder.iterdir()) == ["event-00000020", "event-00000030"]


def test_a_users_file_in_a_checkpoint_is_not_declora_s_and_stays(full):
    note = full.folder / "event-00000010" / "notes.md"
    note.write_text("precious")
    assert not Store.owns("event-00000010/notes.md")
    assert not Store.owns("notes.md")
    with pytest.raises(OSError, match=r"what is older cannot be removed, 'event-00000010/notes\.md' is not declora's"):
        full.save(checkpoint(30))
    same(full.load(RUN), 30)
    assert note.read_text() == "precious"


def test_what_has_no_form_in_json_leaves_the_ones_before(full):
    before = snapshot(full.folder)
    with pytest.raises(TypeError):
        full.save(checkpoint(30, settings={1, 2}))
    with pytest.raises(ValueError, match="not JSON compliant"):
        full.save(checkpoint(30, rate=float("nan")))
    assert snapshot(full.folder) == before


# What is wrong, by how it was made, and how it is called.
def _flip(name, at):
    def change(folder):
        data = bytearray((folder / name).read_bytes())
        data[at] ^= 1
        (folder / name).write_bytes(data)

    return change


def _cut(name, least):
    return lambda folder: os.truncate(folder / name, least)


def _rewrite(name, **changes):
    def change(folder):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | changes, indent=1) + "\n")

    return change


DAMAGE = {
    "a bit of the state": (_flip("state.safetensors", -1), r"state\.safetensors does not have the checksum"),
    "a bit of its header": (_flip("state.safetensors", 9), r"state\.safetensors does not have the checksum"),
    "a bit of about": (_flip("about.json", 3), r"about\.json does not have the checksum"),
    "a bit of the manifest": (_flip("manifest.json", -2), r"manifest\.json is not JSON"),
    "half a state": (_cut("state.safetensors", 40), r"state\.safetensors has 40 bytes instead of "),
    "half a manifest": (_cut("manifest.json", 100), r"manifest\.json is not JSON"),
    "no manifest": (lambda folder: (folder / "manifest.json").unlink(), r"manifest\.json is missing"),
    "no state": (lambda folder: (folder / "state.safetensors").unlink(), r"state\.safetensors is missing"),
    "a file more": (lambda folder: (folder / "more.json").touch(), r"more\.json does not belong there"),
    "a pipe": (
        lambda folder: ((folder / "about.json").unlink(), os.mkfifo(folder / "about.json")),
        r"about\.json is not a file",
    ),
    "a file": (lambda folder: (shutil.rmtree(folder), folder.touch()), "it is not a folder"),
    "a long manifest": (_cut("manifest.json", 10**9), "it has more than 1,048,576 bytes"),
    "a deep manifest": (lambda folder: (folder / "manifest.json").write_text("[" * 60_000), "it cannot be read"),
    "another format": (_rewrite("manifest.json", format="x"), r"manifest\.json is not a checkpoint's"),
    "a later version": (_rewrite("manifest.json", version=3), r"of version 3; this declora reads versions 1 and 2"),
    "no list of files": (_rewrite("manifest.json", files=[]), r"manifest\.json lists no files"),
    "an empty list of files": (_rewrite("manifest.json", files={}), r"manifest\.json does not say what about\.json is"),
    "a manifest that says more": (_rewrite("manifest.json", more=1), r"manifest\.json is not as it was written"),
    "the one before": (
        lambda folder: (shutil.rmtree(folder), shutil.copytree(folder.with_name("event-00000010"), folder)),
        r"about\.json says that it is the one of event 10",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_checkpoint_is_refused_by_name_and_the_one_before_it_used(full, what):
    damage, said = DAMAGE[what]
    damage(full.folder / "event-00000020")
    found = full.load(RUN)
    same(found, 10)
    (note,) = found.notes
    assert note.startswith(
        "event-00000010 is the checkpoint that is used, since a newer one cannot be: event-00000020: "
    )
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(note)


def test_where_none_is_sound_each_is_named_with_the_fix(full):
    for event in (10, 20):
        _cut("state.safetensors", event)(full.folder / f"event-000000{event}")
    with pytest.raises(
        RunFolderError,
        match=r"checkpoints' has no checkpoint that can be used\. event-00000020: state\.safetensors has 20 bytes "
        r"instead of [\d,]+\. event-00000010: state\.safetensors has 10 bytes .* or start the run again\.$",
    ):
        full.load(RUN)


def test_a_checkpoint_of_another_run_is_refused(full, tmp_path):
    other = Store(tmp_path / "other")
    other.save(dataclasses.replace(checkpoint(30), run="fedcba9876543210"))
    shutil.copytree(other.folder / "event-00000030", full.folder / "event-00000030")
    found = full.load(RUN)
    same(found, 20)
    assert found.notes[0].endswith("event-00000030: about.json says that it is another run's.")


def test_what_the_caller_finds_unfit_is_passed_over(full):
    def check(found):
        if found.event == 20:
            raise UnsoundCheckpoint("metrics.jsonl has 12 lines.")

    found = full.load(RUN, check)
    same(found, 10)
    assert found.notes[0].endswith("event-00000020: metrics.jsonl has 12 lines.")


def test_a_forged_state_is_refused_without_a_traceback_of_a_library(full):
    """Its checksum is right, so that safetensors gets to see it: a header that promises what is not there."""
    from declora.store import manifest

    folder = full.folder / "event-00000020"
    for header in (
        (2**63 - 1).to_bytes(8, "little"),
        _safetensors({"adapter": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}),
        _safetensors({"adapter": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}) + bytes(4),
        _safetensors({"adapter": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}) + bytes(8),
    ):
        (folder / "state.safetensors").write_bytes(header)
        (folder / "manifest.json").unlink()
        manifest.write(folder)
        found = full.load(RUN)
        same(found, 10)
        assert "event-00000020: state.safetensors cannot be read: " in found.notes[0]
    (folder / "about.json").write_text('{"event": true, "run": "' + RUN + '", "about": {}}')
    (folder / "manifest.json").unlink()
    manifest.write(folder)
    assert "about.json is not what a checkpoint holds" in full.load(RUN).notes[0]


def _safetensors(header):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def _corrupt(folder, rng):
    """Changes one checkpoint at random; returns what was done."""
    files = sorted(path for path in folder.iterdir())
    path = files[rng.integers(len(files))]
    data = path.read_bytes()
    kinds = ("bit", "byte", "cut", "grow", "zero", "remove", "swap", "add", "rename", "insert")
    kind = kinds[rng.integers(len(kinds))]
    at = int(rng.integers(len(data)))
    if kind == "bit":
        path.write_bytes(data[:at] + bytes([data[at] ^ (1 << int(rng.integers(8)))]) + data[at + 1 :])
    elif kind == "byte":
        path.write_bytes(data[:at] + bytes([(data[at] + int(rng.integers(1, 256))) % 256]) + data[at + 1 :])
    elif kind == "cut":
        path.write_bytes(data[:at])
    elif kind == "grow":
        path.write_bytes(data + rng.bytes(int(rng.integers(1, 100))))
    elif kind == "zero":
        path.write_bytes(data[:at] + b"\x01" * (len(data) - at) if data[at:] != b"\x01" * (len(data) - at) else b"")
    elif kind == "remove":
        path.unlink()
    elif kind == "swap":
        other = files[(files.index(path) + 1) % len(files)]
        content = other.read_bytes()
        other.write_bytes(data)
        path.write_bytes(content)
    elif kind == "add":
        (folder / f"x{at}").write_bytes(data)
    elif kind == "rename":
        path.rename(folder / f"{path.name}.bak")
    else:
        path.write_bytes(data[:at] + rng.bytes(1) + data[at:])
    return f"{kind} {path.name} at {at}"


def test_of_300_random_corruptions_none_is_accepted(full, tmp_path):
    """Each is of the newest checkpoint, of the one before it, or of both: what is left is used, or nothing."""
    rng = np.random.default_rng(16)
    for _ in range(300):
        copy = Store(tmp_path / "copy")
        shutil.copytree(full.folder, copy.folder)
        hit = [[20], [10], [10, 20]][rng.integers(3)]
        done = [_corrupt(copy.folder / f"event-000000{event}", rng) for event in hit]
        if len(hit) == 2:
            with pytest.raises(RunFolderError, match=r"event-00000020: .* event-00000010: "):
                copy.load(RUN)
        else:
            found = copy.load(RUN)
            assert found.event == 30 - hit[0], done
            assert len(found.notes) == (hit == [20]), done
            same(found, found.event)
        shutil.rmtree(copy.folder)
