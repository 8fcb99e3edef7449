"""Whether the model received what the program sent: each message once, in order and unchanged, each call's result once,
unchanged and with its call, and nothing that nobody sent. Pure.

It knows two sides only: what the program wrote down itself (:class:`RunStatistics`), and the bytes of the requests that the model
got (OpenAI chat completions), read with plain ``json``. None of ramure's logs, session files and parsers is asked.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.delivery.texts import is_sealed

__all__ = ["Handled", "RunStatistics", "check"]

MARKER = re.compile(r"\[ramure \d+ [a-z2-7]{8}\] ")
"""What stands before each message in the conversation (docs/protocol.md)."""

NUDGE = "[ramure continue] "
"""How a request ends where pi goes on after the model's own words; not a part of the conversation."""

NOTICE = re.compile(
    r"\(ramure\) Your process ended unexpectedly \([^()\n]{1,80}\); it has been restarted with your conversation\."
    r"( Under way was note(, note)*: not called again, its true result stands in the conversation\.)?"
    r" Go on with what you were doing\."
)
"""The only words of ramure's own: one message after each kill."""

SHOWN = 5
"""Of each kind of fault, so many are shown."""


@dataclass(frozen=True)
class Handled:
    """One run of the tool's handler: what it was given and what it returned."""

    arguments: dict[str, Any]
    result: str


@dataclass
class RunStatistics:
    """What the program, and the script of the model, wrote down of their own doing."""

    sent: list[str] = field(default_factory=list)
    """Each text that was given to ``send`` or ``ask``, in order."""
    answers: dict[str, str] = field(default_factory=dict)
    """What ``ask`` returned, by its text."""
    handled: list[Handled] = field(default_factory=list)
    called: list[list[dict[str, Any]]] = field(default_factory=list)
    """The arguments of the calls that the model made, turn by turn."""
    said: list[str] = field(default_factory=list)
    """The model's other turns."""
    kills: int = 0


@dataclass(frozen=True)
class Item:
    """One message of a request. ``text`` of a user message is without its marker."""

    role: str
    text: str
    calls: tuple[tuple[str, str, str], ...] = ()
    """(id, tool, arguments as they came)."""
    call_id: str = ""


class Unreadable(Exception):
    """A request is not what the API has."""


def check(statistics: RunStatistics, bodies: Iterable[bytes]) -> list[str]:
    """What is not as it must be, in words; empty if all is well."""
    wrong: list[str] = []
    before: list[Item] = []
    try:
        for number, body in enumerate(bodies, 1):
            now = conversation(body)
            if now[: len(before)] != before:
                at = next((i for i, (old, new) in enumerate(zip(before, now, strict=False)) if old != new), len(now))
                old, new = (_brief(items[at].text) if at < len(items) else "nothing" for items in (before, now))
                wrong.append(f"request {number}: message {at + 1} of the conversation was {old}, and is {new}")
            before = now
    except Unreadable as error:
        return [*wrong, str(error)]
    if len(wrong) > SHOWN:
        wrong[SHOWN:] = [f"and {len(wrong) - SHOWN} more requests that do not begin as the one before"]
    return [*wrong, *messages(statistics, before), *results(statistics, before), *answers(statistics, before)]


def messages(statistics: RunStatistics, items: Sequence[Item]) -> list[str]:
    """The program's messages against the conversation's."""
    got = [item.text for item in items if item.role == "user"]
    notices = [text for text in got if NOTICE.fullmatch(text)]
    got = [text for text in got if not NOTICE.fullmatch(text)]
    sent, received = Counter(statistics.sent), Counter(got)
    strange = [text for text in received if text not in sent]
    wrong = [
        *_told("was sent more than once by the trial itself", [text for text, count in sent.items() if count > 1]),
        *_told("was sent and never received", [text for text in sent if text not in received]),
        *_told("was received more than once", [text for text in sent if received[text] > 1]),
        *_told("was received altered", [text for text in strange if not is_sealed(text)]),
        *_told("was received, and sent by nobody", [text for text in strange if is_sealed(text)]),
    ]
    if len(notices) > statistics.kills:
        wrong.append(f"{len(notices)} notices of a restart for {statistics.kills} kills")
    places = {text: place for place, text in enumerate(statistics.sent)}
    order = [places[text] for text in dict.fromkeys(got) if text in places]
    swapped = [one for one, next_one in itertools.pairwise(order) if next_one < one]
    return wrong + _told("was received before one that was sent earlier", [statistics.sent[place] for place in swapped])


