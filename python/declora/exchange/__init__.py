"""Exchanges: where the rows of the others are."""

from declora.exchange.base import Delivery, Exchange, Levelled
from declora.exchange.local import LocalExchange, StarExchange
from declora.exchange.lying import LyingExchange
from declora.exchange.routes import Routes
from declora.exchange.silent import SilentExchange
from declora.exchange.spread import SpreadExchange, known_to, neighbouring

__all__ = [
    "Delivery",
    "Exchange",
    "Levelled",
    "LocalExchange",
    "LyingExchange",
    "Routes",
    "SilentExchange",
    "SpreadExchange",
    "StarExchange",
    "known_to",
    "neighbouring",
]
