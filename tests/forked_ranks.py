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
from declora.cluster import of_environment
from resumable import OBJECTS, SETTINGS, model_of


class Fate(declora.Part):
    """Kills or stops its process in a round, if it is to; notes what client 0 has after three rounds.

    At rank 0, rounds from one on wait until one rank more comes back, as long as not all have that are to.
    """

    name = "fate"
    seen = ""

    def before_round(self, state, plan):
        """Does it."""
        if plan.event == 3 and 0 in state.clients:
            Fate.seen = hashlib.sha256(state.adapter[0].numpy().tobytes()).hexdigest()
        what, event = json.loads(os.environ.get("FATE", "[null, -1]"))
        if plan.event == event:
            os.kill(os.getpid(), signal.Signals[what])
        since, awaited = json.loads(os.environ.get("AWAITED", "[0, 0]"))
        if plan.event >= since and awaited and 0 in state.clients:
            returns, until = of_environment().returns, time.monotonic() + 60
            while not returns._due and len(returns.since) < awaited and time.monotonic() < until:
                time.sleep(0.02)


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


def forked(ranks, out, fates, again=None, **own):
    """Forks ranks; returns what the first says, and how each ended, None of one that is still there 10 s after it.

    Args:
        ranks: How many.
        out: A file to write to.
        fates: By rank, the signal and the event at which it gets it, `{2: ("SIGKILL", 4)}`.
        again: From this round on, rank 0 waits until those are back, who are started again; None: they are not.
        **own: Settings of the run, as `settings` takes them.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start(rank, fate=(None, -1)):
        child = os.fork()
        if child:
            return child
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1"}
        os.environ |= {"MASTER_PORT": str(port), "FATE": json.dumps(fate)}
        os.environ["AWAITED"] = json.dumps([0, 0] if again is None else [again, len(fates)])
        result = declora.simulate(**settings(**own))
        if rank == 0:
            with open(out, "w") as file:
                json.dump(said(result), file)
        sys.exit(0)  # with all that the interpreter does at its end

    children = [start(rank, fates.get(rank, (None, -1))) for rank in range(ranks)]
    for rank in [] if again is None else sorted(fates, key=lambda rank: fates[rank][1]):
        if os.WIFSTOPPED(os.waitpid(children[rank], os.WUNTRACED)[1]):
            os.kill(children[rank], signal.SIGKILL)
            os.waitpid(children[rank], 0)
        children[rank] = start(rank)
    exits = [os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1])]
    until = time.monotonic() + 10
    for rank, child in enumerate(children[1:], 1):
        stopped = again is None and fates.get(rank, ("",))[0] == "SIGSTOP"
        ended, status = os.waitpid(child, os.WNOHANG)
        while not ended and time.monotonic() < until and not stopped:
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
    """Runs one process, four ranks of which one is killed and another stopped, and two of which one comes back."""
    alone = load()
    lost = forked(4, os.path.join(sys.argv[1], "said.json"), {2: ("SIGKILL", 4), 3: ("SIGSTOP", 6)})
    back = forked(2, os.path.join(sys.argv[1], "back.json"), {1: ("SIGKILL", 2)}, again=4, clients=2)
    print(json.dumps({"alone": alone, "lost": lost, "back": back}))


if __name__ == "__main__":
    main()
