/* What tests of drawing share: reading cells as text, watching what lies outside, odd texts. */
#ifndef TL_TESTS_CELLS_H
#define TL_TESTS_CELLS_H

#include "support.h"

#include "tui/grid.h"

/* Row `row` as text, trailing blanks cut; valid until the next call. */
const char *row_text(const tui_grid *g, int32_t row);
/* True where a row has this text in it. */
bool shows(const tui_grid *g, const char *text);
/* Every wide cell has its right half, and no half is alone. */
void check_halves(const tui_grid *g);

/* Clears the grid and marks all cells outside r; check_outside fails where one of them changed. */
void mark_outside(tui_grid *g, struct tui_rect r);
void check_outside(const tui_grid *g, struct tui_rect r);

struct tui_rect random_rect(struct tl_rng *rng, int32_t rows, int32_t cols);

/* Bits of text that are hard to draw: wide, combining, broken, controls, markdown. */
enum { N_PIECES = 20 };
extern const char *const pieces[N_PIECES];
void random_text(struct tl_rng *rng, tl_bytes *out, size_t n);

#endif
