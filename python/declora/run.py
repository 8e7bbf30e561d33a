"""One run: rounds of local steps and gossip, and what is measured of them."""

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from peft import LoraConfig

from declora import _bridge, process, seeds
from declora.config import SimulationConfig
from declora.errors import ConfigError, TrainingError, out_of_memory
from declora.gossip import Gossip, Traffic
from declora.methods import Federation, build_method
from declora.metrics import choose_metric
from declora.model import AdapterBank, Layout, Storage, adapter_config
from declora.model.batched import Rows
from declora.model.surgery import Surgery
from declora.prepare import Material, federation_of
from declora.train.evaluate import Score, sample_texts
from declora.train.evaluator import Evaluator
from declora.train.local_steps import LocalRound, LocalTrainer
from declora.train.memory import check_fits, choose_group_size
from declora.train.optimizer import ClientOptimizer
from declora.train.order import ClientOrder, steps_per_round
from declora.train.packing import pack_blocks, pack_examples
from declora.train.sharing import Sharing, find_sharing
from declora.train.tokens import Tokens

__all__ = ["Outcome", "RoundRecord", "Run"]

RoundRecord = dict[str, Any]


@dataclass(frozen=True)
class Outcome:
    """What a run leaves behind."""

    rows: torch.Tensor
    """float32 `[clients, D]`, on the CPU: the adapters after the last round."""
    mean: torch.Tensor
    """float32 `[D]`: their average, weighted by the law that gossip keeps (`Topology.law`)."""
    layout: Layout
    lora: LoraConfig
    history: pd.DataFrame
    clients: pd.DataFrame
    evaluated: tuple[int, int]
    """Samples that the averaged model and each client's own are evaluated on."""
    local_steps: NDArray[np.int64]
    """`[clients]`: steps of each client in a round."""
    base: Storage
    """How the frozen base was held."""
    notes: tuple[str, ...] = ()
    """What was guessed or decided for the user."""


