"""Tiny runs that keep checkpoints, which tests begin, stop, and compare with the same run never stopped."""

import json
from pathlib import Path

import datasets

from declora import outputs
from tiny import tiny_bert, tiny_texts, tiny_tokenizer

ROUNDS = 6
FEW = 4
"""Enough for a kind of run to be stopped after a checkpoint, and to go on to the next one."""


def model_of(seed=0):
    """One block, and two layers with adapters in it, which is as many as of two blocks and half their work."""
    return tiny_bert(width=16, layers=1, seed=seed)


OBJECTS = {
    "model": model_of(),
    "tokenizer": tiny_tokenizer(),
    "data": datasets.DatasetDict(train=tiny_texts(48), validation=tiny_texts(16, seed=1)),
    "public_data": tiny_texts(6, seed=2),
}
SETTINGS = {
    "clients": 4, "rounds": ROUNDS, "local_steps": 2, "batch_size": 4, "max_length": 16, "eval_every": 2,
    "lora": {"r": 2, "target_modules": ["query", "value"]}, "client_eval_samples": 4, "progress": False,
    "checkpoint_every": 2,
}  # fmt: skip

# One of each thing that a run remembers between rounds: codec memories, mixers with numbers of their own and all
# others, attacks that send what was, optimizers with moments, methods with state, phases and streams of randomness.
RUNS = {
    "no memory": {"codec": "q4", "topology": "one-peer-exponential"},
    "ef": {"codec": "q2+ef"},
    "ef21": {"codec": "topk:fraction=0.1+ef21", "optimizer": "sgd", "momentum": 0.9},
    "choco": {"codec": "powersgd+choco", "schedule": "cosine"},
    "clipped": {"mixer": "clipped", "topology": "complete", "attack": "stale:delay=2"},
    "median": {"mixer": "median", "topology": "complete", "attack": "replay:delay=2"},
    "trimmed-mean": {"mixer": "trimmed-mean:f=1", "topology": "complete", "attack": "alie", "codec": "q2+choco"},
    "krum": {"mixer": "krum:f=1", "topology": "complete", "attack": "gaussian", "clients": 5},
    "multi-krum": {"mixer": "multi-krum:f=1,m=2", "topology": "complete", "attack": "dissensus", "clients": 5},
    "nna": {"mixer": "nna:f=1", "topology": "complete", "attack": "nan", "reset_moments": True},
    "push-sum": {"mixer": "push-sum", "topology": "exponential", "codec": "none"},
    "epochs": {"local_steps": None, "local_epochs": 1, "partition": "quantity:0.5", "topology": "erdos-renyi:0.9"},
    "dropout": {"lora": {**SETTINGS["lora"], "lora_dropout": 0.2}, "base_dropout": True},
    "fedavg": {"method": "fedavg"},
    "centralized": {"method": "centralized"},
    "local": {"method": "local"},
    "ffa-lora": {"method": "ffa-lora"},
    "adf-lora": {"method": "adf-lora:interval=2"},
    "tad-lora": {"method": "tad-lora:interval=3"},
    "rolora": {"method": "rolora", "codec": "q4+choco"},
    "gradient-tracking": {"method": "gradient-tracking", "optimizer": "sgd"},
    "d2": {"method": "d2", "optimizer": "sgd"},
    "dis-pfl": {"method": "dis-pfl"},
    "dis-pfl of components": {"method": "dis-pfl:regrow=gradient,masks=common,unit=component", "optimizer": "sgd"},
    "hafl": {"method": "hafl", "codec": "none", "ranks": [1, 2, 4, 2]},
    "haflq": {"method": "haflq", "codec": "q2", "ranks": [1, 2, 4, 2]},
    "hetlora": {"method": "hetlora:gamma=0.5,decay=0.5", "ranks": [1, 2, 4, 4]},
    "decaf": {"method": "decaf", "codec": "none"},
    "primal-dual": {"method": "primal-dual+prox", "optimizer": "sgd"},
    "lora-fair": {"method": "lora-fair", "codec": "q2+choco"},
    "fedrot": {"method": "fedrot"},
    "fedex-lora": {"method": "fedex-lora:residual=2", "weight_decay": 0.1},
    "flora": {"method": "flora:residual=2", "codec": "none"},
    "fed-sb": {"method": "fed-sb"},
    "fola": {"method": "fola:reading=code", "codec": "q8+choco"},
    "dfed-salt": {"method": "dfed-salt:personal=B"},
    "rw-lora": {"method": "rw-lora"},
    "ad-psgd": {"method": "ad-psgd", "codec": "q8", "clock": "lognormal:spread=0.5,stragglers=0.2"},
    "dp": {"method": "dp:sigma=1"},
    "faults": {"faults": "loss:p=0.2+dropout:p=0.2,rounds=2", "codec": "q4+choco", "clock": "lognormal:links=1"},
    "delay": {"faults": "delay:p=0.5,rounds=3+loss:p=0.1", "codec": "q4+ef", "method": "gradient-tracking"},
    "strays": {"faults": "duplicate:p=0.4,rounds=2+reorder:p=0.3,rounds=1", "codec": "q4+choco"},
    "overlap": {"overlap": True, "codec": "q4+choco", "clock": "lognormal:links=1"},
    "lazy": {"attack": "lazy:noise=0.001", "detect": "lazy", "codec": "q4+choco"},
    "kd": {"method": "kd", "codec": "q4+choco", "ranks": [1, 2, 4, 2]},
    "ranks": {"method": "decaf", "ranks": [1, 2, 4, 2]},
    "ranks of factors": {"ranks": [4, 2, 1, 2], "codec": "q2+choco"},
}  # fmt: skip

