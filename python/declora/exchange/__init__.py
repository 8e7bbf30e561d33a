"""Exchanges: where the rows of the others are."""

from declora.exchange.base import Delivery, Exchange
from declora.exchange.local import LocalExchange, StarExchange

__all__ = ["Delivery", "Exchange", "LocalExchange", "StarExchange"]
