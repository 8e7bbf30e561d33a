"""What a run needs before its first round, and what several runs can share: data, tokens, the frozen base."""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from declora import process
from declora.attacks import parse_attack
from declora.clock import Clock, parse_clock
from declora.codec import RunCodec, parse_codec
from declora.config import SimulationConfig
from declora.data.client_files import client_files
from declora.detection import parse_detector
from declora.errors import ConfigError, TopologyError, shown
from declora.faults import Faults, parse_faults
from declora.federation import Federation
from declora.hosts import host_of, reading_of
from declora.methods import Ranks, Stack, build_method
from declora.mixer import Linear, Mixer, PushSum, parse_mixer
from declora.report.messages import say, source_name
from declora.settings import loading_of
from declora.topology import Topology, as_schedule, in_order

if TYPE_CHECKING:  # what loads data and models takes seconds to be loaded itself
    from collections.abc import Callable

    import numpy as np
    from datasets import Dataset
    from numpy.typing import NDArray
    from peft import TaskType

    from declora.adapters import Lineage
    from declora.cluster import Cluster
    from declora.data import Partition, TextData
    from declora.model import BaseModel
    from declora.train.exact_match import Questions
    from declora.train.tokens import Tokens

__all__ = ["Material", "check_nodes", "divide", "plan_federation", "prepare"]


@dataclass(frozen=True)
class Material:
    """Data and model of a run, loaded."""

    text: "TextData"
    base: "BaseModel"
    train: "Tokens"
    evaluation: "Tokens"
    questions: "Questions | None" = None
    """What the evaluation rows ask and what is right, where exact match is measured."""
    public: "Tokens | None" = None
    """Texts without labels that all clients have."""

    @property
    def task_type(self) -> "TaskType":
        """The task in PEFT's terms."""
        from peft import TaskType

        return TaskType.SEQ_CLS if self.text.task == "classification" else TaskType.CAUSAL_LM

    def settled(self, config: SimulationConfig) -> SimulationConfig:
        """Returns the settings of a run with this, its dtype as it was chosen: what its folder keeps."""
        return config.override(dtype=self.base.storage.kind) if config.dtype == "auto" else config

    @property
    def lineage(self) -> "Lineage":
        """What base and data are to the adapters that come of them."""
        from declora.adapters import Lineage

        base, typed = self.base, self.train.types is not None
        return Lineage(base.source, base.storage, base.tokenizer, typed, self.text.without_rows())


def prepare(config: SimulationConfig, cluster: "Cluster | None" = None) -> Material:
    """Loads data and model, and tokenizes; one thread at a time, since libraries that load keep much in globals.

    Args:
        config: The settings.
        cluster: The ranks that run it together; None: those that this process was started with, or it alone.

    Raises:
        DataError: The data cannot be loaded or used.
        ModelError: The model cannot be loaded or does not fit the data.
    """
    host = host_of(config, cluster)
    say(f"Loading data: {source_name(config.data)}", config.progress)
    with nullcontext() if host is None else host.telling():
        return _loaded(config, _read(config) if host is None else host.read())


@process.alone()
def _read(config: SimulationConfig) -> "TextData":
    from declora import data

    return data.load(client_files(config.data, config.clients) or config.data, **reading_of(config))


@process.alone()
def _loaded(config: SimulationConfig, text: "TextData") -> Material:
    """Returns the material of a run whose data is read."""
    from declora import data
    from declora.model import load_base

    _check_task(config, text)
    public = None
    if config.public_data is not None:
        part = data.load_public(config.public_data, text, samples=config.public_samples, seed=config.seed)
        text, public = replace(text, notes=(*text.notes, *part.notes)), part.dataset
    say(f"Loading model: {source_name(config.model)}", config.progress)
    base = load_base(
        config.model,
        task=text.task,
        label_names=text.label_names,
        tokenizer=config.tokenizer,
        **loading_of(config),
    )
    say(f"Tokenizing {len(text.train) + len(text.evaluation):,} texts", config.progress)
    return _tokenized(config, text, base, public)


