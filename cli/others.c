/* Tables of other programs' words. A word is here where it is something else with us; where it can
 * be the same, it is simply another name of our command. */
#include "others.h"

#include <string.h>

struct other {
    const char *word, *instead;
};

static const struct other programs[] = {
    {"ps", "tailor top --once lists what runs"},
    {"list", "models are files: tailor info -m FILE tells of one"},
    {"ls", "models are files: tailor info -m FILE tells of one"},
    {"show", "tailor info -m FILE tells of a model"},
    {"pull", "models are GGUF files that are here already: tailor chat -m FILE"},
    {"create", "models are GGUF files: tailor chat -m FILE --system TEXT"},
    {"serve", "there is no server; tailor top --prometheus PORT serves numbers"},
    {"stop", "a tailor is stopped where it runs, or by kill PID (tailor top --once)"},
    {"rm", "models are files; remove them as such"},
    {"cli", "tailor chat talks to a model, tailor run completes a text"},
    {"generate", "tailor run -m FILE -p TEXT completes a text"},
    {"push", "models are files; nothing is sent anywhere"},
    {"cp", "models are files; copy them as such"},
    {"signin", "nothing is fetched from anywhere; models are GGUF files"},
    {"server", "there is no server; tailor top --prometheus PORT serves numbers"},
    {"quantize", "models are read as they are; llama.cpp's llama-quantize makes other types"},
    {"perplexity", "tailor eval --task ppl -f TEXT -m FILE measures it"},
};

