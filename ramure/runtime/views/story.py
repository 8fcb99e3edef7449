"""The story of an agent's or actor's deaths and restarts, told from the run's log: what ``ramure why`` shows.

Pure: what comes in are log entries, the run's and the agent's own, of a live run or of one that has ended. Fields are those of
``docs/faults.md``; entries that are not understood are passed over, since a log may be of another version.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Any, Final, Literal

from ramure.actors.observe.addresses import leads_to
from ramure.agents.models.words import brief
from ramure.runtime.log.entries import LATEST, number

__all__ = ["Chapter", "Story", "subjects", "tell"]

Kind = Literal[
    "died",
    "restarted",
    "gave_up",
    "ended",
    "cancelled",
    "trouble",
    "alarm",
    "by_hand",
    "below",
    "stalled",
    "reminded",
    "going",
]

Entry = Mapping[str, Any]

AFTERMATH: Final = 60.0
"""Seconds for which troubles are put down to an alarm before them."""

TOGETHER: Final = 1.0
"""Seconds within which two entries tell of the same end."""

STANDING: Final = frozenset({"stalled", "going", "died", "ended", "cancelled", "gave_up"})
"""What a subject's stall is followed by where it is over."""

CAUSE: Final = "its program was killed, or its host went down"

DIED: Final = f"died: {CAUSE}"

ENDINGS: Final = ("died", "ended", "cancelled", "gave_up", "restarted")

NOT_RESTARTED: Final = "not restarted"

LONGEST: Final = 400
"""Characters of a cause in one line."""


@dataclass(frozen=True, slots=True)
class Chapter:
    """One thing that happened."""

    at: float
    """Seconds since 1970."""
    kind: Kind
    """``died``, ``restarted``, ``gave_up``, ``ended`` for good, ``cancelled`` (it, or a process below it), ``trouble`` that ended nothing, ``by_hand``: what
    somebody did with the command line, ``below``: a death of something that it has in it, ``stalled``: nothing can decide it
    any more, ``reminded`` of that, ``going`` again."""
    text: str
    """In a line: why, or what."""
    doing: str | None = None
    did: str | None = None
    path: str | None = None
    screen: str | None = None
    traceback: str | None = None


@dataclass(frozen=True, slots=True)
class Story:
    """What became of one agent or actor."""

    subject: str
    headline: str
    """In one line, the cause of its last death; where there is none, of its last trouble."""
    deaths: int
    restarts: int
    chapters: tuple[Chapter, ...]
    """In order of time."""


def tell(subject: str, entries: Iterable[Entry], *, live: bool = True) -> Story:
    """The story of ``subject``: an agent's address, or an actor's label or place, or a pattern for them; of ``run``, the run's
    own. ``live``: False for a run that has ended or was killed."""
    fits, of_run = _fitting(subject), _tidy(subject) == "run"
    chapters: list[Chapter] = []
    standing: dict[str, Chapter] = {}
    end: str | None = None if live else DIED
    for entry in entries:
        if entry.get("type") in ("run_ended", "run_died"):
            end = _end_of_run(entry)
            if of_run:
                chapters.append(Chapter(_at(entry), "ended", end))
        if entry.get("type") in ("alarm", "alarm_over"):
            standing.pop(str(entry.get("of")), None)
            if entry["type"] == "alarm":
                standing[str(entry.get("of"))] = _alarm(entry, fits)
        reader = _READERS.get(str(entry.get("type")))
        chapter = reader(entry, fits) if reader is not None else None
        if chapter is not None:
            chapters.append(chapter)
    chapters = _without_repeats(sorted(chapters, key=lambda chapter: chapter.at))
    deaths = sum(chapter.kind == "died" for chapter in chapters)
    restarts = sum(chapter.kind == "restarted" for chapter in chapters)
    headline = _headline(subject, chapters, deaths)
    if of_run and end is None:
        headline = headline.replace("run itself has not died", "the run lives").replace(
            "run has not died", "the run lives"
        )
    elif of_run:
        headline = f"the run {end}" + _on_the_way(chapters)
    elif end is not None and not live and not _is_over(chapters):
        nothing = end == DIED and not chapters
        headline = f"{subject} died with its run: {CAUSE}" if nothing else f"{headline}; its run {end}"
    if standing:
        held = "is held up by a full disk" if end is None else "was held up by a full disk until the run ended"
        headline = f"{subject} {held}: {next(iter(standing.values())).text}"
    return Story(subject, headline, deaths, restarts, tuple(chapters))


