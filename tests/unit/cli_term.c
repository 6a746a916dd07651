/* cli_term.c: progress and log lines, redirected to a file and on a pseudo terminal; aligned tables. */
#define _XOPEN_SOURCE    700 /* pseudo terminals */
#define CLI_LINE_SECONDS 0.05
#include "cli/table.c"
#include "cli/term.c"

#include <fcntl.h>
#include <setjmp.h>
#include <time.h>
#include <cmocka.h>

static void wait_ms(int ms)
{
    struct timespec t = {0, ms * 1000000L};
    nanosleep(&t, NULL);
}

/* stderr goes to fd while work runs */
static void with_stderr(int fd, bool quiet, bool verbose, void (*work)(cli_term *))
{
    fflush(stderr);
    int before = dup(STDERR_FILENO);
    assert_true(dup2(fd, STDERR_FILENO) >= 0);
    cli_term *t = cli_term_new(quiet, verbose);
    work(t);
    cli_term_free(t);
    fflush(stderr);
    dup2(before, STDERR_FILENO);
    close(before);
}

static void work(cli_term *t)
{
    for (int i = 0; i <= 10; i++) {
        cli_term_progress(t, "layer 7", i, 10);
        if (i == 4) cli_term_log(t, OZ_LOG_WARN, "one warning");
        wait_ms(25);
    }
    cli_term_log(t, OZ_LOG_ERROR, "one error");
    cli_term_log(t, OZ_LOG_INFO, "one note");
    cli_term_log(t, OZ_LOG_DEBUG, "one detail");
    cli_term_progress(t, "nothing", 0, 0); /* unknown amount of work */
}

static void redirected(char *out, size_t size, bool quiet, bool verbose)
{
    FILE *file = tmpfile();
    assert_non_null(file);
    with_stderr(fileno(file), quiet, verbose, work);
    rewind(file);
    size_t n = fread(out, 1, size - 1, file);
    out[n] = 0;
    fclose(file);
}

static void lines_when_redirected(void **state)
{
    (void)state;
    char text[4096];
    redirected(text, sizeof text, false, false);
    assert_null(strchr(text, '\r'));
    assert_null(strchr(text, '\033'));
    assert_non_null(strstr(text, "%"));
    assert_non_null(strstr(text, "left  layer 7\n"));
    assert_non_null(strstr(text, "warning: one warning\n"));
    assert_non_null(strstr(text, "error: one error\n"));
    assert_non_null(strstr(text, "\none note\n"));
    assert_null(strstr(text, "detail"));
    redirected(text, sizeof text, true, false);
    assert_string_equal(text, "error: one error\n");
    redirected(text, sizeof text, false, true);
    assert_non_null(strstr(text, "one detail\n"));
}

static void on_terminal(char *out, size_t size)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    if (master < 0 || grantpt(master) || unlockpt(master)) skip();
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    if (slave < 0) skip();
    struct winsize window = {.ws_row = 24, .ws_col = 60};
    ioctl(master, TIOCSWINSZ, &window);
    with_stderr(slave, false, false, work);
    size_t n = 0;
    fcntl(master, F_SETFL, O_NONBLOCK);
    for (ssize_t got; n + 1 < size && (got = read(master, out + n, size - 1 - n)) > 0;) n += (size_t)got;
    out[n] = 0;
    close(slave);
    close(master);
}

static void bar_on_a_terminal(void **state)
{
    (void)state;
    char text[8192];
    setenv("TERM", "xterm", 1);
    unsetenv("NO_COLOR");
    on_terminal(text, sizeof text);
    assert_non_null(strstr(text, "\r[........................]   0%"));
    assert_non_null(strstr(text, "[########################] 100%"));
    assert_non_null(strstr(text, "/s"));
    assert_non_null(strstr(text, "\r\033[K\033[33mwarning: \033[0mone warning")); /* the bar is cleared first */
    for (const char *p = text, *end; (p = strstr(p, "\r[")) != NULL; p = end) {   /* never wider than the window */
        end = strstr(p, "\033[K");
        assert_non_null(end);
        assert_true(end - p <= 60);
    }
    setenv("NO_COLOR", "1", 1);
    on_terminal(text, sizeof text);
    assert_null(strstr(text, "\033[33m"));
    assert_non_null(strstr(text, "warning: one warning"));
}

static void tables_are_aligned(void **state)
{
    (void)state;
    oz_arena *arena;
    assert_int_equal(oz_arena_new(&arena, 0), OZ_OK);
    static const char *const head[] = {"name", "bits", "note"};
    cli_table *t = cli_table_new(arena, "lrl", head);
    static const char *const cells[] = {"q_proj", "4.25", "", "\xc3\xa9", "16", "whole"};
    for (int i = 0; i < 6; i++) cli_table_cell(t, "%s", cells[i]);
    char *text = NULL;
    size_t n = 0;
    FILE *out = open_memstream(&text, &n);
    cli_table_print(t, out, 2);
    fclose(out);
    assert_string_equal(text, "  name    bits  note\n"
                              "  q_proj  4.25\n"
                              "  \xc3\xa9         16  whole\n");
    free(text);
    oz_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(lines_when_redirected), cmocka_unit_test(bar_on_a_terminal),
                                       cmocka_unit_test(tables_are_aligned)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
