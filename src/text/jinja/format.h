// Python's string formatting: "%s" % x and "{}".format(x).
#pragma once

#include "text/jinja/value.h"

namespace donar::text::jinja {

// format % right; `right` is a tuple of arguments, a dict for %(name)s, or the only argument.
Value format_percent(const Value& format, const Value& right, Budget& budget);

class Interpreter;

// format.format(*args, **kwargs); fields may have attributes and items: {0.name}, {x[key]}.
Text format_braces(const Value& format, const Args& args, Interpreter& interpreter);

// One value by a format specification (">8", ".2f", "05d"): what stands after the colon in
// "{:...}".
Text format_value(const Value& value, std::string_view specification, Budget& budget);

}  // namespace donar::text::jinja
