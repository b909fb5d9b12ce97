"""One function in each language, small as most are: NUMBER makes a source that nobody has compiled before."""

from collections.abc import Mapping
from typing import Final

_PLAIN: Final = """export function handle(input: string): string {
  const words = input.split(" ");
  let longest = 0;
  for (let i = 0; i < words.length; i++) if (words[i].length > words[longest].length) longest = i;
  return `"${words[longest]} NUMBER"`;
}
"""

_JSON: Final = """@json class Point { x: f64 = NUMBER; label: string = ""; }
@json class Points { points: Point[] = []; }

export function handle(input: string): string {
  const all = JSON.parse<Points>(input);
  for (let i = 0; i < all.points.length; i++) all.points[i].x += 1;
  return JSON.stringify(all);
}
"""

_C: Final = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>

char *handle(const char *input) {
  size_t letters = 0;
  for (const char *at = input; *at; at++) letters += *at >= 'a' && *at <= 'z';
  char *output = malloc(128);
  snprintf(output, 128, "{\\"letters\\":%zu,\\"size\\":%zu,\\"number\\":%lld}", letters, strlen(input), NUMBERLL);
  return output;
}
"""

_CPP: Final = """#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

std::string handle(std::string_view input) {
  auto words = nlohmann::json::parse(input, nullptr, false);
  std::map<std::string, long long> counts{{"number", NUMBERLL}};
  if (words.is_array()) {
    for (const auto &word : words) counts[word.get<std::string>()]++;
  }
  return nlohmann::json(counts).dump();
}
"""

_GO: Final = """package main

import (
	"encoding/json"
	"sort"
)

type Answer struct {
	Words  []string `json:"words"`
	Number int64    `json:"number"`
}

func Handle(input []byte) ([]byte, error) {
	var words []string
	if err := json.Unmarshal(input, &words); err != nil {
		return nil, err
	}
	sort.Strings(words)
	return json.Marshal(Answer{words, NUMBER})
}
"""

# Without Kiln's crates, which the bare compiler does not have.
_RUST: Final = """pub fn handle(input: &str) -> Result<String, String> {
    let mut words: Vec<&str> = input.trim_matches('"').split(' ').collect();
    words.sort();
    let longest = words.iter().max_by_key(|word| word.len()).ok_or("there are no words")?;
    Ok(format!("{{\\"words\\":{},\\"longest\\":{:?},\\"number\\":{}}}", words.len(), longest, NUMBERi64))
}
"""

# Without an export the bare compiler makes nothing of a function.
RUST_EXPORT: Final = """
#[no_mangle]
pub unsafe extern "C" fn run(input: *const u8, length: usize) -> *mut String {
    let input = std::str::from_utf8_unchecked(std::slice::from_raw_parts(input, length));
    Box::into_raw(Box::new(match handle(input) { Ok(output) => output, Err(error) => error }))
}
"""

_ZIG: Final = """const std = @import("std");

const Request = struct { words: []const []const u8 = &.{} };

pub fn handle(allocator: std.mem.Allocator, input: []const u8) ![]const u8 {
    const request = try std.json.parseFromSliceLeaky(Request, allocator, input, .{});
    var letters: usize = 0;
    for (request.words) |word| letters += word.len;
    return std.json.Stringify.valueAlloc(allocator, .{ .letters = letters, .number = @as(i64, NUMBER) }, .{});
}
"""

SOURCES: Final[Mapping[str, str]] = {"plain": _PLAIN, "json": _JSON, "c": _C, "cpp": _CPP, "go": _GO, "rust": _RUST, "zig": _ZIG}
