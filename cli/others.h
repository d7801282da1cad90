/* What users of similar programs try by habit (ollama, llama-cli, aichat, nvtop, btop), and what to
 * do here instead. */
#ifndef TL_CLI_OTHERS_H
#define TL_CLI_OTHERS_H

#include <stdbool.h>
#include <stddef.h>

/* A sentence about a command of the shell ("serve"), an option ("-ngl"), a command of a chat
 * without its slash ("role"), a setting of /set ("verbose"); NULL: nobody's habit. */
const char *cli_others_program(const char *word);
const char *cli_others_option(const char *word);
const char *cli_others_command(const char *word);
const char *cli_others_setting(const char *word);

/* How many signs have to be added, left out, changed or swapped with their neighbour to make b of
 * a; `most` + 1 where it is more. Words of at most 31 bytes, others are `most` + 1 apart. */
size_t cli_word_distance(const char *a, const char *b, size_t most);

#endif
