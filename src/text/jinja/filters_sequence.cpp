// Filters on sequences. Those that Jinja writes as generators give generators here too: always true
// and used up by one pass.
#include <algorithm>
#include <iterator>
#include <unordered_set>

#include "text/jinja/arguments.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"
#include "text/jinja/text_ops.h"

namespace donar::text::jinja {
namespace {

bool is_number(std::string_view text) {
  return !text.empty() && text.size() < 10 &&
         text.find_first_not_of("0123456789") == std::string_view::npos;
}

// The part of `value` that "a.b.0" (or a number) names.
Value attribute_path(Interpreter& run, Value value, const Value& path) {
  if (path.is_integral()) return run.item(value, path);
  if (!path.is(Kind::kString))
    raise("an attribute is named by a string or a number, not {}", path.type_name());
  std::string_view rest = path.view();
  for (;;) {
    const size_t dot = rest.find('.');
    const std::string_view part = rest.substr(0, dot);
    value = run.item(value, is_number(part) ? Value::integer(std::stoi(std::string(part)))
                                            : Value::string(part));
    if (dot == std::string_view::npos) return value;
    rest = rest.substr(dot + 1);
  }
}

Value ignore_case(Interpreter& run, const Value& value) {
  return value.is(Kind::kString)
             ? Value::string(change_case(value.text(), Case::kLower, run.budget()))
             : value;
}

// What items are sorted, grouped and compared by.
Value sort_key(Interpreter& run, const Value& item, const Value* attribute, bool case_sensitive) {
  Value key =
      attribute && !attribute->is(Kind::kNone) ? attribute_path(run, item, *attribute) : item;
  return case_sensitive ? key : ignore_case(run, key);
}

Value first_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("first", args, {});
  const std::vector<Value> items = iterate(value, run.budget());
  return items.empty() ? Value::undefined("the first item of an empty sequence") : items.front();
}

Value last_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("last", args, {});
  if (value.is(Kind::kList) && value.as_list().sequence == Sequence::kGenerator)
    raise("last needs a list: use the filter list before");
  const std::vector<Value> items = iterate(value, run.budget());
  return items.empty() ? Value::undefined("the last item of an empty sequence") : items.back();
}

Value list_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("list", args, {});
  return Value::list(iterate(value, run.budget())).with_untrusted(value.untrusted());
}

Value join_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("join", args, {"d", "attribute"});
  const Text separator = arguments.has(0) ? to_text(arguments[0], run.budget()) : Text();
  Text out;
  bool first = true;
  for (const Value& item : iterate(value, run.budget())) {
    if (!first) out.append(separator);
    first = false;
    append_str(out,
               arguments.has(1) && !arguments[1].is(Kind::kNone)
                   ? attribute_path(run, item, arguments[1])
                   : item,
               run.budget());
  }
  run.budget().text(out.size());
  return Value::string(std::move(out));
}

// Filters and tests given by name: the name is the first of `args` and is removed.
std::string take_name(std::string_view filter, Args& args) {
  if (args.positional.empty() || !args.positional[0].is(Kind::kString))
    raise("{} needs the name of a filter or test", filter);
  std::string name = args.positional[0].text().bytes();
  args.positional.erase(args.positional.begin());
  return name;
}

Value map_filter(Interpreter& run, const Value& value, Args& args) {
  std::vector<Value> items = truth(value) ? iterate(value, run.budget()) : std::vector<Value>();
  if (args.positional.empty() && !args.named.empty()) {
    const Arguments arguments("map", args, {"attribute", "default"});
    for (Value& item : items) {
      item = attribute_path(run, item, arguments.required(0));
      if (item.is(Kind::kUndefined) && arguments.has(1) && !arguments[1].is(Kind::kNone))
        item = arguments[1];
    }
    return Value::generator(std::move(items));
  }
  const std::string name = take_name("map", args);
  for (Value& item : items) {
    Args copy = args;
    item = call_filter(run, name, item, copy);
  }
  return Value::generator(std::move(items));
}

Value keep_where(Interpreter& run, const Value& value, Args& args, bool keep, bool by_attribute) {
  std::vector<Value> items = truth(value) ? iterate(value, run.budget()) : std::vector<Value>();
  Value attribute;
  if (by_attribute) {
    if (args.positional.empty()) raise("selectattr and rejectattr need the name of an attribute");
    attribute = args.positional[0];
    args.positional.erase(args.positional.begin());
  }
  const bool by_test = !args.positional.empty();
  const std::string name = by_test ? take_name("select", args) : std::string();
  std::vector<Value> kept;
  for (const Value& item : items) {
    const Value tested = by_attribute ? attribute_path(run, item, attribute) : item;
    Args copy = args;
    const bool passes = by_test ? call_test(run, name, tested, copy) : truth(tested);
    if (passes == keep) kept.push_back(item);
  }
  return Value::generator(std::move(kept));
}