def results(statistics: RunStatistics, items: Sequence[Item]) -> list[str]:
    """The calls that the model made, those that took effect, and the results that it got."""
    wrong: list[str] = []
    asked: dict[str, str] = {}
    answered: Counter[str] = Counter()
    handled = {_key(one.arguments): one.result for one in statistics.handled}
    for item in items:
        for call_id, tool, arguments in item.calls:
            if call_id in asked:
                wrong.append(f"two calls have the id {call_id}")
            if tool != "note":
                wrong.append(f"the call {call_id} is of {tool!r}, and not of the tool")
            asked[call_id] = _key_of_text(arguments)
        if item.role != "tool":
            continue
        answered[item.call_id] += 1
        if item.call_id not in asked:
            wrong.append(f"a result stands before its call, or has none: {_brief(item.text)}")
            continue
        true = handled.get(asked[item.call_id])
        if true is None:
            wrong.append(f"a result of a call that no handler got: {_brief(item.text)}")
        elif true != item.text:
            whose = "another call's result" if item.text in handled.values() else "altered"
            wrong.append(f"a call's result is {whose}: {_brief(true)} was received as {_brief(item.text)}")
    wrong += [f"call {one} has {answered[one]} results" for one in asked if answered[one] != 1]
    effects = Counter(_key(one.arguments) for one in statistics.handled)
    known = set(asked.values())
    wrong += [f"a call took effect {count} times: {_brief(key)}" for key, count in effects.items() if count != 1]
    wrong += [
        f"a call took effect and is not in the conversation: {_brief(key)}" for key in effects if key not in known
    ]
    wrong += [f"a call is in the conversation and took no effect: {_brief(key)}" for key in known if key not in effects]
    made = [[_key(arguments) for arguments in turn] for turn in statistics.called]
    flat = [key for turn in made for key in turn]
    wrong += [f"a call that the model did not make: {_brief(key)}" for key in known.difference(flat)]
    if list(asked.values()) != [key for key in flat if key in known]:
        wrong.append("the calls in the conversation are not in the order in which the model made them")
    lost = [turn for turn in made if not known.issuperset(turn)]
    if len(lost) > statistics.kills:  # each can end one turn before pi has it
        wrong.append(
            f"{len(lost)} turns of the model with calls are not in the conversation, after {statistics.kills} kills"
        )
    return wrong if len(wrong) <= 4 * SHOWN else [*wrong[: 4 * SHOWN], f"and {len(wrong) - 4 * SHOWN} more of calls"]


def answers(statistics: RunStatistics, items: Sequence[Item]) -> list[str]:
    """What each ``ask`` returned: the model's last words before the next message of the program, as the model said them."""
    said = set(statistics.said)
    theirs = set(statistics.sent)
    after: dict[str, str] = {}
    question = ""
    for item in items:
        if item.role == "user" and item.text in theirs:
            question = item.text
        elif item.role == "assistant" and item.text:
            after[question] = item.text
    wrong = []
    for place, (text, answer) in enumerate(statistics.answers.items(), 1):
        last = (
            statistics.said[-1] if place == len(statistics.answers) and statistics.said else None
        )  # no request shows it
        if answer not in said or answer != (last or after.get(text)):
            wrong.append(f"{_brief(text)} was answered with {_brief(answer)}, which the model did not say to it")
    return wrong[:SHOWN]


def conversation(body: bytes) -> list[Item]:
    """The messages of a request, without the system's and the nudge. Raises Unreadable."""
    try:
        return [item for message in json.loads(body)["messages"] if (item := _item(message)) is not None]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(
            f"a request is not what the API has ({type(error).__name__}: {error}): {body[:200]!r}"
        ) from None


def _item(message: dict[str, Any]) -> Item | None:
    role, text = message["role"], _text(message.get("content"))
    if role in ("system", "developer"):
        return None
    if role == "user":
        if text.startswith(NUDGE):
            return None
        found = MARKER.match(text)
        return Item(role, text[found.end() :] if found else f"(without a marker) {text}")
    calls = tuple(
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls") or ()
    )
    return Item(role, text, calls, message["tool_call_id"] if role == "tool" else "")


def _text(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if any(part["type"] != "text" for part in content):
        raise ValueError("a part that is no text")
    return "".join(part["text"] for part in content)


def _key(arguments: dict[str, Any]) -> str:
    return json.dumps(arguments, sort_keys=True, ensure_ascii=False)


def _key_of_text(arguments: str) -> str:
    try:
        return _key(json.loads(arguments))
    except ValueError:
        return f"no JSON: {arguments}"


def _told(what: str, texts: Sequence[str]) -> list[str]:
    more = [f"and {len(texts) - SHOWN} more that {what}"] if len(texts) > SHOWN else []
    return [*(f"{_brief(text)} {what}" for text in texts[:SHOWN]), *more]


def _brief(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:40]!r}…{text[-16:]!r} ({len(text)} characters)"
