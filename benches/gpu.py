"""Speed and memory on a card: whole rounds of declora, and a plain PEFT loop in the same process; keeps the table.

Run `python benches/gpu.py` (or `make bench-gpu`) on an idle machine with a card; it takes less than 8 minutes on an
H100, needs no network, and prints every row as soon as it is measured. `--only bert,llama-1b` chooses parts.

Weights and tokens are random, since speed does not depend on them; LoRA of rank 16 on query and value, K = 5 local
steps of AdamW, 4-bit messages over a ring, as `Run` has it for users. The first round is not counted. "Gossip" is the
share of a round in which messages are encoded, exchanged and mixed, as its record says, and "not training" that of all
but local steps. PEFT trains one client after another from the same adapter on the same batches, so its rate is that of
any number of clients and is measured on a few; "loss off by" is by how much the loss of any of them differs from ours
in the first round. Rows that are "compiled" are of runs with `compile=True`: "times as written" is their rate over that
of the row above, and what compiling takes is in neither. FLOP are those of the frozen blocks: two for each weight and
token forward, two backward; what adapters, attention, head and recomputation take is not in them. Goals are those of an
H100, whatever the card.
"""

import argparse
import importlib.util
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import BertConfig, LlamaConfig, PretrainedConfig, PreTrainedModel

from card import rates
from card_rounds import Figures, Timing, of_declora, of_peft, release
from declora import process
from declora.config import SimulationConfig
from declora.run import Run
from publish import RESULTS, machine, publish
from random_inputs import Lengths, block_parameters, in_4_bits, random_material, random_model

STEPS, RANK, RATE = 5, 16, 1e-3
EPOCH = 4
"""Batches that a client has texts for."""
FORMS = {
    "sequences/s": ",.1f", "tokens/s": ",.0f", "TFLOP/s": ".1f", "s a round": ".3f", "times PEFT": ",.1f",
    "times as written": ",.2f", "loss off by": ".1e", "peak, GiB": ".1f", "gossip, %": ".1f", "not training, %": ".1f",
}  # fmt: skip
"""By column that is a figure: how it is written."""
COLUMNS = ("base", "clients x batch", "by", *FORMS, "goals")


@dataclass(frozen=True)
class Goal:
    """What a figure should be: at least so much, or at most."""

    column: str
    value: float
    most: bool = False

    def of(self, figures: Mapping[str, float | None]) -> str:
        """Returns the goal, and whether it was met."""
        found = figures[self.column]
        words = "not measured"
        if found is not None:
            words = "met" if (found <= self.value if self.most else found >= self.value) else "missed"
        return f"{self.column} {'<=' if self.most else '>='} {self.value:,}: {words}"


@dataclass(frozen=True)
class Part:
    """Rows of the table that share a base."""

    title: str
    config: PretrainedConfig
    lengths: Lengths
    batch: int
    sizes: dict[int, tuple[Goal, ...]]
    """By number of clients: the goals."""
    dtype: torch.dtype = torch.bfloat16
    peft: int = 2
    """Clients that PEFT trains; 0: none."""
    tf32: bool = False
    four_bits: bool = False
    compiled: tuple[int, ...] = ()
    """Numbers of clients that are measured with compiled blocks, too."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Of the run, besides those that all have."""


