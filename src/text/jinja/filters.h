// Jinja's filters and tests by name.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace donar::text::jinja {

class Interpreter;

bool has_filter(std::string_view name);
bool has_test(std::string_view name);

// Both raise for an unknown name.
Value call_filter(Interpreter& interpreter, std::string_view name, const Value& value, Args& args);
bool call_test(Interpreter& interpreter, std::string_view name, const Value& value, Args& args);

// One table per file of filters; found by call_filter.
struct FilterEntry {
  std::string_view name;
  Value (*run)(Interpreter&, const Value&, Args&);
};
const FilterEntry* find_text_filter(std::string_view name);      // filters_text.cpp
const FilterEntry* find_value_filter(std::string_view name);     // filters_value.cpp
const FilterEntry* find_sequence_filter(std::string_view name);  // filters_sequence.cpp

}  // namespace donar::text::jinja
