// Products of HEADS queries with the 64 keys of a block. Needs sketch.glsl, q[], BITS (of keys), HEADS
// and MINE. A key's channel is minimum + scale * code, so the products are those of q * scale with the
// codes, and the sum of q * minimum once a block.

// Arrays whose size is a specialisation constant stay outside functions: spirv-opt 2023.1 breaks them as
// parameters.
uint q_at[HEADS];       // where each query begins
float s[HEADS * MINE];  // s[r * MINE + k]: of query r with row k * SUBGROUP + lane

void score_block(uint at, uint d) {
    float base[HEADS];
    [[unroll]] for (uint r = 0; r < HEADS; r++) {
        base[r] = 0.0;
        [[unroll]] for (uint k = 0; k < MINE; k++) {
            s[r * MINE + k] = 0.0;
        }
    }
    const uint mask = (1u << BITS) - 1u, lane = lane_of();
    for (uint c = 0; c < d; c++) {
        const vec2 header = halves_of(SK32[at + c]);
        const uint codes_at = at + d + 2 * BITS * c;
        float step[HEADS];
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            const float x = q[q_at[r] + c];
            step[r] = x * header.x;
            base[r] += x * header.y;
        }
        [[unroll]] for (uint k = 0; k < MINE; k++) {
            const uint bit = k * SUBGROUP * BITS;
            uint code;
            if (SUBGROUP * BITS <= 32) {
                code = SK32[codes_at + bit / 32] >> ((bit & 31) + lane * BITS) & mask;
            } else {
                const uint mine = bit + lane * BITS;
                code = SK32[codes_at + mine / 32] >> (mine & 31) & mask;
            }
            const float x = float(code);
            [[unroll]] for (uint r = 0; r < HEADS; r++) {
                s[r * MINE + k] += step[r] * x;
            }
        }
    }
    [[unroll]] for (uint r = 0; r < HEADS; r++) {
        [[unroll]] for (uint k = 0; k < MINE; k++) {
            s[r * MINE + k] += base[r];
        }
    }
}
