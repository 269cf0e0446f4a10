// What several filters and methods of strings share; everything keeps the ranges of its input.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>
#include <vector>

#include "text/jinja/budget.h"
#include "text/jinja/text.h"

namespace donar::text::jinja {

// Without the blanks, or the code points of `characters`, at the ends.
Text strip(const Text& text, const std::optional<std::string_view>& characters, bool left,
           bool right);

// Replaces up to `limit` places (-1: all); an empty `from` stands between all code points, as in
// Python.
Text replace(const Text& text, std::string_view from, const Text& to, int64_t limit,
             Budget& budget);

std::vector<Text> split(const Text& text, std::string_view separator, int64_t limit,
                        Budget& budget);
std::vector<Text> split_right(const Text& text, std::string_view separator, int64_t limit,
                              Budget& budget);
std::vector<Text> split_blanks(const Text& text, int64_t limit, Budget& budget);
std::vector<Text> split_blanks_right(const Text& text, int64_t limit, Budget& budget);
std::vector<Text> split_lines(const Text& text, bool keep_ends, Budget& budget);

enum class Case { kUpper, kLower, kCapitalize, kTitle, kSwap };
Text change_case(const Text& text, Case to, Budget& budget);

// `text` with `fill` on both sides up to `width` code points.
Text pad(const Text& text, size_t left, size_t right, std::string_view fill, Budget& budget);

Text reverse(const Text& text, Budget& budget);

}  // namespace donar::text::jinja
