"""One run: rounds of local steps and gossip, and what is measured of them."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from declora import process, seeds
from declora.agreement import common_to_all
from declora.cluster import Cluster, Site, of_environment
from declora.config import SimulationConfig
from declora.errors import ConfigError, TrainingError, out_of_memory
from declora.exchange import known_to
from declora.faults import Struck
from declora.federation import Federation
from declora.gathering import Beginning, gathering_of
from declora.gossip import Gossip
from declora.hosts import host_of
from declora.measuring import Measuring, RoundReport, evaluator_of
from declora.methods import Stack
from declora.metrics import choose_metric
from declora.model import AdapterBank, Layout, adapter_config
from declora.model.owners import RowOwners
from declora.model.surgery import Surgery
from declora.outcome import Outcome
from declora.plan import Phase, Plan
from declora.prepare import Material, plan_federation
from declora.report import Earlier
from declora.shares import share_out
from declora.state import State
from declora.train.footprint import check_fits
from declora.train.grouping import examples_at_once, find_groups
from declora.train.local_steps import LocalTrainer
from declora.train.optimizer import ClientOptimizer
from declora.train.passes import Passes
from declora.train.public import ModelTexts
from declora.train.records import RoundRecord
from declora.train.tokens import Tokens

__all__ = ["Outcome", "RoundRecord", "Run"]


class Run:
    """A run, ready to start: everything that can be refused has been checked when the constructor returns.

    The base model is as it came between the constructor and `rounds`, and after them, so several runs can be ready on
    one.

    Args:
        config: The settings.
        material: Data and model.
        planned: What `plan_federation` made of the settings; made here where None.
        cluster: The ranks that run it together; None: those that this process was started with, or it alone.

    Attributes:
        shares: What each client trains on.
        federation: With each client's share of the data.
        partition: The shares.
        gathering: The process or processes of the run.
        evaluator: Scores adapters, once the rounds have begun.
        state: Of the clients here, once the rounds have begun.
        whole: Of all clients, as it last came together here.
    """

    def __init__(
        self,
        config: SimulationConfig,
        material: Material,
        planned: tuple[Federation, Stack] | None = None,
        cluster: Cluster | None = None,
    ) -> None:
        self.config, self.material = material.settled(config), material
        own = material.text.preset.metric if material.text.preset else None
        self.metric = choose_metric(config.metric or own, material.text.task)
        if self.metric.name == "exact_match" and material.questions is None:
            raise ConfigError("metric='exact_match' needs generated answers. Set max_new_tokens, e.g. 256.")
        federation, self.method = planned or plan_federation(config)
        self.shares = share_out(config, material, federation, self.method, host_of(config, cluster))
        self.federation, self.partition = self.shares.federation, self.shares.partition
        self._train, self._orders = self.shares.tokens, self.shares.orders
        self.local_steps = self.shares.local_steps
        self._set_up(cluster)

    @process.alone()  # PEFT, as whatever loads, changes globals
    def _set_up(self, cluster: Cluster | None) -> None:
        """Has the model's layers for clients made and tried, and clients divided over processes."""
        config, material = self.config, self.material
        rank, spare = max(self.federation.ranks, default=None), self.federation.spare_rank
        lora = adapter_config(config.lora, material.base, material.task_type, rank, spare=spare)
        self.federation = self.method.calibrate(self.federation, self.local_steps)
        owners = RowOwners()
        with material.base.lent():
            seed = seeds.derive(config.seed, "adapter") % 2**63
            self._surgery = Surgery(material.base.model, lora, owners, seed=seed)
            try:
                self.bank = AdapterBank(self.layout, self._surgery.slots, owners)
                group_size = self._try_model()
                self.gathering = gathering_of(
                    cluster or of_environment(),
                    config,
                    self.federation,
                    self.method,
                    group_size,
                    self.shares.evaluated,
                )
                if material.public is not None:
                    self.method.read_public(self._public(material.public))
                shapes = self.method.lifted(self.layout).shapes
                self.federation = replace(self.federation, codec=self.federation.codec.for_shapes(shapes))
                self._first = self.plan(0)
            finally:
                self._surgery.undo()

    def _try_model(self) -> int:
        """Finds out how clients share the passes of the model, how many at once, and that all fits into memory."""
        config, base, federation = self.config, self.material.base, self.federation
        device, recompute = base.model.device, config.activation_checkpointing
        check_fits(
            base.model,
            clients=federation.clients,
            columns=self.layout.columns,
            batch_size=federation.batch_size,
            length=float(self._train.lengths.mean()),
            device=device,
            recompute=device.type == "cuda" if recompute is None else recompute,
        )
        self.bank.fill(self._surgery.initial, 1, device)
        self.sharing, group_size = find_groups(
            base.model,
            self.bank,
            self._train,
            clients=federation.clients,
            batch_size=federation.batch_size,
            max_length=self._longest,
            special=base.tokenizer.all_special_ids,
            unpad=config.unpad,
            base_dropout=config.base_dropout,
            recompute=recompute,
            compile=config.compile,
            group_size=config.group_size,
        )
        return group_size

    @property
    def group_size(self) -> int:
        """Clients that are computed together."""
        return self.gathering.group_size

    def _public(self, tokens: Tokens) -> ModelTexts:
        """Returns public texts, which the clients' models compute as they do their own."""
        base = self.material.base
        classes = len(self.material.text.label_names) or base.model.config.get_text_config().vocab_size
        passes = Passes(base.model, self.bank.owners, tokens, base.device, **self._computing)
        return ModelTexts(passes, self.bank, self.sharing, classes, self.gathering.where, self.federation.batch_size)

    @property
    def _computing(self) -> dict[str, Any]:
        """How passes of the model compute texts."""
        config, sharing = self.config, self.sharing
        given = {"base_dropout": config.base_dropout, "seed": config.seed, **sharing.computing}
        return {"sort_by_length": config.sort_by_length and sharing.together, **given}

    @property
    def _longest(self) -> int:
        """Tokens of the longest text that is trained on, at most."""
        return min(self.config.max_length, self.shares.longest)

    @property
    def sent(self) -> int:
        """How many numbers a message of the first round has, or has at most."""
        return self._first.sent.count

    @property
    def layout(self) -> Layout:
        """The columns of the adapters."""
        return self._surgery.layout

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed or decided for the user, in whole sentences, each once."""
        rooms = (
            self.material.text, self.material.base, self.federation, self._surgery, self.sharing, self.gathering
        )  # fmt: skip
        return tuple(dict.fromkeys([*(note for room in rooms for note in room.notes), *self.federation.cautions]))

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Has the batched layers in the base model."""
        with self.material.base.lent(), process.tensor_float_32(self.config.tf32):
            self._surgery.redo()
            try:
                yield
            finally:
                self._surgery.undo()

    def _begin(self, earlier: Earlier) -> None:
        """Makes the state of a run as it is after an earlier part of it, and what works on it."""
        self._lost = frozenset[int]()
        config, material, device = self.config, self.material, self.material.base.model.device
        stored = None if earlier.checkpoint is None else earlier.checkpoint.arrays
        beginning = self.gathering.begin(
            Beginning(earlier.run, earlier.event, stored),
            lambda: common_to_all(config, self.federation, self.layout, material, self.sharing),
        )
        federation, site = self.gathering.spread(self.federation), self.gathering.site
        first = self._surgery.initial.to(device)
        known = None if site.alone else known_to(site, federation.topology.graphs)
        origin = None if known is None else self._origin(first, known)
        self.bank.fill(first, site.stop - site.start, device)
        self.state = State(self.bank.P, run_id=bytes.fromhex(beginning.run), clients=site.ids, known=known)
        timing = self.state.room("clock")
        self.method.begin(self.state, self.layout)
        local_steps = self.local_steps[site.rows]
        self.optimizer = ClientOptimizer(
            self.bank.P,
            self.bank.G,
            name=config.optimizer,
            learning_rate=config.learning_rate,
            weight_decay=np.where(self.layout.matrices, config.weight_decay, 0.0),
            momentum=config.momentum,
            schedule=config.schedule,
            warmup=config.warmup,
            steps=config.rounds * local_steps,
            clip_norm=config.clip_norm,
            edges=[block.start for block in self.layout],
            room=self.state.room("optimizer"),
        )
        self._trainer = LocalTrainer(
            material.base.model,
            self.bank,
            self.optimizer,
            self._train,
            self._orders[site.rows],
            steps=local_steps,
            group_size=self.group_size,
            examples=examples_at_once(
                material.base.model,
                self.sharing,
                columns=self.layout.columns,
                max_length=self._longest,
                group_size=self.group_size,
                batch_size=federation.batch_size,
            ),
            first=site.start,
            room=self.state.room("loss_scale"),
            **self._computing,
        )
        self._gossip = Gossip(
            federation,
            self.method,
            self.layout,
            self.state,
            sent=self._first.sent,
            gamma=config.gamma,
            version=version("declora"),
            seed=config.seed,
            digested=config.ledger,
            origin=origin,
        )
        self.evaluator = evaluator_of(
            config, material, self.shares.evaluated, self.bank, metric=self.metric, sharing=self.sharing, first=first
        )
        self._measuring = Measuring(
            self.federation,
            self.method,
            self.layout,
            self._surgery.scalings,
            self.evaluator,
            self.gathering.appraise,
            timing,
            rounds=config.rounds,
            eval_every=config.eval_every,
            named=config.checkpoint_every is not None,
            ledger=config.ledger,
        )
        if beginning.arrays is not None:
            self.state.restore(beginning.event, beginning.arrays)
        self.whole = self.gathering.started(self.state)

    def _origin(self, first: torch.Tensor, known: NDArray[np.int64]) -> torch.Tensor:
        """Returns what everybody knows that these clients begin with, `[known, width]`."""
        theirs = State(first.repeat(len(known), 1), clients=known)
        self.method.begin(theirs, self.layout)
        return self.method.origin(theirs)

    def execute(
        self, observe: Callable[[RoundRecord], None] = lambda record: None, earlier: Earlier | None = None
    ) -> Outcome:
        """Runs all rounds; `observe` gets each round's record as soon as it is measured.

        Args:
            observe: Gets the records.
            earlier: A part of the run, after which it goes on; None: it begins.

        Raises:
            RunFolderError: The state in `earlier` does not fit the run.
            TrainingError: A loss, gradient or adapter left the finite numbers, or memory ran out; names the round.
        """
        earlier = earlier or Earlier.nothing()
        history: list[RoundRecord] = [dict(record) for record in earlier.records]
        with closing(self.rounds(earlier)) as rounds:
            for record in rounds:
                history.append(record)
                observe(record)
        return self.outcome(history)

    def outcome(self, history: Sequence[RoundRecord]) -> Outcome:
        """Returns what the run leaves after the rounds in `history`."""
        state = self.whole or self.state
        return Outcome(
            rows=state.adapter.cpu(),
            mean=self._measuring.endpoint(state, self._lost).cpu() if self.gathering.leads else None,
            initial=self._surgery.initial,
            site=Site.whole(len(state.adapter)) if self.gathering.leads else self.gathering.site,
            layout=self.layout,
            sent=self.sent,
            lora=self._surgery.config,
            history=pd.DataFrame([{k: v for k, v in record.items() if k != "clients"} for record in history]),
            clients=pd.DataFrame([row for record in history for row in record["clients"]]),
            evaluated=self.evaluator.evaluated,
            local_steps=self.local_steps,
            lineage=self.material.lineage,
            split_bytes=self.shares.split_bytes(self.material.base.model, self._first.steps),
            notes=self.notes,
        )

    def rounds(self, earlier: Earlier | None = None) -> Generator[RoundRecord]:
        """Runs a round for each record that is asked for; what `execute` is made of.

        Args:
            earlier: A part of the run, after which it goes on; None: it begins.

        Raises:
            RunFolderError: The state in `earlier` does not fit the run.
            TrainingError: A loss, gradient or adapter left the finite numbers, or memory ran out; names the round.
        """
        earlier = earlier or Earlier.nothing()
        record, event = (dict(earlier.records[-1]) if earlier.records else None), 0
        with self.installed():
            try:
                self._begin(earlier)
                for event in range(self.state.event, self.config.rounds):
                    with self.gathering.telling():
                        record = self._round(event, record)
                    yield record
            except Exception as error:
                if not out_of_memory(error):
                    raise
                raise TrainingError(
                    f"memory ran out in round {event + 1}. Lower group_size (here {self.group_size}), "
                    "batch_size or max_length."
                ) from error

    def _round(self, event: int, before: RoundRecord | None) -> RoundRecord:
        """Runs one event: a plan, local steps, gossip; returns what is measured of it."""
        state, method = self.state, self.method
        struck = self.federation.faults.strike(self.plan(event))
        plan = struck.plan.at(self.gathering.site.rows)
        self.optimizer.reset_moments(plan.fresh)
        method.before_round(state, plan)
        start = time.perf_counter()
        with self._gossip.meanwhile(plan, state, method):
            work = self._trainer.run(plan, state, method)
        seconds = {"train": time.perf_counter() - start}
        inbox = self._gossip.round(plan, state, method)
        method.after_round(state, plan, inbox)
        state.event = event + 1
        return self._record(struck, RoundReport(work, inbox, seconds | inbox.seconds, state=state), before)

    def plan(self, event: int) -> Plan:
        """Returns what happens in a round: all is trained, and all is sent, where the method says nothing else."""
        topology = self.federation.topology
        usual = Plan(
            event,
            (Phase(self.local_steps, self.layout.whole),),
            self.layout.whole,
            topology.round(event),
            fresh=self.layout.whole if self.config.reset_moments else self.layout.of_kinds(),
        )
        return self.method.plan(usual, self.layout)

    def _record(self, struck: Struck, report: RoundReport, before: RoundRecord | None) -> RoundRecord:
        """Returns the record of a round; where what was measured goes elsewhere, one without measures."""
        measuring, event = self._measuring, struck.plan.event
        measuring.complete(report, self.state)
        gathered = self.gathering.gather(event, report, whole=(due := measuring.due(event + 1)))
        if gathered is None:
            if due:
                self.gathering.answer(event, self.evaluator.average)
            return {"round": event + 1, "clients": []}
        self.whole, self._lost = gathered.state or self.whole, gathered.lost
        return measuring.record(struck, gathered, self.state, before)
