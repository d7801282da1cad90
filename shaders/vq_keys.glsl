// Scores of the 64 keys of a block from a table of the products of HEADS queries with every entry, place by
// place (vq_table.comp): a code is read once and looked up for all of them. Needs SK32, table[], table4[]
// (the same bytes), K_DIM, K_BITS, HEADS, MINE and s[HEADS * MINE], where s[r * MINE + k] is of query r
// with row lane * MINE + k.
const uint K_ENTRIES = 1u << K_BITS;
const uint TABLE = HEADS > 2 ? (HEADS + 3) / 4 * 4 : HEADS; // floats of an entry
const bool K_WHOLE = 32 % K_BITS == 0;                      // no code lies across two words
const bool K_WORDS_FULL = MINE * K_BITS >= 32;              // a lane's codes are whole words
const uint K_WORD_CODES = 32 / K_BITS;
const uint K_WORD = K_WORDS_FULL ? K_WORD_CODES : MINE; // a lane's codes in a word, where K_WHOLE

// Floats of the table of one query of a piece of a group.
uint table_floats(uint d) { return d / K_DIM * K_ENTRIES * TABLE; }

uint key_code(uint run, uint bit, uint word, uint k) {
    const uint mask = K_ENTRIES - 1u;
    if (K_WHOLE) {
        return word >> (K_WORDS_FULL ? k % K_WORD * K_BITS : (bit & 31) + k * K_BITS) & mask;
    }
    const uint at = bit + k * K_BITS, shift = at & 31;
    const uint low = SK32[run + at / 32] >> shift;
    const uint high = shift + K_BITS > 32 ? SK32[run + at / 32 + 1] << (32 - shift) : 0u;
    return (low | high) & mask;
}

void score_places(uint at, uint first, uint d) {
    [[unroll]] for (uint i = 0; i < HEADS * MINE; i++) {
        s[i] = 0.0;
    }
    const uint bit = lane_of() * MINE * K_BITS;
    for (uint place = 0; place < d / K_DIM; place++) {
        const uint run = at + 1 + place * 2 * K_BITS, row = first + place * K_ENTRIES * TABLE;
        uint word = 0;
        [[unroll]] for (uint k = 0; k < MINE; k++) {
            if (K_WHOLE && k % K_WORD == 0) {
                word = SK32[run + bit / 32 + k / K_WORD];
            }
            const uint to = row + key_code(run, bit, word, k) * TABLE;
            if (TABLE % 4 == 0) {
                [[unroll]] for (uint r = 0; r < HEADS; r += 4) {
                    const vec4 four = table4[(to + r) / 4];
                    [[unroll]] for (uint e = 0; e < 4; e++) {
                        if (r + e < HEADS) {
                            s[(r + e < HEADS ? r + e : 0) * MINE + k] += four[e];
                        }
                    }
                }
            } else {
                [[unroll]] for (uint r = 0; r < HEADS; r++) {
                    s[r * MINE + k] += table[to + r];
                }
            }
        }
    }
    const float scale = half_of(SK32[at] & 0xffffu);
    [[unroll]] for (uint i = 0; i < HEADS * MINE; i++) {
        s[i] *= scale;
    }
}
