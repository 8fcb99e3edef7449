"""Which Node, pi and tmux are found, and what is said when they will not do. Stub programs stand in for the real ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ramure.agents.pi.toolchain import ToolMissing, ToolTooOld, find_tmux, find_toolchain
from ramure.agents.pi.toolchain.find import find_harness, find_own, remember, toolchain_dir
from tests.agents.toolchain import stubs


class Host:
    """A home and a directory on the PATH; /bin only for the stubs' own shell."""

    def __init__(self, directory: Path) -> None:
        self.home = directory / "home"
        self.bin = directory / "usr" / "bin"
        self.bin.mkdir(parents=True)
        self.path = f"{self.bin}"


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_ones_own_pi_is_used_when_its_node_fits(host: Host) -> None:
    stubs.tmux(host.bin)
    node, cli = stubs.node(host.bin, "22.19.0"), stubs.pi(host.bin, "0.87.1")
    found = find_toolchain(host.home, host.path)
    assert found.pi_argv == (str(node), "--disable-sigusr1", str(cli))
    assert (found.harness.source, str(found.pi_version), str(found.node_version)) == ("own", "0.87.1", "22.19.0")
    assert (found.tmux, found.tmux_version) == (host.bin / "tmux", "3.3a")


def test_a_pi_that_no_node_fits_names_both_and_the_remedy(host: Host) -> None:
    stubs.node(host.bin, "20.20.2")
    stubs.pi(host.bin, "0.87.1")
    with pytest.raises(
        ToolTooOld, match=r"pi 0\.87\.1 at .* needs Node 22\.19\.0 .* 20\.20\.2.*ramure setup"
    ) as raised:
        find_harness(host.home, host.path)
    assert (raised.value.tool, raised.value.remedy) == ("node", "ramure setup")


def test_a_pi_without_any_node(host: Host) -> None:
    stubs.pi(host.bin, "0.87.1")
    with pytest.raises(ToolMissing, match="no node was found"):
        find_harness(host.home, host.path)


def test_a_pi_that_is_too_old(host: Host) -> None:
    stubs.node(host.bin, "22.19.0")
    stubs.pi(host.bin, "0.73.1")
    with pytest.raises(ToolTooOld, match=r"pi 0\.73\.1 at .* is too old \(0\.74 or newer"):
        find_harness(host.home, host.path)


def test_nothing_at_all(host: Host) -> None:
    with pytest.raises(ToolMissing, match="pi was not found on PATH.*ramure setup"):
        find_harness(host.home, host.path)


def test_pis_own_engines_decide_about_node(host: Host) -> None:
    stubs.node(host.bin, "22.19.0")
    stubs.pi(host.bin, "2.0.0", engines=">=24.0.0")
    with pytest.raises(ToolTooOld, match=r"needs Node 24\.0\.0"):
        find_harness(host.home, host.path)


def test_the_node_beside_pi_is_tried_when_the_first_on_the_path_does_not_fit(host: Host, tmp_path: Path) -> None:
    system = tmp_path / "system"
    stubs.node(system, "18.0.0")
    node, _ = stubs.node(host.bin, "24.0.0"), stubs.pi(host.bin, "0.87.1")
    assert find_harness(host.home, f"{system}{os.pathsep}{host.bin}").node == node


def test_a_pi_that_is_a_program_of_its_own_is_asked_for_its_version(host: Host) -> None:
    program = stubs.script(host.bin / "pi", "echo 0.87.1")
    found = find_harness(host.home, host.path)
    assert (found.argv, str(found.pi_version), found.node) == ((str(program),), "0.87.1", None)


def test_another_program_called_pi_is_not_taken_for_it(host: Host) -> None:
    stubs.script(host.bin / "pi", "echo pi, version 3.14")
    with pytest.raises(ToolMissing, match="is not the coding agent pi"):
        find_harness(host.home, host.path)


def test_a_private_pi_serves_when_ones_own_does_not_fit(host: Host) -> None:
    stubs.node(host.bin, "20.20.2")
    stubs.pi(host.bin, "0.87.1")
    stubs.private(host.home, pi_version="0.86.1", node_version="24.19.0")
    stubs.private(host.home, pi_version="0.9.0", node_version="20.0.0")
    found = find_harness(host.home, host.path)
    assert (found.source, str(found.pi_version), str(found.node_version)) == ("private", "0.86.1", "24.19.0")


def test_what_was_found_is_remembered_and_no_program_runs_again(host: Host) -> None:
    stubs.node(host.bin, "22.19.0")
    stubs.pi(host.bin, "0.87.1")
    first = find_harness(host.home, host.path)
    runs = stubs.node_runs(host.bin)
    assert runs > 0
    assert find_harness(host.home, host.path) == first
    assert stubs.node_runs(host.bin) == runs
    assert toolchain_dir(host.home).stat().st_mode & 0o777 == 0o700


def test_an_upgrade_of_ones_own_pi_is_noticed(host: Host) -> None:
    stubs.node(host.bin, "22.19.0")
    stubs.pi(host.bin, "0.87.1")
    find_harness(host.home, host.path)
    stubs.pi(host.bin, "0.99.1")
    assert str(find_harness(host.home, host.path).pi_version) == "0.99.1"


def test_another_pi_on_the_path_is_noticed(host: Host, tmp_path: Path) -> None:
    stubs.node(host.bin, "22.19.0")
    stubs.pi(host.bin, "0.87.1")
    find_harness(host.home, host.path)
    other = tmp_path / "other" / "bin"
    stubs.pi(other, "1.5.2")
    assert str(find_harness(host.home, f"{other}{os.pathsep}{host.bin}").pi_version) == "1.5.2"


def test_a_private_pi_that_was_chosen_stays_chosen(host: Host) -> None:
    stubs.private(host.home, pi_version="0.86.1", node_version="24.19.0")
    chosen = find_harness(host.home, host.path)
    stubs.node(host.bin, "22.19.0")
    stubs.pi(host.bin, "0.87.1")
    assert find_harness(host.home, host.path) == chosen


def test_a_record_that_is_torn_or_of_another_format_is_ignored(host: Host) -> None:
    stubs.node(host.bin, "22.19.0")
    stubs.pi(host.bin, "0.87.1")
    found = find_own(host.path)
    remember(toolchain_dir(host.home), found)
    for text in ("", "{", "[]", '{"format": 99}', '{"format": 1, "files": {}}'):
        (toolchain_dir(host.home) / "current.json").write_text(text)
        assert find_harness(host.home, host.path) == found


def test_tmux_missing_names_the_command_that_installs_it(host: Host) -> None:
    with pytest.raises(ToolMissing, match="tmux was not found on PATH; to mend it: .*install.* tmux"):
        find_tmux(host.path)


def test_tmux_too_old(host: Host) -> None:
    stubs.tmux(host.bin, "3.1c")
    with pytest.raises(ToolTooOld, match=r"tmux 3\.1c at .* is too old \(3\.2a or newer is needed\)"):
        find_tmux(host.path)
