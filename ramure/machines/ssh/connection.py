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
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ramure.forks import keep_from_forks
from ramure.machines.errors import LinkLost, MachineDown, MachineError, NotSupported
from ramure.machines.files.framing import Marks, login_framed, login_unframed, new_token
from ramure.machines.ssh.config import Target
from ramure.machines.ssh.login import HostKeys, Login
from ramure.machines.ssh.proxy_command import Proxy
from ramure.machines.ssh.scripts import SFTP_SERVER

if TYPE_CHECKING:
    import paramiko

__all__ = ["Cancel", "Connection", "Full", "not_started"]

COMMANDS_PER_CONNECTION = 4
"""sshd allows ten sessions on a connection, and frees them late."""
TCP_USER_TIMEOUT = 18
WINDOW = 1 << 24
READ_SIZE = 1 << 20
QUIET = 0.1
"""Seconds without output after a command's status came, until its output is taken as complete."""
STALLED = 2.0
"""Seconds without progress after which nobody waits for a transfer."""
MUCH = 1 << 20
NAP = 0.002
"""Once a command has written so many bytes, so many seconds pass between two looks at its output: paramiko's thread
takes it off the wire a packet at a time, and would lose the interpreter's lock to us after each. Nothing waits for us
meanwhile: a nap's worth of output is a small part of the window."""

# What breaks is told by exceptions; without this, paramiko's words about it would go to the terminal of a program that
# has set up no logging.
logging.getLogger("paramiko").addHandler(logging.NullHandler())


