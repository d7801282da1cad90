// Weights: 32 elements of a row at a time, whatever the format; the twin of core/dtype.c, which draws
// the blocks. Needs: W32, the binding's bytes as words; W16, the same bytes as 16-bit words; and the
// specialisation constant DTYPE. Addresses are bytes. Of formats whose blocks are no whole number of words a
// block may begin in the middle of one.

const uint UNIT = 32; // elements

const uint block_bytes_of[15] = uint[](4, 2, 2, 34, 18, 20, 22, 24, 18, 136, 84, 110, 144, 176, 210);
bool is_float() { return DTYPE <= BF16; }
bool is_large() { return DTYPE >= IQ4_XS; }
uint block_bytes() { return block_bytes_of[DTYPE]; }
// Bytes of a row of so many elements.
uint row_bytes(uint cols) { return cols / (is_float() ? 1 : is_large() ? 256 : 32) * block_bytes(); }

const int iq4[16] = int[](-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);

uint word_at(uint at) { // at % 4 == 0
    return W32[at >> 2];
}
uint pair_at(uint at) { // two bytes, at % 2 == 0
    return uint(W16[at >> 1]);
}
uint byte_at(uint at) { return uint(W16[at >> 1]) >> 8 * (at & 1) & 255u; }

// n words from an even address: n + 1 loads at most.
#define LOAD_EVEN(n, words, at)                                                                      \
    {                                                                                                \
        const uint first_ = (at) >> 2, odd_ = (at) >> 1 & 1;                                         \
        uint last_ = W32[first_];                                                                    \
        [[unroll]] for (uint i_ = 0; i_ < n; i_++) {                                                 \
            const uint next_ = W32[first_ + i_ + (i_ + 1 < n ? 1 : odd_)];                           \
            words[i_] = odd_ != 0 ? last_ >> 16 | next_ << 16 : last_;                               \
            last_ = next_;                                                                           \
        }                                                                                            \
    }

// Nibbles of 16 bytes: low ones are elements 0 .. 15, high ones 16 .. 31.
#define SPREAD_NIBBLES(words, codes)                                                                 \
    [[unroll]] for (uint e_ = 0; e_ < 16; e_++) {                                                    \
        const uint byte_ = words[e_ >> 2] >> 8 * (e_ & 3);                                           \
        codes[e_] = byte_ & 15u;                                                                     \
        codes[e_ + 16] = byte_ >> 4 & 15u;                                                           \
    }

void decode_float(uint row, uint unit, uint cols, out float v[32]) {
    const uint first = unit * UNIT;
    [[unroll]] for (uint e = 0; e < 32; e++) {
        const uint at = min(first + e, cols - 1);
        float x;
        if (DTYPE == F32) {
            x = uintBitsToFloat(W32[(row >> 2) + at]);
        } else {
            const uint bits = uint(W16[(row >> 1) + at]);
            x = DTYPE == F16 ? half_of(bits) : uintBitsToFloat(bits << 16);
        }
        v[e] = first + e < cols ? x : 0.0;
    }
}

// Pairs of 16-bit elements by the word: row % 4 == 0 and a whole unit of them.
void decode_pairs(uint row, uint unit, out float v[32]) {
    [[unroll]] for (uint i = 0; i < 16; i++) {
        const uint word = W32[(row >> 2) + unit * 16 + i];
        const vec2 x = DTYPE == F16 ? halves_of(word) : bfloats_of(word);
        v[2 * i] = x.x;
        v[2 * i + 1] = x.y;
    }
}

void decode_q8_0(uint block, out float v[32]) {
    const float d = half_of(pair_at(block));
    uint w[8];
    LOAD_EVEN(8, w, block + 2)
    [[unroll]] for (uint e = 0; e < 32; e++) {
        v[e] = d * float(int(w[e >> 2] << 8 * (3 - (e & 3))) >> 24);
    }
}

// Q4_0 Q4_1 Q5_0 Q5_1 IQ4_NL
void decode_small(uint block, out float v[32]) {
    const bool with_min = DTYPE == Q4_1 || DTYPE == Q5_1, five = DTYPE == Q5_0 || DTYPE == Q5_1;
    const float d = half_of(pair_at(block));
    const float m = with_min ? half_of(pair_at(block + 2)) : 0.0;
    const uint h_at = block + (with_min ? 4 : 2), q_at = h_at + (five ? 4 : 0);
    const uint h = five ? pair_at(h_at) | pair_at(h_at + 2) << 16 : 0u;
    uint w[4], n[32];
    LOAD_EVEN(4, w, q_at)
    SPREAD_NIBBLES(w, n)
    [[unroll]] for (uint e = 0; e < 32; e++) {
        const uint code = n[e] | (five ? (h >> e & 1u) << 4 : 0u);
        if (DTYPE == IQ4_NL) {
            v[e] = d * float(iq4[code]);
        } else {
            const int zero = DTYPE == Q4_0 ? 8 : DTYPE == Q5_0 ? 16 : 0;
            v[e] = d * float(int(code) - zero) + m;
        }
    }
}

// Scale (.x) and minimum (.y) of sub-block i of Q4_K and Q5_K; s: the address of the 12 bytes.
uvec2 k_scales(uint s, uint i) {
    const uint low = word_at(s) >> 8 * (i & 3) & 255u, mid = word_at(s + 4) >> 8 * (i & 3) & 255u;
    const uint high = word_at(s + 8) >> 8 * (i & 3) & 255u;
    return i < 4 ? uvec2(low & 63u, mid & 63u)
                 : uvec2((high & 15u) | low >> 6 << 4, high >> 4 | mid >> 6 << 4);
}

