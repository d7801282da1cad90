#version 460
// attend_sketch.comp for a driver that computes on the host: the same parts of the same task, but a lane has
// rows to itself in both products, MINE of a block, with a maximum and sums of its own, which meet those of
// the other lanes at the end. So a load brings codes of a whole row, and no weight is handed round.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint BITS = 1; // of keys
layout(constant_id = 3) const uint HEADS = 1;
layout(constant_id = 4) const uint V_BITS = 1;
layout(constant_id = 5) const uint DIM = 64;
layout(constant_id = 6) const uint FLAGS = 0; // 1: scores are given, 2: rows are skipped
layout(constant_id = 7) const uint WIDE = 0;  // 1: scores, 2: codes of a row begin at 16 bytes, 4: these at 8

layout(binding = 3) readonly buffer Score_4 { vec4 score4[]; };
layout(binding = 6) readonly buffer V_64 { uvec2 V64[]; };
layout(binding = 6) readonly buffer V_128 { uvec4 V128[]; };
#include "attend_sketch.glsl"
#include "sketch_host.glsl"

const uint ROW_BITS = DIM * V_BITS, WORDS = (ROW_BITS + 31) / 32; // of a row's codes
const uint WIDTH = DIM % 64 == 0 ? 64 : DIM < 64 ? DIM : 0;       // channels of a header; 0: value_group's
const uint GROUPS = WIDTH > 0 ? DIM / WIDTH : 1;
float w[HEADS], step[HEADS];                     // of a row: weights, and those times the scale
float sums[HEADS * DIM], floors[HEADS * GROUPS]; // of weighted codes, and minimums
uint codes[WORDS];

// The codes of a row, from bit 0 on.
void load_codes(uint at, uint row) {
    const uint bit = row * ROW_BITS, first = at + bit / 32;
    if ((WIDE & 2) != 0) {
        [[unroll]] for (uint i = 0; i < WORDS; i += 4) {
            const uvec4 four = V128[(first + i) / 4];
            [[unroll]] for (uint e = 0; e < 4; e++) {
                codes[i + e] = four[e];
            }
        }
    } else if ((WIDE & 4) != 0) {
        [[unroll]] for (uint i = 0; i < WORDS; i += 2) {
            const uvec2 two = V64[(first + i) / 2];
            codes[i] = two.x;
            codes[i + 1] = two.y;
        }
    } else {
        [[unroll]] for (uint i = 0; i < WORDS; i++) {
            codes[i] = SV32[first + i];
        }
        if (ROW_BITS % 32 != 0) { // rows begin at bytes, so the last word is followed by another of the block's
            const uint shift = bit & 31, last = SV32[first + WORDS - (shift + ROW_BITS > WORDS * 32 ? 0 : 1)];
            [[unroll]] for (uint i = 0; i < WORDS; i++) {
                const uint next = i + 1 < WORDS ? codes[min(i + 1, WORDS - 1)] : last;
                codes[i] = shift == 0 ? codes[i] : codes[i] >> shift | next << (32 - shift);
            }
        }
    }
}

void add_values(uint at, uint row) {
    const uint width = WIDTH > 0 ? WIDTH : value_group(DIM), groups = WIDTH > 0 ? GROUPS : DIM / width;
    const uint mask = (1u << V_BITS) - 1u;
    load_codes(at + BLOCK * groups, row);
    if (WIDTH > 0) {
        [[unroll]] for (uint g = 0; g < GROUPS; g++) {
            const vec2 header = halves_of(SV32[at + row * groups + g]);
            [[unroll]] for (uint r = 0; r < HEADS; r++) {
                step[r] = w[r] * header.x;
                floors[r * GROUPS + g] += w[r] * header.y;
            }
            [[unroll]] for (uint i = 0; i < WIDTH; i++) {
                const uint c = g * WIDTH + i;
                const float x = float(codes[c * V_BITS / 32] >> (c * V_BITS & 31) & mask);
                [[unroll]] for (uint r = 0; r < HEADS; r++) {
                    sums[r * DIM + c] += step[r] * x;
                }
            }
        }
        return;
    }
    [[unroll]] for (uint c = 0; c < DIM; c++) {
        const vec2 header = halves_of(SV32[at + row * groups + c / width]);
        const float x = float(codes[c * V_BITS / 32] >> (c * V_BITS & 31) & mask);
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            sums[r * DIM + c] += w[r] * (header.x * x + header.y);
        }
    }
}

