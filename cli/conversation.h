/* A conversation: messages, the template that turns them into a prompt, and the part of it that a
 * session already holds. */
#ifndef TL_CLI_CONVERSATION_H
#define TL_CLI_CONVERSATION_H

#include "generate.h"

struct cli_conversation {
    const tl_vocab *vocab; /* borrowed */
    tl_log log;
    tl_str template_text; /* borrowed; empty: none */
    bool warned;          /* of a fallback, once */
    json_t *messages;     /* owned: the list of {role, content} */
    char *system;         /* owned, may be NULL */
    tl_bytes document;    /* owned: goes in front of the next message */
};

TL_MUST tl_err cli_conversation_open(struct cli_conversation *c, const struct cli_loaded *loaded,
                                     const char *system);
void cli_conversation_close(struct cli_conversation *c);

/* Goes on with another model: its vocabulary and template, the same messages. */
TL_MUST tl_err cli_conversation_use(struct cli_conversation *c, const struct cli_loaded *loaded);

/* Forgets all messages; system may be NULL or empty, and may be c->system. */
TL_MUST tl_err cli_conversation_reset(struct cli_conversation *c, const char *system);
TL_MUST tl_err cli_conversation_add_user(struct cli_conversation *c, const char *text, size_t n);
TL_MUST tl_err cli_conversation_add_answer(struct cli_conversation *c, const tl_bytes *text);
/* The document goes in front of the next user message. */
TL_MUST tl_err cli_conversation_add_document(struct cli_conversation *c, const char *name,
                                             const tl_bytes *text);
void cli_conversation_drop_last(struct cli_conversation *c);

/* Messages, the system's included, and the text and role of one. */
size_t cli_conversation_n(const struct cli_conversation *c);
const char *cli_conversation_text(const struct cli_conversation *c, size_t i);
bool cli_conversation_is(const struct cli_conversation *c, size_t i, const char *role);

/* Other messages instead: a list of {"role": "system" | "user" | "assistant", "content": text}, a
 * system message only first. TL_ERR_FORMAT with a sentence, and everything is as it was. */
TL_MUST tl_err cli_conversation_replace(struct cli_conversation *c, const json_t *messages);

/* {"messages": [...], "document": text} for a file, NULL when out of memory; and from it. */
json_t *cli_conversation_to_json(const struct cli_conversation *c);
TL_MUST tl_err cli_conversation_from_json(struct cli_conversation *c, const json_t *json);

/* Appends the tokens of the rendered conversation, with exactly one begin token where the model
 * wants one, and of the beginning of its answer, `start` (may be empty). */
TL_MUST tl_err cli_conversation_encode(struct cli_conversation *c, const char *start, tl_ids *ids);

/* Brings the session to the rendered conversation and the beginning of an answer to it, `start`
 * (may be empty), keeping the tokens it already has, and feeds the rest. *n_fed is how many those
 * were. When they do not fit the context: TL_ERR_MEMORY after a sentence with the numbers, and the
 * session keeps what it had. */
TL_MUST tl_err cli_conversation_feed(struct cli_conversation *c, struct cli_loaded *loaded,
                                     const char *start, size_t *n_fed);

#endif