void decode_q4_k(uint block, uint sub, out float v[32]) {
    const vec2 d = halves_of(word_at(block));
    const uvec2 s = k_scales(block + 4, sub);
    const float scale = d.x * float(s.x), minimum = d.y * float(s.y);
    const bool five = DTYPE == Q5_K;
    const uint q_at = block + (five ? 48 : 16) + 32 * (sub >> 1), shift = 4 * (sub & 1);
    [[unroll]] for (uint i = 0; i < 8; i++) {
        const uint q = word_at(q_at + 4 * i) >> shift;
        const uint h = five ? word_at(block + 16 + 4 * i) >> sub : 0u;
        [[unroll]] for (uint e = 0; e < 4; e++) {
            const uint code = (q >> 8 * e & 15u) | (five ? (h >> 8 * e & 1u) << 4 : 0u);
            v[4 * i + e] = scale * float(code) - minimum;
        }
    }
}

void decode_q2_k(uint block, uint sub, out float v[32]) {
    const vec2 d = halves_of(word_at(block + 80));
    const uint s = pair_at(block + 2 * sub), q_at = block + 16 + 32 * (sub >> 2), shift = 2 * (sub & 3);
    [[unroll]] for (uint i = 0; i < 8; i++) {
        const uint q = word_at(q_at + 4 * i) >> shift, s8 = i < 4 ? s & 255u : s >> 8;
        const float scale = d.x * float(s8 & 15u), minimum = d.y * float(s8 >> 4);
        [[unroll]] for (uint e = 0; e < 4; e++) {
            v[4 * i + e] = scale * float(q >> 8 * e & 3u) - minimum;
        }
    }
}

// Scale of the 16 elements i of Q3_K.
int q3_k_scale(uint s, uint i) {
    const uint low = byte_at(s + (i & 7)) >> (i < 8 ? 0 : 4) & 15u;
    const uint high = byte_at(s + 8 + (i & 3)) >> 2 * (i >> 2) & 3u;
    return int(low | high << 4) - 32;
}

void decode_q3_k(uint block, uint sub, out float v[32]) {
    const float d = half_of(pair_at(block + 108));
    const float s0 = d * float(q3_k_scale(block + 96, 2 * sub));
    const float s1 = d * float(q3_k_scale(block + 96, 2 * sub + 1));
    uint q[8], h[8];
    LOAD_EVEN(8, q, block + 32 + 32 * (sub >> 2))
    LOAD_EVEN(8, h, block)
    [[unroll]] for (uint e = 0; e < 32; e++) {
        const uint low = q[e >> 2] >> (8 * (e & 3) + 2 * (sub & 3)) & 3u;
        const uint high = h[e >> 2] >> (8 * (e & 3) + sub) & 1u;
        v[e] = (e < 16 ? s0 : s1) * float(int(low | high << 2) - 4);
    }
}

void decode_q6_k(uint block, uint sub, out float v[32]) {
    const float d = half_of(pair_at(block + 208));
    const uint s = pair_at(block + 192 + 2 * sub);
    const float s0 = d * float(int(s << 24) >> 24), s1 = d * float(int(s << 16) >> 24);
    uint q[8], h[8];
    LOAD_EVEN(8, q, block + 64 * (sub >> 2) + 32 * (sub & 1))
    LOAD_EVEN(8, h, block + 128 + 32 * (sub >> 2))
    [[unroll]] for (uint e = 0; e < 32; e++) {
        const uint low = q[e >> 2] >> (8 * (e & 3) + 4 * (sub >> 1 & 1)) & 15u;
        const uint high = h[e >> 2] >> (8 * (e & 3) + 2 * (sub & 3)) & 3u;
        v[e] = (e < 16 ? s0 : s1) * float(int(low | high << 4) - 32);
    }
}

void decode_iq4_xs(uint block, uint sub, out float v[32]) {
    const uint head = word_at(block);
    const uint low = word_at(block + 4) >> 4 * sub & 15u;
    const int s = int(low | (head >> (16 + 2 * sub) & 3u) << 4) - 32;
    const float scale = half_of(head & 0xffffu) * float(s);
    uint w[4], n[32];
    [[unroll]] for (uint i = 0; i < 4; i++) {
        w[i] = word_at(block + 8 + 16 * sub + 4 * i);
    }
    SPREAD_NIBBLES(w, n)
    [[unroll]] for (uint e = 0; e < 32; e++) {
        v[e] = scale * float(iq4[n[e]]);
    }
}

// Elements 32 * unit .. of the row that begins at byte `row`; those behind the row's end are 0.
void decode(uint row, uint unit, uint cols, out float v[32]) {
    const uint small = row + unit * block_bytes(), large = row + (unit >> 3) * block_bytes();
    if (DTYPE == F32) {
        decode_float(row, unit, cols, v);
    } else if (DTYPE == F16 || DTYPE == BF16) {
        if ((row & 3) == 0 && (unit + 1) * UNIT <= cols) {
            decode_pairs(row, unit, v);
        } else {
            decode_float(row, unit, cols, v);
        }
    } else if (DTYPE == Q8_0) {
        decode_q8_0(small, v);
    } else if (DTYPE <= IQ4_NL) {
        decode_small(small, v);
    } else if (DTYPE == IQ4_XS) {
        decode_iq4_xs(large, unit & 7, v);
    } else if (DTYPE == Q2_K) {
        decode_q2_k(large, unit & 7, v);
    } else if (DTYPE == Q3_K) {
        decode_q3_k(large, unit & 7, v);
    } else if (DTYPE == Q4_K || DTYPE == Q5_K) {
        decode_q4_k(large, unit & 7, v);
    } else {
        decode_q6_k(large, unit & 7, v);
    }
}
