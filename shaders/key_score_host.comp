#version 460
// key_score.comp for a driver that computes on the host: sketch_host.glsl says why and how.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint BITS = 1;
layout(constant_id = 3) const uint HEADS = 1;
layout(constant_id = 4) const uint WIDE = 0; // scores of a block begin at 16 bytes

layout(binding = 0) writeonly buffer Score_4 { vec4 score4[]; };
#include "key_score.glsl"
#include "sketch_host.glsl"

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
                const uint to = score_first / 4 + row * cols + b * BLOCK + lane_of() * MINE;
                [[unroll]] for (uint k = 0; k < MINE; k++) {
                    s[r * MINE + k] = cap_softly(s[r * MINE + k] * scale, softcap);
                }
                [[unroll]] for (uint k = 0; k < MINE; k += 4) {
                    const vec4 four = vec4(s[r * MINE + k], s[r * MINE + k + 1], s[r * MINE + k + 2],
                                           s[r * MINE + k + 3]);
                    if (WIDE != 0) {
                        score4[(to + k) / 4] = four;
                    } else {
                        [[unroll]] for (uint e = 0; e < 4; e++) {
                            score[to + k + e] = four[e];
                        }
                    }
                }
            }
        }
    }
}
