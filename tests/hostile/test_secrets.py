"""What is masked in the texts that ramure adds, and what never is."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from pathlib import Path

import pytest

from ramure import agent, agent_process, current_runtime, emit, spawn
from ramure.agents.pi.launch import without_inspector
from ramure.errors import UsageError
from ramure.exits import Crashed, format_exit
from ramure.machines.reaper.reaper import Reaper
from ramure.masking import MASK, Masker, get_logger, masked, masked_values, remember_secrets, secrets_in
from ramure.runtime.views.actor_views import actor_details
from ramure.testing import InProcessHarness, Text, ToolCall, run_virtual
from ramure.tracebacks import format_traceback

SECRET: list[tuple[str, str, str]] = [  # variable, value, what of it is secret
    ("DATABASE_URL", "postgres://app:Tr0ub4dor&3@db.internal/x", "Tr0ub4dor&3"),
    ("CACHE", "redis://:s3cr3tpass@h1:6379,redis://:0th3rpass@h2:6379", "0th3rpass"),
    ("DB", "mysql://u:p%40ssw0rd!x@h/d", "p@ssw0rd!x"),
    ("HTTPS_PROXY", "http://alice:opensesame@proxy.corp:3128", "opensesame"),
    ("PG_DSN", "host=db password=opensesame1 user=x", "opensesame1"),
    ("SENTRY_DSN", "https://0123456789abcdef0123456789abcdef@o1.ingest.example/4", "0123456789abcdef0123456789abcdef"),
    ("STORAGE", "Protocol=https;AccountName=x;AccountKey=Zm9vYmFyYmF6cXV4;E=1", "Zm9vYmFyYmF6cXV4"),
    ("WEBHOOK", "https://hooks.example/x?token=abc123abc123", "abc123abc123"),
    ("MY_PW", "hunter2hunter2", "hunter2hunter2"),
    ("SIGNING_SEED", "aabbccddeeff00112233", "aabbccddeeff00112233"),
    ("WALLET_SEED", "12345678901", "12345678901"),
    ("WALLET_MNEMONIC", "witch collapse practice feed", "witch collapse practice feed"),
    ("PGPASSWORD", "correcthorse", "correcthorse"),
    ("MYSQL_PWD", "letmein-now", "letmein-now"),
    ("dbPassword", "letmein-now", "letmein-now"),
    ("API_TOKEN", "tok-45678", "tok-45678"),
    ("HEROKU_API_KEY", "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
    ("OPENAIKEY", "abcd1234efgh", "abcd1234efgh"),
    ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ("GOOGLE_CREDENTIALS", '{"client": "me", "private_key": "abc-def-123"}', "abc-def-123"),
    ("CONFIG", '{"db": {"password": "inner-pass-9"}}', "inner-pass-9"),
    ("WEBHOOK_URL", "https://hooks.example/services/T01/k3Jf82hGxQ91mZpL7vTn4Rb6", "k3Jf82hGxQ91mZpL7vTn4Rb6"),
    ("BOT", "123456789:AAEhBP0av28fr3FvS8hGZcQ1W9mZtKxV1aB", "123456789:AAEhBP0av28fr3FvS8hGZcQ1W9mZtKxV1aB"),
    ("PIP_INDEX_URL", "https://__token__:pypi-AgEIcHlwaS5vcmc@host/simple", "pypi-AgEIcHlwaS5vcmc"),
    ("NPM_CONFIG__AUTH", "dXNlcjpwYXNzd29yZA==", "dXNlcjpwYXNzd29yZA=="),
    ("JDBC", "jdbc:postgresql://h/db?user=a&password=S3cretPw99", "S3cretPw99"),
    ("STRIPE", "k3Jf82hGxQ91mZpL7vTn4Rb6", "k3Jf82hGxQ91mZpL7vTn4Rb6"),  # only its look says so
]

NOT_SECRET: list[tuple[str, str]] = [
    ("PATH", "/usr/local/bin:/usr/bin:/home/u/.local/bin"),
    ("HOME", "/home/user-with-name"),
    ("PWD", "/home/user/project-7"),
    ("OLDPWD", "/home/user/project-8"),
    ("LANG", "en_US.UTF-8"),
    ("TERM", "xterm-256color"),
    ("COLORTERM", "truecolor"),
    ("PS1", "\\u@\\h:\\w$ "),
    ("LS_COLORS", "rs=0:di=01;34:ln=01;36:*.tar=01;31"),
    ("HOSTNAME", "ip-10-0-12-34.eu-west-1.compute.internal"),
    ("POD_NAME", "my-deployment-6f7d8c9b5d-zxk2p"),
    ("PYTHON_VERSION", "3.11.4-rc.1"),
    ("MACHINE", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
    ("INVOCATION_ID", "0f3c5b7a9d8e4f1b8c2d6a7e9f0b1c2d"),
    ("GITHUB_SHA", "a94a8fe5ccb19ba61c4c0873d391e987982fbbd3"),
    ("RELEASE_ID", "k3Jf82hGxQ91mZpL7vTn4Rb6"),
    ("DBUS_SESSION_BUS_ADDRESS", "unix:path=/run/user/1000/bus"),
    ("SSH_AUTH_SOCK", "/tmp/ssh-XXabc/agent.123"),
    ("SSH_PUBLIC_KEY", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKx"),
    ("GOOGLE_APPLICATION_CREDENTIALS", "/home/u/key-2a8f.json"),
    ("KEY_FILE", "certs/server.pem"),
    ("PGPASSFILE", "/home/u/.pgpass"),
    ("TOKEN_TYPE", "bearertoken"),
    ("MAX_TOKENS", "100000000"),
    ("AUTH_MODE", "disabled"),
    ("DB_PASSWORD", "password"),
    ("SECRET_MANAGER_HOST", "vault.example.com"),
    ("TOKEN_SERVER_KEY", "keys.example.com:8443"),
    ("MONKEY", "banana-split"),
    ("SORT_KEY", "created_at"),
    ("GIT_AUTHOR_NAME", "Alice Doe-Smith"),
    ("DATABASE_URL", "postgres://localhost:5432/mydatabase"),
    ("GIT_URL", "ssh://git@github.com/team/project"),
    ("DOCKER_IMAGE", "registry.example.com:5000/team/app:1.2.3"),
    ("MODEL", "anthropic/claude-3-5-sonnet-20241022"),
    ("TARGET", "x86_64-pc-linux-gnu-gcc-12"),
    ("AGENT", "WorkerNumber2OfTheSecondFarm"),
    ("CACHE_KEY", "deps-v12-linux"),
    ("GPG_KEY", "A035C8C19219BA821ECEA86B64E628F8D684696D"),
    ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
    ("CI_JOB_URL", "https://gitlab.example.com/a/b/-/jobs/123456789"),
    ("SSH_CONNECTION", "10.0.0.1 51234 10.0.0.2 22"),
    ("KRB5CCNAME", "FILE:/tmp/krb5cc_1000"),
    ("SHORT_KEY", "abc1234"),
]


@pytest.mark.parametrize(("name", "value", "secret"), SECRET, ids=[name for name, _, _ in SECRET])
def test_a_secret_of_the_environment_is_masked(name: str, value: str, secret: str) -> None:
    mask = Masker(secrets_in({name: value}))
    assert mask(f"it said {secret!s}, twice: '{secret}'") == f"it said {MASK}, twice: '{MASK}'"
    assert secret not in mask(value)


@pytest.mark.parametrize(("name", "value"), NOT_SECRET, ids=[name for name, _ in NOT_SECRET])
def test_an_ordinary_value_is_left_alone(name: str, value: str) -> None:
    assert secrets_in({name: value}) == []
    assert Masker(secrets_in({name: value}))(f"it said {value}.") == f"it said {value}."


def test_only_the_password_of_a_url_is_masked() -> None:
    mask = Masker(secrets_in({"DATABASE_URL": "postgres://app:Tr0ub4dor3@db.internal/x"}))
    assert mask("postgres://app:Tr0ub4dor3@db.internal/x") == f"postgres://app:{MASK}@db.internal/x"
    assert Masker([])("amqp://u:pw@h") == f"amqp://u:{MASK}@h"
    assert Masker([])("http://h:80/a@b and ssh://git@h:22/x") == "http://h:80/a@b and ssh://git@h:22/x"


def test_the_users_own_list_names_variables_whatever_their_values_are() -> None:
    environment = {"RAMURE_SECRETS": "CODENAME, PROJECT_DIR", "CODENAME": "bluebird", "PROJECT_DIR": "/srv/bluebird-x"}
    assert secrets_in(environment) == ["/srv/bluebird-x", "bluebird"]
    assert secrets_in({**environment, "RAMURE_SECRETS": ""}) == []


@pytest.mark.parametrize(
    "text",
    [
        "│ the key is hunter2  │\n│ hunter2, he said │",
        "hunter2\nhunter2",
        "a hunter2hun\n   ter2 b hunter2hunter2 c h\nunter2hunter2",
    ],
)
def test_a_line_break_does_not_hide_a_secret(text: str) -> None:
    shown = Masker(["hunter2hunter2"])(text)
    assert MASK in shown
    assert "hunter2" not in shown
    assert "ter2" not in shown


def test_text_with_breaks_and_without_secrets_is_unchanged() -> None:
    text = "│ one │\n│ two  │\n\n  three\n"
    assert Masker(["onetwo-three"])(text) == text


def test_other_spellings_of_a_secret_are_masked() -> None:
    mask = Masker(['pa"ss wörd\\1'])
    for spelling in ('pa"ss wörd\\1', "pa%22ss%20w%C3%B6rd%5C1", 'pa\\"ss w\\u00f6rd\\\\1', 'pa"ss wörd\\\\1'):
        assert mask(f"<{spelling}>") == f"<{MASK}>"


def test_exit_reasons_and_tracebacks_hold_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PW", "hunter2hunter2")  # set while the program runs, as load_dotenv does
    try:
        raise RuntimeError("cannot log in with hunter2hunter2")
    except RuntimeError as error:
        crash = Crashed(error)
    assert format_exit(crash) == f"crashed: RuntimeError: cannot log in with {MASK}"
    assert "hunter2" not in format_traceback(crash)
    assert "hunter2" not in format_exit(ExceptionGroup("of hunter2hunter2", [RuntimeError("hunter2hunter2")]))
    long = "x" * 190 + "hunter2hunter2"  # a cut through it would leave half
    assert "hunter2" not in format_exit(long)
    monkeypatch.setenv("MY_PW", "another-one-1")
    assert format_exit("another-one-1, hunter2hunter2") == f"{MASK}, hunter2hunter2"


def test_log_records_hold_no_secret(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MY_PW", "hunter2hunter2")
    logger = get_logger("ramure.test_secrets")
    try:
        raise RuntimeError("no hunter2hunter2")
    except RuntimeError:
        logger.exception("failed with %s", "hunter2hunter2")
    assert f"failed with {MASK}" in caplog.text
    assert f"RuntimeError: no {MASK}" in caplog.text
    assert "hunter2" not in caplog.text
    assert not any(record.exc_info for record in caplog.records)
    try:
        raise RuntimeError("harmless")
    except RuntimeError:
        logger.exception("fails")
    assert caplog.records[-1].exc_info


def test_every_logger_of_ramure_masks() -> None:
    import ramure.cli.main  # noqa: F401

    bare = [
        (module.__name__, name)
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("ramure.")
        for name, value in vars(module).items()
        if isinstance(value, logging.Logger) and value.name.startswith("ramure") and not value.filters
    ]
    assert bare == []


def test_a_machines_own_environment_is_masked_too() -> None:
    remember_secrets({"INNER_TOKEN": "machine-token-77"})
    assert masked("it was machine-token-77") == f"it was {MASK}"


def test_data_is_masked_in_every_text_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PW", "hunter2hunter2")
    data = {"a": ["hunter2hunter2", 1, None], "b": {"c": "x hunter2hunter2"}, "d": True}
    assert masked_values(data) == {"a": [MASK, 1, None], "b": {"c": f"x {MASK}"}, "d": True}


def test_masking_is_fast_enough_for_every_exit_and_screen() -> None:
    mask = Masker([f"secret-number-{n}-of-many" for n in range(100)])
    screen = "\n".join("│ some words on a line of a screen │" for _ in range(200))
    mask(screen)
    began = time.process_time()
    for _ in range(20):
        mask(screen)
    assert (time.process_time() - began) / 20 < 0.1  # 2 ms where nothing else runs


# -- in a run ---------------------------------------------------------------------------------------------------

KEY = "hunter2hunter2"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the test's runs keep their logs."""
    monkeypatch.setenv("RAMURE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def texts(directory: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.glob("logs/*/*.jsonl")}


def test_a_tools_exception_is_masked_for_model_logs_and_status(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MY_PW", KEY)
    harness = InProcessHarness([ToolCall("login", {}), Text("I could not log in.")])
    heard: list[str] = []
    shown: list[str] = []

    @agent_process(image=harness.image)
    async def main() -> None:
        worker = await agent("worker")

        @worker.on("login")
        def login() -> None:
            """Log in."""
            raise RuntimeError(f"401 for {KEY}")

        await worker.ask("Log in.")
        heard.extend(event.data["text"] for event in worker.events._events if event.type == "tool_result")
        run = current_runtime()
        shown.extend([repr(await actor_details(run.system, ref, patience=0)) for ref in run.system.actors()])

    run_virtual(main())
    assert heard == [f"RuntimeError: 401 for {MASK}"]
    assert KEY not in caplog.text
    assert not [line for line in shown if KEY in line]
    logs = texts(home)
    assert MASK in logs["_runtime.jsonl"]
    assert not [name for name, text in logs.items() if KEY in text]


def test_messages_arguments_and_results_are_never_altered(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PW", KEY)
    harness = InProcessHarness([ToolCall("echo", {"text": f"<{KEY}>"}), Text(f"It is {KEY}.")])
    got: list[str] = []

    @agent_process(image=harness.image)
    async def main() -> str:
        worker = await agent("worker")

        @worker.on("echo")
        def echo(text: str) -> str:
            """Return it."""
            got.append(text)
            return f"= {text}"

        got.append(await worker.ask(f"Use {KEY}."))
        emit("key", KEY)
        return KEY

    assert run_virtual(main()) == KEY
    assert got == [f"<{KEY}>", f"It is {KEY}."]
    log = texts(home)["worker.jsonl"]
    for text in (f"Use {KEY}.", f"<{KEY}>", f"= <{KEY}>", f"It is {KEY}."):
        assert text in log
    assert KEY in texts(home)["_runtime.jsonl"]  # emitted


def test_a_childs_failure_and_a_warning_are_masked(
    home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgres://app:{KEY}@db/x")

    @agent_process
    async def child() -> None:
        raise ConnectionError(f"could not connect to postgres://app:{KEY}@db/x")

    @agent_process
    async def main() -> None:
        with pytest.raises(ConnectionError, match=KEY):  # the program's own exception: it gets it as it is
            await spawn(child)
        spawn(child)
        await asyncio.sleep(1)

    run_virtual(main())
    assert "failed while nobody awaited it" in caplog.text
    assert MASK in caplog.text
    assert KEY not in caplog.text
    assert not [name for name, text in texts(home).items() if KEY in text]


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("--inspect", ""),
        ("--inspect=0.0.0.0:9229 --max-old-space-size=100", "--max-old-space-size=100"),
        ("--require ./a.js --inspect-brk --inspect_wait", "--require ./a.js"),
        ("--inspect-port 9230 --no-warnings", "--no-warnings"),
        ("--inspect-publish-uid stderr,http -r x", "-r x"),
        ('--require "./a --inspect b.js" "--inspect-brk=1"', '--require "./a --inspect b.js"'),
        ("--use-openssl-ca", "--use-openssl-ca"),
        ("", ""),
    ],
)
def test_only_what_opens_the_inspector_is_removed_from_node_options(given: str, kept: str) -> None:
    assert without_inspector(given) == kept


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "192.168.1.7", "myhost.example.com", "fe80::1%eth0"])
def test_an_address_of_the_network_is_refused_since_tokens_would_be_sent_in_clear(host: str) -> None:
    for base_url in (None, "ws://myhost.example.com:8000"):
        with pytest.raises(UsageError, match=r"in clear.*wss://"):
            agent_process(host=host, base_url=base_url)
    assert agent_process(host=host, base_url="wss://myhost.example.com/ramure")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_addresses_of_this_host_alone_are_not(host: str) -> None:
    assert agent_process(host=host)


async def test_a_keeper_does_not_show_the_secrets_that_its_commands_get(tmp_path: Path) -> None:
    environment = {**os.environ, "MY_PW": KEY, "DATABASE_URL": f"postgres://a:{KEY}@h/x", "ORDINARY": "plain"}
    reaper = await Reaper.start("here", env=environment)
    said = bytearray()
    try:
        script = 'printf "%s %s %s" "$MY_PW" "$DATABASE_URL" "$ORDINARY"'
        command = await reaper.run(["/bin/sh", "-c", script], cwd=str(tmp_path), sink=lambda _, data: said.extend(data))
        assert await command.wait() == 0
        shown = Path(f"/proc/{reaper.pid}/environ").read_bytes()
    finally:
        await reaper.stop()
    assert b"ORDINARY=plain" in shown
    assert KEY.encode() not in shown
    assert said.decode() == f"{KEY} postgres://a:{KEY}@h/x plain"
