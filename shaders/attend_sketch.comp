#version 460
// Attention over compressed rows, in part, as attend.comp is over exact ones and joined the same way: a
// subgroup takes HEADS query heads of a query over a stretch of blocks. Scores: a lane has 64 / SUBGROUP
// rows of a block. Values: a lane has channels. Rows named in skip are left out.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint BITS = 1;   // of keys
layout(constant_id = 3) const uint HEADS = 1;
layout(constant_id = 4) const uint V_BITS = 1;
layout(constant_id = 5) const uint CHANNELS = 8; // of a lane
layout(constant_id = 6) const uint FLAGS = 0;    // 1: scores are given, 2: rows are skipped
layout(constant_id = 7) const uint GROUPS = 0;   // of 64 channels, where d is so many; 0: odd widths

#include "attend_sketch.glsl"
const uint GROUPS_MAX = GROUPS > 0 ? GROUPS : 1;
#include "key_codes.glsl"

shared float held[GROUP / SUBGROUP * HEADS * BLOCK];        // weights of a block's rows, each subgroup its own
float w[HEADS];                                             // weights of the row
float sums[HEADS * CHANNELS], floors[HEADS * GROUPS_MAX];   // of weighted codes, and minimums

void add_values(uint at, uint row) {
    const uint mask = (1u << V_BITS) - 1u, lane = lane_of();
    if (GROUPS > 0) {
        const uint codes_at = at + BLOCK * GROUPS + row * (GROUPS * 2 * V_BITS);
        [[unroll]] for (uint g = 0; g < GROUPS_MAX; g++) {
            const vec2 header = halves_of(SV32[at + row * GROUPS + g]);
            float step[HEADS];
            [[unroll]] for (uint r = 0; r < HEADS; r++) {
                step[r] = w[r] * header.x;
                floors[r * GROUPS_MAX + g] += w[r] * header.y;
            }
            [[unroll]] for (uint k = 0; k < MINE; k++) {
                const uint bit = k * SUBGROUP * V_BITS;
                uint code;
                if (SUBGROUP * V_BITS <= 32) {
                    code = SV32[codes_at + g * 2 * V_BITS + bit / 32] >>
                           ((bit & 31) + lane * V_BITS) & mask;
                } else {
                    const uint mine = bit + lane * V_BITS;
                    code = SV32[codes_at + g * 2 * V_BITS + mine / 32] >> (mine & 31) & mask;
                }
                const float x = float(code);
                [[unroll]] for (uint r = 0; r < HEADS; r++) {
                    sums[r * CHANNELS + g * MINE + k] += step[r] * x;
                }
            }
        }
        return;
    }
    const uint width = value_group(d), groups = d / width;
    [[unroll]] for (uint j = 0; j < CHANNELS; j++) {
        const uint c = min(j * SUBGROUP + lane, d - 1);
        const vec2 header = halves_of(SV32[at + row * groups + c / width]);
        const uint bit = (row * d + c) * V_BITS;
        const uint code = SV32[at + BLOCK * groups + bit / 32] >> (bit & 31) & mask;
        const float value = header.y + header.x * float(code);
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            sums[r * CHANNELS + j] += w[r] * value;
        }
    }
}

