"""What happens to the link and the host, and what is expected of it."""

from __future__ import annotations

from functools import partial

from tests.links.host import BOOT, Host
from tests.links.trial import Row

DEAD = 15.0
"""``dead_after``, its default."""


ROWS = [
    Row("link down for 3 s", lambda host: host.link_down(3), None, loses_commands=False),
    Row("link down for 30 s", lambda host: host.link_down(30), DEAD + 1),
    Row("every packet dropped for 30 s", lambda host: host.silent(30), DEAD + 1),
    Row("sshd's children killed", Host.kill_sessions, 1.0),
    Row("sshd restarted, its children go on", partial(Host.restart_sshd, sessions=False), None, loses_commands=False),
    Row("sshd restarted with its children", partial(Host.restart_sshd, sessions=True), 1.0),
    Row(
        f"host rebooted ({BOOT:g} s without power)",
        Host.reboot,
        DEAD + 1,
        agent_downs=1,
        reason="pi's tmux server died",
        forgets=True,
    ),
    Row(
        "link down for good",
        Host.link_down_for_good,
        25.0 + 1,
        dead_after=10.0,
        give_up_after=15.0,
        abandon_after=60.0,
        ends=True,
        forgets=True,
        reason="MachineDown",
    ),
]
