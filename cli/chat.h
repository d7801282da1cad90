/* A chat: turns and commands, the same for the line mode and the full screen. It shows itself
 * through a face and reads no keys. All of it belongs to one thread. */
#ifndef TL_CLI_CHAT_H
#define TL_CLI_CHAT_H

#include "conversation.h"

typedef enum chat_kind {
    CHAT_USER,   /* what is being answered now */
    CHAT_ANSWER, /* more of the answer */
    CHAT_END,    /* the answer ends; the text says why where it was not the model's wish */
    CHAT_NOTE,   /* lines for the user */
    CHAT_CLEAR,  /* the conversation is another one now; its messages follow as ... */
    CHAT_OLD_USER,
    CHAT_OLD_ANSWER,
    CHAT_DRAFT, /* a text to write on */
    CHAT_CLIP,  /* a text for the clipboard */
} chat_kind;

struct chat_face {
    void (*show)(void *user, chat_kind kind, const char *text, size_t n);
    bool (*stop)(void *user);  /* the answer, the reading of a prompt */
    void (*begin)(void *user); /* an answer begins: a stop that was asked for before is over */
    void *user;
    bool edits; /* a draft can be written on */
};

enum { CHAT_BRANCHES_MAX = 64 };

struct chat {
    struct cli_args args; /* with the model and cache of now */
    struct chat_face face;
    struct cli_loaded slots[2]; /* one may be open beside the other while changing the model */
    struct cli_loaded *loaded;  /* the one in use; its session may be absent only while opening */
    struct cli_conversation talk;
    struct tl_sampler_params sampling;
    tl_sampler *sampler;
    uint32_t n_predict;
    struct cli_times times; /* of the last answer */
    double prefill_s;
    size_t n_prefill;
    bool answered;                       /* the last attempt left an answer, however short */
    json_t *branches[CHAT_BRANCHES_MAX]; /* owned: messages; that of `branch` is out of date */
    size_t n_branches, branch;
    char *model, *kv; /* owned: what args borrow after /model and /kv */
    tl_bytes file;    /* owned: the name /save and /load used last */
    bool unsaved;     /* there is something that --session's file does not have */
};

/* Loads the model and begins, or goes on from --session's file; -f's document is read. Returns 0,
 * or an exit code after an error line. hooks and share are borrowed, NULL in line mode. */
int chat_open(struct chat *chat, const struct cli_args *args, const struct chat_face *face,
              const struct cli_hooks *hooks, struct cli_share *share);
/* Keeps what --session's file does not have yet. Returns 0, or 1 where that failed. */
int chat_close(struct chat *chat);

/* A message or, with a slash, a command. *leave: the user wants to go. Returns an exit code where
 * chatting cannot go on, else 0. */
int chat_line(struct chat *chat, const char *text, bool *leave);

/* A message of several lines may stand between two of """ (as in ollama) or of ::: (aichat).
 * *whole: what began so has its end, or did not begin so; the message without these signs is then
 * in *out. */
TL_MUST tl_err chat_unquote(const char *text, bool *whole, tl_bytes *out);

/* The commands' names with their slash, NULL behind the last; and whether one takes a file's name.
 */
const char *chat_command_name(size_t i);
bool chat_command_takes_file(const char *name);

/* ---- what chat.c has for the commands ---- */

void chat_note(struct chat *chat, const char *fmt, ...) TL_PRINTF(2, 3);
/* The last word on what failed; 0 or the exit code where nothing more can work. */
int chat_failed(struct chat *chat, tl_err err);
/* Answers the last message; `start`: what the answer begins with already (may be empty). Sets
 * `answered`; the conversation has one message more where it is true. */
int chat_answer(struct chat *chat, const char *start);
int chat_say(struct chat *chat, const char *text, size_t n);
/* Shows all messages anew. */
void chat_show_all(struct chat *chat);
TL_MUST tl_err chat_open_sampler(struct chat *chat);
/* chat_files.c: "~/x" for a home's file; the rest as it is. False where it is too long. */
bool chat_expand(const char *path, char *out, size_t cap);
int chat_read(struct chat *chat, const char *rest);
int chat_glob(struct chat *chat, const char *rest);
int chat_list(struct chat *chat, const char *rest);
/* chat_commands.c */
/* True, after a sentence, for what is a command in aichat: ".help". */
bool chat_is_dotted(const char *text);
int chat_command(struct chat *chat, const char *line, bool *leave);

#endif
