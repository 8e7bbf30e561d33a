"""The core in forked children: they neither hang nor compute anything else than their parent."""

import os
import subprocess
import sys
import textwrap

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# Every kind of call, on rows long enough that threads share the work.
EVERYTHING = """
import hashlib, multiprocessing, os, sys
import numpy as np
from declora import _bridge

def results(_=None):
    n, d = 4, 100_000
    x = np.random.default_rng(0).standard_normal((n, d)).astype(np.float32)
    w = _bridge.MixingMatrix(np.arange(n + 1) * n, np.tile(np.arange(n), n), np.full(n * n, 1.0 / n))
    ids = {"run_id": bytes(16), "manifest": bytes(16)}
    ids |= {"round": 0, "senders": np.arange(n, dtype=np.uint32)}
    found = [np.float64(_bridge.consensus_distance(x))]
    for name in ("q4", "eden:bits=2", "topk", "none", "q2+rans"):
        codec, mixed = _bridge.Codec(name), x.copy()
        frames = np.zeros((n, _bridge.HEADER_BYTES + codec.payload_bytes(d)), np.uint8)
        _bridge.encode_frames(codec, x, frames, seed=1, **ids)
        w.mix_frames(_bridge.check_frames(codec, frames, d, **ids), mixed, 0.7)
        found += [frames, mixed]
    median, mask = x.copy(), np.empty_like(x)
    _bridge.median(w, x, median, 1.0)
    _bridge.dropout_mask(mask, rate=0.1, seed=1, step=2, clients=ids["senders"], samples=ids["senders"])
    return hashlib.sha256(b"".join(part.tobytes() for part in [*found, median, mask])).hexdigest()

def forked(work):
    "What `work` returns in a forked child, as text."
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, str(work()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return text
"""


def run(script):
    """Runs `script` after EVERYTHING in a process of its own, which may take a minute: a hang is a failure."""
    code = EVERYTHING + textwrap.dedent(script)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_child_has_the_results_of_a_parent_that_worked_before(threads):
    run(f"""
        _bridge.set_threads({threads})
        want = results()
        assert forked(results) == want, "the child computes something else"
        assert forked(lambda: forked(results)) == want, "so does its own child"
        assert results() == want, "the parent no longer works"
    """)


def test_a_child_of_a_parent_that_never_worked_works():
    run("assert forked(results) == results()")


def test_a_child_keeps_the_number_of_threads_and_may_change_it():
    run("""
        _bridge.set_threads(3)
        results()
        assert forked(_bridge.threads) == "3"
        def changed():
            _bridge.set_threads(2)
            return _bridge.threads(), results()
        assert forked(changed) == str((2, results()))
        _bridge.set_threads(0)
        assert forked(_bridge.threads) == str(_bridge.threads())
    """)


def test_a_pool_of_forked_processes_works_while_the_parent_does():
    run("""
        import threading
        want = results()
        busy = threading.Thread(target=lambda: [results() for _ in range(5)])
        busy.start()
        with multiprocessing.get_context("fork").Pool(3) as pool:
            assert pool.map(results, range(6)) == [want] * 6
        busy.join()
    """)
