"""Exchanges: where the rows of the others are."""

from declora.exchange.base import Delivery, Exchange
from declora.exchange.local import LocalExchange, StarExchange
from declora.exchange.routes import Routes

__all__ = ["Delivery", "Exchange", "LocalExchange", "Routes", "StarExchange"]
