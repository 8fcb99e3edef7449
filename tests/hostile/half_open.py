"""Another user of this host: ``python half_open.py PORT SECONDS COUNT`` keeps so many connections on which it says nothing.

One that the other side closes is replaced, at most 1,000 a second. It ends by itself, and prints how many it has made.
"""

from __future__ import annotations

import contextlib
import os
import resource
import selectors
import socket
import sys
import time

NOBODY = 65534
REPLACED = 1000
"""Connections a second that are made anew, at most."""
AT_ONCE = 200


def main(port: int, seconds: float, count: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
    found = selectors.DefaultSelector()
    made, until, due = 0, time.monotonic() + seconds, float(count)
    while (now := time.monotonic()) < until:
        for _ in range(min(AT_ONCE, int(due), count - len(found.get_map()))):
            due, made = due - 1, made + 1
            one = socket.socket()
            one.setblocking(False)
            with contextlib.suppress(OSError):
                one.connect_ex(("127.0.0.1", port))
            found.register(one, selectors.EVENT_READ)
        for key, _ in found.select(0.02):
            with contextlib.suppress(BlockingIOError):
                with contextlib.suppress(ConnectionError):
                    if key.fileobj.recv(1):  # type: ignore[union-attr]
                        continue
                found.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
        due = min(due + (time.monotonic() - now) * REPLACED, count)
    print(made, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
