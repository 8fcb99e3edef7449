"""OpenSSH's files of host keys (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"). Pure: lines in, keys out.

A line that cannot be read is counted and passed over, whatever is wrong with it: it says nothing about any host.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["KnownKeys", "entry", "key_type", "known_keys", "names_of"]


@dataclass
class KnownKeys:
    """What files say about one host. A key is its type and its bytes, as on the wire."""

    accepted: set[bytes] = field(default_factory=set)
    revoked: set[bytes] = field(default_factory=set)
    passed_over: int = 0
    """Lines that could not be read."""

    @property
    def types(self) -> list[str]:
        """The types of the keys that are accepted, sorted."""
        return sorted({key_type(key) for key in self.accepted})


def names_of(host: str, port: int, alias: str) -> list[str]:
    """The names under which a host's key is looked for, the one under which it is written first."""
    if alias:
        return [alias]
    name = host.lower()
    return [name] if port == 22 else [f"[{name}]:{port}", name]


def known_keys(lines: Iterable[str], name: str) -> KnownKeys:
    """What these lines say about the host of this name (``host``, or ``[host]:port``)."""
    known = KnownKeys()
    for line in lines:
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        marker, fields = "", text.split()
        if fields[0].startswith("@"):
            marker, *fields = fields
        key = _key(fields)
        if key is None or marker not in ("", "@revoked", "@cert-authority"):
            known.passed_over += 1
        elif marker != "@cert-authority" and _matches(fields[0], name):  # paramiko is shown no host certificates
            (known.revoked if marker else known.accepted).add(key)
    return known


def _key(fields: list[str]) -> bytes | None:
    """The key of a line ``names type base64 [comment]``."""
    if len(fields) < 3:
        return None
    try:
        key = base64.b64decode(fields[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) > 8 and key_type(key) == fields[1] else None


def key_type(key: bytes) -> str:
    """The type that stands in a key, such as ``ssh-ed25519``; "" if none does."""
    size = int.from_bytes(key[:4], "big")
    return key[4 : 4 + size].decode("ascii", "replace") if 0 < size <= min(64, len(key) - 4) else ""


def _matches(names: str, name: str) -> bool:
    if names.startswith("|"):
        return _is_hash_of(names, name)
    found = False
    for pattern in names.lower().split(","):
        negated = pattern.startswith("!")
        if _fits(pattern.removeprefix("!"), name.lower()):
            if negated:
                return False
            found = True
    return found


def _fits(pattern: str, name: str) -> bool:
    """OpenSSH's patterns have ``*`` and ``?`` only: brackets stand for themselves."""
    return fnmatch.fnmatchcase(name, re.sub(r"\[", "[[]", pattern))


def _is_hash_of(names: str, name: str) -> bool:
    parts = names.split("|")
    if len(parts) != 4 or parts[1] != "1":
        return False
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[2:])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.new(salt, name.encode(), hashlib.sha1).digest(), digest)


def entry(name: str, key: bytes, *, hashed: bool) -> str:
    """The line that says so of a host."""
    if hashed:
        salt = os.urandom(20)
        digest = hmac.new(salt, name.encode(), hashlib.sha1).digest()
        name = "|1|" + "|".join(base64.b64encode(part).decode() for part in (salt, digest))
    return f"{name} {key_type(key)} {base64.b64encode(key).decode()}"
