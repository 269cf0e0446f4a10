// Methods of dicts, lists and objects, and which names of an object are methods at all.
#include <algorithm>
#include <iterator>

#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/object.h"
#include "text/jinja/operators.h"

namespace donar::text::jinja {
namespace {

template <size_t kSize>
bool one_of(std::string_view name, const std::string_view (&names)[kSize]) {
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

constexpr std::string_view kDictMethods[] = {"copy", "get", "items", "keys", "values"};
constexpr std::string_view kDictChanges[] = {"clear", "pop", "popitem", "setdefault", "update"};
constexpr std::string_view kListMethods[] = {"copy", "count", "index"};
constexpr std::string_view kListChanges[] = {"append", "clear",  "extend",  "insert",
                                             "pop",    "remove", "reverse", "sort"};
constexpr std::string_view kTupleMethods[] = {"count", "index"};

Value dict_view(const Value& self, Sequence sequence, Budget& budget) {
  List list;
  list.sequence = sequence;
  const auto& entries = self.as_dict().entries;
  budget.step(entries.size());
  budget.allocate(entries.size() * sizeof(Value));
  list.items.reserve(entries.size());
  for (const auto& [key, value] : entries) {
    list.items.push_back(sequence == Sequence::kKeys ? key
                         : sequence == Sequence::kValues
                             ? value
                             : Value::tuple({key, value}).with_untrusted(self.untrusted()));
  }
  return Value::list(std::move(list)).with_untrusted(self.untrusted());
}

Value call_dict_method(Interpreter& run, const Value& self, std::string_view name, Args& args) {
  if (name == "get") {
    const Arguments arguments("get", args, {"key", "default"});
    const Value* found = self.as_dict().find(arguments.required(0));
    if (found != nullptr) return *found;
    return arguments.has(1) ? arguments[1] : Value::none();
  }
  Arguments(name, args, {});
  if (name == "items") return dict_view(self, Sequence::kItems, run.budget());
  if (name == "keys") return dict_view(self, Sequence::kKeys, run.budget());
  if (name == "values") return dict_view(self, Sequence::kValues, run.budget());
  return self;  // copy: values cannot change
}

Value call_list_method(Interpreter& run, const Value& self, std::string_view name, Args& args) {
  if (name == "copy") {
    Arguments(name, args, {});
    return self;
  }
  const Arguments arguments(name, args, {"value"});
  const Value& sought = arguments.required(0);
  const auto& items = self.as_list().items;
  Int count = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    if (!equals(items[i], sought, run.budget())) continue;
    if (name == "index") return Value::integer(static_cast<Int>(i));
    ++count;
  }
  if (name == "index") raise("index(): the value is not in the list");
  return Value::integer(count);
}

}  // namespace

MethodKind method_kind(const Value& object, std::string_view name) {
  if (name.starts_with("__") && name.ends_with("__")) return MethodKind::kForbidden;
  const auto known = [](bool callable, bool forbidden) {
    return forbidden  ? MethodKind::kForbidden
           : callable ? MethodKind::kCallable
                      : MethodKind::kNone;
  };
  switch (object.kind()) {
    case Kind::kString:
      return known(is_string_method(name), false);
    case Kind::kDict:
      return known(one_of(name, kDictMethods), one_of(name, kDictChanges));
    case Kind::kList:
      if (object.as_list().sequence == Sequence::kList)
        return known(one_of(name, kListMethods), one_of(name, kListChanges));
      return known(object.as_list().sequence == Sequence::kTuple && one_of(name, kTupleMethods),
                   false);
    case Kind::kFloat:
    case Kind::kInt:
    case Kind::kBool:
      return known(name == "is_integer" && object.is(Kind::kFloat), false);
    case Kind::kObject:
      return known(object.as_object()->has_method(name), false);
    default:
      return MethodKind::kNone;
  }
}

Value call_method(Interpreter& run, const Value& self, std::string_view name, Args& args) {
  return self.is(Kind::kString) ? call_string_method(run, self, name, args)
                                : call_container_method(run, self, name, args);
}

Value call_container_method(Interpreter& run, const Value& self, std::string_view name,
                            Args& args) {
  if (self.is(Kind::kObject)) return self.as_object()->call_method(run, name, args);
  if (method_kind(self, name) == MethodKind::kCallable) {
    if (self.is(Kind::kDict)) return call_dict_method(run, self, name, args);
    if (self.is(Kind::kList)) return call_list_method(run, self, name, args);
    const double value = self.as_double();
    return Value::boolean(
        value == static_cast<double>(static_cast<int64_t>(std::clamp(value, -9e18, 9e18))));
  }
  raise("a {} has no method '{}'", self.type_name(), name);
}

}  // namespace donar::text::jinja
