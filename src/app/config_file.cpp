#include "app/config_file.h"

#include <algorithm>
#include <optional>

namespace donar::app {
namespace {

std::string_view trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// One scalar: quoted, or plain up to " #". nullopt for an open quote or text after a closed one.
std::optional<std::string> scalar(std::string_view text) {
  text = trimmed(text);
  if (text.empty() || (text[0] != '"' && text[0] != '\'')) {
    size_t comment = text.starts_with('#') ? 0 : text.find(" #");
    return std::string(trimmed(text.substr(0, comment)));
  }
  const char quote = text[0];
  std::string out;
  size_t i = 1;
  for (; i < text.size(); ++i) {
    if (text[i] == quote && quote == '\'' && text.substr(i + 1).starts_with('\'')) {
      ++i;  // '' is a quote inside single quotes
    } else if (text[i] == quote) {
      break;
    } else if (text[i] == '\\' && quote == '"' && i + 1 < text.size()) {
      ++i;
      out += text[i] == 'n' ? '\n' : text[i] == 't' ? '\t' : text[i];
      continue;
    }
    out += text[i];
  }
  if (i >= text.size()) return std::nullopt;
  const std::string_view rest = trimmed(text.substr(i + 1));
  if (!rest.empty() && !rest.starts_with('#')) return std::nullopt;
  return out;
}

// [a, "b, c", d]
std::optional<std::vector<std::string>> inline_list(std::string_view text) {
  const size_t close = text.rfind(']');
  if (close == text.npos) return std::nullopt;
  text = text.substr(1, close - 1);
  std::vector<std::string> items;
  char quote = '\0';
  size_t begin = 0;
  for (size_t i = 0; i <= text.size(); ++i) {
    const bool end = i == text.size();
    if (!end && quote == '\0' && (text[i] == '"' || text[i] == '\'')) {
      quote = text[i];
    } else if (!end && text[i] == quote) {
      quote = '\0';
    } else if (end || (text[i] == ',' && quote == '\0')) {
      const std::optional<std::string> item = scalar(text.substr(begin, i - begin));
      if (!item) return std::nullopt;
      if (!item->empty()) items.push_back(*item);
      begin = i + 1;
    }
  }
  return items;
}

}  // namespace

Result<std::vector<ConfigEntry>> parse_config(std::string_view text, std::string_view source) {
  std::vector<ConfigEntry> entries;
  int number = 0;
  const auto wrong = [&](std::string_view what) {
    return fail(ErrorCode::kInvalidArgument, "{} line {}: {}", source, number, what);
  };
  while (!text.empty()) {
    const size_t newline = text.find('\n');
    const std::string_view line = text.substr(0, newline);
    text = newline == text.npos ? std::string_view() : text.substr(newline + 1);
    ++number;
    const std::string_view content = trimmed(line);
    if (content.empty() || content.starts_with('#') || content == "---") continue;
    if (content.starts_with("- ")) {
      if (entries.empty() || !entries.back().is_list)
        return wrong("a list item without a key above it");
      const std::optional<std::string> item = scalar(content.substr(2));
      if (!item) return wrong("a quote is not closed");
      entries.back().values.push_back(*item);
      continue;
    }
    if (line[0] == ' ' || line[0] == '\t')
      return wrong("nested keys are not read; write the value as JSON on one line");
    const size_t colon = content.find(':');
    if (colon == content.npos || (colon + 1 < content.size() && content[colon + 1] != ' '))
      return wrong("expected `key: value`");
    ConfigEntry entry;
    entry.key = trimmed(content.substr(0, colon));
    std::replace(entry.key.begin(), entry.key.end(), '_', '-');
    entry.line = number;
    const std::string_view value = trimmed(content.substr(colon + 1));
    if (value.empty() || value.starts_with('#')) {
      entry.is_list = true;  // items follow on their own lines
    } else if (value.starts_with('[')) {
      const auto items = inline_list(value);
      if (!items) return wrong("the list is not closed");
      entry.values = *items;
      entry.is_list = true;
    } else {
      const std::optional<std::string> one = scalar(value);
      if (!one) return wrong("a quote is not closed");
      entry.values = {*one};
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

}  // namespace donar::app
