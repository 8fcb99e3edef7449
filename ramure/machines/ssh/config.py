"""What the user's SSH configuration says about a host.

Where there is an ``ssh`` program, ``ssh -G`` is asked: so Include, Match, tokens and defaults mean here what they mean there.
Without it, paramiko reads the file, which knows less; what it would get wrong is refused. Blocking code.
"""

from __future__ import annotations

import contextlib
import getpass
import glob
import hashlib
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal

from ramure.errors import UsageError
from ramure.machines.errors import MachineError

__all__ = ["Target", "check_name", "resolve"]

ASK_LIMIT: Final = 60.0
"""Seconds for ``ssh -G``: a ``Match exec`` runs a command of the user's."""
HOPS: Final = 16
INCLUDES: Final = 16

Strict = Literal["yes", "accept-new", "no"]


@dataclass(frozen=True)
class Target:
    """Whom to connect to, with everything said: command line, configuration and defaults put together."""

    host: str
    user: str
    port: int = 22
    alias: str = ""
    """The name under which its key is known (HostKeyAlias)."""
    keys: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()
    agent: str = ""
    """The socket of the ssh-agent; "" for none."""
    only_these_keys: bool = False
    """Whether of the agent's keys only those are used that ``keys`` name (IdentitiesOnly)."""
    known_hosts: tuple[str, ...] = ()
    """The user's own files first: the first of all is where a new key is written."""
    strict: Strict = "yes"
    hash_names: bool = False
    revoked_keys: str = ""
    trust_loopback: bool = False
    jump: Target | None = None
    proxy_command: str = ""
    family: int = 0
    """AF_INET, AF_INET6, or 0 for either."""
    bind_address: str = ""
    compress: bool = False
    connect_timeout: float | None = None
    dead_after: float = 15.0
    private_key: str = field(default="", repr=False)
    """The text of the one key to log in with, instead of files and the ssh-agent."""

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")

    @property
    def patience(self) -> float:
        """Seconds that one step of connecting may take."""
        return self.connect_timeout or self.dead_after


def check_name(what: str, value: str) -> str:
    """A host, user or jump as ``ssh`` may be given it. Raises UsageError for what it would take as an option."""
    if not value or value.startswith("-") or re.search(r"[\x00-\x20\x7f]", value):
        why = (
            "it is empty"
            if not value
            else "it begins with '-'"
            if value[0] == "-"
            else "it holds a space or a control character"
        )
        raise UsageError(f"SSHImage({what}={value!r}): {why}; a name or an address is needed, as `ssh` takes it")
    return value


def resolve(
    host: str,
    *,
    user: str | None,
    port: int | None,
    key: str | None,
    config: str | None,
    jump: str | None,
    known_hosts: str | None,
    dead_after: float,
) -> Target:
    """Put together what was said, what ``~/.ssh/config`` (or ``config``) says, and OpenSSH's defaults.

    Raises MachineError for a configuration that has an error, or says what cannot be done here.
    """
    ssh = shutil.which("ssh")
    path = os.path.expanduser(config) if config is not None else _at_another_home()
    ask = _asking(ssh, path) if ssh else _reading(path)

    def look_up(name: str, user: str | None, port: int | None, jump: str | None, hops: int) -> Target:
        if hops > HOPS:
            raise MachineError(f"the way to {host} has more than {HOPS} jumps: does one lead back (ProxyJump)?")
        said = ask(name, user, port)
        target = _target(name, said, key=key, known_hosts=known_hosts, dead_after=dead_after)
        *before, last = (jump or said.one("proxyjump", "none")).split(",")
        if last.lower() == "none":
            return replace(target, proxy_command="") if jump else target
        login, at, number = _hop(last)
        way = ",".join(before) or None
        return replace(target, proxy_command="", jump=look_up(at, login, number, way, hops + 1))

    return look_up(host, user, port, jump, 0)


