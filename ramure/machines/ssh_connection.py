"""SSH connections through paramiko: blocking code, for threads of its own. What it works around is in DESIGN's
measured facts about paramiko and sshd:

* TCP_NODELAY is set on every socket, jumps included (a command costs 48 ms without it, 5 ms with it).
* ``shutdown_write`` is never called and nothing is written to a command's standard input: both can end the whole
  connection. Commands read /dev/null.
* sshd takes ten sessions on a connection and frees them late, so each carries four commands; more get more
  connections, and fewer go on one whose server takes less (MaxSessions). sshd drops connections that arrive too many
  at once, so few are opened at a time, with retries.
* paramiko's keepalives want no answer: with TCP_USER_TIMEOUT they tell whether the next hop's kernel is there, not
  whether sshd answers, and nothing of what is behind a jump. So who has said nothing is asked for an answer.
"""

from __future__ import annotations

import contextlib
import functools
import getpass
import io
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ramure.forks import keep_from_forks
from ramure.home import private_dir
from ramure.machines.errors import LinkLost, MachineDown, MachineError, NotSupported

if TYPE_CHECKING:
    import paramiko

__all__ = ["Cancel", "Connection", "Full", "HostKeyRefused", "LoginRefused", "Output", "Target", "resolve"]

COMMANDS_PER_CONNECTION = 4
"""sshd allows ten sessions on a connection, and frees them late."""
TCP_USER_TIMEOUT = 18
WINDOW = 1 << 24
READ_SIZE = 1 << 20
QUIET = 0.1
"""Seconds without output after a command's status came, until its output is taken as complete."""
MUCH = 1 << 20
NAP = 0.002
"""Once a command has written so many bytes, so many seconds pass between two looks at its output: paramiko's thread
takes it off the wire a packet at a time, and would lose the interpreter's lock to us after each. Nothing waits for us
meanwhile: a nap's worth of output is a small part of the window."""

Output = Callable[[str, bytes], None]

# What breaks is told by exceptions; without this, paramiko's words about it would go to the terminal of a program that
# has set up no logging.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class HostKeyRefused(MachineError):
    """The host's key is unknown, or another one than it was."""


class LoginRefused(MachineError):
    """The host did not let us in with any key that we have."""


class Full(MachineError):
    """The server opens no further session on a connection (sshd's MaxSessions): nothing was run, and another connection
    has room."""


@dataclass(frozen=True)
class Target:
    """Whom to connect to, with everything said: command line, configuration and defaults put together."""

    host: str
    user: str
    port: int = 22
    alias: str = ""
    keys: tuple[str, ...] = ()
    known_hosts: tuple[str, ...] = ()
    jumps: tuple[Target, ...] = ()
    proxy_command: str = ""
    dead_after: float = 15.0
    private_key: str = field(default="", repr=False)
    """The text of the one key to log in with, instead of files and the ssh-agent."""
    trust_first: bool = False
    """Take a host that is not known at its word, once, and write its key to the first of ``known_hosts``."""

    def __str__(self) -> str:
        return f"{self.user}@{self.host}" + (f":{self.port}" if self.port != 22 else "")


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
    """Put together what was said, what ``~/.ssh/config`` (or ``config``) says, and OpenSSH's defaults."""
    import paramiko

    path = Path(config or "~/.ssh/config").expanduser()
    settings = paramiko.SSHConfig()
    if config is not None or path.exists():
        with path.open() as file:
            settings.parse(file)

    def look_up(name: str, user: str | None, port: int | None, key: str | None, jump: str | None) -> Target:
        found = settings.lookup(name)
        files = found.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2").split()
        hops = jump if jump is not None else found.get("proxyjump", "none")
        return Target(
            host=found.get("hostname", name),
            user=user or found.get("user") or getpass.getuser(),
            port=port or int(found.get("port", 22)),
            alias=found.get("hostkeyalias", ""),
            keys=(key,) if key else tuple(found.get("identityfile", ())),
            known_hosts=(known_hosts,) if known_hosts else (*files, "/etc/ssh/ssh_known_hosts"),
            jumps=() if hops.lower() == "none" else tuple(hop(text) for text in hops.split(",")),
            proxy_command="" if jump is not None else found.get("proxycommand", ""),
            dead_after=dead_after,
        )

    def hop(text: str) -> Target:
        login, _, address = text.strip().rpartition("@")
        name, _, number = address.partition(":")
        return look_up(name, login or None, int(number) if number else None, key, "none")

    return look_up(host, user, port, key, jump)


