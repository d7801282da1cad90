// Products of HEADS queries with the 64 keys of a block on a driver that computes on the host, where a
// load is a loop over lanes and should bring as much as it can: a lane has the MINE rows lane * MINE ..,
// whose codes of a channel are one word, or two; headers and queries are held by the lanes, a channel
// each, and handed round. Needs sketch.glsl, q[], BITS (of keys), HEADS and MINE.
uint q_at[HEADS];      // where each query begins
float s[HEADS * MINE]; // s[r * MINE + k]: of query r with row lane * MINE + k
const uint K_WORDS = (MINE * BITS + 31) / 32;

void score_block(uint at, uint d) {
    float base[HEADS];
    [[unroll]] for (uint r = 0; r < HEADS; r++) {
        base[r] = 0.0;
        [[unroll]] for (uint k = 0; k < MINE; k++) {
            s[r * MINE + k] = 0.0;
        }
    }
    const uint mask = (1u << BITS) - 1u, bit = lane_of() * MINE * BITS;
    for (uint first = 0; first < d; first += SUBGROUP) {
        const uint mine = min(first + lane_of(), d - 1);
        const vec2 header = first + lane_of() < d ? halves_of(SK32[at + mine]) : vec2(0.0);
        float step[HEADS];
        [[unroll]] for (uint r = 0; r < HEADS; r++) {
            const float x = q[q_at[r] + mine];
            step[r] = x * header.x;
            base[r] += x * header.y;
        }
        for (uint l = 0; l < min(SUBGROUP, d - first); l++) {
            const uint codes_at = at + d + 2 * BITS * (first + l) + bit / 32;
            float its[HEADS];
            [[unroll]] for (uint r = 0; r < HEADS; r++) {
                its[r] = subgroupBroadcast(step[r], l);
            }
            [[unroll]] for (uint i = 0; i < K_WORDS; i++) {
                const uint word = SK32[codes_at + i] >> (bit & 31);
                [[unroll]] for (uint k = 0; k < min(MINE, 32 / BITS); k++) {
                    const float x = float(word >> k * BITS & mask);
                    [[unroll]] for (uint r = 0; r < HEADS; r++) {
                        s[r * MINE + i * (32 / BITS) + k] += its[r] * x;
                    }
                }
            }
        }
    }
    [[unroll]] for (uint r = 0; r < HEADS; r++) {
        const float all = subgroupAdd(base[r]);
        [[unroll]] for (uint k = 0; k < MINE; k++) {
            s[r * MINE + k] += all;
        }
    }
}
