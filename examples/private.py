"""Differential privacy: what clients send says little of any one of their rows. What does it cost?

pip install 'declora[dp]'
python examples/private.py                  epsilon 8 and 2 beside none
python examples/private.py --epsilons 1 --data my.csv
"""

import argparse

import declora


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="stdlib-docstrings")
    parser.add_argument("--model", default="minilm", help="hub id or path of a model")
    parser.add_argument("--clients", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--epsilons", type=float, nargs="+", default=[8.0, 2.0])
    parser.add_argument("--delta", type=float, default=1e-4, help="below one by the number of a client's rows")
    parser.add_argument("--out", default="runs/private")
    options = parser.parse_args()

    runs = {f"epsilon {e:g}": {"method": f"dp:epsilon={e:g},delta={options.delta:g}"} for e in options.epsilons}
    comparison = declora.simulate(
        model=options.model,
        data=options.data,
        clients=options.clients,
        rounds=options.rounds,
        batch_size=32,  # the noise of a step is shared by its samples
        topology="complete",
        compare={"no privacy": {}, **runs},
        out=options.out,
        overwrite=True,
    )
    print(comparison)
    for label in runs:
        spent = comparison[label].history["epsilon"].iloc[-1]
        print(f"{label}: spent {spent:.2f} by the client that spent most, delta {options.delta:g}")


if __name__ == "__main__":
    main()
