"""A base in bfloat16 on a CPU beside one in float32, torch's switch for products, and compiled blocks; keeps a table.

Run `python benches/precision.py`. Two models: all-MiniLM-L6-v2 on SST-2 text, and a Llama of four layers with random
weights and tokens. Each trains 10 clients on the same batches; candidates take turns, a round each, so a busy machine
meets all of them, and the ratios of rounds that follow each other are what counts. The first round is not counted.

"bf16 products" is float32 throughout, with `torch.backends.mkldnn.matmul.fp32_precision = "bf16"`, by which oneDNN may
multiply in bfloat16 what comes in float32. "float32, compiled" is with `compile=True`; what compiling takes is not
counted. `ONEDNN_MAX_CPU_ISA=AVX2` shows a CPU that does not multiply bfloat16.
"""

import argparse
import copy
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from transformers import LlamaConfig

from declora.model.precision import faster_dtype
from declora.prepare import Material, prepare
from declora.run import Run
from publish import machine, publish
from random_inputs import Lengths, random_material, random_model
from simulate import CLIENTS, SST2, settings

LLAMA = LlamaConfig(
    vocab_size=8000, hidden_size=512, num_hidden_layers=4, num_attention_heads=8, num_key_value_heads=4,
    intermediate_size=1408,
)  # fmt: skip
LENGTHS = Lengths(20, 80, scored=0.6)
MODELS = ("MiniLM", "Llama, 4 x 512")
LABELS = ("float32, bf16 products", "bfloat16", "float32, compiled")


@dataclass
class Candidate:
    """How a base is computed, and what came of it."""

    dtype: torch.dtype = torch.float32
    products: str = "ieee"
    compile: bool = False
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


@contextmanager
def multiplying(precision: str) -> Iterator[None]:
    """Has torch's switch for products in float32 stand at `precision`."""
    products = torch.backends.mkldnn.matmul
    before = products.fp32_precision
    products.fp32_precision = precision
    try:
        yield
    finally:
        products.fp32_precision = before


def material_of(model: str, data: str, batch: int, turns: int) -> Material:
    """Returns what is trained, in float32."""
    if model == "MiniLM":
        return prepare(settings(data, batch, turns))
    device = torch.device("cpu")
    return random_material(random_model(LLAMA, torch.float32, device), LENGTHS, CLIENTS * batch * 4, device)


def measure(model: str, data: str, batch: int, turns: int, labels: Sequence[str] = LABELS) -> list[tuple[str, ...]]:
    """Returns the rows of one model and batch size: of float32, and of the candidates with these labels."""
    material = material_of(model, data, batch, turns)
    config = settings(data, batch, turns)
    config = config.override(lora={"r": 8}, **({} if model == "MiniLM" else {"local_steps": 2}))
    candidates = {
        "float32": Candidate(),
        "float32, bf16 products": Candidate(products="bf16"),
        "bfloat16": Candidate(torch.bfloat16),
        "float32, compiled": Candidate(compile=True),
    }
    candidates = {label: candidate for label, candidate in candidates.items() if label in ("float32", *labels)}
    rounds = {}
    for label, candidate in candidates.items():
        own = copy.deepcopy(material.base.model).to(candidate.dtype)
        of_candidate = config.override(compile=candidate.compile)
        rounds[label] = Run(of_candidate, replace(material, base=replace(material.base, model=own))).rounds()
    for _ in range(turns + 1):
        for label, candidate in candidates.items():
            with multiplying(candidate.products):
                start = time.perf_counter()
                record = next(rounds[label])
                candidate.seconds.append(time.perf_counter() - start)
            candidate.losses.append(record["train_loss"])
    for own in rounds.values():
        own.close()
    return [(model, str(batch), label, *figures(c, candidates["float32"])) for label, c in candidates.items()]


def figures(candidate: Candidate, first: Candidate) -> tuple[str, ...]:
    """Returns the median of a round, its share of the first candidate's, the range of that, and how losses differ."""
    shares = [own / other for own, other in zip(candidate.seconds[1:], first.seconds[1:], strict=True)]
    apart = max(abs(own - other) for own, other in zip(candidate.losses, first.losses, strict=True))
    spread = f"{min(shares):.2f} to {max(shares):.2f}"
    return f"{statistics.median(candidate.seconds[1:]):.2f}", f"{statistics.median(shares):.2f}", spread, f"{apart:.1e}"


def main() -> None:
    """Measures, prints and writes a page of results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[4, 16], help="batch sizes of a client's step")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, help="bases")
    parser.add_argument("--beside", nargs="+", choices=LABELS, default=LABELS, help="what float32 is beside")
    parser.add_argument("--turns", type=int, default=5, help="counted rounds of each candidate")
    parser.add_argument("--data", default=str(SST2) if SST2.is_dir() else "stdlib-docstrings", help="what MiniLM reads")
    options = parser.parse_args()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    facts = {**machine(), "data": Path(options.data).name, "rounds counted": str(options.turns)}
    facts["ONEDNN_MAX_CPU_ISA"] = os.environ.get("ONEDNN_MAX_CPU_ISA", "not set")
    table = [
        row
        for model in options.models
        for batch in options.batch
        for row in measure(model, options.data, batch, options.turns, options.beside)
    ]
    facts['what dtype="auto" says'] = faster_dtype(torch.device("cpu"))[1]
    facts["load after"] = " ".join(f"{load:.2f}" for load in os.getloadavg())
    columns = ["model", "batch", "base", "s a round, median", "of float32", "from round to round", "losses differ by"]
    publish("precision", "A base in bfloat16 on a CPU", facts, columns, table)


if __name__ == "__main__":
    main()
