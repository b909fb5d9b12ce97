/* What kiln.h promises, and what the C library does when a program cannot go on: both end the run with a message. */
#include <kiln.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define IMPORT(name) __attribute__((import_module("kiln"), import_name(#name)))

IMPORT(fail) _Noreturn void host_fail(const char *message, size_t size);
IMPORT(out_of_memory) _Noreturn void host_out_of_memory(void);
IMPORT(log) void host_log(int level, const char *message, size_t size);
IMPORT(now_ms) long long host_now_ms(void);
IMPORT(random) void host_random(void *buffer, size_t size);
IMPORT(env_get) int host_env_get(const char *name, size_t name_size, char *buffer, size_t capacity);

_Noreturn void kiln_fail(const char *message) {
  fflush(NULL);
  host_fail(message, strlen(message));
}

void kiln_log(int level, const char *message) { host_log(level, message, strlen(message)); }

long long kiln_now_ms(void) { return host_now_ms(); }

void kiln_random(void *buffer, size_t size) { host_random(buffer, size); }

const char *kiln_env(const char *name) {
  int size = host_env_get(name, strlen(name), NULL, 0);
  if (size < 0) return NULL;
  char *value = malloc((size_t)size + 1);
  host_env_get(name, strlen(name), value, (size_t)size);
  value[size] = '\0';
  return value;
}

/* The linker puts these in front of the allocator's own: a failed growth is known only here. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *block, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);

static void *there(void *block, size_t size) {
  if (!block && size) host_out_of_memory();
  return block;
}

void *__wrap_malloc(size_t size) { return there(__real_malloc(size), size); }

void *__wrap_calloc(size_t count, size_t size) { return there(__real_calloc(count, size), count && size); }

void *__wrap_realloc(void *block, size_t size) { return there(__real_realloc(block, size), size); }

void *__wrap_aligned_alloc(size_t alignment, size_t size) { return there(__real_aligned_alloc(alignment, size), size); }

_Noreturn void __assert_fail(const char *condition, const char *file, int line, const char *function) {
  (void)file;
  char message[1024];
  snprintf(message, sizeof message, "assertion failed: %s (line %d, in %s)", condition, line, function ? function : "?");
  kiln_fail(message);
}

_Noreturn void abort(void) { kiln_fail("the function called abort()"); }

/* One byte more than the host asks for: C text ends with a zero. */
__attribute__((export_name("kiln_alloc"))) char *kiln_alloc(size_t size) {
  char *input = malloc(size + 1);
  input[size] = '\0';
  return input;
}

uint64_t kiln_place(const char *text, size_t size) {
  fflush(NULL);
  return (uint64_t)(uintptr_t)text << 32 | size;
}
