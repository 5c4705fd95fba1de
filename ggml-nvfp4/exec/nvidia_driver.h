// Whether a machine has NVIDIA's driver, for a message where no device computes there.
#pragma once

#include <string>

namespace gnv {

// A file that tells of the driver, such as "/dev/nvidiactl"; empty without one. `root`: the machine's folder "/", for tests.
std::string find_nvidia_driver(const std::string & root = "");

} // namespace gnv
