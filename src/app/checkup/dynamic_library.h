// A shared library that may not be there: loaded at run time, functions looked up by name.
#pragma once

#include <dlfcn.h>

#include <initializer_list>
#include <string>

namespace donar::app::checkup {

class DynamicLibrary {
 public:
  // The first of `names` that loads.
  explicit DynamicLibrary(std::initializer_list<const char*> names) {
    for (const char* name : names) {
      handle_ = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (handle_ != nullptr) return;
      if (error_.empty()) error_ = dlerror();
    }
  }
  ~DynamicLibrary() {
    if (handle_ != nullptr) dlclose(handle_);
  }
  DynamicLibrary(const DynamicLibrary&) = delete;
  DynamicLibrary& operator=(const DynamicLibrary&) = delete;

  bool is_there() const { return handle_ != nullptr; }
  const std::string& error() const { return error_; }  // of the first name

  // Null if the library lacks it.
  template <class Function>
  Function* find(const char* name) const {
    return handle_ == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(handle_, name));
  }

 private:
  void* handle_ = nullptr;
  std::string error_;
};

}  // namespace donar::app::checkup
