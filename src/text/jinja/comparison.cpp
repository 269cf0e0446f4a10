// Equality, order, membership and indexing of values (operators.h).
#include <algorithm>

#include "text/jinja/object.h"
#include "text/jinja/operators.h"
#include "text/jinja/unicode.h"

namespace donar::text::jinja {
namespace {

bool list_equals(const List& left, const List& right, Budget& budget) {
  if (&left == &right) return true;
  if (left.sequence != right.sequence || left.sequence == Sequence::kGenerator) return false;
  if (left.items.size() != right.items.size()) return false;
  for (size_t i = 0; i < left.items.size(); ++i) {
    if (!equals(left.items[i], right.items[i], budget)) return false;
  }
  return true;
}

bool dict_equals(const Dict& left, const Dict& right, Budget& budget) {
  if (&left == &right) return true;
  if (left.entries.size() != right.entries.size()) return false;
  for (const auto& [key, value] : left.entries) {
    const Value* other = right.find(key);
    if (other == nullptr || !equals(value, *other, budget)) return false;
  }
  return true;
}

bool number_equals(const Value& left, const Value& right) {
  if (left.is_integral() && right.is_integral()) return left.as_int() == right.as_int();
  return left.as_double() == right.as_double();
}

// Start, stop and step of a slice over `size` items, as Python resolves them.
struct Bounds {
  Int start, stop, step;
};

Int slice_part(const Value& value) {
  if (value.is(Kind::kUndefined)) raise("{}", value.undefined_reason());
  if (!value.is_integral()) raise("a slice needs integers, not {}", value.type_name());
  return value.as_int();
}

Bounds resolve(const Value* start, const Value* stop, const Value* step, Int size) {
  const auto given = [](const Value* value) { return value != nullptr && !value->is(Kind::kNone); };
  Bounds bounds{};
  bounds.step = given(step) ? slice_part(*step) : 1;
  if (bounds.step == 0) raise("a slice cannot have step 0");
  constexpr Int kFar = Int{1} << 62;
  bounds.step = std::clamp(bounds.step, -kFar, kFar);
  const bool backward = bounds.step < 0;
  const Int lowest = backward ? -1 : 0;
  const Int highest = backward ? size - 1 : size;
  const auto clamp = [&](const Value* value, Int fallback) {
    if (!given(value)) return fallback;
    const Int index = std::clamp(slice_part(*value), -kFar, kFar);
    return std::clamp(index < 0 ? index + size : index, lowest, highest);
  };
  bounds.start = clamp(start, backward ? highest : lowest);
  bounds.stop = clamp(stop, backward ? lowest : highest);
  return bounds;
}

Value slice_string(const Value& object, const Value* start, const Value* stop, const Value* step,
                   Budget& budget) {
  const Text& text = object.text();
  budget.step(1 + text.size() / 64);
  const Bounds bounds =
      resolve(start, stop, step, static_cast<Int>(count_code_points(text.view())));
  Text out;
  if (bounds.step == 1) {
    if (bounds.start < bounds.stop) {
      const size_t begin = byte_offset(text.view(), static_cast<size_t>(bounds.start));
      const size_t count = static_cast<size_t>(bounds.stop - bounds.start);
      out = text.slice(begin, begin + byte_offset(text.view().substr(begin), count));
    }
  } else {
    std::vector<size_t> offsets;
    for (size_t at = 0; at < text.size(); at += decode_at(text.view(), at).bytes)
      offsets.push_back(at);
    offsets.push_back(text.size());
    budget.allocate(offsets.size() * sizeof(size_t));
    for (Int i = bounds.start; bounds.step > 0 ? i < bounds.stop : i > bounds.stop;
         i += bounds.step) {
      out.append(text, offsets[static_cast<size_t>(i)], offsets[static_cast<size_t>(i) + 1]);
    }
  }
  budget.text(out.size());
  return Value::string(std::move(out), object.markup());
}

}  // namespace

bool equals(const Value& left, const Value& right, Budget& budget) {
  budget.step();
  if (left.is_number() && right.is_number()) return number_equals(left, right);
  if (left.kind() != right.kind()) return false;
  const Budget::Nest nest(budget);
  switch (left.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      budget.step(left.text().size() == right.text().size() ? left.text().size() / 256 : 0);
      return left.view() == right.view();
    case Kind::kList:
      return list_equals(left.as_list(), right.as_list(), budget);
    case Kind::kDict:
      return dict_equals(left.as_dict(), right.as_dict(), budget);
    default:
      return left.identical(right);
  }
}

bool less(const Value& left, const Value& right, Budget& budget) {
  budget.step();
  if (left.is_integral() && right.is_integral()) return left.as_int() < right.as_int();
  if (left.is_number() && right.is_number()) return left.as_double() < right.as_double();
  if (left.is(Kind::kString) && right.is(Kind::kString))
    return left.view() < right.view();  // UTF-8 orders as code points do
  if (left.is(Kind::kList) && right.is(Kind::kList) &&
      left.as_list().sequence == right.as_list().sequence &&
      left.as_list().sequence <= Sequence::kTuple) {
    const Budget::Nest nest(budget);
    const std::vector<Value>& a = left.as_list().items;
    const std::vector<Value>& b = right.as_list().items;
    for (size_t i = 0; i < a.size() && i < b.size(); ++i) {
      if (!equals(a[i], b[i], budget)) return less(a[i], b[i], budget);
    }
    return a.size() < b.size();
  }
  if (left.is(Kind::kUndefined)) raise("{}", left.undefined_reason());
  if (right.is(Kind::kUndefined)) raise("{}", right.undefined_reason());
  raise("{} and {} cannot be ordered", left.type_name(), right.type_name());
}

bool compare(CompareOp op, const Value& left, const Value& right, Budget& budget) {
  // NaN is neither less nor equal, so that <= is not the negation of >.
  const bool nan = left.is_number() && right.is_number() &&
                   (left.as_double() != left.as_double() || right.as_double() != right.as_double());
  switch (op) {
    case CompareOp::kEqual:
      return equals(left, right, budget);
    case CompareOp::kNotEqual:
      return !equals(left, right, budget);
    case CompareOp::kLess:
      return less(left, right, budget);
    case CompareOp::kGreater:
      return less(right, left, budget);
    case CompareOp::kLessEqual:
      return !less(right, left, budget) && !nan;
    case CompareOp::kGreaterEqual:
      return !less(left, right, budget) && !nan;
    case CompareOp::kIn:
      return contains(right, left, budget);
    case CompareOp::kNotIn:
      return !contains(right, left, budget);
  }
  return false;
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  switch (container.kind()) {
    case Kind::kString:
      if (!item.is(Kind::kString))
        raise("'in' on a string needs a string, not {}", item.type_name());
      budget.step(1 + container.text().size() / 64);
      return container.view().find(item.view()) != std::string_view::npos;
    case Kind::kDict:
      return container.as_dict().find(item) != nullptr;
    case Kind::kUndefined:
      return false;
    case Kind::kList: {
      const List& list = container.as_list();
      if (list.sequence == Sequence::kGenerator) {
        const std::vector<Value> items = iterate(container, budget);
        return std::any_of(items.begin(), items.end(),
                           [&](const Value& other) { return equals(other, item, budget); });
      }
      return std::any_of(list.items.begin(), list.items.end(),
                         [&](const Value& other) { return equals(other, item, budget); });
    }
    default:
      raise("'in' needs a list, dict or string, not {}", container.type_name());
  }
}

std::vector<Value> iterate(const Value& value, Budget& budget) {
  std::vector<Value> items;
  switch (value.kind()) {
    case Kind::kUndefined:
      return items;
    case Kind::kList:
      if (value.as_list().spent) return items;
      if (value.as_list().sequence == Sequence::kGenerator) value.as_list().spent = true;
      items = value.as_list().items;
      break;
    case Kind::kDict:
      for (const auto& entry : value.as_dict().entries) items.push_back(entry.first);
      break;
    case Kind::kString: {
      const Text& text = value.text();
      budget.allocate(text.size() * 64);
      budget.step(text.size());
      for (size_t at = 0; at < text.size();) {
        const size_t bytes = decode_at(text.view(), at).bytes;
        items.push_back(Value::string(text.slice(at, at + bytes)));
        at += bytes;
      }
      break;
    }
    default:
      raise("a {} cannot be iterated", value.type_name());
  }
  budget.step(items.size());
  budget.allocate(items.size() * sizeof(Value));
  return items;
}

Int length(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      return static_cast<Int>(count_code_points(value.view()));
    case Kind::kDict:
      return static_cast<Int>(value.as_dict().entries.size());
    case Kind::kList:
      if (value.as_list().sequence != Sequence::kGenerator)
        return static_cast<Int>(value.as_list().items.size());
      [[fallthrough]];
    default:
      raise("a {} has no length", value.type_name());
  }
}

