#version 460
// key_score.comp for keys by a codebook: a subgroup takes a block for HEADS query heads of a KV head, and the
// blocks at some distance behind it.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint K_FORM = 0x408; // vq.glsl
layout(constant_id = 3) const uint HEADS = 1;
const uint K_DIM = K_FORM >> 8, K_BITS = K_FORM & 255u;

layout(binding = 0) writeonly buffer Score { float score[]; };
layout(binding = 1) readonly buffer Table { float table[]; };
layout(binding = 1) readonly buffer Table_4 { vec4 table4[]; };
layout(binding = 2) readonly buffer Count { int n_blocks[]; };
layout(binding = 3) readonly buffer K { uint SK32[]; };
layout(push_constant) uniform Push {
    uint score_first, table_first, count_first, k_first; // bytes
    uint group, d, cap, cols;                            // cap: blocks of a head; cols: of score
    uint head, heads, block, blocks; // the window of the sketch; score and table begin at its head
    uint strides;                    // subgroups that share the blocks of a head
    float scale, softcap;
};
const uint BLOCK = 64;
const uint MINE = BLOCK / SUBGROUP; // rows of a lane
float s[HEADS * MINE];
#include "vq.glsl"
#include "vq_keys.glsl"

void main() {
    const uint lane = lane_of(), pieces = (group + HEADS - 1) / HEADS, team = team_of();
    if (team >= strides * pieces * heads) {
        return;
    }
    const uint stride = team % strides, piece = team / strides % pieces;
    const uint local_head = team / strides / pieces;
    const uint end = min(uint(max(n_blocks[count_first / 4], 0)), block + blocks);
    const uint mine = table_first / 4 + (local_head * pieces + piece) * table_floats(d);
    for (uint b = block + stride; b < end; b += strides) {
        score_places(k_first / 4 + (local_head * cap + b - block) * vq_block_words(K_FORM, d), mine, d);
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            if (piece * HEADS + r < group) {
                const uint row = local_head * group + piece * HEADS + r;
                [[unroll]] for (uint k = 0; k < MINE; k++) {
                    score[score_first / 4 + row * cols + b * BLOCK + lane * MINE + k] =
                        cap_softly(s[r * MINE + k] * scale, softcap);
                }
            }
        }
    }
}