def subjects(entries: Iterable[Entry]) -> list[str]:
    """Whom the entries can tell of: agents, processes, and actors that have died."""
    found: dict[str, None] = {}
    for entry in entries:
        for field in ("address", "agent"):
            if isinstance(entry.get(field), str):
                found[entry[field]] = None
        if isinstance(entry.get("process"), str):
            found[_last(entry["process"])] = None
        if isinstance(entry.get("path"), str):
            found[_last(entry["path"])] = None
    return list(found)


def near(subject: str, known: Iterable[str]) -> list[str]:
    """Those of the known that may be meant."""
    return difflib.get_close_matches(subject, list(known), n=3, cutoff=0.5)


def _end_of_run(entry: Entry) -> str:
    """How the run ended, behind "the run"."""
    if entry.get("type") == "run_died":
        return DIED
    why = f": {_line(entry['reason'])}" if entry.get("reason") else ""
    match entry.get("outcome"):
        case "done":
            return "is done"
        case "cancelled":
            return f"was cancelled{why}"
    return f"failed{why}"


def _of_a_child(chapter: Chapter) -> bool:
    return chapter.kind == "cancelled" and chapter.path is not None


def _is_over(chapters: Sequence[Chapter]) -> bool:
    """True when it had ended before its run did."""
    own = [chapter.kind for chapter in chapters if chapter.kind in ENDINGS and not _of_a_child(chapter)]
    return bool(own) and own[-1] != "restarted"


def _on_the_way(chapters: Sequence[Chapter]) -> str:
    """What died below it; its own end is told already."""
    below = [chapter for chapter in chapters if chapter.kind == "below"]
    if not below or (chapters[-1].kind == "ended" and chapters[-1].text.endswith(_cause(below[-1].text))):
        return ""
    return f"; {len(below)} in it died, the last: {below[-1].text}"


def _cause(text: str) -> str:
    return text.partition(": crashed: ")[2] or text


def _without_repeats(chapters: Sequence[Chapter]) -> list[Chapter]:
    """An end that the report of the death tells too is left out: of a process, and of an agent."""

    def told(end: Chapter) -> bool:
        why = end.text.removeprefix("failed: ") if end.text.startswith("failed: ") else end.text
        return any(
            chapter.kind == "died"
            and abs(chapter.at - end.at) < TOGETHER
            and (chapter.text.endswith(why) or why.endswith(chapter.text))
            and (chapter.did or "").startswith((NOT_RESTARTED, "the agent has ended"))
            for chapter in chapters
        )

    return [chapter for chapter in chapters if chapter.kind != "ended" or not told(chapter)]


# -- whom an entry is about ---------------------------------------------------------------------------------

Fits = Callable[..., bool]


def _fitting(subject: str) -> Fits:
    tidy = _tidy(subject)
    pattern = re.compile(translate(tidy)).match if any(sign in tidy for sign in "*?[") else None

    def fits(*names: object) -> bool:
        for name in names:
            if not isinstance(name, str) or not name:
                continue
            whole = _tidy(name)
            if tidy in (whole, _last(whole), _last(whole).split("#")[0]) or leads_to(tidy, whole):
                return True
            if pattern is not None and (pattern(whole) or pattern(_last(whole))):
                return True
        return False

    return fits


def _tidy(place: str) -> str:
    return place.strip().replace(" / ", "/")


def _last(place: str) -> str:
    return _tidy(place).rsplit("/", 1)[-1]


def _above(place: object, fits: Fits) -> bool:
    """True when the subject is above this place in the tree."""
    labels = _tidy(str(place or "")).split("/")
    return any(fits("/".join(labels[:depth])) for depth in range(1, len(labels)))


# -- what the entries say -----------------------------------------------------------------------------------


def _at(entry: Entry) -> float:
    at = number(entry.get("at", entry.get("ts")))
    return at if at is not None and abs(at) < LATEST else 0.0


def _text(value: object) -> str | None:
    return str(value) if value else None


