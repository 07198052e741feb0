// How much memory this process may still take.
#pragma once

#include <cstdint>

#include "absl/strings/string_view.h"

namespace vernier {

// MemAvailable of /proc/meminfo's text, bytes; -1 when it is not there.
int64_t AvailableOfMeminfo(absl::string_view meminfo);
// memory.max less memory.current of a control group (cgroup v2); -1 without a limit.
int64_t LeftOfControlGroup(absl::string_view memory_max, absl::string_view memory_current);

// The smaller of the host's and the control group's; -1 when neither is known.
int64_t AvailableMemoryBytes();

}  // namespace vernier
