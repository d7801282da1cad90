#!/usr/bin/env bash
# Kernels beside their specification at seeds nobody has tried (tests/parity.c), for MINUTES (10) or until one fails:
# what CI tries is fixed, so that its answer is a function of the commit. A failure prints the command that repeats it.
#   scripts/soak.sh [MINUTES]
set -uo pipefail
cd "$(dirname "$0")/.." || exit
tests=build/dev/tests
cmake --preset dev --log-level=NOTICE >/dev/null && cmake --build --preset dev --target parity -- --quiet || exit
cmake --build --preset dev --target parity_cuda -- --quiet >/dev/null 2>&1 || echo "soak: no emulated CUDA"

# try WIDTH COMMAND...: WIDTH as in tests/CMakeLists.txt; 77 is "no such device".
try() {
    local width=$1 out status=0
    shift
    out=$(LP_NATIVE_VECTOR_WIDTH=$width "$@" 2>&1) || status=$?
    [ $status -eq 0 ] || [ $status -eq 77 ] && return 0
    printf '%s\n' "$out" "soak: failed: $*" >&2
    exit 1
}

end=$((SECONDS + 60 * ${1:-10}))
for ((round = 1; SECONDS < end; round++)); do
    try 256 $tests/parity --backend cpu --trials 200
    [ ! -x $tests/parity_cuda ] || try 256 $tests/parity_cuda --backend cuda --trials 60
    for words in validate validate,range=70000 validate,as-gpu,stage,two-queues; do
        try 256 $tests/parity --backend vulkan --debug $words --trials 12
    done
    try 128 $tests/parity --backend vulkan --debug validate,stage --trials 8
    try 512 $tests/parity --backend vulkan --debug validate,pools --trials 8
    echo "round $round: no fault, $SECONDS s"
done
