#!/bin/sh
# Writes the seeds of fuzz_session: small sessions of a small model, one a preset or so. To be run
# again when the format or the knobs of policies change (test_session_file says when).
#   tests/corpus/make_sessions.sh build/dev/tailor
set -eu
tailor=$1
cd "$(dirname "$0")/../.."
seeds=tests/corpus/session
rm -rf "$seeds"
mkdir -p "$seeds"

# seed NAME TOKENS OPTION...
seed() {
    name=$1 tokens=$2
    shift 2
    "$tailor" run -m tests/golden/smollm-9-3.gguf --ids "$(seq -s ' ' 1 "$tokens")" --prefill 100 \
        -n 0 -c 160 --seed 1 --session "$seeds/$name" "$@"
    chmod 644 "$seeds/$name"
}

seed full 12
seed offload 5 --kv offload
seed q8 3 --kv q8
seed kivi1 90 --kv kivi1 --kv-set recent=8 --temp 0
seed tailor 102 --kv tailor --kv-set recent=8,sink=4,topk=2,hot=4
seed tailor1 102 --kv tailor1 --kv-set recent=8,sink=4,topk=2,hot=4,channels=3
seed quest 80 --kv quest --kv-set recent=8,topk=16,hot=32,dense=none
