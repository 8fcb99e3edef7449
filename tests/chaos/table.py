"""The fault table: what happens to whom, and what is expected to come of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from ramure.agents.wire import SUBPROTOCOL, TOKEN_PREFIX
from tests.chaos.trial import Row, Trial
from tests.e2e.kit import until


async def kill_pi(trial: Trial) -> None:
    os.kill(trial.pi(), signal.SIGKILL)


async def quit_pi(trial: Trial) -> None:
    """As somebody who looks at its terminal does: ctrl-c, twice."""
    trial.stage.tmux(trial.run_id, "send-keys", "-t", "=worker:", "C-c", "C-c")


async def terminate_pi(trial: Trial) -> None:
    """It ends in its own order: newer versions abort what they are doing first."""
    os.kill(trial.pi(), signal.SIGTERM)


async def kill_session(trial: Trial) -> None:
    trial.stage.tmux(trial.run_id, "kill-session", "-t", "=worker:")


async def kill_server(trial: Trial) -> None:
    trial.stage.tmux(trial.run_id, "kill-server")


async def stop_pi(trial: Trial) -> None:
    os.kill(trial.pi(), signal.SIGSTOP)


async def stop_pi_for_good(trial: Trial) -> None:
    """pi is the child of a shell: nobody sets it going again."""
    os.kill(child_of(trial.pi()), signal.SIGSTOP)


async def hang_node(trial: Trial) -> None:
    os.kill(trial.pi(), signal.SIGUSR2)


async def drop_socket(trial: Trial) -> None:
    assert trial.proxy.cut() > 0, "there was no connection to cut"


async def flood_socket(trial: Trial) -> None:
    """Bytes that are no HTTP, WebSockets without a token, and with a wrong one; a hundred of each."""
    junk = trial.random.randbytes(4096)
    head = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    protocols = ("chat", SUBPROTOCOL, f"{SUBPROTOCOL}, {TOKEN_PREFIX}wrong")
    openings = [junk, b"\x16\x03\x01" + junk, *(
        f"{head}{key}Sec-WebSocket-Protocol: {offered}\r\n\r\n".encode() + junk for offered in protocols
    )]  # fmt: skip
    await asyncio.gather(*(_throw(trial.port, opening) for opening in openings * 20))


async def _throw(port: int, data: bytes) -> None:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(data)
        await asyncio.wait_for(writer.drain(), 5)
        writer.close()
    except (OSError, TimeoutError):  # refused or reset, as it may be
        return


async def delete_session_file(trial: Trial) -> None:
    """Deleted under a live pi, which is killed a little later."""
    trial.session_file().unlink()
    await _whole_again(trial)
    await kill_pi(trial)


async def truncate_session_file(trial: Trial) -> None:
    """Cut somewhere under a live pi, which is killed a little later."""
    path = trial.session_file()
    os.truncate(path, trial.random.randrange(path.stat().st_size))
    await _whole_again(trial)
    await kill_pi(trial)


async def _whole_again(trial: Trial) -> None:
    await trial.told("problem")


async def delete_session_file_and_kill(trial: Trial) -> None:
    """pi dies before it can write it again."""
    pi = trial.pi()
    os.kill(pi, signal.SIGKILL)
    trial.session_file().unlink()


async def truncate_session_file_and_kill(trial: Trial) -> None:
    pi, path = trial.pi(), trial.session_file()
    os.kill(pi, signal.SIGKILL)
    os.truncate(path, trial.random.randrange(path.stat().st_size))


async def fill_disk(trial: Trial) -> None:
    """The disk of the logs is full, and stays so for a while after that was noticed."""
    filling = trial.stage.logs(trial.run_id) / "filling"
    with filling.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(512))
    await until(lambda: any(fact["what"] in ("alarm", "problem") for fact in trial.facts()), 60, "a full disk is told")
    await asyncio.sleep(trial.random.uniform(0, 1))
    filling.unlink()


async def nothing(trial: Trial) -> None:
    """The fault is in the program: its handler."""


async def use_up_restarts(trial: Trial) -> None:
    await kill_pi(trial)
    await trial.told("agent_restarted")
    await kill_pi(trial)


async def stop_machine(trial: Trial) -> None:
    trial.program.signal(signal.SIGUSR1)


def child_of(pid: int) -> int:
    """The one child of a process."""
    [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(child)


STALE = 4.0
"""Seconds after which the rows' hung pis count as such."""

ROWS = [
    Row("kill -9 pi, idle", kill_pi, ("idle",), reason="pi was killed by signal 9"),
    Row("kill -9 pi, mid-turn", kill_pi, ("mid-turn",), reason="pi was killed by signal 9"),
    Row("kill -9 pi, mid-tool", kill_pi, ("mid-tool",), reason="pi was killed by signal 9"),
    Row("pi exits 0", quit_pi, reason="pi exited by itself, with status 0"),
    Row("SIGTERM pi", terminate_pi, reason="pi (exited by itself, with status 0|was killed by signal 15)"),
    Row("kill tmux session", kill_session, reason="pi's tmux session was closed"),
    Row("kill tmux server", kill_server, reason="pi's tmux server died"),
    Row("SIGSTOP pi (it is set going)", stop_pi, agent_downs=0),
    Row(
        "SIGSTOP pi, for good",
        stop_pi_for_good,
        reason=f"no sign of life for {STALE:g} s",
        noticed_within=STALE + 2,
        settings={"stale_after": STALE},
        wrapped=True,
    ),
    Row(
        "Node hangs",
        hang_node,
        reason=f"no sign of life for {STALE:g} s",
        noticed_within=STALE + 2,
        settings={"stale_after": STALE},
    ),
    Row("socket dropped", drop_socket, agent_downs=0),
    Row("socket flooded with rubbish", flood_socket, agent_downs=0),
    Row("session file deleted, then pi killed", delete_session_file, reason="pi was killed by signal 9"),
    Row("session file truncated, then pi killed", truncate_session_file, reason="pi was killed by signal 9"),
    Row("session file deleted with pi", delete_session_file_and_kill, reason="killed by signal 9", once=False),
    Row("session file truncated with pi", truncate_session_file_and_kill, reason="killed by signal 9", once=False),
    Row(
        "log's disk full, then freed",
        fill_disk,
        ("mid-turn", "mid-tool"),
        agent_downs=0,
        small_disk=True,
    ),
    Row(
        "handler raises",
        nothing,
        ("mid-tool",),
        agent_downs=0,
        once=False,
        settings={"bad_step": 3, "badness": "raises"},
    ),
    Row(
        "handler hangs past its timeout",
        nothing,
        ("mid-tool",),
        agent_downs=0,
        once=False,
        settings={"bad_step": 3, "badness": "hangs", "timeout": 1.5},
    ),
    Row(
        "restarts used up",
        use_up_restarts,
        agent_downs=2,
        downs=1,
        reason="pi was killed by signal 9",
        outcome="AgentDied.*pi was killed by signal 9",
        settings={"max_restarts": 1},
    ),
    Row(
        "machine stopped",
        stop_machine,
        ("mid-turn", "mid-tool"),
        agent_downs=0,
        downs=1,
        reason="MachineDown: .* it was stopped",
        outcome="AgentDied.*MachineDown",
        settings={"pause": 2.0},  # so that the task is not over before the machine is
    ),
]
