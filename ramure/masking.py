"""Mask secrets in the texts that ramure itself writes: screens, errors, tracebacks, logs, warnings, status.

:func:`masked` is the only function that does it. It looks for values: those of this program's environment that look like
secrets (:func:`secrets_in`), and keys of well-known forms. Conversations, tool arguments and results are never masked.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import traceback
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote, unquote

__all__ = [
    "MASK",
    "SHORTEST",
    "Masker",
    "get_logger",
    "masked",
    "masked_values",
    "remember_secrets",
    "secret_variables",
    "secrets_in",
]

MASK: Final = "[secret]"

SHORTEST: Final = 8
"""Characters. Shorter values are not masked: they would be found everywhere."""

LISTED: Final = "RAMURE_SECRETS"
"""The environment variable that names further variables whose values are secret, separated by commas or spaces."""

REMEMBERED: Final = 1000
"""Secrets of machines' environments that are known at a time, at most."""


# -- which variables are secret by their names ------------------------------------------------------------------

_WORDS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")

_PASSWORDS: Final = frozenset(
    "PASS PASSWORD PASSWORDS PASSWD PASSPHRASE PW PWD SECRET SECRETS SEED MNEMONIC PIN".split()
)
"""Any value is a secret, words and numbers too."""

_KEYS: Final = frozenset(
    "APIKEY AUTH AUTHORIZATION BEARER COOKIE COOKIES CREDENTIAL CREDENTIALS CREDS HMAC JWT KEY KEYS OTP PAT PSK SALT TOKEN "
    "TOKENS TOTP".split()
)
"""A value that is neither a plain word nor a number is a secret."""

_ENDINGS: Final = ("PASSWORD", "PASSWD", "PASSPHRASE", "SECRET", "PASS", "PWD", "TOKEN", "KEY", "CREDENTIALS", "SEED")
"""So do names end that are written as one word (PGPASSWORD, OPENAIKEY), and others (MONKEY)."""

_NO_SECRETS: Final = frozenset("CACHE FOREIGN GPG PARTITION PRIMARY PUBLIC SORT".split())
"""Kinds of keys that are none."""

_ABOUT: Final = frozenset(
    "ALG ALGORITHM AUDIENCE CMD COMMAND COUNT DIR ENABLED ENDPOINT EXPIRES EXPIRY FILE FORMAT HEADER HELPER HOST ISSUER "
    "LENGTH LIMIT METHOD MODE NAME PATH PREFIX PROVIDER REGION SIZE SOCK TIMEOUT TTL TYPE URI URL USER VERSION".split()
)
"""Last words of names that say something about a secret (TOKEN_TYPE)."""

_IDENTIFIERS: Final = frozenset("COMMIT DIGEST FINGERPRINT GUID HASH ID REF REV REVISION SHA UUID VERSION".split())
"""Last words of names whose values look random and are not secret."""

_DIRECTORIES: Final = frozenset({"PWD", "OLDPWD"})


# -- which values are not ---------------------------------------------------------------------------------------

_COMMON: Final = frozenset(
    "anonymous changeme credentials development disabled localhost optional passphrase password postgres production "
    "redacted required undefined unlimited username".split()
)
"""Too common in ordinary texts to be masked, and no secret as a password either."""

_PATH: Final = re.compile(r"(~|\.{1,2})?/|~$|file:|[A-Za-z]:[\\/]|[\w.\-]+(/[\w.\-]+)+\.[A-Za-z]\w{0,4}$")
_HOST: Final = re.compile(r"([a-z0-9]([a-z0-9\-]{0,24}[a-z0-9])?\.)+[a-z]{2,12}(:\d+)?|\d{1,3}(\.\d{1,3}){3}(:\d+)?")
_WORD: Final = re.compile(
    r"([a-z]{1,20}|[A-Z][a-z]{1,20}|[A-Z]{1,20})([-_. ]([a-z]{1,20}|[A-Z][a-z]{1,20}|[A-Z]{1,20}))*"
)
_NUMBER: Final = re.compile(r"v?[\d.,:+\-]+")
_HEX: Final = re.compile(r"[0-9a-fA-F\-]+")
_TOKEN: Final = re.compile(r"[A-Za-z0-9_+/=:\-]{20,512}")
_SLUG: Final = re.compile(r"([a-z]+|[A-Z]+|[A-Z][a-z]+|\d+)([-_/=]+([a-z]+|[A-Z]+|[A-Z][a-z]+|\d+))*")

