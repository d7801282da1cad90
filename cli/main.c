/* Finds the command, reads its options, runs it. */
#include "args.h"
#include "commands.h"
#include "others.h"
#include "out.h"
#include "policies.h"

#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct command {
    const char *name;
    unsigned bit;
    int (*run)(const struct cli_args *args);
    const char *usage, *summary;
} commands[] = {
    {"chat", CLI_CHAT, cmd_chat, "[-m MODEL] [-f DOC]",
     "talk to a model (default: the bundled one)"},
    {"run", CLI_RUN, cmd_run, "-m MODEL (-p TEXT | -f FILE) [-n N]", "one completion to stdout"},
    {"tokenize", CLI_TOKENIZE, cmd_tokenize, "-m MODEL (-p TEXT | -f FILE | --decode \"1 2 3\")",
     "text to token ids and back"},
    {"template", CLI_TEMPLATE, cmd_template, "(-m MODEL | --template FILE) --messages FILE.json",
     "the chat prompt that a conversation becomes"},
    {"info", CLI_INFO, cmd_info, "-m MODEL", "what a model file says"},
    {"devices", CLI_DEVICES, cmd_devices, "", "backends and devices found here"},
    {"bench", CLI_BENCH, cmd_bench, "-m MODEL [--depth N[,N]] [--parallel N[,N]]",
     "prefill and decode speed"},
    {"fit", CLI_FIT, cmd_fit, "-m MODEL -f TEXT [-o POLICY] [--plot FILE.svg]",
     "which layers attend densely, as a policy file"},
    {"eval", CLI_EVAL, cmd_eval, "-m MODEL --task T[,T] [--ctx N[,N]] [--kv A[,B]]",
     "quality of cache presets side by side"},
    {"plan", CLI_PLAN, cmd_plan, "-m NAME|FILE --gpu CARD [--ctx N[,N]] [--kv A[,B]]",
     "memory and speed before anything is loaded"},
    {"top", CLI_TOP, cmd_top, "[PID] [--once --json | --csv | --prometheus PORT]",
     "what running tailors do, live"},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(void) {
    puts("tailor " TL_VERSION ": long-context language models on one ordinary machine\n");
    for (size_t i = 0; i < N_COMMANDS; i++) {
        printf("  tailor %-9s %-52s %s\n", commands[i].name, commands[i].usage,
               commands[i].summary);
    }
    puts("\ntailor COMMAND --help lists a command's options; tailor --version prints the version.");
}

static bool is_help(const char *arg) {
    return strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0;
}

static const struct command *find_command(const char *name) {
    for (size_t i = 0; i < N_COMMANDS; i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static void print_command_help(const struct command *command) {
    printf("tailor %s %s\n%s\n\n", command->name, command->usage, command->summary);
    cli_print_options(command->bit);
}

static int run_command(const struct command *command, int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        if (is_help(argv[i])) {
            print_command_help(command);
            return 0;
        }
    }
    struct cli_args args;
    if (!cli_parse(&args, command->bit, argc, argv)) {
        return 2;
    }
    if (args.kv != NULL && strcmp(args.kv, "help") == 0) {
        cli_print_presets();
        return 0;
    }
    return command->run(&args);
}

/* A full disk or a closed pipe must not look like success. */
static int checked_exit(int code) {
    if (fflush(stdout) != 0 || ferror(stdout)) {
        cli_error("stdout: writing failed");
        return code == 0 ? 1 : code;
    }
    return code;
}

/* A mapped model that somebody cuts short, or whose disk fails, is no fault of this program. The
 * full screen puts the terminal back before. */
static void on_lost_page(int signal_number) {
    (void)signal_number;
    static const char text[] = "tailor: a file in use was cut short or cannot be read any more\n";
    const ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(1);
}

/* A standard stream that is closed would be the next file that is opened: a prompt from the bytes
 * of a model, an answer into a session. It fails instead, as a closed one does. */
static void hold_standard_streams(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
        if (fcntl(fd, F_GETFD) < 0) {
            const int held = open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
            (void)held; /* the lowest number that is free, which is fd */
        }
    }
}

int main(int argc, char **argv) {
    hold_standard_streams();
    setlocale(LC_CTYPE, "");
    signal(SIGBUS, on_lost_page);
    signal(SIGPIPE, SIG_IGN); /* a reader that leaves is a failed write, not a death */
    signal(SIGXFSZ, SIG_IGN); /* and so is a limit on the size of files */
    if (argc < 2) {
        print_help();
        return 2;
    }
    const struct command *command = find_command(argv[argc > 2 ? 2 : 1]);
    if (is_help(argv[1]) || strcmp(argv[1], "help") == 0) {
        if (command != NULL) { /* tailor help COMMAND */
            print_command_help(command);
        } else {
            print_help();
        }
        return checked_exit(0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("tailor " TL_VERSION);
        return checked_exit(0);
    }
    command = find_command(argv[1]);
    if (command != NULL) {
        return checked_exit(run_command(command, argc - 1, argv + 1));
    }
    const char *const instead = cli_others_program(argv[1]);
    cli_error("unknown command '%s' (%s%ssee tailor --help)", argv[1],
              instead != NULL ? instead : "", instead != NULL ? "; " : "");
    return 2;
}
