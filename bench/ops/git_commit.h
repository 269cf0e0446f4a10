// The commit that a benchmark's JSON lines name when it was not told one.
#pragma once

#include <cstdio>
#include <string>

namespace donar::bench {

// Of the working directory; "unknown" where there is no git or no repository.
inline std::string git_commit() {
  std::string commit;
  if (FILE* pipe = popen("git rev-parse --short HEAD 2>/dev/null", "r")) {
    char line[64] = {};
    if (std::fgets(line, sizeof line, pipe) != nullptr) commit = line;
    pclose(pipe);
  }
  while (!commit.empty() && commit.back() == '\n') commit.pop_back();
  return commit.empty() ? "unknown" : commit;
}

}  // namespace donar::bench
