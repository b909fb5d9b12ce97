// Compares two texts line by line and answers with the fewest lines to remove and to add, as patches show them.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <ranges>
#include <string>
#include <string_view>
#include <vector>

namespace {

std::vector<std::string_view> lines_of(std::string_view text) {
  std::vector<std::string_view> lines;
  for (auto line : text | std::views::split('\n')) lines.emplace_back(line);
  return lines;
}

// Element [i][j] is the length of the longest common subsequence of the lines from i on and those from j on.
std::vector<std::vector<int>> common_lengths(const std::vector<std::string_view> &before, const std::vector<std::string_view> &after) {
  std::vector lengths(before.size() + 1, std::vector<int>(after.size() + 1));
  for (std::size_t i = before.size(); i-- > 0;) {
    for (std::size_t j = after.size(); j-- > 0;) {
      lengths[i][j] = before[i] == after[j] ? lengths[i + 1][j + 1] + 1 : std::max(lengths[i + 1][j], lengths[i][j + 1]);
    }
  }
  return lengths;
}

} // namespace

std::string handle(std::string_view input) {
  auto request = nlohmann::json::parse(input);
  auto before = lines_of(request.at("before").get_ref<const std::string &>());
  auto after = lines_of(request.at("after").get_ref<const std::string &>());
  auto lengths = common_lengths(before, after);

  int removed = 0, added = 0;
  auto diff = nlohmann::json::array();
  auto add = [&diff](char sign, std::string_view line) { diff.push_back(sign + std::string(line)); };
  std::size_t i = 0, j = 0;
  while (i < before.size() || j < after.size()) {
    if (i < before.size() && j < after.size() && before[i] == after[j]) {
      add(' ', before[i++]);
      j++;
    } else if (j == after.size() || (i < before.size() && lengths[i + 1][j] >= lengths[i][j + 1])) {
      add('-', before[i++]);
      removed++;
    } else {
      add('+', after[j++]);
      added++;
    }
  }
  return nlohmann::json{{"removed", removed}, {"added", added}, {"diff", diff}}.dump();
}
