"""Which hosts pi is told to reach without a proxy."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ramure.agents.pi.proxies import ASK_PROXIES, LOOPBACK, PROXIES, exemptions, proxies_in, read_proxies

PROXY = "http://user:secret@proxy.corp:3128"
ALL = ",".join(LOOPBACK)


def test_without_a_proxy_nothing_is_set() -> None:
    assert exemptions({}, ["10.0.0.1"]) == {}
    assert exemptions({"NO_PROXY": "example.com", "HTTP_PROXY": ""}, ["10.0.0.1"]) == {}


@pytest.mark.parametrize("name", PROXIES)
def test_with_any_proxy_loopback_and_the_run_s_host_are_exempt(name: str) -> None:
    found = exemptions({name: PROXY}, ["10.0.0.1"])
    assert found == {"NO_PROXY": f"{ALL},10.0.0.1", "no_proxy": f"{ALL},10.0.0.1"}


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({"NO_PROXY": "a.b"}, (f"a.b,{ALL}", f"a.b,{ALL}")),
        ({"no_proxy": "a.b"}, (f"a.b,{ALL}", f"a.b,{ALL}")),
        ({"NO_PROXY": "a.b", "no_proxy": "c.d"}, (f"a.b,{ALL}", f"c.d,{ALL}")),
        ({"NO_PROXY": ".corp, 10.0.0.0/8 x"}, (f".corp, 10.0.0.0/8 x,{ALL}",) * 2),
        ({"NO_PROXY": "localhost,127.0.0.1"}, ("localhost,127.0.0.1,::1,[::1]",) * 2),
        ({"NO_PROXY": "a.b,"}, (f"a.b,{ALL}",) * 2),
    ],
)
def test_what_the_user_has_exempted_stays(own: dict[str, str], expected: tuple[str, str]) -> None:
    found = exemptions({"HTTP_PROXY": PROXY, **own}, [""])
    assert (found["NO_PROXY"], found["no_proxy"]) == expected


def test_a_star_exempts_everything_already() -> None:
    assert exemptions({"HTTP_PROXY": PROXY, "NO_PROXY": "*"}, ["h"]) == {}


def test_a_machine_says_which_proxies_it_has_and_not_their_passwords(tmp_path: Path) -> None:
    settings = tmp_path / "agent"
    settings.mkdir()
    (settings / "settings.json").write_text('{"httpProxy": "http://in.settings:1"}')
    environment = {
        "PATH": os.environ["PATH"],
        "https_proxy": PROXY,
        "ALL_PROXY": PROXY,
        "HTTP_PROXY": "",
        "no_proxy": "a=b,c.d",
        "PI_CODING_AGENT_DIR": str(settings),
    }
    said = subprocess.run(
        ["/bin/sh", "-c", ASK_PROXIES], env=environment, capture_output=True, text=True, timeout=20, check=True
    ).stdout
    assert "secret" not in said
    found = read_proxies(said + "Welcome to the host = of =set\n")
    assert proxies_in(found) == ["ALL_PROXY", "https_proxy", "settings.json: httpProxy"]
    assert exemptions(found, ["h"])["no_proxy"] == f"a=b,c.d,{ALL},h"
