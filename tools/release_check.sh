#!/bin/sh
# release_check.sh PYTHON UV: what is released works on an empty machine. PYTHON has hatchling; UV is the uv command.
# Builds the sdist, the wheel from the sdist, and tries the wheel alone in an empty virtual environment with an empty HOME:
# the command line, Node and pi, the demo, a program of its own, a test with the pytest plugin, uv run and uv tool run.
set -eu
python=$1 uv=$2
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
trap 'exit 1' INT TERM
say() { echo "release-check: $*"; }

say "the sdist, and the wheel from it"
"$python" -m hatchling build -t sdist -d "$directory/dist" >/dev/null 2>&1
mkdir "$directory/source"
tar -xzf "$directory"/dist/*.tar.gz -C "$directory/source" --strip-components 1
for needed in Makefile README.md LICENSE SECURITY.md CHANGELOG.md tools/venv.sh tests/conftest.py docs/processes.md examples/haiku.py; do
    [ -e "$directory/source/$needed" ] || { say "the sdist lacks $needed" >&2; exit 1; }
done
(cd "$directory/source" && "$python" -m hatchling build -t wheel -d "$directory/dist" >/dev/null 2>&1)
wheel=$(echo "$directory"/dist/*.whl)

say "an empty virtual environment, an empty HOME"
mkdir "$directory/home" "$directory/work"
environment="env -i HOME=$directory/home PATH=$directory/venv/bin:/usr/local/bin:/usr/bin:/bin TERM=dumb LANG=C.UTF-8"
for name in PIP_INDEX_URL PIP_EXTRA_INDEX_URL PIP_CERT UV_DEFAULT_INDEX UV_INDEX_URL NPM_CONFIG_REGISTRY npm_config_registry \
    NODE_EXTRA_CA_CERTS SSL_CERT_FILE REQUESTS_CA_BUNDLE HTTPS_PROXY HTTP_PROXY NO_PROXY PIP_CONFIG_FILE; do
    value=$(printenv "$name" || true)
    [ -z "$value" ] || environment="$environment $name=$value"
done
"$python" -m venv "$directory/venv"
cd "$directory/work"
$environment pip install --quiet --disable-pip-version-check "$wheel"

say "the command line"
$environment ramure --version
$environment ramure ls
$environment ramure setup --private

say "the demo"
$environment ramure demo | tail -n 3

say "a program, and its test with the pytest plugin"
cat >haiku_pool.py <<'PROGRAM'
import asyncio

from ramure import agent, agent_process, done, each, wait
from ramure.testing import Conversation, InProcessHarness, Text, ToolCall


def script(conversation: Conversation) -> ToolCall | Text:
    return Text("Done.") if conversation.new_tool_results else ToolCall("finish", {"line": "Old commits find a new branch."})


@agent_process
async def line_about(topic: str) -> str:
    worker = await agent("worker", image=InProcessHarness(script).image)

    @worker.on("finish")
    async def on_finish(line: str) -> str:
        """Hand in the line."""
        done(f"{topic}: {line}")
        return "Taken."

    await worker.send(f"Write one line about {topic}.")
    return await wait()


@agent_process
async def main() -> list[str]:
    return await each(line_about, ["rebase", "merge"], limit=2)


if __name__ == "__main__":
    print(asyncio.run(main()))
PROGRAM
cat >test_haiku_pool.py <<'PROGRAM'
from haiku_pool import main
from ramure.testing import run_virtual


def test_both_are_written(leak_check):
    assert run_virtual(main()) == [f"{topic}: Old commits find a new branch." for topic in ("rebase", "merge")]
PROGRAM
expected="['rebase: Old commits find a new branch.', 'merge: Old commits find a new branch.']"
[ "$($environment python haiku_pool.py)" = "$expected" ] || { say "the program printed something else" >&2; exit 1; }
$environment pip install --quiet --disable-pip-version-check pytest
$environment pytest -q -p no:cacheprovider

say "uv run, and the command as a tool of its own"
ran=$($environment UV_CACHE_DIR="$directory/uv" "$uv" run --quiet --no-project --python "$directory/venv/bin/python" --with "$wheel" haiku_pool.py)
[ "$ran" = "$expected" ] || { say "uv run printed: $ran" >&2; exit 1; }
$environment UV_CACHE_DIR="$directory/uv" "$uv" tool run --quiet --python "$directory/venv/bin/python" --from "$wheel" ramure --version

live=$($environment ramure ls --json)
case $live in *'"runs": []'* | *'"runs":[]'* | '[]') ;; *) say "a run is left: $live" >&2; exit 1 ;; esac
say "the wheel works: $(basename "$wheel")"
