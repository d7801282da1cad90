/* One function per command; each returns the exit code (0, 1 failure, 2 usage, 130 interrupted). */
#ifndef TL_CLI_COMMANDS_H
#define TL_CLI_COMMANDS_H

#include "args.h"

int cmd_chat(const struct cli_args *args);
int cmd_run(const struct cli_args *args);
int cmd_tokenize(const struct cli_args *args);
int cmd_template(const struct cli_args *args);
int cmd_info(const struct cli_args *args);
int cmd_devices(const struct cli_args *args);
int cmd_bench(const struct cli_args *args);
int cmd_fit(const struct cli_args *args);
int cmd_top(const struct cli_args *args);
int cmd_eval(const struct cli_args *args);
int cmd_plan(const struct cli_args *args);

#endif
