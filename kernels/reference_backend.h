// The reference backend: the definition of what each call of backend.h means, slow and obvious.
//
// One thread, plain loops over weights decoded to fp32, every sum in double, every activation
// rounded once to fp32 where the step stores it. Other backends are tested against it.
#pragma once

#include <memory>

#include "kernels/backend.h"

namespace vernier {

std::unique_ptr<Backend> MakeReferenceBackend();

}  // namespace vernier
