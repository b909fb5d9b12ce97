// Included before the first line of every function in C++: what most of them include is read already.
#include <kiln.h>

// Without exceptions, what the JSON library would throw ends the run with its message.
#define JSON_THROW_USER(exception) kiln_fail((exception).what())
#define JSON_TRY_USER if (true)
#define JSON_CATCH_USER(exception) if (false)
#define JSON_INTERNAL_CATCH_USER(exception) if (false)

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

// What a function defines: JSON text in, JSON text out.
std::string handle(std::string_view input);
