// Methods of strings, dicts, lists and objects. Methods that change a list or dict do not exist
// here: the sandbox forbids them.
#pragma once

#include <string_view>

#include "text/jinja/value.h"

namespace donar::text::jinja {

class Interpreter;

// `object.name`: Python finds the method before the dict's key of that name.
enum class MethodKind : uint8_t { kNone, kCallable, kForbidden };
MethodKind method_kind(const Value& object, std::string_view name);

// Raises for an unknown method.
Value call_method(Interpreter& interpreter, const Value& self, std::string_view name, Args& args);

// The halves of call_method, one file each; both raise for an unknown name.
Value call_string_method(Interpreter& interpreter, const Value& self, std::string_view name,
                         Args& args);
Value call_container_method(Interpreter& interpreter, const Value& self, std::string_view name,
                            Args& args);
bool is_string_method(std::string_view name);

}  // namespace donar::text::jinja
