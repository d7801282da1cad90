#version 460
// attend_sketch.comp where keys or values are by a codebook: a subgroup takes HEADS query heads of a query
// over a stretch of blocks. Scores: a lane has 64 / SUBGROUP rows of a block, whose codes are looked up in a
// table of products (vq_keys.glsl); or keys have codes by scales; or scores are given. Values: a lane has
// places of a row, each the numbers of a code, and where there are fewer places than lanes also a share of
// the rows; entries are weighed where they are looked up, rows are never written out. Queries come turned,
// outputs are turned back after the parts were joined.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint K_FORM = 0x408;  // vq.glsl; less than 256: bits of codes by scales
layout(constant_id = 3) const uint HEADS = 1;
layout(constant_id = 4) const uint V_FORM = 0x408;  // likewise
layout(constant_id = 5) const uint CHANNELS = 8;    // of a lane
layout(constant_id = 6) const uint FLAGS = 0;       // 1: scores are given, 2: rows are skipped
layout(constant_id = 7) const uint BOOK_WORDS = 0;  // of the values' codebook in shared memory; 0: read in place

layout(binding = 0) writeonly buffer Parts { float parts[]; };
layout(binding = 1) readonly buffer Q { float q[]; };
layout(binding = 2) readonly buffer Count { int n_blocks[]; };
layout(binding = 3) readonly buffer Score { float score[]; };
layout(binding = 4) readonly buffer Skip { int skip[]; };
layout(binding = 5) readonly buffer K { uint SK32[]; };
layout(binding = 6) readonly buffer V { uint SV32[]; };
layout(binding = 7) readonly buffer Table { float table[]; };
layout(binding = 7) readonly buffer Table_4 { vec4 table4[]; };
layout(binding = 8) readonly buffer Book { uint book[]; };
layout(push_constant) uniform Push {
    uint q_first, count_first, score_first, skip_first, k_first, v_first, table_first, book_first; // bytes
    uint n, query, n_heads, group, d, cap, cols; // n queries from `query` on; as attend_sketch.glsl
    uint head, heads, block, blocks;             // the window; score and table begin at its head
    uint splits, n_parts, part;                  // parts [part, part + splits) of n_parts
    uint n_skip;
    float scale, softcap;
};
#include "sketch.glsl"
#include "vq.glsl"
const uint MINE = BLOCK / SUBGROUP; // rows of a lane
const uint BITS = K_FORM > 0 && K_FORM < 256 ? K_FORM : 1;
#include "sketch_host.glsl"
const uint K_DIM = K_FORM < 256 ? 8 : K_FORM >> 8, K_BITS = K_FORM < 256 ? 8 : K_FORM & 255u;
#include "vq_keys.glsl"

const bool V_CODES = V_FORM < 256; // by scales
const uint V_BITS = V_FORM & 255u, DIM = V_CODES ? 1 : V_FORM >> 8;
const uint PLACES = CHANNELS / DIM; // of a lane
const uint V_MASK = (1u << V_BITS) - 1u;

shared float held[GROUP / SUBGROUP * HEADS * BLOCK]; // weights of a block's rows, each subgroup its own
shared uint entries[BOOK_WORDS > 0 ? BOOK_WORDS : 1];
float w[HEADS * 4];           // of four rows
float sums[HEADS * CHANNELS]; // (HEADS, PLACES, DIM)
uint my_held;

// The first place of a head's skip list whose row is at least `row`.
uint skip_from(uint list, int row) {
    uint low = 0, high = n_skip;
    while (low < high) {
        const uint middle = (low + high) / 2;
        const int value = skip[list + middle];
        if (value >= 0 && value < row) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

vec2 entry_of(uint word) {
    return halves_of(BOOK_WORDS > 0 ? entries[word] : book[book_first / 4 + word]);
}

// Four rows from t on, a multiple of 4, of the places of a lane from `first` on.
void add_entries(uint at, uint t, uint first) {
    [[unroll]] for (uint i = 0; i < HEADS * 4; i++) {
        w[i] = held[my_held + i / 4 * BLOCK + t + i % 4];
    }
    const uint bit = t * V_BITS, shift = bit & 31, last = d / DIM - 1;
    [[unroll]] for (uint j = 0; j < PLACES; j++) {
        const uint run = at + 1 + min(j * SUBGROUP + first, last) * 2 * V_BITS + bit / 32;
        uint low = SV32[run] >> shift, high = 0;
        if (V_BITS > 8) { // four codes are up to 48 bits
            high = SV32[run + 1];
            low |= shift > 0 ? high << (32 - shift) : 0u;
            high >>= shift;
        }
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint from = i * V_BITS;
            const uint code = (from >= 32 ? high >> (from & 31)
                                          : low >> from | (from + V_BITS > 32 ? high << (32 - from & 31) : 0u)) &
                              V_MASK;
            [[unroll]] for (uint e = 0; e < DIM; e += 2) {
                const vec2 two = entry_of((code * DIM + e) / 2);
                [[unroll]] for (uint r = 0; r < HEADS; r++) {
                    sums[(r * PLACES + j) * DIM + e] += w[r * 4 + i] * two.x;
                    sums[(r * PLACES + j) * DIM + (e + 1 < DIM ? e + 1 : 0)] += w[r * 4 + i] * two.y;
                }
            }
        }
    }
}

// A row whose values have codes by scales.
void add_codes(uint at, uint row) {
    const uint width = value_group(d), groups = d / width;
    [[unroll]] for (uint j = 0; j < PLACES; j++) {
        const uint c = min(j * SUBGROUP + lane_of(), d - 1);
        const vec2 header = halves_of(SV32[at + row * groups + c / width]);
        const uint bit = (row * d + c) * V_BITS;
        const float x = header.y + header.x * float(SV32[at + BLOCK * groups + bit / 32] >> (bit & 31) & V_MASK);
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            sums[r * PLACES + j] += held[my_held + r * BLOCK + row] * x;
        }
    }
}

