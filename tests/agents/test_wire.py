"""Frames: what is written is read back, and what is no frame is named."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramure.agents import wire

VECTORS = json.loads((Path(__file__).parent / "vectors" / "frames.json").read_text())

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
objects = st.dictionaries(st.text(max_size=8), json_values, max_size=3)
counts = st.integers(min_value=0, max_value=2**53 - 1)
moments = st.floats(allow_nan=False, allow_infinity=False)
entries = st.builds(wire.Entry, seq=counts, ts=moments, type=st.text(), data=objects, origin=st.text())
frames = st.one_of(
    st.builds(wire.EntryFrame, prev=counts, entry=entries),
    st.builds(wire.Ack, counts),
    st.builds(wire.Delivered, st.lists(counts).map(tuple)),
    st.builds(wire.Report, counts, st.text(), objects),
    st.builds(wire.ToolResult, st.text(), st.booleans(), st.text(), st.lists(objects, max_size=2).map(tuple)),
    st.builds(wire.Welcome, counts, counts),
    st.builds(wire.Ping),
)


@pytest.mark.parametrize("sound", VECTORS["sound"], ids=lambda frame: frame["type"])
def test_a_sound_frame_is_read_and_written_as_the_same_json(sound: dict[str, object]) -> None:
    assert json.loads(wire.encode(wire.decode(json.dumps(sound)))) == sound


@pytest.mark.parametrize("case", VECTORS["malformed"], ids=lambda case: case["text"])
def test_a_malformed_frame_is_named(case: dict[str, str]) -> None:
    with pytest.raises(wire.MalformedFrame) as raised:
        wire.decode(case["text"])
    assert raised.value.code == case["code"]


@given(frames)
def test_every_frame_survives_the_wire(frame: wire.Frame) -> None:
    assert wire.decode(wire.encode(frame)) == frame


@given(st.text() | json_values.map(json.dumps) | st.binary())
def test_no_text_raises_anything_but_malformed(text: str | bytes) -> None:
    with contextlib.suppress(wire.MalformedFrame):
        wire.decode(text)


def test_deep_nesting_is_malformed_and_no_crash() -> None:
    with pytest.raises(wire.MalformedFrame):
        wire.decode("[" * 200_000)


def test_unknown_fields_are_ignored_so_that_a_newer_peer_may_say_more() -> None:
    assert wire.decode('{"type":"ack","applied":3,"more":true}') == wire.Ack(3)


def test_a_lone_surrogate_survives() -> None:
    frame = wire.ToolResult("c", True, "\ud83d")
    assert wire.decode(wire.encode(frame)) == frame


def test_a_frame_at_the_limit_passes_and_one_byte_more_is_refused() -> None:
    room = wire.MAX_FRAME - len(wire.encode(wire.ToolResult("c", True, "")))
    wire.encode(wire.ToolResult("c", True, "x" * room))
    with pytest.raises(wire.FrameTooLarge, match="over the limit"):
        wire.encode(wire.ToolResult("c", True, "x" * (room + 1)))


def test_both_ends_name_the_same_constants() -> None:
    source = (Path(wire.__file__).parent / "pi" / "extension" / "wire.ts").read_text()
    assert f"PROTOCOL = {wire.PROTOCOL};" in source
    assert f'SUBPROTOCOL = "{wire.SUBPROTOCOL}"' in source
    assert f'TOKEN_PREFIX = "{wire.TOKEN_PREFIX}"' in source
    assert f"CLOSE_REFUSED = {wire.CLOSE_REFUSED};" in source
    assert f"CLOSE_REPLACED = {wire.CLOSE_REPLACED};" in source
    assert "MAX_FRAME = 16 * 1024 * 1024;" in source
