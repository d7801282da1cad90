#version 460
// y (+)= x w^T + bias for many rows of x on a driver that computes on the host: a lane has ROWS rows of
// w to itself, a subgroup TOKENS rows of x. There a load is scalar code, some twenty times an addition:
// so x is loaded once by the lanes together and handed round, and what is decoded of w serves all
// tokens.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 3) const uint TOKENS = 1;
layout(constant_id = 4) const uint ROWS = 1;
#include "matmul.glsl"

void main() {
    const uint begin = team_of() * SUBGROUP * ROWS;
    if (begin >= cols) {
        return;
    }
    const uint first = gl_WorkGroupID.y * TOKENS, units = (k + UNIT - 1) / UNIT;
    float sums[TOKENS * ROWS];
    [[unroll]] for (uint i = 0; i < TOKENS * ROWS; i++) {
        sums[i] = 0.0;
    }
    for (uint unit = 0; unit < units; unit++) {
        float v[32 * ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            float one[32];
            decode(w_first + min(begin + r * SUBGROUP + lane_of(), cols - 1) * row_bytes(k), unit, k, one);
            [[unroll]] for (uint e = 0; e < 32; e++) {
                v[r * 32 + e] = one[e];
            }
        }
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            const uint row = x_first / 4 + min(first + t, n - 1) * k;
            float parts[ROWS];
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                parts[r] = 0.0;
            }
            [[unroll]] for (uint j = 0; j < 32; j += SUBGROUP) {
                const uint e = unit * UNIT + j + lane_of();
                const float loaded = x[row + min(e, k - 1)], mine = e < k ? loaded : 0.0;
                [[unroll]] for (uint l = 0; l < min(SUBGROUP, 32); l++) {
                    const float all = subgroupBroadcast(mine, l);
                    [[unroll]] for (uint r = 0; r < ROWS; r++) {
                        parts[r] += all * v[r * 32 + j + l];
                    }
                }
            }
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                sums[t * ROWS + r] += parts[r];
            }
        }
    }
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            const uint mine = begin + r * SUBGROUP + lane_of();
            if (first + t < n && mine < cols) {
                store(first + t, col + mine, sums[t * ROWS + r]);
            }
        }
    }
}
