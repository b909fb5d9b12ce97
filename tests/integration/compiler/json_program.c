/* Reads documents that end in a NUL each, and answers each with "+" and a JSON text, or with "-" and why its run was ended. */
#include <json.h>
#include <setjmp.h>

typedef struct {
  const char *name;
  json *(*answer)(json *input);
} scenario;

static jmp_buf failed;
static const char *reason;

_Noreturn void kiln_fail(const char *message) {
  reason = message;
  longjmp(failed, 1);
}

static json *as_it_is(json *input) { return input; }

static json *numbers_through_doubles(json *input) {
  json *answer = json_array();
  json_each(item, input) json_push(answer, json_from_number(json_number(item.value)));
  return answer;
}

static json *through_an_integer(json *input) { return json_from_integer(json_integer(input)); }

/* Every member looked up and set in a new object: also what a large object does once it has an index. */
static json *member_by_member(json *input) {
  json *answer = json_object();
  json_each(item, input) json_set(answer, item.key, json_get(input, item.key));
  return answer;
}

static json *without_even_keys(json *input) {
  for (int i = 0; i < 100; i += 2) {
    char key[8];
    snprintf(key, sizeof key, "%d", i);
    if (!json_remove(input, key) || json_remove(input, key) || json_get(input, key) != NULL) kiln_fail("a key was not removed once");
    if (json_integer(json_get(input, "99")) != 99) kiln_fail("another key was lost");
  }
  json_set(input, "99", json_from_integer(-99));
  json_set(input, "0", json_null());
  return input;
}

#include "snippets.inc" /* one scenario a snippet of the test, and SNIPPETS, the list of them */

static const scenario scenarios[] = {
    {"as_it_is", as_it_is},
    {"numbers_through_doubles", numbers_through_doubles},
    {"through_an_integer", through_an_integer},
    {"member_by_member", member_by_member},
    {"without_even_keys", without_even_keys},
    SNIPPETS,
};

static const char *run(const scenario *chosen, const char *document, char *sign) {
  if (setjmp(failed) != 0) {
    *sign = '-';
    return reason;
  }
  *sign = '+';
  return json_write(chosen->answer(json_parse(document)));
}

int main(int count, char **arguments) {
  size_t length = 0, room = 1 << 16;
  char *documents = malloc(room);
  for (size_t got; (got = fread(documents + length, 1, room - length, stdin)) > 0;) {
    length += got;
    if (length == room) documents = realloc(documents, room *= 2);
  }
  for (size_t i = 0; count == 2 && i < sizeof scenarios / sizeof *scenarios; i++) {
    if (strcmp(scenarios[i].name, arguments[1]) != 0) continue;
    for (const char *document = documents; document < documents + length; document += strlen(document) + 1) {
      char sign;
      const char *text = run(&scenarios[i], document, &sign);
      putchar(sign);
      fwrite(text, 1, strlen(text) + 1, stdout);
    }
    return 0;
  }
  return 2;
}
