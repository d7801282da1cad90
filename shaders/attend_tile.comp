#version 460
// Attention of many queries over exact rows on hardware, in part as in attend.comp: a workgroup takes ROWS
// query heads (those that share a KV head, of some queries) and walks its stretch of the cache COLS rows
// at a time. Scores, weights and what is added up of a step are tiles in shared memory and registers; no
// matrix of scores is ever in memory. An invocation has 4 rows by 4 columns of each tile, and of its rows
// the running maximum, its own columns' share of the weights, and 4 channels of each UNIT of the sums.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 2) const uint K_DTYPE = 1;
layout(constant_id = 3) const uint V_DTYPE = 1;
layout(constant_id = 4) const uint UNITS = 4; // of channels: d / UNIT, rounded up
const uint SLOTS = 0;

#include "attend.glsl"
#include "kv.glsl"

// GROUP is ACROSS * ACROSS.
const uint ROWS = 32, COLS = 32, UNIT = 32, ACROSS = 8, PITCH = 33;
shared float q_tile[UNIT * PITCH];  // by channel, then row
shared float kv_tile[UNIT * PITCH]; // keys by channel, then column; values by column, then channel
shared float p_tile[COLS * PITCH];  // by column, then row
shared float edge[ROWS * ACROSS];   // what the invocations of a row tell each other
shared int first_of[ROWS], end_of[ROWS];
shared uint head_of[ROWS]; // i * n_heads + h

void load_queries(uint unit) {
    for (uint at = gl_LocalInvocationID.x; at < ROWS * UNIT; at += GROUP) {
        const uint r = at / UNIT, c = unit * UNIT + at % UNIT;
        const float x = q[q_first / 4 + head_of[r] * d + min(c, d - 1)];
        q_tile[at % UNIT * PITCH + r] = c < d ? x : 0.0;
    }
}

// Rows from `base` of the window's head that begins at row `head_row`; behind `stop` the last again.
void load_keys(uint unit, uint base, uint stop, uint head_row) {
    const uint row_bytes = kv_row_bytes(K_DTYPE, d);
    for (uint at = gl_LocalInvocationID.x; at < COLS * UNIT / 8; at += GROUP) {
        const uint t = at % COLS, e = at / COLS * 8, c = unit * UNIT + e;
        vec4 a = vec4(0.0), b = vec4(0.0);
        if (c < d) {
            keys_at(k_first + (head_row + min(base + t, stop - 1) - row) * row_bytes, c, d, a, b);
        }
        [[unroll]] for (uint i = 0; i < 4; i++) {
            kv_tile[(e + i) * PITCH + t] = a[i];
            kv_tile[(e + 4 + i) * PITCH + t] = b[i];
        }
    }
}

void load_values(uint unit, uint base, uint stop, uint head_row) {
    const uint row_bytes = kv_row_bytes(V_DTYPE, d);
    for (uint at = gl_LocalInvocationID.x; at < COLS * UNIT / 2; at += GROUP) {
        const uint e = at % (UNIT / 2) * 2, t = at / (UNIT / 2), c = unit * UNIT + e;
        const vec2 v = values_at(v_first + (head_row + min(base + t, stop - 1) - row) * row_bytes,
                                 min(c, d - 2));
        const bool live = base + t < stop && c < d;
        kv_tile[t * PITCH + e] = live ? v.x : 0.0;
        kv_tile[t * PITCH + e + 1] = live ? v.y : 0.0;
    }
}

vec4 four(uint from) { // of kv_tile
    return vec4(kv_tile[from], kv_tile[from + ACROSS], kv_tile[from + 2 * ACROSS],
                kv_tile[from + 3 * ACROSS]);
}

// What all invocations of a row agree on: the largest or the sum of their numbers.
float largest(uint r) {
    float best = edge[r * ACROSS];
    [[unroll]] for (uint i = 1; i < ACROSS; i++) {
        best = max(best, edge[r * ACROSS + i]);
    }
    return best;
}

float total(uint r) {
    float sum = 0.0;
    [[unroll]] for (uint i = 0; i < ACROSS; i++) {
        sum += edge[r * ACROSS + i];
    }
    return sum;
}

