"""Whatever is sent, the answers are typed, and the run goes on."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ramure.runtime.control.values import pack
from ramure.runtime.run.run import Run
from tests.control.kit import in_run, raw
from tests.scale import SOAK, examples, long_in_a_soak

FRAMES = 100_000
FEW = 1000
"""What `make test` sends."""

AT_ONCE = 20

harmless = st.sampled_from(
    ["hello", "summary", "status", "send", "call", "pause", "unpause", "screen", "cancel", "no", ""]
)
leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=20)
value = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner), max_leaves=6
)
arguments = st.dictionaries(st.sampled_from(["agent", "text", "endpoint", "arguments", "process", "id", "x"]), value)
request = st.tuples(st.integers(0, 50) | leaf, harmless | leaf, arguments | leaf).map(list)
frame = st.one_of(request, request, value).map(pack) | st.binary(min_size=1, max_size=40)


def typed(answer: Any) -> bool:
    if not isinstance(answer, list) or len(answer) != 3:
        return False
    if answer[1] is False:
        told = answer[2]
        return bool(told["error"]) and isinstance(told["text"], str)
    return answer[1] is True or answer[1] in ("item", "dropped", "end")


@long_in_a_soak
def test_any_frames_get_typed_answers_and_the_run_goes_on() -> None:
    """One run for all examples: what a frame does to it, the next ones see."""

    async def test(run: Run) -> None:
        loop = asyncio.get_running_loop()

        async def exchange(frames: list[bytes]) -> None:
            async with raw(run) as client, asyncio.timeout(20):
                try:
                    await client.bytes(b"".join(frames))
                    client.writer.write_eof()
                    answers = await client.all()
                except OSError:
                    return  # sent away while it was still sending
                assert all(map(typed, answers)), answers

        @settings(
            max_examples=max(1, (examples(FRAMES) if SOAK else FEW) // AT_ONCE),
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(st.lists(frame, min_size=AT_ONCE, max_size=AT_ONCE))
        def fuzz(frames: list[bytes]) -> None:
            asyncio.run_coroutine_threadsafe(exchange(frames), loop).result(60)

        await asyncio.to_thread(fuzz)
        async with raw(run) as client:
            assert (await client.ask("hello"))[1] is True

    asyncio.run(in_run(test, "worker"))
