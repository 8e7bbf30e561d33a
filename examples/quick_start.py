"""Three hospitals fine-tune one model on their own rows of a CSV file, and exchange adapters, never rows.

python examples/quick_start.py                     the messages of examples/messages.csv, which are made up
python examples/quick_start.py my.csv --by clinic  your own file: a text, a label, and a column that says whose it is
"""

import argparse
from pathlib import Path

import declora


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="?", default=str(Path(__file__).with_name("messages.csv")))
    parser.add_argument("--by", default="hospital", help="column whose values are the clients")
    parser.add_argument("--clients", type=int, default=3, help="how many values that column has")
    parser.add_argument("--model", default="minilm", help="hub id or path of a model")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", default="runs/quick-start", help="where the run and its report go")
    options = parser.parse_args()

    result = declora.simulate(
        model=options.model,
        data=options.data,
        eval_fraction=0.25,  # the file has no validation rows of its own
        partition=f"column:{options.by}",
        clients=options.clients,
        topology="complete",  # each talks to each; try "ring" where there are more
        rounds=options.rounds,
        out=options.out,
        overwrite=True,
    )
    print(result)
    print(result.history[["round", "train_loss", "average_accuracy", "bytes_total"]].dropna())
    print(f"Adapter: {options.out}/adapters/average, report: {options.out}/report.html")


if __name__ == "__main__":
    main()
