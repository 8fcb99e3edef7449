"""The machine in memory: what it can of the contract, and what only it has."""

import asyncio

import pytest

from ramure.machines.errors import ExecTimeout, MachineDown, MachineStopped, NoSuchFile, UserRefused
from ramure.testing.memory_machine import Call, MemoryImage
from ramure.types import ExecResult


@pytest.fixture
async def machine():
    async def greet(call: Call) -> int:
        call.out("hello ")
        call.err(call.args[0])
        await asyncio.sleep(0)
        return 3

    machine = await MemoryImage({"given": b"file"}, {"greet": greet}, {"KEY": "42"}).spawn()
    yield machine
    await machine.stop()


@pytest.mark.parametrize(
    ("command", "result"),
    [
        ("echo 'a b' c", ExecResult("a b c\n", "", 0)),
        ("true && echo yes; false && echo no", ExecResult("yes\n", "", 1)),
        ("echo a; exit 5; echo b", ExecResult("a\n", "", 5)),
        ("nothing", ExecResult("", "nothing: not found\n", 127)),
        ("cat given nowhere", ExecResult("file", "cat: nowhere: No such file or directory\n", 1)),
        ("pwd; printenv KEY", ExecResult("/work\n42\n", "", 0)),
        ("greet you", ExecResult("hello ", "you", 3)),
    ],
)
async def test_commands(machine, command, result):
    assert await machine.exec(command) == result
    assert machine.executed == [command]


async def test_a_timeout_holds_the_output_so_far(machine):
    with pytest.raises(ExecTimeout) as caught:
        await machine.exec("echo so far; sleep 100", timeout=0.05)
    assert caught.value.stdout == "so far\n"


async def test_files(machine):
    await machine.write_file("a/b", b"x")
    assert await machine.read_file("/work/a/../a/b") == b"x"
    with pytest.raises(NoSuchFile):
        await machine.read_file("nowhere")
    with pytest.raises(OSError, match="directory"):
        await machine.write_file("a", b"x")


async def test_copies_are_independent(machine):
    fork = await machine.fork()
    await fork.write_file("given", b"other")
    assert await machine.read_file("given") == b"file"
    assert (await fork.exec("greet x")).exit_code == 3


async def test_a_break_down_ends_what_runs_and_is_noticed(machine):
    running = asyncio.create_task(machine.exec("sleep 100"))
    watching = asyncio.create_task(machine.wait_down())
    await asyncio.sleep(0)
    machine.break_down("fire")
    with pytest.raises(MachineDown, match="fire"):
        await running
    assert await watching == "fire"
    with pytest.raises(MachineDown):
        await machine.ping()


async def test_use_after_stop(machine):
    running = asyncio.create_task(machine.exec("sleep 100"))
    await asyncio.sleep(0)
    await machine.stop()
    await machine.stop()
    with pytest.raises(MachineStopped):
        await running
    with pytest.raises(MachineStopped):
        await machine.read_file("given")


async def test_another_user_is_refused(machine):
    with pytest.raises(UserRefused):
        await machine.exec("true", user="root")
