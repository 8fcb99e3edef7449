#!/bin/sh
# need.sh COMMAND...: makes sure that these commands are there. Root on Debian or Ubuntu gets the packages
# installed; anybody else is told what to install. Quick when nothing is missing.
set -eu

package_of() {
    case $1 in
        ps) echo procps ;;
        ip) echo iproute2 ;;
        dockerd) echo docker.io ;;
        docker) if apt-cache show docker-cli >/dev/null 2>&1; then echo docker-cli; else echo docker.io; fi ;;
        erl | erlc) echo erlang-base ;;
        sshd) echo openssh-server ;;
        ssh) echo openssh-client ;;
        bwrap) echo bubblewrap ;;
        *) echo "$1" ;;
    esac
}

missing=
for name in "$@"; do
    command -v "$name" >/dev/null 2>&1 || [ -x "/usr/sbin/$name" ] || missing="$missing $(package_of "$name")"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "installing$missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    # shellcheck disable=SC2086 # a list of words
    apt-get install -y -q --no-install-recommends $missing </dev/null >/dev/null 2>&1 && exit 0
    apt-get update -q </dev/null >/dev/null
    # shellcheck disable=SC2086
    apt-get install -y -q --no-install-recommends $missing </dev/null >/dev/null
elif command -v apt-get >/dev/null 2>&1; then
    echo "missing:$missing. Install with: sudo apt-get install$missing" >&2
    exit 1
elif command -v brew >/dev/null 2>&1; then
    echo "missing:$missing. Install with: brew install$(echo "$missing" | sed 's/erlang-base/erlang/; s/ procps//')" >&2
    exit 1
else
    echo "missing:$missing (Debian's names). Install them with your system's package manager, then try again." >&2
    exit 1
fi