void load_scores(uint local_head, uint piece, uint b, uint keys, uint mine) {
    if ((FLAGS & 1) != 0) {
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            const uint row = min(local_head * group + piece * HEADS + r, (local_head + 1) * group - 1);
            [[unroll]] for (uint k = 0; k < MINE; k++) {
                s[r * MINE + k] = score[score_first / 4 + row * cols + b * BLOCK + lane_of() * MINE + k];
            }
        }
        return;
    }
    if (K_FORM < 256) {
        score_block(k_first / 4 + keys * key_block_words(BITS, d), d);
    } else {
        score_places(k_first / 4 + keys * vq_block_words(K_FORM, d), mine, d);
    }
    [[unroll]] for (uint i = 0; i < HEADS * MINE; i++) {
        s[i] = cap_softly(s[i] * scale, softcap);
    }
}

void load_book() {
    for (uint i = gl_LocalInvocationIndex; i < BOOK_WORDS; i += GROUP) {
        entries[i] = book[book_first / 4 + i];
    }
    barrier();
}

void main() {
    if (BOOK_WORDS > 0) {
        load_book();
    }
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
    const uint mine = table_first / 4 + ((i * heads + local_head) * pieces + piece) * table_floats(d);
    // Lanes whose places are the same, a power of two apart, share the rows, four at least.
    uint span = SUBGROUP;
    while (!V_CODES && span / 2 >= d / DIM && SUBGROUP / span < BLOCK / 4) {
        span /= 2;
    }
    const uint phase_rows = BLOCK / (SUBGROUP / span), phase = lane / span;
    float most[HEADS], weights[HEADS];
    [[unroll]] for (uint r = 0; r < HEADS; r++) {
        q_at[r] = q_first / 4 + ((query + i) * n_heads + min(first_head + r, (head + local_head + 1) * group - 1)) * d;
        most[r] = -INFINITY;
        weights[r] = 0.0;
    }
    [[unroll]] for (uint at = 0; at < HEADS * CHANNELS; at++) {
        sums[at] = 0.0;
    }
    my_held = gl_SubgroupID * HEADS * BLOCK;
    const uint skips = skip_first / 4 + (head + local_head) * n_skip;
    uint next_skip = (FLAGS & 2) != 0 ? skip_from(skips, int(begin * BLOCK)) : 0;
    for (uint b = begin; b < stop; b++) {
        const uint there = local_head * cap + b - block;
        load_scores(local_head, piece, b, there, mine);
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
        const uint v_at = v_first / 4 + there * (V_CODES ? value_block_words(V_BITS, d) : vq_block_words(V_FORM, d));
        const float v_scale = V_CODES ? 1.0 : half_of(SV32[v_at] & 0xffffu);
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            float best = most[r];
            [[unroll]] for (uint k = 0; k < MINE; k++) {
                s[r * MINE + k] = (mine_out >> k & 1u) != 0 ? -INFINITY : s[r * MINE + k];
                best = max(best, s[r * MINE + k]);
            }
            best = subgroupMax(best);
            if (best > most[r]) {
                const float shrink = most[r] == -INFINITY ? 0.0 : exp_of(most[r] - best);
                weights[r] *= shrink;
                [[unroll]] for (uint at = 0; at < CHANNELS; at++) {
                    sums[r * CHANNELS + at] *= shrink;
                }
                most[r] = best;
            }
            [[unroll]] for (uint k = 0; k < MINE; k++) {
                const float its = s[r * MINE + k], weight = its == -INFINITY ? 0.0 : exp_of(its - best);
                held[my_held + r * BLOCK + lane * MINE + k] = weight * v_scale;
                weights[r] += weight;
            }
        }
        subgroupBarrier();
        if (V_CODES) {
            for (uint t = 0; t < BLOCK; t++) {
                add_codes(v_at, t);
            }
        } else {
            for (uint t = phase * phase_rows; t < (phase + 1) * phase_rows; t += 4) {
                add_entries(v_at, t, lane % span);
            }
        }
        subgroupBarrier();
    }
    for (uint apart = span; apart < SUBGROUP; apart *= 2) {
        [[unroll]] for (uint at = 0; at < HEADS * CHANNELS; at++) {
            sums[at] += subgroupShuffleXor(sums[at], apart);
        }
    }
    [[unroll]] for (uint r = 0; r < HEADS; r++) {
        const float all = subgroupAdd(weights[r]);
        if (piece * HEADS + r >= group) {
            continue;
        }
        const uint to = (((query + i) * n_heads + first_head + r) * n_parts + part + split) * (d + 2);
        if (lane == 0) {
            parts[to] = most[r];
            parts[to + 1] = all;
        }
        [[unroll]] for (uint at = 0; at < CHANNELS; at++) {
            const uint c = (at / DIM * SUBGROUP + lane % span) * DIM + at % DIM;
            if (phase == 0 && c < d) {
                parts[to + 2 + c] = sums[r * CHANNELS + at];
            }
        }
    }
}
