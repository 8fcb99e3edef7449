"""The actor kernel: mailboxes, links, monitors, names and timers, after Erlang/OTP.

Usable on its own::

    class Counter(Actor):
        async def init(self, start: int = 0) -> None:
            self.n = start

        async def add(self, k: int) -> int:
            self.n += k
            return self.n

    async with ActorSystem() as system:
        counter = await system.start(Counter, start=3)
        assert await counter.proxy().add(2) == 5

``docs/semantics.md`` says what is guaranteed and what is not.
"""

from ramure.actors._kernel.body import ReceiveTimeout, alias, exit, monitor, receive, self_ref, trap_exit
from ramure.actors._kernel.relations import Alias, Monitor
from ramure.actors._kernel.starting import Starter, StartIgnored, StartTimeout
from ramure.actors._kernel.threads import AbandonedThread
from ramure.actors.actor import Actor
from ramure.actors.mailbox import Mailbox
from ramure.actors.messages import NO_REPLY, Ask, Call, Down, Exit, Ignore, Request, Stop, Timeout
from ramure.actors.names import Registry
from ramure.actors.ref import Ref
from ramure.actors.system import ActorSystem
from ramure.actors.threaded import ThreadedActor
from ramure.actors.timers import Timer

__all__ = [
    "NO_REPLY",
    "AbandonedThread",
    "Actor",
    "ActorSystem",
    "Alias",
    "Ask",
    "Call",
    "Down",
    "Exit",
    "Ignore",
    "Mailbox",
    "Monitor",
    "ReceiveTimeout",
    "Ref",
    "Registry",
    "Request",
    "StartIgnored",
    "StartTimeout",
    "Starter",
    "Stop",
    "ThreadedActor",
    "Timeout",
    "Timer",
    "alias",
    "exit",
    "monitor",
    "receive",
    "self_ref",
    "trap_exit",
]
