/* run.c: asking a run context whether to stop, telling it how far the work is, and what to log.  Any field, and the context, may be NULL.
 */
#include "ounce/base.h"

#include <stdio.h>

bool oz_cancelled(const oz_run *run) { return run && run->cancel && *run->cancel; }

oz_status oz_check_cancel(const oz_run *run)
{
    if (!oz_cancelled(run)) return OZ_OK;
    return oz_fail(OZ_CANCELLED, "finished parts are kept; continue with --resume", "%s", "stopped as asked");
}

void oz_progress(const oz_run *run, const char *what, double done, double of)
{
    if (run && run->progress) run->progress(run->user, what, done, of);
}

void oz_logf(const oz_run *run, oz_log_level level, const char *fmt, ...)
{
    if (!run || !run->log) return;
    char text[2048];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    run->log(run->user, level, text);
}
