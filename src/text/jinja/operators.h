// Python's operators on values: arithmetic, comparison, truth, membership, indexing.
#pragma once

#include <string_view>
#include <vector>

#include "text/jinja/ast.h"
#include "text/jinja/value.h"

namespace donar::text::jinja {

bool truth(const Value& value);

Value binary_operation(BinaryOp op, const Value& left, const Value& right, Budget& budget);
Value negate(const Value& value);
Value plus(const Value& value);

bool equals(const Value& left, const Value& right, Budget& budget);
bool less(const Value& left, const Value& right,
          Budget& budget);  // raises if Python cannot order them
bool compare(CompareOp op, const Value& left, const Value& right, Budget& budget);
bool contains(const Value& container, const Value& item, Budget& budget);

// What a for loop sees: items of a list, keys of a dict, code points of a string. Raises for
// anything else; uses a generator up.
std::vector<Value> iterate(const Value& value, Budget& budget);
Int length(const Value& value);  // raises for values without

// object[index] of a list, dict or string; undefined where Python raises LookupError or TypeError.
Value item(const Value& object, const Value& index, Budget& budget);
// object[start:stop:step]; null parts are left out.
Value slice(const Value& object, const Value* start, const Value* stop, const Value* step,
            Budget& budget);

// <, >, &, quotes as HTML entities, which is what `escape` gives.
Text escape_html(const Text& text, Budget& budget);

}  // namespace donar::text::jinja