_URLS: Final = re.compile(r"[,;\s]+(?=[A-Za-z][\w+.\-]*://)")
_USERINFO: Final = re.compile(r"[A-Za-z][\w+.\-]*://([^\s:/@]*)(?::(\S*))?@[^\s@]*$")
_PARAMETER: Final = re.compile(
    r"(?:^|[?&;\s])(?:\w*(?:password|passwd|pwd|secret|token|apikey|api_key|accesskey|accountkey|sharedaccesskey)|sig|signature|pass)"
    r"\s*=\s*[\"']?([^\s\"'&;#]+)",
    re.IGNORECASE,
)


def secrets_in(environment: Mapping[str, str]) -> list[str]:
    """Return the values of an environment, or parts of them, that look like secrets, the longest first.

    A value is one if :data:`LISTED` lists its variable, if the variable's name says so (KEY, TOKEN, PASSWORD …), or if it
    looks random. Of a URL only the password is one; of JSON, the values within. Paths, host names, plain words, and values
    of fewer than :data:`SHORTEST` characters are none.
    """
    found: set[str] = set()
    listed = set(re.split(r"[,;\s]+", environment.get(LISTED, "")))
    for name, value in environment.items():
        if name != LISTED:
            whole = value.strip()
            found.update([whole] if name in listed else _secrets_of(name, whole))
            if "\n" in whole and whole in found:  # a screen may show some of its lines
                found.update(
                    line.strip()
                    for line in whole.splitlines()
                    if len(line.strip()) >= 2 * SHORTEST and not line.startswith("-----")
                )
    usable = {each for each in found if len(each) >= SHORTEST and each != MASK}
    return sorted(usable, key=lambda each: (-len(each), each))


def secret_variables(environment: Mapping[str, str]) -> set[str]:
    """Return the names of the variables that hold a secret, or a part that is one."""
    lists = {LISTED: environment[LISTED]} if LISTED in environment else {}
    return {name for name, value in environment.items() if secrets_in({name: value, **lists})}


def _secrets_of(name: str, value: str, depth: int = 0) -> Iterator[str]:
    if len(value) < SHORTEST:
        return
    if value[0] in "{[" and depth < 4 and (inner := _json(value)) is not None:
        yield from _secrets_in_json(name, inner, depth + 1)
        return
    parts = [part for part in _parts(value) if not _is_plain(part)]
    yield from parts
    if "://" not in value and not parts and _is_secret(name, value):
        yield value


def _json(value: str) -> Any:
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return None


