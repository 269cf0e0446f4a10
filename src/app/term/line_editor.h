// Lines from the user: with editing and history on a terminal (libedit), plainly from a pipe or
// file.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace donar::app::term {

class LineEditor {
 public:
  explicit LineEditor(std::string prompt);  // the prompt is shown on a terminal only
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  bool is_terminal() const { return is_terminal_; }
  std::optional<std::string> read_line();  // nullopt at the end of input

 private:
  struct Terminal;
  const bool is_terminal_;
  std::unique_ptr<Terminal> terminal_;
};

}  // namespace donar::app::term
