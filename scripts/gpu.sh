#!/usr/bin/env bash
# Everything that needs a real card, for the first session that has one. Builds build/gpu for the card
# that is here (or CUDA_ARCH=86), then runs the stages named, all by default, and keeps what they say
# under OUT (default build/gpu/out).
#   scripts/gpu.sh [STAGE...]
#     parity     every op beside the plain CPU loops, on the card
#     sanitize   compute-sanitizer over parity: memcheck, racecheck, initcheck, synccheck
#     golden     whole models beside another implementation's logits
#     bench      every op: bytes, time, percent of the card's bandwidth
#     model      an 8B-shaped run at depths, presets side by side (MODEL=file.gguf)
set -uo pipefail
cd "$(dirname "$0")/.." || exit
out=${OUT:-build/gpu/out}
jobs=$(nproc 2>/dev/null || echo 2)
mkdir -p "$out"
failed=()

command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
command -v nvcc >/dev/null || { echo "gpu.sh: nvcc not found" >&2; exit 1; }
arch=${CUDA_ARCH:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)}
[ -n "$arch" ] || { echo "gpu.sh: no card here (nvidia-smi says nothing); CUDA_ARCH=86 builds for one" >&2; exit 77; }
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.mem,pcie.link.gen.max,pcie.link.width.max \
    --format=csv 2>/dev/null | tee "$out/card.csv"

build() {
    cmake -S . -B build/gpu -G Ninja --log-level=NOTICE -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTL_TESTS=ON \
        -DTL_VULKAN=OFF -DTL_CUDA_ARCHS="$arch" &&
        cmake --build build/gpu -j "$jobs" --target tailor parity gpu_golden -- --quiet
}
build || { echo "gpu.sh: the build failed" >&2; exit 1; }
build/gpu/tailor devices | tee "$out/devices.txt"

stage_parity() { build/gpu/tests/parity --backend cuda --trials "${TRIALS:-400}"; }

stage_sanitize() {
    local tool status=0
    command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not here"; return 77; }
    for tool in memcheck racecheck initcheck synccheck; do
        echo "== $tool"
        compute-sanitizer --tool "$tool" --error-exitcode 1 \
            build/gpu/tests/parity --backend cuda --trials "${SANITIZE_TRIALS:-8}" --seed 1 || status=1
    done
    return $status
}

stage_golden() { build/gpu/tests/gpu_golden -v; }
stage_bench() { build/gpu/tests/parity --backend cuda --bench; }

stage_model() {
    [ -f "${MODEL:-}" ] || { echo "MODEL=file.gguf names none"; return 77; }
    build/gpu/tailor bench -m "$MODEL" --backend cuda --kv "${KV:-full,q8,kivi2,tailor1,tailor}" \
        --depth "${DEPTHS:-4096,32768,131072}" --json
}

[ $# -gt 0 ] || set -- parity sanitize golden bench model
for stage in "$@"; do
    start=$SECONDS
    "stage_$stage" >"$out/$stage.txt" 2>&1
    status=$?
    case $status in
    0) echo "$stage ok, $((SECONDS - start)) s: $out/$stage.txt" ;;
    77) echo "$stage skipped: $(tail -n 1 "$out/$stage.txt")" ;;
    *) failed+=("$stage") && echo "$stage FAILED, $((SECONDS - start)) s; the end of $out/$stage.txt:" &&
        tail -n 20 "$out/$stage.txt" ;;
    esac
done
[ ${#failed[@]} -eq 0 ] || { echo "gpu.sh: failed: ${failed[*]}" >&2; exit 1; }
