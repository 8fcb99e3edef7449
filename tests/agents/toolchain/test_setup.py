"""What `ramure setup` decides and leaves. Here the installers are replaced; test_real_setup.py runs the real ones."""

from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from ramure.agents.pi.toolchain import SetupBusy, SetupFailed, find_toolchain, plan_setup, set_up, setup
from ramure.agents.pi.toolchain.find import find_harness
from ramure.agents.pi.toolchain.probe import Node, Pi, read_pi_package
from ramure.agents.pi.toolchain.versions import PI_TESTED, parse_version
from ramure.errors import UsageError
from tests.agents.toolchain import stubs


class Registry:
    """The installers' stand-in: which pis install, and what was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.broken: set[str] = set()
        self.latest = "1.5.2"

    def install_node(self, version: str, into: Path, path: str | None = None) -> Node:
        self.asked.append(f"node {version}")
        whole = version if version.count(".") == 2 else f"{version}.19.0"
        executable = stubs.node(into / "node" / "bin", whole)
        stubs.script(into / "node/lib/node_modules/npm/bin/npm-cli.js", "exit 0")
        found = parse_version(whole)
        assert found is not None
        return Node(executable, found)

    def install_pi(self, version: str, node: Node, into: Path, path: str | None = None) -> Pi:
        self.asked.append(f"pi {version}")
        stubs.pi_package(into / "node_modules", self.latest if version == "latest" else version)
        if version in self.broken:
            raise SetupFailed(f"no matching version of a part of {version}")
        pi = read_pi_package(into / "node_modules")
        assert pi is not None
        return pi


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    registry = Registry()
    monkeypatch.setattr(setup, "install_node", registry.install_node)
    monkeypatch.setattr(setup, "install_pi", registry.install_pi)
    return registry


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def bin(tmp_path: Path) -> Path:
    directory = tmp_path / "usr" / "bin"
    directory.mkdir(parents=True)
    return directory


def names(home: Path) -> set[str]:
    return {p.name for p in (home / "toolchain").iterdir()}


def test_ones_own_pi_that_fits_is_used_and_nothing_installed(registry: Registry, home: Path, bin: Path) -> None:
    stubs.node(bin, "22.19.0")
    stubs.pi(bin, "0.87.1")
    assert set_up(home, path=str(bin)).source == "own"
    assert registry.asked == []


def test_the_newest_pi_and_a_private_node_are_installed_where_there_is_none(
    registry: Registry, home: Path, bin: Path
) -> None:
    harness = set_up(home, path=str(bin))
    assert registry.asked == ["node 24", "pi latest"]
    assert (harness.source, str(harness.pi_version), str(harness.node_version)) == ("private", "1.5.2", "24.19.0")
    assert harness == find_harness(home, str(bin))
    assert names(home) == {"node-24.19.0", "pi-1.5.2", "current.json", "lock"}
    assert home.stat().st_mode & 0o777 == 0o700


def test_a_second_setup_installs_nothing(registry: Registry, home: Path, bin: Path) -> None:
    first = set_up(home, path=str(bin))
    registry.asked.clear()
    assert set_up(home, path=str(bin)) == first
    assert registry.asked == []


def test_the_tested_pi_is_installed_when_the_newest_does_not_install(registry: Registry, home: Path, bin: Path) -> None:
    registry.broken.add("latest")
    said: list[str] = []
    assert set_up(home, path=str(bin), say=said.append).pi_version == PI_TESTED
    assert any("latest does not install (no matching version" in line for line in said)


def test_a_setup_that_fails_leaves_nothing_of_the_pi(registry: Registry, home: Path, bin: Path) -> None:
    registry.broken |= {"latest", str(PI_TESTED)}
    with pytest.raises(SetupFailed, match="no matching version"):
        set_up(home, path=str(bin))
    assert names(home) == {"node-24.19.0", "lock"}


def test_a_setup_that_was_killed_leaves_what_the_next_one_removes(registry: Registry, home: Path, bin: Path) -> None:
    half = home / "toolchain" / "tmp-killed" / "pi-work-0"
    stubs.pi_package(half / "node_modules", "1.5.2")
    assert plan_setup(home, path=str(bin)).use is None
    set_up(home, path=str(bin))
    assert not half.exists()


def test_a_node_on_the_path_that_fits_and_has_npm_is_used(registry: Registry, home: Path, bin: Path) -> None:
    node = stubs.node(bin, "24.1.0")
    stubs.script(bin / "npm", "exit 0")
    harness = set_up(home, path=str(bin))
    assert registry.asked == ["pi latest"]
    assert (harness.source, harness.node) == ("private", node)


def test_a_pi_asked_for_is_installed_beside_the_others(registry: Registry, home: Path, bin: Path) -> None:
    set_up(home, path=str(bin))
    registry.asked.clear()
    assert str(set_up(home, path=str(bin), pi="0.80.2").pi_version) == "0.80.2"
    assert registry.asked == ["pi 0.80.2"]
    assert str(set_up(home, path=str(bin), pi="1.5.2").pi_version) == "1.5.2"
    assert registry.asked == ["pi 0.80.2"]
    assert str(find_harness(home, str(bin)).pi_version) == "1.5.2"


def test_a_node_asked_for_is_private_and_of_that_version(registry: Registry, home: Path, bin: Path) -> None:
    stubs.node(bin, "20.20.2")
    harness = set_up(home, path=str(bin), pi="0.74.2", node="20")
    assert registry.asked == ["node 20", "pi 0.74.2"]
    assert str(harness.node_version) == "20.19.0"
    assert set_up(home, path=str(bin), pi="0.74.2", node="20") == harness
    assert registry.asked == ["node 20", "pi 0.74.2"]


def test_force_installs_what_is_there_already(registry: Registry, home: Path, bin: Path) -> None:
    set_up(home, path=str(bin))
    registry.latest = "1.6.0"
    assert str(set_up(home, path=str(bin), force=True).pi_version) == "1.6.0"
    assert names(home) == {"node-24.19.0", "pi-1.5.2", "pi-1.6.0", "current.json", "lock"}


def test_private_passes_over_ones_own(registry: Registry, home: Path, bin: Path) -> None:
    stubs.node(bin, "22.19.0")
    stubs.pi(bin, "0.87.1")
    assert set_up(home, path=str(bin), private=True).source == "private"


@pytest.mark.parametrize(
    ("wish", "text"),
    [
        ({"pi": "0.73.0"}, "pi 0.73.0 is too old: 0.74 or newer"),
        ({"pi": "new"}, "--pi takes a whole version"),
        ({"pi": "0.87"}, "--pi takes a whole version"),
        ({"node": "lts"}, "--node takes a version"),
        ({"node": "20"}, "npm's newest pi needs Node 22.19.0 or newer, and --node says 20"),
        ({"pi": "0.87.1", "node": "22.18"}, "pi 0.87.1 needs Node 22.19.0"),
    ],
)
def test_a_wish_that_cannot_come_true_is_refused(home: Path, wish: dict[str, str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        plan_setup(home, **wish)


def test_two_setups_at_once_install_once(registry: Registry, home: Path, bin: Path) -> None:
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(set_up(home, path=str(bin)))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(results) == 4
    assert len(set(results)) == 1
    assert registry.asked == ["node 24", "pi latest"]


def test_a_lock_that_is_never_released_ends_the_wait(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_LOCK_SECONDS", 0.0)
    (home / "toolchain").mkdir(parents=True)
    said: list[str] = []
    with (home / "toolchain" / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(SetupBusy, match="another ramure setup"):
            set_up(home, say=said.append)


def test_the_plan_tells_a_person_what_would_be_done(registry: Registry, home: Path, bin: Path) -> None:
    lines = plan_setup(home, path=str(bin)).lines()
    assert lines[0].startswith("pi was not found on PATH")
    assert lines[1] == "install a private Node 24"
    assert lines[2].startswith(f"install pi latest, or {PI_TESTED} where that does not install")
    assert registry.asked == []
    assert not home.exists() or names(home) == set()
    stubs.tmux(bin)
    set_up(home, path=str(bin))
    assert plan_setup(home, path=str(bin)).lines() == [f"this fits: {find_toolchain(home, str(bin)).harness}"]
