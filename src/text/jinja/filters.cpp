// Finding filters and tests by name, and all tests.
#include "text/jinja/filters.h"

#include <algorithm>
#include <iterator>

#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

const FilterEntry* find_filter(std::string_view name) {
  if (const FilterEntry* entry = find_text_filter(name)) return entry;
  if (const FilterEntry* entry = find_value_filter(name)) return entry;
  return find_sequence_filter(name);
}

using Test = bool (*)(Interpreter&, const Value&, const Args&);

// A test with one argument, and one without.
const Value& only(std::string_view name, const Args& args) {
  if (args.positional.size() != 1 || !args.named.empty())
    raise("the test '{}' takes one argument", name);
  return args.positional[0];
}

template <CompareOp kOp>
bool compares(Interpreter& run, const Value& value, const Args& args) {
  return compare(kOp, value, only("comparison", args), run.budget());
}

bool is_kind(const Value& value, Kind kind) { return value.is(kind); }

Int integer_of(const Value& value) {
  if (value.is(Kind::kUndefined)) raise("{}", value.undefined_reason());
  if (!value.is_integral()) raise("this test needs an integer, not {}", value.type_name());
  return value.as_int();
}

bool cased(Interpreter& run, const Value& value, bool upper) {
  const Text text = to_text(value, run.budget());
  bool any = false;
  for (size_t at = 0; at < text.size();) {
    const CodePoint c = decode_at(text.view(), at);
    if (upper ? is_lower(c.value) : is_upper(c.value)) return false;
    any |= is_upper(c.value) || is_lower(c.value);
    at += c.bytes;
  }
  return any;
}

// What has a length and can be indexed; Jinja's undefined has both.
bool is_sequence(const Value& value) {
  if (value.is(Kind::kString) || value.is(Kind::kDict) || value.is(Kind::kUndefined)) return true;
  return value.is(Kind::kList) && (value.as_list().sequence <= Sequence::kTuple ||
                                   value.as_list().sequence == Sequence::kRange);
}

struct TestEntry {
  std::string_view name;
  Test run;
};

constexpr TestEntry kTests[] = {
    {"defined",
     [](Interpreter&, const Value& v, const Args&) { return !is_kind(v, Kind::kUndefined); }},
    {"undefined",
     [](Interpreter&, const Value& v, const Args&) { return is_kind(v, Kind::kUndefined); }},
    {"none", [](Interpreter&, const Value& v, const Args&) { return is_kind(v, Kind::kNone); }},
    {"boolean", [](Interpreter&, const Value& v, const Args&) { return is_kind(v, Kind::kBool); }},
    {"true",
     [](Interpreter&, const Value& v, const Args&) { return v.is(Kind::kBool) && v.as_bool(); }},
    {"false",
     [](Interpreter&, const Value& v, const Args&) { return v.is(Kind::kBool) && !v.as_bool(); }},
    {"integer", [](Interpreter&, const Value& v, const Args&) { return is_kind(v, Kind::kInt); }},
    {"float", [](Interpreter&, const Value& v, const Args&) { return is_kind(v, Kind::kFloat); }},
    {"number", [](Interpreter&, const Value& v, const Args&) { return v.is_number(); }},
    {"string", [](Interpreter&, const Value& v, const Args&) { return is_kind(v, Kind::kString); }},
    {"mapping", [](Interpreter&, const Value& v, const Args&) { return is_kind(v, Kind::kDict); }},
    {"sequence", [](Interpreter&, const Value& v, const Args&) { return is_sequence(v); }},
    {"iterable",
     [](Interpreter&, const Value& v, const Args&) {
       return v.is(Kind::kUndefined) || v.is(Kind::kString) || v.is(Kind::kDict) ||
              v.is(Kind::kList);
     }},
    {"callable",
     [](Interpreter&, const Value& v,
        const Args&) {  // undefined too: calling it is an error of its own
       return v.is(Kind::kUndefined) || (v.is(Kind::kObject) && v.as_object()->callable());
     }},
    {"escaped", [](Interpreter&, const Value& v, const Args&) { return v.markup(); }},
    {"sameas", [](Interpreter&, const Value& v,
                  const Args& args) { return v.identical(only("sameas", args)); }},
    {"odd", [](Interpreter&, const Value& v, const Args&) { return integer_of(v) % 2 != 0; }},
    {"even", [](Interpreter&, const Value& v, const Args&) { return integer_of(v) % 2 == 0; }},
    {"divisibleby",
     [](Interpreter&, const Value& v, const Args& args) {
       const Int divisor = integer_of(only("divisibleby", args));
       if (divisor == 0) raise("division by zero");
       return divisor == -1 || integer_of(v) % divisor == 0;
     }},
    {"lower",
     [](Interpreter& run, const Value& v, const Args&) { return cased(run, v, /*upper=*/false); }},
    {"upper",
     [](Interpreter& run, const Value& v, const Args&) { return cased(run, v, /*upper=*/true); }},
    {"in", [](Interpreter& run, const Value& v,
              const Args& args) { return contains(only("in", args), v, run.budget()); }},
    {"filter", [](Interpreter&, const Value& v,
                  const Args&) { return v.is(Kind::kString) && has_filter(v.view()); }},
    {"test", [](Interpreter&, const Value& v,
                const Args&) { return v.is(Kind::kString) && has_test(v.view()); }},
    {"eq", compares<CompareOp::kEqual>},
    {"==", compares<CompareOp::kEqual>},
    {"equalto", compares<CompareOp::kEqual>},
    {"ne", compares<CompareOp::kNotEqual>},
    {"!=", compares<CompareOp::kNotEqual>},
    {"lt", compares<CompareOp::kLess>},
    {"<", compares<CompareOp::kLess>},
    {"lessthan", compares<CompareOp::kLess>},
    {"le", compares<CompareOp::kLessEqual>},
    {"<=", compares<CompareOp::kLessEqual>},
    {"gt", compares<CompareOp::kGreater>},
    {">", compares<CompareOp::kGreater>},
    {"greaterthan", compares<CompareOp::kGreater>},
    {"ge", compares<CompareOp::kGreaterEqual>},
    {">=", compares<CompareOp::kGreaterEqual>},
};

const TestEntry* find_test(std::string_view name) {
  const auto found = std::find_if(std::begin(kTests), std::end(kTests),
                                  [&](const TestEntry& entry) { return entry.name == name; });
  return found == std::end(kTests) ? nullptr : found;
}

}  // namespace

bool has_filter(std::string_view name) { return find_filter(name) != nullptr; }
bool has_test(std::string_view name) { return find_test(name) != nullptr; }

Value call_filter(Interpreter& run, std::string_view name, const Value& value, Args& args) {
  const FilterEntry* filter = find_filter(name);
  if (filter == nullptr) raise("unknown filter '{}'", name);
  run.budget().step();
  return filter->run(run, value, args);
}

bool call_test(Interpreter& run, std::string_view name, const Value& value, Args& args) {
  const TestEntry* test = find_test(name);
  if (test == nullptr) raise("unknown test '{}'", name);
  run.budget().step();
  return test->run(run, value, args);
}

}  // namespace donar::text::jinja
