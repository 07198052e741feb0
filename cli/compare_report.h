// A Compare as text: answers side by side, then quality, speed and memory.
//
// Pure, any thread.
#pragma once

#include <string>

#include "cli/columns.h"
#include "vernier/v1/evaluation.pb.h"

namespace vernier::cli {

struct CompareView {
  Canvas canvas;
  bool serial = false;  // else the variants ran at once, and their latencies disturbed each other
};

std::string RenderCompare(const v1::CompareResponse& reply, const CompareView& view);

}  // namespace vernier::cli
