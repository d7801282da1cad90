#!/usr/bin/env bash
# Everything that needs a real card. Such a machine is lent for half an hour, in calls of ten minutes, and has
# neither network nor our libraries: what it runs is built elsewhere and carried there.
#   scripts/gpu.sh pack              where nvcc and the libraries are: builds for the card (CUDA_ARCH=90) and
#                                    puts programs and their libraries into build/gpu_pack, to be carried
#   scripts/gpu.sh [STAGE...]        on the card's machine: the stages named, or those of call `one`
#     one        machine parity golden model        (about 8 minutes at most)
#     two        sanitize                           (likewise)
#     three      deep peers                         (likewise)
#     machine    what is here: card, compilers, tools
#     parity     every op beside the plain CPU loops, on the card
#     golden     whole models beside another implementation's logits
#     sanitize   compute-sanitizer over parity: memcheck, racecheck, synccheck, initcheck
#     model      an 8B-shaped model, F16 and Q4_K, to 128k: steps, and each op's bytes and part of the rate
#     deep       the same to 1M
#     peers      PyTorch on the same shape, full and offloaded cache
#   Without a pack it builds build/gpu itself, if it can. EMU=1: every stage on the emulated card, made small:
#   a rehearsal that needs no card (build/dev must be there).
# Results are written as they come under OUT (default build/gpu/out); a stage has a limit, and one that is
# stopped there keeps what it had.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
out=${OUT:-build/gpu/out}
pack=build/gpu_pack
jobs=$(nproc 2>/dev/null || echo 2)
emu=${EMU:-}
mkdir -p "$out"
failed=()
command -v nvcc >/dev/null || PATH=$PATH:/usr/local/cuda/bin
command -v compute-sanitizer >/dev/null || PATH=$PATH:/usr/local/cuda/compute-sanitizer

# build ARCH: the programs that the stages run, in build/gpu.
build() {
    command -v nvcc >/dev/null || { echo "gpu.sh: nvcc not found" >&2; return 1; }
    cmake -S . -B build/gpu -G Ninja --log-level=NOTICE -DCMAKE_BUILD_TYPE=RelWithDebInfo -DTL_TESTS=ON \
        -DTL_VULKAN=OFF -DTL_CUDA_ARCHS="$1" &&
        cmake --build build/gpu -j "${JOBS:-$jobs}" --target tailor parity gpu_golden card -- --quiet
}

# Programs without their debugging symbols, every library but the C library's own, and where tests look
# for their files.
make_pack() {
    local program
    build "${CUDA_ARCH:-90}" || return 1
    rm -rf "$pack" && mkdir -p "$pack/lib" || return 1
    for program in build/gpu/cli/tailor build/gpu/tailor build/gpu/tests/parity build/gpu/tests/gpu_golden \
        build/gpu/card; do
        [ -x "$program" ] || continue
        cp "$program" "$pack/" && strip --strip-debug "$pack/$(basename "$program")" || return 1
    done
    for program in parity gpu_golden card tailor; do
        [ -x "$pack/$program" ] || { echo "gpu.sh: $program was not built" >&2; return 1; }
    done
    ldd "$pack"/parity "$pack"/gpu_golden "$pack"/card "$pack"/tailor | awk '$3 ~ /^\// { print $3 }' | sort -u |
        grep -vE '/(libc|libm|libpthread|libdl|librt|ld-linux[^/]*)\.so' | xargs -r cp -Lt "$pack/lib" || return 1
    pwd >"$pack/source_dir"
    git rev-parse --short HEAD >"$pack/commit" 2>/dev/null
    du -sm "$pack"
}

if [ "${1:-}" = pack ]; then
    make_pack
    exit
fi

# Where the programs are: the pack if it runs here, else what can be built.
bin=
if [ -n "$emu" ]; then
    bin=build/dev/tests
elif [ -x "$pack/card" ]; then
    export LD_LIBRARY_PATH="$PWD/$pack/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    "$pack/tailor" --version >"$out/machine.txt" 2>&1 && bin=$pack
    # Tests have the place of their files compiled in.
    source_dir=$(cat "$pack/source_dir")
    [ -e "$source_dir" ] || { mkdir -p "$(dirname "$source_dir")" && ln -s "$PWD" "$source_dir"; }
fi
if [ -z "$bin" ]; then
    arch=${CUDA_ARCH:-$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d .)}
    [ -n "$arch" ] || { echo "gpu.sh: no card here (nvidia-smi says nothing); CUDA_ARCH=86 builds for one" >&2; exit 77; }
    build "$arch" >>"$out/machine.txt" 2>&1 || { tail -n 20 "$out/machine.txt" >&2; echo "gpu.sh: the build failed" >&2; exit 1; }
    mkdir -p build/gpu/bin
    ln -sf ../tests/parity ../tests/gpu_golden ../card build/gpu/bin/
    ln -sf "../$([ -x build/gpu/cli/tailor ] && echo cli/)tailor" build/gpu/bin/tailor
    bin=build/gpu/bin
