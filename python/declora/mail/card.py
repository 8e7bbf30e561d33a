"""Mail on a GPU: rows are encoded, decoded and mixed where they are, and no frame is ever made of a payload."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from declora import cuda
from declora.codec import NoMemory
from declora.exchange import LocalExchange, StarExchange
from declora.federation import Federation
from declora.inbox import Inbox
from declora.mail.base import Mail, give_back, taken, timed
from declora.methods import Stack
from declora.mixer import Linear, Mixer, core_matrix
from declora.plan import Columns, Plan, Rows
from declora.wire import Wire

__all__ = ["CardInbox", "CardMail", "stays_on_card"]


def stays_on_card(federation: Federation, method: Stack, device: torch.device) -> bool:
    """Returns whether rows on `device` need not leave it in a round, nor anything else that is as large.

    Nobody but kernels may look at them: an attack, a memory, a robust mixer, a method that combines by itself or whose
    clients choose what they send, messages that come late or again, and clients of unlike ranks work on arrays.
    """
    codec = federation.codec
    return (
        cuda.there(device)
        and cuda.Codec.of(codec.plain) is not None
        and codec.memory is NoMemory
        and type(federation.mixer) is Linear
        and type(federation.exchange) in (LocalExchange, StarExchange)
        and federation.attack is None
        and not federation.ranks
        and method.by_mixer
        and not federation.choosing
        and not federation.faults.longest
        and not federation.faults.stray
    )


@dataclass(kw_only=True)
class CardInbox(Inbox):
    """Messages whose payloads are on a GPU."""

    payloads: cuda.Payloads

    def public(self) -> Rows:
        """Returns z, what every holder of a message reconstructs from it, `[messages, columns]`."""
        if self.values is None:
            z = self.payloads.words.new_empty(len(self.bytes_sent), self.payloads.columns, dtype=torch.float32)
            self.payloads.decode(z)
            self.values = cuda.to_host(z).numpy()
        return self.values

    def mix(self, mixer: Mixer, rows: Any, *, gamma: float) -> None:
        """Mixes `rows [clients, columns]`, a tensor, in place by the linear rule, decoding in the same pass."""
        device = self.payloads.words.device
        if (everybody := self.everybody(mixer)) is not None:
            cuda.Average(everybody.row, everybody.home, device=device).mix_frames(self.payloads, rows, gamma)
            return
        weights = self.weights
        assert weights is not None
        core_matrix(weights)  # checks it
        matrix = cuda.MixingMatrix(weights.indptr, weights.indices, weights.data, weights.shape[1], device=device)
        matrix.mix_frames(self.payloads, rows, gamma)


class CardMail(Mail[torch.Tensor]):
    """Sends rows by their payloads alone: all clients are here, so headers would be written and compared for nothing.

    Their bytes are counted all the same.

    Args:
        federation: Who talks to whom, and how.
        wire: What makes frames of rows; it names what cannot be encoded.
        seed: Of the codec's random streams.
        device: Where the rows are.
    """

    def __init__(self, federation: Federation, wire: Wire, *, seed: int, device: torch.device) -> None:
        self._exchange, self._wire, self._seed = federation.exchange, wire, seed
        self._frame_bytes = federation.codec.frame_bytes
        codec = cuda.Codec.of(federation.codec.plain)
        assert codec is not None
        self._codec = codec
        self._senders = cuda.to_device(np.arange(federation.clients, dtype=np.int32), device)

    def take(self, lifted: torch.Tensor, columns: Columns) -> torch.Tensor:
        """Returns the columns, on the GPU."""
        return taken(lifted, columns)

    def swap(self, plan: Plan, rows: torch.Tensor, carried: NDArray[np.uint8] | None = None) -> Inbox:
        """Encodes `rows [clients, sent columns]`; what arrives is what was sent."""
        assert carried is None
        seconds = dict[str, float]()
        with timed(seconds, "encode"):
            payloads = self._codec.encode(rows, seed=self._seed, round=plan.event, senders=self._senders)
            if payloads.bad.item():  # the only time in a round that the CPU waits for the messages
                self._wire.encode(plan.event, cuda.to_host(rows).numpy(), plan.sent)
                raise AssertionError("the core encodes what a kernel refused")
        with timed(seconds, "exchange"):
            unread: NDArray[np.uint8] = np.empty((len(rows), 0), dtype=np.uint8)
            sizes = np.full(len(rows), self._frame_bytes(plan.sent.count))
            delivery = self._exchange.deliver(unread, sizes, plan.graph.audience)
        nobody = np.zeros(len(rows), dtype=np.bool_)
        return CardInbox(delivery.bytes_sent, plan.graph, refused=nobody, seconds=seconds, payloads=payloads)

    def put(self, lifted: torch.Tensor, columns: Columns, rows: torch.Tensor) -> None:
        """Writes the rows back where they are not `lifted` itself, and waits, so that times are those of the work."""
        give_back(lifted, columns, rows)
        if rows.device.type == "cuda":
            torch.cuda.current_stream(rows.device).synchronize()
