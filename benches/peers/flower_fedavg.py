"""FedAvg of LoRA adapters in Flower's simulation: `python flower_fedavg.py FOLDER CLIENTS ROUNDS THREADS CPUS`.

Run by `benches/simulate.py` in an environment of Flower's own. A client gets THREADS cores, so CPUS / THREADS of them
train at once. A round starts when a line comes in, and answers with a line of JSON.
"""

import json
import os
import sys
import time
from pathlib import Path

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
sys.path.insert(0, str(Path(__file__).parent))

from client import client
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

FOLDER = Path(sys.argv[1])
CLIENTS, ROUNDS, THREADS, CPUS = map(int, sys.argv[2:])


class TimedFedAvg(FedAvg):
    """FedAvg that waits for the word to start a round and says how long it took."""

    def configure_train(self, *args, **kwargs):
        sys.stdin.readline()
        self.start = time.perf_counter()
        return super().configure_train(*args, **kwargs)

    def aggregate_train(self, server_round, replies):
        arrays, metrics = super().aggregate_train(server_round, replies)
        if metrics is None:
            sys.exit("no client answered")
        taken = time.perf_counter() - self.start
        report = {"seconds": taken, "loss": metrics["loss"], "in_clients": metrics["seconds"] * CLIENTS}
        print(json.dumps(report), flush=True)
        return arrays, metrics


def train(message: Message, context: Context) -> Message:
    own = client(FOLDER, THREADS)
    start = time.perf_counter()
    adapter = message.content["arrays"].to_torch_state_dict()
    t = message.content["config"]["server-round"] - 1
    adapter, loss = own.train(adapter, context.node_config["partition-id"], t)
    metrics = {"loss": loss, "seconds": time.perf_counter() - start, "num-examples": 1}
    content = RecordDict({"arrays": ArrayRecord(adapter), "metrics": MetricRecord(metrics)})
    return Message(content=content, reply_to=message)


def serve(grid: Grid, context: Context) -> None:
    strategy = TimedFedAvg(fraction_evaluate=0.0, min_train_nodes=CLIENTS, min_available_nodes=CLIENTS)
    strategy.start(grid=grid, initial_arrays=ArrayRecord(client(FOLDER, THREADS).start), num_rounds=ROUNDS)


if __name__ == "__main__":
    client_app, server_app = ClientApp(), ServerApp()
    client_app.train()(train)
    server_app.main()(serve)
    resources = {"client_resources": {"num_cpus": THREADS, "num_gpus": 0.0}, "init_args": {"num_cpus": CPUS}}
    run_simulation(server_app, client_app, num_supernodes=CLIENTS, backend_config=resources)