fi
parity=$bin/parity golden=$bin/gpu_golden card=$bin/card tailor=$bin/tailor
trials=${TRIALS:-200} shape=llama-3.1-8b steps=64 layers=
depths=4096,32768,131072 deep=524288,1048576 presets=full,q8,kivi2,tailor1,tailor types="F16 Q4_K"
if [ -n "$emu" ]; then
    parity=$bin/parity_cuda golden=$bin/cuda_golden card=$bin/card_emu tailor=build/dev/tailor
    trials=1 shape=qwen2.5-0.5b steps=1 layers="1 512" depths=200,300 deep=400 types="F16 Q8_0"
fi

stage_machine() {
    date -u
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,clocks.max.mem,pcie.link.gen.max,pcie.link.width.max \
        --format=csv 2>/dev/null || echo "no nvidia-smi"
    uname -r && nproc && free -g | head -n 2
    for tool in nvcc gcc cmake ninja compute-sanitizer ncu python3; do
        printf '%-18s %s\n' "$tool" "$(command -v $tool || echo none)"
    done
    cat "$pack/commit" 2>/dev/null
    "$tailor" devices
}

stage_parity() { "$parity" --backend cuda --trials "$trials"; }
stage_golden() { "$golden" -v; } # a line a model, for a run that is stopped

stage_sanitize() {
    local tool status=0 rc
    [ -n "$emu" ] || command -v compute-sanitizer >/dev/null || { echo "compute-sanitizer is not here"; return 77; }
    for tool in memcheck racecheck synccheck initcheck; do
        echo "== $tool"
        if [ -n "$emu" ]; then
            "$parity" --backend cuda --trials 1 --seed 1 --op topk
        else
            timeout 130 compute-sanitizer --tool "$tool" --error-exitcode 9 --print-limit 20 \
                "$parity" --backend cuda --trials "${SANITIZE_TRIALS:-2}" --seed 1
        fi
        rc=$?
        echo "== $tool: exit $rc (9: it found something, 124: stopped after 130 s)"
        [ $rc -eq 0 ] || [ $rc -eq 124 ] || status=1
    done
    return $status
}

# run_card DEPTHS: for both types of weights.
run_card() {
    local type status=0
    for type in $types; do
        # shellcheck disable=SC2086
        "$card" "$shape" "$type" cuda "$presets" "$1" "$steps" $layers || status=1
    done
    return $status
}
stage_model() { run_card "$depths"; }
stage_deep() { run_card "$deep"; }

stage_peers() {
    python3 -c 'import torch, transformers' 2>/dev/null || { echo "no PyTorch with transformers here"; return 77; }
    if [ -n "$emu" ]; then python3 bench/torch_decode.py --tiny; else python3 bench/torch_decode.py; fi
}

limit_of() {
    [ -z "$emu" ] || { echo 1800; return; } # an emulated card is a core of this machine: golden took 355 s of one
    case $1 in machine) echo 30 ;; parity) echo 120 ;; golden) echo 60 ;; model) echo 330 ;; sanitize) echo 560 ;;
        deep) echo 300 ;; *) echo 240 ;; esac
}

wanted=()
[ $# -gt 0 ] || set -- one
for stage in "$@"; do
    case $stage in
    one) wanted+=(machine parity golden model) ;;
    two) wanted+=(sanitize) ;;
    three) wanted+=(deep peers) ;;
    machine | parity | golden | sanitize | model | deep | peers) wanted+=("$stage") ;;
    *) echo "gpu.sh: no stage $stage" >&2; exit 2 ;;
    esac
done

# A stage is a process of its own, so that timeout can end it; its lines are in the file as they come.
export -f stage_machine stage_parity stage_golden stage_sanitize stage_model stage_deep stage_peers run_card
export parity golden card tailor trials shape steps layers depths deep presets types emu pack
for stage in "${wanted[@]}"; do
    start=$SECONDS
    timeout --kill-after=10 "$(limit_of "$stage")" bash -c "stage_$stage" >>"$out/$stage.txt" 2>&1
    status=$?
    case $status in
    0) echo "$stage ok, $((SECONDS - start)) s: $out/$stage.txt" ;;
    77) echo "$stage skipped: $(tail -n 1 "$out/$stage.txt")" ;;
    124 | 137) echo "$stage stopped after $(limit_of "$stage") s, what it had is in $out/$stage.txt" ;;
    *) failed+=("$stage") && echo "$stage FAILED, $((SECONDS - start)) s; the end of $out/$stage.txt:" &&
        tail -n 20 "$out/$stage.txt" ;;
    esac
done
[ ${#failed[@]} -eq 0 ] || { echo "gpu.sh: failed: ${failed[*]}" >&2; exit 1; }
