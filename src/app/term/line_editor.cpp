#include "app/term/line_editor.h"

#include <histedit.h>
#include <unistd.h>

#include <clocale>
#include <cstdio>
#include <iostream>
#include <utility>

namespace donar::app::term {

struct LineEditor::Terminal {
  std::string prompt;
  EditLine* edit = nullptr;
  History* history = nullptr;
};

namespace {
constexpr int kHistoryLines = 1000;
}  // namespace

LineEditor::LineEditor(std::string prompt)
    : is_terminal_(isatty(STDIN_FILENO) != 0 && isatty(STDOUT_FILENO) != 0) {
  if (!is_terminal_) return;
  // libedit edits characters, not bytes, in the locale's encoding; bare machines have no UTF-8
  // locale set.
  const char* locale = std::setlocale(LC_CTYPE, "");
  if (locale == nullptr || std::string_view(locale) == "C" || std::string_view(locale) == "POSIX")
    std::setlocale(LC_CTYPE, "C.UTF-8");
  terminal_ = std::make_unique<Terminal>();
  terminal_->prompt = std::move(prompt);
  terminal_->history = history_init();
  HistEvent event;
  history(terminal_->history, &event, H_SETSIZE, kHistoryLines);
  terminal_->edit = el_init("donar", stdin, stdout, stderr);
  EditLine* edit = terminal_->edit;
  el_set(edit, EL_CLIENTDATA, terminal_.get());
  el_set(
      edit, EL_PROMPT, +[](EditLine* self) -> char* {
        Terminal* terminal = nullptr;
        el_get(self, EL_CLIENTDATA, &terminal);
        return terminal->prompt.data();
      });
  el_set(edit, EL_EDITOR, "emacs");
  el_set(edit, EL_HIST, history, terminal_->history);
  // Ctrl-C in a line starts it over instead of raising a signal.
  el_set(edit, EL_SETTY, "-d", "-isig", nullptr);
  el_set(edit, EL_BIND, "^C", "ed-start-over", nullptr);
}

LineEditor::~LineEditor() {
  if (terminal_ == nullptr) return;
  el_end(terminal_->edit);
  history_end(terminal_->history);
}

std::optional<std::string> LineEditor::read_line() {
  std::string line;
  if (!is_terminal_) {
    if (!std::getline(std::cin, line)) return std::nullopt;
  } else {
    int count = 0;
    const char* text = el_gets(terminal_->edit, &count);
    if (text == nullptr || count <= 0) return std::nullopt;
    line.assign(text, static_cast<size_t>(count));
    if (line.ends_with('\n')) line.pop_back();
    HistEvent event;
    if (!line.empty()) history(terminal_->history, &event, H_ENTER, line.c_str());
  }
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

}  // namespace donar::app::term
