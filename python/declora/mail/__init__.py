"""Mail: the rows of a round go out as messages, and an inbox comes back."""

from declora.mail.base import Mail
from declora.mail.card import CardMail, stays_on_card
from declora.mail.host import HostMail

__all__ = ["CardMail", "HostMail", "Mail", "stays_on_card"]
