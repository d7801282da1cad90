#!/usr/bin/env bash
# Runs nvcc and keeps what ptxas says of every kernel (-Xptxas -v) in a file; anything else it says,
# it says. Used by backends/cuda/CMakeLists.txt.
#   scripts/nvcc.sh REPORT NVCC ARGUMENT...
set -uo pipefail
report=$1
shift
"$@" >"$report.all" 2>&1
status=$?
if [ $status -ne 0 ]; then
    cat "$report.all" >&2
    rm -f "$report.all"
    exit $status
fi
# Beside ptxas' lines only warnings may be here, and those are shown.
grep -vE '^ptxas info|^ +[0-9]+ bytes stack frame|^nvcc warning .*deprecated|^$' "$report.all" >&2
grep -E '^ptxas info|^ +[0-9]+ bytes stack frame' "$report.all" >"$report"
rm -f "$report.all"
exit 0