BERT = BertConfig()
TINY_BERT = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
LLAMA_1B = LlamaConfig(
    vocab_size=32000, hidden_size=2048, num_hidden_layers=22, num_attention_heads=32, num_key_value_heads=4,
    intermediate_size=5632,
)  # fmt: skip
LLAMA_7B = LlamaConfig(
    vocab_size=32000, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32, intermediate_size=11008
)
SST2, GSM8K = Lengths(4, 31), Lengths(80, 231, scored=0.6)
GOSSIP = Goal("gossip, %", 3, most=True)
ALONE = (256, 591_362, Goal("share of a copy", 0.8))
"""Clients and columns of gossip that nobody trains for, and its goal."""
PARTS = {
    "bert": Part(
        "BERT-base, bfloat16", BERT, SST2, 8,
        {10: (), 64: (GOSSIP,),
         256: (Goal("sequences/s", 25_000), Goal("times PEFT", 100), GOSSIP), 1024: (GOSSIP,)}, peft=5,
        compiled=(10, 256),
    ),
    "llama-1b": Part(
        "Llama 1.1B, bfloat16", LLAMA_1B, GSM8K, 4, {8: (GOSSIP,), 32: (Goal("tokens/s", 70_000), GOSSIP)},
        compiled=(8, 32),
    ),
    "llama-7b": Part(
        "Llama 7B, bfloat16", LLAMA_7B, GSM8K, 2,
        {16: (Goal("tokens/s", 14_000), Goal("peak, GiB", 40, most=True), GOSSIP)},
    ),
    "bert-tf32": Part("BERT-base, TF32", BERT, SST2, 8, {64: (), 256: (GOSSIP,)}, torch.float32, peft=5, tf32=True),
    "bert-float32": Part("BERT-base, float32", BERT, SST2, 8, {10: (), 64: (), 256: (GOSSIP,)}, torch.float32, peft=5),
    "llama-7b-4bit": Part(
        "Llama 7B, 4 bits", LLAMA_7B, GSM8K, 2, {16: (Goal("peak, GiB", 20, most=True),)}, four_bits=True
    ),
    "clients": Part(
        "BERT of 2 layers, bfloat16", TINY_BERT, SST2, 8, {10: (), 100: (), 1000: (), 10_000: ()}, peft=5
    ),
    "llama-7b-recomputed": Part(
        "Llama 7B, bfloat16, activations computed again", LLAMA_7B, GSM8K, 4, {64: ()}, peft=0,
        settings={"activation_checkpointing": True},
    ),
}  # fmt: skip
"""In the order in which they are measured: the goals first."""


