/* What Kiln offers a function besides its input: a way to fail, a log, the time, randomness and the environment. */
#ifndef KILN_H
#define KILN_H

#include <stddef.h>

#ifdef __cplusplus
#define KILN_NORETURN [[noreturn]]
extern "C" {
#else
#define KILN_NORETURN _Noreturn
#endif

enum { KILN_DEBUG = 0, KILN_INFO = 1, KILN_WARN = 2, KILN_ERROR = 3 };

/** Ends the run as FAILED with this message, UTF-8 text that the caller will see. */
KILN_NORETURN void kiln_fail(const char *message);

/** Adds a line to the log of the run; the level is one of KILN_DEBUG to KILN_ERROR. */
void kiln_log(int level, const char *message);

/** Milliseconds since 1970-01-01T00:00:00Z. */
long long kiln_now_ms(void);

/** Fills the buffer with random bytes. */
void kiln_random(void *buffer, size_t size);

/** The value of a variable of the function's environment, NULL when it is not set. */
const char *kiln_env(const char *name);

#ifndef __cplusplus
/** What a function defines: JSON text in, malloc'ed JSON text out. Declared here so that another signature does not compile. */
char *handle(const char *input);
#else
}
#endif

#endif