class Connection:
    """One SSH transport, logged in. Its methods may be called from several threads."""

    transport: paramiko.Transport

    def __init__(self, target: Target, ended: Callable[[], object] = lambda: None) -> None:
        """Connect. ``ended`` is called on the transport's thread when the connection is over, however that comes."""
        self.target = target
        self.in_use = 0
        self.room = COMMANDS_PER_CONNECTION
        """How many may use it at a time; 0: nobody any more, or it is not for sharing."""
        self.heard = 0
        """Packets that came: what a living connection says, whoever it is for."""
        self.broken = ""
        """Why it is closed although nobody wanted it."""
        self.requesting = threading.Lock()
        """One global request at a time: paramiko gives whoever waits the answer that comes first."""
        self._ended = ended
        self._jumps: list[Connection] = []
        self._client: paramiko.SSHClient | None = None
        self._opened: socket.socket | None = None
        self._sftp: paramiko.SFTPClient | None = None
        self._sftp_lock = threading.Lock()
        self._used = False
        self.file_lock = threading.Lock()
        """One transfer at a time: an SFTP session mixes up the answers to pipelined requests of several threads."""

    def open(self) -> None:
        """Connect and log in. :meth:`close` from another thread ends it. Raises MachineError."""
        try:
            client = self._connect()
        except BaseException:
            self.close()
            raise
        transport = client.get_transport()
        assert transport is not None
        self.transport = transport

    def _connect(self) -> paramiko.SSHClient:
        import paramiko

        target = self.target
        self._client = client = paramiko.SSHClient()
        revoked = _load_known_hosts(client.get_host_keys(), target.known_hosts)
        client.set_missing_host_key_policy(
            _remember(target.known_hosts[0]) if target.trust_first else paramiko.RejectPolicy()
        )
        keys = [path for path in (os.path.expanduser(key) for key in target.keys) if os.path.exists(path)]
        own = not target.private_key  # look in the user's own places
        try:
            client.connect(
                target.alias or target.host, target.port, target.user, sock=self._socket(),
                key_filename=keys or None,  # type: ignore[arg-type]
                pkey=None if own else _parsed(target.private_key), look_for_keys=own, allow_agent=own,
                timeout=target.dead_after, banner_timeout=target.dead_after, auth_timeout=target.dead_after,
                transport_factory=functools.partial(_transport, self, self._ended),
            )  # fmt: skip
            transport = client.get_transport()
            if transport is None or transport.get_remote_server_key().get_base64() in revoked:
                raise HostKeyRefused(f"the host key of {target} is marked as revoked")
        except BaseException as error:
            raise _explained(error, target) from error
        return client

    def _socket(self) -> paramiko.Channel | socket.socket | paramiko.ProxyCommand:
        import paramiko

        target = self.target
        if target.proxy_command:
            return paramiko.ProxyCommand(target.proxy_command)
        if target.jumps:
            *before, last = target.jumps
            jump = Connection(replace(last, jumps=tuple(before)))
            self._jumps.append(jump)
            jump.open()
            there, here = (target.host, target.port), ("127.0.0.1", 0)
            return jump.transport.open_channel("direct-tcpip", there, here, timeout=target.dead_after)
        self._opened = opened = socket.create_connection((target.host, target.port), timeout=target.dead_after)
        keep_from_forks(opened, lambda opened: [opened])
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):  # not on this system: then it takes the whole of dead_after
            opened.setsockopt(socket.IPPROTO_TCP, TCP_USER_TIMEOUT, int(target.dead_after * 1000 * 2 / 3))
        return opened

    @property
    def alive(self) -> bool:
        return self.transport.is_active()

    def ask(self) -> None:
        """Have the other side say something: returns when it has answered, or when the connection is over."""
        import paramiko

        with self.requesting, contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            self.transport.global_request("keepalive@openssh.com", wait=True)

    def lost(self, doing: str, error: object = "") -> LinkLost:
        """The error that says that the connection broke during ``doing``."""
        return LinkLost(str(self.target), doing, self.broken or str(error) or "closed by the other side")

    def _session(self, doing: str) -> paramiko.Channel:
        import paramiko

        try:
            channel = self.transport.open_session(window_size=WINDOW, timeout=self.target.dead_after)
        except (paramiko.SSHException, OSError, EOFError) as error:
            # paramiko keeps one reason for a whole connection: another thread may have got ours.
            refused = isinstance(error, paramiko.ChannelException) or str(error) == "Unable to open channel."
            if not (refused and self.alive):
                raise self.lost(doing, error) from error
            if not self._used and self.in_use <= 1:  # nobody is in our way
                what = "opens no session on a new connection; allow some with MaxSessions in its sshd_config"
                raise MachineError(f"the SSH server of {self.target} {what} (it said: {error})") from error
            raise Full(f"the SSH server of {self.target} opens no further session on a connection") from error
        self._used = True
        return channel

    def run(
        self,
        command: str,
        output: Output,
        *,
        started: Callable[[str], None] | None = None,
        deadline: float | None = None,
        cancel: Cancel | None = None,
    ) -> int | None:
        """Run a command to its end; its status, or None when the deadline passed or it was cancelled (it runs on
        then: see the machine's kill). With ``started``, the first line of its output goes there.

        Raises :class:`LinkLost`, and :class:`Full`.
        """
        import paramiko

        channel = self._session("the start of a command")
        try:
            news = _listen(channel)  # before there can be any: an event that is replaced later loses what came before
            channel.exec_command(command)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self.lost("the start of a command", error) from error
        if started is not None:
            output = _without_first_line(output, started)
        try:
            return self._read(channel, news, output, deadline, cancel or Cancel())
        finally:
            channel.close()

    def _read(
        self,
        channel: paramiko.Channel,
        news: _News,
        output: Output,
        deadline: float | None,
        cancel: Cancel,
    ) -> int | None:
        cancel.news = news
        read = 0
        quiet_until = math.inf
        while True:
            news.rearm()
            busy = False
            room = cancel.room()
            if room and channel.recv_ready():
                data = channel.recv(READ_SIZE)
                read += len(data)
                busy = bool(data)
                output("stdout", data)
            if room and channel.recv_stderr_ready():
                busy = True
                errors = channel.recv_stderr(READ_SIZE)
                read += len(errors)
                output("stderr", errors)
            now = time.monotonic()
            ended = channel.exit_status_ready() or channel.closed
            whole = ended and (channel.closed or channel.eof_received)  # then its reader may take its time
            if cancel.asked or (deadline is not None and now >= deadline and not whole):
                return None
            if busy:
                quiet_until = math.inf
                if read >= MUCH:
                    time.sleep(NAP)
                continue
            left = channel.recv_ready() or channel.recv_stderr_ready()  # came just now, or there is no room for it
            if ended:
                quiet_until = min(quiet_until, now + QUIET)
                if not left and (whole or now >= quiet_until):
                    return self._status(channel)
            until = math.inf if left else quiet_until
            if deadline is not None and not whole:
                until = min(until, deadline)
            news.wait(None if until == math.inf else max(0.0, until - now))

    def _status(self, channel: paramiko.Channel) -> int:
        status = channel.recv_exit_status()
        if status == -1:
            if self.over():
                raise self.lost("a command")
            return 137  # its outermost shell was killed
        return status

    def over(self) -> bool:
        """Whether the connection has ended. What uses it hears of that a moment earlier, so that moment is waited for."""
        self.transport.join(0.1)
        return not self.alive

    def sftp(self) -> paramiko.SFTPClient:
        """The connection's one SFTP session: a new one where that before has ended.

        Raises :class:`LinkLost`, :class:`Full`, and :class:`NotSupported` where the server has no SFTP.
        """
        import paramiko

        with self._sftp_lock:
            if self._sftp is None:
                channel = self._session("the start of SFTP")
                try:
                    channel.invoke_subsystem("sftp")
                    self._sftp = paramiko.SFTPClient(channel)
                except (paramiko.SSHException, paramiko.SFTPError, OSError, EOFError) as error:
                    channel.close()
                    if self.over():
                        raise self.lost("the start of SFTP", error) from error
                    what = (
                        "SFTP, by which files are read and written: the SSH server there must offer it, with "
                        "`Subsystem sftp internal-sftp` in its sshd_config"
                    )
                    raise NotSupported(str(self.target), what) from error
            return self._sftp

    def forget_sftp(self, sftp: paramiko.SFTPClient) -> None:
        """Use this SFTP session no more."""
        with self._sftp_lock:
            if self._sftp is sftp:
                self._sftp = None
        sftp.close()

    def close(self) -> None:
        """End it, from any thread, also while it is being opened."""
        if self._client is not None:
            self._client.close()
        if self._opened is not None:  # the client does not know it before it is through with the opening
            with contextlib.suppress(OSError):
                self._opened.shutdown(socket.SHUT_RDWR)
            self._opened.close()
        for jump in self._jumps:
            jump.close()


