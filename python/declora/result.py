"""What `simulate` returns: adapters, history, figures, and the page that shows them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from declora import report
from declora.adapters import About, Adapter
from declora.adapters.facts import how_trained, versions
from declora.config import SimulationConfig
from declora.data import Partition
from declora.errors import ConfigError, unknown_name
from declora.federation import Federation
from declora.methods import build_method
from declora.metrics import Metric
from declora.notebook import displayed, facts_html, table_html
from declora.report import words
from declora.report.records import common_metric, last_measured
from declora.run import Outcome
from declora.train.order import work_in_words

__all__ = ["Comparison", "SimulationResult"]

_NAMED = 20
"""Of more clients, no more are named in a sentence."""
_OF_MESSAGES = (
    "topology", "weights", "codec", "mixer", "gamma", "overlap", "attack", "attackers", "faults", "clock", "detect",
)  # fmt: skip
"""Settings that mean nothing where clients do not talk."""


@dataclass(frozen=True, repr=False, eq=False)
class SimulationResult:
    """One finished run.

    Attributes:
        config: Its settings.
        history: One row per round: losses, evaluation, consensus distance, bytes, seconds (NaN where not measured).
        clients: One row per round and client.
        partition: Which client had which data.
        federation: The clients as the method ran them: graph, codec, shards.
        environment: Versions and machine.
    """

    config: SimulationConfig
    partition: Partition
    federation: Federation
    environment: Mapping[str, str]
    _outcome: Outcome = field(repr=False)

    @property
    def history(self) -> pd.DataFrame:
        """One row per round."""
        return self._outcome.history

    @property
    def clients(self) -> pd.DataFrame:
        """One row per round and client."""
        return self._outcome.clients

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed or decided for the user (columns, classes, weights), in whole sentences."""
        return self._outcome.notes

    @property
    def average(self) -> Adapter:
        """The node-averaged adapter: the mean of all clients' A, B and head (Dec-LoRA's evaluation endpoint).

        With weights="samples", and by default with fedavg, clients count by their samples.

        Raises:
            ConfigError: It is not here, but at rank 0 of a cluster.
        """
        if self._outcome.mean is None:
            raise ConfigError("the averaged adapter is at rank 0 of the cluster. Ask for it there.")
        counted = "" if self.federation.topology.law is None else ", in which clients count by their samples"
        of = _clients(self.federation.clients)
        whose = f"What the run evaluates as the averaged model of {of}, after the last round{counted}."
        if build_method(self.config.method).own_scores:
            whose += " In this method each client keeps a model of its own, and these are its result, not their mean."
        return self._adapter(self._outcome.mean, "averaged adapter", whose, self._average_score())

    @property
    def initial(self) -> Adapter:
        """The first adapter, which all clients have in common: A drawn from the seed, B = 0, and the head as it came.

        It is PEFT's own; what a method changes of it for a client (ranks, masks, factors of its own) is not in it.
        """
        whose = "What all clients began with: A drawn from the seed, B = 0, the head as it came. Nothing is learned."
        return self._adapter(self._outcome.initial, "first adapter", whose, {})

    def client(self, index: int | str) -> Adapter:
        """Returns a client's own adapter after the last round.

        Args:
            index: Its number, or what the graph calls it.

        Raises:
            ConfigError: There is no such client, or it is not here, but at another rank of a cluster.
        """
        count, site, names = self.federation.clients, self._outcome.site, self.federation.topology.names
        if isinstance(index, str) and names:
            if index not in names:
                raise unknown_name("client", index, names)
            index = names.index(index)
        if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < count:
            raise ConfigError(f"client={index!r} does not exist: this run has clients 0..{count - 1}.")
        if not site.start <= index < site.stop:
            raise ConfigError(
                f"client={index} is at another rank of the cluster; here are {site.start} to {site.stop - 1}. Ask for "
                "it at rank 0, which has all."
            )
        whose = (
            f"The own adapter of client {index} of {count} after the last round, which was trained on its share of the "
            f"data ({len(self.federation.shards[index]):,} samples) and is not that of another client."
        )
        row = self._outcome.rows[index - site.start]
        own = self._adapter(row, f"adapter of client {index}", whose, self._own_score(index))
        return own.at_rank(self.federation.ranks[index]) if self.federation.ranks else own

    def _adapter(self, row: torch.Tensor, title: str, whose: str, score: Mapping[str, str]) -> Adapter:
        facts = {**self._origin, **score, **versions(self.environment)}
        about = About(self._outcome.lineage, self._settings, title, whose, facts)
        return Adapter(row, self._outcome.layout, self._outcome.lora, about)

    @cached_property
    def _settings(self) -> SimulationConfig:
        return replace(self.config, callbacks=None)

    def __getstate__(self) -> dict[str, object]:
        """Copies and pickles without callbacks, which have heard all, and may hold what does not travel."""
        return {**self.__dict__, "config": self._settings}

    @cached_property
    def _origin(self) -> dict[str, str]:
        """What an adapter's card says of how it was trained; kept, since there may be a card for each of many."""
        text = self._outcome.lineage.text
        data = f"{text.name}, {sum(map(len, self.federation.shards)):,} samples, {self.partition.name}"
        return {"data": data, **how_trained(self.config, self.federation, self.local_work)}

    @cached_property
    def _metric(self) -> Metric | None:
        return common_metric([self.history]) if len(self.history) else None

    def _average_score(self) -> dict[str, str]:
        metric = self._metric
        if metric is None or math.isnan(value := last_measured(self.history, metric.average)):
            return {}
        shown = report.tables.format_value(metric.name, value)
        return {f"{metric.label} at the end": f"{shown} on {self._outcome.evaluated.texts:,} samples"}

    @cached_property
    def _own_scores(self) -> "pd.Series[float]":
        """The last score of each client's own model, by client: empty where none was evaluated."""
        if self._metric is None or self._metric.name not in self.clients:
            return pd.Series(dtype=float)
        return self.clients.groupby("client")[self._metric.name].last().dropna()

    def _own_score(self, index: int) -> dict[str, str]:
        if self._metric is None or index not in self._own_scores:
            return {}
        shown = report.tables.format_value(self._metric.name, self._own_scores[index])
        return {f"{self._metric.label} at the end": f"{shown} on {self._outcome.evaluated.of_client(index):,} samples"}

    @property
    def local_work(self) -> str:
        """What K means in this run: `5 steps`, or `1 epoch (12 to 17 steps)` by the clients' shares of the data."""
        return work_in_words(self._outcome.local_steps, self.config.local_epochs)

    @property
    def split_bytes(self) -> int | None:
        """What all clients and a server would send each other in a round of split training (arXiv 2501.04436).

        2 K b l h float32 numbers of a client: the activations at a cut between two blocks of width h, of K steps on b
        texts of l tokens on average (those of the first round), and their gradients. None where the model's config
        names no width, or data is on other hosts. Nothing was split: it is a price to hold `history["bytes_sent"]`
        against.
        """
        return self._outcome.split_bytes

    def plot(self) -> Figure:
        """Returns a figure: quality by round and by client, loss, consensus distance, time, bytes by client."""
        return displayed(report.run_figure(self.history, self.clients))

    @property
    def settings(self) -> dict[str, object]:
        """The settings as they took effect, as JSON values: those of the federation that ran.

        A method may set some (fedavg its graph and codec, centralized one client with the batches of all), and what is
        about messages is None where clients do not talk.
        """
        federation = self.federation
        ran: dict[str, object] = {"clients": federation.clients, "batch_size": federation.batch_size}
        if federation.exchange.silent:
            ran |= dict.fromkeys(_OF_MESSAGES)
        else:
            ran |= {
                "topology": federation.topology.name,
                "weights": federation.topology.rule,
                "codec": federation.codec.name,
                "mixer": str(federation.mixer),
                "gamma": self.config.gamma or federation.codec.default_gamma,
                "attackers": None if self.config.attack is None else self.config.attackers,
            }
        return self.config.describe() | ran

    def facts(self) -> dict[str, str]:
        """Returns what is worth knowing of base, graph, codec and data."""
        federation, layout = self.federation, self._outcome.layout
        trained = "up to " if len(set(federation.ranks)) > 1 else ""
        upto = "up to " if federation.uneven else ""
        lora = layout.columns - layout.size("head")
        facts = {
            "clients": str(federation.clients),
            "base": self._base(),
            "trained parameters of a client": f"{trained}{layout.columns:,} (LoRA {lora:,})",
            "local work of a round (K)": self.local_work,
            "evaluated on": self._evaluated_on(),
            "samples of a client": f"{min(map(len, federation.shards)):,} to {max(map(len, federation.shards)):,}",
        }
        if not federation.exchange.silent:
            message = federation.codec.frame_bytes(self._outcome.sent)
            facts |= {
                "graph": federation.topology.name,
                **self._weights(),
                "spectral gap": f"{federation.topology.spectral_gap:.4f}",
                "codec": federation.codec.name,
                "mixer": str(federation.mixer),
                "consensus step size": f"{self.config.gamma or federation.codec.default_gamma:.3g}",
                "one message": f"{upto}{report.format_bytes(message)} ({message:,} bytes)"
                + " and a bitmap" * federation.choosing,
                "float32 message": report.format_bytes(4 * self._outcome.sent + 96),
            }
        if federation.topology.names is not None:
            facts["clients' names"] = _some(federation.topology.names)
        if federation.ranks:
            facts["ranks"] = _some(federation.ranks)
        if federation.attackers:
            facts["attack"] = (
                f"{federation.attack} by clients {_some(federation.attackers)}; quality and consensus are of the others"
            )
        if self.notes:
            facts["notes"] = " ".join(self.notes)
        return facts

    def _weights(self) -> dict[str, str]:
        topology = self.federation.topology
        if not self.federation.mixer.weighted or topology.rule is None:
            return {}
        counts = "" if topology.law is None else ": clients count by theirs, in the averaged model, too"
        return {"weights": topology.rule + counts}

    def _base(self) -> str:
        base = self._outcome.lineage.storage
        size = f"{base.kind}, {report.format_bytes(base.size)}"
        return size if base.size == base.plain else f"{size} instead of {report.format_bytes(base.plain)}"

    def _evaluated_on(self) -> str:
        evaluated = self._outcome.evaluated
        own = f", clients' own models on {evaluated.of_clients}" * any(evaluated.client_texts)
        return f"{evaluated.texts:,} samples{own}"

    @property
    def baselines(self) -> Mapping[str, float]:
        """What the headline metric is without a model, by name: always the `largest class`, and `chance`.

        The latter only of accuracy; nothing where texts are continued.
        """
        return self._outcome.evaluated.baselines

    @property
    def before(self) -> float:
        """What the adapter that all clients begin with scores; NaN in a run without `out`, which need not know it."""
        return self._outcome.before

    @property
    def norm(self) -> float:
        """The root mean square of the norms of the adapters whose consensus distance is measured, after the last round.

        NaN where not all are here, but at other ranks of a cluster.
        """
        rows, honest = self._outcome.rows, self.federation.honest
        if len(rows) < self.federation.clients:
            return math.nan
        squares = [float(torch.linalg.vector_norm(rows[client], dtype=torch.float64)) ** 2 for client in honest]
        return math.sqrt(sum(squares) / len(squares))

    def __str__(self) -> str:
        """The figures of the last and of the best round, in one line each."""
        return "\n".join(f"{name}: {value}" for name, value in self._scores.items())

    @property
    def _scores(self) -> dict[str, str]:
        table = Comparison({str(self.config.method): self}).table.iloc[0]
        return {
            report.tables.heading(str(name)): report.tables.format_value(str(name), value)
            for name, value in table.drop("bytes_ratio").items()  # to itself
            if not (isinstance(value, float) and math.isnan(value))
        }

    def __repr__(self) -> str:
        """What ran, and how it ended, in one line."""
        score = "".join(f", {name} {value}" for name, value in self._average_score().items())
        return f"<SimulationResult: {self._title}, {len(self.history):,} round{'s' * (len(self.history) != 1)}{score}>"

    @property
    def _title(self) -> str:
        federation = self.federation
        graph = "" if federation.exchange.silent else f" on {federation.topology.name}"
        return f"{build_method(self.config.method)}, {_clients(federation.clients)}{graph}"

    def _repr_html_(self) -> str:
        return facts_html(self._title, self._scores | {k: v for k, v in self.facts().items() if k != "notes"})


