/* From the bytes that a terminal sends to keys: a pure function, whatever the bytes, in whatever
 * pieces they come. No byte of a text is lost: what is no UTF-8 is U+FFFD, one for each byte. */
#ifndef TUI_INPUT_H
#define TUI_INPUT_H

#include "key.h"

#include "core/base.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { TUI_INPUT_CAP = 4096, TUI_INPUT_NAMES = 40 };

/* What the terminal's description says that a key sends. */
struct tui_key_name {
    const char *bytes; /* borrowed */
    tui_key_kind kind;
    uint32_t ch;
};

/* Zero-initialise. */
typedef struct tui_input {
    unsigned char bytes[TUI_INPUT_CAP];
    size_t n;
    struct tui_key_name names[TUI_INPUT_NAMES]; /* these go before what nearly all terminals send */
    size_t n_names;
} tui_input;

typedef enum tui_input_need {
    TUI_INPUT_NOTHING,
    TUI_INPUT_KEY,  /* there is one */
    TUI_INPUT_SOON, /* an escape character: alone, unless more comes at once */
    TUI_INPUT_REST, /* the beginning of a sequence or a sign */
} tui_input_need;

/* Takes the first key off the bytes (TUI_INPUT_KEY), or says what it waits for; with `final` it
 * waits no more and takes what is there as it is. */
tui_input_need tui_input_next(tui_input *in, bool final, struct tui_key *out);

#ifdef __cplusplus
}
#endif

#endif
