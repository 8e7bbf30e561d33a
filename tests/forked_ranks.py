"""Ranks as processes, forked of one that has loaded everything, over gloo; some are killed or stopped in a round."""

import hashlib
import json
import os
import signal
import socket
import sys
import time
import warnings

import torch

import declora
from resumable import OBJECTS, SETTINGS, model_of


class Fate(declora.Part):
    """Kills or stops its process in a round, if it is to; notes what client 0 has after three rounds."""

    name = "fate"
    seen = ""

    def before_round(self, state, plan):
        """Does it."""
        if plan.event == 3 and 0 in state.clients:
            Fate.seen = hashlib.sha256(state.adapter[0].numpy().tobytes()).hexdigest()
        what, event = json.loads(os.environ.get("FATE", "[null, -1]"))
        if plan.event == event:
            os.kill(os.getpid(), signal.Signals[what])


def settings(*, clients=4, rounds=8, patience=3.0):
    """A run, each client of which is a group of its own."""
    kept = {name: value for name, value in SETTINGS.items() if name != "checkpoint_every"}
    more = {"clients": clients, "group_size": 1, "rounds": rounds, "codec": "q4+choco", "topology": "complete"}
    return {**OBJECTS, **kept, **more, "model": model_of(), "method": Fate(), "peer_timeout": patience}


def said(result):
    """What is compared of a run."""
    lost = result.history.get("clients_lost", [])
    return {
        "seen": Fate.seen,
        "rounds": len(result.history),
        "clients_lost": [None if value != value else int(value) for value in lost],
        "notes": " ".join(result.notes),
    }


def forked(ranks, out, fates, **own):
    """Forks ranks; returns what the first says, and how each ended, None of one that is still there 10 s after it.

    Args:
        ranks: How many.
        out: A file to write to.
        fates: By rank, the signal and the event at which it gets it, `{2: ("SIGKILL", 4)}`.
        **own: Settings of the run, as `settings` takes them.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
            os.environ |= {"MASTER_PORT": str(port), "FATE": json.dumps(fates.get(rank, (None, -1)))}
            result = declora.simulate(**settings(**own))
            if rank == 0:
                with open(out, "w") as file:
                    json.dump(said(result), file)
            sys.exit(0)  # with all that the interpreter does at its end
        children.append(child)
    exits = [os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])]
    until = time.monotonic() + 10
    for rank, child in enumerate(children[1:], 1):
        ended, status = os.waitpid(child, os.WNOHANG)
        while not ended and time.monotonic() < until and fates.get(rank, ("",))[0] != "SIGSTOP":
            time.sleep(0.02)
            ended, status = os.waitpid(child, os.WNOHANG)
        exits.append(os.waitstatus_to_exitcode(status) if ended else None)
        if not ended:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    with open(out) as file:
        return {**json.load(file), "exits": exits}


def load():
    """Runs one process, so that all is loaded before anything is forked; returns what it says."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)  # threads are not there any more where a process was forked
    return said(declora.simulate(**settings()))


def main():
    """Runs one process, and four ranks of which one is killed and another stopped."""
    alone = load()
    lost = forked(4, os.path.join(sys.argv[1], "said.json"), {2: ("SIGKILL", 4), 3: ("SIGSTOP", 6)})
    print(json.dumps({"alone": alone, "lost": lost}))


if __name__ == "__main__":
    main()