static const struct other options[] = {
    {"-ngl", "all weights go to the device; --device-mem bounds the memory"},
    {"--gpu-layers", "all weights go to the device; --device-mem bounds the memory"},
    {"--n-gpu-layers", "all weights go to the device; --device-mem bounds the memory"},
    {"--ctx-size", "it is --ctx N"},
    {"--num-ctx", "it is --ctx N"},
    {"--predict", "it is --n-predict N"},
    {"--temperature", "it is --temp T"},
    {"-sys", "it is --system TEXT"},
    {"--system-prompt", "it is --system TEXT"},
    {"--prompt", "it is for tailor run; tailor chat reads what you type"},
    {"-p", "it is for tailor run; tailor chat reads what you type"},
    {"-cnv", "tailor chat is a conversation"},
    {"--conversation", "tailor chat is a conversation"},
    {"-i", "tailor chat is interactive"},
    {"--interactive", "tailor chat is interactive"},
    {"--color", "colours are there; NO_COLOR=1 or --theme mono takes them away"},
    {"--no-color", "NO_COLOR=1 or --theme mono takes the colours away"},
    {"-fa", "attention never stores all scores; there is nothing to turn on"},
    {"--flash-attn", "attention never stores all scores; there is nothing to turn on"},
    {"-ctk", "the cache is chosen by --kv (see --kv help)"},
    {"-ctv", "the cache is chosen by --kv (see --kv help)"},
    {"--cache-type-k", "the cache is chosen by --kv (see --kv help)"},
    {"--cache-type-v", "the cache is chosen by --kv (see --kv help)"},
    {"-dev", "it is --device N, with --backend NAME"},
    {"--prompt-cache", "it is --session FILE"},
    {"--verbose", "the numbers are in the chat: /stats, F2, F4"},
    {"--nowordwrap", "lines are broken at the terminal's width"},
    {"--no-mmap", "files are always mapped"},
    {"--mlock", "memory is not locked"},
    {"--empty-session", "a chat without --session begins empty"},
    {"--role", "it is --system TEXT"},
    {"-r", "it is --system TEXT (aichat); an answer ends where the model ends it (llama-cli)"},
    {"--reverse-prompt", "an answer ends where the model ends it, or after -n N tokens"},
    {"-b", "chunks of a prompt are as large as the device likes"},
    {"-ub", "chunks of a prompt are as large as the device likes"},
    {"--batch-size", "chunks of a prompt are as large as the device likes"},
    {"--ubatch-size", "chunks of a prompt are as large as the device likes"},
    {"-np", "tailor eval --parallel N and tailor bench --parallel N[,N] decode several at once"},
    {"-npl", "tailor bench --parallel N[,N] decodes several sequences at once"},
    {"--parallel", "tailor eval and tailor bench decode several sequences at once"},
    {"-tb", "it is --threads N for both"},
    {"--threads-batch", "it is --threads N for both"},
    {"-no-cnv", "tailor run completes a text"},
    {"--no-conversation", "tailor run completes a text"},
    {"-st", "tailor run answers once; tailor chat ends with its input"},
    {"--single-turn", "tailor run answers once; tailor chat ends with its input"},
    {"-mli", "Alt+Enter or Ctrl+J begins a line"},
    {"--multiline-input", "Alt+Enter or Ctrl+J begins a line"},
    {"--simple-io", "it is --plain"},
    {"--jinja", "the model's own template is always used"},
    {"--chat-template", "the model's own template is used (tailor template shows it)"},
    {"-hf", "models are GGUF files that are here already: -m FILE"},
    {"--hf-repo", "models are GGUF files that are here already: -m FILE"},
    {"-mu", "models are GGUF files that are here already: -m FILE"},
    {"--model-url", "models are GGUF files that are here already: -m FILE"},
    {"-nkvo", "it is --kv offload"},
    {"--no-kv-offload", "it is --kv offload"},
    {"-ot", "all weights go to the device"},
    {"--list-devices", "it is tailor devices"},
    {"--list-models", "models are files: tailor info -m FILE tells of one"},
    {"--list-sessions", "sessions are files: --session FILE"},
    {"--save-session", "it is --session FILE"},
    {"-s", "it is --seed N, or --session FILE (aichat)"},
    {"--presence-penalty", "there is --repeat-penalty"},
    {"--frequency-penalty", "there is --repeat-penalty"},
    {"--mirostat", "there are --temp, --top-k, --top-p, --min-p, --repeat-penalty"},
    {"--typical", "there are --temp, --top-k, --top-p, --min-p, --repeat-penalty"},
    {"--samplers", "there are --temp, --top-k, --top-p, --min-p, --repeat-penalty"},
    {"--grammar", "answers are not bound to a format"},
    {"--json-schema", "answers are not bound to a format"},
    {"--format", "answers are not bound to a format"},
    {"--lora", "adapters are not read; merge them into the model"},
    {"-md", "there is no draft model"},
    {"--model-draft", "there is no draft model"},
    {"--mmproj", "models of text alone are run here"},
    {"--image", "models of text alone are run here"},
    {"--rope-scaling", "it is as the model file says"},
    {"--rope-freq-base", "it is as the model file says"},
    {"--think", "the model thinks as its template says"},
    {"--hidethinking", "the model thinks as its template says"},
    {"--keepalive", "a model is there as long as its chat"},
    {"-a", "tools are not called here"},
    {"--agent", "tools are not called here"},
    {"--rag", "a document is added by -f FILE"},
    {"--no-stream", "answers always come word by word; tailor run --json prints them at once"},
    {"-S", "answers always come word by word; tailor run --json prints them at once"},
    {"--serve", "there is no server; tailor top --prometheus PORT serves numbers"},
    {"--port", "there is no server; tailor top --prometheus PORT serves numbers"},
    {"--host", "there is no server; tailor top --prometheus PORT serves numbers"},
    {"--log-disable", "only errors and warnings are written"},
    {"--no-display-prompt", "tailor run writes the completion alone"},
    {"--no-warmup", "nothing is warmed up"},
    {"--tree", "there are layers only, no tree"},
    {"--snapshot", "it is tailor top --once --json"},
    {"--update", "it is tailor top -d SECONDS"},
    {"-u", "it is tailor top -d SECONDS"},
    {"-C", "NO_COLOR=1 or --theme mono takes the colours away"},
    {"--tty-on", "TERM tells what the terminal can do; there are --ascii and --theme"},
    {"--low-color", "COLORTERM and TERM tell how many colours there are"},
    {"-lc", "COLORTERM and TERM tell how many colours there are"},
    {"--utf-force", "the locale tells; --ascii draws without"},
};