class Full(MachineError):
    """The server opens no further session on a connection (sshd's MaxSessions): nothing was run, and another connection
    has room."""


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
        self.requesting: threading.Lock = threading.Lock()
        """One global request at a time: paramiko gives whoever waits the answer that comes first."""
        self._ended = ended
        self._jump: Connection | None = None
        self._proxy: Proxy | None = None
        self._client: paramiko.SSHClient | None = None
        self._opened: socket.socket | None = None
        self._sftp: paramiko.SFTPClient | None = None
        self._sftp_lock = threading.Lock()
        self._used = False
        self.file_lock: threading.Lock = threading.Lock()
        """One transfer at a time: an SFTP session mixes up the answers to pipelined requests of several threads."""
        self.transfer_moved: float | None = None
        """When the transfer that is under way last got an answer; None: there is none."""

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
        try:
            host_keys = HostKeys(target)
            client.set_missing_host_key_policy(host_keys)  # type: ignore[arg-type]
            client.connect(
                target.host, target.port, target.user, sock=self._socket(), compress=target.compress,
                timeout=target.patience, banner_timeout=target.patience, auth_timeout=target.patience,
                auth_strategy=Login(target),  # type: ignore[arg-type]
                transport_factory=functools.partial(_transport, self, host_keys, self._ended),
            )  # fmt: skip
        except (paramiko.SSHException, OSError, EOFError) as error:
            why = str(error) or type(error).__name__
            said = self._proxy.ended() if self._proxy is not None else ""
            raise MachineDown(str(target), f"{why} (its ProxyCommand: {said})" if said else why) from error
        return client

    def _socket(self) -> paramiko.Channel | socket.socket:
        target = self.target
        if target.proxy_command:
            self._proxy = Proxy(target.proxy_command)
            return self._proxy.socket
        if target.jump is not None:
            self._jump = jump = Connection(target.jump)
            jump.open()
            there, here = (target.host, target.port), ("127.0.0.1", 0)
            return jump.transport.open_channel("direct-tcpip", there, here, timeout=target.patience)
        self._opened = opened = _connected(target)
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
        self, line: str, marks: Marks, *, deadline: float | None = None, cancel: Cancel | None = None
    ) -> int | None:
        """Run a command line to its end; its status, or None when the deadline passed or it was cancelled (it runs on
        then: see the machine's kill). Its output goes to ``marks``, which find its end in it.

        Raises :class:`LinkLost`, and :class:`Full`.
        """
        import paramiko

        channel = self._session("the start of a command")
        try:
            news = _listen(channel)  # before there can be any: an event that is replaced later loses what came before
            channel.exec_command(line)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise self.lost("the start of a command", error) from error
        try:
            return self._read(channel, news, marks, deadline, cancel or Cancel())
        finally:
            channel.close()

    def call(self, argv: Sequence[str], *, limit: float) -> tuple[int | None, bytes, bytes]:
        """Run a command of ours: its status (None: it has not ended within ``limit`` seconds), and its own output.

        Raises :class:`LinkLost`, :class:`Full`, and MachineError where the host runs something else instead.
        """
        output: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
        token = new_token()
        marks = Marks(token, lambda source, data: output[source].append(data))
        code = self.run(login_framed(argv, token), marks, deadline=time.monotonic() + limit)
        if code is not None and not marks.started:
            raise MachineError(not_started(self.target, code, marks))
        return code, b"".join(output["stdout"]), b"".join(output["stderr"])

    def _read(
        self, channel: paramiko.Channel, news: _News, marks: Marks, deadline: float | None, cancel: Cancel
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
                marks.feed("stdout", data)
            if room and channel.recv_stderr_ready():
                busy = True
                errors = channel.recv_stderr(READ_SIZE)
                read += len(errors)
                marks.feed("stderr", errors)
            now = time.monotonic()
            ended = channel.exit_status_ready() or channel.closed
            whole = ended and (channel.closed or channel.eof_received)  # then its reader may take its time
            if marks.over:
                quiet_until = min(quiet_until, now + QUIET)
                if ended or now >= quiet_until:  # its status frees its session there; what comes late is not its own
                    return marks.code
            if cancel.asked or (deadline is not None and now >= deadline and not whole):
                return None
            if busy and not marks.over:
                quiet_until = math.inf
                if read >= MUCH:
                    time.sleep(NAP)
                continue
            left = channel.recv_ready() or channel.recv_stderr_ready()  # came just now, or there is no room for it
            if ended:
                quiet_until = min(quiet_until, now + QUIET)
                if not left and (whole or now >= quiet_until):
                    marks.rest()
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
                try:
                    self._sftp = self._open_sftp()
                except (paramiko.SSHException, paramiko.SFTPError, OSError, EOFError) as error:
                    if self.over():
                        raise self.lost("the start of SFTP", error) from error
                    what = (
                        "SFTP, by which files are read and written: the SSH server there must offer it, with "
                        "`Subsystem sftp internal-sftp` in its sshd_config"
                    )
                    raise NotSupported(str(self.target), f"{what} (it said: {error})") from error
            return self._sftp

    def _open_sftp(self) -> paramiko.SFTPClient:
        """The server's own; where a shell starts that, and prints something first, one that is started by a command."""
        import paramiko

        channel = self._session("the start of SFTP")
        try:
            channel.settimeout(self.target.dead_after)
            channel.invoke_subsystem("sftp")
            return paramiko.SFTPClient(channel)
        except (paramiko.SSHException, paramiko.SFTPError, OSError, EOFError) as error:
            channel.close()
            if self.over() or not isinstance(error, (paramiko.SFTPError, TimeoutError)):
                raise
        channel = self._session("the start of SFTP")
        try:
            channel.settimeout(self.target.dead_after)
            token = new_token()
            channel.exec_command(login_unframed(["/bin/sh", "-c", SFTP_SERVER, "sh", token]))
            _skip_to(channel, b"\x1e" + token.encode() + b" start 0\n")
            return paramiko.SFTPClient(channel)
        except BaseException:
            channel.close()
            raise

    @property
    def stalled(self) -> bool:
        """Whether the transfer that is under way makes no progress: others go on another connection."""
        moved = self.transfer_moved
        return moved is not None and time.monotonic() - moved > STALLED

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
        if self._proxy is not None:
            self._proxy.close()
        if self._jump is not None:
            self._jump.close()


def not_started(target: Target, code: int, marks: Marks) -> str:
    """The error that says that a host's shell did not start a command."""
    said = " ".join(marks.messages.split())[-300:] or "nothing"
    return (
        f"{target} did not run a command: what runs commands there (the login shell, or a ForceCommand of sshd) ended with "
        f"status {code} and said {said!r}. It has to run what it is given with `-c`, and `sh` has to be on its PATH"
    )


def _skip_to(channel: paramiko.Channel, mark: bytes) -> None:
    """Read up to the end of a mark, and no further."""
    seen = b""
    while not seen.endswith(mark):
        byte = channel.recv(1)
        if not byte:
            raise EOFError("it has no sftp-server where others have it")
        seen = (seen + byte)[-len(mark) :]


def _connected(target: Target) -> socket.socket:
    """A socket to the host, at the first of its addresses that answers."""
    failure: OSError | None = None
    for family, kind, protocol, _, address in socket.getaddrinfo(
        target.host, target.port, target.family, socket.SOCK_STREAM
    ):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(target.patience)
            if target.bind_address:
                opened.bind((target.bind_address, 0))
            opened.connect(address)
        except OSError as error:
            opened.close()
            failure = error
        else:
            return opened
    raise failure or OSError(f"{target.host} has no address")


class Cancel:
    """What another thread has to say to the one that runs a command: to give it up; and whether there is room for more
    of its output, which is left where it is until there is."""

    def __init__(self, room: Callable[[], bool] = lambda: True) -> None:
        self.asked: bool = False
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
        self.set: Callable[[], None] = self._event.set
        self.wait: Callable[[float | None], bool] = self._event.wait
        self.rearm: Callable[[], None] = self._event.clear

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
    connection: Connection, host_keys: HostKeys, ended: Callable[[], object], sock: socket.socket, **options: bool
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

    transport = Transport(sock, default_window_size=WINDOW, packetizer_class=Counting, **options)  # type: ignore[arg-type]
    security = transport.get_security_options()
    security.key_types = host_keys.preferred(tuple(security.key_types))
    return transport
