// Loop: items, the lazy filter and the attributes.
#include "text/jinja/loop.h"

#include "text/jinja/arguments.h"
#include "text/jinja/operators.h"

namespace donar::text::jinja {

const Value* Loop::passed(size_t index) {
  if (!node_.filter) return index < items_.size() ? &items_[index] : nullptr;
  while (passed_.size() <= index && filtered_ < items_.size()) {
    const Value& item = items_[filtered_++];
    const ScopePtr scope = run_.open_scope(outer_);
    run_.assign(*node_.target, item, *scope);
    if (truth(run_.evaluate(*node_.filter, scope))) passed_.push_back(item);
  }
  return index < passed_.size() ? &passed_[index] : nullptr;
}

size_t Loop::length() {
  if (!node_.filter) return items_.size();
  passed(items_.size());
  return passed_.size();
}

const Value* Loop::advance() { return passed(position_++); }

void Loop::finish() {
  items_.clear();
  items_.shrink_to_fit();
  passed_.clear();
  passed_.shrink_to_fit();
  filtered_ = 0;
}

Value Loop::attribute(std::string_view name) {
  const auto number = [](size_t value) { return Value::integer(static_cast<Int>(value)); };
  if (name == "index") return number(position_);
  if (name == "index0") return number(position_ - 1);
  if (name == "first") return Value::boolean(position_ == 1);
  if (name == "last") return Value::boolean(passed(position_) == nullptr);
  if (name == "length") return number(length());
  if (name == "revindex")
    return Value::integer(static_cast<Int>(length()) - static_cast<Int>(position_) + 1);
  if (name == "revindex0")
    return Value::integer(static_cast<Int>(length()) - static_cast<Int>(position_));
  if (name == "depth") return number(depth_ + 1);
  if (name == "depth0") return number(depth_);
  if (name == "previtem") {
    const Value* item = position_ >= 2 ? passed(position_ - 2) : nullptr;
    return item ? *item : Value::undefined("there is no previous item");
  }
  if (name == "nextitem") {
    const Value* item = passed(position_);
    return item ? *item : Value::undefined("there is no next item");
  }
  return Object::attribute(name);
}

Value Loop::call(Interpreter& run, Args& args) {
  const Arguments arguments("loop", args, {"iterable"});
  if (!node_.recursive) raise("loop() needs the word 'recursive' in its for tag");
  Text out;
  const Value& iterable = arguments.required(0);
  run.run_for(node_, outer_, out, &iterable, depth_ + 1);
  return Value::string(std::move(out));
}

Value Loop::call_method(Interpreter& run, std::string_view name, Args& args) {
  if (!args.named.empty()) raise("loop.{}() has no named parameters", name);
  if (name == "cycle") {
    if (args.positional.empty()) raise("loop.cycle() needs at least one argument");
    return args.positional[(position_ - 1) % args.positional.size()];
  }
  bool same = has_changed_ && changed_.size() == args.positional.size();
  for (size_t i = 0; same && i < changed_.size(); ++i)
    same = equals(changed_[i], args.positional[i], run.budget());
  changed_ = args.positional;
  has_changed_ = true;
  return Value::boolean(!same);
}

}  // namespace donar::text::jinja