def _line(value: object) -> str:
    """The first line, without a screen that was put behind it."""
    lines = str(value or "unknown").strip().splitlines() or ["unknown"]
    line = lines[0].removesuffix("; its last screen:")
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def _crash_report(entry: Entry, fits: Fits) -> Chapter | None:
    path = entry.get("path")
    own = fits(entry.get("address"), path, entry.get("who"))
    if not own and not _above(path, fits):
        return None
    text = _line(entry.get("reason"))
    return Chapter(
        _at(entry),
        "died" if own else "below",
        text if own else f"{entry.get('who') or _last(str(path))}: {text}",
        _text(entry.get("doing")),
        _did(entry.get("did")),
        _text(path),
        _text(entry.get("screen")),
        _text(entry.get("traceback")),
    )


def _did(value: object) -> str | None:
    """What was done about a death; ``none: it is temporary`` in the log."""
    text = _text(value)
    return f"{NOT_RESTARTED}: {text.removeprefix('none: ')}" if text is not None and text.startswith("none: ") else text


def _restarted(entry: Entry, fits: Fits) -> Chapter | None:
    if not fits(entry.get("agent")):
        return None
    seconds = number(entry.get("seconds"))
    took = f"ready again {seconds:.2g} s after its death" if seconds is not None else "ready again"
    return Chapter(_at(entry), "restarted", f"{took}; restarts so far: {entry.get('restarts', '?')}")


def _gave_up(entry: Entry, fits: Fits) -> Chapter | None:
    return Chapter(_at(entry), "gave_up", _line(entry.get("reason"))) if fits(entry.get("agent")) else None


def _agent_died(entry: Entry, fits: Fits) -> Chapter | None:
    return Chapter(_at(entry), "ended", _line(entry.get("reason"))) if fits(entry.get("agent")) else None


def _tool_error(entry: Entry, fits: Fits) -> Chapter | None:
    if not fits(entry.get("agent")):
        return None
    text = f"the tool {entry.get('tool')} failed: {_line(entry.get('error'))}"
    return Chapter(_at(entry), "trouble", text, traceback=_text(entry.get("traceback")))


def _model_error(entry: Entry, fits: Fits) -> Chapter | None:
    if not fits(entry.get("agent")):
        return None
    tries, seconds = entry.get("attempt"), entry.get("elapsed")
    again = isinstance(tries, int) and tries > 1 and isinstance(seconds, (int, float))
    times = f" ({tries} tries in {seconds:.0f} s)" if again else ""
    remedy = f"; {entry['remedy']}" if entry.get("remedy") and entry.get("answer") == "end" else ""
    words = brief(str(entry.get("text") or "unknown"))
    return Chapter(_at(entry), "trouble", f"its model failed{times}: {words}{remedy}", did=_text(entry.get("did")))


def _problem(entry: Entry, fits: Fits) -> Chapter | None:
    """Of the run's log, with ``agent`` or ``process``; or of the agent's own, where ``data`` has it."""
    data = entry.get("data")
    if isinstance(data, Mapping):
        if not fits(entry.get("of")):
            return None
        return Chapter(_at(entry), "trouble", f"{data.get('code')}: {_line(data.get('message'))}")
    if not fits(entry.get("agent"), entry.get("process")):
        return None
    return Chapter(_at(entry), "trouble", _line(entry.get("text") or entry.get("message")))


def _alarm(entry: Entry, fits: Fits) -> Chapter:
    """Of the run as a whole: whoever is asked about had to wait."""
    name = str(entry.get("alarm") or "alarm").replace("_", " ")
    where = f"{name}: {_line(entry['path'])}" if entry.get("path") else name
    if entry.get("type") == "alarm_over":
        return Chapter(_at(entry), "restarted", f"the alarm is over: {where}")
    needed, limit = number(entry.get("needed")), number(entry.get("limit"))
    what = f" for {_line(entry['of'])}" if entry.get("of") else ""
    text = f"{where}: no room{what} ({_line(entry.get('reason'))})"
    text += f"; {needed:,.0f} bytes are needed to go on" if needed is not None else ""
    return Chapter(_at(entry), "alarm", text + (f", within {limit:g} s" if limit is not None else ""))


def _connection(entry: Entry, fits: Fits) -> Chapter | None:
    data = entry.get("data")
    if not isinstance(data, Mapping) or not fits(entry.get("of")):
        return None
    if data.get("state") == "lost":
        return Chapter(_at(entry), "trouble", f"its connection was lost: {_line(data.get('reason'))}")
    if data.get("state") == "back":
        return Chapter(_at(entry), "restarted", "its connection is back; pi lived on")
    return None