Value item(const Value& object, const Value& index, Budget& budget) {
  const auto missing = [&] {
    return Value::undefined(fmt::format("this {} has no such item", object.type_name()));
  };
  if (object.is(Kind::kDict)) {
    if (index.is(Kind::kDict) ||
        (index.is(Kind::kList) && index.as_list().sequence != Sequence::kTuple))
      return missing();
    const Value* found = object.as_dict().find(index);
    if (found != nullptr) return *found;
    if (index.is(Kind::kString))
      return Value::undefined(fmt::format("this dict has no key '{}'", index.view()));
    return missing();
  }
  if (!index.is_integral()) return missing();
  if (object.is(Kind::kList)) {
    const List& list = object.as_list();
    if (list.sequence != Sequence::kList && list.sequence != Sequence::kTuple &&
        list.sequence != Sequence::kRange)
      return missing();
    const Int size = static_cast<Int>(list.items.size());
    const Int at = index.as_int() < 0 ? index.as_int() + size : index.as_int();
    return at < 0 || at >= size ? missing() : list.items[static_cast<size_t>(at)];
  }
  if (object.is(Kind::kString)) {
    budget.step(1 + object.text().size() / 64);
    const Int size = static_cast<Int>(count_code_points(object.view()));
    const Int at = index.as_int() < 0 ? index.as_int() + size : index.as_int();
    if (at < 0 || at >= size) return missing();
    const size_t begin = byte_offset(object.view(), static_cast<size_t>(at));
    return Value::string(object.text().slice(begin, begin + decode_at(object.view(), begin).bytes),
                         object.markup());
  }
  return missing();
}

Value slice(const Value& object, const Value* start, const Value* stop, const Value* step,
            Budget& budget) {
  if (object.is(Kind::kString)) return slice_string(object, start, stop, step, budget);
  if (object.is(Kind::kUndefined)) raise("{}", object.undefined_reason());
  if (!object.is(Kind::kList) || (object.as_list().sequence > Sequence::kTuple &&
                                  object.as_list().sequence != Sequence::kRange)) {
    raise("a {} cannot be sliced", object.type_name());
  }
  const List& list = object.as_list();
  const Bounds bounds = resolve(start, stop, step, static_cast<Int>(list.items.size()));
  std::vector<Value> items;
  for (Int i = bounds.start; bounds.step > 0 ? i < bounds.stop : i > bounds.stop;
       i += bounds.step) {
    items.push_back(list.items[static_cast<size_t>(i)]);
  }
  budget.step(items.size());
  budget.allocate(items.size() * sizeof(Value));
  const Sequence sequence = list.sequence == Sequence::kRange ? Sequence::kList : list.sequence;
  return Value::list(List{std::move(items), sequence, {}}).with_untrusted(object.untrusted());
}

}  // namespace donar::text::jinja
