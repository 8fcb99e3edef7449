"""Who is measured. Each Python peer is a module here, ``measure() -> {row: figure}``, run in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

OTP = Path(__file__).parent.parent / "otp"


@dataclass(frozen=True, slots=True)
class PythonPeer:
    module: str
    package: str | None

    def version(self, python: str) -> str | None:
        if self.package is None:
            return sys.version.split()[0]
        program = f"import importlib.metadata as m; print(m.version({self.package!r}))"
        found = subprocess.run([python, "-c", program], capture_output=True, text=True, check=False)
        return found.stdout.strip() or None

    def command(self, python: str) -> list[str]:
        return [python, "-m", "benchmarks.actors.worker", self.module]


@dataclass(frozen=True, slots=True)
class ErlangPeer:
    def version(self, python: str) -> str | None:
        if not (shutil.which("erl") and shutil.which("erlc")):
            return None
        program = "io:put_chars(erlang:system_info(otp_release)), halt()."
        return (
            "OTP "
            + subprocess.run(
                ["erl", "-noshell", "-eval", program], capture_output=True, text=True, check=True, timeout=60
            ).stdout.strip()
        )

    def command(self, python: str) -> list[str]:
        built = tempfile.mkdtemp(prefix="bench-erl-")
        subprocess.run(["erlc", "-o", built, str(OTP / "bench.erl")], check=True, timeout=60)
        return ["erl", "-noshell", "+P", "1000000", "-pa", built, "-s", "bench", "main"]


@dataclass(frozen=True, slots=True)
class ElixirPeer:
    def version(self, python: str) -> str | None:
        if not shutil.which("elixir"):
            return None
        said = subprocess.run(["elixir", "--version"], capture_output=True, text=True, check=True, timeout=60).stdout
        return next((line.split()[1] for line in said.splitlines() if line.startswith("Elixir ")), "unknown")

    def command(self, python: str) -> list[str]:
        return ["elixir", "--erl", "+P 1000000", str(OTP / "bench.exs")]


PEERS: Final[dict[str, PythonPeer | ErlangPeer | ElixirPeer]] = {
    "ramure": PythonPeer("ramure", "ramure"),
    "queue+task": PythonPeer("queue", None),
    "pykka": PythonPeer("pykka", "pykka"),
    "thespian": PythonPeer("thespian", "thespian"),
    "xoscar": PythonPeer("xoscar", "xoscar"),
    "autogen-core": PythonPeer("autogen", "autogen-core"),
    "erlang": ErlangPeer(),
    "elixir": ElixirPeer(),
}
