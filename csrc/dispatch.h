// Which instruction sets this build and this machine have, and the one in use.
#pragma once

#include <string>
#include <vector>

#include "kernels.h"

namespace carsam {

// Names of the sets that were compiled in, the preferred first.
std::vector<std::string> compiled_sets();

// Names of the compiled sets that this machine can execute, the preferred first.
std::vector<std::string> usable_sets();

// Switches to a set; false if it is not usable. Operators that run already end on their own set.
bool use_set(const std::string& name);

const Kernels& kernels();

}  // namespace carsam