void main() {
    const uint lane = lane_of(), pieces = (group + HEADS - 1) / HEADS, team = team_of();
    if (team >= splits * pieces * heads * n) {
        return;
    }
    const uint split = team % splits, piece = team / splits % pieces;
    const uint local_head = team / splits / pieces % heads, i = team / splits / pieces / heads;
    const uint first_head = (head + local_head) * group + piece * HEADS;
    const uint end = min(uint(max(n_blocks[count_first / 4], 0)), block + blocks);
    const uint seen = end > block ? end - block : 0, stretch = (seen + splits - 1) / splits;
    const uint begin = block + split * stretch, stop = min(begin + stretch, end);
    float most[HEADS], weights[HEADS];
    [[unroll]] for (uint r = 0; r < HEADS; r++) {
        const uint h = min(first_head + r, (head + local_head + 1) * group - 1);
        q_at[r] = q_first / 4 + (i * n_heads + h) * d;
        most[r] = -INFINITY;
        weights[r] = 0.0;
        [[unroll]] for (uint j = 0; j < CHANNELS; j++) {
            sums[r * CHANNELS + j] = 0.0;
        }
        [[unroll]] for (uint g = 0; g < GROUPS_MAX; g++) {
            floors[r * GROUPS_MAX + g] = 0.0;
        }
    }
    const uint my_held = gl_SubgroupID * HEADS * BLOCK;
    const uint skips = skip_first / 4 + (head + local_head) * n_skip;
    uint next_skip = (FLAGS & 2) != 0 ? skip_from(skips, int(begin * BLOCK)) : 0;
    for (uint b = begin; b < stop; b++) {
        const uint there = local_head * cap + b - block;
        if ((FLAGS & 1) != 0) {
            [[unroll]] for (uint r = 0; r < HEADS; r++) {
                const uint row = min(local_head * group + piece * HEADS + r, (local_head + 1) * group - 1);
                [[unroll]] for (uint k = 0; k < MINE; k++) {
                    s[r * MINE + k] = score[score_first / 4 + row * cols + b * BLOCK + k * SUBGROUP + lane];
                }
            }
        } else {
            score_block(k_first / 4 + there * key_block_words(BITS, d), d);
            [[unroll]] for (uint at = 0; at < HEADS * MINE; at++) {
                s[at] = cap_softly(s[at] * scale, softcap);
            }
        }
        uvec2 left_out = uvec2(0);
        while ((FLAGS & 2) != 0 && next_skip < n_skip) {
            const int row = skip[skips + next_skip];
            if (row < 0 || row >= int((b + 1) * BLOCK)) {
                break;
            }
            const uint t = uint(row) & 63u;
            left_out[t / 32] |= 1u << (t & 31);
            next_skip++;
        }
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            float best = most[r];
            [[unroll]] for (uint k = 0; k < MINE; k++) {
                const uint t = k * SUBGROUP + lane;
                const bool out_of_it = (left_out[t / 32] >> (t & 31) & 1u) != 0;
                s[r * MINE + k] = out_of_it ? -INFINITY : s[r * MINE + k];
                best = max(best, s[r * MINE + k]);
            }
            best = subgroupMax(best);
            if (best > most[r]) {
                const float shrink = most[r] == -INFINITY ? 0.0 : exp_of(most[r] - best);
                weights[r] *= shrink;
                [[unroll]] for (uint j = 0; j < CHANNELS; j++) {
                    sums[r * CHANNELS + j] *= shrink;
                }
                [[unroll]] for (uint g = 0; g < GROUPS_MAX; g++) {
                    floors[r * GROUPS_MAX + g] *= shrink;
                }
                most[r] = best;
            }
            [[unroll]] for (uint k = 0; k < MINE; k++) {
                const float score_here = s[r * MINE + k];
                const float weight = score_here == -INFINITY ? 0.0 : exp_of(score_here - best);
                held[my_held + r * BLOCK + k * SUBGROUP + lane] = weight;
                weights[r] += weight;
            }
        }
        const uint v_at = v_first / 4 + there * value_block_words(V_BITS, d);
        subgroupBarrier();
        for (uint t = 0; t < BLOCK; t++) {
            [[unroll]] for (uint r = 0; r < HEADS; r++) {
                w[r] = held[my_held + r * BLOCK + t];
            }
            add_values(v_at, t);
        }
        subgroupBarrier();
    }
    [[unroll]] for (uint r = 0; r < HEADS; r++) {
        const float all = subgroupAdd(weights[r]);
        if (piece * HEADS + r >= group) {
            continue;
        }
        const uint to = ((i * n_heads + first_head + r) * n_parts + part + split) * (d + 2);
        if (lane == 0) {
            parts[to] = most[r];
            parts[to + 1] = all;
        }
        [[unroll]] for (uint j = 0; j < CHANNELS; j++) {
            const uint c = j * SUBGROUP + lane;
            if (c < d) {
                parts[to + 2 + c] = sums[r * CHANNELS + j] +
                                    (GROUPS > 0 ? floors[r * GROUPS_MAX + min(j / MINE, GROUPS_MAX - 1)] : 0.0);
            }
        }
    }
}
