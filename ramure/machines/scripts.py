"""Shell scripts that run on machines of other systems, with what any of them has: POSIX sh, sed, awk, grep, ``/proc``."""

__all__ = ["JANITOR", "KILL", "KILL_MARKED"]

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
    r"""
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
rm -rf -- "$private" "$@"
"""
)
"""Waits until nobody has removed the file ``quiet`` in the directory $2 for $3 seconds, looking every $4; then ends what
the commands of machine $1 left running, and removes that directory and the others that follow. Counts its own looks: a
clock may leap."""

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
