/* What reads bytes from outside, given any bytes: one function a target. Under the fuzz preset each
 * target is a libFuzzer program fuzz_NAME (TL_FUZZ_TARGET is its name); elsewhere it is a program
 * of that name which runs the files, or the folders of files, that it is given. A new target is a
 * function, a line in the table below and a word in CMakeLists.txt; seeds go to corpus/NAME.
 *
 * Invariant: an input is anything; a target may refuse it but not crash, hang, leak, or use memory
 * out of proportion to it. */
#include "core/weights.h"
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

static const struct {
    const char *name;
    void (*run)(const uint8_t *data, size_t bytes);
} targets[] = {
    {"weights", fuzz_weights},
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
