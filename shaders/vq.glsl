// Vector-quantised cache rows, as core/vq.h draws them: a block is a word whose low half is its scale, then
// place by place the codes of its 64 rows, 2 * bits words each. A form is dim << 8 | bits. Addresses are
// words.
uint vq_block_words(uint form, uint d) { return 1 + d / (form >> 8) * 2 * (form & 255u); }
