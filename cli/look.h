/* "What did it look at": the places of the context whose rows a layer chose in the last step, as
 * text. */
#ifndef TL_CLI_LOOK_H
#define TL_CLI_LOOK_H

#include "load.h"

/* Lines of "POSITION  share  text around", the most wanted first; a sentence where there is nothing
 * to tell. */
TL_MUST tl_err cli_look(struct cli_loaded *loaded, uint32_t il, tl_bytes *out);

#endif