Value select_filter(Interpreter& run, const Value& value, Args& args) {
  return keep_where(run, value, args, true, false);
}
Value reject_filter(Interpreter& run, const Value& value, Args& args) {
  return keep_where(run, value, args, false, false);
}
Value selectattr_filter(Interpreter& run, const Value& value, Args& args) {
  return keep_where(run, value, args, true, true);
}
Value rejectattr_filter(Interpreter& run, const Value& value, Args& args) {
  return keep_where(run, value, args, false, true);
}

Value unique_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("unique", args, {"case_sensitive", "attribute"});
  const Value* attribute = arguments.has(1) ? &arguments[1] : nullptr;
  Dict seen;  // raises for keys that Python cannot hash either
  std::vector<Value> kept;
  for (const Value& item : iterate(value, run.budget())) {
    const Value key = sort_key(run, item, attribute, arguments.flag(0, false));
    if (seen.find(key) != nullptr) continue;
    seen.set(key, Value::none());
    kept.push_back(item);
  }
  return Value::generator(std::move(kept));
}

// Sorts by one key each; the keys are made once.
void sort_by(Interpreter& run, std::vector<std::pair<Value, Value>>& keyed, bool reverse) {
  const auto before = [&](const auto& a, const auto& b) {
    return reverse ? less(b.first, a.first, run.budget()) : less(a.first, b.first, run.budget());
  };
  std::stable_sort(keyed.begin(), keyed.end(), before);
}

std::vector<Value> values_of(std::vector<std::pair<Value, Value>>& keyed) {
  std::vector<Value> items;
  items.reserve(keyed.size());
  for (auto& [key, item] : keyed) items.push_back(std::move(item));
  return items;
}

Value sort_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("sort", args, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = arguments.flag(1, false);
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : iterate(value, run.budget())) {
    Value key;
    if (arguments.has(2) && arguments[2].is(Kind::kString) &&
        arguments[2].view().find(',') != std::string_view::npos) {
      std::vector<Value> parts;  // "a,b": by several attributes
      for (const Text& part : split(arguments[2].text(), ",", -1, run.budget())) {
        const Value name = Value::string(part);
        parts.push_back(sort_key(run, item, &name, case_sensitive));
      }
      key = Value::list(std::move(parts));
    } else {
      key = sort_key(run, item, arguments.has(2) ? &arguments[2] : nullptr, case_sensitive);
    }
    keyed.emplace_back(std::move(key), item);
  }
  sort_by(run, keyed, arguments.flag(0, false));
  return Value::list(values_of(keyed)).with_untrusted(value.untrusted());
}

Value dictsort_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("dictsort", args, {"case_sensitive", "by", "reverse"});
  if (value.is(Kind::kUndefined)) raise("{}", value.undefined_reason());
  if (!value.is(Kind::kDict)) raise("dictsort needs a dict, not {}", value.type_name());
  const std::string_view by = arguments.has(1) ? arguments.text(1).view() : std::string_view("key");
  if (by != "key" && by != "value") raise("dictsort: by must be key or value");
  std::vector<std::pair<Value, Value>> keyed;
  for (const auto& [key, item] : value.as_dict().entries) {
    const Value& sorted_by = by == "key" ? key : item;
    keyed.emplace_back(arguments.flag(0, false) ? sorted_by : ignore_case(run, sorted_by),
                       Value::tuple({key, item}).with_untrusted(value.untrusted()));
  }
  run.budget().allocate(keyed.size() * 8 * sizeof(Value));
  sort_by(run, keyed, arguments.flag(2, false));
  return Value::list(values_of(keyed)).with_untrusted(value.untrusted());
}

Value groupby_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("groupby", args, {"attribute", "default", "case_sensitive"});
  std::vector<std::pair<Value, Value>> keyed;
  for (const Value& item : iterate(value, run.budget())) {
    Value key = attribute_path(run, item, arguments.required(0));
    if (key.is(Kind::kUndefined) && arguments.has(1)) key = arguments[1];
    keyed.emplace_back(arguments.flag(2, false) ? key : ignore_case(run, key), item);
  }
  sort_by(run, keyed, /*reverse=*/false);
  std::vector<Value> groups;
  for (size_t begin = 0; begin < keyed.size();) {
    size_t end = begin;
    std::vector<Value> members;
    while (end < keyed.size() && equals(keyed[begin].first, keyed[end].first, run.budget()))
      members.push_back(keyed[end++].second);
    groups.push_back(
        Value::tuple({attribute_path(run, members[0], arguments[0]), Value::list(members)}));
    begin = end;
  }
  return Value::list(std::move(groups));
}

Value reverse_filter(Interpreter& run, const Value& value, Args& args) {
  Arguments("reverse", args, {});
  if (value.is(Kind::kString))
    return Value::string(reverse(value.text(), run.budget()), value.markup());
  std::vector<Value> items = iterate(value, run.budget());
  std::reverse(items.begin(), items.end());
  return Value::generator(std::move(items));
}

