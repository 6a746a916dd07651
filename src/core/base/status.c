/* status.c: the message and hint of this thread's last failure.
 *
 * The text lives in thread-local buffers of fixed size, so that reporting a failed allocation allocates nothing.
 * oz_fail writes through a second buffer because its arguments may point into the current message. */
#include "ounce/base.h"

#include <stdio.h>
#include <string.h>

#define MESSAGE_SIZE 1024
#define HINT_SIZE    512

static _Thread_local char message[MESSAGE_SIZE];
static _Thread_local char hint_text[HINT_SIZE];

oz_status oz_fail(oz_status status, const char *hint, const char *fmt, ...)
{
    char text[MESSAGE_SIZE], help[HINT_SIZE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    snprintf(help, sizeof help, "%s", hint ? hint : "");
    memcpy(message, text, sizeof message);
    memcpy(hint_text, help, sizeof hint_text);
    return status;
}

oz_status oz_fail_in(oz_status status, const char *fmt, ...)
{
    char text[MESSAGE_SIZE];
    va_list args;
    va_start(args, fmt);
    vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    size_t n = strlen(text);
    const char *parts[] = {message[0] ? ": " : "", message};
    for (int i = 0; i < 2; i++)
        for (const char *p = parts[i]; *p && n + 1 < sizeof text; p++) text[n++] = *p;
    text[n] = 0;
    memcpy(message, text, sizeof message);
    return status;
}

const char *oz_message(void) { return message; }

const char *oz_hint(void) { return hint_text; }

void oz_clear_message(void)
{
    message[0] = 0;
    hint_text[0] = 0;
}

const char *oz_status_name(oz_status status)
{
    static const char *const names[] = {[OZ_OK] = "ok",
                                        [OZ_ERR_NOMEM] = "nomem",
                                        [OZ_ERR_IO] = "io",
                                        [OZ_ERR_PARSE] = "parse",
                                        [OZ_ERR_KEY] = "key",
                                        [OZ_ERR_SHAPE] = "shape",
                                        [OZ_ERR_RANGE] = "range",
                                        [OZ_ERR_NUMERIC] = "numeric",
                                        [OZ_ERR_POLICY] = "policy",
                                        [OZ_ERR_UNSUPPORTED] = "unsupported",
                                        [OZ_ERR_EXPORT] = "export",
                                        [OZ_ERR_BUDGET] = "budget",
                                        [OZ_CANCELLED] = "cancelled"};
    size_t i = (size_t)status;
    return i < sizeof names / sizeof *names ? names[i] : "unknown";
}

void oz_error_save(oz_saved_error *saved, oz_status status)
{
    _Static_assert(sizeof saved->message == MESSAGE_SIZE && sizeof saved->hint == HINT_SIZE, "saved error holds a whole message");
    saved->status = status;
    memcpy(saved->message, message, MESSAGE_SIZE);
    memcpy(saved->hint, hint_text, HINT_SIZE);
}

oz_status oz_error_restore(const oz_saved_error *saved)
{
    memcpy(message, saved->message, MESSAGE_SIZE);
    memcpy(hint_text, saved->hint, HINT_SIZE);
    return saved->status;
}
