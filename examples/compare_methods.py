"""What do clients gain by talking? Gossip beside training alone, a server, and all data in one place.

python examples/compare_methods.py                 docstrings of Python's own library, nothing is downloaded
python examples/compare_methods.py --data sst2     a task by name (see `declora simulate --help`), or a file of yours
"""

import argparse

import declora


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="stdlib-docstrings")
    parser.add_argument("--model", default="minilm", help="hub id or path of a model")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--alpha", type=float, default=0.5, help="the smaller, the less alike the clients' labels")
    parser.add_argument("--out", default="runs/compare-methods")
    options = parser.parse_args()

    comparison = declora.simulate(
        model=options.model,
        data=options.data,
        clients=options.clients,
        rounds=options.rounds,
        partition=f"dirichlet:{options.alpha}",
        topology="ring",
        codec="q4",
        compare=["dec-lora", "dec-lora codec=none", "local", "fedavg", "centralized"],
        out=options.out,
        overwrite=True,
    )
    print(comparison)
    print(f"Every figure of every run is in {options.out}/report.html.")
    # The learning rate is the same for all here; `declora.compare(...)` chooses one for each on rows held out.


if __name__ == "__main__":
    main()