def _at_another_home() -> str | None:
    """The configuration below HOME, where that is not the home directory that ``ssh`` looks in: the password file's."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None
    own = os.path.expanduser("~/.ssh/config")
    return own if os.path.realpath(own) != os.path.realpath(f"{home}/.ssh/config") and os.path.exists(own) else None


def _hop(text: str) -> tuple[str | None, str, int | None]:
    """User, host and port of a jump: ``user@host:port``, ``[::1]:22``, ``ssh://user@host:port``."""
    address = text.strip().removeprefix("ssh://").rstrip("/")
    login, _, address = address.rpartition("@")
    matched = re.fullmatch(
        r"\[(?P<six>[^]]+)](?::(?P<port6>\d+))?|(?P<four>[^:]+)(?::(?P<port4>\d+))?|(?P<bare>.*:.*:.*)", address
    )
    if matched is None:
        raise MachineError(f"ProxyJump {text!r}: not understood; write user@host:port, or user@[address]:port for IPv6")
    name = matched["six"] or matched["four"] or matched["bare"]
    number = matched["port6"] or matched["port4"]
    if name.startswith("-") or login.startswith("-"):
        raise MachineError(f"ProxyJump {text!r}: a name that begins with '-' would be an option of ssh")
    return login or None, name, int(number) if number else None


@dataclass(frozen=True)
class _Said:
    """The configuration for one host: each keyword with its values."""

    values: Mapping[str, Sequence[str]]

    def all(self, name: str) -> list[str]:
        return [value for value in self.values.get(name, ()) if value.lower() != "none"]

    def one(self, name: str, default: str = "") -> str:
        values = self.values.get(name)
        return values[0] if values else default

    def is_on(self, name: str) -> bool:
        return self.one(name).lower() in ("yes", "true", "on")

    def seconds(self, name: str) -> float | None:
        value = self.one(name)
        return float(value) if value.isdecimal() and int(value) > 0 else None


_Ask = Callable[[str, str | None, int | None], _Said]