void main() {
    const uint id = gl_LocalInvocationID.x, across = id % ACROSS, down = id / ACROSS;
    const uint pieces = (group + chunk - 1) / chunk, me = gl_WorkGroupID.x;
    const uint split = me % splits, piece = me / splits % pieces;
    const uint local_head = me / splits / pieces % heads, tile = me / splits / pieces / heads;
    const uint head_row = local_head * cap;
    for (uint r = id; r < ROWS; r += GROUP) {
        const task t = task_of(r, tile, head + local_head, piece);
        first_of[r] = t.first;
        end_of[r] = t.live ? t.end : 0;
        head_of[r] = t.i * n_heads + t.h;
    }
    barrier();
    int lo = 0x7fffffff, hi = 0;
    for (uint r = 0; r < ROWS; r++) {
        if (first_of[r] < end_of[r]) {
            lo = min(lo, first_of[r]);
            hi = max(hi, end_of[r]);
        }
    }
    lo = min(lo, hi);
    const uint stretch = (uint(hi - lo) + splits * COLS - 1) / (splits * COLS) * COLS;
    const uint begin = uint(lo) + split * stretch, stop = min(begin + stretch, uint(hi));

    float most[4], weights[4];
    vec4 sums[UNITS * 4];
    [[unroll]] for (uint i = 0; i < 4; i++) {
        most[i] = -INFINITY;
        weights[i] = 0.0;
        [[unroll]] for (uint u = 0; u < UNITS; u++) {
            sums[u * 4 + i] = vec4(0.0);
        }
    }
    for (uint base = begin; base < stop; base += COLS) {
        vec4 s[4];
        [[unroll]] for (uint i = 0; i < 4; i++) {
            s[i] = vec4(0.0);
        }
        for (uint unit = 0; unit < UNITS; unit++) {
            load_queries(unit);
            load_keys(unit, base, stop, head_row);
            barrier();
            for (uint e = 0; e < UNIT; e++) {
                const vec4 k = four(e * PITCH + across);
                [[unroll]] for (uint i = 0; i < 4; i++) {
                    s[i] += q_tile[e * PITCH + down + i * ACROSS] * k;
                }
            }
            barrier();
        }
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint r = down + i * ACROSS;
            float best = -INFINITY;
            [[unroll]] for (uint j = 0; j < 4; j++) {
                const int t = int(base + across + j * ACROSS);
                const bool seen = t < int(stop) && t >= first_of[r] && t < end_of[r];
                s[i][j] = seen ? cap_softly(s[i][j] * scale, softcap) : -INFINITY;
                best = max(best, s[i][j]);
            }
            edge[r * ACROSS + across] = best;
        }
        barrier();
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint r = down + i * ACROSS;
            const float best = max(most[i], largest(r));
            const float shrink = most[i] == -INFINITY ? 0.0 : exp_of(most[i] - best);
            weights[i] *= shrink;
            [[unroll]] for (uint j = 0; j < 4; j++) {
                const float p = s[i][j] == -INFINITY ? 0.0 : exp_of(s[i][j] - best);
                p_tile[(across + j * ACROSS) * PITCH + r] = p;
                weights[i] += p;
            }
            [[unroll]] for (uint u = 0; u < UNITS; u++) {
                sums[u * 4 + i] *= shrink;
            }
            most[i] = best;
        }
        [[unroll]] for (uint u = 0; u < UNITS; u++) {
            load_values(u, base, stop, head_row);
            barrier();
            for (uint t = 0; t < COLS; t++) {
                const vec4 v = four(t * PITCH + across);
                [[unroll]] for (uint i = 0; i < 4; i++) {
                    sums[u * 4 + i] += p_tile[t * PITCH + down + i * ACROSS] * v;
                }
            }
            barrier();
        }
    }
    [[unroll]] for (uint i = 0; i < 4; i++) {
        edge[(down + i * ACROSS) * ACROSS + across] = weights[i];
    }
    barrier();
    [[unroll]] for (uint i = 0; i < 4; i++) {
        const uint r = down + i * ACROSS;
        if (!task_of(r, tile, head + local_head, piece).live) {
            continue;
        }
        const uint to = (head_of[r] * n_parts + part + split) * (d + 2);
        if (across == 0) {
            parts[to] = most[i];
            parts[to + 1] = total(r);
        }
        [[unroll]] for (uint u = 0; u < UNITS; u++) {
            [[unroll]] for (uint j = 0; j < 4; j++) {
                const uint c = u * UNIT + across + j * ACROSS;
                if (c < d) {
                    parts[to + 2 + c] = sums[u * 4 + i][j];
                }
            }
        }
    }
}
