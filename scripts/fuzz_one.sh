#!/bin/sh
# One fuzz target for so many seconds: scripts/fuzz_one.sh SECONDS build/fuzz/tests/fuzz_NAME
# Seeds come from tests/corpus/NAME; what it finds on the way stays in build/fuzz/corpus/NAME, and a
# finding is written beside it.
set -u
seconds=$1 target=$2
name=${target##*/fuzz_}
found=build/fuzz/corpus/$name
mkdir -p "$found"
seeds=tests/corpus/$name
[ -d "$seeds" ] || seeds=
# shellcheck disable=SC2086 # no seeds, no word
"$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="$found/finding-" "$found" $seeds >"$found.log" 2>&1
status=$?
[ $status -eq 0 ] || tail -n 60 "$found.log"
grep -h -e stat::number_of_executed_units "$found.log" | sed "s/^/fuzz_$name: /"
exit $status