def _tokenized(config: SimulationConfig, text: "TextData", base: "BaseModel", public: "Dataset | None") -> Material:
    """Returns data and model, which fit each other, with all texts as tokens."""
    from declora.train.causal import read_corpus
    from declora.train.fit import fit_causal, fit_classifier
    from declora.train.tokens import tokenize

    if text.task == "causal-lm":
        with base.lent():
            corpus = read_corpus(
                text,
                base.model,
                base.tokenizer,
                max_length=config.max_length,
                prompt_template=config.prompt_template,
                completion_only=config.completion_only_loss,
                packing=config.packing,
                max_new_tokens=config.max_new_tokens,
                public=public,
            )
        known = () if corpus.public is None else (corpus.public,)
        base, (train, evaluation, *others) = fit_causal(base, (corpus.train, corpus.evaluation, *known))
        return Material(corpus.text, base, train, evaluation, corpus.questions, *others)
    splits = [(text.train, text.label_column), (text.evaluation, text.label_column)]
    if public is not None:
        splits.append((public, None))
    tokenized = [
        tokenize(
            split,
            base.tokenizer,
            task=text.task,
            text_columns=text.text_columns,
            label_column=label_column,
            max_length=config.max_length,
        )
        for split, label_column in splits
    ]
    base, (train, evaluation, *others) = fit_classifier(
        base, tokenized, classes=len(text.label_names), max_length=config.max_length
    )
    return Material(text, base, train, evaluation, public=others[0] if others else None)


def _check_task(config: SimulationConfig, text: "TextData") -> None:
    """Refuses settings that are for another task than the data is."""
    if text.task == "classification" and config.packing:
        raise ConfigError("packing=True has no use with task='classification'. Leave it out.")
    method = build_method(config.method)
    if method.reads_public and method.reads_words != (text.task == "causal-lm"):
        what = "next words" if method.reads_words else "classes"
        raise ConfigError(
            f"method={str(method)!r} exchanges what models make of the {what} of public texts, but the task of the "
            f"data is {text.task}. Use method='kd' for classification, and method='kd-topk' for causal-lm."
        )
    if config.max_new_tokens and not text.has_prompts:
        raise ConfigError(
            f"max_new_tokens={config.max_new_tokens}: there is nothing to answer in {text.task} data without prompts. "
            "Name a completion_column (or give conversations), or leave it out."
        )


