// Evaluates formulas as spreadsheets have them: + - * / ^, parentheses, names of values, and a few functions.

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

using Values = std::map<std::string, double, std::less<>>;
using Arguments = std::vector<double>;

namespace {

const std::map<std::string, double (*)(const Arguments &), std::less<>> FUNCTIONS = {
    {"sum", [](const Arguments &all) { return std::accumulate(all.begin(), all.end(), 0.0); }},
    {"min", [](const Arguments &all) { return *std::min_element(all.begin(), all.end()); }},
    {"max", [](const Arguments &all) { return *std::max_element(all.begin(), all.end()); }},
    {"sqrt", [](const Arguments &all) { return std::sqrt(all.at(0)); }},
    {"round", [](const Arguments &all) { return std::round(all.at(0)); }},
};

// Reads by recursive descent: a sum is of products, a product of powers, a power of values.
class Parser {
public:
  Parser(std::string_view text, const Values &values) : text_(text), values_(values) {}

  double formula() {
    double result = sum();
    if (skip_space(), at_ < text_.size()) fail("an operator");
    return result;
  }

private:
  double sum() {
    double result = product();
    while (true) {
      if (take('+')) result += product();
      else if (take('-')) result -= product();
      else return result;
    }
  }

  double product() {
    double result = power();
    while (true) {
      if (take('*')) result *= power();
      else if (take('/')) result /= power();
      else return result;
    }
  }

  double power() {
    if (take('-')) return -power();
    double base = value();
    return take('^') ? std::pow(base, power()) : base;
  }

  double value() {
    if (take('(')) return closed(sum());
    if (at_ < text_.size() && std::isalpha(static_cast<unsigned char>(text_[at_]))) return named(name());
    double number = 0;
    auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), number);
    if (error != std::errc{}) fail("a number, a name or '('");
    at_ = static_cast<std::size_t>(end - text_.data());
    return number;
  }

  double named(std::string_view name) {
    if (!take('(')) {
      auto found = values_.find(name);
      return found != values_.end() ? found->second : fail("the name of a value instead of " + std::string(name));
    }
    Arguments arguments;
    do arguments.push_back(sum());
    while (take(','));
    auto function = FUNCTIONS.find(name);
    return function != FUNCTIONS.end() ? closed(function->second(arguments)) : fail("a function instead of " + std::string(name));
  }

  double closed(double result) { return take(')') ? result : fail("')'"); }

  std::string_view name() {
    auto start = at_;
    while (at_ < text_.size() && std::isalnum(static_cast<unsigned char>(text_[at_]))) at_++;
    return text_.substr(start, at_ - start);
  }

  bool take(char wanted) {
    skip_space();
    bool found = at_ < text_.size() && text_[at_] == wanted;
    if (found) at_++, skip_space();
    return found;
  }

  void skip_space() {
    while (at_ < text_.size() && text_[at_] == ' ') at_++;
  }

  [[noreturn]] double fail(const std::string &expected) const {
    kiln_fail(("expected " + expected + " at character " + std::to_string(at_ + 1) + " of: " + std::string(text_)).c_str());
  }

  std::string_view text_;
  const Values &values_;
  std::size_t at_ = 0;
};

} // namespace

std::string handle(std::string_view input) {
  auto request = nlohmann::ordered_json::parse(input);
  auto values = request.value("values", Values{});
  nlohmann::ordered_json answer;
  for (const auto &[name, formula] : request.at("formulas").items()) {
    // A formula may use the results of those before it.
    answer[name] = values[name] = Parser(formula.get_ref<const std::string &>(), values).formula();
  }
  return answer.dump();
}
