#version 460
// Scores of compressed keys for one query: a subgroup takes a block of 64 rows for HEADS query heads of
// a KV head, and the blocks at some distance behind it. A lane has 64 / SUBGROUP rows; headers and, where
// the lanes' codes lie in one word, codes too are the same address for all lanes.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint BITS = 1;
layout(constant_id = 3) const uint HEADS = 1;

#include "key_score.glsl"
#include "key_codes.glsl"

void main() {
    const uint pieces = (group + HEADS - 1) / HEADS, team = team_of();
    if (team >= strides * pieces * heads) {
        return;
    }
    const uint stride = team % strides, piece = team / strides % pieces;
    const uint local_head = team / strides / pieces;
    const uint end = min(uint(max(n_blocks[count_first / 4], 0)), block + blocks);
    [[unroll]] for (uint r = 0; r < HEADS; r++) {
        q_at[r] = q_first / 4 + ((head + local_head) * group + min(piece * HEADS + r, group - 1)) * d;
    }
    for (uint b = block + stride; b < end; b += strides) {
        score_block(k_first / 4 + (local_head * cap + b - block) * key_block_words(BITS, d), d);
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            const uint row = local_head * group + piece * HEADS + r;
            if (piece * HEADS + r < group) {
                [[unroll]] for (uint k = 0; k < MINE; k++) {
                    score[score_first / 4 + row * cols + b * BLOCK + k * SUBGROUP + lane_of()] =
                        cap_softly(s[r * MINE + k] * scale, softcap);
                }
            }
        }
    }
}