def small(part: Part) -> Part:
    """Returns the like of `part` that a CPU computes at once."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = type(part.config)(**sizes, num_key_value_heads=2, vocab_size=300)
    lengths = replace(part.lengths, shortest=4, longest=12)
    clients = {min(count, 3): goals for count, goals in part.sizes.items()}
    compiled = tuple({min(count, 3) for count in part.compiled})
    return replace(
        part, config=config, lengths=lengths, batch=2, sizes=clients, peft=min(part.peft, 2), compiled=compiled
    )


def measure(part: Part, timing: Timing) -> Iterator[tuple[str, ...]]:
    """Yields the rows of a part as they are measured: PEFT, then each number of clients, as written and compiled."""
    model = random_model(part.config, part.dtype, timing.device)
    flop = 4.0 * block_parameters(model)
    if part.four_bits:
        model = in_4_bits(model, timing.device)
    release(timing.device)
    alone = None
    for clients, goals in part.sizes.items():
        run = run_of(part, model, timing, clients)
        if alone is None and part.peft:
            alone = of_peft(run, part.peft, timing)
            release(timing.device)
            yield row(part, 1, alone, None, flop)
        written = of_declora(run, timing)
        yield row(part, clients, written, alone, flop, goals)
        del run
        release(timing.device)
        if clients in part.compiled:
            run = run_of(part, model, timing, clients, compile=True)
            yield row(part, clients, of_declora(run, timing), alone, flop, written=written)
            del run
            release(timing.device)


def run_of(part: Part, model: PreTrainedModel, timing: Timing, clients: int, *, compile: bool = False) -> Run:
    """Returns a run that evaluates nothing before its last round, which is never run."""
    rounds = timing.turns + 2
    targets = ["query", "value"] if part.config.model_type == "bert" else ["q_proj", "v_proj"]
    config = SimulationConfig(
        clients=clients, local_steps=STEPS, batch_size=part.batch, rounds=rounds, eval_every=rounds, partition="iid",
        learning_rate=RATE, schedule="constant", warmup=0.0, client_eval_samples=0, max_length=part.lengths.longest,
        lora={"r": RANK, "target_modules": targets}, progress=False, compile=compile,
        **part.settings,
    )  # fmt: skip
    return Run(config, random_material(model, part.lengths, clients * part.batch * EPOCH, timing.device))


def row(
    part: Part,
    clients: int,
    found: Figures,
    alone: Figures | None,
    flop: float,
    goals: tuple[Goal, ...] = (),
    written: Figures | None = None,
) -> tuple[str, ...]:
    """Returns a line of the table: of declora, beside PEFT `alone` where that was measured; of PEFT itself else.

    Of compiled blocks it is beside those that compute as they are `written`.
    """
    figures = {
        "sequences/s": found.sequences_per_s,
        "tokens/s": found.tokens_per_s,
        "TFLOP/s": flop * found.tokens_per_s / 1e12,
        "s a round": found.seconds,
        "times PEFT": None,
        "times as written": None if written is None else found.tokens_per_s / written.tokens_per_s,
        "loss off by": None,
        "peak, GiB": found.peak_gib,
        "gossip, %": found.gossip_percent,
        "not training, %": found.rest_percent,
    }
    if alone is not None:
        both = min(len(found.losses), len(alone.losses))
        figures["times PEFT"] = found.tokens_per_s / alone.tokens_per_s
        figures["loss off by"] = float(np.abs(found.losses[:both] - alone.losses[:both]).max())
    written = ["-" if value is None else format(value, FORMS[name]) for name, value in figures.items()]
    return (
        part.title,
        f"{clients:,} x {part.batch}",
        found.by,
        *written,
        "; ".join(goal.of(figures) for goal in goals) or "-",
    )


def gossip_alone(device: torch.device) -> str:
    """Returns how long gossip takes whose rows stay on the card, beside a copy of as many bytes (`benches/card.py`)."""
    clients, columns, goal = ALONE
    found = rates("q4", clients=clients, columns=columns, device=f"cuda:{device.index or 0}")
    times = {"copy": found.copy, "encode": found.encode, "decode and mix": found.mix, "distance": found.distance}
    shown = ", ".join(f"{name} {1e3 * taken:.2f} ms" for name, taken in times.items())
    share = {goal.column: found.share}
    return f"{clients} x {columns:,}, q4: {shown}; {goal.column} {found.share:.2f}; {goal.of(share)}"


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and writes a page of results; returns 1 where a part failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas: %(default)s")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu")
    parser.add_argument("--turns", type=int, default=5, help="counted rounds of each row, at most")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a row after which no other round begins")
    parser.add_argument("--minutes", type=float, default=7.0, help="after which no other part begins")
    parser.add_argument("--smoke", action="store_true", help="tiny bases and few clients, to see that it works")
    parser.add_argument("--out", type=Path, help="folder of the page; with --smoke there is none by default")
    options = parser.parse_args(arguments)
    device, names = torch.device(options.device), options.only.split(",")
    if unknown := set(names) - PARTS.keys():
        parser.error(f"--only={','.join(sorted(unknown))} is unknown. Parts: {', '.join(PARTS)}")
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA GPU here. `--device cpu --smoke` shows that the bench itself works.")
    facts = {**machine(device), **{name: version(name) for name in ("transformers", "peft")}}
    timing = Timing(device, options.turns, options.seconds)
    begin, table, failed = time.perf_counter(), list[tuple[str, ...]](), list[str]()
    print("| " + " | ".join(COLUMNS) + " |\n" + "|---" * len(COLUMNS) + "|", flush=True)
    try:
        if device.type == "cuda":
            with going_on("gossip alone", failed):
                facts["gossip alone"] = gossip_alone(device)
                print(f"gossip alone: {facts['gossip alone']}", flush=True)
        for name in names:
            part = small(PARTS[name]) if options.smoke else PARTS[name]
            if why := left_out(part, time.perf_counter() - begin, 60 * options.minutes):
                print(f"{name}: left out, since {why}", flush=True)
                continue
            with going_on(name, failed), process.tensor_float_32(part.tf32):
                for line in measure(part, timing):
                    table.append(line)
                    print("| " + " | ".join(line) + " |", flush=True)
            release(device)
    finally:
        facts |= {"took": f"{time.perf_counter() - begin:.0f} s", "failed": ", ".join(failed) or "nothing"}
        if options.out is not None or not options.smoke:
            publish("gpu", "Speed on a card", facts, COLUMNS, table, folder=options.out or RESULTS)
    return bool(failed)


@contextmanager
def going_on(name: str, failed: list[str]) -> Iterator[None]:
    """Says what fails inside and adds `name` to `failed`: the rest is worth measuring all the same."""
    try:
        yield
    except Exception as error:
        traceback.print_exc()
        failed.append(name)
        print(f"{name}: failed: {type(error).__name__}: {error}", flush=True)


def left_out(part: Part, seconds: float, most: float) -> str:
    """Returns why a part is not measured, nothing where it is."""
    if part.four_bits and importlib.util.find_spec("bitsandbytes") is None:
        return "bitsandbytes is not installed"
    return f"{most / 60:g} minutes are over" if seconds > most else ""


if __name__ == "__main__":
    raise SystemExit(main())
