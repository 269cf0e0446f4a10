// PCRE2 stands in for the reference's Oniguruma: line anchors match at every line, \s is Unicode's
// White_Space.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/split_pattern.h"

#include <pcre2.h>

#include <utility>

#include "text/unicode.h"

namespace donar::text {
namespace {

constexpr std::string_view kWhiteSpace =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr uint32_t kMatchLimit = 2'000'000;  // steps of one match, against runaway backtracking
constexpr uint32_t kHeapLimitKib = 64 * 1024;

// \s and \S written out: PCRE2's own \s has U+180E too, which is no White_Space.
std::string with_unicode_spaces(std::string_view expression) {
  std::string out;
  int depth = 0;  // of [...]
  for (size_t i = 0; i < expression.size(); ++i) {
    const char c = expression[i];
    if (c != '\\' || i + 1 == expression.size()) {
      if (c == '[') ++depth;
      if (c == ']' && depth > 0) --depth;
      out += c;
      continue;
    }
    const char escaped = expression[++i];
    if (escaped == 's') {
      out += depth > 0 ? std::string(kWhiteSpace) : "[" + std::string(kWhiteSpace) + "]";
    } else if (escaped == 'S' && depth == 0) {
      out += "[^" + std::string(kWhiteSpace) + "]";
    } else {
      out += '\\';
      out += escaped;
    }
  }
  return out;
}

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

}  // namespace

void SplitPattern::CompiledDeleter::operator()(void* code) const {
  pcre2_code_free(static_cast<pcre2_code*>(code));
}

SplitPattern SplitPattern::literal(std::string text) {
  SplitPattern pattern;
  pattern.literal_ = std::move(text);
  return pattern;
}

Result<SplitPattern> SplitPattern::regex(std::string_view expression) {
  SplitPattern pattern;
  pattern.scanner_ = find_scanner(expression);
  if (pattern.scanner_ != nullptr) return pattern;
  const std::string adapted = with_unicode_spaces(expression);
  int error = 0;
  PCRE2_SIZE offset = 0;
  pcre2_code* code = pcre2_compile(
      reinterpret_cast<PCRE2_SPTR>(adapted.data()), adapted.size(),
      PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, &error, &offset, nullptr);
  if (code == nullptr) {
    PCRE2_UCHAR message[256] = {};
    pcre2_get_error_message(error, message, sizeof(message));
    return fail(ErrorCode::kUnsupported, "the regular expression '{}' cannot be used: {}",
                std::string(expression), reinterpret_cast<const char*>(message));
  }
  pcre2_jit_compile(code,
                    PCRE2_JIT_COMPLETE);  // without JIT the interpreter gives the same matches
  pattern.compiled_.reset(code);
  return pattern;
}

void SplitPattern::find(std::string_view text, std::vector<Span>& matches) const {
  matches.clear();
  if (scanner_ != nullptr) {
    scanner_(text, matches);
  } else if (compiled_ != nullptr) {
    find_by_regex(text, matches);
  } else if (!literal_.empty()) {
    for (size_t at = text.find(literal_); at != std::string_view::npos;
         at = text.find(literal_, at + literal_.size())) {
      matches.push_back({at, at + literal_.size()});
    }
  }
}

void SplitPattern::find_by_regex(std::string_view text, std::vector<Span>& matches) const {
  const auto* code = static_cast<const pcre2_code*>(compiled_.get());
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(
      pcre2_match_data_create_from_pattern(code, nullptr));
  const std::unique_ptr<pcre2_match_context, MatchContextDeleter> context(
      pcre2_match_context_create(nullptr));
  if (data == nullptr || context == nullptr) return;
  pcre2_set_match_limit(context.get(), kMatchLimit);
  pcre2_set_heap_limit(context.get(), kHeapLimitKib);
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  size_t at = 0;
  while (at <= text.size()) {
    uint32_t options = PCRE2_NO_UTF_CHECK;
    int found = pcre2_match(code, subject, text.size(), at, options, data.get(), context.get());
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) {
      options |= PCRE2_NO_JIT;  // the interpreter keeps its stack on the heap
      found = pcre2_match(code, subject, text.size(), at, options, data.get(), context.get());
    }
    if (found < 0) return;  // no more matches, or a limit: the rest stays one piece
    const PCRE2_SIZE* offsets = pcre2_get_ovector_pointer(data.get());
    const Span match{offsets[0], offsets[1]};
    const bool empty = match.begin >= match.end;
    // An empty match right after a match does not count.
    const bool repeated = empty && !matches.empty() && matches.back().end == match.begin;
    if (match.begin < at) return;  // \K in a lookahead
    if (!repeated) matches.push_back({match.begin, empty ? match.begin : match.end});
    at = match.end;
    if (empty)
      at = match.begin < text.size() ? match.begin + character_at(text.data() + match.begin).length
                                     : text.size() + 1;
  }
}

}  // namespace donar::text
