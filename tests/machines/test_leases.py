"""The leases of what machines made elsewhere: whatever is in them, the others are seen to."""

import os
from pathlib import Path

import pytest

from ramure.machines.reaper import leases
from ramure.machines.reaper.removal import identify
from ramure.runtime.run.gc import sweep


@pytest.mark.parametrize("content", ["", "\0\0", "[]", "{}", "7", '{"host":', "\xff"])
def test_one_that_cannot_be_read_is_told_and_holds_nothing_up(content: str, no_leases: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    made.mkdir()
    leases.take("b", "a directory", "directory", {"path": str(made), "identity": identify(str(made))}).leave()
    torn = no_leases / "machines" / "a.json"
    torn.write_bytes(content.encode("latin-1"))
    told = sweep(no_leases / "runtimes", dry_run=True)
    assert [str(torn) in str(each) for each in told] == [True, False], told
    removed, refused = sweep(no_leases / "runtimes")
    assert str(torn) in str(refused)
    assert "cannot be read" in (refused.error or "")
    assert "delete the file" in (refused.error or "")
    assert (removed.what, removed.error) == ("a directory", None)
    assert not made.exists()
    torn.unlink()


def test_one_is_on_the_disk_before_it_can_be_seen(no_leases: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, list[str]]] = []

    def fsync(descriptor: int) -> None:
        seen.append((os.fstat(descriptor).st_size, [path.name for path in no_leases.glob("machines/*.json")]))

    monkeypatch.setattr(os, "fsync", fsync)
    lease = leases.take("a", "a directory", "directory", {})
    assert seen == [(lease.path.stat().st_size, [])]
    lease.release()
