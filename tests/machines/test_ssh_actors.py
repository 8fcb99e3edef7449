"""Each SSH transport belongs to a threaded actor: its end is noticed at once, and none outlives its machine."""

import asyncio
import threading

import pytest

from ramure.machines.errors import MachineStopped

pytestmark = pytest.mark.real


@pytest.fixture
async def machine(own_sshd):
    machine = await own_sshd.image(dead_after=3.0, give_up_after=10.0).spawn()
    yield machine
    await machine.stop()


def transports(machine) -> list:
    return list(machine._pool._connections)


async def test_killing_one_gives_down_at_once_and_closes_its_transport(machine):
    [ref] = transports(machine)
    connection = machine._pool.of(ref)
    running = asyncio.create_task(machine.exec("sleep 60"))
    async with asyncio.timeout(30):
        while connection.in_use == 0:
            await asyncio.sleep(0.01)
    ref.exit("kill")
    reason = await asyncio.wait_for(ref.wait(), 30)
    assert str(reason) == "killed"
    with pytest.raises(Exception, match="broke"):
        await asyncio.wait_for(running, 30)
    assert not connection.alive
    assert (await machine.exec("echo on")).stdout == "on\n"  # by another one
    assert transports(machine) != [ref]


async def test_one_whose_connection_breaks_ends_by_itself(machine, own_sshd):
    [ref] = transports(machine)
    own_sshd.cut()
    reason = await asyncio.wait_for(ref.wait(), 30)
    assert "the connection broke" in str(reason)
    await machine.exec("true")  # over a new one, so that stop() finds a way to what is there


async def test_none_is_alive_after_the_machine(own_sshd):
    others = set(threading.enumerate())  # of machines that other tests share
    machine = await own_sshd.image().spawn()
    await asyncio.gather(*(machine.exec("sleep 0.2") for _ in range(12)))
    await machine.expose_port(9)
    refs = transports(machine)
    assert len(refs) >= 3
    await machine.stop()
    assert not any(ref.is_alive() for ref in refs)
    async with asyncio.timeout(30):  # a thread that has been told to end takes its moment
        while [t for t in set(threading.enumerate()) - others if "Transport" in t.name or "paramiko" in repr(t)]:
            await asyncio.sleep(0.02)
    with pytest.raises(MachineStopped):
        await machine.exec("true")
