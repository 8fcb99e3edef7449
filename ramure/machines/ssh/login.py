"""Whether a host is the one it should be, and logging in to it, through paramiko: blocking code.

Both follow OpenSSH's client. paramiko's own reading of known_hosts gives up a file at the first line that it does not know,
and knows no patterns; its own search for keys does not know IdentitiesOnly, IdentityAgent or CertificateFile.
"""

from __future__ import annotations

import contextlib
import io
import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ramure.home import private_dir
from ramure.machines.errors import HostKeyRefused, LoginRefused
from ramure.machines.ssh.config import Target
from ramure.machines.ssh.known_hosts import KnownKeys, entry, key_type, known_keys, names_of
from ramure.masking import get_logger

if TYPE_CHECKING:
    import paramiko

__all__ = ["HostKeys", "Login"]

logger: logging.Logger = get_logger(__name__)

NO_FILE = ("/dev/null", os.devnull)
AGENT_LIMIT = 30.0
"""Seconds for an answer of the ssh-agent: it may ask its user."""

_remembering = threading.Lock()


class HostKeys:
    """What is known of a target's host key. Used by paramiko as its policy for a host whose key it does not know: it is
    told none."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.names: list[str] = names_of(target.host, target.port, target.alias)
        self.known: KnownKeys = self._look_up(self.names[0])

    def preferred(self, offered: tuple[str, ...]) -> tuple[str, ...]:
        """The key types in the order in which they are asked for: those that are known first."""
        types = set(self.known.types)
        if "ssh-rsa" in types:
            types |= {"rsa-sha2-512", "rsa-sha2-256"}
        return tuple(sorted(offered, key=lambda each: each not in types))  # sorted() keeps the order of equals

    def missing_host_key(self, _client: object, _name: str, key: paramiko.PKey) -> None:
        """Return if the key is the host's. Raises :class:`HostKeyRefused`."""
        target, shown = self.target, key.asbytes()
        if shown in self.known.revoked | self._revoked():
            raise HostKeyRefused(f"the host key of {target} is marked as revoked")
        if shown in self.known.accepted or (target.trust_loopback and _is_loopback(target.host)):
            return
        if len(self.names) > 1:  # OpenSSH looks for it without the port too
            elsewhere = self._look_up(self.names[1])
            if shown in elsewhere.revoked:
                raise HostKeyRefused(f"the host key of {target} is marked as revoked")
            if shown in elsewhere.accepted:
                return
        if self.known.accepted:
            if target.strict != "no":
                raise HostKeyRefused(
                    f"the host key of {target} is not the one that is known: somebody may be in between. If the host was "
                    f"set up anew, remove the old key with `ssh-keygen -R '{self.names[0]}'`"
                )
            logger.warning("the host key of %s has changed; StrictHostKeyChecking=no lets that pass", target)
        elif target.strict == "yes":
            raise HostKeyRefused(self._unknown())
        else:
            self._remember(shown)

    def _look_up(self, name: str) -> KnownKeys:
        return known_keys((line for file in self.target.known_hosts for line in _lines(file)), name)

    def _revoked(self) -> set[bytes]:
        """The keys in RevokedHostKeys, a list of public keys."""
        file = self.target.revoked_keys
        if not file:
            return set()
        try:
            text = Path(file).read_bytes()
        except OSError as error:
            raise HostKeyRefused(f"RevokedHostKeys {file} cannot be read: {error.strerror}") from error
        if text.startswith(b"SSHKRL"):
            raise HostKeyRefused(
                f"RevokedHostKeys {file} is a binary list (KRL), which cannot be read here; use one key a line"
            )
        return known_keys((f"* {line}" for line in text.decode(errors="replace").splitlines()), "*").accepted

    def _unknown(self) -> str:
        target = self.target
        where = target.known_hosts[0] if target.known_hosts else "known_hosts"
        passed_over = self.known.passed_over
        lines = f" ({passed_over} lines of the known_hosts files could not be read)" if passed_over else ""
        return (
            f"the host key of {target} is not known{lines}. Compare its fingerprint, then accept it with "
            f"`ssh -p {target.port} {target.user}@{target.host}`, or `ssh-keyscan -p {target.port} {target.host}` "
            f"into {where}"
        )

    def _remember(self, key: bytes) -> None:
        """Write the key to the first file. Raises where another connection has just met another key."""
        files = self.target.known_hosts
        if not files or files[0] in NO_FILE:
            return
        with _remembering:
            private_dir(Path(files[0]).parent)
            with open(
                os.open(files[0], os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+", errors="surrogateescape"
            ) as file:
                lines = file.readlines()
                now = known_keys(lines, self.names[0])
                if not now.accepted:
                    newline = "\n" if lines and not lines[-1].endswith("\n") else ""
                    file.write(f"{newline}{entry(self.names[0], key, hashed=self.target.hash_names)}\n")
                elif key not in now.accepted and key_type(key) in now.types:
                    raise HostKeyRefused(f"{self.target} shows different host keys at once; see {files[0]}")


def _lines(file: str) -> list[str]:
    try:
        return Path(file).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:  # as OpenSSH: what is in it is not known
        logger.warning("the host keys in %s cannot be read: %s", file, error.strerror)
        return []


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


class Login:
    """Logs in with public keys: those of the ssh-agent that the target's key files name, the files, then the agent's others.
    Used by paramiko as its strategy."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._tried: list[str] = []

    def authenticate(self, transport: paramiko.Transport) -> list[str]:
        """Raises :class:`LoginRefused`, or what paramiko raises when the connection breaks."""
        import paramiko

        with contextlib.ExitStack() as stack:
            for what, key in self._keys(stack):
                try:
                    transport.auth_publickey(self.target.user, key)
                except paramiko.AuthenticationException as error:
                    self._tried.append(f"{what}: {str(error).rstrip('.').lower()}")
                except paramiko.SSHException as error:
                    if not transport.is_active():
                        raise LoginRefused(self._explained(f"the server ended the connection: {error}")) from error
                    self._tried.append(f"{what}: {error}")
                else:
                    return self._tried
        raise LoginRefused(self._explained("; ".join(self._tried) or "there is none"))

    def _explained(self, why: str) -> str:
        target = self.target
        return (
            f"{target} accepted none of our keys ({why}); check with `ssh -p {target.port} "
            f"{target.user}@{target.host}`, name a key with key=, or add it to the ssh-agent"
        )

    def _keys(self, stack: contextlib.ExitStack) -> Iterator[tuple[str, paramiko.PKey]]:
        target = self.target
        if target.private_key:
            yield "the given key", _parsed(target.private_key)
            return
        named = {blob for file in target.keys for blob in (_public(file), _public(f"{file}.pub")) if blob}
        held = self._of_agent(stack)
        first = [key for key in held if key.asbytes() in named]
        for key in first:
            yield f"{key.get_name()} of the ssh-agent", key
        done = {key.asbytes() for key in first}
        for file in target.keys:
            for key in self._of_file(file):
                if key.public_blob is not None or key.asbytes() not in done:
                    done.add(key.asbytes())
                    yield file, key
        if not target.only_these_keys:
            for key in held:
                if key.asbytes() not in done:
                    yield f"{key.get_name()} of the ssh-agent", key

    def _of_file(self, file: str) -> Iterator[paramiko.PKey]:
        """The key in a file: with its certificates first, then as it is."""
        if not os.path.exists(file) or _public(file):
            return
        for certificate in (f"{file}-cert.pub", *self.target.certificates):
            if os.path.exists(certificate) and (key := self._loaded(file)) is not None:
                try:
                    key.load_certificate(certificate)
                except (ValueError, OSError) as error:  # of another key, or none
                    self._tried.append(f"{certificate}: {error}")
                else:
                    yield key
        if (key := self._loaded(file)) is not None:
            yield key

    def _loaded(self, file: str) -> paramiko.PKey | None:
        import paramiko

        problem = ""
        try:
            text = Path(file).read_text(errors="replace")
        except OSError as error:
            self._tried.append(f"{file}: {error.strerror}")
            return None
        for kind in _kinds():
            try:
                key: paramiko.PKey = kind.from_private_key(io.StringIO(text))
            except paramiko.PasswordRequiredException:
                problem = "it is encrypted: add it to the ssh-agent"
                break
            except (paramiko.SSHException, ValueError, IndexError) as error:  # of another kind, as a rule
                problem = problem or str(error)
            else:
                return key
        self._tried.append(f"{file}: {problem}")
        return None

    def _of_agent(self, stack: contextlib.ExitStack) -> list[paramiko.PKey]:
        if not self.target.agent:
            return []
        import paramiko
        from paramiko.agent import AgentSSH

        agent = AgentSSH()
        connection = socket.socket(socket.AF_UNIX)
        stack.callback(connection.close)
        connection.settimeout(AGENT_LIMIT)
        try:
            connection.connect(self.target.agent)
            agent._connect(connection)  # type: ignore[attr-defined]
        except (OSError, paramiko.SSHException) as error:
            self._tried.append(f"the ssh-agent at {self.target.agent}: {error}")
            return []
        return list(agent.get_keys())


def _kinds() -> tuple[Any, ...]:
    import paramiko

    return (paramiko.Ed25519Key, paramiko.RSAKey, paramiko.ECDSAKey)


def _public(file: str) -> bytes:
    """The key in a file with a public one; b"" if there is none."""
    try:
        with open(file, errors="replace") as opened:
            line = opened.readline(1 << 16)
    except OSError:
        return b""
    return next(iter(known_keys([f"* {line}"], "*").accepted), b"")


def _parsed(text: str) -> paramiko.PKey:
    import paramiko

    for kind in _kinds():
        try:
            key: paramiko.PKey = kind.from_private_key(io.StringIO(text))
        except (paramiko.SSHException, ValueError):  # of another kind
            continue
        return key
    raise LoginRefused("the private key that was given is none that paramiko can read")
