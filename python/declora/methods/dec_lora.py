"""Dec-LoRA (arXiv 2501.15361): K local steps on A and B, then both are averaged with the neighbours'."""

from declora.methods.part import Part

__all__ = ["DecLora"]


class DecLora(Part):
    """LoRA fine-tuning by gossip, no server. Every hook is the default."""

    name = "dec-lora"
    source = "arXiv 2501.15361"