def _without_first_line(output: Output, first: Callable[[str], None]) -> Output:
    head: bytes | None = b""

    def take(source: str, data: bytes) -> None:
        nonlocal head
        if source == "stdout" and head is not None:
            head += data
            line, newline, data = head.partition(b"\n")
            if not newline:
                return
            head = None
            first(line.decode())
        if data:
            output(source, data)

    return take


class Cancel:
    """What another thread has to say to the one that runs a command: to give it up; and whether there is room for more
    of its output, which is left where it is until there is."""

    def __init__(self, room: Callable[[], bool] = lambda: True) -> None:
        self.asked = False
        self.room = room
        self.news: _News | None = None

    def ask(self) -> None:
        self.asked = True
        self.wake()

    def wake(self) -> None:
        """Have it look again, whether there is room."""
        if self.news is not None:
            self.news.set()


class _News:
    """Set when anything of a channel changes: paramiko's own event, but one for all its buffers."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.set, self.wait, self.rearm = self._event.set, self._event.wait, self._event.clear

    def clear(self) -> None:
        """What a buffer calls when it is empty; there may be news of another."""


class _StatusEvent(threading.Event):
    """paramiko sets it when a command's status has come, which no buffer tells."""

    def __init__(self, news: _News) -> None:
        super().__init__()
        self._news = news

    def set(self) -> None:
        super().set()
        self._news.set()


