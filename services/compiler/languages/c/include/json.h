/*
 * JSON for functions in C: parse to a tree, read it, build one, write it.
 *
 *   #include <json.h>
 *
 *   char *handle(const char *input) {
 *     json *order = json_parse(input);
 *     double total = 0;
 *     json_each(line, json_get(order, "lines")) {
 *       total += json_number(json_get(line.value, "price")) * json_get_integer(line.value, "quantity", 1);
 *     }
 *     json *answer = json_object();
 *     json_set(answer, "customer", json_get(order, "customer"));
 *     json_set(answer, "total", json_from_number(total));
 *     return json_write(answer);
 *   }
 *
 * Nothing is ever freed, and there is nothing to call for it: every call runs in a fresh instance, whose memory goes with it.
 *
 * A value that is absent is NULL. json_get gives it for a key that is not there, json_at for an index that is not; both, json_length
 * and json_each take it for an empty container, so that chains need no test in between. Stored or written, NULL is null. Anything
 * else that is not of the kind that was wanted ends the run, with a message such as
 *   line 7: json_number(json_get(line.value, "price")) wants a number and found a string
 * which is why many of the names below are macros; each evaluates its arguments once.
 */
#ifndef KILN_JSON_H
#define KILN_JSON_H

#include <kiln.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum { JSON_ABSENT, JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT } json_kind;

typedef struct json json;

/** One step of json_each: the value, its index and, in an object, its key. */
typedef struct {
  const char *key;   /* NULL in an array */
  size_t key_length; /* in bytes; a key may hold NUL bytes, though only one without them can be asked for */
  json *value;
  size_t index;
  const json *container_;
} json_item;

/* ---- Reading ---- */

