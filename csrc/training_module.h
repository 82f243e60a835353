// The operators of training, as functions of carsam.runtime._kernels.
#pragma once

#include <nanobind/nanobind.h>

void bind_training(nanobind::module_& module);
