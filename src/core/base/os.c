/* os.c: the clock, this process's peak memory, and how much memory there is (of the machine or its cgroup, the smaller). */
#include "ounce/base.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

double oz_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

uint64_t oz_peak_rss(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage)) return 0;
    return (uint64_t)usage.ru_maxrss * 1024; /* Linux counts KiB */
}

static void lower_to_limit(const char *path, uint64_t *bytes)
{
    FILE *file = fopen(path, "r");
    if (!file) return;
    char line[64];
    int64_t limit;
    if (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (oz_parse_i64(line, 1, INT64_MAX, &limit) && (uint64_t)limit < *bytes) *bytes = (uint64_t)limit;
    }
    fclose(file);
}

uint64_t oz_total_memory(void)
{
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page <= 0) return 0;
    uint64_t bytes = (uint64_t)pages * (uint64_t)page;
    lower_to_limit("/sys/fs/cgroup/memory.max", &bytes);                   /* version 2, seen from inside */
    lower_to_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes", &bytes); /* version 1 */
    /* Version 2, this process's own group and those above it. */
    FILE *file = fopen("/proc/self/cgroup", "r");
    if (!file) return bytes;
    char line[512], path[600];
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, "0::/", 4)) continue;
        for (char *cut; line[4]; *cut = 0) {
            snprintf(path, sizeof path, "/sys/fs/cgroup/%s/memory.max", line + 4);
            lower_to_limit(path, &bytes);
            cut = strrchr(line + 3, '/');
            if (!cut || cut == line + 3) break;
        }
    }
    fclose(file);
    return bytes;
}
