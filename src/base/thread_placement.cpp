// The kernel moves a thread at once when its affinity excludes the CPU that it waits for or runs
// on.
#include "base/thread_placement.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace donar {

int this_cpu() { return sched_getcpu(); }

pid_t this_thread_id() { return static_cast<pid_t>(syscall(SYS_gettid)); }

void leave_cpu(pid_t thread, int cpu) {
  cpu_set_t allowed;
  if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(thread, sizeof(allowed), &allowed) != 0)
    return;
  cpu_set_t others = allowed;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) == 0 || CPU_EQUAL(&others, &allowed)) return;
  if (sched_setaffinity(thread, sizeof(others), &others) != 0) return;
  sched_setaffinity(thread, sizeof(allowed), &allowed);
}

}  // namespace donar