def plan_federation(config: SimulationConfig) -> tuple[Federation, Stack]:
    """Returns who takes part and how they talk, as the method runs it, and the method: before data are loaded.

    Raises:
        ConfigError: A setting names something unknown or does not fit another.
        TopologyError: The graph cannot carry gossip.
    """
    codec, mixer, method = parse_codec(config.codec), parse_mixer(config.mixer), build_method(config.method)
    if config.ranks is not None:
        method = Stack([*method.parts, Ranks(config.ranks, exact=method.rank_free, keeps_sums=method.keeps_sums)])
    if method.reads_public and config.public_data is None:
        raise ConfigError(
            f"method={str(method)!r} exchanges what clients' models make of texts that all of them have. Name them "
            "with public_data, e.g. public_data='public.csv' with the text columns of data; labels are not read."
        )
    if not mixer.weighted and config.weights not in (None, "metropolis"):
        raise ConfigError(
            f"weights={config.weights!r} has no effect with mixer={str(mixer)!r}, which counts all neighbours alike; "
            "leave weights out."
        )
    weights = (config.weights if method.over_graph else None) or "metropolis"
    build = partial(
        Topology.build,
        as_schedule(config.topology, rounds=config.rounds),
        config.clients,
        weights=weights,
        seed=config.seed,
        column_stochastic=isinstance(mixer, PushSum),
    )
    by_samples = weights == "samples"
    topology = build(samples=[1] * config.clients) if by_samples else build()
    if codec.memory.needs_static_graph and topology.period > 1:
        raise ConfigError(
            f"codec={codec.name!r} keeps public copies at fixed neighbours, but topology={topology.name!r} changes "
            f"its neighbours from round to round. Use a codec without copies ({codec.plain}) or a static graph."
        )
    if not method.steady and isinstance(mixer, PushSum):
        raise ConfigError(
            f"mixer='push-sum' moves a weight for all that a client sends, but method={str(method)!r} sends other "
            "columns in other rounds. Use mixer='linear', or a method that always sends the same."
        )
    attack = None
    if config.attack is not None:
        attack = parse_attack(config.attack, config.attackers, clients=config.clients, seed=config.seed)
        if attack.equivocates and isinstance(mixer, PushSum):
            raise ConfigError(
                f"attack={config.attack!r} is made for weights whose rows sum to 1, which mixer='push-sum' does not "
                "have. Use another mixer, or an attack that tells all the same, e.g. sign-flip."
            )
    unread = f"public_data is not read by method={str(method)!r}."
    federation = method.arrange(
        Federation(
            config.clients,
            config.batch_size,
            topology,
            codec,
            mixer=mixer,
            attack=attack,
            faults=Faults() if config.faults is None else _faults(config, topology, mixer, codec, method),
            detector=None if config.detect is None else parse_detector(config.detect),
            clock=_clock(config),
            weights=config.weights,
            weighing=partial(_weighed, build) if by_samples else None,
            overlap=config.overlap,
            rounds=config.rounds,
            ranks=() if config.ranks is None else tuple(config.ranks),
            seed=config.seed,
            notes=() if config.public_data is None or method.reads_public else (unread,),
        )
    )
    federation.check(pairwise=not method.by_mixer or method.chooses)
    if federation.overlap and not federation.exchange.silent:
        _check_overlap(federation, method)
    if config.detect is not None and (federation.choosing or not method.steady):
        raise ConfigError(
            f"detect={config.detect!r} compares a message with that of the round before, but method={str(method)!r} "
            "sends other columns in other rounds. Leave detect out, or use a method that always sends the same."
        )
    if federation.sampling == "poisson" and config.packing:
        raise ConfigError(
            f"packing=True puts several texts into a row, but method={str(method)!r} draws and computes each text by "
            "itself. Set packing=False."
        )
    return federation, method


def _weighed(build: "Callable[..., Topology]", samples: "NDArray[np.int64]") -> Topology:
    """Returns the topology whose weights count clients by their samples; a function, so that results can be pickled."""
    return build(samples=samples)


def _faults(config: SimulationConfig, topology: Topology, mixer: Mixer, codec: RunCodec, method: Stack) -> Faults:
    """Returns the faults of a run whose clients talk over `topology`.

    Raises:
        ConfigError: The run cannot go on without what is lost; names the setting and the fix.
    """
    text = str(config.faults)
    if not method.over_graph or any(part.sets_graph for part in method.parts):
        raise ConfigError(
            f"faults={text!r} are faults of the links of a graph, over which method={str(method)!r} does not gossip. "
            "Leave faults out, or use another method."
        )
    if topology.directed and not topology.symmetric and not topology.column_stochastic:
        raise ConfigError(
            f"faults={text!r}: in topology={topology.name!r} weights of one way have no other way to be lost with, so "
            "that the mean would move. Use mixer='push-sum' on a graph of one-way edges, or an undirected graph."
        )
    if not (codec.memory.lossless or method.steady):
        raise ConfigError(
            f"faults={text!r}: codec={codec.name!r} keeps copies that are brought level after a gap, which must be "
            f"copies of the same columns, but method={str(method)!r} sends others in other rounds. Use "
            f"codec={codec.plain!r}."
        )
    faults = parse_faults(text, seed=config.seed)
    if faults.longest:
        _check_late(config, topology, mixer, codec, method)
    if faults.stray and faults.reach and (topology.period > 1 or not method.steady):
        raise ConfigError(
            f"faults={text!r} has frames that come in later rounds, which must be along the same links and of the same "
            f"columns, but over topology={topology.name!r} with method={str(method)!r} these are others in other "
            "rounds. Use rounds=0, or a static graph and a method that always sends the same."
        )
    return replace(faults, least=mixer.least, column_stochastic=topology.column_stochastic)


