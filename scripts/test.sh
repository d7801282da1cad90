#!/usr/bin/env bash
# Everything `make test` does, one line and its time per stage; a stage that fails prints its log.
# The main build's ctest comes last, so that its summary is the last thing printed.
#   scripts/test.sh              all stages
#   scripts/test.sh STAGE...     only these: check clang asan tsan fuzz dev
set -uo pipefail
cd "$(dirname "$0")/.." || exit
jobs=$(nproc 2>/dev/null || echo 2)
logs=build/logs
mkdir -p "$logs"
failed=()

# gcc's and clang's shadow memory does not fit every address layout a kernel may draw (high
# vm.mmap_rnd_bits), so sanitized programs run with a fixed one where that is allowed.
fixed=()
setarch -R true 2>/dev/null && fixed=(setarch -R)

# configure_and_build PRESET [TARGET]
configure_and_build() {
    cmake --preset "$1" --log-level=NOTICE &&
        cmake --build --preset "$1" -j "$jobs" --target "${2:-all}" -- --quiet
}

# A slow test (label "slow") runs only in the main build, a house rule needs to hold only once.
tests() {
    local preset=$1
    shift
    "${fixed[@]}" ctest --preset "$preset" -j "$jobs" --no-label-summary --no-tests=error "$@"
}

stage_check() { scripts/check.sh; }
stage_clang() { configure_and_build clang && tests clang -LE 'house|slow'; }
stage_asan() { configure_and_build asan && tests asan -LE 'house|slow'; }
stage_tsan() { configure_and_build tsan && tests tsan -L threads --no-tests=ignore; }
stage_build() { configure_and_build dev; }

# Every fuzz target for FUZZ_SECONDS from its seed corpus, as many at a time as there are cores.
stage_fuzz() {
    configure_and_build fuzz fuzzers || return 1
    find build/fuzz/tests -maxdepth 1 -name 'fuzz_*' -type f -perm -u+x | sort |
        xargs -r -P "$jobs" -n 1 scripts/fuzz_one.sh "${FUZZ_SECONDS:-60}"
}

stage() {
    local name=$1 start=$SECONDS
    if "stage_$name" >"$logs/$name.log" 2>&1; then
        printf '%-6s ok      %4d s\n' "$name" $((SECONDS - start))
        case $name in check | build) sed -n 's/^tailor: /       /p' "$logs/$name.log" ;; esac
    else
        failed+=("$name")
        printf '%-6s FAILED  %4d s; its log:\n' "$name" $((SECONDS - start))
        cat "$logs/$name.log"
    fi
    return 0
}

wanted=("$@")
[ $# -gt 0 ] || wanted=(check clang asan tsan fuzz dev)
dev=no
for name in "${wanted[@]}"; do
    case $name in
    dev) dev=yes ;;
    check | clang | asan | tsan | fuzz) stage "$name" ;;
    *) echo "scripts/test.sh: no stage $name" >&2; exit 2 ;;
    esac
done
if [ $dev = yes ]; then
    stage build
    [ ${#failed[@]} -eq 0 ] || echo "failed before the main tests: ${failed[*]}"
    ctest --preset dev -j "$jobs" --no-label-summary --no-tests=error || failed+=(dev)
fi
[ ${#failed[@]} -eq 0 ] || { echo "make test: failed: ${failed[*]}" >&2; exit 1; }
