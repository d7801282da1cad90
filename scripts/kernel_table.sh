#!/usr/bin/env bash
# From what ptxas said (NAME.ptxas files): a line for every kernel and target, widest first.
#   scripts/kernel_table.sh REPORT...            the table
#   scripts/kernel_table.sh --check TABLE        fails where a kernel of a decode step spills
set -uo pipefail

# Not on the path of a step: encoding and measuring may spill, they wait for memory anyway.
offline='k_compress|k_mass'

if [ "${1:-}" = --check ]; then
    table=$2
    [ -s "$table" ] || { echo "kernel_table.sh: no table $table" >&2; exit 1; }
    n=$(awk 'NR > 1' "$table" | wc -l)
    [ "$n" -ge 20 ] || { echo "kernel_table.sh: only $n kernels in $table" >&2; exit 1; }
    spilling=$(awk -v offline="$offline" 'NR > 1 && $1 !~ offline && $5 + $6 > 0' "$table")
    if [ -n "$spilling" ]; then
        printf 'kernel_table.sh: these kernels spill registers:\n%s\n' "$spilling" >&2
        exit 1
    fi
    echo "$n kernels, none of a decode step spills"
    exit 0
fi

printf '%-44s %-7s %5s %8s %7s %7s %6s\n' kernel target regs shared spill_st spill_ld stack
awk '
    # "_ZN..8k_attendI6__halfLi1ELi8EE.." -> "k_attend<__half,1,8>", as far as we name things.
    function pretty(name,    n, at, tail, out, digits) {
        at = match(name, /[0-9]+k_/)
        if (!at) return name
        digits = substr(name, at, RLENGTH - 2)
        sub(/^.*[^0-9]/, "", digits)
        n = substr(name, at + RLENGTH - 2, digits + 0)
        tail = substr(name, at + RLENGTH - 2 + digits)
        if (tail !~ /^I/) return n
        sub(/^I/, "", tail)
        sub(/EvN?.*$/, "", tail)
        sub(/EEv.*$/, "", tail)
        gsub(/6__half/, "half,", tail)
        gsub(/^f/, "float,", tail)
        gsub(/Li/, "", tail)
        gsub(/E/, ",", tail)
        sub(/,+$/, "", tail)
        return n "<" tail ">"
    }
    /Compiling entry function/ {
        split($0, quoted, "\047")
        kernel = pretty(quoted[2])
        target = quoted[4]
    }
    /bytes stack frame/ { stack = $1; store = $5; load = $9 }
    /Used [0-9]+ registers/ {
        match($0, /Used [0-9]+/); regs = substr($0, RSTART + 5, RLENGTH - 5)
        shared = 0
        if (match($0, /[0-9]+ bytes smem/)) shared = substr($0, RSTART, RLENGTH) + 0
        printf "%-44s %-7s %5d %8d %7d %7d %6d\n", kernel, target, regs, shared, store, load, stack
    }' "$@" | LC_ALL=C sort -b -k2,2 -k3,3nr -k1,1
