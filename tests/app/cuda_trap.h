// A kernel that fails, so that the context of its device is lost for this process.
#pragma once

namespace donar::app {

// Launches it on a stream of its own and does not wait. On the device of the calling thread.
void launch_trap();

}  // namespace donar::app
