/* What the host calls: it gives and takes texts by place and size, the user's handle by their first character. */
#include <kiln.h>
#include <stdint.h>
#include <string.h>

uint64_t kiln_place(const char *text, size_t size);

__attribute__((export_name("handle"))) uint64_t kiln_handle(const char *input, size_t size) {
  (void)size;
  const char *output = handle(input);
  if (!output) kiln_fail("handle returned NULL; return JSON text that malloc has room for");
  return kiln_place(output, strlen(output));
}