def _some(clients: Sequence[int | str]) -> str:
    """Returns clients by their numbers or names; of many, the first."""
    first = ", ".join(map(str, clients[:_NAMED]))
    return first if len(clients) <= _NAMED else f"{first} and {len(clients) - _NAMED:,} others"


def _clients(count: int) -> str:
    return f"{count:,} client{'s' * (count != 1)}"


@dataclass(frozen=True, repr=False, eq=False)
class Comparison(Mapping[str, SimulationResult]):
    """Several runs from the same seeds: a mapping of their labels to their results."""

    results: Mapping[str, SimulationResult]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def __getitem__(self, label: str) -> SimulationResult:
        if label not in self.results:
            raise KeyError(f"{label!r} is not one of the runs {list(self.results)}")
        return self.results[label]

    @property
    def table(self) -> pd.DataFrame:
        """One row per run: averaged model and clients, each last and best, consensus distance, bytes, seconds."""
        return report.comparison_table(
            {label: result.history for label, result in self.results.items()},
            clients={label: result.federation.clients for label, result in self.results.items()},
            codecs={
                label: result.federation.codec.name
                for label, result in self.results.items()
                if not result.federation.exchange.silent
            },
            local_work={label: result.local_work for label, result in self.results.items()},
            norms={label: result.norm for label, result in self.results.items()},
        )

    @property
    def beside(self) -> report.Beside:
        """What the runs are held against, and what each of them is."""
        federations = {label: result.federation for label, result in self.results.items()}
        before = {result.before for result in self.results.values()}
        baselines = [result.baselines for result in self.results.values()]
        return report.Beside(
            baselines=baselines[0] if all(own == baselines[0] for own in baselines) else {},
            before=before.pop() if len(before) == 1 else math.nan,
            alone={label: own.exchange.silent and own.clients > 1 for label, own in federations.items()},
            pooled={label: own.exchange.silent and own.clients == 1 for label, own in federations.items()},
            works={label: result.local_work for label, result in self.results.items()},
        )

    @property
    def in_words(self) -> str:
        """What the runs have reached, in whole sentences: the best first, and what talking brought."""
        histories, beside = {label: result.history for label, result in self.results.items()}, self.beside
        return words.of_comparison(histories, common_metric(histories.values()), beside)

    def plot(self) -> Figure:
        """Returns the runs over each other in one figure."""
        return displayed(report.comparison_figure({label: result.history for label, result in self.results.items()}))

    def __repr__(self) -> str:
        """Which runs, in one line."""
        return f"<Comparison of {len(self)} runs: {report.cut(', '.join(self), 100)}>"

    def _repr_html_(self) -> str:
        table = report.tables.format_table(report.brief_table(self.table))
        return table_html("Comparison", list(table.columns), table.to_numpy().tolist())

    def __str__(self) -> str:
        """The table's main columns, aligned; `table` has the others."""
        return report.to_text(report.brief_table(self.table))