void load_scores(uint r, uint from) {
    [[unroll]] for (uint k = 0; k < MINE; k += 4) {
        vec4 four;
        if ((WIDE & 1) != 0) {
            four = score4[(from + k) / 4];
        } else {
            [[unroll]] for (uint e = 0; e < 4; e++) {
                four[e] = score[from + k + e];
            }
        }
        [[unroll]] for (uint e = 0; e < 4; e++) {
            s[r * MINE + k + e] = four[e];
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
        q_at[r] = q_first / 4 + (i * n_heads + h) * DIM;
        most[r] = -INFINITY;
        weights[r] = 0.0;
        [[unroll]] for (uint c = 0; c < DIM; c++) {
            sums[r * DIM + c] = 0.0;
        }
        [[unroll]] for (uint g = 0; g < GROUPS; g++) {
            floors[r * GROUPS + g] = 0.0;
        }
    }
    const uint skips = skip_first / 4 + (head + local_head) * n_skip;
    uint next_skip = (FLAGS & 2) != 0 ? skip_from(skips, int(begin * BLOCK)) : 0;
    for (uint b = begin; b < stop; b++) {
        const uint there = local_head * cap + b - block;
        if ((FLAGS & 1) != 0) {
            [[unroll]] for (uint r = 0; r < HEADS; r++) {
                const uint row = min(local_head * group + piece * HEADS + r, (local_head + 1) * group - 1);
                load_scores(r, score_first / 4 + row * cols + b * BLOCK + lane * MINE);
            }
        } else {
            score_block(k_first / 4 + there * key_block_words(BITS, DIM), DIM);
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
            const uint t = uint(row) & 63u, one = 1u << (t & 31);
            left_out |= t < 32 ? uvec2(one, 0) : uvec2(0, one);
            next_skip++;
        }
        const uint mine_out = (lane * MINE < 32 ? left_out.x : left_out.y) >> (lane * MINE & 31);
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            float best = most[r];
            [[unroll]] for (uint k = 0; k < MINE; k++) {
                s[r * MINE + k] = (mine_out >> k & 1u) != 0 ? -INFINITY : s[r * MINE + k];
                best = max(best, s[r * MINE + k]);
            }
            const float shrink = most[r] == -INFINITY ? 0.0 : exp_of(most[r] - best);
            most[r] = best;
            weights[r] *= shrink;
            [[unroll]] for (uint c = 0; c < DIM; c++) {
                sums[r * DIM + c] *= shrink;
            }
            [[unroll]] for (uint g = 0; g < GROUPS; g++) {
                floors[r * GROUPS + g] *= shrink;
            }
            [[unroll]] for (uint k = 0; k < MINE; k++) {
                const float its = s[r * MINE + k];
                s[r * MINE + k] = its == -INFINITY ? 0.0 : exp_of(its - best);
                weights[r] += s[r * MINE + k];
            }
        }
        const uint v_at = v_first / 4 + there * value_block_words(V_BITS, DIM);
        for (uint t = 0; t < MINE; t++) {
            [[unroll]] for (uint r = 0; r < HEADS; r++) {
                w[r] = s[r * MINE];
                [[unroll]] for (uint k = 1; k < MINE; k++) {
                    w[r] = t == k ? s[r * MINE + k] : w[r];
                }
            }
            add_values(v_at, lane * MINE + t);
        }
    }
    [[unroll]] for (uint r = 0; r < HEADS; r++) {
        const float best = subgroupMax(most[r]);
        const float share = most[r] == -INFINITY ? 0.0 : exp_of(most[r] - best);
        const float all = subgroupAdd(weights[r] * share);
        const bool live = piece * HEADS + r < group;
        const uint to = ((i * n_heads + first_head + r) * n_parts + part + split) * (DIM + 2);
        if (lane == 0 && live) {
            parts[to] = best;
            parts[to + 1] = all;
        }
        float totals[DIM];
        [[unroll]] for (uint c = 0; c < DIM; c++) {
            sums[r * DIM + c] = (sums[r * DIM + c] + floors[r * GROUPS + (WIDTH > 0 ? c / WIDTH : 0)]) * share;
            totals[c] = 0.0;
        }
        for (uint l = 0; l < SUBGROUP; l++) { // a loop: its code is a good part of all
            [[unroll]] for (uint c = 0; c < DIM; c++) {
                totals[c] += subgroupBroadcast(sums[r * DIM + c], l);
            }
        }
        [[unroll]] for (uint c = 0; c < DIM; c += SUBGROUP) {
            float mine = 0.0;
            [[unroll]] for (uint e = 0; e < SUBGROUP; e++) {
                mine = lane == e && c + e < DIM ? totals[min(c + e, DIM - 1)] : mine;
            }
            if (c + lane < DIM && live) {
                parts[to + 2 + c + lane] = mine;
            }
        }
    }
}
