"""Some clients lie. What does plain averaging come to, and what do rules that bound a neighbour's pull?

python examples/robust.py                    two of ten clients send their adapter turned round and three times as large
python examples/robust.py --attack dissensus or alie, ipm, gaussian, mimic ... (`declora simulate --help`)
"""

import argparse

import declora


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="stdlib-docstrings")
    parser.add_argument("--model", default="minilm", help="hub id or path of a model")
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--liars", type=int, default=2, help="clients that lie, chosen by the seed")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--attack", default="sign-flip:scale=3")
    parser.add_argument("--out", default="runs/robust")
    options = parser.parse_args()

    lies = {"attack": options.attack, "attackers": options.liars}
    f = options.liars  # how many neighbours of a client may be bad: here all liars, since all talk to all
    comparison = declora.simulate(
        model=options.model,
        data=options.data,
        clients=options.clients,
        rounds=options.rounds,
        topology="complete",
        codec="fp16",  # median and trimmed mean do not keep the mean, so what a coarse codec drops would add up
        compare={
            "all honest": {},
            "linear": lies,
            "clipped": {**lies, "mixer": f"clipped:f={f}"},
            "trimmed mean": {**lies, "mixer": f"trimmed-mean:f={f}"},
            "median": {**lies, "mixer": "median"},
        },
        out=options.out,
        overwrite=True,
    )
    print(comparison)  # quality is that of the honest clients' mean


if __name__ == "__main__":
    main()
