"""Agents that are connected: what they tell and send each other, and what they are told where they may not."""

from __future__ import annotations

import asyncio
import json
import shlex
from pathlib import Path

import pytest

from ramure import Agent, LocalImage, agent, agent_process, connect, done, wait
from ramure.testing import Conversation, ScriptedModel, Step, Text, ToolCall

pytestmark = [pytest.mark.real_pi, pytest.mark.timeout(180)]

SIZE = 20 * 1024 * 1024


def script(conversation: Conversation) -> Step:
    """Does the tool call that it is told, and says what it gave; answers a message, and reports the answer."""
    if conversation.messages[-1]["role"] == "tool":  # a message that came during the call stands behind its result
        return Text(conversation.new_tool_results[-1].text)
    told = conversation.last_user_text
    if "Message from" in told:
        if told.endswith("Who is there?"):
            return ToolCall("message", {"to": "one", "text": "It is two."})
        return ToolCall("report", {"text": told[told.index("Message from") :]})
    _, found, call = told.partition("CALL ")
    if not found:
        return Text("I see.")
    name, arguments = json.loads(call)
    return ToolCall(name, arguments)


async def has(agent: Agent, tool: str, **arguments: str) -> str:
    """What the agent's tool answers to the model."""
    async with asyncio.timeout(60):
        return await agent.ask(f"CALL {json.dumps([tool, arguments])}")


async def digest(agent: Agent, path: str) -> str:
    found = await agent.exec(f"sha256sum < {shlex.quote(path)} && stat -c %s {shlex.quote(path)}")
    assert found.exit_code == 0, found
    return found.stdout


async def test_messages_and_files_go_where_agents_are_connected_and_nowhere_else(
    ramure_home: Path, tmp_path: Path
) -> None:
    """One and two are connected both ways, and one reaches three; three has no way back, and none to two."""
    async with ScriptedModel(script) as model:
        environment = model.write_config(tmp_path / "agent")

        def place(name: str) -> LocalImage:
            (tmp_path / name).mkdir()
            return LocalImage(workdir=tmp_path / name, env=environment)

        @agent_process
        async def main() -> str:
            one, two, three = await asyncio.gather(
                *(agent(name, image=place(name)) for name in ("one", "two", "three"))
            )
            await connect(one, two)
            await connect(one, three, direction="forward")

            @one.on("report")
            def report(text: str) -> None:
                """Say what you were told."""
                done(text)

            for owner, file in ((one, "ones.bin"), (two, "twos.bin")):
                made = await owner.exec(f"head -c {SIZE} /dev/urandom > {file}")
                assert made.exit_code == 0, made
            sums = await digest(one, "ones.bin"), await digest(two, "twos.bin")

            # There and back, sent and fetched.
            said = await has(one, "send_file", to="two", path="ones.bin", to_path="from one.bin")
            assert said == f"Sent to two as from one.bin ({SIZE} bytes)."
            said = await has(two, "send_file", to="one", path="twos.bin")
            assert said == f"Sent to one as twos.bin ({SIZE} bytes)."
            assert (await digest(two, "from one.bin"), await digest(one, "twos.bin")) == sums
            said = await has(one, "download_file", source="two", path="twos.bin", to_path="fetched.bin")
            assert said == f"Downloaded from two as fetched.bin ({SIZE} bytes)."
            await has(two, "download_file", source="one", path="ones.bin", to_path="fetched.bin")
            assert (await digest(two, "fetched.bin"), await digest(one, "fetched.bin")) == sums

            # Nothing outside their working directories, there or here.
            (tmp_path / "key").write_text("a key")
            (tmp_path / "two" / "link").symlink_to(tmp_path / "key")
            for path in (str(tmp_path / "key"), "../key", "link"):
                said = await has(one, "download_file", source="two", path=path, to_path="key")
                assert f"it leads outside {tmp_path / 'two'}, the folder of the machine of 'two'" in said
                said = await has(one, "send_file", to="two", path="ones.bin", to_path=path)
                assert f"it leads outside {tmp_path / 'two'}, the folder of the machine of 'two'" in said
            said = await has(one, "download_file", source="two", path="twos.bin", to_path="../key")
            assert f"it leads outside {tmp_path / 'one'}, the folder of your machine" in said
            assert (tmp_path / "key").read_text() == "a key"
            assert not (tmp_path / "one" / "key").exists()

            # Not against the direction, and not where there is no connection.
            for tool, arguments in (
                ("message", {"to": "one", "text": "Hello."}),
                ("send_file", {"to": "one", "path": "x"}),
                ("download_file", {"source": "one", "path": "ones.bin"}),
            ):
                said = await has(three, tool, **arguments)
                assert "the connection with 'one' goes one way: it can reach you, you cannot reach it" in said
            said = await has(three, "message", to="two", text="Hello.")
            assert "you are not connected to 'two'; you are to: nobody" in said
            said = await has(two, "message", to="three", text="Hello.")
            assert "you are not connected to 'three'; you are to: one" in said
            assert await has(one, "message", to="three", text="Along the direction.") == "Sent to three."

            # Two may answer before one has said what the call gave: then one's last words are about its report.
            assert await has(one, "message", to="two", text="Who is there?") in ("Sent to two.", "Done.")
            async with asyncio.timeout(60):
                answer: str = await wait()
            return answer

        assert await main() == "Message from two:\n\nIt is two."
