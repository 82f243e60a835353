// The operators of training, as functions of carsam.runtime._kernels.
#pragma once

#include <cstdio>  // nanobind.h names stderr and includes nothing for it

#include <nanobind/nanobind.h>

void bind_training(nanobind::module_& module);
