// What the host calls: it gives and takes texts by place and size.
#include <cstdarg>

extern "C" uint64_t kiln_place(const char *text, size_t size);

extern "C" __attribute__((export_name("handle"))) uint64_t kiln_handle(const char *input, size_t size) {
  auto *output = new std::string(handle(std::string_view(input, size)));
  return kiln_place(output->data(), output->size());
}

// Where the standard library would throw, or finds that it cannot go on.
[[noreturn]] void std::__libcpp_verbose_abort(const char *format, ...) noexcept {
  char message[1024];
  va_list values;
  va_start(values, format);
  std::vsnprintf(message, sizeof message, format, values);
  va_end(values);
  kiln_fail(message);
}
