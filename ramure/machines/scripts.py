"""Shell scripts that run on machines of other systems, with what any of them has: POSIX sh, sed, awk, grep, find, ``/proc``."""

__all__ = ["IDENTITY", "JANITOR", "KILL", "KILL_MARKED", "REMOVE", "REMOVE_ALL"]

IDENTITY = r"""
identity() {
    { stat -c %d:%i -- "$1" || stat -f %d:%i -- "$1" || ls -di -- "$1" | sed 's/^ *\([0-9]*\).*/:\1/'; } 2>/dev/null |
        sed "s|\$|:$(cat /proc/sys/kernel/random/boot_id 2>/dev/null)|"
}
"""
"""``identity DIRECTORY`` prints ``device:inode:boot``: what a directory is, whatever its path."""

REMOVE = (
    IDENTITY
    + r"""
stays() { printf 'stays\t%s\t%s\n' "$1" "$2"; }
same() {
    now=$(identity .)
    now_device=${now%%:*} now=${now#*:}
    then_device=${1%%:*} then=${1#*:}
    [ -n "${now%%:*}" ] && [ "${now%%:*}" = "${then%%:*}" ] || return 1
    [ "${now#*:}" != "${then#*:}" ] || [ "$now_device" = "$then_device" ]
}
mounted() {
    { while read -r _ _ _ _ point _; do
        case $point in "$1" | "$1"/*) printf '%s\n' "$point"; break ;; esac
    done </proc/self/mountinfo; } 2>/dev/null
}
emptied() {
    if rm -f --one-file-system 2>/dev/null; then find . -xdev ! -name . -prune -exec rm -rf --one-file-system -- {} +
    else
        find . -xdev -depth ! -type d -exec rm -f -- {} +
        find . -xdev -depth -type d ! -name . -exec rmdir -- {} +
    fi 2>/dev/null
}
remove() {
    [ ! -h "$1" ] || { stays "$1" "it is a link by now"; return; }
    [ -e "$1" ] || return
    (
        CDPATH= cd -P -- "$1" 2>/dev/null || { stays "$1" "it cannot be entered"; exit 1; }
        same "$2" || { stays "$1" "it is not the directory that was made there"; exit 1; }
        here=$(pwd -P | sed 's/\\/\\134/g; s/ /\\040/g; s/	/\\011/g')
        mount=$(mounted "$here")
        [ -z "$mount" ] || { stays "$1" "$mount is mounted in it"; exit 1; }
        emptied || { find . -xdev -type d ! -perm -700 -exec chmod u+rwx {} \; 2>/dev/null; emptied; }
    ) || return
    if command -v rmdir >/dev/null; then rmdir -- "$1"; else rm -rf -- "$1"; fi 2>/dev/null
    [ ! -e "$1" ] || stays "$1" "not all in it could be removed"
}
"""
)
"""``remove DIRECTORY IDENTITY`` removes a directory that we made: the same one (same inode; the same device within one boot),
not through a link, never across a mount. What stays is printed, with the reason: ``stays``, a tab, the path, a tab, why."""

REMOVE_ALL = (
    REMOVE
    + r"""
while [ $# -gt 1 ]; do remove "$1" "$2"; shift 2; done
"""
)
"""Removes the directory $1 with the identity $2, and those that follow."""

KILL_MARKED = r"""
for environ in /proc/[0-9]*/environ; do
    grep -q -a "RAMURE_MACHINE=$1" "$environ" 2>/dev/null || continue
    pid=${environ#/proc/}
    pid=${pid%/environ}
    [ "$pid" != $$ ] && kill -KILL "$pid" 2>/dev/null
done
:
"""
"""Ends what the commands of machine $1 left running."""

JANITOR = (
    REMOVE
    + r"""
machine=$1 private=$2 limit=$3 every=$4 idle=0
shift 4
while [ "$idle" -lt "$limit" ]; do
    sleep "$every"
    [ -d "$private" ] || exit 0
    if [ -e "$private/quiet" ]; then idle=$((idle + every)); else : >"$private/quiet"; idle=0; fi
done
set -- "$machine" "$@"
"""
    + KILL_MARKED
    + r"""
shift
while [ $# -gt 1 ]; do remove "$1" "$2"; shift 2; done
"""
)
"""Waits until nobody has removed the file ``quiet`` in the directory $2 for $3 seconds, looking every $4; then ends what
the commands of machine $1 left running, and removes the directories that follow, each before its identity. Counts its own
looks: a clock may leap."""

KILL = r"""
tree() {
    cat /proc/[0-9]*/stat 2>/dev/null | sed 's/ (.*) / x /' | awk -v root="$1" '
        $3 != "Z" && $3 != "X" { parent[$1] = $4; group[$1] = $5 }
        END { for (pid in parent) { at = pid; while (at in parent && at != root) at = parent[at]
              if (pid != root && (at == root || group[pid] == root)) print pid } }'
    grep -l -a "RAMURE_EXEC=$2" /proc/[0-9]*/environ 2>/dev/null | sed 's|/proc/||; s|/environ||' | grep -v -x "$1"
}
[ -n "$1" ] && kill -STOP "$1" 2>/dev/null
tries=0
while [ $tries -lt 40 ]; do
    left=
    for pid in $(tree "${1:-none}" "$2"); do
        [ "$pid" != $$ ] && kill -KILL "$pid" 2>/dev/null && left=yes
    done
    [ -z "$left" ] && break
    tries=$((tries + 1))
    sleep 0.01
done
[ -n "$1" ] && kill -KILL "$1" 2>/dev/null
rm -f -- "$3/$2"
"""
"""Ends the command with the leading process $1 and the mark $2: what is below it, in its group, or bears the mark."""
