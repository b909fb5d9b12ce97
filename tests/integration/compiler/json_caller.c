/* Calls a function once: its input is on stdin, its output goes to stdout. */
#include <kiln.h>
#include <stdio.h>
#include <stdlib.h>

_Noreturn void kiln_fail(const char *message) {
  fputs(message, stderr);
  exit(1);
}

int main(void) {
  static char input[1 << 20];
  input[fread(input, 1, sizeof input - 1, stdin)] = '\0';
  fputs(handle(input), stdout);
}
