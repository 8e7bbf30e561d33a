"""Clients teach a small decoder to add: prompts, completions, answers that are generated and checked.

python examples/causal_lm.py --model NAME    any decoder; without it Qwen/Qwen2.5-0.5B-Instruct, from the hub
"""

import argparse

import numpy as np
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import declora


def sums(count: int, seed: int) -> list[dict[str, str]]:
    """Returns rows of a prompt and its completion, names that need no setting."""
    pairs = np.random.default_rng(seed).integers(10, 100, size=(count, 2))
    return [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a, b in pairs.tolist()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="Qwen/Qwen2.5-0.5B-Instruct", help="hub id or path of a decoder")
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", default="runs/causal-lm")
    options = parser.parse_args()

    result = declora.simulate(
        model=options.model,
        data=sums(400, seed=1),
        eval_data=sums(40, seed=2),
        clients=options.clients,
        rounds=options.rounds,
        learning_rate=1e-3,
        max_new_tokens=4,  # answers are generated, too, and count where they are the right number
        out=options.out,
        overwrite=True,
    )
    print(result.history[["round", "average_perplexity", "average_exact_match"]].dropna())

    tokenizer = AutoTokenizer.from_pretrained(options.model)
    base = AutoModelForCausalLM.from_pretrained(options.model)
    model = PeftModel.from_pretrained(base, f"{options.out}/adapters/average")  # without declora
    asked = tokenizer("20 + 22 =", return_tensors="pt")["input_ids"]
    print(tokenizer.decode(model.generate(input_ids=asked, max_new_tokens=4)[0]))


if __name__ == "__main__":
    main()