/** The tree of a text that is JSON by RFC 8259, nested at most 512 deep; any other ends the run and tells where and what was expected. */
static json *json_parse(const char *text);
/** The same, but NULL for what is not JSON; *error is then the message, and NULL otherwise. */
static json *json_try_parse(const char *text, const char **error);
/** Whether the value is of this kind: json_is(value, JSON_STRING). NULL is JSON_ABSENT. The kind itself is json_kind_of(value). */
#define json_is(value, kind) (json_kind_of(value) == (kind))
/** The value of a key, NULL when there is none. Of equal keys the last counts. */
#define json_get(object, key) json_get_(object, key, JSON_HERE_("json_get", #object ", " #key))
/** The value at an index from 0, NULL past the end. */
#define json_at(array, index) json_at_(array, index, JSON_HERE_("json_at", #array ", " #index))
/** How many elements an array has, members an object, bytes a string. */
#define json_length(value) json_length_(value, JSON_HERE_("json_length", #value))
/** Goes over an array or object in order: json_each(item, object) { item.key, item.value }. Removing meanwhile skips members. */
#define json_each(item, container) \
  for (json_item item = json_items_(container, JSON_HERE_("json_each", #container)); json_next_(&item);)

/** A number as the nearest double; one that is too large for any is infinite. */
#define json_number(value) json_number_(value, JSON_HERE_("json_number", #value))
/** A number as a long long, exactly; one that is not whole (1.0 and 1e3 are) or does not fit ends the run. */
#define json_integer(value) json_integer_(value, JSON_HERE_("json_integer", #value))
/** The digits of a number as they were written, for those that no C type can hold. */
#define json_number_text(value) json_number_text_(value, JSON_HERE_("json_number_text", #value))
/** The UTF-8 of a string, with a NUL after it; it may hold others, json_length tells. */
#define json_string(value) json_string_(value, JSON_HERE_("json_string", #value))
#define json_bool(value) json_bool_(value, JSON_HERE_("json_bool", #value))

/** The same of a key's value, and the fallback when the key is absent or null. */
#define json_get_number(object, key, fallback) json_get_number_(object, key, fallback, JSON_HERE_("json_get_number", #object ", " #key))
#define json_get_integer(object, key, fallback) json_get_integer_(object, key, fallback, JSON_HERE_("json_get_integer", #object ", " #key))
#define json_get_string(object, key, fallback) json_get_string_(object, key, fallback, JSON_HERE_("json_get_string", #object ", " #key))
#define json_get_bool(object, key, fallback) json_get_bool_(object, key, fallback, JSON_HERE_("json_get_bool", #object ", " #key))

/* ---- Building: json_object(), json_array(), json_null(), json_from_bool(b) and json_from_integer(i) are functions, below ---- */

/** A number that reads back as the same double, in the fewest of 15 to 17 digits that do; NaN and infinities end the run. */
#define json_from_number(number) json_from_number_(number, JSON_HERE_("json_from_number", #number))
/** A string of UTF-8 text, which is copied; of NULL it makes null. */
#define json_from_string(text) json_from_string_(text, JSON_HERE_("json_from_string", #text))
#define json_from_string_n(text, length) json_from_string_n_(text, length, JSON_HERE_("json_from_string_n", #text ", " #length))
/** Gives a key this value, in its old place if it had one, and returns the value: json *list = json_set(answer, "list", json_array()). */
#define json_set(object, key, value) json_set_(object, key, value, JSON_HERE_("json_set", #object ", " #key ", ..."))
/** Adds a value at the end of an array and returns it. */
#define json_push(array, value) json_push_(array, value, JSON_HERE_("json_push", #array ", ..."))
/** Removes a key, every time it is there, and tells whether it was. */
#define json_remove(object, key) json_remove_(object, key, JSON_HERE_("json_remove", #object ", " #key))

/* ---- Writing ---- */

/** Compact JSON text, malloc'ed: what handle returns. Numbers that were parsed keep their digits, objects their order. */
static char *json_write(const json *value);

/* ---- How it is done. Names that end in _ are not for functions to use. ---- */

#define JSON_DEPTH_ 512
#define JSON_FEW_ 16 /* members up to which looking at each is as fast as an index */
#define JSON_FN_ static __attribute__((unused))
#define JSON_TEXT_OF_(token) #token
#define JSON_TEXT_(macro) JSON_TEXT_OF_(macro)
#define JSON_HERE_(name, arguments) "line " JSON_TEXT_(__LINE__) ": " name "(" arguments ")"

typedef struct {
  const char *key;
  size_t key_length;
  json *value;
} json_entry_;

typedef struct {
  json_entry_ *entries;
  size_t room;
  size_t *index; /* a hash table of positions in entries plus one; 0 is a free slot */
  size_t slots;  /* a power of two, or 0 when the index is to be made anew */
  size_t indexed;
} json_table_;

struct json {
  json_kind kind;
  size_t length; /* bytes of text, or entries of the table */
  union {
    bool truth;
    const char *text; /* of a string or number, with a NUL after it */
    json_table_ *table;
  };
};

JSON_FN_ void *json_resize_(void *memory, size_t size) {
  memory = realloc(memory, size);
  if (memory == NULL) kiln_fail("out of memory");
  return memory;
}

__attribute__((unused, format(printf, 1, 2))) static char *json_format_(const char *format, ...) {
  va_list arguments, again;
  va_start(arguments, format);
  va_copy(again, arguments);
  size_t size = (size_t)vsnprintf(NULL, 0, format, arguments) + 1;
  char *text = json_resize_(NULL, size);
  vsnprintf(text, size, format, again);
  va_end(again);
  va_end(arguments);
  return text;
}

JSON_FN_ const char *json_keep_(const char *text, size_t length) {
  char *kept = json_resize_(NULL, length + 1);
  memcpy(kept, text, length);
  kept[length] = '\0';
  return kept;
}

JSON_FN_ json *json_new_(json_kind kind, const char *text, size_t length) {
  json *value = json_resize_(NULL, sizeof(json));
  value->kind = kind;
  value->length = length;
  value->text = text;
  if (kind >= JSON_ARRAY) value->table = memset(json_resize_(NULL, sizeof(json_table_)), 0, sizeof(json_table_));
  return value;
}

JSON_FN_ json *json_null(void) { return json_new_(JSON_NULL, NULL, 0); }
JSON_FN_ json *json_array(void) { return json_new_(JSON_ARRAY, NULL, 0); }
JSON_FN_ json *json_object(void) { return json_new_(JSON_OBJECT, NULL, 0); }

JSON_FN_ json *json_from_bool(bool truth) {
  json *value = json_new_(JSON_BOOL, NULL, 0);
  value->truth = truth;
  return value;
}

JSON_FN_ json *json_from_integer(long long integer) {
  char digits[24];
  size_t length = (size_t)snprintf(digits, sizeof digits, "%lld", integer);
  return json_new_(JSON_NUMBER, json_keep_(digits, length), length);
}

JSON_FN_ json *json_from_number_(double number, const char *where) {
  char digits[32];
  if (!isfinite(number)) kiln_fail(json_format_("%s wants a finite number and found %s", where, isnan(number) ? "NaN" : "an infinity"));
  if (fabs(number) < 9007199254740992.0 && number == (double)(long long)number) {
    snprintf(digits, sizeof digits, "%.0f", number);
  } else {
    for (int precision = 15; precision <= 17; precision++) {
      snprintf(digits, sizeof digits, "%.*g", precision, number);
      if (strtod(digits, NULL) == number) break;
    }
  }
  return json_new_(JSON_NUMBER, json_keep_(digits, strlen(digits)), strlen(digits));
}

/* How many bytes the character at the start of a text takes in UTF-8 (Unicode 15, table 3-7), 0 when it is none. A NUL ends the text. */
JSON_FN_ inline size_t json_character_(const char *text) {
  const unsigned char *byte = (const unsigned char *)text;
  if (byte[0] < 0x80) return 1;
  if (byte[0] < 0xC2 || byte[0] > 0xF4) return 0;
  unsigned char low = byte[0] == 0xE0 ? 0xA0 : byte[0] == 0xF0 ? 0x90 : 0x80;
  unsigned char high = byte[0] == 0xED ? 0x9F : byte[0] == 0xF4 ? 0x8F : 0xBF;
  if (byte[1] < low || byte[1] > high) return 0;
  size_t width = byte[0] < 0xE0 ? 2 : byte[0] < 0xF0 ? 3 : 4;
  for (size_t i = 2; i < width; i++) {
    if (byte[i] < 0x80 || byte[i] > 0xBF) return 0;
  }
  return width;
}

JSON_FN_ const char *json_keep_utf8_(const char *text, size_t length, const char *where) {
  const char *kept = json_keep_(text, length);
  for (size_t at = 0, width; at < length; at += width) {
    width = json_character_(kept + at);
    if (width == 0) kiln_fail(json_format_("%s wants UTF-8 and found byte 0x%02X at %zu", where, (unsigned char)kept[at], at));
  }
  return kept;
}

JSON_FN_ json *json_from_string_n_(const char *text, size_t length, const char *where) {
  return text == NULL ? json_null() : json_new_(JSON_STRING, json_keep_utf8_(text, length, where), length);
}

JSON_FN_ json *json_from_string_(const char *text, const char *where) {
  return json_from_string_n_(text, text == NULL ? 0 : strlen(text), where);
}

JSON_FN_ json_kind json_kind_of(const json *value) { return value == NULL ? JSON_ABSENT : value->kind; }

/* The value, if it is of the kind that the call wants. */
JSON_FN_ inline const json *json_want_(const json *value, json_kind wanted, const char *where) {
  static const char *const names[] = {"nothing there", "null", "a boolean", "a number", "a string", "an array", "an object"};
  json_kind found = json_kind_of(value);
  if (found != wanted) kiln_fail(json_format_("%s wants %s and found %s", where, names[wanted], names[found]));
  return value;
}

JSON_FN_ bool json_bool_(const json *value, const char *where) { return json_want_(value, JSON_BOOL, where)->truth; }
JSON_FN_ const char *json_string_(const json *value, const char *where) { return json_want_(value, JSON_STRING, where)->text; }
JSON_FN_ const char *json_number_text_(const json *value, const char *where) { return json_want_(value, JSON_NUMBER, where)->text; }
JSON_FN_ double json_number_(const json *value, const char *where) { return strtod(json_number_text_(value, where), NULL); }

/* Digit by digit, since a double would round 9007199254740993.0. Counts downwards: there is one more negative number than positive ones. */
JSON_FN_ long long json_integer_(const json *value, const char *where) {
  const char *text = json_number_text_(value, where), *mantissa = text + (*text == '-');
  size_t size = strcspn(mantissa, "eE"), whole = strcspn(mantissa, ".eE");
  long long exponent = mantissa[size] == '\0' ? 0 : strtoll(mantissa + size + 1, NULL, 10), integer = 0;
  if (exponent > INT32_MAX || exponent < -INT32_MAX) exponent = exponent > 0 ? INT32_MAX : -INT32_MAX;
  long long left = (long long)whole + exponent; /* digits before the point */
  bool fits = true;
  for (size_t i = 0; i < size && fits; i++) {
    if (mantissa[i] == '.') continue;
    int digit = mantissa[i] - '0';
    if (left-- > 0) {
      fits = !__builtin_mul_overflow(integer, 10, &integer) && !__builtin_sub_overflow(integer, digit, &integer);
    } else {
      fits = digit == 0;
    }
  }
  while (fits && integer != 0 && left-- > 0) fits = !__builtin_mul_overflow(integer, 10, &integer);
  if (fits && *text != '-') fits = !__builtin_sub_overflow(0, integer, &integer);
  if (!fits) kiln_fail(json_format_("%s wants a whole number of 64 bits and found %.40s", where, text));
  return integer;
}

JSON_FN_ size_t json_length_(const json *value, const char *where) {
  if (value == NULL) return 0;
  if (value->kind < JSON_STRING) json_want_(value, JSON_ARRAY, where);
  return value->length;
}

JSON_FN_ json *json_at_(const json *array, size_t index, const char *where) {
  if (array == NULL) return NULL;
  json_want_(array, JSON_ARRAY, where);
  return index < array->length ? array->table->entries[index].value : NULL;
}

JSON_FN_ json_item json_items_(const json *container, const char *where) {
  if (container != NULL && container->kind != JSON_OBJECT) json_want_(container, JSON_ARRAY, where);
  return (json_item){.index = SIZE_MAX, .container_ = container};
}

JSON_FN_ bool json_next_(json_item *item) {
  if (item->container_ == NULL || ++item->index >= item->container_->length) return false;
  const json_entry_ *entry = &item->container_->table->entries[item->index];
  item->key = entry->key;
  item->key_length = entry->key_length;
  item->value = entry->value;
  return true;
}

JSON_FN_ bool json_has_key_(const json_entry_ *entry, const char *key, size_t length) {
  return entry->key_length == length && memcmp(entry->key, key, length) == 0;
}

/* The slot of the index that holds the key, or the free one where it belongs. */
JSON_FN_ size_t *json_slot_(const json_table_ *table, const char *key, size_t length) {
  uint32_t hash = 2166136261; /* FNV-1a */
  for (size_t i = 0; i < length; i++) hash = (hash ^ (unsigned char)key[i]) * 16777619;
  for (size_t i = hash;; i++) {
    size_t *slot = &table->index[i & (table->slots - 1)];
    if (*slot == 0 || json_has_key_(&table->entries[*slot - 1], key, length)) return slot;
  }
}

/* The last entry of a key, NULL when there is none. The index of a large object is made by its first lookup, and keeps up at each:
   counting 20 000 different words took 7 ms with it and 730 ms without, as WebAssembly. */
JSON_FN_ json_entry_ *json_find_(const json *object, const char *key, size_t length) {
  json_table_ *table = object->table;
  if (object->length <= JSON_FEW_) {
    for (size_t i = object->length; i-- > 0;) {
      if (json_has_key_(&table->entries[i], key, length)) return &table->entries[i];
    }
    return NULL;
  }
  if (table->slots < 2 * object->length) {
    for (table->slots = 4 * JSON_FEW_; table->slots < 4 * object->length;) table->slots *= 2;
    table->index = json_resize_(table->index, table->slots * sizeof *table->index);
    memset(table->index, 0, table->slots * sizeof *table->index);
    table->indexed = 0;
  }
  for (; table->indexed < object->length; table->indexed++) {
    const json_entry_ *entry = &table->entries[table->indexed];
    *json_slot_(table, entry->key, entry->key_length) = table->indexed + 1;
  }
  size_t position = *json_slot_(table, key, length);
  return position == 0 ? NULL : &table->entries[position - 1];
}

JSON_FN_ json *json_get_(const json *object, const char *key, const char *where) {
  if (object == NULL) return NULL;
  json_want_(object, JSON_OBJECT, where);
  json_entry_ *entry = json_find_(object, key, strlen(key));
  return entry == NULL ? NULL : entry->value;
}

#define JSON_GETTER_(type, name)                                                                                        \
  JSON_FN_ type json_get_##name##_(const json *object, const char *key, type fallback, const char *where) {             \
    const json *value = json_get_(object, key, where);                                                                  \
    return json_kind_of(value) <= JSON_NULL ? fallback : json_##name##_(value, where);                                  \
  }
JSON_GETTER_(double, number)
JSON_GETTER_(long long, integer)
JSON_GETTER_(const char *, string)
JSON_GETTER_(bool, bool)

JSON_FN_ json *json_append_(json *container, const char *key, size_t key_length, json *value) {
  json_table_ *table = container->table;
  if (container->length == table->room) {
    table->room = table->room == 0 ? 4 : 2 * table->room;
    table->entries = json_resize_(table->entries, table->room * sizeof *table->entries);
  }
  table->entries[container->length++] = (json_entry_){key, key_length, value};
  return value;
}

JSON_FN_ json *json_push_(json *array, json *value, const char *where) {
  json_want_(array, JSON_ARRAY, where);
  return json_append_(array, NULL, 0, value == NULL ? json_null() : value);
}

JSON_FN_ json *json_set_(json *object, const char *key, json *value, const char *where) {
  json_want_(object, JSON_OBJECT, where);
  size_t length = strlen(key);
  json_entry_ *entry = json_find_(object, key, length);
  if (value == NULL) value = json_null();
  return entry == NULL ? json_append_(object, json_keep_utf8_(key, length, where), length, value) : (entry->value = value);
}

JSON_FN_ bool json_remove_(json *object, const char *key, const char *where) {
  json_want_(object, JSON_OBJECT, where);
  json_table_ *table = object->table;
  size_t length = strlen(key), kept = 0, before = object->length;
  for (size_t i = 0; i < before; i++) {
    if (!json_has_key_(&table->entries[i], key, length)) table->entries[kept++] = table->entries[i];
  }
  object->length = kept;
  if (kept < before) table->slots = 0;
  return kept < before;
}

typedef struct {
  char *at; /* in a copy of the text, where strings are unescaped in place: that makes none longer */
  char *start;
  size_t depth;
  size_t fault; /* where something else was expected */
  const char *expected;
} json_reader_;

JSON_FN_ void *json_expected_(json_reader_ *reader, const char *at, const char *expected) {
  reader->fault = (size_t)(at - reader->start);
  reader->expected = expected;
  return NULL;
}

JSON_FN_ inline void json_skip_space_(json_reader_ *reader) {
  while (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\r' || *reader->at == '\t') reader->at++;
}

JSON_FN_ bool json_read_hex_(json_reader_ *reader, const char *at, unsigned *unit) {
  *unit = 0;
  for (int i = 0; i < 4; i++) {
    unsigned char digit = (unsigned char)at[i], lower = digit | 0x20;
    bool decimal = digit >= '0' && digit <= '9';
    if (!decimal && (lower < 'a' || lower > 'f')) return json_expected_(reader, at + i, "four hexadecimal digits after \\u") != NULL;
    *unit = *unit * 16 + (unsigned)(decimal ? digit - '0' : lower - 'a' + 10);
  }
  return true;
}

/* Reads \uXXXX, or the two of a surrogate pair, and writes its character; where that ends, NULL when there is none. */
JSON_FN_ char *json_read_unicode_(json_reader_ *reader, char *to) {
  char *at = reader->at;
  unsigned code, low;
  if (!json_read_hex_(reader, at + 2, &code)) return NULL;
  if (code >= 0xDC00 && code <= 0xDFFF) return json_expected_(reader, at, "a high surrogate before a low one");
  reader->at += 6;
  if (code >= 0xD800 && code <= 0xDBFF) {
    if (at[6] != '\\' || at[7] != 'u') return json_expected_(reader, at + 6, "a low surrogate after a high one");
    if (!json_read_hex_(reader, at + 8, &low)) return NULL;
    if (low < 0xDC00 || low > 0xDFFF) return json_expected_(reader, at + 6, "a low surrogate after a high one");
    code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
    reader->at += 6;
  }
  int rest = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3; /* bytes after the first */
  static const unsigned char lead[] = {0, 0xC0, 0xE0, 0xF0};
  *to++ = (char)(lead[rest] | code >> 6 * rest);
  while (rest-- > 0) *to++ = (char)(0x80 | (code >> 6 * rest & 0x3F));
  return to;
}

JSON_FN_ char *json_read_escape_(json_reader_ *reader, char *to) {
  static const char letters[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
  char letter = reader->at[1];
  if (letter == 'u') return json_read_unicode_(reader, to);
  const char *found = letter == '\0' ? NULL : strchr(letters, letter);
  if (found == NULL) return json_expected_(reader, reader->at + 1, "one of \" \\ / b f n r t u after a backslash");
  *to++ = meanings[found - letters];
  reader->at += 2;
  return to;
}

/* Reads a string whose first quote is behind; it ends where it was read. */
JSON_FN_ const char *json_read_string_(json_reader_ *reader, size_t *length) {
  char *start = reader->at, *to = start;
  while (*reader->at != '"') {
    size_t width = json_character_(reader->at);
    if (*reader->at == '\0') return json_expected_(reader, reader->at, "'\"' at the end of the string");
    if ((unsigned char)*reader->at < 0x20) return json_expected_(reader, reader->at, "control characters to be escaped");
    if (width == 0) return json_expected_(reader, reader->at, "UTF-8");
    if (*reader->at == '\\') {
      if ((to = json_read_escape_(reader, to)) == NULL) return NULL;
    } else {
      while (width-- > 0) *to++ = *reader->at++;
    }
  }
  reader->at++;
  *to = '\0';
  *length = (size_t)(to - start);
  return start;
}

JSON_FN_ bool json_read_digits_(json_reader_ *reader, const char *expected) {
  if (*reader->at < '0' || *reader->at > '9') return json_expected_(reader, reader->at, expected) != NULL;
  while (*reader->at >= '0' && *reader->at <= '9') reader->at++;
  return true;
}

JSON_FN_ json *json_read_number_(json_reader_ *reader) {
  const char *start = reader->at;
  if (*reader->at == '-') reader->at++;
  const char *whole = reader->at;
  if (!json_read_digits_(reader, "a digit after the minus sign")) return NULL;
  if (*whole == '0' && reader->at > whole + 1) return json_expected_(reader, whole + 1, "no digit after a leading zero");
  if (*reader->at == '.' && (reader->at++, !json_read_digits_(reader, "a digit after the point"))) return NULL;
  if (*reader->at == 'e' || *reader->at == 'E') {
    reader->at += reader->at[1] == '+' || reader->at[1] == '-' ? 2 : 1;
    if (!json_read_digits_(reader, "a digit in the exponent")) return NULL;
  }
  return json_new_(JSON_NUMBER, json_keep_(start, (size_t)(reader->at - start)), (size_t)(reader->at - start));
}

JSON_FN_ json *json_read_value_(json_reader_ *reader);

/* Reads an array or object whose bracket is next, up to the bracket that closes it. */
JSON_FN_ json *json_read_container_(json_reader_ *reader) {
  json *container = *reader->at == '{' ? json_object() : json_array();
  bool object = container->kind == JSON_OBJECT;
  char close = object ? '}' : ']';
  if (reader->depth++ == JSON_DEPTH_) return json_expected_(reader, reader->at, "at most 512 levels of nesting");
  for (reader->at++;;) {
    const char *key = NULL;
    size_t length = 0;
    json_skip_space_(reader);
    if (container->length == 0 && *reader->at == close) break;
    if (object) {
      const char *expected = container->length == 0 ? "a key in quotes or '}'" : "a key in quotes";
      if (*reader->at != '"') return json_expected_(reader, reader->at, expected);
      reader->at++;
      if ((key = json_read_string_(reader, &length)) == NULL) return NULL;
      json_skip_space_(reader);
      if (*reader->at != ':') return json_expected_(reader, reader->at, "':' after the key");
      reader->at++;
    }
    json *value = json_read_value_(reader);
    if (value == NULL) return NULL;
    json_append_(container, key, length, value);
    json_skip_space_(reader);
    if (*reader->at == close) break;
    if (*reader->at != ',') return json_expected_(reader, reader->at, object ? "',' or '}'" : "',' or ']'");
    reader->at++;
  }
  reader->at++;
  reader->depth--;
  return container;
}

JSON_FN_ json *json_read_word_(json_reader_ *reader, const char *word, const char *expected, json *value) {
  for (; *word != '\0'; word++, reader->at++) {
    if (*reader->at != *word) return json_expected_(reader, reader->at, expected);
  }
  return value;
}

JSON_FN_ json *json_read_value_(json_reader_ *reader) {
  json_skip_space_(reader);
  char first = *reader->at;
  if (first == '{' || first == '[') return json_read_container_(reader);
  if (first == '-' || (first >= '0' && first <= '9')) return json_read_number_(reader);
  if (first == 'n') return json_read_word_(reader, "null", "the word null", json_null());
  if (first == 't') return json_read_word_(reader, "true", "the word true", json_from_bool(true));
  if (first == 'f') return json_read_word_(reader, "false", "the word false", json_from_bool(false));
  if (first != '"') return json_expected_(reader, reader->at, "a value");
  reader->at++;
  size_t length;
  const char *text = json_read_string_(reader, &length);
  return text == NULL ? NULL : json_new_(JSON_STRING, text, length);
}

/* Lines and columns count from 1, columns in characters. */
JSON_FN_ const char *json_fault_(const json_reader_ *reader, const char *text) {
  size_t line = 1, column = 1;
  for (size_t i = 0; i < reader->fault; i++) {
    if (((unsigned char)text[i] & 0xC0) != 0x80) column++;
    if (text[i] == '\n') line++, column = 1;
  }
  char found[24];
  unsigned char byte = (unsigned char)text[reader->fault];
  snprintf(found, sizeof found, byte == '\0' ? "the end of the text" : byte > 0x20 && byte < 0x7F ? "'%c'" : "byte 0x%02X", byte);
  return json_format_("not JSON: line %zu, column %zu: expected %s, found %s", line, column, reader->expected, found);
}

JSON_FN_ json *json_try_parse(const char *text, const char **error) {
  if (text == NULL) text = "";
  size_t size = strlen(text) + 1;
  json_reader_ reader = {.start = memcpy(json_resize_(NULL, size), text, size)};
  reader.at = reader.start;
  json *value = json_read_value_(&reader);
  json_skip_space_(&reader);
  if (value != NULL && *reader.at != '\0') value = json_expected_(&reader, reader.at, "nothing after the value");
  *error = value == NULL ? json_fault_(&reader, text) : NULL;
  return value;
}

JSON_FN_ json *json_parse(const char *text) {
  const char *error;
  json *value = json_try_parse(text, &error);
  if (value == NULL) kiln_fail(error);
  return value;
}

typedef struct {
  char *text;
  size_t length;
  size_t room;
} json_writer_;

JSON_FN_ inline void json_put_(json_writer_ *writer, const char *text, size_t length) {
  if (length > writer->room - writer->length) {
    writer->room = 2 * writer->room + length;
    writer->text = json_resize_(writer->text, writer->room);
  }
  memcpy(writer->text + writer->length, text, length);
  writer->length += length;
}

JSON_FN_ void json_put_string_(json_writer_ *writer, const char *text, size_t length) {
  static const char letters[] = "btn\0fr"; /* of bytes 8 to 13 */
  size_t done = 0;
  json_put_(writer, "\"", 1);
  for (size_t i = 0; i < length; i++) {
    unsigned char byte = (unsigned char)text[i];
    if (byte >= 0x20 && byte != '"' && byte != '\\') continue;
    char escape[8] = {'\\', (char)byte, '\0'};
    if (byte < 0x20) escape[1] = byte >= 8 && byte <= 13 ? letters[byte - 8] : '\0';
    if (escape[1] == '\0') snprintf(escape, sizeof escape, "\\u%04x", byte);
    json_put_(writer, text + done, i - done);
    json_put_(writer, escape, strlen(escape));
    done = i + 1;
  }
  json_put_(writer, text + done, length - done);
  json_put_(writer, "\"", 1);
}

JSON_FN_ void json_put_value_(json_writer_ *writer, const json *value, size_t depth) {
  json_kind kind = json_kind_of(value);
  if (kind <= JSON_NULL) {
    json_put_(writer, "null", 4);
  } else if (kind == JSON_BOOL) {
    json_put_(writer, value->truth ? "true" : "false", value->truth ? 4 : 5);
  } else if (kind == JSON_NUMBER) {
    json_put_(writer, value->text, value->length);
  } else if (kind == JSON_STRING) {
    json_put_string_(writer, value->text, value->length);
  } else {
    if (depth == JSON_DEPTH_) kiln_fail("json_write wants at most 512 levels of nesting and found more; does a value contain itself?");
    json_put_(writer, kind == JSON_ARRAY ? "[" : "{", 1);
    for (size_t i = 0; i < value->length; i++) {
      const json_entry_ *entry = &value->table->entries[i];
      if (i > 0) json_put_(writer, ",", 1);
      if (kind == JSON_OBJECT) {
        json_put_string_(writer, entry->key, entry->key_length);
        json_put_(writer, ":", 1);
      }
      json_put_value_(writer, entry->value, depth + 1);
    }
    json_put_(writer, kind == JSON_ARRAY ? "]" : "}", 1);
  }
}

JSON_FN_ char *json_write(const json *value) {
  json_writer_ writer = {0};
  json_put_value_(&writer, value, 0);
  json_put_(&writer, "", 1);
  return writer.text;
}

#endif
