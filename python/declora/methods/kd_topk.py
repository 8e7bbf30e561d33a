"""Distillation of language models: clients exchange the most likely next words of public texts, and no adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from declora.codec import IndexedCodec
from declora.errors import ConfigError
from declora.exchange import StarExchange
from declora.methods.kd import Distillation
from declora.methods.top_words import distillation, most_likely, pooled
from declora.mixer import Mixer
from declora.plan import Plan
from declora.spec import Option

if TYPE_CHECKING:
    import torch

    from declora.federation import Federation
    from declora.inbox import Inbox
    from declora.methods.public import PublicLoss, PublicTexts
    from declora.model import Layout
    from declora.state import State

__all__ = ["TopWords"]


class TopWords(Distillation):
    """Clients exchange the k most likely next words at S places of public texts in the place of adapters.

    A place is a token of a public text, `public_data`, whose next one a model predicts (of an answer, where the texts
    are prompts with answers). After its local steps client i sends of each the k words v that are most likely by its
    own model and their probabilities p_i(v), those of softmax(z / tau): 2 S k numbers. It pools them with its
    neighbours',

        t_i(v) = (1 - gamma (1 - w_ii)) p_i(v) + gamma sum_j w_ij p_j(v)

    with 0 for a word that somebody did not send; of these it keeps the k most likely. All others are one bucket, with
    what is missing to 1. In the next round the loss of each local step is

        task loss + weight tau^2 KL(t_i || q)

    over these k + 1, where q is what softmax(z / tau) of the client's model has of each, with the mean of KL over the
    places of `batch` public texts, drawn as by `kd`. KL of buckets is at most that of all words, and 0 for a model that
    says the same. Messages, memory and loss so depend on k and on no vocabulary.

    The source compares the exchange of logits with that of adapters, and counts 2 k numbers of a place for a language
    model. Ours are: probabilities, not logits, since of a word that somebody did not send its probability is known to
    be small and its logit is not; the bucket; the defaults. Words are sent as they are, in as few bytes as the largest
    needs (2 of a vocabulary up to 65,536), and probabilities by the codec.

    Args:
        k: Words of a place.
        tau: Temperature, above 0.
        weight: Of the distillation, lambda above; 0 is local training.
        batch: Public texts of a step; all, where there are fewer.
    """

    name = "kd-topk"
    reads_words = True
    options: ClassVar[Mapping[str, Option]] = {"k": Option(whole=True, least=1), **Distillation.options}

    def __init__(self, k: int = 8, tau: float = 2.0, weight: float = 1.0, batch: int = 8) -> None:
        super().__init__(tau, weight, batch)
        self.k = k

    def __str__(self) -> str:
        """The part with its options."""
        return f"{self.name}:k={self.k},tau={self.tau:g},weight={self.weight:g},batch={self.batch}"

    def arrange(self, federation: Federation) -> Federation:
        """Returns the federation, whose codec leaves words as they are.

        Raises:
            ConfigError: Nobody talks, or a server does; a mixer, which compares numbers that are of other words in each
                message; or a codec that remembers them.
        """
        federation = super().arrange(federation)
        if isinstance(federation.exchange, StarExchange):
            raise ConfigError(
                f"method={self.name!r} sends other words of each client, and a server's answer, all that any sent, "
                "would be larger than what it counts. Use a graph, without fedavg."
            )
        if str(federation.mixer) != "linear":
            raise ConfigError(
                f"mixer={str(federation.mixer)!r} compares numbers that mean the same in all messages, but with "
                f"method={self.name!r} each has other words. Use mixer='linear'."
            )
        if not federation.codec.memory.lossless:
            raise ConfigError(
                f"codec={federation.codec.name!r} remembers what was sent of each number, but with method="
                f"{self.name!r} these are of other words in each round. Use a codec without a memory, e.g. codec='q4'."
            )
        return replace(federation, codec=IndexedCodec(federation.codec))

    def read_public(self, texts: PublicTexts) -> None:
        """Keeps what the clients' models make of the public texts.

        Raises:
            ConfigError: There is no word beside k.
        """
        if self.k >= texts.classes:
            raise ConfigError(
                f"method={str(self)!r}: k={self.k} must be less than the {texts.classes} words of the model, of which "
                f"all others are one bucket. Use e.g. k={max(1, min(8, texts.classes // 2))}."
            )
        super().read_public(texts)

    def lifted(self, layout: Layout) -> Layout:
        """Returns the columns of words, place by place, then those of their probabilities."""
        from declora.model import Block, Layout

        shape = (int(self._public.places[-1]), self.k)
        words = Block("public.words", shape, "head", 0)
        return Layout([words, Block("public.probabilities", shape, "head", words.stop)])

    def origin(self, state: State) -> torch.Tensor:
        """Returns zeros: no word is known to be likely."""
        return state.adapter.new_zeros(len(state.adapter), 2 * int(self._public.places[-1]) * self.k)

    def lift(self, state: State, plan: Plan) -> torch.Tensor:
        """Returns the clients' most likely words and their probabilities, `[clients, 2 S k]`."""

        def summary(logits: torch.Tensor) -> torch.Tensor:
            return most_likely(logits / self.tau, self.k)

        pairs = self._public.summaries(state.adapter, summary, 2 * self.k).unflatten(2, (2, self.k))
        rows: torch.Tensor = pairs.transpose(1, 2).flatten(1)
        return rows

    def mix(self, mixer: Mixer, inbox: Inbox, rows: NDArray[np.float32], *, layout: Layout, gamma: float) -> None:
        """Pools each client's words with those of its neighbours."""
        weights, public = inbox.heard()
        own, heard = (values.reshape(len(values), 2, -1, self.k) for values in (rows, public))
        mixed = own.copy()
        for client in np.arange(len(own))[inbox.here].tolist():
            pairs = own[client]
            entries = slice(*weights.indptr[client : client + 2])
            others, shares = weights.indices[entries], gamma * weights.data[entries]
            away = others != client
            kept = 1.0 - shares[away].sum()
            said = np.concatenate([pairs[None], heard[others[away]]])
            mixed[client] = pooled(said, np.append(kept, shares[away]), self._public.classes)
        rows[:] = mixed.reshape(rows.shape)

    def _loss_of(self, state: State) -> PublicLoss:
        targets = self._targets(state).view(len(state.adapter), 2, -1, self.k)

        def loss(logits: torch.Tensor, clients: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            words, wanted = targets[clients, :, places].unbind(1)
            return self.weight * distillation(words.long(), wanted, logits, self.tau)

        return loss
