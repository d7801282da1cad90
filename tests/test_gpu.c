/* What devices say of themselves: NVML as a stub library that has cards with like names, sysfs and
 * /proc as made-up folders. What is not told must be N/A (a NaN), never zero, and of several cards
 * it must be the right one or none. */
#include "support.h"

#include "cli/gpu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/tailor-gpu-XXXXXX";

static int set_up(void **state) {
    (void)state;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

/* A file under the folder, with the folders above it. */
static void put(const char *path, const char *text) {
    char whole[512];
    snprintf(whole, sizeof whole, "%s/%s", folder, path);
    for (char *slash = strchr(whole + strlen(folder) + 1, '/'); slash != NULL;
         slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(whole, 0700);
        *slash = '/';
    }
    FILE *const f = fopen(whole, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    fclose(f);
}

static void link_card(const char *card, const char *pdev) {
    char target[128], path[256];
    snprintf(target, sizeof target, "../../pci/%s", pdev);
    snprintf(path, sizeof path, "%s/drm/%s", folder, card);
    mkdir(path, 0700);
    snprintf(path, sizeof path, "%s/drm/%s/device", folder, card);
    assert_int_equal(symlink(target, path), 0);
}

static gpu *open_there(struct gpu_places *places, char paths[2][64]) {
    gpu *g = NULL;
    snprintf(paths[0], 64, "%s/drm", folder);
    snprintf(paths[1], 64, "%s/proc", folder);
    *places = (struct gpu_places){TL_NVML_STUB, paths[0], paths[1]};
    assert_int_equal(gpu_open(&g, places), TL_OK);
    return g;
}

static struct tui_device read_one(gpu *g, const char *backend, const char *device, uint64_t pid) {
    struct gpu_who who = {.pid = pid};
    struct tui_device out;
    snprintf(who.backend, sizeof who.backend, "%s", backend);
    snprintf(who.device, sizeof who.device, "%s", device);
    gpu_read(g, &who, &out);
    return out;
}

static void expect_nothing(const struct tui_device *d) {
    assert_string_equal(d->source, "");
    assert_true(isnan(d->used_bytes) && isnan(d->total_bytes) && isnan(d->busy));
    assert_true(isnan(d->rx_bytes_s) && isnan(d->tx_bytes_s));
}

/* Goal: a card is found by its whole name, one of two equal ones by who runs on it, and a number
 * that the library refuses is unknown. */
static void test_nvml(void **state) {
    (void)state;
    struct gpu_places places;
    char paths[2][64];
    gpu *g = open_there(&places, paths);
    struct tui_device d = read_one(g, "cuda", "NVIDIA GeForce RTX 3080 Ti, 80 multiprocessors", 1);
    assert_string_equal(d.source, "NVML");
    assert_true(d.used_bytes == 2e9 && d.total_bytes == 12e9 && d.busy == 0.5);
    assert_true(d.rx_bytes_s == 1024.0 * 2000 && d.tx_bytes_s == 1024.0 * 200);
    d = read_one(g, "vulkan", "NVIDIA GeForce RTX 3080, NVIDIA 550.1", 1);
    assert_true(d.total_bytes == 11e9);
    assert_true(isnan(d.busy) && isnan(d.rx_bytes_s)); /* the stub's first card refuses them */
    d = read_one(g, "cuda", "NVIDIA RTX A6000, 84 multiprocessors", 4242);
    assert_true(d.total_bytes == 14e9); /* the second of that name, where 4242 runs */
    d = read_one(g, "vulkan", "NVIDIA RTX A6000, NVIDIA 550.1", 4343);
    assert_true(d.total_bytes == 13e9); /* where 4343 draws */
    d = read_one(g, "cuda", "NVIDIA RTX A6000, 84 multiprocessors", 7);
    expect_nothing(&d); /* one of two, and nobody knows which */
    d = read_one(g, "cuda", "NVIDIA H200, 132 multiprocessors", 7);
    expect_nothing(&d);
    gpu_close(&g);
    places.nvml = "libtailor-no-such-library.so";
    assert_int_equal(gpu_open(&g, &places), TL_OK);
    d = read_one(g, "cuda", "NVIDIA GeForce RTX 3080", 1);
    expect_nothing(&d);
    gpu_close(&g);
}

static void test_amdgpu(void **state) {
    (void)state;
    struct gpu_places places;
    char paths[2][64];
    put("pci/0000:03:00.0/vendor", "0x1002\n");
    put("pci/0000:03:00.0/mem_info_vram_used", "1234567\n");
    put("pci/0000:03:00.0/mem_info_vram_total", "8589934592\n");
    put("pci/0000:03:00.0/gpu_busy_percent", "37\n");
    put("drm/version", "drm 1.1.0\n");
    put("drm/card0-HDMI-A-1/status", "connected\n");
    link_card("card1", "0000:03:00.0");
    gpu *g = open_there(&places, paths);
    struct tui_device d = read_one(g, "vulkan", "AMD Radeon RX 7900 XTX (RADV NAVI31)", 1);
    assert_string_equal(d.source, "amdgpu");
    assert_true(d.used_bytes == 1234567 && d.total_bytes == 8589934592.0 && d.busy == 0.37);
    assert_true(isnan(d.rx_bytes_s) && isnan(d.tx_bytes_s));
    d = read_one(g, "vulkan", "llvmpipe (LLVM 15.0.6, 512 bits)", 1);
    expect_nothing(&d);
    /* A second card: which one it is shows in the process's open files alone. */
    put("pci/0000:0a:00.0/vendor", "0x1002\n");
    put("pci/0000:0a:00.0/mem_info_vram_used", "99\n");
    link_card("card2", "0000:0a:00.0");
    d = read_one(g, "vulkan", "AMD Radeon RX 7900 XTX (RADV NAVI31)", 1);
    expect_nothing(&d);
    put("proc/77/fdinfo/5",
        "pos:\t0\ndrm-driver:\tamdgpu\ndrm-client-id:\t3\ndrm-pdev:\t0000:03:00.0\n"
        "drm-memory-vram:\t16 KiB\n");
    put("proc/77/fdinfo/6", "drm-driver:\tamdgpu\ndrm-client-id:\t4\ndrm-pdev:\t0000:0a:00.0\n"
                            "drm-memory-vram:\t512 MiB\n");
    d = read_one(g, "vulkan", "AMD Radeon RX 7900 XTX (RADV NAVI31)", 77);
    assert_true(d.used_bytes == 99);
    assert_true(isnan(d.total_bytes) && isnan(d.busy));
    gpu_close(&g);
}

static void put_xe(unsigned cycles, unsigned all) {
    char text[512];
    snprintf(text, sizeof text,
             "pos:\t0\nflags:\t02\ndrm-driver:\txe\ndrm-client-id:\t23\ndrm-pdev:\t0000:04:00.0\n"
             "drm-total-system:\t0\ndrm-resident-vram0:\t2048 KiB\ndrm-cycles-bcs:\t%u\n"
             "drm-total-cycles-bcs:\t%u\ndrm-cycles-ccs:\t%u\ndrm-total-cycles-ccs:\t%u\n",
             cycles / 10, all, cycles, all);
    put("proc/88/fdinfo/7", text);
    put("proc/88/fdinfo/8", text); /* the same client by another file */
}

static void test_xe(void **state) {
    (void)state;
    struct gpu_places places;
    char paths[2][64];
    put("pci/0000:04:00.0/vendor", "0x8086\n");
    link_card("card0", "0000:04:00.0");
    put_xe(1000, 100000);
    gpu *g = open_there(&places, paths);
    struct tui_device d = read_one(g, "vulkan", "Intel(R) Arc(tm) A770 Graphics (DG2)", 88);
    assert_string_equal(d.source, "xe");
    assert_true(d.used_bytes == 2048 * 1024);
    assert_true(isnan(d.total_bytes) && isnan(d.busy)); /* a load needs two looks */
    put_xe(4000, 104000);
    d = read_one(g, "vulkan", "Intel(R) Arc(tm) A770 Graphics (DG2)", 88);
    assert_true(fabs(d.busy - 0.75) < 1e-9);
    d = read_one(g, "vulkan", "Intel(R) Arc(tm) A770 Graphics (DG2)", 88); /* no time went by */
    assert_true(isnan(d.busy));
    gpu_close(&g);
}

/* Goal: the CPU backend shows the host's memory and load, and the thread brings the same. */
static void test_host(void **state) {
    (void)state;
    struct gpu_places places;
    char paths[2][64];
    put("proc/meminfo", "MemTotal:       1000 kB\nMemFree:   100 kB\nMemAvailable:    400 kB\n");
    put("proc/stat", "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3 4\n");
    gpu *g = open_there(&places, paths);
    struct tui_device d = read_one(g, "cpu", "AMD EPYC, 2 threads", 1);
    assert_string_equal(d.source, "host");
    assert_true(d.total_bytes == 1024000 && d.used_bytes == 614400 && isnan(d.busy));
    put("proc/stat", "cpu  130 0 160 710 100 0 0 0 0 0\n");
    d = read_one(g, "cpu", "AMD EPYC, 2 threads", 1);
    assert_true(fabs(d.busy - 0.9) < 1e-9);
    assert_true(isnan(d.rx_bytes_s));
    gpu_close(&g);
    g = open_there(&places, paths);
    assert_int_equal(gpu_start(g), TL_OK);
    struct gpu_who who = {.backend = "cpu", .device = "AMD EPYC", .pid = 1};
    gpu_latest(g, &d);
    expect_nothing(&d);
    gpu_ask(g, &who);
    for (int i = 0; i < 2000 && d.source[0] == '\0'; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
        gpu_latest(g, &d);
    }
    assert_true(d.total_bytes == 1024000);
    gpu_close(&g);
    places.proc = "/nonexistent";
    assert_int_equal(gpu_open(&g, &places), TL_OK);
    d = read_one(g, "cpu", "AMD EPYC", 1);
    assert_true(isnan(d.used_bytes) && isnan(d.total_bytes) && isnan(d.busy));
    gpu_close(&g);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nvml),
        cmocka_unit_test(test_amdgpu),
        cmocka_unit_test(test_xe),
        cmocka_unit_test(test_host),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
