"""Limits for mailboxes. An actor without one has an unbounded queue, as in Erlang."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ramure.errors import UsageError

__all__ = ["Mailbox"]


@dataclass(frozen=True, slots=True)
class Mailbox:
    """At most ``limit`` waiting messages; EXIT, DOWN and system requests never count and always fit.

    ``overflow`` says what a message does that finds no room: ``"fail"`` raises
    :class:`~ramure.errors.MailboxFull` in the sender, ``"drop_new"`` drops it, ``"drop_old"`` drops the
    oldest waiting one. Drops are counted; an ``ask`` that is dropped raises ``MailboxFull`` in its asker.
    ``await ref.send(message)`` waits for room instead.
    """

    limit: int
    overflow: Literal["fail", "drop_new", "drop_old"] = "fail"

    def __post_init__(self) -> None:
        if type(self.limit) is not int or self.limit < 1:
            raise UsageError(f"Mailbox(limit={self.limit!r}): the limit must be an int of 1 or more")
        if self.overflow not in ("fail", "drop_new", "drop_old"):
            raise UsageError(f"Mailbox(overflow={self.overflow!r}): use 'fail', 'drop_new' or 'drop_old'")
