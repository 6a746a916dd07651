/* replay.c: runs every file of a folder through a fuzz target, for builds without libFuzzer.  Exit 77 (skipped) when the folder
 * is missing or empty.  With OUNCE_FAULTS every input also runs with each of its first allocations failing (fuzz.h). */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    uint8_t *data = NULL;
    size_t n = 0, got = 1;
    while (got > 0) {
        uint8_t *more = realloc(data, n + 65536);
        if (!more) break;
        data = more;
        n += got = fread(data + n, 1, 65536, f);
    }
    uint8_t *exact = malloc(n ? n : 1); /* as large as the input: the sanitizer sees reads behind it */
    if (exact) {
        for (size_t i = 0; i < n; i++) exact[i] = data[i];
        (void)LLVMFuzzerTestOneInput(exact, n);
#ifdef OUNCE_FAULTS
        for (uint8_t nth = 1; n && nth <= 40; nth++) {
            exact[0] = nth;
            (void)LLVMFuzzerTestOneInput(exact, n);
        }
#endif
    }
    free(exact);
    free(data);
    fclose(f);
    return exact != NULL;
}

int main(int argc, char **argv)
{
    int n = 0;
    DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
    for (struct dirent *e; d && (e = readdir(d));) {
        char path[4096];
        if (e->d_name[0] == '.') continue;
        if (snprintf(path, sizeof path, "%s/%s", argv[1], e->d_name) >= (int)sizeof path) continue;
        if (!replay(path)) {
            fprintf(stderr, "cannot run %s\n", path);
            return 1;
        }
        n++;
    }
    if (d) closedir(d);
    printf("%d inputs\n", n);
    return n ? 0 : 77;
}