Value extreme(Interpreter& run, const Value& value, Args& args, bool greatest) {
  const Arguments arguments(greatest ? "max" : "min", args, {"case_sensitive", "attribute"});
  const std::vector<Value> items = iterate(value, run.budget());
  if (items.empty()) return Value::undefined("the extreme of an empty sequence");
  const Value* attribute = arguments.has(1) ? &arguments[1] : nullptr;
  const bool case_sensitive = arguments.flag(0, false);
  size_t best = 0;
  Value best_key = sort_key(run, items[0], attribute, case_sensitive);
  for (size_t i = 1; i < items.size(); ++i) {
    Value key = sort_key(run, items[i], attribute, case_sensitive);
    if (!(greatest ? less(best_key, key, run.budget()) : less(key, best_key, run.budget())))
      continue;
    best = i;
    best_key = std::move(key);
  }
  return items[best];
}

Value max_filter(Interpreter& run, const Value& value, Args& args) {
  return extreme(run, value, args, true);
}
Value min_filter(Interpreter& run, const Value& value, Args& args) {
  return extreme(run, value, args, false);
}

Value sum_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("sum", args, {"attribute", "start"});
  Value total = arguments.has(1) ? arguments[1] : Value::integer(0);
  if (total.is(Kind::kString)) raise("sum cannot join strings: use the filter join");
  for (const Value& item : iterate(value, run.budget())) {
    const bool by_attribute = arguments.has(0) && !arguments[0].is(Kind::kNone);
    total = binary_operation(BinaryOp::kAdd, total,
                             by_attribute ? attribute_path(run, item, arguments[0]) : item,
                             run.budget());
  }
  return total;
}

size_t group_size(std::string_view filter, Int size) {
  if (size < 1) raise("{}: the number must be at least 1", filter);
  return static_cast<size_t>(std::min(size, Int{1'000'000}));
}

Value batch_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("batch", args, {"linecount", "fill_with"});
  arguments.required(0);
  const size_t size = group_size("batch", arguments.integer(0, 1));
  const std::vector<Value> items = iterate(value, run.budget());
  std::vector<Value> batches;
  for (size_t begin = 0; begin < items.size(); begin += size) {
    std::vector<Value> batch(
        items.begin() + static_cast<std::ptrdiff_t>(begin),
        items.begin() + static_cast<std::ptrdiff_t>(std::min(begin + size, items.size())));
    if (arguments.has(1) && !arguments[1].is(Kind::kNone) && batch.size() < size) {
      run.budget().allocate(size * sizeof(Value));
      batch.resize(size, arguments[1]);
    }
    batches.push_back(Value::list(std::move(batch)));
  }
  return Value::generator(std::move(batches));
}

// As many lists as asked for; the first ones are one longer if the items do not divide evenly.
Value slice_filter(Interpreter& run, const Value& value, Args& args) {
  const Arguments arguments("slice", args, {"slices", "fill_with"});
  arguments.required(0);
  const size_t slices = group_size("slice", arguments.integer(0, 1));
  const std::vector<Value> items = iterate(value, run.budget());
  run.budget().step(slices);
  run.budget().allocate(slices * 2 * sizeof(Value));
  const size_t shortest = items.size() / slices;
  const size_t longer = items.size() % slices;
  std::vector<Value> lists;
  size_t begin = 0;
  for (size_t i = 0; i < slices; ++i) {
    const size_t end = begin + shortest + (i < longer ? 1 : 0);
    std::vector<Value> list(items.begin() + static_cast<std::ptrdiff_t>(begin),
                            items.begin() + static_cast<std::ptrdiff_t>(end));
    if (arguments.has(1) && !arguments[1].is(Kind::kNone) && i >= longer)
      list.push_back(arguments[1]);
    lists.push_back(Value::list(std::move(list)));
    begin = end;
  }
  return Value::generator(std::move(lists));
}

constexpr FilterEntry kFilters[] = {
    {"batch", batch_filter},     {"dictsort", dictsort_filter}, {"first", first_filter},
    {"groupby", groupby_filter}, {"join", join_filter},         {"last", last_filter},
    {"list", list_filter},       {"map", map_filter},           {"max", max_filter},
    {"min", min_filter},         {"reject", reject_filter},     {"rejectattr", rejectattr_filter},
    {"reverse", reverse_filter}, {"select", select_filter},     {"selectattr", selectattr_filter},
    {"slice", slice_filter},     {"sort", sort_filter},         {"sum", sum_filter},
    {"unique", unique_filter},
};

}  // namespace

const FilterEntry* find_sequence_filter(std::string_view name) {
  const auto found = std::find_if(std::begin(kFilters), std::end(kFilters),
                                  [&](const FilterEntry& entry) { return entry.name == name; });
  return found == std::end(kFilters) ? nullptr : found;
}

}  // namespace donar::text::jinja
