"""Simulation speed: declora beside a plain PEFT loop and Flower, the same work in turns; prints a table and keeps it.

Run `python benches/simulate.py` on an idle machine. All train 10 clients for K = 5 steps a round from the same adapter
on the same batches and average exactly (FedAvg), with fresh AdamW moments each round; all-MiniLM-L6-v2 in float32 (one
row: in bfloat16, which pays on CPUs that multiply it), rank 8 on query and value and a trained head. Each pads
dynamically, in its own way. Candidates take turns, a round each, so that a busy moment of the machine meets all; the
first round is not counted, and losses must agree in every round.

Flower gets an environment of its own, `.venv-flower`, made here the first time (torch is most of it).
"""

import argparse
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from declora.config import SimulationConfig
from declora.model.load import DTYPES
from declora.prepare import Material, prepare
from declora.run import Run
from declora.train.order import ClientOrder
from peers.client import Client
from publish import machine, publish

HERE = Path(__file__).parent
SST2 = HERE.parents[1] / "shared" / "data" / "sst2"
VENV = HERE.parent / ".venv-flower"
CLIENTS, STEPS, THREADS = 10, 5, 2
DECLORA: dict[str, dict[str, Any]] = {
    "declora": {},
    "declora, base in bfloat16": {"dtype": "bfloat16"},
    "declora, unpad=false (sorted by length)": {"unpad": False},
    "declora, also sort_by_length=false": {"unpad": False, "sort_by_length": False},
}


@dataclass
class Candidate:
    """Somebody who runs a round when asked, and what came of it."""

    round: Callable[[], tuple[float, float]]
    """Runs the next round; returns its seconds and the clients' mean training loss."""
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def turn(self) -> None:
        """Runs a round and takes notes."""
        taken, loss = self.round()
        self.seconds.append(taken)
        self.losses.append(loss)


def settings(data: str, batch: int, turns: int, **changes: Any) -> SimulationConfig:
    """The work, in declora's terms: nothing is evaluated before the last round, which is never run."""
    return SimulationConfig(
        data=data, clients=CLIENTS, local_steps=STEPS, batch_size=batch, rounds=turns + 2, eval_every=turns + 2,
        method="fedavg", codec="none", partition="iid", learning_rate=1e-3, schedule="constant", warmup=0.0,
        reset_moments=True, client_eval_samples=0, lora={"r": 8, "target_modules": ["query", "value"]}, **changes,
    )  # fmt: skip


def write_work(run: Run, folder: Path) -> None:
    """Writes what the peers train: texts as token ids, who trains on which when, the first adapter, the settings."""
    config, tokens = run.config, run.material.train
    orders = [
        ClientOrder(shard, batch_size=config.batch_size, seed=config.seed, client=client)
        for client, shard in enumerate(run.federation.shards)
    ]
    steps = range(config.rounds * STEPS)
    batches = np.array([[order.batch(step) for step in steps] for order in orders])
    np.savez(folder / "data.npz", ids=tokens.ids, starts=tokens.starts, labels=tokens.labels, orders=batches)
    save_file(run.layout.unflatten(run.bank.P[0]), folder / "adapter.safetensors")
    described = {
        "model": run.material.base.model.config._name_or_path,
        "classes": run.material.base.model.config.num_labels,
        "lora": {"lora_alpha": config.lora["r"], **config.lora},
        "local_steps": STEPS,
        "learning_rate": config.learning_rate,
        "clip_norm": config.clip_norm,
    }
    (folder / "settings.json").write_text(json.dumps(described))


def of_declora(run: Run) -> Candidate:
    """declora, a round at a time."""
    rounds = run.rounds()

    def advance() -> tuple[float, float]:
        start = time.perf_counter()
        record = next(rounds)
        return time.perf_counter() - start, record["train_loss"]

    return Candidate(advance)


def of_peft(folder: Path) -> Candidate:
    """One model, the adapter of each client in turn put into it, then the mean of all."""
    client = Client(folder)
    adapter, t = client.start, 0

    def advance() -> tuple[float, float]:
        nonlocal adapter, t
        start = time.perf_counter()
        trained = [client.train(adapter, index, t) for index in range(CLIENTS)]
        adapter = {name: torch.stack([own[name] for own, _ in trained]).mean(0) for name in adapter}
        t += 1
        return time.perf_counter() - start, float(np.mean([loss for _, loss in trained]))

    return Candidate(advance)


