"""The model side: one frozen base, one matrix of adapters, PEFT in and out."""

from declora.model.bank import AdapterBank
from declora.model.layout import Block, Layout
from declora.model.load import BaseModel, load_base
from declora.model.lora import adapter_config
from declora.model.storage import Storage

__all__ = ["AdapterBank", "BaseModel", "Block", "Layout", "Storage", "adapter_config", "load_base"]
