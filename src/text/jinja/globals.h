// Functions that every template may call: raise_exception, strftime_now, range, namespace, dict,
// cycler, joiner.
#pragma once

#include <string_view>

#include "text/jinja/object.h"

namespace donar::text::jinja {

Function::Body find_global(std::string_view name);  // null if there is none

}  // namespace donar::text::jinja
