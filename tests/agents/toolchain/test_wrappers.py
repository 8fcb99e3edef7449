"""``pi`` on the PATH as a wrapper script, below a directory with any ``package.json``: it is asked what it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from ramure.agents.pi.toolchain import ToolMissing
from ramure.agents.pi.toolchain.elsewhere import FIND, choose
from ramure.agents.pi.toolchain.probe import probe_pi
from ramure.agents.pi.toolchain.versions import Version

MANIFESTS = {
    "none": None,
    "of a project": '{"name": "my-home", "version": "1.0.0"}',
    "of a project that needs pi": '{"name": "x", "dependencies": {"@earendil-works/pi-coding-agent": "1.0.0"}}',
    "of another pi": '{"name": "pi", "version": "9.9.9", "bin": {"pi": "shims/pi"}}',
    "broken": "{",
    "empty": "",
}


@pytest.fixture(params=MANIFESTS.values(), ids=MANIFESTS.keys())
def shims(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    directory = tmp_path / "shims"
    directory.mkdir()
    if request.param is not None:
        (tmp_path / "package.json").write_text(request.param)
    return directory


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def find(shims: Path, home: Path) -> str:
    environment = {"PATH": f"{shims}:/usr/bin:/bin", "HOME": str(home), "RAMURE_HOME": str(home / "none")}
    command = ["/bin/sh", "-c", FIND, "sh", "", ""]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30, check=False).stdout


def test_a_wrapper_is_used_as_it_is_on_this_host(shims: Path) -> None:
    wrapper = script(shims / "pi", "echo some manager says hello; echo 1.2.3")
    found = probe_pi(wrapper)
    assert found is not None
    assert (found.version, found.cli, found.program) == (Version(1, 2, 3), None, wrapper)


def test_a_wrapper_is_used_as_it_is_elsewhere(shims: Path, tmp_path: Path) -> None:
    wrapper = script(shims / "pi", "echo some manager says hello; echo 1.2.3")
    harness = choose(find(shims, tmp_path), "there", "remedy")
    assert (harness.pi, harness.node, harness.pi_version) == (wrapper, None, Version(1, 2, 3))


def test_another_program_of_the_name_is_none(shims: Path, tmp_path: Path) -> None:
    wrapper = script(shims / "pi", "echo 3.14159")
    assert probe_pi(wrapper) is None
    with pytest.raises(ToolMissing, match="no pi on there"):
        choose(find(shims, tmp_path), "there", "remedy")


def test_a_link_to_pi_s_script_is_read_without_running_it(tmp_path: Path) -> None:
    package = tmp_path / "lib" / "node_modules" / "@earendil-works" / "pi-coding-agent"
    (package / "dist").mkdir(parents=True)
    (package / "package.json").write_text(
        '{"name": "@earendil-works/pi-coding-agent", "version": "1.4.0", "bin": {"pi": "dist/cli.js"}}'
    )
    cli = script(package / "dist" / "cli.js", "exit 1")
    directory = tmp_path / "bin"
    directory.mkdir()
    os.symlink(cli, directory / "pi")
    found = probe_pi(directory / "pi")
    assert found is not None and (found.version, found.cli) == (Version(1, 4, 0), cli)
    assert "\t1.4.0" in find(directory, tmp_path).replace('"version": "', "\t")
