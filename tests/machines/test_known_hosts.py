"""Files of host keys, as OpenSSH reads them: which lines count for a host, and that a bad one harms no other."""

from __future__ import annotations

import base64
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ramure.machines.ssh.known_hosts import entry, key_type, known_keys, names_of


def key(kind: str, number: int = 0) -> bytes:
    """A key of this type, as on the wire."""
    name = kind.encode()
    return len(name).to_bytes(4, "big") + name + b"\0\0\0\x20" + bytes([number]) * 32


ED, OTHER, RSA = key("ssh-ed25519"), key("ssh-ed25519", 1), key("ssh-rsa")


def line(names: str, which: bytes = ED, marker: str = "") -> str:
    return f"{marker + ' ' if marker else ''}{names} {key_type(which)} {base64.b64encode(which).decode()} a comment"


@pytest.mark.parametrize(
    ("names", "host", "counts"),
    [
        ("example.org", "example.org", True),
        ("EXAMPLE.org", "Example.ORG", True),
        ("a,example.org,10.0.0.1", "10.0.0.1", True),
        ("*.example.org", "a.example.org", True),
        ("*.example.org", "example.org", False),
        ("host?", "host1", True),
        ("host?", "host12", False),
        ("*,!bad.example.org", "good.example.org", True),
        ("*,!bad.example.org", "bad.example.org", False),
        ("!bad,*", "bad", False),
        ("[example.org]:2222", "[example.org]:2222", True),
        ("[example.org]:2222", "example.org", False),
        ("[*.org]:2222", "[example.org]:2222", True),
        ("[::1]:22", "[::1]:22", True),
        ("[ab]", "a", False),
    ],
)
def test_the_names_of_a_line(names: str, host: str, counts: bool) -> None:
    assert (known_keys([line(names)], host).accepted == {ED}) is counts


BAD = [
    "@cert-authority *.example.org ssh-ed25519 not-base64!",
    "@cert-authority",
    "@revoked",
    "@unknown-marker host ssh-ed25519 AAAA",
    "nonsense",
    "host",
    "host ssh-ed25519",
    "host ssh-ed25519 ???",
    "host ssh-ed25519 AAAA",
    "host ssh-rsa " + base64.b64encode(ED).decode(),  # another type than it says
    "host 1024 35 1234567890123",  # of SSH 1
    "|1|short ssh-ed25519 " + base64.b64encode(ED).decode(),
    "|1|???|??? ssh-ed25519 " + base64.b64encode(ED).decode(),
    "\x00\x01\x02",
    "host ssh-ed25519 " + base64.b64encode(ED).decode()[:-5],
    "𝓱𝓸𝓼𝓽 ssh-ed25519 ÄÖÜ",
]


@pytest.mark.parametrize("bad", BAD)
def test_a_line_that_cannot_be_read_is_passed_over_and_the_others_count(bad: str) -> None:
    known = known_keys([line("before", RSA), bad, line("host"), bad], "host")
    assert known.accepted == {ED}
    assert known_keys([line("before", RSA), bad], "before").accepted == {RSA}


@given(st.lists(st.text()))
def test_whatever_a_file_holds_the_line_of_the_host_counts(lines: list[str]) -> None:
    text = "\n".join([*lines, line("the.host.of.this.test"), *lines])
    assert ED in known_keys(text.splitlines(), "the.host.of.this.test").accepted


def test_bad_lines_are_counted() -> None:
    assert known_keys(["nonsense", "# a comment", "", line("host"), "more nonsense"], "host").passed_over == 2


def test_several_keys_of_a_host_count() -> None:
    known = known_keys([line("host"), line("host", RSA), line("elsewhere", OTHER)], "host")
    assert known.accepted == {ED, RSA}
    assert known.types == ["ssh-ed25519", "ssh-rsa"]


def test_a_key_is_revoked_for_the_hosts_that_its_line_names() -> None:
    lines = [line("host"), line("*", OTHER, "@revoked"), line("elsewhere", ED, "@revoked")]
    assert known_keys(lines, "host").revoked == {OTHER}
    assert known_keys(lines, "elsewhere").revoked == {OTHER, ED}


def test_an_authority_is_no_key_of_a_host() -> None:
    assert known_keys([line("*", ED, "@cert-authority")], "host").accepted == set()


def test_the_name_of_a_host() -> None:
    assert names_of("Example.org", 22, "") == ["example.org"]
    assert names_of("example.org", 2222, "") == ["[example.org]:2222", "example.org"]
    assert names_of("10.0.0.1", 2222, "alias") == ["alias"]  # as OpenSSH: without a port


def test_what_is_written_is_read_and_ssh_keygen_finds_it(tmp_path) -> None:
    for hashed in (False, True):
        text = entry("[example.org]:2222", ED, hashed=hashed)
        assert known_keys([text], "[example.org]:2222").accepted == {ED}
        assert known_keys([text], "example.org").accepted == set()
        assert ("example.org" in text) is not hashed
        file = tmp_path / "known"
        file.write_text(f"{text}\n")
        found = subprocess.run(
            ["ssh-keygen", "-F", "[example.org]:2222", "-f", file], capture_output=True, text=True, check=False
        )
        assert found.returncode == 0, found.stderr


def test_what_ssh_keygen_hashed_is_read(tmp_path) -> None:
    file = tmp_path / "known"
    file.write_text(f"{line('[10.0.0.1]:2222,plain.example.org')}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", file], capture_output=True, check=True)
    assert "10.0.0.1" not in file.read_text()
    for name in ("[10.0.0.1]:2222", "plain.example.org"):
        assert known_keys(file.read_text().splitlines(), name).accepted == {ED}
