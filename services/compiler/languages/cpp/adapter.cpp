// What the host calls: it gives and takes texts by place and size.
#include <cstdarg>

extern "C" uint64_t kiln_place(const char *text, size_t size);

extern "C" __attribute__((export_name("handle"))) uint64_t kiln_handle(const char *input, size_t size) {
  auto *output = new std::string(handle(std::string_view(input, size)));
  return kiln_place(output->data(), output->size());
}

// What the library says, without the place in its own headers and without its flags: "std::out_of_range: vector".
static std::string told(std::string_view message) {
  constexpr std::string_view thrown = " was thrown in -fno-exceptions mode", with = " with message \"", failed = " failed: ";
  while (message.ends_with('\n')) message.remove_suffix(1);
  if (auto at = message.find(thrown); at != message.npos) {
    auto name = "std::" + std::string(message.substr(0, at));
    message.remove_prefix(at + thrown.size());
    if (!message.starts_with(with)) return name;
    message.remove_prefix(with.size());
    message.remove_suffix(message.ends_with('"'));
    return name + ": " + std::string(message);
  }
  if (auto at = message.find(failed); at != message.npos && message.contains("libc++ Hardening assertion")) message.remove_prefix(at + failed.size());
  return std::string(message);
}

// Where the standard library would throw, or finds that it cannot go on.
[[noreturn]] void std::__libcpp_verbose_abort(const char *format, ...) noexcept {
  char message[1024];
  va_list values;
  va_start(values, format);
  std::vsnprintf(message, sizeof message, format, values);
  va_end(values);
  kiln_fail(told(message).c_str());
}
