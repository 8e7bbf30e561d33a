"""How a frozen base is held in memory, in bytes."""

from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["Storage"]


@dataclass(frozen=True)
class Storage:
    """How the frozen base is held in memory."""

    kind: str
    """nf4, fp4, or the dtype where nothing is quantized."""
    size: int
    """Bytes of weights, scales and buffers."""
    plain: int
    """Bytes without quantization, each weight in the dtype that it had."""

    @classmethod
    def of(cls, model: nn.Module) -> "Storage":
        """Measures `model`: weights that share memory count once, and scales of scales count."""
        kinds, size, plain, seen = set(), 0, 0, set()
        for tensor in (*model.parameters(), *model.buffers()):
            state = getattr(tensor, "quant_state", None)
            parts = [tensor]
            if state is not None:
                kinds.add(state.quant_type)
                outer = state.state2 if state.nested else None
                parts += [state.absmax, state.code, *([state.offset, outer.absmax, outer.code] if outer else [])]
            for part in parts:
                if part.data_ptr() not in seen:
                    seen.add(part.data_ptr())
                    size += part.nbytes
                    plain += part.nbytes if state is None else 0
            if state is not None:
                plain += state.shape.numel() * state.dtype.itemsize
        dtype = next((p.dtype for p in model.parameters()), torch.float32)
        return cls("+".join(sorted(kinds)) or str(dtype).removeprefix("torch."), size, plain)
