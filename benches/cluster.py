"""Runs federations over several processes: the bits of one, and what becomes of runs whose ranks are killed.

    python benches/cluster.py --kills 50 --ranks 8     # ranks are killed or stopped at random; all others end the run
    python benches/cluster.py --kills 50 --again       # and are started again: all end the run
    python benches/cluster.py --equal                  # every kind of run that can be spread, over 2 and 4 ranks
    python benches/cluster.py --bytes                  # what a rank tells rank 0 in a round, where checkpoints are kept
    python benches/cluster.py --rate                   # how fast frames go from one process to another of this machine

Tiny models and made-up texts (`tests/resumable.py`). The ranks of the first are processes over gloo, those of the
second threads. Ends with an error where anything is not as it should be.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import torch
from torch.distributed import TCPStore

from clusters import memory_clusters, run_ranks
from declora import ConfigError, SimulationConfig
from declora.cluster import Cluster, Kind
from declora.codec import parse_codec
from declora.report import Earlier
from declora.simulation import configs_of, ready
from forked_ranks import forked, load
from resumable import OBJECTS, SETTINGS, SPREAD_RUNS, model_of
from tiny import tiny_bert


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="runs in which one to three ranks are lost")
    parser.add_argument("--ranks", type=int, default=8)
    parser.add_argument("--again", action="store_true", help="start those that are lost again")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--equal", action="store_true", help="compare bits instead")
    parser.add_argument("--bytes", action="store_true", help="weigh what a rank tells rank 0 instead")
    parser.add_argument("--rate", action="store_true", help="time frames from process to process instead")
    options = parser.parse_args()
    if options.equal:
        compare()
    elif options.rate:
        send()
    elif options.bytes:
        weigh()
    else:
        kill(options.kills, options.ranks, np.random.default_rng(options.seed), again=options.again)


def kill(runs: int, ranks: int, draws: np.random.Generator, *, again: bool) -> None:
    """Loses ranks at random, never the first, which says how the run went; or has them come back."""
    load()
    start, killed, stopped = time.perf_counter(), 0, 0
    folder = tempfile.mkdtemp()  # not one that a process which was forked here would clear away at its end
    for number in range(runs):
        lost = draws.choice(np.arange(1, ranks), size=int(draws.integers(1, min(4, ranks))), replace=False)
        fates = {int(r): (str(draws.choice(["SIGKILL", "SIGSTOP"])), int(draws.integers(0, 8))) for r in lost}
        rounds = 8 + (2 * len(fates) + 1) * again  # others are in the next at most when rank 0 waits
        own = {"clients": ranks, "patience": 5.0, "rounds": rounds}
        found = forked(ranks, os.path.join(folder, "said.json"), fates, 8 if again else None, **own)
        wanted = {"SIGKILL": -9, "SIGSTOP": None}
        exits = [wanted[fates[rank][0]] if rank in fates and not again else 0 for rank in range(ranks)]
        named = all(f"Rank {rank} with" in found["notes"] for rank in fates)
        back = sum(f"Rank {rank} with clients {rank} to {rank} came back" in found["notes"] for rank in fates)
        left = None if again else len(fates)
        if (found["exits"], found["rounds"], found["clients_lost"][-1:], named) != (
            exits,
            rounds,
            [left],
            True,
        ) or back != len(fates) * again:
            sys.exit(f"run {number}: {fates}: {found}")
        killed += sum(what == "SIGKILL" for what, _ in fates.values())
        stopped += sum(what == "SIGSTOP" for what, _ in fates.values())
        print(f"{number + 1}/{runs}: {fates}", flush=True)
    shutil.rmtree(folder)
    seconds = time.perf_counter() - start
    print(
        f"{runs} of {runs} runs over {ranks} processes complete: {killed} ranks killed, {stopped} stopped, each named; "
        f"all{' of them came back, and all ranks' if again else ' others'} ended with status 0; {seconds:.0f} s"
    )


def compare() -> None:
    """Runs every kind over two ranks and four, and in one process."""
    start, equal = time.perf_counter(), 0
    for name, more in SPREAD_RUNS.items():
        chosen = {**OBJECTS, **SETTINGS, "out": tempfile.gettempdir(), "rounds": 3, "group_size": 1, **more}
        try:
            (run,) = ready(configs_of(SimulationConfig(**{**chosen, "model": model_of()}))).values()
            begun = Earlier.nothing()
            whole = run.execute(earlier=begun)
            for ranks in (2, 4):
                _, left = run_ranks(ranks, earlier=begun, **{**chosen, "model": model_of()})
                digests = (left[0].history["state_digest"], whole.history["state_digest"])
                if not torch.equal(left[0].rows, whole.rows) or list(digests[0]) != list(digests[1]):
                    sys.exit(f"{name}: {ranks} ranks give other bits")
        except ConfigError as error:
            print(f"{name}: refused, {error}")
            continue
        equal += 1
        print(f"{name}: equal", flush=True)
    print(f"{equal} kinds of runs have the bits of one process over 2 and 4 ranks; {time.perf_counter() - start:.0f} s")


def weigh() -> None:
    """Counts the bytes of what one of two ranks tells the first of each round."""
    clusters, sizes = memory_clusters(2), {}
    link = clusters[1].links[0]

    def weighed(kind: Kind, number: int, content: bytes = b"", send: Callable[..., None] = link.send) -> None:
        if kind is Kind.REPORT:
            sizes[number] = len(content)
        send(kind, number, content)

    link.send = weighed
    more = {"clients": 8, "rounds": 2, "eval_every": 2, "group_size": 1, "codec": "q4+choco", "lora": {"r": 8}}
    model = tiny_bert(width=64, layers=2)
    _, left = run_ranks(2, clusters, **{**OBJECTS, **SETTINGS, **more, "model": model, "out": tempfile.gettempdir()})
    print(
        f"a rank with 4 clients of {left[0].rows.shape[1]:,} numbers tells rank 0 {sizes[1]:,} bytes of a round, and "
        f"{sizes[2]:,} of one with an evaluation"
    )


def send(clients: int = 128, numbers: int = 591_362, turns: int = 7) -> None:
    """Times a round between two processes: each sends the other a frame of each of its clients.

    Args:
        clients: Of each process.
        numbers: Of an adapter; those of rank 16 on query and value of BERT-base by default.
        turns: How often each is timed, in turn with a copy of as many bytes.
    """
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    child = os.fork()
    if child:
        link = Cluster(0, 2, store).reach(1)
    else:
        link = Cluster(1, 2, TCPStore("127.0.0.1", store.port, is_master=False)).reach(0)
    for codec in ("q4", "none"):
        size = parse_codec(codec).payload_bytes(numbers)
        frames, seconds = np.ones(clients * size, dtype=np.uint8), []
        for turn in range(turns):
            start = time.perf_counter()
            copied = frames.copy()
            middle = time.perf_counter()
            link.send(Kind.FRAMES, turn, copied)
            came = link.receive(Kind.FRAMES, turn)
            link.send(Kind.TAKEN, turn)
            link.receive(Kind.TAKEN, turn)
            seconds.append((middle - start, time.perf_counter() - middle))
            assert came.nbytes == frames.nbytes
        copy, both = np.median(seconds, axis=0)
        if child:
            what, speed = f"{clients} frames of {size:,} bytes", 2 * len(frames) / both / 1e9
            print(f"{codec}: {what} each way in {both:.3f} s, {speed:.2f} GB/s; copied {copy:.3f} s")
    link.end()
    if not child:
        os._exit(0)  # what is to be done at the end of a process, its parent does
    os.waitpid(child, 0)


if __name__ == "__main__":
    main()