static const struct other chat_commands[] = {
    {"role", "/system TEXT sets what the model is told first"},
    {"prompt", "/system TEXT sets what the model is told first"},
    {"session", "/save FILE and /load FILE keep conversations, --session the cache too"},
    {"image", "models of text alone are run here"},
    {"audio", "models of text alone are run here"},
    {"video", "models of text alone are run here"},
    {"history", "Up and Ctrl+R bring back what was said"},
    {"think", "the model thinks as its template says"},
    {"theme", "tailor chat --theme NAME|FILE"},
    {"top", "F2 shows the dashboard here, tailor top in another terminal"},
    {"multiline", "Alt+Enter or Ctrl+J begins a line, in line mode \"\"\" does"},
    {"shortcuts", "F1 lists the keys"},
    {"keys", "F1 lists the keys"},
    {"rag", "/read FILE adds a document to your next message"},
    {"agent", "tools are not called here"},
    {"macro", "there are no macros"},
    {"delete", "/undo takes the last message back, /new starts over"},
    {"empty", "/new starts over"},
    {"compress", "nothing is summarised or left out; /context tells how full it is"},
    {"compact", "nothing is summarised or left out; /context tells how full it is"},
    {"summarize", "nothing is summarised or left out; /context tells how full it is"},
    {"sources", "/read FILE adds a document; F9 shows what was looked at"},
    {"rebuild", "/read FILE adds a document to your next message"},
    {"starter", "tools are not called here"},
    {"tools", "tools are not called here"},
    {"mcp", "tools are not called here"},
    {"variables", "/set shows what can be set"},
    {"temp", "/set temp N"},
    {"temperature", "/set temp N"},
    {"seed", "/set seed N"},
    {"config", "/set shows what can be set"},
    {"settings", "/set shows what can be set"},
    {"verbose", "/stats tells the speed of the last answer"},
    {"tokens", "/context tells how full the context is"},
    {"usage", "/stats and /context tell it"},
    {"cost", "/stats tells what it took in time"},
    {"cache", "/kv shows or changes the cache, F2 draws it"},
    {"dash", "F2 shows the dashboard"},
    {"dashboard", "F2 shows the dashboard"},
    {"gpu", "F2 shows the device, too"},
    {"paste", "paste as you are used to: its lines stay one message"},
    {"branch", "/fork goes on in a copy"},
    {"resume", "/load FILE goes on with a kept conversation, --session FILE with its cache"},
    {"search", "Ctrl+R searches what was said"},
    {"find", "Ctrl+R searches what was said"},
    {"pull", "models are GGUF files that are here already: /model FILE"},
    {"run", "/model FILE changes the model"},
    {"stop", "Ctrl+C or Esc stops an answer"},
    {"rm", "models are files; remove them as such"},
    {"ps", "tailor top --once lists what runs"},
    {"version", "tailor --version"},
    {"embed", "texts are not embedded here"},
};

static const struct other settings[] = {
    {"verbose", "/stats tells the speed of the last answer"},
    {"quiet", "numbers show on demand only: /stats, F2"},
    {"history", "what you say is kept in $XDG_STATE_HOME/tailor/history"},
    {"nohistory", "what you say is kept in $XDG_STATE_HOME/tailor/history; --plain keeps nothing"},
    {"wordwrap", "lines are broken at the terminal's width"},
    {"nowordwrap", "lines are broken at the terminal's width"},
    {"format", "answers are not bound to a format"},
    {"noformat", "answers are not bound to a format"},
    {"think", "the model thinks as its template says"},
    {"nothink", "the model thinks as its template says"},
    {"ctx", "the context is set at the start: --ctx N"},
    {"num-ctx", "the context is set at the start: --ctx N"},
    {"num-gpu", "all weights go to the device"},
    {"model", "/model FILE changes the model"},
    {"kv", "/kv PRESET changes the cache"},
    {"stop", "an answer ends where the model ends it, or at /set n N"},
    {"stream", "answers always come word by word"},
    {"presence-penalty", "there is repeat-penalty"},
    {"frequency-penalty", "there is repeat-penalty"},
};

static const char *find(const struct other *list, size_t n, const char *word) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(list[i].word, word) == 0) {
            return list[i].instead;
        }
    }
    return NULL;
}

#define FIND(list, word) find(list, sizeof(list) / sizeof(list)[0], word)
const char *cli_others_program(const char *word) { return FIND(programs, word); }
const char *cli_others_option(const char *word) { return FIND(options, word); }
const char *cli_others_command(const char *word) { return FIND(chat_commands, word); }
const char *cli_others_setting(const char *word) { return FIND(settings, word); }
#undef FIND

static size_t least(size_t a, size_t b) { return a < b ? a : b; }

/* Rows of the usual table: of two bytes of a back, one back, and now. */
size_t cli_word_distance(const char *a, const char *b, size_t most) {
    enum { CAP = 32 };
    size_t rows[3][CAP];
    const size_t n_a = strlen(a), n_b = strlen(b);
    if (n_a >= CAP || n_b >= CAP) {
        return most + 1;
    }
    for (size_t j = 0; j <= n_b; j++) {
        rows[0][j] = j;
    }
    for (size_t i = 1; i <= n_a; i++) {
        size_t *const now = rows[i % 3];
        const size_t *const last = rows[(i + 2) % 3], *const before = rows[(i + 1) % 3];
        now[0] = i;
        for (size_t j = 1; j <= n_b; j++) {
            const bool swapped = i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1];
            now[j] = least(last[j] + 1, now[j - 1] + 1);
            now[j] = least(now[j], last[j - 1] + (a[i - 1] != b[j - 1]));
            now[j] = swapped ? least(now[j], before[j - 2] + 1) : now[j];
        }
    }
    return least(rows[n_a % 3][n_b], most + 1);
}