class Run:
    """A run, ready to start: everything that can be refused has been checked when the constructor returns."""

    @process.alone()  # PEFT, as whatever loads, changes globals
    def __init__(self, config: SimulationConfig, material: Material) -> None:
        self.config = config
        self.material = material
        method = build_method(config.method)
        own = material.text.preset.metric if material.text.preset else None
        self.metric = choose_metric(config.metric or own, material.text.task)
        if self.metric.name == "exact_match" and material.questions is None:
            raise ConfigError("metric='exact_match' needs generated answers. Set max_new_tokens, e.g. 256.")
        planned, self.partition = federation_of(config, material.text)
        self.federation: Federation = method.arrange(planned)
        if self.federation.exchange is not None:
            self.federation.mixer.check(self.federation.topology)
        # Whose adapters count, and the same as an index: with nobody to leave out it gives views, not copies.
        self._honest = [c for c in range(self.federation.clients) if c not in self.federation.attackers]
        self._rows = Rows()
        lora = adapter_config(config.lora, material.base, material.task_type)
        with ExitStack() as given_back:
            given_back.enter_context(material.base.lent())
            self._surgery = Surgery(
                material.base.model, lora, self._rows, seed=seeds.derive(config.seed, "adapter") % 2**63
            )
            given_back.callback(self._surgery.undo)
            self._assemble()
            self._given_back = given_back.pop_all()

    def _assemble(self) -> None:
        config, material = self.config, self.material
        codec = self.federation.codec.for_shapes(self._surgery.layout.shapes)
        self.federation = federation = replace(self.federation, codec=codec)
        device = material.base.model.device
        train, shards = material.train, federation.shards
        if config.packing:
            pack = pack_examples if material.text.has_prompts else pack_blocks
            train, shards = pack(train, shards, max_length=config.max_length)
        check_fits(
            material.base.model,
            clients=federation.clients,
            columns=self._surgery.layout.columns,
            batch_size=federation.batch_size,
            length=float(train.lengths.mean()),
            device=device,
        )
        self.bank = AdapterBank(self._surgery.layout, self._surgery.slots, self._rows)
        self.bank.fill(self._surgery.initial, federation.clients, device)
        orders = [
            ClientOrder(
                shard,
                batch_size=federation.batch_size,
                seed=config.seed,
                client=client,
                whole_epochs=config.local_epochs is not None,
            )
            for client, shard in enumerate(shards)
        ]
        self.local_steps = steps_per_round(orders, steps=config.local_steps, epochs=config.local_epochs)
        self._optimizer = ClientOptimizer(
            self.bank.P,
            self.bank.G,
            name=config.optimizer,
            learning_rate=config.learning_rate,
            weight_decay=np.where(self.bank.layout.matrices, config.weight_decay, 0.0),
            momentum=config.momentum,
            schedule=config.schedule,
            warmup=config.warmup,
            steps=config.rounds * self.local_steps,
            clip_norm=config.clip_norm,
        )
        self.sharing = self._find_sharing(train)
        self.group_size = 1
        if self.sharing.together:
            self.group_size = config.group_size or choose_group_size(
                material.base.model,
                clients=federation.clients,
                batch_size=federation.batch_size,
                max_length=min(config.max_length, int(train.lengths.max())),
                device=device.type,
            )
        self._trainer = LocalTrainer(
            material.base.model,
            self.bank,
            self._optimizer,
            train,
            orders,
            steps=self.local_steps,
            group_size=self.group_size,
            sort_by_length=config.sort_by_length and self.sharing.together,
            base_dropout=config.base_dropout,
            unpadding=self.sharing.unpadding,
            seed=config.seed,
        )
        self._gossip = Gossip(
            federation,
            self.bank.P,
            gamma=config.gamma,
            manifest=self.bank.layout.digest(str(federation.codec)),
            seed=config.seed,
        )
        self._evaluator = Evaluator(
            material.base.model,
            material.base.tokenizer,
            self.bank,
            material.evaluation,
            material.questions,
            self.metric,
            texts=sample_texts(material.evaluation, config.eval_samples, seed=config.seed),
            client_texts=sample_texts(material.evaluation, config.client_eval_samples, seed=config.seed),
            sharing=self.sharing,
        )

    def _find_sharing(self, train: Tokens) -> Sharing:
        """Returns how clients share passes; padding is left out of those of a classifier on a CPU, where wanted."""
        config, base = self.config, self.material.base
        return find_sharing(
            base.model,
            self.bank,
            train,
            clients=self.federation.clients,
            special=base.tokenizer.all_special_ids,
            unpad=config.unpad and train.task == "classification" and self.bank.P.device.type == "cpu",
            base_dropout=config.base_dropout,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was guessed or decided for the user, in whole sentences, each once."""
        rooms = (self.material.text, self.material.base, self.federation, self._surgery, self.sharing)
        return tuple(dict.fromkeys([*(note for room in rooms for note in room.notes), *self.federation.cautions]))

    def discard(self) -> None:
        """Gives the base model back as it came, for a run that will not be executed."""
        self._given_back.close()

    def execute(self, observe: Callable[[RoundRecord], None] = lambda record: None) -> Outcome:
        """Runs all rounds; `observe` gets each round's record as soon as it is measured.

        The base model is as it came when this returns or raises.

        Raises:
            TrainingError: A loss, gradient or adapter left the finite numbers, or memory ran out; names the round.
        """
        history: list[RoundRecord] = []
        with closing(self.rounds()) as rounds:
            for record in rounds:
                history.append(record)
                observe(record)
        return Outcome(
            rows=self.bank.P.cpu(),
            mean=self.bank.mean(self._honest, self.federation.topology.law).cpu(),
            layout=self.bank.layout,
            lora=self._surgery.config,
            history=pd.DataFrame([{k: v for k, v in record.items() if k != "clients"} for record in history]),
            clients=pd.DataFrame([row for record in history for row in record["clients"]]),
            evaluated=(len(self._evaluator.texts), len(self._evaluator.client_texts)),
            local_steps=self.local_steps,
            base=self.material.base.storage,
            notes=self.notes,
        )

    def rounds(self) -> Generator[RoundRecord]:
        """Runs a round for each record that is asked for; what `execute` is made of.

        The base model is as it came when this ends, is closed or raises.

        Raises:
            TrainingError: A loss, gradient or adapter left the finite numbers, or memory ran out; names the round.
        """
        record: RoundRecord | None = None
        try:
            for t in range(self.config.rounds):
                record = self._round(t, record)
                yield record
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise TrainingError(
                f"memory ran out in round {t + 1}. Lower group_size (here {self.group_size}), batch_size or max_length."
            ) from error
        finally:
            self.discard()

    def _round(self, t: int, before: RoundRecord | None) -> RoundRecord:
        if self.config.reset_moments:
            self._optimizer.reset_moments()
        learning_rate = self._optimizer.learning_rate
        start = time.perf_counter()
        try:
            work = self._trainer.run(round_index=t + 1)
        except TrainingError as error:
            if t == 0 or not self.federation.attackers:
                raise
            attack, mixer = str(self.federation.attack), str(self.federation.mixer)
            raise TrainingError(
                f"{error} Or keep out attack={attack!r}: mixer={mixer!r} may let it through."
            ) from error
        trained = time.perf_counter()
        traffic = self._gossip.round(t, self.bank.P)
        record: RoundRecord = {
            "round": t + 1,
            "learning_rate": learning_rate,
            "train_loss": float(work.losses[self._honest].mean()),
            "samples_seen": int(work.samples.sum()),
            "samples_total": int(work.samples.sum()) + (before["samples_total"] if before else 0),
            "consensus_distance": _bridge.consensus_distance(self.bank.rows_of(self._honest).cpu()),
            "bytes_sent": int(traffic.bytes_sent.sum()),
            "bytes_total": int(traffic.bytes_sent.sum()) + (before["bytes_total"] if before else 0),
            "seconds_train": trained - start,
            **{f"seconds_{phase}": seconds for phase, seconds in traffic.seconds.items()},
        }
        if traffic.refused is not None:
            record["frames_refused"] = int(traffic.refused.sum())
        scores = self._evaluate(record, last=t + 1 == self.config.rounds)
        record["clients"] = self._client_records(t, work, traffic, scores)
        return record

    def _evaluate(self, record: RoundRecord, *, last: bool) -> dict[int, Score]:
        """Adds the evaluation of this round, if it is due, to `record`; returns each honest client's score."""
        if not last and record["round"] % self.config.eval_every:
            return {}
        start = time.perf_counter()
        record |= self._evaluator.average(self.bank.mean(self._honest, self.federation.topology.law))
        scores = self._evaluator.clients(self._honest)
        record |= self._evaluator.spread(scores)
        record["seconds_evaluate"] = time.perf_counter() - start
        return scores

    def _client_records(
        self, t: int, work: LocalRound, traffic: Traffic, scores: dict[int, Score]
    ) -> list[dict[str, Any]]:
        return [
            {
                "round": t + 1,
                "client": client,
                "train_loss": float(work.losses[client]),
                "local_steps": int(self.local_steps[client]),
                "samples_seen": int(work.samples[client]),
                "bytes_sent": int(traffic.bytes_sent[client]),
                **(scores[client].record() if client in scores else {}),
            }
            for client in range(self.federation.clients)
        ]
