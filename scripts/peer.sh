#!/usr/bin/env bash
# For developers: builds the peer that bench/README.md measures against, the llama.cpp inside the newest
# llama-cpp-python, natively for this machine. Nothing of it enters Tailor.
#   scripts/peer.sh [FOLDER]     default build/peer; FOLDER/bin/llama-bench, FOLDER/bin/llama-quantize
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(realpath -m "${1:-build/peer}")
mkdir -p "$folder/sdist" "$folder/src"
if ! ls "$folder"/sdist/*.tar.gz >/dev/null 2>&1; then
    python3 -m venv "$folder/venv"
    "$folder/venv/bin/pip" -q download --no-deps --no-binary llama-cpp-python -d "$folder/sdist" llama-cpp-python
    tar -xzf "$folder"/sdist/*.tar.gz -C "$folder/src" --strip-components=1
fi
cmake -S "$folder/src/vendor/llama.cpp" -B "$folder/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DGGML_NATIVE=ON -DLLAMA_CURL=OFF -DBUILD_SHARED_LIBS=OFF >"$folder/configure.log"
cmake --build "$folder/build" --target llama-bench llama-quantize -j "$(nproc)" >"$folder/build.log"
ln -sfn build/bin "$folder/bin"
ls -l "$folder/bin/llama-bench"