SPREAD_RUNS = {
    **RUNS,
    "late strays": {
        "faults": "duplicate:p=0.5,rounds=2+reorder:p=0.5,rounds=2+delay:p=0.4,rounds=2+dropout:p=0.1",
        "codec": "q4+ef",
    },
    "strays of push-sum": {
        "faults": "duplicate:p=0.5+reorder:p=0.5", "codec": "none", "mixer": "push-sum", "topology": "exponential",
    },
    "unlike strays": {
        "faults": "duplicate:p=0.5+reorder:p=0.5", "codec": "q4", "mixer": "median", "topology": "complete",
        "attack": "replay", "ranks": [1, 2, 4, 2],
    },
    "different lies": {
        "attack": "dissensus", "attackers": [1, 4], "mixer": "clipped", "topology": "erdos-renyi:0.7", "clients": 6,
        "faults": "loss:p=0.1+duplicate:p=0.3,rounds=0", "detect": "lazy", "codec": "q4+rans", "ledger": True,
    },
    "another's message": {
        "attack": "replay:delay=1,target=0", "attackers": [1, 3], "mixer": "median", "topology": "complete",
        "ranks": [4, 2, 1, 2], "codec": "q4",
    },
    "all with all": {"topology": "complete", "weights": "laplacian", "codec": "q4+ef", "attack": "sign-flip"},
    "all with all but who is refused": {"topology": "complete", "codec": "q8", "attack": "nan"},
}  # fmt: skip
"""Also what may only go wrong where clients are divided over ranks."""


def write_adapters(folder, result, label, log):
    """Of what a run leaves, the adapters alone: in place of `declora.simulation.write_run`."""
    folder.write_folders(outputs.adapter_folders(result))
    log.complete()


def rounds_of(folder):
    """The lines of a run without what a clock measured."""
    lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if not name.startswith("seconds_")} for line in lines]


def adapters_of(folder):
    """The bytes of every file of every adapter of a run."""
    found = Path(folder) / "adapters"
    return {path.relative_to(found).as_posix(): path.read_bytes() for path in found.rglob("*") if path.is_file()}