def _secrets_in_json(name: str, value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield from _secrets_of(name, value, depth)
    elif isinstance(value, (dict, list)) and depth < 8:
        pairs = value.items() if isinstance(value, dict) else ((name, each) for each in value)
        for key, each in pairs:
            yield from _secrets_in_json(key, each, depth + 1)


def _parts(value: str) -> Iterator[str]:
    """The passwords of URLs, and of connection strings such as ``host=db password=…``."""
    for url in _URLS.split(value) if "://" in value else ():
        if found := _USERINFO.match(url):
            user, password = found.groups()
            if password is not None:
                yield password
                yield unquote(password)
            elif len(user) >= 16:  # a token in the place of the user
                yield user
        yield from filter(_is_random, re.split(r"[/?&=#]", url)[3:])  # of a webhook
    for found in _PARAMETER.finditer(value) if "=" in value else ():
        if not found[1].startswith("$"):
            yield found[1]
            yield unquote(found[1])


def _is_secret(name: str, value: str) -> bool:
    words = [word.upper() for word in _WORDS.findall(name)] or [name]
    if name in _DIRECTORIES:
        return False
    random = _is_random(value)
    if _PATH.match(value) and not (random and value.count("/") <= 3):
        return False
    if words[-1] not in _ABOUT:
        if _PASSWORDS.intersection(words) or words[-1].endswith(_ENDINGS[:4]):
            return not _is_plain(value)
        if _KEYS.intersection(words) and _NO_SECRETS.intersection(words):
            return False
        if _KEYS.intersection(words) or (words[-1].endswith(_ENDINGS) and any(not c.isalpha() for c in value)):
            return not (_is_plain(value) or _WORD.fullmatch(value) or _NUMBER.fullmatch(value))
    return random and words[-1] not in _IDENTIFIERS


def _is_plain(value: str) -> bool:
    return value.lower() in _COMMON or _HOST.fullmatch(value) is not None


def _is_random(value: str) -> bool:
    """Whether it looks made by a generator: letters and digits without an order. Hexadecimal digests and ids do not count."""
    if not _TOKEN.fullmatch(value) or _HEX.fullmatch(value) or _SLUG.fullmatch(value):
        return False
    kinds = ["d" if c.isdigit() else "u" if c.isupper() else "l" for c in value if c.isalnum()]
    if len(kinds) < 20:
        return False
    if "u" not in kinds and max(map(len, re.split(r"[^a-z0-9]", value))) < 16:  # web-7d4b9c8f6d-x2k9q
        return False
    changes = sum(one != other for one, other in pairwise(kinds)) / len(kinds)
    digits = len(re.findall(r"\d+", value))
    entropy = -sum(n / len(value) * math.log2(n / len(value)) for n in Counter(value).values())
    return changes >= 0.3 and digits >= 2 and entropy >= 3.5


# -- masking ----------------------------------------------------------------------------------------------------

_KEY_PREFIXES: Final = (
    "sk pk rk key ghp gho ghs ghu ghr github_pat glpat xoxa xoxb xoxp xoxr xoxs npm hf AIza ya29".split()
)

_FORMS: Final[tuple[tuple[tuple[str, ...], re.Pattern[str]], ...]] = tuple(
    (parts, re.compile(pattern, re.DOTALL))
    for parts, pattern in (
        (("-----BEGIN ",), r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
        (
            ("-", "_", "."),
            rf"\b({'|'.join(_KEY_PREFIXES)})[-_.][A-Za-z0-9_.\-]{{12,}}",
        ),
        (("AIza",), r"\bAIza[A-Za-z0-9_\-]{30,}"),
        (("AKIA", "ASIA"), r"\b(AKIA|ASIA)[A-Z0-9]{16}\b"),
        (("eyJ",), r"\beyJ[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]{8,}\.[A-Za-z0-9_\-]*"),
        (("ramure.token.",), r"(?<=\bramure\.token\.)[A-Za-z0-9_~\-]+"),
        (("Bearer ",), r"(?<=\bBearer )[A-Za-z0-9_.~+/=\-]{8,}"),
        (("Basic ",), r"(?<=\bBasic )[A-Za-z0-9+/]{8,}={0,2}"),
    )
)
"""Keys of well-known providers, tokens, and private keys, wherever they come from. Each pattern has parts of which a match
contains one: they are looked for first, since that takes a hundredth of the time, and texts may have megabytes."""

_URL_PASSWORD: Final = re.compile(r"(?<=://)([^\s:/@\"'<>]*):([^\s/@\"'<>]+)@")
"""The password of a URL, of any length."""

_BREAK: Final = re.compile(r"[ \t│|]*\n[ \t│|]*")
"""Where a terminal program broke a line, with the edges of a box around it."""


class Masker:
    """Masks these secrets, and whatever has the form of one. Made once, and called often."""

    def __init__(self, secrets: Iterable[str]) -> None:
        every = {each.strip() for each in secrets}
        every |= {form for each in every for form in _spellings(each)}
        self._secrets = sorted((each for each in every if len(each) >= SHORTEST), key=len, reverse=True)
        self._in_one_line = [_BREAK.sub("", each) for each in self._secrets]

    def __call__(self, text: str) -> str:
        """``text`` with every secret replaced by :data:`MASK`; also one that the edge of a screen cuts."""
        for secret in self._secrets:
            if secret in text:
                text = text.replace(secret, MASK)
        if "\n" in text:
            text = self._over_lines(text)
        if "://" in text:
            text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
        for parts, form in _FORMS:
            if any(part in text for part in parts):
                text = form.sub(MASK, text)
        return text

    def _over_lines(self, text: str) -> str:
        """Replace those that a line break cuts: they are looked for in the text without breaks."""
        joined, ends, shifts = _joined(text)
        spans: list[tuple[int, int]] = []
        for secret in self._in_one_line:
            at = joined.find(secret)
            while at >= 0:
                first = at + shifts[bisect_right(ends, at)]
                last = at + len(secret) - 1
                spans.append((first, last + shifts[bisect_right(ends, last)] + 1))
                at = joined.find(secret, at + len(secret))
        parts, done = [], 0
        for first, last in sorted(spans):
            if first >= done:
                parts += [text[done:first], MASK]
            done = max(done, last)
        return "".join([*parts, text[done:]])


def _joined(text: str) -> tuple[str, list[int], list[int]]:
    """``text`` without its line breaks; where each of its lines ends there, and how far each was moved."""
    lines: list[str] = []
    ends: list[int] = []
    shifts = [0]
    start = size = 0
    for found in _BREAK.finditer(text):
        lines.append(text[start : found.start()])
        size += len(lines[-1])
        start = found.end()
        ends.append(size)
        shifts.append(start - size)
    return "".join([*lines, text[start:]]), ends, shifts


def _spellings(secret: str) -> Iterator[str]:
    """As URLs, JSON and Python write it."""
    yield quote(secret, safe="")
    yield json.dumps(secret)[1:-1]
    yield repr(secret)[1:-1]


class _Known:
    """What this program's masker was made of."""

    def __init__(self) -> None:
        self.remembered: dict[str, None] = {}  # of machines' environments, the newest last
        self.made: tuple[object, Masker] = (None, Masker(()))

    def masker(self) -> Masker:
        # The mapping beneath os.environ: comparing it costs microseconds, decoding it a hundred times that.
        state = dict(getattr(os.environ, "_data", os.environ))
        known, masker = self.made
        if known != state:
            masker = Masker([*secrets_in(os.environ), *list(self.remembered)])
            self.made = (state, masker)
        return masker


_known: Final = _Known()


def remember_secrets(environment: Mapping[str, str]) -> None:
    """Mask the secrets of this environment too from now on (a machine's ``env=``); the last :data:`REMEMBERED` are known."""
    new = [each for each in secrets_in(environment) if each not in _known.remembered]
    for each in new:
        _known.remembered[each] = None
    while len(_known.remembered) > REMEMBERED:
        del _known.remembered[next(iter(_known.remembered))]
    if new:
        _known.made = (None, _known.made[1])


def masked(text: str, more: Iterable[str] = ()) -> str:
    """Return ``text`` without the secrets of this program's environment, of its machines', and without ``more``.

    The secrets are looked for once for each state of the environment.
    """
    if more := list(more):
        text = Masker(more)(text)
    return _known.masker()(text)


def masked_values(value: Any) -> Any:
    """The same plain data, every text in it masked; keys stay."""
    if isinstance(value, str):
        return masked(value)
    if isinstance(value, Mapping):
        return {key: masked_values(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [masked_values(each) for each in value]
    return value


# -- logging ----------------------------------------------------------------------------------------------------


def get_logger(name: str) -> logging.Logger:
    """Return the logger of this name; its records hold no secret, whatever handles them."""
    logger = logging.getLogger(name)
    if _mask_record not in logger.filters:
        logger.addFilter(_mask_record)
    return logger


def _mask_record(record: logging.LogRecord) -> bool:
    text = record.getMessage()
    if (safe := masked(text)) != text:
        record.msg, record.args = safe, ()
    if record.exc_info and record.exc_info[0] is not None:
        trace = "".join(traceback.format_exception(*record.exc_info)).rstrip("\n")
        if (safe := masked(trace)) != trace:
            record.exc_text, record.exc_info = safe, None  # a handler that formats the exception itself would show it
    return True
