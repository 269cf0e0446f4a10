// The global functions. No other way leads out of a template.
#include "text/jinja/globals.h"

#include <ctime>

#include "text/jinja/arguments.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/print.h"

namespace donar::text::jinja {
namespace {

constexpr Int kMaxRange = 100'000;

Value raise_exception(Interpreter& run, Args& args) {
  const Arguments arguments("raise_exception", args, {"message"});
  raise("{}", to_text(arguments.required(0), run.budget()).bytes());
}

// One conversion at a time: a flag or width of the C library's own never reaches it.
std::string format_time(std::string_view format, const std::tm& time) {
  std::string out;
  for (size_t at = 0; at < format.size(); ++at) {
    if (format[at] != '%' || at + 1 >= format.size()) {
      out += format[at];
      continue;
    }
    std::string conversion = "%";
    if (format[at + 1] == '-' && at + 2 < format.size())
      conversion += format[++at];  // %-d: without the leading zero
    const char letter = format[++at];
    conversion += letter;
    if (letter == '%') {
      out += '%';
    } else if (letter == 'f') {
      out += "000000";
    } else if (letter == 'z' || letter == 'Z') {
      // a local time without zone prints nothing, as in Python
    } else if (std::string_view("aAbBcCdDeFgGhHIjklmMnpPrRsStTuUVwWxXyY").find(letter) ==
               std::string_view::npos) {
      out += conversion;
    } else {
      char buffer[256];
      out.append(buffer, std::strftime(buffer, sizeof buffer, conversion.c_str(), &time));
    }
  }
  return out;
}

Value strftime_now(Interpreter& run, Args& args) {
  const Arguments arguments("strftime_now", args, {"format"});
  const Text& format = arguments.text(0);
  run.budget().text(format.size() * 32);
  return Value::string(Text(format_time(format.view(), run.now()), format.any_untrusted()));
}

Value range(Interpreter& run, Args& args) {
  const Arguments arguments("range", args, {"start", "stop", "step"});
  if (!args.named.empty()) raise("range() has no named parameters");
  arguments.required(0);
  const Int first = arguments.integer(0, 0);
  const Int start = arguments.has(1) ? first : 0;
  const Int stop = arguments.has(1) ? arguments.integer(1, 0) : first;
  const Int step = arguments.integer(2, 1);
  constexpr Int kFar = Int{1} << 62;
  if (step == 0) raise("range() cannot have step 0");
  if (start > kFar || start < -kFar || stop > kFar || stop < -kFar || step > kFar || step < -kFar)
    raise("range() with too large numbers");
  const Int distance = step > 0 ? stop - start : start - stop;
  const Int stride = step > 0 ? step : -step;
  const Int count = distance <= 0 ? 0 : (distance + stride - 1) / stride;
  if (count > kMaxRange) raise("range() of more than {} numbers", static_cast<int64_t>(kMaxRange));
  run.budget().step(static_cast<size_t>(count));
  run.budget().allocate(static_cast<size_t>(count) * sizeof(Value));
  List list;
  list.sequence = Sequence::kRange;
  list.range_text = "range(" + int_repr(start) + ", " + int_repr(stop) +
                    (step == 1 ? "" : ", " + int_repr(step)) + ")";
  list.items.reserve(static_cast<size_t>(count));
  for (Int i = 0; i < count; ++i) list.items.push_back(Value::integer(start + i * step));
  return Value::list(std::move(list));
}

// The entries of a dict or of a list of pairs, then the named arguments: what dict() and
// namespace() take.
Dict collect(std::string_view function, Interpreter& run, const Args& args) {
  if (args.positional.size() > 1) raise("{}() takes one dict or list of pairs", function);
  Dict dict;
  if (!args.positional.empty()) {
    const Value& source = args.positional[0];
    if (source.is(Kind::kDict)) {
      run.budget().allocate(source.as_dict().entries.size() * 4 * sizeof(Value));
      run.budget().step(source.as_dict().entries.size());
      for (const auto& [key, value] : source.as_dict().entries) dict.set(key, value);
    } else {
      if (source.is(Kind::kUndefined)) raise("{}", source.undefined_reason());
      for (const Value& pair : iterate(source, run.budget())) {
        const std::vector<Value> parts = iterate(pair, run.budget());
        if (parts.size() != 2) raise("{}() needs pairs", function);
        dict.set(parts[0], parts[1]);
      }
    }
  }
  for (const auto& [name, value] : args.named) dict.set(Value::string(name), value);
  return dict;
}

Value make_namespace(Interpreter& run, Args& args) {
  const Dict dict = collect("namespace", run, args);
  const Value made = run.make<Namespace>();
  for (const auto& [key, value] : dict.entries) {
    if (!key.is(Kind::kString)) raise("namespace() needs strings as names");
    static_cast<Namespace*>(made.as_object())->set(key.view(), value, run.budget());
  }
  return made;
}

Value make_dict(Interpreter& run, Args& args) { return Value::dict(collect("dict", run, args)); }

Value make_cycler(Interpreter& run, Args& args) {
  if (args.positional.empty() || !args.named.empty()) raise("cycler() needs at least one value");
  return run.make<Cycler>(std::move(args.positional));
}

Value make_joiner(Interpreter& run, Args& args) {
  const Arguments arguments("joiner", args, {"sep"});
  return run.make<Joiner>(arguments.has(0) ? arguments[0] : Value::string(", "));
}

}  // namespace

Function::Body find_global(std::string_view name) {
  if (name == "raise_exception") return raise_exception;
  if (name == "strftime_now") return strftime_now;
  if (name == "range") return range;
  if (name == "namespace") return make_namespace;
  if (name == "dict") return make_dict;
  if (name == "cycler") return make_cycler;
  if (name == "joiner") return make_joiner;
  return nullptr;
}

}  // namespace donar::text::jinja
