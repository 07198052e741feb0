// What is served, as text.
//
// Pure, any thread.
#pragma once

#include <string>

#include "vernier/v1/models.pb.h"

namespace vernier::cli {

std::string RenderModel(const v1::Model& model);

}  // namespace vernier::cli