@contextmanager
def of_flower(python: Path, folder: Path, rounds: int, threads: int) -> Iterator[Candidate]:
    """Flower's simulation in a process of its own, a round for each line that it gets."""
    script = [python, HERE / "peers" / "flower_fedavg.py", folder, CLIENTS, rounds, threads, THREADS]
    with (folder / f"flower-{threads}.log").open("w+") as log:
        process = subprocess.Popen(
            [str(part) for part in script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
        )
        assert process.stdin is not None
        assert process.stdout is not None
        requests, answers = process.stdin, process.stdout

        def advance() -> tuple[float, float]:
            requests.write("\n")
            requests.flush()
            for line in answers:
                if line.startswith("{"):
                    report = json.loads(line)
                    return report["seconds"], report["loss"]
            log.seek(0)
            raise SystemExit(f"Flower ended early:\n{log.read()[-4000:]}")

        try:
            yield Candidate(advance)
        finally:
            process.terminate()
            process.wait()


def flower_python() -> Path:
    """Returns the interpreter of Flower's environment, which is made where it is missing."""
    python = VENV / "bin" / "python"
    if not python.exists():
        print(f"making {VENV} for Flower", flush=True)
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        requirements = HERE / "peers" / "flower-requirements.txt"
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", requirements], check=True)
    return python


def measure(material: Material, data: str, batch: int, turns: int, *, flower: bool) -> dict[str, Candidate]:
    """Returns every candidate after `turns` counted rounds of that batch size."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        candidates = {}
        for label, changes in DECLORA.items():
            model = copy.deepcopy(material.base.model).to(DTYPES[changes.get("dtype", "float32")])
            base = replace(material.base, model=model)
            run = Run(settings(data, batch, turns, **changes), replace(material, base=base))
            if not candidates:
                write_work(run, Path(name))
            candidates[label] = of_declora(run)
        candidates["plain PEFT loop"] = of_peft(Path(name))
        for threads in (THREADS, 1) if flower else ():
            label = f"Flower, {THREADS // threads} client(s) at once x {threads} thread(s)"
            candidates[label] = stack.enter_context(of_flower(flower_python(), Path(name), turns + 1, threads))
        for turn in range(turns + 1):
            for candidate in candidates.values():
                candidate.turn()
            losses = [candidate.losses[-1] for candidate in candidates.values()]
            print(f"batch {batch}, round {turn}: " + ", ".join(f"{c.seconds[-1]:.2f} s" for c in candidates.values()))
            if not np.allclose(losses, losses[0], rtol=0, atol=1e-3):
                raise SystemExit(
                    f"not the same work: losses of round {turn} are {dict(zip(candidates, losses, strict=True))}"
                )
    return candidates


def rows(batch: int, candidates: dict[str, Candidate]) -> list[tuple[str, ...]]:
    """Returns the lines of the table: medians, and by how much declora is faster (the median over the rounds)."""
    first = next(iter(candidates.values()))
    found = []
    for label, candidate in candidates.items():
        taken, ours = candidate.seconds[1:], first.seconds[1:]
        ratio = statistics.median(other / own for other, own in zip(taken, ours, strict=True))
        apart = max(abs(a - b) for a, b in zip(candidate.losses, first.losses, strict=True))
        median = statistics.median(taken)
        rate = f"{CLIENTS * STEPS * batch / median:.1f}"
        found.append((str(batch), label, f"{median:.2f}", f"{min(taken):.2f}", rate, f"{ratio:.2f}", f"{apart:.1e}"))
    return found


def main() -> None:
    """Measures, prints and writes a page of results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 16], help="batch sizes of a client's step")
    parser.add_argument("--turns", type=int, default=7, help="counted rounds of each candidate")
    parser.add_argument("--no-flower", action="store_true", help="leave Flower out")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    torch.set_num_threads(THREADS)
    data = str(SST2) if SST2.is_dir() else "stdlib-docstrings"
    if data != str(SST2):
        print(f"SST-2 is not at {SST2}: docstrings of the standard library instead")
    facts = {**machine(), "data": Path(data).name, "rounds counted": str(options.turns)}
    material = prepare(settings(data, 4, options.turns))
    table = [
        row
        for batch in options.batch
        for row in rows(batch, measure(material, data, batch, options.turns, flower=not options.no_flower))
    ]
    facts["load after"] = " ".join(f"{load:.2f}" for load in os.getloadavg())
    columns = ["batch", "by", "s a round, median", "least", "sequences/s", "declora is faster by", "losses differ by"]
    publish("simulation", "Simulation speed", facts, columns, table)


if __name__ == "__main__":
    main()
