// Truth, arithmetic and the joining of strings and lists.
#include "text/jinja/operators.h"

#include <cmath>

#include "text/jinja/format.h"
#include "text/jinja/object.h"
#include "text/jinja/print.h"

namespace donar::text::jinja {
namespace {

std::string_view symbol(BinaryOp op) {
  constexpr std::string_view kSymbols[] = {"+", "-", "*", "/", "//", "%", "**"};
  return kSymbols[static_cast<size_t>(op)];
}

[[noreturn]] void raise_operands(BinaryOp op, const Value& left, const Value& right) {
  if (left.is(Kind::kUndefined)) raise("{}", left.undefined_reason());
  if (right.is(Kind::kUndefined)) raise("{}", right.undefined_reason());
  if (op == BinaryOp::kAdd && left.is(Kind::kString)) {
    raise("can only concatenate str (not \"{}\") to str: use ~ or the filter string",
          right.type_name());
  }
  raise("unsupported operand types for {}: {} and {}", symbol(op), left.type_name(),
        right.type_name());
}

[[noreturn]] void raise_overflow() { raise("an integer of the template is too large"); }

Int floor_divide(Int left, Int right) {
  if (right == 0) raise("division by zero");
  if (right == -1) {
    Int result = 0;
    if (__builtin_sub_overflow(Int{0}, left, &result)) raise_overflow();
    return result;
  }
  const Int quotient = left / right;
  return quotient - (left % right != 0 && (left < 0) != (right < 0) ? 1 : 0);
}

double float_modulo(double left, double right) {
  if (right == 0) raise("division by zero");
  double rest = std::fmod(left, right);
  if (rest != 0) {
    if ((right < 0) != (rest < 0)) rest += right;
  } else {
    rest = std::copysign(0.0, right);
  }
  return rest;
}

Value int_power(Int base, Int exponent) {
  if (exponent < 0) {
    if (base == 0) raise("zero to a negative power");
    return Value::number(std::pow(static_cast<double>(base), static_cast<double>(exponent)));
  }
  if (base == 0 || base == 1) return Value::integer(exponent == 0 ? 1 : base);
  if (base == -1) return Value::integer(exponent % 2 == 0 ? 1 : -1);
  Int result = 1;
  for (; exponent > 0; --exponent) {
    if (__builtin_mul_overflow(result, base, &result)) raise_overflow();  // after at most 127 turns
  }
  return Value::integer(result);
}

Value int_operation(BinaryOp op, Int left, Int right) {
  Int result = 0;
  switch (op) {
    case BinaryOp::kAdd:
      if (__builtin_add_overflow(left, right, &result)) raise_overflow();
      break;
    case BinaryOp::kSubtract:
      if (__builtin_sub_overflow(left, right, &result)) raise_overflow();
      break;
    case BinaryOp::kMultiply:
      if (__builtin_mul_overflow(left, right, &result)) raise_overflow();
      break;
    case BinaryOp::kDivide:
      if (right == 0) raise("division by zero");
      return Value::number(static_cast<double>(left) / static_cast<double>(right));
    case BinaryOp::kFloorDivide:
      result = floor_divide(left, right);
      break;
    case BinaryOp::kModulo:
      if (right == 0) raise("division by zero");
      result = right == -1 ? 0 : left % right;
      if (result != 0 && (result < 0) != (right < 0)) result += right;
      break;
    case BinaryOp::kPower:
      return int_power(left, right);
  }
  return Value::integer(result);
}

Value float_operation(BinaryOp op, double left, double right) {
  switch (op) {
    case BinaryOp::kAdd:
      return Value::number(left + right);
    case BinaryOp::kSubtract:
      return Value::number(left - right);
    case BinaryOp::kMultiply:
      return Value::number(left * right);
    case BinaryOp::kDivide:
      if (right == 0) raise("division by zero");
      return Value::number(left / right);
    case BinaryOp::kFloorDivide: {
      if (right == 0) raise("division by zero");
      const double rest = float_modulo(left, right);
      const double quotient = (left - rest) / right;
      return Value::number(quotient == 0 ? std::copysign(0.0, left / right)
                                         : std::nearbyint(quotient));
    }
    case BinaryOp::kModulo:
      return Value::number(float_modulo(left, right));
    case BinaryOp::kPower: {
      if (left == 0 && right < 0) raise("zero to a negative power");
      const double result = std::pow(left, right);
      if (std::isnan(result) && !std::isnan(left) && !std::isnan(right))
        raise("a power gives a complex number");
      if (std::isinf(result) && !std::isinf(left) && !std::isinf(right))
        raise("a power is too large");
      return Value::number(result);
    }
  }
  return Value();
}

// Markup escapes what is joined to it.
Value join_strings(const Value& left, const Value& right, Budget& budget) {
  budget.text(left.text().size() + right.text().size());
  const bool markup = left.markup() || right.markup();
  Text out = markup && !left.markup() ? escape_html(left.text(), budget) : left.text();
  out.append(markup && !right.markup() ? escape_html(right.text(), budget) : right.text());
  return Value::string(std::move(out), markup);
}

bool is_plain_sequence(const Value& value) {
  return value.is(Kind::kList) && (value.as_list().sequence == Sequence::kList ||
                                   value.as_list().sequence == Sequence::kTuple);
}

Value join_lists(const Value& left, const Value& right, Budget& budget) {
  std::vector<Value> items = left.as_list().items;
  const std::vector<Value>& more = right.as_list().items;
  budget.step(items.size() + more.size());
  budget.allocate((items.size() + more.size()) * sizeof(Value));
  items.insert(items.end(), more.begin(), more.end());
  return Value::list(List{std::move(items), left.as_list().sequence, {}})
      .with_untrusted(left.untrusted() || right.untrusted());
}

Value repeat(const Value& value, Int times, Budget& budget) {
  if (times < 0) times = 0;
  const size_t size = value.is(Kind::kString) ? value.text().size() : value.as_list().items.size();
  constexpr Int kMany = Int{1} << 40;
  const Int total = times > kMany ? kMany : Int{size == 0 ? 0 : 1} * times * static_cast<Int>(size);
  const size_t count =
      size == 0 || times == 0 ? 0 : static_cast<size_t>(total > kMany ? kMany : total);
  if (value.is(Kind::kString)) {
    budget.text(count);
    budget.step(size == 0 ? 0 : static_cast<size_t>(count / size));
    Text out;
    for (size_t made = 0; made < count; made += size) out.append(value.text());
    return Value::string(std::move(out), value.markup());
  }
  budget.step(count);
  budget.allocate(count < (size_t{1} << 40) ? count * sizeof(Value) : count);
  std::vector<Value> items;
  items.reserve(count);
  for (size_t made = 0; made < count; made += size) {
    items.insert(items.end(), value.as_list().items.begin(), value.as_list().items.end());
  }
  return Value::list(List{std::move(items), value.as_list().sequence, {}})
      .with_untrusted(value.untrusted());
}

}  // namespace

bool truth(const Value& value) {
  switch (value.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
      return value.as_bool();
    case Kind::kInt:
      return value.as_int() != 0;
    case Kind::kFloat:
      return value.as_double() != 0;
    case Kind::kString:
      return !value.text().empty();
    case Kind::kList:
      return value.as_list().sequence == Sequence::kGenerator || !value.as_list().items.empty();
    case Kind::kDict:
      return !value.as_dict().entries.empty();
    case Kind::kObject:
      return true;
  }
  return false;
}

Value binary_operation(BinaryOp op, const Value& left, const Value& right, Budget& budget) {
  if (left.is_number() && right.is_number()) {
    const Value result = left.is(Kind::kFloat) || right.is(Kind::kFloat)
                             ? float_operation(op, left.as_double(), right.as_double())
                             : int_operation(op, left.as_int(), right.as_int());
    return result.with_untrusted(left.untrusted() || right.untrusted());
  }
  if (op == BinaryOp::kAdd) {
    if (left.is(Kind::kString) && right.is(Kind::kString)) return join_strings(left, right, budget);
    if (is_plain_sequence(left) && is_plain_sequence(right) &&
        left.as_list().sequence == right.as_list().sequence) {
      return join_lists(left, right, budget);
    }
  }
  if (op == BinaryOp::kMultiply) {
    const bool left_repeats = left.is(Kind::kString) || is_plain_sequence(left);
    const bool right_repeats = right.is(Kind::kString) || is_plain_sequence(right);
    if (left_repeats && right.is_integral()) return repeat(left, right.as_int(), budget);
    if (right_repeats && left.is_integral()) return repeat(right, left.as_int(), budget);
  }
  if (op == BinaryOp::kModulo && left.is(Kind::kString)) return format_percent(left, right, budget);
  raise_operands(op, left, right);
}

Value negate(const Value& value) {
  if (value.is(Kind::kFloat))
    return Value::number(-value.as_double()).with_untrusted(value.untrusted());
  if (value.is_integral())
    return int_operation(BinaryOp::kSubtract, 0, value.as_int()).with_untrusted(value.untrusted());
  if (value.is(Kind::kUndefined)) raise("{}", value.undefined_reason());
  raise("a {} cannot be negated", value.type_name());
}

Value plus(const Value& value) {
  if (value.is(Kind::kFloat)) return value;
  if (value.is_integral()) return Value::integer(value.as_int()).with_untrusted(value.untrusted());
  if (value.is(Kind::kUndefined)) raise("{}", value.undefined_reason());
  raise("a {} has no sign", value.type_name());
}

Text escape_html(const Text& text, Budget& budget) {
  Text out;
  const std::string_view bytes = text.view();
  size_t done = 0;
  for (size_t at = 0; at < bytes.size(); ++at) {
    const char c = bytes[at];
    const std::string_view entity = c == '&'    ? "&amp;"
                                    : c == '<'  ? "&lt;"
                                    : c == '>'  ? "&gt;"
                                    : c == '"'  ? "&#34;"
                                    : c == '\'' ? "&#39;"
                                                : "";
    if (entity.empty()) continue;
    out.append(text, done, at);
    out.append(entity, text.untrusted_at(at));
    done = at + 1;
  }
  out.append(text, done, bytes.size());
  budget.text(out.size());
  return out;
}

}  // namespace donar::text::jinja
