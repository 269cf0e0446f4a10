// tojson: Python's json.dumps.
#pragma once

#include <optional>
#include <string>

#include "text/jinja/value.h"

namespace donar::text::jinja {

struct JsonStyle {
  bool ascii = false;  // \u escapes for everything beyond ASCII
  bool sort_keys = false;
  std::optional<std::string> indent;  // per level; none: one line
  Text item_separator;
  Text key_separator;
};

// Raises for undefined values, objects and keys that JSON cannot hold.
Text dump_json(const Value& value, const JsonStyle& style, Budget& budget);

}  // namespace donar::text::jinja
