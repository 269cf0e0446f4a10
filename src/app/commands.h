// The commands, one file each. They return the exit code; errors that end a command are values.
#pragma once

#include "app/options.h"
#include "base/error.h"

namespace donar::app {

Result<int> serve(const Options& options);
Result<int> run(const Options& options);
Result<int> bench(const Options& options);
Result<int> doctor(const Options& options);
Result<int> version(const Options& options);

}  // namespace donar::app
