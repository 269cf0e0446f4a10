// Which CPU a thread runs on, where the scheduler needs a hint: after some idleness Linux wakes a
// thread on the CPU of the one that wakes it, and takes a few milliseconds to spread the two.
#pragma once

#include <sys/types.h>

namespace donar {

int this_cpu();          // -1: not known
pid_t this_thread_id();  // as the kernel counts threads

// Moves a thread of this process off `cpu`, if it is there and may run anywhere else. Where it may
// run stays the same.
void leave_cpu(pid_t thread, int cpu);

}  // namespace donar
