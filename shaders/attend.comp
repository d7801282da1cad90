#version 460
// Attention over exact rows, in part: a subgroup takes ROWS query heads (those that share a KV head, of
// a few queries) over a stretch of the cache, and leaves the running maximum, the sum of weights and the
// weighted sum of values; attend_join.comp makes one of all parts. Scores: a lane has a row. Values: a
// lane has channels. With SLOTS rows are named one by one. A window of the cache is bound: heads
// [head, head + heads), and of each the rows [row, row + rows).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint K_DTYPE = 1;
layout(constant_id = 3) const uint V_DTYPE = 1;
layout(constant_id = 4) const uint ROWS = 1;
layout(constant_id = 5) const uint PAIRS = 4; // of channels, a lane
layout(constant_id = 6) const uint SLOTS = 0;

#include "attend.glsl"
#include "kv.glsl"

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
    }
    lo = min(lo, hi);
    const uint stretch = (uint(hi - lo) + splits * SUBGROUP - 1) / (splits * SUBGROUP) * SUBGROUP;
    const uint begin = uint(lo) + split * stretch, stop = min(begin + stretch, uint(hi));

    float most[ROWS], weights[ROWS], p[ROWS];
    vec2 sums[ROWS * PAIRS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        most[r] = -INFINITY;
        weights[r] = 0.0;
        [[unroll]] for (uint j = 0; j < PAIRS; j++) {
            sums[r * PAIRS + j] = vec2(0.0);
        }
    }
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
        vec4 s[ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            s[r] = vec4(0.0);
        }
        for (uint c = 0; c < d; c += 8) {
            vec4 a, b;
            keys_at(k_first + there * k_bytes, c, d, a, b);
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                const uint from = q_first / 4 + (tasks[r].i * n_heads + tasks[r].h) * d + c;
                if (c + 8 <= d) {
                    s[r] += a * vec4(q[from], q[from + 1], q[from + 2], q[from + 3]);
                    s[r] += b * vec4(q[from + 4], q[from + 5], q[from + 6], q[from + 7]);
                } else {
                    // A fixed count: around a loop of any other the one over r would stay a loop.
                    [[unroll]] for (uint e = 0; e < 7; e++) {
                        if (c + e < d) {
                            s[r].x += q[from + e] * (e < 4 ? a[e] : b[e - 4]);
                        }
                    }
                }
            }
        }
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            const float raw = cap_softly(((s[r].x + s[r].y) + (s[r].z + s[r].w)) * scale, softcap);
            const bool seen = live && tasks[r].live &&
                              (SLOTS != 0 || (int(t) >= tasks[r].first && int(t) < tasks[r].end));
            const float score = seen ? raw : -INFINITY;
            const float best = max(most[r], subgroupMax(score));
            p[r] = seen ? exp_of(score - best) : 0.0;
            if (best > most[r]) {
                const float shrink = most[r] == -INFINITY ? 0.0 : exp_of(most[r] - best);
                weights[r] *= shrink;
                [[unroll]] for (uint j = 0; j < PAIRS; j++) {
                    sums[r * PAIRS + j] *= shrink;
                }
                most[r] = best;
            }
            weights[r] += p[r];
        }
        // Their values, channel pairs over the lanes.
        const uint last = min(SUBGROUP, stop - base);
        for (uint i = 0; i < last; i++) {
            const uint v_row = v_first + subgroupBroadcast(there, i) * v_bytes;
            float w[ROWS];
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                w[r] = subgroupBroadcast(p[r], i);
            }
            [[unroll]] for (uint j = 0; j < PAIRS; j++) {
                const uint c = 2 * (lane + j * SUBGROUP);
                const vec2 v = values_at(v_row, min(c, d - 2));
                [[unroll]] for (uint r = 0; r < ROWS; r++) {
                    sums[r * PAIRS + j] += w[r] * v;
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
        [[unroll]] for (uint j = 0; j < PAIRS; j++) {
            const uint c = 2 * (lane + j * SUBGROUP);
            if (c < d) {
                parts[to + 2 + c] = sums[r * PAIRS + j].x;
                parts[to + 3 + c] = sums[r * PAIRS + j].y;
            }
        }
    }
}
