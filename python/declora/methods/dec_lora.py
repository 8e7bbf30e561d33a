"""Dec-LoRA (arXiv 2501.15361): K local steps on A and B, then both are averaged with the neighbours'."""

from declora.methods.base import Method

__all__ = ["DecLora"]


class DecLora(Method):
    """LoRA fine-tuning by gossip, no server. Every hook is the default."""

    name = "dec-lora"
