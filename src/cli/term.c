/* term.c: stderr.  On a terminal long work draws one line (a bar, rate, time left, and what is being done) that log lines push away;
 * redirected, it writes a plain line every few seconds.  Calls may come from any thread. */
#include "cli/cli.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define REDRAW_SECONDS 0.1
#ifndef CLI_LINE_SECONDS
#define CLI_LINE_SECONDS 5.0 /* tests cannot wait that long */
#endif

struct cli_term {
    pthread_mutex_t lock;
    bool terminal, color, quiet, verbose, drawn;
    /* the work being shown */
    double start, first, last_done, of, shown;
};

cli_term *cli_term_new(bool quiet, bool verbose)
{
    cli_term *t = oz_zalloc(1, sizeof *t);
    if (!t) return NULL;
    pthread_mutex_init(&t->lock, NULL);
    const char *term = getenv("TERM");
    t->terminal = isatty(STDERR_FILENO) && !(term && !strcmp(term, "dumb"));
    t->color = t->terminal && !getenv("NO_COLOR");
    t->quiet = quiet;
    t->verbose = verbose;
    t->of = -1;
    return t;
}

static void clear(cli_term *t)
{
    if (t->drawn) fputs("\r\033[K", stderr);
    t->drawn = false;
}

void cli_term_clear(cli_term *t)
{
    if (!t) return;
    pthread_mutex_lock(&t->lock);
    clear(t);
    pthread_mutex_unlock(&t->lock);
}

void cli_term_free(cli_term *t)
{
    if (!t) return;
    clear(t);
    pthread_mutex_destroy(&t->lock);
    oz_free(t);
}

static int columns(void)
{
    struct winsize size;
    return !ioctl(STDERR_FILENO, TIOCGWINSZ, &size) && size.ws_col > 20 ? size.ws_col : 80;
}

static void time_text(double seconds, char *out, size_t size)
{
    long s = (long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf(out, size, "%ld:%02ld", s / 60, s % 60);
}

/* " 40%  12.3/s  0:12 left" */
static void numbers_text(const cli_term *t, double now, double done, double of, char *out, size_t size)
{
    char rate[32] = "", left[48] = "", clock[32];
    double passed = now - t->start, gained = done - t->first;
    if (passed > 0.2 && gained > 0) {
        if (of > 1) snprintf(rate, sizeof rate, "  %.3g/s", gained / passed);
        if (done < of) {
            time_text((of - done) * passed / gained, clock, sizeof clock);
            snprintf(left, sizeof left, "  %s left", clock);
        }
    }
    snprintf(out, size, "%3.0f%%%s%s", 100 * done / of, rate, left);
}

void cli_term_progress(void *term, const char *what, double done, double of)
{
    enum { BAR = 24 };
    cli_term *t = term;
    if (t->quiet || !(of > 0)) return;
    pthread_mutex_lock(&t->lock);
    double now = oz_seconds();
    if (of != t->of || done < t->last_done) { /* another piece of work */
        t->start = now;
        t->first = done;
        t->of = of;
        t->shown = t->terminal ? 0 : now;
    }
    t->last_done = done;
    bool due = now - t->shown >= (t->terminal ? REDRAW_SECONDS : CLI_LINE_SECONDS);
    if (due || (t->terminal && done >= of)) {
        char numbers[120], line[512];
        t->shown = now;
        if (done > of) done = of;
        numbers_text(t, now, done, of, numbers, sizeof numbers);
        if (t->terminal) {
            char bar[BAR + 1];
            int full = (int)(BAR * done / of);
            for (int i = 0; i < BAR; i++) bar[i] = i < full ? '#' : '.';
            bar[BAR] = 0;
            snprintf(line, sizeof line, "[%s] %s  %s", bar, numbers, what);
            int room = columns() - 1, n = (int)strlen(line);
            while (n > room || (n > 0 && n < (int)strlen(line) && ((unsigned char)line[n] & 0xc0) == 0x80)) n--;
            fprintf(stderr, "\r%.*s\033[K", n, line);
            t->drawn = true;
        } else {
            fprintf(stderr, "%s  %s\n", numbers + strspn(numbers, " "), what);
        }
        fflush(stderr);
    }
    pthread_mutex_unlock(&t->lock);
}

void cli_term_log(void *term, oz_log_level level, const char *text)
{
    cli_term *t = term;
    if (level == OZ_LOG_DEBUG && !t->verbose) return;
    if (t->quiet && level != OZ_LOG_ERROR) return;
    static const char *const word[] = {"error: ", "warning: ", "", ""};
    static const char *const color[] = {"\033[31m", "\033[33m", "", ""};
    pthread_mutex_lock(&t->lock);
    clear(t);
    bool colored = t->color && *color[level];
    fprintf(stderr, "%s%s%s%s\n", colored ? color[level] : "", word[level], colored ? "\033[0m" : "", text);
    pthread_mutex_unlock(&t->lock);
}

void cli_note(cli *c, const char *fmt, ...)
{
    char text[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (c->term) cli_term_log(c->term, OZ_LOG_INFO, text);
}

const char *cli_bytes(cli *c, uint64_t bytes)
{
    static const char *const unit[] = {"B", "KiB", "MiB", "GiB", "TiB"};

    double v = (double)bytes;
    int k = 0;
    for (; v >= 1024 && k < 4; k++) v /= 1024;
    char *text = k ? oz_arena_printf(c->arena, "%.4g %s", v, unit[k]) : oz_arena_printf(c->arena, "%d B", (int)bytes);
    return text ? text : "?";
}
