// Compressed cache rows, as core/codec.h draws them. Needs SK32 and SV32, the bindings of keys' and of
// values' blocks as words. A code never lies across two words. Addresses are words.

const uint BLOCK = 64; // rows

uint key_block_words(uint bits, uint d) { return d + 2 * bits * d; }
uint value_group(uint d) {
    uint g = min(d, 64);
    while (d % g != 0) {
        g--;
    }
    return g;
}
uint value_block_words(uint bits, uint d) { return BLOCK * (d / value_group(d)) + 2 * bits * d; }
