// Splits only cut spans; steps that change text rebuild it span by span.
#include "text/pre_tokenizer.h"

#include "text/byte_level.h"
#include "text/unicode.h"

namespace donar::text {
namespace {

struct Part {
  Span span;
  bool match;
};

// The matches and the gaps between them become parts by the rule of `behavior`; empty parts are
// dropped last, because an empty match still separates.
void add_parts(size_t offset, size_t size, const std::vector<Span>& matches, SplitBehavior behavior,
               bool invert, std::vector<Span>& out) {
  std::vector<Part> parts;
  parts.reserve(matches.size() * 2 + 1);
  size_t at = 0;
  for (const Span& match : matches) {
    if (at != match.begin) parts.push_back({{at, match.begin}, invert});
    parts.push_back({match, !invert});
    at = match.end;
  }
  if (at != size) parts.push_back({{at, size}, invert});

  std::vector<Span> merged;
  bool last_match = false;
  switch (behavior) {
    case SplitBehavior::kIsolated:
      for (const Part& part : parts) merged.push_back(part.span);
      break;
    case SplitBehavior::kRemoved:
      for (const Part& part : parts) {
        if (!part.match) merged.push_back(part.span);
      }
      break;
    case SplitBehavior::kContiguous:
      for (const Part& part : parts) {
        if (!merged.empty() && part.match == last_match) {
          merged.back().end = part.span.end;
        } else {
          merged.push_back(part.span);
        }
        last_match = part.match;
      }
      break;
    case SplitBehavior::kMergedWithPrevious:
      for (const Part& part : parts) {
        if (part.match && !last_match && !merged.empty()) {
          merged.back().end = part.span.end;
        } else {
          merged.push_back(part.span);
        }
        last_match = part.match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
        if (part->match && !last_match && !merged.empty()) {
          merged.back().begin = part->span.begin;
        } else {
          merged.push_back(part->span);
        }
        last_match = part->match;
      }
      merged = {merged.rbegin(), merged.rend()};
      break;
  }
  for (const Span& span : merged) {
    if (span.begin < span.end) out.push_back({offset + span.begin, offset + span.end});
  }
}

// Cuts every span by `find(text, matches)`.
template <class Find>
void split(Pieces& pieces, SplitBehavior behavior, bool invert, Find&& find) {
  std::vector<Span> out, matches;
  out.reserve(pieces.text.size() / 4 + 8);
  for (const Span& span : pieces.spans) {
    const std::string_view text =
        std::string_view(pieces.text).substr(span.begin, span.end - span.begin);
    matches.clear();
    find(text, matches);
    add_parts(span.begin, text.size(), matches, behavior, invert, out);
  }
  pieces.spans = std::move(out);
}

// Replaces the text of every span by what `rewrite(span text, out)` appends.
template <class Rewrite>
void rewrite_spans(Pieces& pieces, Rewrite&& rewrite) {
  Pieces result;
  result.text.reserve(pieces.text.size() + pieces.text.size() / 4);
  result.spans.reserve(pieces.spans.size());
  for (const Span& span : pieces.spans) {
    const size_t begin = result.text.size();
    rewrite(std::string_view(pieces.text).substr(span.begin, span.end - span.begin), result.text);
    if (result.text.size() > begin) result.spans.push_back({begin, result.text.size()});
  }
  pieces = std::move(result);
}

void apply_step(const PreSplit& step, Pieces& pieces, bool /*at_start*/) {
  split(pieces, step.behavior, step.invert, [&](std::string_view text, std::vector<Span>& matches) {
    step.pattern.find(text, matches);
  });
}

void apply_step(const PreByteLevel& step, Pieces& pieces, bool /*at_start*/) {
  if (step.add_prefix_space) {
    rewrite_spans(pieces, [](std::string_view text, std::string& out) {
      if (text.front() != ' ') out += ' ';
      out.append(text);
    });
  }
  if (step.use_regex) {
    split(pieces, SplitBehavior::kIsolated, /*invert=*/false, find_scanner(pattern::kGpt2));
  }
}

void apply_step(const PreDigits& step, Pieces& pieces, bool /*at_start*/) {
  const auto find = [](std::string_view text, std::vector<Span>& matches) {
    for (size_t at = 0; at < text.size();) {
      const Character character = character_at(text.data() + at);
      if (classes_of(character.code) & kNumber) matches.push_back({at, at + character.length});
      at += character.length;
    }
  };
  split(pieces, step.individual ? SplitBehavior::kIsolated : SplitBehavior::kContiguous,
        /*invert=*/false, find);
}

void apply_step(const PreMetaspace& step, Pieces& pieces, bool at_start) {
  bool first = at_start;
  rewrite_spans(pieces, [&](std::string_view text, std::string& out) {
    const bool prepend = step.prepend_scheme == PrependScheme::kAlways ||
                         (step.prepend_scheme == PrependScheme::kFirst && first);
    first = false;
    if (prepend && text.front() != ' ' && !text.starts_with(step.replacement))
      out += step.replacement;
    for (const char byte : text) {
      if (byte == ' ') {
        out += step.replacement;
      } else {
        out += byte;
      }
    }
  });
  if (!step.split) return;
  split(pieces, SplitBehavior::kMergedWithNext, /*invert=*/false,
        [&](std::string_view text, std::vector<Span>& matches) {
          for (size_t at = text.find(step.replacement); at != std::string_view::npos;
               at = text.find(step.replacement, at + step.replacement.size())) {
            matches.push_back({at, at + step.replacement.size()});
          }
        });
}

}  // namespace

Pieces PreTokenizer::apply(std::string_view text, bool at_start) const {
  Pieces pieces{std::string(text), {}};
  if (!text.empty()) pieces.spans.push_back({0, text.size()});
  for (const PreTokenizeStep& step : steps_) {
    std::visit([&](const auto& s) { apply_step(s, pieces, at_start); }, step);
    if (std::holds_alternative<PreByteLevel>(step) && !(raw_bytes_ && &step == &steps_.back())) {
      rewrite_spans(pieces,
                    [](std::string_view span, std::string& out) { append_byte_level(span, out); });
    }
  }
  return pieces;
}

}  // namespace donar::text
