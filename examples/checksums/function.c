// Gives the CRC-32 and Adler-32 checksums of texts, as zip files and zlib streams carry them, and finds the one that was damaged.

#include <json.h>

// The CRC of each byte by itself: the polynomial of IEEE 802.3, lowest bit first.
static void fill_table(uint32_t table[256]) {
  for (uint32_t byte = 0; byte < 256; byte++) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; bit++) crc = crc & 1 ? crc >> 1 ^ 0xEDB88320 : crc >> 1;
    table[byte] = crc;
  }
}

static uint32_t crc32(const unsigned char *bytes, size_t length) {
  static uint32_t table[256];
  if (table[1] == 0) fill_table(table);
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < length; i++) crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xFF];
  return ~crc;
}

static uint32_t adler32(const unsigned char *bytes, size_t length) {
  uint32_t sum = 1, sum_of_sums = 0;
  for (size_t i = 0; i < length; i++) {
    sum = (sum + bytes[i]) % 65521;
    sum_of_sums = (sum_of_sums + sum) % 65521;
  }
  return sum_of_sums << 16 | sum;
}

static json *hexadecimal(uint32_t number) {
  char digits[9];
  snprintf(digits, sizeof digits, "%08x", (unsigned)number);
  return json_from_string(digits);
}

char *handle(const char *input) {
  json *answer = json_array();
  json_each(file, json_get(json_parse(input), "files")) {
    json *text = json_get(file.value, "text");
    const unsigned char *bytes = (const unsigned char *)json_string(text);
    json *sums = json_push(answer, json_object());
    json_set(sums, "name", json_get(file.value, "name"));
    json_set(sums, "bytes", json_from_integer((long long)json_length(text)));
    json *crc = json_set(sums, "crc32", hexadecimal(crc32(bytes, json_length(text))));
    json_set(sums, "adler32", hexadecimal(adler32(bytes, json_length(text))));
    const char *expected = json_get_string(file.value, "crc32", json_string(crc));
    json_set(sums, "intact", json_from_bool(strcmp(expected, json_string(crc)) == 0));
  }
  return json_write(answer);
}