def _listen(channel: paramiko.Channel) -> _News:
    """Be told of all that changes on a channel on which no command has been started yet."""
    news = _News()
    channel.in_buffer.set_event(news)  # type: ignore[arg-type]
    channel.in_stderr_buffer.set_event(news)  # type: ignore[arg-type]
    channel.status_event = status = _StatusEvent(news)
    if channel.closed:  # before that: its end was told to the event that was there
        status.set()
    return news


def _transport(
    connection: Connection, ended: Callable[[], object], sock: socket.socket, **options: bool
) -> paramiko.Transport:
    import paramiko
    from paramiko.packet import Packetizer

    class Counting(Packetizer):
        def read_message(self) -> tuple[int, paramiko.Message]:
            message = super().read_message()
            connection.heard += 1
            return message

    class Transport(paramiko.Transport):
        def run(self) -> None:
            try:
                super().run()
            finally:
                ended()

    return Transport(sock, default_window_size=WINDOW, packetizer_class=Counting, **options)  # type: ignore[arg-type]


def _load_known_hosts(known: paramiko.HostKeys, files: tuple[str, ...]) -> set[str]:
    """Read the files that exist, line by line; returns the revoked keys. (paramiko gives a file up as a whole at the
    first line that it does not know, ``@cert-authority`` for one.)"""
    from paramiko.hostkeys import HostKeyEntry, InvalidHostKey

    revoked: set[str] = set()
    for file in files:
        path = Path(file).expanduser()
        if not path.exists():
            continue
        for line in path.read_text(errors="replace").splitlines():
            text = line.strip()
            if text.startswith("@revoked"):
                revoked.add(text.split()[-1 if len(text.split()) == 4 else 3])
            if not text or text[0] in "#@":
                continue
            try:
                entry = HostKeyEntry.from_line(text)
            except InvalidHostKey:
                continue
            if entry is not None and entry.key is not None:
                for name in entry.hostnames:
                    known.add(name, entry.key.get_name(), entry.key)
    return revoked


_remembering = threading.Lock()


def _remember(file: str) -> paramiko.MissingHostKeyPolicy:
    """A policy that writes the key of a host without one to ``file``, and refuses another one from then on."""
    import paramiko

    class Remember(paramiko.MissingHostKeyPolicy):
        def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
            with _remembering:
                private_dir(Path(file).parent)
                with open(os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "r+") as known:
                    line = f"{hostname} {key.get_name()} {key.get_base64()}"
                    there = [each for each in known.read().splitlines() if each.startswith(f"{hostname} ")]
                    if not there:
                        known.write(f"{line}\n")
                    elif line not in there:  # another connection has just met another key
                        raise HostKeyRefused(f"{hostname} shows different host keys at once; see {file}")

    return Remember()


def _parsed(text: str) -> paramiko.PKey:
    import paramiko

    for kind in (paramiko.Ed25519Key, paramiko.RSAKey, paramiko.ECDSAKey):
        try:
            return kind.from_private_key(io.StringIO(text))
        except (paramiko.SSHException, ValueError):  # of another kind
            continue
    raise LoginRefused("the private key that was given is none that paramiko can read")


def _explained(error: BaseException, target: Target) -> BaseException:
    import paramiko

    name = target.host if target.port == 22 else f"[{target.host}]:{target.port}"
    match error:
        case paramiko.BadHostKeyException():
            return HostKeyRefused(
                f"the host key of {target} is not the one that is known: somebody may be in between. If the host was "
                f"set up anew, remove the old key with `ssh-keygen -R '{name}'`"
            )
        case paramiko.AuthenticationException() | paramiko.PasswordRequiredException():
            return LoginRefused(
                f"{target} accepted none of our keys ({error}); check with `ssh -p {target.port} "
                f"{target.user}@{target.host}`, name a key with key=, or add it to the ssh-agent"
            )
        case paramiko.SSHException() if "not found in known_hosts" in str(error):
            return HostKeyRefused(
                f"the host key of {target} is not known. Compare its fingerprint, then accept it with "
                f"`ssh -p {target.port} {target.user}@{target.host}`, or `ssh-keyscan -p {target.port} {target.host}` "
                f"into {target.known_hosts[0]}"
            )
        case paramiko.SSHException() | OSError() | EOFError():
            return MachineDown(str(target), str(error) or type(error).__name__)
    return error