def _asking(ssh: str, config: str | None) -> _Ask:
    def ask(name: str, user: str | None, port: int | None) -> _Said:
        options = {"-F": config, "-l": user, "-p": port}
        words = [word for option, value in options.items() if value is not None for word in (option, str(value))]
        try:
            done = subprocess.run(
                [ssh, "-G", *words, "--", name],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=ASK_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise MachineError(
                f"`ssh -G {name}` had no answer for {ASK_LIMIT:g} s: a `Match exec` that hangs?"
            ) from None
        text = done.stdout.decode("utf-8", "surrogateescape")
        if done.returncode != 0 or "\nhostname " not in f"\n{text}":
            told = done.stderr.decode(errors="replace").strip().replace("\n", "; ") or f"status {done.returncode}"
            raise MachineError(f"ssh refuses its configuration for {name}: {told} (see `ssh -G {name}`)")
        values: dict[str, list[str]] = {}
        for line in text.splitlines():
            keyword, _, value = line.partition(" ")
            values.setdefault(keyword.lower(), []).append(value)
        return _Said(values)

    return ask


def _reading(config: str | None) -> _Ask:
    """Without an ssh program: by paramiko, which knows no Include."""
    import paramiko

    path = Path(config or os.path.expanduser("~/.ssh/config"))
    settings = paramiko.SSHConfig()
    if config is not None or path.exists():
        try:
            settings.parse(_with_includes(path, 0))
        except (OSError, paramiko.SSHException, ValueError) as error:
            raise MachineError(f"the SSH configuration {path} cannot be read: {error}") from error

    def ask(name: str, user: str | None, port: int | None) -> _Said:
        try:
            found = settings.lookup(name)
        except (ImportError, paramiko.SSHException) as error:  # Match exec needs another library
            raise MachineError(f"{path} for {name}: {error}; install OpenSSH's `ssh`, which understands it") from error
        values: dict[str, list[str]] = {}
        for keyword, value in dict[str, Any](found).items():
            values[keyword] = list(value) if isinstance(value, list) else [value]
        defaults = [f"~/.ssh/{kind}" for kind in ("id_rsa", "id_ecdsa", "id_ed25519")]
        values.setdefault("identityfile", defaults)
        said = {"user": user, "port": port}
        values.update({key: [str(value)] for key, value in said.items() if value is not None})
        return _Said(values)

    return ask


def _with_includes(path: Path, depth: int) -> list[str]:
    """The lines of a configuration, and of those that it includes."""
    if depth > INCLUDES:
        raise ValueError(f"more than {INCLUDES} files include each other")
    lines: list[str] = []
    section = ""
    for line in path.read_text(errors="surrogateescape").splitlines(keepends=True):
        keyword, _, rest = line.strip().replace("=", " ", 1).partition(" ")
        if keyword.lower() in ("host", "match"):
            section = line
        if keyword.lower() != "include":
            lines.append(line if line.endswith("\n") else f"{line}\n")
            continue
        for pattern in re.findall(r'"[^"]*"|\S+', rest):
            where = os.path.join(os.path.expanduser("~/.ssh"), os.path.expanduser(pattern.strip('"')))
            for name in sorted(glob.glob(where)):
                more = _with_includes(Path(name), depth + 1)
                headed = any(re.match(r"\s*(host|match)[\s=]", each, re.IGNORECASE) for each in more)
                if headed and section and section.split()[1:] != ["*"]:
                    raise ValueError(f"`Include {pattern}` below `{section.strip()}` needs OpenSSH's `ssh`: install it")
                lines += [*more, *([section] if headed and section else [])]
    return lines


def _target(name: str, said: _Said, *, key: str | None, known_hosts: str | None, dead_after: float) -> Target:
    host = said.one("hostname", name)
    user = said.one("user") or getpass.getuser()
    port = int(said.one("port", "22"))
    jump = said.one("proxyjump", "")
    alias = said.one("hostkeyalias", "")
    own_host = socket.gethostname()
    tokens = {
        "%": "%", "d": os.path.expanduser("~"), "h": host, "i": str(os.getuid()), "j": jump, "k": alias or name,
        "L": own_host.partition(".")[0], "l": own_host, "n": name, "p": str(port), "r": user, "u": getpass.getuser(),
    }  # fmt: skip
    tokens["C"] = hashlib.sha1((own_host + host + str(port) + user + jump).encode()).hexdigest()

    def filled(text: str) -> str:
        return re.sub(r"%(.)", lambda match: tokens.get(match[1], match[0]), text)

    def path(text: str) -> str:
        text = re.sub(r"\$\{(\w+)\}", lambda match: os.environ.get(match[1], ""), text)
        return os.path.expanduser(filled(text.strip().strip('"')))

    own_files = [
        path(file) for file in _split(said.one("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2"))
    ]
    global_files = [path(file) for file in _split(said.one("globalknownhostsfile", "/etc/ssh/ssh_known_hosts"))]
    command = said.one("proxycommand", "none")
    revoked = said.one("revokedhostkeys", "none")
    return Target(
        host=host,
        user=user,
        port=port,
        alias=alias,
        keys=(os.path.expanduser(key),) if key else tuple(path(file) for file in said.all("identityfile")),
        certificates=tuple(path(file) for file in said.all("certificatefile")),
        agent=_agent(said.one("identityagent", "SSH_AUTH_SOCK"), path),
        only_these_keys=said.is_on("identitiesonly"),
        known_hosts=(os.path.expanduser(known_hosts),) if known_hosts else (*own_files, *global_files),
        strict=_strict(said.one("stricthostkeychecking", "ask")),
        hash_names=said.is_on("hashknownhosts"),
        revoked_keys="" if revoked.lower() == "none" else path(revoked),
        trust_loopback=said.is_on("nohostauthenticationforlocalhost"),
        proxy_command="" if command.lower() == "none" else filled(command),
        family={"inet": socket.AF_INET, "inet6": socket.AF_INET6}.get(said.one("addressfamily").lower(), 0),
        bind_address=said.one("bindaddress", ""),
        compress=said.is_on("compression"),
        connect_timeout=said.seconds("connecttimeout"),
        dead_after=dead_after,
    )


def _split(files: str) -> list[str]:
    """The paths in a list of them: ``ssh -G`` prints a space in a path as one between two."""
    if files.strip().lower() == "none":
        return []
    return [file for file in re.split(r'\s+(?=["/~%$])|(?<=")\s+', files.strip()) if file and file.lower() != "none"]


def _strict(value: str) -> Strict:
    """``ask`` is ``yes`` here: there is nobody to ask."""
    match value.lower():
        case "accept-new":
            return "accept-new"
        case "no" | "off" | "false":
            return "no"
    return "yes"


def _agent(value: str, path: Callable[[str], str]) -> str:
    value = value.strip().strip('"')
    if value.lower() == "none":
        return ""
    if value == "SSH_AUTH_SOCK":
        return os.environ.get(value, "")
    if re.fullmatch(r"\$\w+", value):
        return os.environ.get(value[1:], "")
    with contextlib.suppress(KeyError):
        return path(value)
    return ""
