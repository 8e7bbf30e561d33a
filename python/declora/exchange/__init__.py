"""Exchanges: where the rows of the others are."""

from declora.exchange.base import Delivery, Exchange
from declora.exchange.local import LocalExchange, StarExchange
from declora.exchange.lying import LyingExchange
from declora.exchange.routes import Routes
from declora.exchange.silent import SilentExchange

__all__ = ["Delivery", "Exchange", "LocalExchange", "LyingExchange", "Routes", "SilentExchange", "StarExchange"]
