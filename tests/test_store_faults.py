"""The store on a disk that fails: at whatever call it does, a whole checkpoint is found, and the next save succeeds."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from declora.store import Checkpoint, Store

RUN = "0123456789abcdef"
CALLS = ("open", "write", "fsync", "rename", "mkdir", "unlink", "rmdir")


def checkpoint(event):
    return Checkpoint(RUN, event, {"adapter": np.full((3, 5), event, dtype=np.float32)}, {"event": event})


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "checkpoints")
    for event in (10, 20):
        store.save(checkpoint(event))
    return store


def failing(monkeypatch, fault, *, from_call):
    """Lets `fault(n)` see each call by which a store changes the disk, from 0 on; returns the names of those."""
    seen = []

    def watched(name, function):
        def run(*args, **kwargs):
            seen.append(name)
            if fault(len(seen) - 1, from_call):
                raise OSError(errno.ENOSPC, "No space left on device")
            return function(*args, **kwargs)

        return run

    for name in CALLS:
        monkeypatch.setattr(os, name, watched(name, getattr(os, name)))
    monkeypatch.setattr(safetensors.numpy, "save_file", watched("save_file", safetensors.numpy.save_file))
    return seen


def once(n, from_call):
    return n == from_call


def for_good(n, from_call):
    return n >= from_call


def _count(tmp_path_factory):
    store = Store(tmp_path_factory)
    for event in (10, 20):
        store.save(checkpoint(event))
    with pytest.MonkeyPatch.context() as patched:
        seen = failing(patched, once, from_call=-1)
        store.save(checkpoint(30))
    return seen


def test_a_save_syncs_each_file_before_the_manifest_and_the_manifest_before_the_name(tmp_path):
    seen = _count(tmp_path / "checkpoints")
    assert [name for name in seen if name in ("save_file", "write", "fsync", "rename")] == [
        *("save_file", "fsync"), *("write", "fsync"), *("write", "fsync"), "fsync",  # state, about, manifest, folder
        *("rename", "fsync"),  # into its place, and that its folder says so
        "rename",  # the oldest gives up its name before it is removed
    ]  # fmt: skip


@pytest.mark.parametrize("fault", [once, for_good])
def test_wherever_a_save_fails_the_checkpoint_before_it_is_found_and_the_next_save_goes_well(store, tmp_path, fault):
    calls = len(_count(tmp_path / "counted"))
    assert calls > 15
    for n in range(calls):
        copy = Store(tmp_path / f"{n}")
        for event in (10, 20):
            copy.save(checkpoint(event))
        with pytest.MonkeyPatch.context() as patched:
            seen = failing(patched, fault, from_call=n)
            with pytest.raises(OSError, match=r"[Nn]o space left on device"):
                copy.save(checkpoint(30))
            assert len(seen) > n
        found = copy.load(RUN)
        assert found.event in (20, 30)
        assert found.notes == ()
        np.testing.assert_array_equal(found.arrays["adapter"], checkpoint(found.event).arrays["adapter"])
        copy.save(checkpoint(40))
        assert sorted(path.name for path in copy.folder.iterdir()) == [
            f"event-000000{found.event}", "event-00000040",
        ]  # fmt: skip
        assert copy.load(RUN).event == 40


def test_a_folder_that_cannot_be_synced_as_on_some_network_disks_is_no_error(store, monkeypatch):
    fsync = os.fsync

    def refuse_folders(file):
        if os.path.isdir(f"/proc/self/fd/{file}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(file)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    store.save(checkpoint(30))
    assert store.load(RUN).event == 30


FILLS_UP = """
import resource, signal, sys
import numpy as np
from pathlib import Path
from declora.store import Checkpoint, Store
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
RUN = "0123456789abcdef"
store = Store(Path(sys.argv[1]))
try:
    store.save(Checkpoint(RUN, 30, {"adapter": np.zeros(10**6, dtype=np.float32)}))
except OSError as error:
    print(f"OSError: {error}")
print(store.load(RUN).event, sorted(path.name for path in store.folder.iterdir()))
"""


def test_a_file_that_really_cannot_grow_is_an_error_of_the_system(store):
    """No patch: the kernel refuses the bytes, wherever in the library they are written."""
    done = subprocess.run(
        [sys.executable, "-c", FILLS_UP, str(store.folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode not in (-signal.SIGXFSZ, 1), done.stderr
    said, left = done.stdout.splitlines()
    assert said.startswith("OSError: ")
    assert "File too large" in said
    assert left == "20 ['event-00000010', 'event-00000020']"
