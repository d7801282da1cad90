#version 460
// y (+)= x w^T + bias on a driver that computes on the host: a lane has ROWS rows of w to itself, a
// subgroup TOKENS rows of x. There a load is a loop over lanes around scalar code, which four words share
// as well as one: so x is loaded by the lanes together, four numbers each, and handed round; rows of
// WIDE weights are loaded by 16 bytes; and what is decoded of w serves all tokens.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
layout(constant_id = 3) const uint TOKENS = 1;
layout(constant_id = 4) const uint ROWS = 1;
layout(constant_id = 5) const uint WIDE = 0; // rows of w and of x begin at 16 bytes, and k % 32 == 0
layout(binding = 1) readonly buffer X_4 { vec4 x4[]; };
layout(binding = 2) readonly buffer W_128 { uvec4 W128[]; };
#include "matmul.glsl"

const uint HANDED = SUBGROUP < 8 ? SUBGROUP : 8; // lanes that hold a unit's x, or a half of it

// A unit of floats or of 16-bit numbers; row % 16 == 0.
void decode_wide(uint row, uint unit, out float v[32]) {
    const uint n = DTYPE == F32 ? 8 : 4, first = (row >> 4) + unit * n;
    [[unroll]] for (uint i = 0; i < n; i++) {
        const uvec4 words = W128[first + i];
        [[unroll]] for (uint j = 0; j < 4; j++) {
            if (DTYPE == F32) {
                v[4 * i + j] = uintBitsToFloat(words[j]);
            } else {
                const vec2 x = DTYPE == F16 ? halves_of(words[j]) : bfloats_of(words[j]);
                v[8 * (i & 3) + 2 * j] = x.x;
                v[8 * (i & 3) + 2 * j + 1] = x.y;
            }
        }
    }
}

// Numbers e .. e + 3 of the row of x that begins at `row`, zeros behind its end.
vec4 load_x(uint row, uint e) {
    if (WIDE != 0) {
        return x4[(row + e) >> 2];
    }
    vec4 some;
    [[unroll]] for (uint i = 0; i < 4; i++) {
        const float one = x[row + min(e + i, k - 1)];
        some[i] = e + i < k ? one : 0.0;
    }
    return some;
}

void main() {
    const uint begin = team_of() * SUBGROUP * ROWS;
    if (begin >= cols) {
        return;
    }
    const uint first = gl_WorkGroupID.y * TOKENS, units = (k + UNIT - 1) / UNIT;
    const uint my_x = 4 * min(lane_of(), HANDED - 1);
    float sums[TOKENS * ROWS];
    [[unroll]] for (uint i = 0; i < TOKENS * ROWS; i++) {
        sums[i] = 0.0;
    }
    for (uint unit = 0; unit < units; unit++) {
        float v[32 * ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            const uint row = w_first + min(begin + r * SUBGROUP + lane_of(), cols - 1) * row_bytes(k);
            float one[32];
            if (WIDE != 0 && is_float()) {
                decode_wide(row, unit, one);
            } else {
                decode(row, unit, k, one);
            }
            [[unroll]] for (uint e = 0; e < 32; e++) {
                v[r * 32 + e] = one[e];
            }
        }
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            const uint row = x_first / 4 + min(first + t, n - 1) * k;
            vec2 parts[ROWS];
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                parts[r] = vec2(0.0);
            }
            [[unroll]] for (uint j = 0; j < 32; j += 4 * HANDED) {
                const vec4 mine = load_x(row, unit * UNIT + j + my_x);
                [[unroll]] for (uint l = 0; l < HANDED; l++) {
                    [[unroll]] for (uint e = 0; e < 4; e++) {
                        const float all = subgroupBroadcast(mine[e], l);
                        [[unroll]] for (uint r = 0; r < ROWS; r++) {
                            parts[r][e & 1] += all * v[r * 32 + j + 4 * l + e];
                        }
                    }
                }
            }
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                sums[t * ROWS + r] += parts[r].x + parts[r].y;
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