def _event(entry: Entry, fits: Fits) -> Chapter | None:
    """A process's own ending; that one below was cancelled."""
    name, process = entry.get("event"), entry.get("process")
    if entry.get("source") is not None or name not in ("done", "failed", "cancelled"):
        return None
    if not fits(process):
        below = name == "cancelled" and (fits("run") or _above(process, fits))
        text = f"{_last(str(process))}: {_line(entry.get('data'))}"
        return Chapter(_at(entry), "cancelled", text, path=str(process)) if below else None
    if name == "cancelled":
        return Chapter(_at(entry), "cancelled", _line(entry.get("data")))
    return Chapter(_at(entry), "ended", "done" if name == "done" else f"failed: {_line(entry.get('data'))}")


def _stall(entry: Entry, fits: Fits) -> Chapter | None:
    """A process that waits and that nothing can decide: it, or the agents that stopped short."""
    agents = entry.get("agents")
    if not fits(entry.get("process"), entry.get("agent"), *(agents if isinstance(agents, (list, tuple)) else ())):
        return None
    match entry.get("type"):
        case "stalled":
            return Chapter(_at(entry), "stalled", _line(entry.get("text")), path=_text(entry.get("process")))
        case "reminded":
            return Chapter(_at(entry), "reminded", f"agent {entry.get('agent')}, reminder {entry.get('reminder')}")
    return Chapter(_at(entry), "going", "something can decide it again")


def _operator(entry: Entry, fits: Fits) -> Chapter | None:
    own = fits(entry.get("actor"), entry.get("path"))
    if not own and not _above(entry.get("path"), fits):
        return None
    whom = "" if own else f" {entry.get('actor')}"
    why = f": {_line(entry['reason'])}" if entry.get("reason") else ""
    return Chapter(_at(entry), "by_hand", f"{entry.get('command')}{whom}{why}")


_READERS: Final[dict[str, Callable[[Entry, Fits], Chapter | None]]] = {
    "crash_report": _crash_report,
    "agent_restarted": _restarted,
    "agent_gave_up": _gave_up,
    "agent_died": _agent_died,
    "tool_error": _tool_error,
    "model_error": _model_error,
    "problem": _problem,
    "alarm": _alarm,
    "alarm_over": _alarm,
    "connection": _connection,
    "event": _event,
    "stalled": _stall,
    "reminded": _stall,
    "stall_over": _stall,
    "operator": _operator,
}


# -- the first line -----------------------------------------------------------------------------------------


def _headline(subject: str, chapters: list[Chapter], deaths: int) -> str:
    last = {chapter.kind: chapter for chapter in chapters}
    now = [chapter for chapter in chapters if chapter.kind in STANDING and not _of_a_child(chapter)]
    if now and now[-1].kind == "stalled":
        return f"stalled: {now[-1].text}"
    if "died" in last:
        return _of_death(subject, last, deaths)
    if now and now[-1].kind == "cancelled":
        return f"{subject} was cancelled: {now[-1].text}"
    if "ended" in last:
        end = last["ended"].text
        return f"{subject} is done{_on_the_way(chapters)}" if end == "done" else f"{subject} ended: {end}"
    if "below" in last:
        count = sum(chapter.kind == "below" for chapter in chapters)
        return f"{subject} itself has not died; {count} in it did, the last: {last['below'].text}"
    if trouble := _trouble(last.get("trouble"), last.get("alarm")):
        return f"{subject} has not died; its last trouble: {trouble.text}"
    if "by_hand" in last:
        return f"{subject} was not seen to die; by hand: {last['by_hand'].text}"
    return f"{subject} has not died, and nothing has gone wrong"


def _trouble(trouble: Chapter | None, alarm: Chapter | None) -> Chapter | None:
    """The one that was the cause: what goes wrong for a while after an alarm comes of it."""
    if trouble is None or alarm is None:
        return trouble or alarm
    return alarm if 0 <= trouble.at - alarm.at < AFTERMATH else max(trouble, alarm, key=lambda chapter: chapter.at)


def _of_death(subject: str, last: dict[Kind, Chapter], deaths: int) -> str:
    death = last["died"]
    times = "died" if deaths == 1 else f"died {deaths} times, the last time"
    doing = f" ({death.doing})" if death.doing and death.doing != "running" else ""
    by_hand = last.get("by_hand")
    why = f"; by hand: {by_hand.text}" if by_hand is not None and 0 <= death.at - by_hand.at < 5 else ""
    return f"{subject} {times}{doing}: {death.text}{why}; {death.did or 'nothing was done about it'}"
