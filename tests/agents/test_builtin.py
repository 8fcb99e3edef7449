"""The built-in tools of connected agents, without pi."""

from __future__ import annotations

from typing import Any

import pytest

from ramure import agent, agent_process, connect
from ramure.agents.tools.builtin import FILE_LIMIT, Peer, builtin_tools
from ramure.machines.local import LocalImage, LocalMachine
from ramure.testing import InProcessHarness, Text, ToolCall, run_virtual
from ramure.types import ExecResult


class Answers:
    """Stands for an actor: answers every question alike."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def ask(self, request: object, *, timeout: float | None) -> Any:
        return self.answer


def test_a_file_that_is_too_large_to_be_passed_on_is_not_read(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))
    size = FILE_LIMIT + 1
    harness = InProcessHarness(
        [ToolCall("send_file", {"to": "two", "path": "large file"}), Text("Done.")],
        exec=lambda command: ExecResult(f" {size}\n" if "wc -c < 'large file'" in command else "", "", 0),
    )

    @agent_process(image=harness.image)
    async def main() -> None:
        one, two = await agent("one"), await agent("two")
        await connect(one, two, files="machine")
        await one.ask("Send it.")

    run_virtual(main())
    harness.check()
    [told] = [result.text for result in harness.requests[-1].conversation.tool_results]
    # There is no such file: that would have been the answer of whoever tried to read it.
    assert told == f"FileRefused: large file: it has {size} bytes; at most {FILE_LIMIT} can be passed on"


async def test_files_of_any_name_are_passed_on_and_a_large_one_is_not_read(tmp_path: Any) -> None:
    class Machine(LocalMachine):
        async def read_file(self, path: str) -> bytes:
            assert path != "large"
            return await super().read_file(path)

    (tmp_path / "theirs").mkdir()
    mine = await LocalImage(workdir=tmp_path).spawn()
    mine.__class__ = Machine
    theirs = await LocalImage(workdir=tmp_path / "theirs").spawn()
    peer = Peer("two", "two", Answers(None), Answers(theirs), reachable=True)  # type: ignore[arg-type]
    send_file = next(tool for tool in builtin_tools("one", lambda: mine, {"two": peer}) if tool.name == "send_file")
    for name in ("with space", "quote'd", 'dou"ble', "-n", "=", "$HOME", "semi;colon", "new\nline", "empty"):
        data = b"" if name == "empty" else name.encode()
        (tmp_path / name).write_bytes(data)
        await send_file.call({"to": "two", "path": name})
        assert (tmp_path / "theirs" / name).read_bytes() == data
    with open(tmp_path / "large", "wb") as file:
        file.truncate(FILE_LIMIT + 1)
    with pytest.raises(OSError, match="no such file"):
        await send_file.call({"to": "two", "path": "nowhere"})
    with pytest.raises(Exception, match=f"has {FILE_LIMIT + 1} bytes; at most {FILE_LIMIT} can be passed on"):
        await send_file.call({"to": "two", "path": "large"})
    await mine.stop()
    await theirs.stop()
