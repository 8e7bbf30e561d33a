"""Runs ranks as processes, forked of one that has loaded everything, over gloo; prints what became of them as JSON."""

import hashlib
import json
import os
import signal
import socket
import sys
import time
import warnings

import declora
from conftest import tiny_bert
from resumable import OBJECTS, SETTINGS

PATIENCE = 3.0


class Fate(declora.Part):
    """Kills or stops its rank in a round."""

    name = "fate"

    def before_round(self, state, plan):
        """Does it."""
        if os.environ.get("FATE") and plan.event == 4 and os.environ["RANK"] == "2":
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get("FATE") and plan.event == 6 and os.environ["RANK"] == "3":
            os.kill(os.getpid(), signal.SIGSTOP)


def settings(rounds):
    """A run of four clients."""
    kept = {name: value for name, value in SETTINGS.items() if name != "checkpoint_every"}
    more = {"group_size": 1, "rounds": rounds, "codec": "q4+choco", "topology": "complete", "peer_timeout": PATIENCE}
    return {**OBJECTS, **kept, "model": tiny_bert(width=16), "method": Fate(), **more}


def described(result):
    """What is compared of a run."""
    rows = b"".join(result.client(client).row.numpy().tobytes() for client in range(4))
    lost = result.history.get("clients_lost")
    return {
        "digest": hashlib.sha256(rows).hexdigest(),
        "rounds": len(result.history),
        "clients_lost": [] if lost is None else [None if value != value else int(value) for value in lost],
        "notes": " ".join(result.notes),
    }


def forked(ranks, out, *, rounds, fate=""):
    """Forks ranks and returns what rank 0 says, and how each ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "FATE": fate}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            result = declora.simulate(**settings(rounds))
            if rank == 0:
                with open(out, "w") as file:
                    json.dump(described(result), file)
            sys.exit(0)  # with what the interpreter does at its end
        children.append(child)
    exits = [None] * ranks
    while not all(code is not None for code in exits[:2]):
        for rank, child in enumerate(children):
            if exits[rank] is None:
                ended, status = os.waitpid(child, os.WNOHANG)
                exits[rank] = os.waitstatus_to_exitcode(status) if ended else None
        time.sleep(0.02)
    until = time.monotonic() + 10
    for rank, child in enumerate(children):
        while exits[rank] is None and not (fate and rank == 3) and time.monotonic() < until:
            ended, status = os.waitpid(child, os.WNOHANG)
            exits[rank] = os.waitstatus_to_exitcode(status) if ended else None
            time.sleep(0.02)
        if exits[rank] is None:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    with open(out) as file:
        return {**json.load(file), "exits": exits}


def main():
    """Runs one process, two ranks, four, and four of which two are lost."""
    warnings.simplefilter("ignore")
    out = os.path.join(sys.argv[1], "said.json")
    found = {
        "2 ranks": forked(2, out, rounds=3),
        "4 ranks": forked(4, out, rounds=3),
        "4 ranks, one killed and one stopped": forked(4, out, rounds=8, fate="yes"),
        "1 rank": described(declora.simulate(**settings(3))),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
