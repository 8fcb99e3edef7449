"""The benchmarks' report, and that what it measures runs."""

import pytest

from benchmarks.actors import report
from benchmarks.actors.peers import PEERS, pykka_peer, queue_peer, ramure_peer
from benchmarks.actors.rows import ROWS
from benchmarks.machine import describe

FIGURES = {
    "ramure": {"tell": 0.6, "ask": 9.0, "memory": 700.0},
    "queue+task": {"tell": 0.6, "ask": 10.0, "memory": 4000.0},
    "pykka": {"tell": 6.0, "ask": 48.0, "memory": 26000.0},
}
MACHINE = {"cores": 2, "cpu": "a CPU", "os": "an OS", "python": "3.11"}


def test_what_is_missed_is_said() -> None:
    assert report.missed(FIGURES) == []
    slow = FIGURES | {"ramure": {"tell": 6.1, "ask": 10.0, "memory": 2049.0}}
    assert report.missed(slow) == [
        "tell: 6.10 is more than 1.67 × queue+task's 0.60",
        "memory: 2,049 is more than 2,048",
        "ask: 10.0 is more than 0.2 × pykka's 48.0",
        "tell: 6.10 is more than 1 × pykka's 6.00",
    ]


def test_the_table_has_every_row_and_a_dash_for_what_there_is_not() -> None:
    table = report.table(FIGURES, {name: name for name in FIGURES}, MACHINE, 3)
    assert all(row.title in table for row in ROWS)
    assert "—" in table
    assert "2 cores, a CPU, an OS, Python 3.11" in table


def test_the_machine_is_described() -> None:
    assert set(describe()) == {"cores", "cpu", "os", "python"}


@pytest.mark.parametrize("peer", [queue_peer, ramure_peer, pykka_peer])
def test_what_is_measured_runs(peer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TELLS", "ASKS", "HOPS", "SPAWNS", "KILLS", "ACTORS", "ALIVE", "RING"):
        if hasattr(peer, name):
            monkeypatch.setattr(peer, name, 20)
    figures = peer.measure()  # type: ignore[attr-defined]
    assert set(figures) <= {row.key for row in ROWS}
    assert {"tell", "ask", "ring", "spawn", "kill"} <= set(figures)


def test_the_peers_are_named() -> None:
    assert list(PEERS)[:2] == ["ramure", "queue+task"]
