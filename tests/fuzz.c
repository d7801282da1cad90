/* What reads bytes from outside, given any bytes: one function a target. Under the fuzz preset each
 * target is a libFuzzer program fuzz_NAME (TL_FUZZ_TARGET is its name); elsewhere it is a program
 * of that name which runs the files, or the folders of files, that it is given. A new target is a
 * function, a line in the table below and a word in CMakeLists.txt; seeds go to corpus/NAME.
 *
 * Invariant: an input is anything; a target may refuse it but not crash, hang, leak, or use memory
 * out of proportion to it. */
#include "core/template.h"
#include "core/token.h"
#include "session_walk.h"
#include "token_walk.h"
#include "weights_walk.h"

#include <stdlib.h>
#include <string.h>

/* A model file: whatever opens is read to the last byte. */
static void fuzz_weights(const uint8_t *data, size_t bytes) {
    tl_weights *w = NULL;
    if (tl_weights_open_memory(&w, data, bytes, "fuzz", NULL) == TL_OK) {
        weights_walk(w);
    }
    tl_weights_close(&w);
}

/* A model file's vocabulary, given some text. */
static void fuzz_vocab(const uint8_t *data, size_t bytes) {
    tl_weights *w = NULL;
    tl_vocab *v = NULL;
    tl_err err = tl_weights_open_memory(&w, data, bytes, "fuzz", NULL);
    err = err ? err : tl_vocab_open(&v, w, NULL);
    if (err == TL_OK) {
        token_walk(v, tl_str_from("Hello <s> a\n\n\xFF\xF0\x9F\xA6\x99 it's 1234 </s>"));
    }
    tl_vocab_close(&v);
    tl_weights_close(&w);
}

/* A text for a small vocabulary; its first byte says which. They are made once: opening one costs
 * more than most texts. */
static void fuzz_text(const uint8_t *data, size_t bytes) {
    enum { N_PRES = 8, SPM = N_PRES, SPM_SPACE, N_VOCABS };
    static const char *const PRES[N_PRES] = {"default",     "llama-bpe", "gpt-4o", "deepseek-llm",
                                             "deepseek-v3", "tiny_aya",  "jais-2", "exaone-moe"};
    static tl_vocab *vocabs[N_VOCABS];
    const unsigned which = data[0] % N_VOCABS;
    const tl_str text = {(const char *)data + 1, bytes - 1};
    if (vocabs[which] == NULL) {
        static tl_bytes files[N_VOCABS];
        static tl_weights *weights[N_VOCABS];
        tl_bytes *const file = &files[which];
        TL_ASSERT((which < N_PRES ? token_make_bpe(PRES[which], file)
                                  : token_make_spm(which == SPM_SPACE, file)) == TL_OK);
        TL_ASSERT(tl_weights_open_memory(&weights[which], file->data, file->len, "fuzz", NULL) ==
                  TL_OK);
        TL_ASSERT(tl_vocab_open(&vocabs[which], weights[which], NULL) == TL_OK);
    }
    token_walk(vocabs[which], text);
    if (which != SPM_SPACE) {
        token_round_trip(vocabs[which], which == SPM, text);
    }
}

static void fuzz_token(const uint8_t *data, size_t bytes) {
    if (bytes >= 4 && memcmp(data, "GGUF", 4) == 0) {
        fuzz_vocab(data, bytes);
    } else if (bytes > 0) {
        fuzz_text(data, bytes);
    }
}

/* A chat template over a small conversation, with the families for what it does not render. */
static void fuzz_template(const uint8_t *data, size_t bytes) {
    static const char VARS[] =
        "{\"messages\":[{\"role\":\"system\",\"content\":\" s\\n\"},{\"role\":\"user\",\"content\":"
        "[{\"type\":\"text\",\"text\":\"h\\u00e9\"}]},{\"role\":\"assistant\",\"content\":null,"
        "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":{\"a\":[1,2.5,true]}}}]}],"
        "\"tools\":[{\"type\":\"function\"}],\"bos_token\":\"<s>\",\"add_generation_prompt\":true}";
    const tl_str source = {(const char *)data, bytes};
    json_t *const vars = json_loads(VARS, 0, NULL);
    const char *family = NULL;
    tl_bytes out = {0};
    if (vars != NULL && tl_template_render(source, vars, "26 Jul 2024", &out, NULL) == TL_OK) {
        TL_ASSERT(out.data != NULL && out.data[out.len] == '\0');
    }
    if (vars != NULL && tl_template_fallback(source, vars, &out, &family, NULL) == TL_OK) {
        TL_ASSERT(family != NULL);
    }
    tl_bytes_free(&out);
    json_decref(vars);
}

/* A session file of a small model, as it is and with its checksums put right. */
static void fuzz_session(const uint8_t *data, size_t bytes) {
    uint8_t *const copy = malloc(bytes > 0 ? bytes : 1);
    TL_ASSERT(copy != NULL);
    if (bytes > 0) {
        memcpy(copy, data, bytes);
    }
    session_walk(copy, bytes);
    session_fix_checksums(copy, bytes);
    session_walk(copy, bytes);
    free(copy);
}

static const struct {
    const char *name;
    void (*run)(const uint8_t *data, size_t bytes);
} targets[] = {
    {"weights", fuzz_weights},
    {"token", fuzz_token},
    {"template", fuzz_template},
    {"session", fuzz_session},
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        if (strcmp(targets[i].name, TL_FUZZ_TARGET) == 0) {
            targets[i].run(data, bytes);
            return 0;
        }
    }
    TL_ASSERT(!"no target of that name");
    return 0;
}

#ifndef TL_FUZZ

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

/* Runs one file; the copy is exactly as long as the file so that sanitizers see its end. */
static bool run_file(const char *path) {
    FILE *const f = fopen(path, "rb");
    struct stat info;
    if (f == NULL || stat(path, &info) != 0) {
        fprintf(stderr, "%s: cannot be read\n", path);
        if (f != NULL) {
            fclose(f);
        }
        return false;
    }
    const size_t bytes = (size_t)info.st_size;
    uint8_t *const data = malloc(bytes > 0 ? bytes : 1);
    const bool whole = data != NULL && fread(data, 1, bytes, f) == bytes;
    fclose(f);
    if (whole) {
        LLVMFuzzerTestOneInput(data, bytes);
    }
    free(data);
    return whole;
}

/* The number of files run, or -1. */
static int run_folder(const char *path) {
    DIR *const folder = opendir(path);
    if (folder == NULL) {
        return run_file(path) ? 1 : -1;
    }
    int n = 0;
    for (const struct dirent *entry; n >= 0 && (entry = readdir(folder)) != NULL;) {
        char file[4096];
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        if (entry->d_name[0] != '.') {
            n = run_file(file) ? n + 1 : -1;
        }
    }
    closedir(folder);
    return n;
}

int main(int argc, char **argv) {
    int n = 0;
    for (int i = 1; i < argc; i++) {
        const int more = run_folder(argv[i]);
        if (more <= 0) {
            fprintf(stderr, "fuzz_" TL_FUZZ_TARGET ": %s: nothing that could be run\n", argv[i]);
            return 1;
        }
        n += more;
    }
    printf("fuzz_" TL_FUZZ_TARGET ": %d inputs\n", n);
    return n > 0 ? 0 : 2;
}

#endif