def _check_late(config: SimulationConfig, topology: Topology, mixer: Mixer, codec: RunCodec, method: Stack) -> None:
    """Refuses messages that come rounds late where what they say then is no difference of two clients."""
    why, fix = "", ""
    if type(mixer) is not Linear or not method.by_mixer or method.chooses:
        why, fix = (
            f"method={str(method)!r} with mixer={str(mixer)!r} combines whole values, not differences",
            ("method='dec-lora' with mixer='linear'"),
        )
    elif topology.period > 1 or not topology.symmetric or not method.steady:
        why, fix = (
            "what two clients sent each other in one round must be the same columns, by one weight",
            ("a static undirected graph, equal counts, and a method that always sends the same"),
        )
    elif codec.memory.needs_static_graph:
        why, fix = f"codec={codec.name!r} can move its copies only in the order of rounds", f"codec={codec.plain!r}"
    elif config.attack is not None:
        why, fix = f"attack={config.attack!r} has refused messages of rounds that are over", "no attack, or no delay"
    if why:
        raise ConfigError(f"faults={str(config.faults)!r} has messages that come rounds late, but {why}. Use {fix}.")


def _check_overlap(federation: Federation, method: Stack) -> None:
    """Refuses messages that go while steps are taken where these have to be over first.

    Raises:
        ConfigError: They have; names the setting and the fix.
    """
    why, fix = "", ""
    if federation.exchange.served:
        why, fix = f"with method={str(method)!r} clients begin the steps of a round from one mean", "another method"
    elif not method.plain:
        why, fix = f"method={str(method)!r} works on adapters after their steps", "method='dec-lora'"
    elif type(federation.mixer).sent is not Mixer.sent:
        why, fix = f"mixer={str(federation.mixer)!r} counts steps among what is sent", "mixer='linear'"
    if why:
        raise ConfigError(f"overlap=True sends what clients have before their steps, but {why}. Use {fix}.")


def _clock(config: SimulationConfig) -> Clock | None:
    """Returns the clock of a run, where it has one for all its clients.

    Raises:
        ConfigError: It has not.
    """
    if config.clock is None:
        return None
    clock = parse_clock(config.clock, seed=config.seed)
    clock.speeds.steps(config.clients)
    return clock


def divide(
    config: SimulationConfig, text: "TextData", federation: Federation, method: Stack
) -> "tuple[Federation, Partition]":
    """Returns the federation with each client's share of the data, and the partition itself.

    Raises:
        DataError: The data cannot be divided like that.
        TopologyError: The names of the graph's nodes do not say which client is which, or clients' shares cannot be
            what they count.
    """
    from declora import data

    partition = data.partition(config.partition, text, config.clients, seed=config.seed)
    if method.over_graph:
        check_nodes(federation.topology, partition.name)
    return federation.holding(partition.shards), partition


def check_nodes(topology: Topology, partition: str) -> None:
    """Refuses a graph of names in no order where each client has data of its own: names may join the wrong data."""
    own = partition.partition(":")[0] in ("natural", "given", "labels", "column", "rows")
    if own and topology.nodes is not None and not in_order(topology.nodes):
        first = ", ".join(f"{shown(node)}: {client}" for client, node in enumerate(topology.nodes[:2]))
        raise TopologyError(
            f"partition={shown(partition)} gives each client data of its own, but the names of the graph's nodes do "
            f"not say which client is which. Number them: networkx.relabel_nodes(graph, {{{first}, ...}})."
        )
