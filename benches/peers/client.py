"""One client's local steps as users of PEFT write them; the plain loop and Flower's clients both run this.

Needs torch, transformers, peft and numpy, and the folder that `benches/simulate.py` writes: it is imported in
Flower's environment, too, where there is no declora.
"""

import functools
import json
from pathlib import Path

import numpy as np
import torch
import transformers
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

State = dict[str, torch.Tensor]


class Client:
    """A base model with one adapter, into which the adapter of whichever client is to train is put."""

    def __init__(self, folder: Path) -> None:
        self.settings = json.loads((folder / "settings.json").read_text())
        self.start: State = load_file(folder / "adapter.safetensors")
        data = np.load(folder / "data.npz")
        self._labels, self._orders = data["labels"], data["orders"]  # [texts], [clients, steps, batch]
        self._texts = [{"input_ids": ids} for ids in np.split(data["ids"], data["starts"][1:-1])]
        model = self.settings["model"]
        self._tokenizer = transformers.AutoTokenizer.from_pretrained(model)
        base = transformers.AutoModelForSequenceClassification.from_pretrained(
            model, num_labels=self.settings["classes"]
        )
        lora = LoraConfig(task_type="SEQ_CLS", **self.settings["lora"])
        # Without dropout, as declora runs its base.
        self._model = get_peft_model(base, lora).eval()
        self._parameters = [p for p in self._model.parameters() if p.requires_grad]

    def train(self, adapter: State, client: int, t: int) -> tuple[State, float]:
        """Returns `adapter` after the K local steps of `client` in round `t`, and their mean loss."""
        set_peft_model_state_dict(self._model, adapter)
        optimizer = torch.optim.AdamW(self._parameters, lr=self.settings["learning_rate"], weight_decay=0.0, fused=True)
        steps = self.settings["local_steps"]
        losses = [self._step(optimizer, self._orders[client, t * steps + k]) for k in range(steps)]
        return {k: v.clone() for k, v in get_peft_model_state_dict(self._model).items()}, float(np.mean(losses))

    def _step(self, optimizer: torch.optim.Optimizer, texts: np.ndarray) -> float:
        batch = self._tokenizer.pad([self._texts[i] for i in texts], return_tensors="pt")  # to the longest of the batch
        loss = self._model(**batch, labels=torch.from_numpy(self._labels[texts])).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._parameters, self.settings["clip_norm"])
        optimizer.step()
        return loss.item()


@functools.cache
def client(folder: Path, threads: int) -> Client:
    """Returns the client of this process: the base is loaded once, not for each message."""
    torch.set_num_threads(threads)
    return Client(folder)
