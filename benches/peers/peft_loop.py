"""Local steps as users of PEFT write them, one client at a time, of tokens that lie on the host."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel

from declora.train.order import ClientOrder
from declora.train.tokens import Tokens

State = dict[str, torch.Tensor]


class PeftLoop:
    """A copy of a base with one adapter, into which the adapter of whichever client is to train is put."""

    def __init__(
        self, model: PreTrainedModel, lora: LoraConfig, start: State, tokens: Tokens, *, rate: float, clip: float
    ) -> None:
        # Without dropout, as declora runs its base.
        self._model = get_peft_model(copy.deepcopy(model), copy.deepcopy(lora)).eval()
        self._parameters = [p for p in self._model.parameters() if p.requires_grad]
        self._mean, self._tokens, self._rate, self._clip = start, tokens, rate, clip

    def round(self, orders: Sequence[ClientOrder], steps: range) -> NDArray[np.float64]:
        """Trains each client from the mean of all, then averages; returns each client's mean loss."""
        trained, losses = zip(*(self._client(order, steps) for order in orders), strict=True)
        self._mean = {name: torch.stack([own[name] for own in trained]).mean(0) for name in self._mean}
        return np.array(losses)

    def _client(self, order: ClientOrder, steps: range) -> tuple[State, float]:
        set_peft_model_state_dict(self._model, self._mean)
        fused = self._model.device.type == "cuda"
        optimizer = torch.optim.AdamW(self._parameters, lr=self._rate, weight_decay=0.0, fused=fused)
        losses = torch.stack([self._step(optimizer, order.batch(step)) for step in steps])
        return {k: v.clone() for k, v in get_peft_model_state_dict(self._model).items()}, float(losses.mean())

    def _step(self, optimizer: torch.optim.Optimizer, texts: NDArray[np.int64]) -> torch.Tensor:
        batch = self._tokens.batch(texts, self._model.device)  # padded to its longest text
        options = {} if batch.scored is None else {"use_cache": False}
        loss = self._model(**batch.inputs, labels=batch.labels, **options).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self._clip)
        optimizer.step()
        return loss.detach()
