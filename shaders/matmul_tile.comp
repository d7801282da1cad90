#version 460
// y (+)= x w^T + bias for many rows of x on hardware: a workgroup makes a tile of y, ROWS columns by
// GROUP / 4 tokens; of w and x UNIT elements of each row at a time lie in shared memory, decoded, and
// an invocation sums 4 columns for 4 tokens, so that what it reads there serves four times.
// GROUP is a multiple of 64.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "matmul.glsl"

const uint ROWS = 64, ACROSS = ROWS / 4, DOWN = GROUP / ACROSS, TOKENS = 4 * DOWN;
shared float w_tile[UNIT * ROWS], x_tile[UNIT * (TOKENS + 1)];

// One unit of each row of w, and of each row of x. Rows behind the last repeat it, elements behind the last
// are zeros.
void load(uint unit, uint row0, uint token0) {
    const uint id = gl_LocalInvocationID.x;
    for (uint r = id; r < ROWS; r += GROUP) {
        float v[32];
        decode(w_first + min(row0 + r, cols - 1) * row_bytes(k), unit, k, v);
        [[unroll]] for (uint e = 0; e < UNIT; e++) {
            w_tile[e * ROWS + r] = v[e];
        }
    }
    for (uint i = id; i < UNIT * TOKENS; i += GROUP) {
        const uint token = i / UNIT, e = unit * UNIT + i % UNIT;
        const float loaded = x[x_first / 4 + min(token0 + token, n - 1) * k + min(e, k - 1)];
        x_tile[i % UNIT * (TOKENS + 1) + token] = e < k ? loaded : 0.0;
    }
}

void main() {
    const uint across = gl_LocalInvocationID.x % ACROSS, down = gl_LocalInvocationID.x / ACROSS;
    const uint row0 = gl_WorkGroupID.x * ROWS, token0 = gl_WorkGroupID.y * TOKENS;
    vec4 sums[4]; // a column each, of 4 tokens
    [[unroll]] for (uint r = 0; r < 4; r++) {
        sums[r] = vec4(0.0);
    }
    for (uint unit = 0; unit < (k + UNIT - 1) / UNIT; unit++) {
        load(unit, row0, token0);
        barrier();
        for (uint e = 0; e < UNIT; e++) {
            vec4 tokens;
            [[unroll]] for (uint t = 0; t < 4; t++) {
                tokens[t] = x_tile[e * (TOKENS + 1) + down + t * DOWN];
            }
            [[unroll]] for (uint r = 0; r < 4; r++) {
                sums[r] += tokens * w_tile[e * ROWS + across + r * ACROSS];
            }
        }
        barrier();
    }
    [[unroll]] for (uint r = 0; r < 4; r++) {
        [[unroll]] for (uint t = 0; t < 4; t++) {
            const uint row = row0 + across + r * ACROSS, token = token0 + down + t * DOWN;
            if (row < cols && token < n) {
                store(token, col + row, sums[r][t]);
            }
        }
    }
}
