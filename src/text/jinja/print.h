// How Python prints values: str() for output and repr() for what stands inside lists and dicts.
#pragma once

#include <string>

#include "text/jinja/value.h"

namespace donar::text::jinja {

std::string int_repr(Int value);
std::string float_repr(double value);  // shortest digits that read back: 1.0, 1e-05, 1e+16

// str(value), with the ranges of its strings; undefined gives nothing.
void append_str(Text& out, const Value& value, Budget& budget);
Text to_text(const Value& value, Budget& budget);
void append_repr(Text& out, const Value& value, Budget& budget);

}  // namespace donar::text::jinja
