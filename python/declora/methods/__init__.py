"""Methods: what is trained, what is sent, what is combined, and what comes back into the adapter."""

from declora.errors import ConfigError, shown
from declora.methods.ad_psgd import AdPsgd
from declora.methods.alternating import AdfLora, RoLora, TadLora
from declora.methods.centralized import Centralized
from declora.methods.dec_lora import DecLora
from declora.methods.decaf import Decaf
from declora.methods.dfed_alt import DFedAlt, DFedSalt
from declora.methods.dis_pfl import DisPfl
from declora.methods.dp import DifferentialPrivacy
from declora.methods.fed_sb import FedSb
from declora.methods.fedavg import FedAvg
from declora.methods.fedrot import FedRot
from declora.methods.ffa_lora import FfaLora
from declora.methods.fola import Fola
from declora.methods.hafl import Hafl
from declora.methods.haflq import HaflQ
from declora.methods.hetlora import HetLora
from declora.methods.kd import Distillation
from declora.methods.kd_topk import TopWords
from declora.methods.local import Local
from declora.methods.lora_fair import LoraFair
from declora.methods.part import Part, Step
from declora.methods.primal_dual import D2, PrimalDual
from declora.methods.prox import Prox
from declora.methods.public import PublicLoss, PublicTexts
from declora.methods.ranks import Ranks
from declora.methods.residual import FedEx, Flora
from declora.methods.rw_lora import RwLora
from declora.methods.stack import Stack
from declora.methods.tracking import GradientTracking
from declora.spec import parse_stack

__all__ = ["METHODS", "NAMED", "Part", "PublicLoss", "PublicTexts", "Ranks", "Stack", "Step", "build_method"]

METHODS: dict[str, type[Part]] = {
    part.name: part
    for part in (
        DecLora,
        Centralized,
        FedAvg,
        Local,
        FfaLora,
        AdfLora,
        TadLora,
        RoLora,
        Decaf,
        LoraFair,
        FedRot,
        FedEx,
        Flora,
        FedSb,
        GradientTracking,
        D2,
        PrimalDual,
        Prox,
        DFedAlt,
        DFedSalt,
        Fola,
        RwLora,
        AdPsgd,
        DifferentialPrivacy,
        DisPfl,
        Hafl,
        HaflQ,
        HetLora,
        Distillation,
        TopWords,
    )
}
"""Every part that settings can name."""

NAMED: dict[str, str] = {
    "con-lora": "ffa-lora",
    "flexlora": "fedavg+decaf:left=1",
    "scaffold": "gradient-tracking",
    "dp-lora": "dec-lora+dp",
}
"""Names of the field for what are parts, or stacks of them, here."""


def build_method(method: object) -> Stack:
    """Returns the method that a text names, `PART[:OPTION=NUMBER,...][+PART...]`, or that a part or a list is.

    Raises:
        ConfigError: A name or option is not known, with the nearest match, the parts do not fit each other, or it is
            something else.
    """
    if isinstance(method, Stack):
        return method
    if isinstance(method, Part):
        return Stack([method])
    if isinstance(method, list | tuple) and method:
        return Stack([part for one in method for part in build_method(one).parts])
    if not isinstance(method, str):
        raise ConfigError(
            f"method={shown(method)} is no method. Give a name such as 'dec-lora', an object of a class of yours that "
            "derives from declora.Part, or a list of these."
        )
    known = {name: part.options for name, part in METHODS.items()} | {name: {} for name in NAMED}
    parts: list[Part] = []
    for name, options in parse_stack("method", method, known):
        parts += build_method(NAMED[name]).parts if name in NAMED else [METHODS[name](**options)]
    return Stack(parts)
