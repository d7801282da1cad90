/* What reads bytes from outside, given any bytes: one function a target. Under the fuzz preset each
 * target is a libFuzzer program fuzz_NAME (TL_FUZZ_TARGET is its name); elsewhere it is a program
 * of that name which runs the files, or the folders of files, that it is given. A new target is a
 * function, a line in the table below and a word in CMakeLists.txt; seeds go to corpus/NAME.
 *
 * Invariant: an input is anything; a target may refuse it but not crash, hang, leak, or use memory
 * out of proportion to it. */
#include "core/token.h"
#include "token_walk.h"
#include "weights_walk.h"

#include <string.h>

/* A model file: whatever opens is read to the last byte. */
static void fuzz_weights(const uint8_t *data, size_t bytes) {
    tl_weights *w = NULL;
    if (tl_weights_open_memory(&w, data, bytes, "fuzz", NULL) == TL_OK) {
        weights_walk(w);
    }
    tl_weights_close(&w);
}

/* A model file with a vocabulary, given some text; else a text, given a small vocabulary. */
static void fuzz_token(const uint8_t *data, size_t bytes) {
    static const char *const PRES[] = {"default", "llama-bpe", "gpt-4o", "deepseek-llm",
                                       "deepseek-v3", "tiny_aya", "jais-2", "exaone-moe"};
    const size_t n_pres = sizeof PRES / sizeof *PRES;
    const bool is_file = bytes > 4 && memcmp(data, "GGUF", 4) == 0;
    tl_bytes file = {0};
    tl_weights *w = NULL;
    tl_vocab *v = NULL;
    tl_str text = tl_str_from("Hello <s> a\n\n\xFF\xF0\x9F\xA6\x99 it's 1234 </s>");
    size_t which = 0;
    tl_err err = TL_OK;
    if (is_file) {
        err = tl_bytes_add(&file, data, bytes);
    } else if (bytes > 0) {
        which = data[0] % (n_pres + 2);
        text = (tl_str){(const char *)data + 1, bytes - 1};
        err = which < n_pres ? token_make_bpe(PRES[which], &file) : token_make_spm(which > n_pres, &file);
    }
    err = err ? err : tl_weights_open_memory(&w, file.data, file.len, "fuzz", NULL);
    err = err ? err : tl_vocab_open(&v, w, NULL);
    if (err == TL_OK) {
        token_walk(v, text);
        if (!is_file && which <= n_pres) {
            token_round_trip(v, which == n_pres, text);
        }
    }
    tl_vocab_close(&v);
    tl_weights_close(&w);
    tl_bytes_free(&file);
}

static const struct {
    const char *name;
    void (*run)(const uint8_t *data, size_t bytes);
} targets[] = {
    {"weights", fuzz_weights},
    {"token", fuzz_token},
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
