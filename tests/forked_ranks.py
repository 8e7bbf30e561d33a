"""Runs ranks as processes, forked of one that has loaded everything, over gloo; prints what became of them as JSON."""

import hashlib
import json
import os
import signal
import socket
import sys
import warnings

import torch

import declora
from conftest import tiny_bert
from resumable import OBJECTS, SETTINGS

PATIENCE = 3.0


class Fate(declora.Part):
    """Kills or stops its rank in a round, if it is to; notes what client 0 has after three rounds."""

    name = "fate"
    seen = ""

    def before_round(self, state, plan):
        """Does it."""
        if plan.event == 3 and 0 in state.clients:
            Fate.seen = hashlib.sha256(state.adapter[0].numpy().tobytes()).hexdigest()
        if plan.event == 4 and os.environ.get("RANK") == "2":
            os.kill(os.getpid(), signal.SIGKILL)
        if plan.event == 6 and os.environ.get("RANK") == "3":
            os.kill(os.getpid(), signal.SIGSTOP)


def settings(rounds):
    """A run of four clients."""
    kept = {name: value for name, value in SETTINGS.items() if name != "checkpoint_every"}
    more = {"group_size": 1, "rounds": rounds, "codec": "q4+choco", "topology": "complete", "peer_timeout": PATIENCE}
    return {**OBJECTS, **kept, "model": tiny_bert(width=16), "method": Fate(), **more}


def said(result):
    """What is compared of a run."""
    lost = result.history.get("clients_lost", [])
    return {
        "seen": Fate.seen,
        "rounds": len(result.history),
        "clients_lost": [None if value != value else int(value) for value in lost],
        "notes": " ".join(result.notes),
    }


def forked(ranks, out, *, rounds):
    """Forks ranks; returns what the first says, and how each ended: None of one that had not when the first two had."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            result = declora.simulate(**settings(rounds))
            if rank == 0:
                with open(out, "w") as file:
                    json.dump(said(result), file)
            sys.exit(0)  # with all that the interpreter does at its end
        children.append(child)
    exits = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children[:2]]
    for child in children[2:]:
        ended, status = os.waitpid(child, os.WNOHANG)
        exits.append(os.waitstatus_to_exitcode(status) if ended else None)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    with open(out) as file:
        return {**json.load(file), "exits": exits}


def main():
    """Runs one process, and four ranks of which two are lost."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # threads are not there any more where a process was forked
    alone = said(declora.simulate(**settings(8)))  # first, so that all is loaded before anything is forked
    lost = forked(4, os.path.join(sys.argv[1], "said.json"), rounds=8)
    print(json.dumps({"alone": alone, "lost": lost}))


if __name__ == "__main__":
    main()
