#version 460
// attend.comp for a driver that computes on the host: the same parts of the same task in the same way, but
// what is loaded is loaded by 16 bytes wherever rows begin there, the queries once, by all lanes together,
// since there a load is a loop over lanes and what it loads costs little more. Loops that grow stay loops:
// code that does not fit its caches is slow, and slow to compile.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint K_DTYPE = 1;
layout(constant_id = 3) const uint V_DTYPE = 1;
layout(constant_id = 4) const uint ROWS = 1;
layout(constant_id = 5) const uint HELD = 2; // vectors of a query that a lane holds: all have d numbers or more
layout(constant_id = 6) const uint SLOTS = 0;
layout(constant_id = 7) const uint WIDE = 0; // 1: keys, 2: values begin at 16 bytes, row by row

#include "attend.glsl"
layout(binding = 1) readonly buffer Q_4 { vec4 q4[]; };
layout(binding = 4) readonly buffer K_128 { uvec4 K128[]; };
layout(binding = 5) readonly buffer V_128 { uvec4 V128[]; };
#include "kv.glsl"
#include "kv_host.glsl"

const uint MINE = (HELD + 1) / 2;              // eights of channels that a lane sums
vec4 held[ROWS * HELD], sums[ROWS * 2 * MINE]; // arrays of such sizes stay outside functions: key_codes.glsl

// The lanes' shares of a query; zeros behind its end.
void hold_query(uint r, uint from) {
    [[unroll]] for (uint j = 0; j < HELD; j++) {
        const uint c = 4 * (j * SUBGROUP + lane_of());
        vec4 some;
        if ((WIDE & 4) != 0) {
            some = q4[(from + min(c, d - 4)) >> 2];
        } else {
            [[unroll]] for (uint e = 0; e < 4; e++) {
                some[e] = q[from + min(c + e, d - 1)];
            }
        }
        [[unroll]] for (uint e = 0; e < 4; e++) {
            held[r * HELD + j][e] = c + e < d ? some[e] : 0.0;
        }
    }
}

void main() {
    const uint lane = lane_of(), pieces = (group + chunk - 1) / chunk;
    const uint tiles = (n + queries - 1) / queries, team = team_of();
    if (team >= splits * pieces * heads * tiles) {
        return;
    }
    const uint split = team % splits, piece = team / splits % pieces;
    const uint local_head = team / splits / pieces % heads, tile = team / splits / pieces / heads;
    const uint kv_head = head + local_head;
    task tasks[ROWS];
    int lo = 0x7fffffff, hi = 0;
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        tasks[r] = task_of(r, tile, kv_head, piece);
        if (tasks[r].live && tasks[r].first < tasks[r].end) {
            lo = min(lo, tasks[r].first);
            hi = max(hi, tasks[r].end);
        }
        hold_query(r, q_first / 4 + (tasks[r].i * n_heads + tasks[r].h) * d);
    }
    lo = min(lo, hi);
    const uint stretch = (uint(hi - lo) + splits * SUBGROUP - 1) / (splits * SUBGROUP) * SUBGROUP;
    const uint begin = uint(lo) + split * stretch, stop = min(begin + stretch, uint(hi));

    float most[ROWS], weights[ROWS], p[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        most[r] = -INFINITY;
        weights[r] = 0.0;
        [[unroll]] for (uint j = 0; j < 2 * MINE; j++) {
            sums[r * 2 * MINE + j] = vec4(0.0);
        }
    }
    const uint eights = (d + 7) / 8;
    const uint k_bytes = kv_row_bytes(K_DTYPE, d), v_bytes = kv_row_bytes(V_DTYPE, d);
    for (uint base = begin; base < stop; base += SUBGROUP) {
        // Scores of SUBGROUP rows, one a lane.
        const uint t = base + lane;
        int at = int(min(t, stop - 1));
        bool live = t < stop;
        if (SLOTS != 0) {
            const int slot = slots[slot_first / 4 + kv_head * n_slots + uint(at)];
            at = slot + int(slot_row);
            live = live && slot >= 0 && at >= int(row) && at < int(row + rows);
        }
        const uint there = local_head * cap + (live ? uint(at) - row : 0);
        vec4 dots[ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            dots[r] = vec4(0.0);
        }
        [[unroll]] for (uint j = 0; j < HELD; j++) {
            for (uint l = 0; l < min(SUBGROUP, 2 * eights - j * SUBGROUP); l += 2) {
                vec4 a, b;
                keys_8(k_first + there * k_bytes, 4 * (j * SUBGROUP + l), a, b);
                [[unroll]] for (uint r = 0; r < ROWS; r++) {
                    dots[r] += a * subgroupBroadcast(held[r * HELD + j], l);
                    dots[r] += b * subgroupBroadcast(held[r * HELD + j], l + 1);
                }
            }
        }
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            const vec4 dot4 = dots[r];
            const float raw = cap_softly(((dot4.x + dot4.y) + (dot4.z + dot4.w)) * scale, softcap);
            const bool seen = live && tasks[r].live &&
                              (SLOTS != 0 || (int(t) >= tasks[r].first && int(t) < tasks[r].end));
            const float score = seen ? raw : -INFINITY;
            const float best = max(most[r], subgroupMax(score));
            const float shrink = most[r] == -INFINITY ? 0.0 : exp_of(most[r] - best);
            p[r] = seen ? exp_of(score - best) : 0.0;
            most[r] = best;
            weights[r] = weights[r] * shrink + p[r];
            [[unroll]] for (uint j = 0; j < 2 * MINE; j++) {
                sums[r * 2 * MINE + j] *= shrink;
            }
        }
        // Their values, eights of channels over the lanes.
        const uint last = min(SUBGROUP, stop - base);
        for (uint i = 0; i < last; i++) {
            const uint v_row = v_first + subgroupBroadcast(there, i) * v_bytes;
            float w[ROWS];
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                w[r] = subgroupBroadcast(p[r], i);
            }
            [[unroll]] for (uint j = 0; j < MINE; j++) {
                vec4 a, b;
                values_8(v_row, 8 * min(j * SUBGROUP + lane, eights - 1), a, b);
                [[unroll]] for (uint r = 0; r < ROWS; r++) {
                    sums[r * 2 * MINE + 2 * j] += w[r] * a;
                    sums[r * 2 * MINE + 2 * j + 1] += w[r] * b;
                }
            }
        }
    }
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        const float all = subgroupAdd(weights[r]);
        if (!tasks[r].live) {
            continue;
        }
        const uint to = ((tasks[r].i * n_heads + tasks[r].h) * n_parts + part + split) * (d + 2);
        if (lane == 0) {
            parts[to] = most[r];
            parts[to + 1] = all;
        }
        [[unroll]] for (uint j = 0; j < MINE; j++) {
            [[unroll]] for (uint e = 0; e < 8; e++) {
                const uint c = 8 * (j * SUBGROUP + lane) + e;
                if (c < d) {
                    parts[to + 2 + c] = sums[r * 2 * MINE + 2 * j + (e >> 2)][e & 3];
                }
            }
        }
    }
}
